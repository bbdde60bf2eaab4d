"""The trustless gateway over HTTP: blocks and CARs, which whoever fetches them can verify.

The store is read in threads, one batch ahead of the network, so the event loop never waits for a disk and a slow
reader costs two batches of memory.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from quorate.protocol.errors import Busy, DataError, QuorateError
from quorate.storage import car
from quorate.storage.base import BlobStore, BlockNotFound
from quorate.storage.cid import Cid
from quorate.storage.denylist import Denied, DenyList
from quorate.storage.gateway_request import Refused, Wanted, block_ranges, matches, parse
from quorate.storage.patience import PatientResponse
from quorate.storage.reader import resolve_all
from quorate.storage.traffic import Meter, VolumeReached
from quorate.storage.traversal import PathNotFound, Traversal

BATCH_BYTES = 1 << 20
THREADS = 8
MAX_STREAMS = 64
MAX_STREAMS_HOST = 8  # of one address, loopback aside: one stranger must not take all
MAX_REPEATED_BYTES = 256 << 20  # of one CAR with duplicates
_IMMUTABLE = "public, max-age=29030400, immutable"
_KEPT_BY_304 = (
    "ETag",
    "Cache-Control",
    "Vary",
    "Content-Location",
    "X-Content-Type-Options",
    "Access-Control-Allow-Origin",
)
_EXPOSED = "Content-Length, Content-Range, ETag, X-Ipfs-Path, X-Ipfs-Roots"
_PREFLIGHT = {
    "Allow": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, If-None-Match, Range, User-Agent, X-Requested-With",
    "Access-Control-Max-Age": "86400",
}


def build_gateway(store: BlobStore, denied: DenyList | None = None) -> Starlette:
    """A gateway alone; a node mounts `gateway_routes` beside its own."""
    return Starlette(routes=gateway_routes(store, denied))


def gateway_routes(store: BlobStore, denied: DenyList | None = None, meter: Meter | None = None) -> list[Route]:
    """GET and HEAD of `/ipfs/{cid}[/path]`, and OPTIONS for pages of other origins; 410 for what is `denied`.

    `meter` counts and paces what is sent, and has it refused with 503 where the day's bytes are used up.
    """
    listed = DenyList() if denied is None else denied  # an empty one may grow
    gateway = _Gateway(store, listed, meter or Meter("serve"))
    return [
        Route(path, gateway.answer, methods=["GET", "HEAD", "OPTIONS"])
        for path in ("/ipfs/{cid}", "/ipfs/{cid}/{path:path}")
    ]


class _Gateway:
    def __init__(self, store: BlobStore, denied: DenyList, meter: Meter) -> None:
        self._store, self._denied, self._meter = store, denied, meter
        self._get = denied.guard(store.get)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="gateway")
        self._streams: Counter[str] = Counter()

    async def answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=_PREFLIGHT)
        try:
            params = request.path_params
            accept = ",".join(request.headers.getlist("accept"))
            wanted = parse(params["cid"], params.get("path", ""), request.query_params, accept)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._serve, wanted, request)
        except Refused as refused:
            return _refusal(refused.status, refused.reason, refused.headers)
        except VolumeReached as error:
            return _refusal(503, str(error), {"Retry-After": str(self._meter.seconds_left)})
        except Busy as error:
            return _refusal(503, str(error), {"Retry-After": "5"})
        except QuorateError as error:
            return _refusal(500, str(error))

    def _serve(self, wanted: Wanted, request: Request) -> Response:
        """In a thread: everything up to the headers, so that what fails before them has a status of its own."""
        try:
            roots = self._resolve(wanted)
            headers = _headers(wanted, roots)
            if matches(request.headers.get("if-none-match"), headers["ETag"]):
                kept = {name: headers[name] for name in _KEPT_BY_304 if name in headers}
                return Response(status_code=304, headers=kept)
            if wanted.format == "raw":
                return self._block(wanted, roots[-1], headers, request)
            host = request.client.host if request.client else ""
            return self._car(wanted, roots[-1], headers, host, is_head=request.method == "HEAD")
        except BlockNotFound as error:
            if_cached = "only-if-cached" in request.headers.get("cache-control", "")
            raise Refused(412 if if_cached else 404, f"{error.cid} is not here; ask another provider") from None
        except Denied as error:
            raise Refused(410, str(error)) from None
        except PathNotFound as error:
            raise Refused(404, str(error)) from None
        except DataError as error:
            raise Refused(400, str(error)) from None

    def _resolve(self, wanted: Wanted) -> list[Cid]:
        """The CIDs on the path, of which the last is what is wanted."""
        self._denied.check(wanted.cid)
        if not self._store.has(wanted.cid):
            raise BlockNotFound(wanted.cid)
        if not wanted.path:
            return [wanted.cid]
        roots = resolve_all(self._get, wanted.cid, wanted.path)
        for cid in roots:
            self._denied.check(cid)
        return roots

    def _block(self, wanted: Wanted, target: Cid, headers: dict[str, str], request: Request) -> Response:
        block = self._store.get(target)
        headers["Accept-Ranges"] = "bytes"
        asked, unless = request.headers.get("range"), request.headers.get("if-range")
        is_same = unless is None or unless.strip() == headers["ETag"]
        spans = block_ranges(asked, len(block)) if request.method == "GET" and is_same else []
        if request.method == "HEAD":
            return Response(block, 200, headers, wanted.content_type)
        if not spans:
            return self._send(block, 200, headers, wanted.content_type)
        if len(spans) > 1:
            body, boundary = _parts(block, spans, wanted.content_type)
            return self._send(body, 206, headers, f"multipart/byteranges; boundary={boundary}")
        start, end = spans[0]
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(block)}"
        return self._send(block[start:end], 206, headers, wanted.content_type)

    def _send(self, body: bytes, status: int, headers: dict[str, str], kind: str) -> Response:
        self._meter.check(len(body))
        if self._meter.piece_bytes is None:
            self._meter.take(len(body))
            return Response(body, status, headers, kind)
        headers["Content-Length"] = str(len(body))
        return PatientResponse(self._pace(body), status, headers, kind)

    async def _pace(self, body: bytes) -> AsyncIterator[bytes]:
        """In pieces, with pauses between them where a second's bytes are bounded; cut off where the day's are used."""
        size = self._meter.piece_bytes or len(body)
        for start in range(0, len(body), max(size, 1)):
            piece = body[start : start + size]
            pause = self._meter.take(len(piece))
            yield piece
            if pause > 0:
                await asyncio.sleep(pause)

    def _car(self, wanted: Wanted, target: Cid, headers: dict[str, str], host: str, *, is_head: bool) -> Response:
        self._store.get(target)  # before the status is sent
        headers["Accept-Ranges"] = "none"
        if is_head:
            response = Response(None, 200, headers, wanted.content_type)
            del response.headers["content-length"]  # nobody knows it before the CAR is written
            return response
        self._meter.check()
        if self._streams.total() >= MAX_STREAMS:
            raise Busy(f"{MAX_STREAMS} CARs are being sent already; try again in a moment")
        if self._streams[host] >= MAX_STREAMS_HOST and host not in ("127.0.0.1", "::1"):
            reason = f"{MAX_STREAMS_HOST} CARs are being sent to {host} already; try again in a moment"
            raise Refused(429, reason, {"Retry-After": "5"})
        return PatientResponse(self._stream(batches(self._pieces(wanted)), host), 200, headers, wanted.content_type)

    def _pieces(self, wanted: Wanted) -> Iterator[bytes]:
        """An error in the middle, such as a block that is denied or missing, ends them."""
        is_plain = not wanted.path and wanted.byte_range is None and not wanted.dups
        if is_plain and len(self._denied) == 0:  # a store may read that faster than block by block
            return self._store.export_car(wanted.cid, scope=wanted.scope)
        walk = Traversal(
            wanted.cid, path=wanted.path, scope=wanted.scope, byte_range=wanted.byte_range, dups=wanted.dups
        )
        return car.write(walk, wanted.cid, self._get, MAX_REPEATED_BYTES)

    async def _stream(self, batches: Iterator[bytes], host: str) -> AsyncIterator[bytes]:
        """Reads one batch ahead. A block that turns out missing or denied cuts the answer off: its reader notices."""
        loop = asyncio.get_running_loop()
        self._streams[host] += 1
        ahead = loop.run_in_executor(self._threads, next, batches, None)
        try:
            while (batch := await ahead) is not None:
                ahead = loop.run_in_executor(self._threads, next, batches, None)
                async for piece in self._pace(batch):
                    yield piece
        finally:
            self._streams -= Counter((host,))
            if not ahead.cancel() and not ahead.cancelled():
                ahead.exception()  # looked at, so that nobody logs that it was not


def batches(pieces: Iterator[bytes]) -> Iterator[bytes]:
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


def _parts(block: bytes, spans: Sequence[tuple[int, int]], kind: str) -> tuple[bytes, str]:
    """Several parts of a block as one body, and the boundary between them, which no part holds."""
    boundary = sha256(block).hexdigest()
    while any(boundary.encode() in block[start:end] for start, end in spans):
        boundary = sha256(boundary.encode()).hexdigest()
    body = b"".join(
        f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: bytes {start}-{end - 1}/{len(block)}\r\n\r\n".encode()
        + block[start:end]
        + b"\r\n"
        for start, end in spans
    )
    return body + f"--{boundary}--\r\n".encode(), boundary


def _headers(wanted: Wanted, roots: Sequence[Cid]) -> dict[str, str]:
    headers = {
        "ETag": wanted.etag(roots[-1]),
        "Cache-Control": _IMMUTABLE,
        "Content-Disposition": wanted.disposition(roots[-1]),
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": wanted.content_path,
        "X-Ipfs-Roots": ",".join(map(str, roots)),
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Expose-Headers": _EXPOSED,
    }
    if not wanted.is_explicit:
        headers |= {"Content-Location": wanted.location, "Vary": "Accept"}
    return headers


def _refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    kept = {
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        "Access-Control-Allow-Origin": "*",
        **(headers or {}),
    }
    return PlainTextResponse(reason + "\n", status, kept)
