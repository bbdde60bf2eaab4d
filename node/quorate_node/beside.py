"""A Kubo daemon beside a node: content of jobs is read from it, and results are put into it.

Programs map their files from the embedded store, so what a job needs is copied there first. The daemon is a help and
no more: while it is away, or when it has rotten blocks, content comes from other providers and results stay here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from quorate.protocol.errors import QuorateError
from quorate.protocol.result import TaskResult
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.listing import list_files
from quorate_node.logs import get_logger


class Beside:
    """`daemon` is the store of the daemon, `store` the node's own. Methods block and may be called from any thread."""

    def __init__(self, daemon: BlobStore, store: BlobStore) -> None:
        self._daemon, self._store = daemon, store
        self._log = get_logger()

    def bring_block(self, cid: Cid) -> None:
        """Copy a block to our store, if the daemon has it."""

        def copy() -> None:
            if not self._store.has(cid) and self._daemon.has(cid):
                self._store.put(cid, self._daemon.get(cid))

        self._attempt(copy, "read", cid)

    def bring(self, root: Cid, max_bytes: int) -> None:
        """Copy a DAG to our store, as far as the daemon has it."""

        def copy() -> None:
            if not self._store.is_complete(root) and self._daemon.has(root):
                self._store.import_car(self._daemon.export_car(root), root, max_bytes=max_bytes)

        self._attempt(copy, "read", root)

    def bring_listing(self, root: Cid) -> None:
        """Copy what lists a directory's files to our store, as far as the daemon has it."""

        def get(cid: Cid) -> bytes:
            if not self._store.has(cid):
                self._store.put(cid, self._daemon.get(cid))
            return self._store.get(cid)

        self._attempt(lambda: list_files(get, root), "read", root)

    def offer(self, results: Iterable[TaskResult]) -> None:
        """Copy results, with all that their tasks put out, to the daemon. They are not pinned there."""
        for result in results:
            cid = Cid.parse(result.cid)

            def copy(result: TaskResult = result) -> None:
                self._daemon.put_raw(result.to_bytes())
                for root in map(Cid.parse, (result.stdout_cid, result.outputs_cid)):
                    self._daemon.import_car(self._store.export_car(root), root)

            self._attempt(copy, "written", cid)

    def close(self) -> None:
        self._daemon.close()

    def _attempt(self, copy: Callable[[], object], what: str, cid: Cid) -> None:
        try:
            copy()
        except QuorateError as error:
            self._log.warning(f"content not {what} beside us", cid=str(cid), error=str(error))
