"""A daemon beside a node helps, and never hinders."""

from __future__ import annotations

import os

from quorate.protocol.result import TaskResult, TaskStatus
from quorate.storage.cid import Cid
from quorate.storage.kubo import KuboStore
from quorate.storage.memory import MemoryStore
from quorate_node.beside import Beside

MIB = 1 << 20
AWAY = "http://127.0.0.1:1"


def test_content_is_copied_as_far_as_it_is_there_and_allowed() -> None:
    daemon, store = MemoryStore(), MemoryStore()
    beside = Beside(daemon, store)
    root = daemon.add_tree({"a": os.urandom(3 * MIB)})
    beside.bring(root, max_bytes=MIB)
    assert not store.is_complete(root)
    beside.bring_block(root)
    assert store.get(root) == daemon.get(root)
    beside.bring(root, max_bytes=4 * MIB)
    assert store.is_complete(root)
    nowhere = Cid.of(b"nowhere")
    beside.bring(nowhere, max_bytes=MIB)
    beside.bring_block(nowhere)
    assert not store.has(nowhere)


def make_result(store: MemoryStore, stdout: bytes) -> TaskResult:
    spec, outputs = Cid.of(b"spec"), store.add_tree({"f": stdout})
    return TaskResult(str(spec), 0, TaskStatus.OK, 0, str(store.add_bytes(stdout)), str(outputs))


def test_results_are_copied_each_by_itself() -> None:
    daemon, store = MemoryStore(), MemoryStore()
    broken, fine = make_result(MemoryStore(), b"is not here"), make_result(store, b"fine")
    Beside(daemon, store).offer([broken, fine])
    assert daemon.is_complete(Cid.parse(fine.outputs_cid))
    assert daemon.read(Cid.parse(fine.stdout_cid)) == b"fine"
    assert daemon.get(Cid.parse(fine.cid)) == fine.to_bytes()
    assert not daemon.has(Cid.parse(broken.outputs_cid))


def test_a_daemon_that_is_away_is_no_error() -> None:
    store = MemoryStore()
    result = make_result(store, b"stays here")
    beside = Beside(KuboStore(AWAY), store)
    beside.bring(Cid.of(b"x"), MIB)
    beside.bring_block(Cid.of(b"x"))
    beside.offer([result])
    beside.close()
    assert store.is_complete(Cid.parse(result.outputs_cid))
