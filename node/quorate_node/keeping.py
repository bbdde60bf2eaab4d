"""Making durable what a bundle's tasks left."""

from __future__ import annotations

from collections.abc import Sequence

from quorate.bundles import gather_contents, gather_results
from quorate.protocol.result import TaskResult
from quorate.storage.base import BlobStore


def keep_results(store: BlobStore, results: Sequence[TaskResult], *, is_whole: bool) -> None:
    """Make all that the tasks left durable, before a vote says that it is here: once, not task by task.

    Of a whole bundle there are directories besides that gather it for whoever fetches it.
    """
    with store.adding(is_durable=False) as additions:
        for result in results:
            additions.hold([additions.put_raw(result.to_bytes())])
    if is_whole and len(results) > 1:
        gathered = gather_results([result.leaf for result in results]), gather_contents(results)
        for cid, block in gathered:
            store.put(cid, block)
        store.hold([cid for cid, _ in gathered])
    store.sync()
