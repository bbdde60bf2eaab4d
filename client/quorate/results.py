"""Fetching what a committee agreed on, from seats that nobody trusts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from quorate.delivery import open_http, read_error
from quorate.protocol.errors import ContentUnavailable, DataError
from quorate.protocol.jsontext import load_json
from quorate.protocol.result import TaskResult, compute_merkle_root
from quorate.protocol.types import Vote
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.fetch import fetch_block, fetch_dag

LEAVES_PATH = "/quorate/v1/leaves/"
MAX_LEAVES_BYTES = 64 * 1024
TIMEOUT_S = 10.0

Refusals = list[tuple[str, str]]
"""Providers that were left, each with the reason."""


@dataclass(frozen=True, slots=True)
class FetchedResult:
    """A job's verified results, in order of their tasks; `refused` names providers that lied or were away."""

    results: tuple[TaskResult, ...]
    path: Path
    bytes_received: int
    refused: tuple[tuple[str, str], ...]


def fetch_leaves(vote: Vote, providers: Sequence[str], refused: Refusals) -> list[bytes]:
    """Leaves under an accepted vote, from the first provider whose leaves hash to it.

    Raises DataError naming the liars when nobody is left and somebody lied, ContentUnavailable when all were away.
    """
    has_lied = False
    for url in providers:
        try:
            leaves = _ask_leaves(url, vote)
            if compute_merkle_root(leaves) != vote:
                raise DataError("sent leaves that are not those of the accepted vote")
            return leaves
        except DataError as error:
            has_lied = True
            refused.append((url, str(error)))
        except (httpx.HTTPError, ContentUnavailable) as error:
            refused.append((url, f"{type(error).__name__}: {error}"))
    reasons = "; ".join(f"{url}: {reason}" for url, reason in refused) or "no seat has announced an endpoint"
    kind = DataError if has_lied else ContentUnavailable
    raise kind(f"nobody served the leaves of vote 0x{vote.hex()} ({reasons}); try again later")


def _ask_leaves(url: str, vote: Vote) -> list[bytes]:
    with open_http(url, TIMEOUT_S) as client:
        answer = client.get(f"{url}{LEAVES_PATH}{vote.hex()}")
    if answer.is_error:
        raise ContentUnavailable(read_error(answer))
    if len(answer.content) > MAX_LEAVES_BYTES:
        raise DataError(f"sent {len(answer.content)} bytes of leaves")
    try:
        leaves = [bytes.fromhex(str(leaf).removeprefix("0x")) for leaf in load_json(answer.content)["leaves"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"sent no list of leaves ({error!r})") from error
    if not leaves or any(len(leaf) != 32 for leaf in leaves):
        raise DataError("sent leaves that are not of 32 bytes")
    return leaves


def fetch_task_result(
    store: BlobStore, leaf: bytes, spec_cid: str, task: int, providers: Sequence[str], refused: Refusals
) -> tuple[TaskResult, int]:
    """A task's result with all of its output in the store, and the bytes received; everything is checked by its CID.

    Raises ContentUnavailable when nobody serves it, DataError when the committee agreed on rubbish.
    """
    cid = Cid.from_digest(leaf)
    report = fetch_block(store, cid, providers)
    refused.extend(report.rejected)
    result = TaskResult.from_bytes(store.get(cid))
    if result.spec != spec_cid or result.task_index != task:
        raise DataError(f"{cid} is the result of task {result.task_index} of {result.spec}, not of this job's")
    received = report.bytes
    for root in (result.outputs_cid, result.stdout_cid):
        report = fetch_dag(store, Cid.parse(root), providers)
        refused.extend(report.rejected)
        received += report.bytes
    return result, received


def fetch_bundle(
    store: BlobStore, vote: Vote, spec_cid: str, tasks: Sequence[int], providers: Sequence[str], refused: Refusals
) -> tuple[list[TaskResult], int]:
    """Results of a bundle's tasks with all of their output in the store, and the bytes received."""
    leaves = fetch_leaves(vote, providers, refused)
    if len(leaves) != len(tasks):
        raise ContentUnavailable(f"the vote 0x{vote.hex()} has {len(leaves)} leaves for {len(tasks)} tasks")
    pairs = zip(tasks, leaves, strict=True)
    found = [fetch_task_result(store, leaf, spec_cid, task, providers, refused) for task, leaf in pairs]
    return [result for result, _ in found], sum(size for _, size in found)


def write_result(store: BlobStore, result: TaskResult, folder: Path) -> None:
    """Lay a result out: outputs/, stdout, result.json. Raises DataError when `folder` exists."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise DataError(f"{folder} exists: choose another folder") from error
    (folder / "result.json").write_bytes(result.to_bytes())
    store.export(Cid.parse(result.stdout_cid), folder / "stdout")
    store.export(Cid.parse(result.outputs_cid), folder / "outputs")
