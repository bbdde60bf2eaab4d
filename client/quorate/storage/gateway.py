"""The trustless gateway over HTTP: blocks and CARs, which whoever fetches them can verify.

The store is read in threads, one batch ahead of the network, so the event loop never waits for a disk and a slow
reader costs two batches of memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Send

from quorate.protocol.errors import Busy, DataError, QuorateError
from quorate.storage import car, unixfs
from quorate.storage.base import BlobStore, BlockNotFound
from quorate.storage.cid import DAG_PB
from quorate.storage.gateway_request import Refused, Wanted, block_range, matches, parse
from quorate.storage.traversal import PathNotFound, Traversal

BATCH_BYTES = 1 << 20
THREADS = 8
MAX_STREAMS = 64
MAX_STREAMS_HOST = 8  # of one address, loopback aside: one stranger must not take all
STALL_S = 30.0  # for a batch to leave
_IMMUTABLE = "public, max-age=29030400, immutable"


def build_gateway(store: BlobStore) -> Starlette:
    """A gateway alone; a node mounts `gateway_routes` beside its own."""
    return Starlette(routes=gateway_routes(store))


def gateway_routes(store: BlobStore) -> list[Route]:
    """GET and HEAD of `/ipfs/{cid}[/path]`."""
    gateway = _Gateway(store)
    return [
        Route("/ipfs/{cid}", gateway.answer, methods=["GET", "HEAD"]),
        Route("/ipfs/{cid}/{path:path}", gateway.answer, methods=["GET", "HEAD"]),
    ]


class _PatientResponse(StreamingResponse):
    """Ends when its reader stops reading, which would hold the stream for ever."""

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(STALL_S):
                await send(message)

        try:
            with contextlib.suppress(TimeoutError):
                await super().stream_response(send_in_time)
        finally:
            await self.body_iterator.aclose()  # type: ignore[attr-defined]  # it is our generator


class _Gateway:
    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="gateway")
        self._streams: Counter[str] = Counter()

    async def answer(self, request: Request) -> Response:
        try:
            params = request.path_params
            accept = ",".join(request.headers.getlist("accept"))
            wanted = parse(params["cid"], params.get("path", ""), request.query_params, accept)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._serve, wanted, request)
        except Refused as refused:
            return _refusal(refused.status, refused.reason)
        except Busy as error:
            return _refusal(503, str(error), {"Retry-After": "5"})
        except QuorateError as error:
            return _refusal(500, str(error))

    def _serve(self, wanted: Wanted, request: Request) -> Response:
        """In a thread: everything up to the headers, so that what fails before them has a status of its own."""
        if not self._store.has(wanted.cid):
            if_cached = "only-if-cached" in request.headers.get("cache-control", "")
            raise Refused(412 if if_cached else 404, f"{wanted.cid} is not here; ask another provider")
        headers = _headers(wanted)
        if matches(request.headers.get("if-none-match"), wanted.etag):
            kept = ("ETag", "Cache-Control", "Vary", "X-Content-Type-Options")
            return Response(status_code=304, headers={name: headers[name] for name in kept if name in headers})
        try:
            if wanted.format == "raw":
                return self._block(wanted, headers, request.headers.get("range"))
            host = request.client.host if request.client else ""
            return self._car(wanted, headers, host, is_head=request.method == "HEAD")
        except BlockNotFound as error:
            raise Refused(404, str(error)) from None
        except PathNotFound as error:
            raise Refused(404, str(error)) from None
        except DataError as error:
            raise Refused(400, str(error)) from None

    def _block(self, wanted: Wanted, headers: dict[str, str], asked: str | None) -> Response:
        target = self._store.resolve(wanted.cid, "/".join(wanted.path)) if wanted.path else wanted.cid
        block = self._store.get(target)
        headers["Accept-Ranges"] = "bytes"
        span = block_range(asked, len(block))
        if span is None:
            return Response(block, 200, headers, wanted.content_type)
        headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{len(block)}"
        return Response(block[span[0] : span[1]], 206, headers, wanted.content_type)

    def _car(self, wanted: Wanted, headers: dict[str, str], host: str, *, is_head: bool) -> Response:
        self._check_target(wanted)
        headers["Accept-Ranges"] = "none"
        if is_head:
            return Response(None, 200, headers, wanted.content_type)
        if self._streams.total() >= MAX_STREAMS:
            raise Busy(f"{MAX_STREAMS} CARs are being sent already; try again in a moment")
        if self._streams[host] >= MAX_STREAMS_HOST and host not in ("127.0.0.1", "::1"):
            raise Busy(f"{MAX_STREAMS_HOST} CARs are being sent to {host} already; try again in a moment")
        return _PatientResponse(self._stream(_batches(self._pieces(wanted)), host), 200, headers, wanted.content_type)

    def _pieces(self, wanted: Wanted) -> Iterator[bytes]:
        if not wanted.path and wanted.byte_range is None:  # a store may read that faster than block by block
            return self._store.export_car(wanted.cid, scope=wanted.scope, dups=wanted.dups)
        walk = Traversal(
            wanted.cid, path=wanted.path, scope=wanted.scope, byte_range=wanted.byte_range, dups=wanted.dups
        )
        return car.write(walk, wanted.cid, self._store.get)

    def _check_target(self, wanted: Wanted) -> None:
        """Resolve the path before the status is sent; and say 400 for a range that lies outside of a file."""
        target = self._store.resolve(wanted.cid, "/".join(wanted.path)) if wanted.path else wanted.cid
        block = self._store.get(target)
        if wanted.byte_range is None or target.codec != DAG_PB:
            return
        node = unixfs.Node.parse(target, block)
        beyond = wanted.byte_range.first >= node.file_size > 0
        if node.message.is_file and beyond:
            raise Refused(400, f"the file has {node.file_size} bytes; entity-bytes lies outside")

    async def _stream(self, batches: Iterator[bytes], host: str) -> AsyncIterator[bytes]:
        """Reads one batch ahead. A block that turns out missing cuts the answer off: its reader notices."""
        loop = asyncio.get_running_loop()
        self._streams[host] += 1
        ahead = loop.run_in_executor(self._threads, next, batches, None)
        try:
            while (batch := await ahead) is not None:
                ahead = loop.run_in_executor(self._threads, next, batches, None)
                yield batch
        finally:
            self._streams -= Counter((host,))
            if not ahead.cancel() and not ahead.cancelled():
                ahead.exception()  # looked at, so that nobody logs that it was not


def _batches(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces joined to about a MiB: a hop between threads costs as much as hashing 100 KiB."""
    batch, size = list[bytes](), 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= BATCH_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
    if batch:
        yield b"".join(batch)


def _headers(wanted: Wanted) -> dict[str, str]:
    headers = {
        "ETag": wanted.etag,
        "Cache-Control": _IMMUTABLE,
        "Content-Disposition": wanted.disposition,
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": wanted.content_path,
        "X-Ipfs-Roots": str(wanted.cid),
        "Access-Control-Allow-Origin": "*",
    }
    if not wanted.is_explicit:
        headers |= {"Content-Location": wanted.location, "Vary": "Accept"}
    return headers


def _refusal(status: int, reason: str, headers: dict[str, str] | None = None) -> Response:
    kept = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", **(headers or {})}
    return PlainTextResponse(reason + "\n", status, kept)
