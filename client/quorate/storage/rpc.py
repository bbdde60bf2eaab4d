"""The part of Kubo's RPC with which its clients, such as `ipfshttpclient`, work against an embedded store.

POST only, on loopback only, and closed to web pages: whoever may add content may fill the disk. What writes is there
only where it was allowed. Bodies are spooled to the store's disk first, so that no slow sender holds up the store.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from quorate.protocol.errors import Busy, QuorateError
from quorate.storage import rpc_methods
from quorate.storage.allowed import AllowedStore
from quorate.storage.base import BlockNotFound
from quorate.storage.denylist import DenyList
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import batches
from quorate.storage.multipart import Upload, boundary_of, read_uploads
from quorate.storage.rpc_call import BadArgument, Call, Content, Lines

STALL_S = 60.0
SPOOL_BYTES = 1 << 20
MAX_UPLOAD_BYTES = 16 << 30
_ALLOW = {"Allow": "OPTIONS, POST"}


def rpc_routes(
    store: EmbeddedStore,
    denied: DenyList | None = None,
    *,
    may_write: bool = False,
    max_upload_bytes: int = MAX_UPLOAD_BYTES,
) -> list[Route]:
    """POST of `/api/v0/{command}`; serve it on loopback only. What is `denied` is not read, by whatever command."""
    listed = DenyList() if denied is None else denied
    rpc = _Rpc(AllowedStore(store, listed), may_write, max_upload_bytes)
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return [Route("/api/v0/{command:path}", rpc.answer, methods=methods)]


class _Rpc:
    def __init__(self, store: AllowedStore, may_write: bool, max_upload_bytes: int) -> None:
        self._store, self._may_write, self._limit = store, may_write, max_upload_bytes

    async def answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=_ALLOW)
        if request.method != "POST":
            return PlainTextResponse("405 - Method Not Allowed: use POST\n", 405, _ALLOW)
        if (reason := why_not_allowed(request)) is not None:
            return PlainTextResponse(f"403 - Forbidden: {reason}\n", 403)
        name = request.path_params["command"].strip("/")
        method = rpc_methods.READING.get(name)
        if method is None and (method := rpc_methods.WRITING.get(name)) is not None and not self._may_write:
            return _error(403, f"{name} writes, which is not allowed here: start `quorate-node gateway` with --api")
        if method is None:
            return PlainTextResponse(f"404 page not found: {name[:80]} is not served here\n", 404)
        try:
            return await self._call(method, request)
        except ClientDisconnect:
            return Response(status_code=400)
        except BadArgument as error:
            return _error(400, str(error), 1)
        except _TooLarge as error:
            refused = _error(413, str(error))
            refused.headers["Connection"] = "close"  # what is left of the body stands before any other request
            return refused
        except BlockNotFound as error:  # in Kubo's words, by which its clients know it
            return _error(500, f"block was not found locally (offline): ipld: could not find {error.cid} ({error})")
        except Busy as error:
            return _error(503, str(error))
        except QuorateError as error:
            return _error(500, str(error))

    async def _call(self, method: Callable[[Call], object], request: Request) -> Response:
        query = request.query_params
        call = Call(self._store, query.getlist("arg"), dict(query))
        if method not in rpc_methods.UPLOADING:
            return _respond(await run_in_threadpool(method, call))
        boundary = boundary_of(request.headers.get("content-type", ""))
        with _spool(self._store) as file:
            await self._receive(request, file)
            file.seek(0)
            call.uploads = partial(_uploads, file, boundary)
            return _respond(await run_in_threadpool(method, call))

    async def _receive(self, request: Request, file: BinaryIO) -> None:
        told, size = request.headers.get("content-length", ""), 0
        if told.isdecimal() and int(told) > self._limit:
            raise _TooLarge(self._limit)
        chunks = request.stream().__aiter__()
        while True:
            try:
                async with asyncio.timeout(STALL_S):
                    chunk = await anext(chunks, None)
            except TimeoutError:
                raise Busy(f"nothing of the upload came for {STALL_S:g} s; send it again") from None
            if chunk is None:
                return
            size += len(chunk)
            if size > self._limit:
                raise _TooLarge(self._limit)
            try:
                await run_in_threadpool(file.write, chunk)
            except OSError as error:
                raise Busy(f"the upload cannot be kept: {error.strerror}; make room on the store's disk") from error


class _TooLarge(Exception):
    def __init__(self, limit: int) -> None:
        super().__init__(f"the upload is over the limit of {limit} bytes; raise --max-upload, or import it by command")


def _spool(store: AllowedStore) -> BinaryIO:
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=str(store.directory)))


def _uploads(file: BinaryIO, boundary: bytes) -> Iterator[Upload]:
    file.seek(0)
    return read_uploads(file, boundary)


def _respond(result: object) -> Response:
    if isinstance(result, Content):
        kind, mark = result.kind, {"X-Stream-Output": "1"}
        if result.size is not None:
            mark["X-Content-Length"] = str(result.size)
        return StreamingResponse(batches(result.pieces), 200, mark, kind)
    if isinstance(result, Lines):
        lines = (json.dumps(value).encode() + b"\n" for value in result.values)
        return StreamingResponse(batches(lines), 200, {"X-Chunked-Output": "1"}, "application/json")
    return Response(json.dumps(result).encode() + b"\n", 200, media_type="application/json")


def _error(status: int, message: str, code: int = 0) -> Response:
    body = {"Message": message, "Code": code, "Type": "error"}
    return Response(json.dumps(body), status, media_type="application/json")


def why_not_allowed(request: Request) -> str | None:
    """The reason why a request may come from a web page, or from another machine; None for a program on this one."""
    headers = request.headers
    if request.client is not None and not _is_loopback(request.client.host):
        return "it comes from another machine"
    host = urlsplit("//" + headers.get("host", ""))
    if not _is_loopback(host.hostname or ""):
        return "its Host is not this machine's loopback"  # a page whose name was pointed here
    own = f"http://{headers['host']}"
    origin, referer = headers.get("origin"), headers.get("referer")
    if origin is not None and origin != own:
        return "its Origin is another site's"
    if referer is not None:
        parts = urlsplit(referer)
        if f"{parts.scheme}://{parts.netloc}" != own:
            return "its Referer is another site's"
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return "a page of another site asks"
    if origin is None and referer is None and headers.get("user-agent", "").startswith("Mozilla/"):
        return "a browser asks, and does not say for which page"
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
