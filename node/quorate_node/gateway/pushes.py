"""Content that others push to a node, as CARs.

All of a push is verified while it comes, and nothing of it enters the store before it is whole. What is under way
counts towards the quota byte by byte, so that many at once get no more of it than one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from quorate.protocol.errors import Busy
from quorate.storage.base import BlobStore, ImportReport
from quorate.storage.car import CarVerifier
from quorate.storage.cid import Cid
from quorate.storage.traffic import Meter
from quorate_node.gateway.bodies import LEAST_BYTES_S, BodyTooLarge, check_length
from quorate_node.room import Room, StoreFull
from quorate_node.spool import Spool

MAX_PUSH_BYTES = 8 << 30
MAX_PUSHES = 16
GRACE_S = 10.0
BATCH_BYTES = 4 << 20  # room is made, and blocks are verified, for so many bytes at once


class QuotaReached(Busy):
    """Others have pushed as much as they may."""


@dataclass(slots=True)
class _Push:
    """One that is under way: `size` bytes have come, and count until it ends; `kept` of them count for good."""

    verifier: CarVerifier
    spool: Spool
    size: int = 0
    kept: int = 0


class Pushes:
    """All pushes to one node, which may bring `quota_bytes` in all."""

    def __init__(self, store: BlobStore, room: Room, meter: Meter, quota_bytes: int) -> None:
        self._store, self._room, self._meter, self._quota_bytes = store, room, meter, quota_bytes
        self._places = asyncio.Semaphore(MAX_PUSHES)
        self.counted_bytes = 0

    async def take(self, request: Request, root: Cid) -> ImportReport:
        """Take the DAG of `root` into the store, and hold it until the job that it is for is over.

        Raises DataError for what is no such CAR, BodyTooLarge, QuotaReached, StoreFull, VolumeReached, or Busy.
        """
        left = min(self._quota_bytes - self.counted_bytes, MAX_PUSH_BYTES)
        check_length(request, max(left, 0))
        if left <= 0:
            raise QuotaReached("this node takes no more content: use another, or serve it yourself")
        length = request.headers.get("content-length", "0")
        self._meter.check(int(length) if length.isdecimal() else 0)
        if self._places.locked():
            raise Busy("too many imports run: try again in a moment")
        async with self._places:
            push = _Push(CarVerifier(root, dups=None), await asyncio.to_thread(Spool, self._room))
            try:
                await self._receive(request, push)
                push.verifier.finish()
                push.kept = push.size  # should the store fail in the middle, too
                report = await asyncio.to_thread(self._keep, push)
                push.kept = report.new_bytes
                return report
            finally:
                self.counted_bytes -= push.size - push.kept
                await asyncio.to_thread(push.spool.close)

    async def _receive(self, request: Request, push: _Push) -> None:
        """Spool the body, as fast as the meter lets it come."""
        batch, full = bytearray(), None
        async for chunk in _patiently(request, push):
            self._count(push, len(chunk))
            batch += chunk
            if len(batch) >= BATCH_BYTES:
                full = full or await _spool(push, batch)
                batch.clear()
            if (pause := self._meter.take(len(chunk))) > 0:
                await asyncio.sleep(pause)
        full = full or await _spool(push, batch)
        if full is not None:
            raise full

    def _count(self, push: _Push, size: int) -> None:
        left = min(self._quota_bytes - self.counted_bytes, MAX_PUSH_BYTES - push.size)
        if size > left:
            raise BodyTooLarge(
                f"the CAR is over the {push.size + left} bytes that are left for it of the quota: use another node, "
                "or serve it yourself"
            )
        push.size += size
        self.counted_bytes += size

    def _keep(self, push: _Push) -> ImportReport:
        root = push.verifier.root
        with self._store.keeping():
            report = self._store.import_car(push.spool.take_out(), root, max_bytes=push.size)
            self._store.hold([root])
        return report


async def _spool(push: _Push, batch: bytearray) -> StoreFull | None:
    """Verify and write. A full store is told once all has come: who is cut off before does not hear why."""
    try:
        await asyncio.to_thread(_write, push, bytes(batch))
    except StoreFull as error:
        return error
    return None


def _write(push: _Push, data: bytes) -> None:
    push.verifier.push(data)
    push.spool.write(data)


async def _patiently(request: Request, push: _Push) -> AsyncIterator[bytes]:
    """The body. Raises Busy for a sender that drips; time that passes on our side is not its own."""
    chunks, waited, now = request.stream(), 0.0, asyncio.get_running_loop().time
    while True:
        began = now()
        try:
            async with asyncio.timeout(GRACE_S + push.size / LEAST_BYTES_S - waited):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise Busy(f"the CAR comes in at less than {LEAST_BYTES_S} bytes a second") from None
        if chunk is None:
            return
        waited += now() - began
        yield chunk
