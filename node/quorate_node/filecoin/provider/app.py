"""The provider's routes: pieces with ranges (FRC-0066) and their nodes, the trustless gateway, and an index of itself.

What is free is sent. What is not is answered 402 with offers, or paid for first: `desk` takes payments, and only then
are bytes sent. A refused payment is a 402, too, whose `error` says why.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from quorate.filecoin import x402
from quorate.filecoin.piecetree import CHUNK_BYTES
from quorate.filecoin.terms import PaymentRequired, Resource, WireError
from quorate.filecoin.x402 import ExactPayment, VoucherPayment
from quorate.protocol.errors import Busy, ContentUnavailable, DataError, QuorateError
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.denylist import DenyList
from quorate.storage.gateway_request import CAR_TYPE, Refused, block_ranges, matches
from quorate_node.filecoin.provider.adding import Home
from quorate_node.filecoin.provider.catalog import Catalog, Dataset
from quorate_node.filecoin.provider.desk import Desk
from quorate_node.filecoin.provider.offers import Seller
from quorate_node.filecoin.provider.pieces import PieceReader
from quorate_node.filecoin.provider.railbook import PaymentRefused
from quorate_node.filecoin.provider.sending import Outlet
from quorate_node.filecoin.provider.tally import Tally

Handler = Callable[[Request], Awaitable[Response]]
_HOST = re.compile(r"[A-Za-z0-9.\-:\[\]]{1,255}")
NODES_BYTES = 1 << 18
_IMMUTABLE = "max-age=29030400, immutable"
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, ETag, PAYMENT-REQUIRED, PAYMENT-RESPONSE",
}
PREFLIGHT = {
    **_CORS,
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "If-None-Match, Range, PAYMENT-SIGNATURE, User-Agent, X-Requested-With",
    "Access-Control-Max-Age": "86400",
}


@dataclass(slots=True)
class Services:
    """What the routes need. `desk` and `seller` are None for a provider that only gives free data."""

    home: Home
    catalog: Catalog
    store: BlobStore
    pieces: PieceReader
    outlet: Outlet
    tally: Tally
    base_url: str
    peer: str
    desk: Desk | None = None
    seller: Seller | None = None
    denied: DenyList = field(default_factory=DenyList)
    clock: Callable[[], float] = time.time


def build_app(services: Services) -> Starlette:
    """The provider's application."""
    from quorate_node.filecoin.provider.about import About
    from quorate_node.filecoin.provider.dags import Dags

    pieces, dags, about = Pieces(services), Dags(services), About(services)
    both, all_three = ["GET", "HEAD"], ["GET", "HEAD", "OPTIONS"]
    routes = [
        Route("/piece/{cid}", answered(services, pieces.piece), methods=all_three),
        Route("/piece/{cid}/nodes", answered(services, pieces.nodes), methods=all_three),
        Route("/ipfs/{cid}", answered(services, dags.answer), methods=all_three),
        Route("/ipfs/{cid}/{path:path}", answered(services, dags.answer), methods=all_three),
        *(Route(f"{at}/cid/{{cid}}", answered(services, about.find_cid), methods=both) for at in ("", "/ipni")),
        *(Route(f"{at}/multihash/{{multihash}}", answered(services, about.find_multihash)) for at in ("", "/ipni")),
        Route("/routing/v1/providers/{cid}", answered(services, about.find_providers), methods=both),
        Route("/status", answered(services, about.status)),
        Route("/healthz", answered(services, about.health)),
        Route("/metrics", answered(services, about.metrics)),
    ]
    return Starlette(routes=routes)


def answered(services: Services, handler: Handler) -> Handler:
    """Turn what a handler raises into an answer, and count answers."""

    async def answer(request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=PREFLIGHT)
        response = await _attempt(handler, request)
        services.tally.count("requests", request.url.path.split("/", 2)[1][:16], str(response.status_code))
        return response

    return answer


async def _attempt(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except Refused as refused:
        return refuse(refused.status, refused.reason, dict(refused.headers))
    except Busy as error:
        return refuse(503, str(error), {"Retry-After": "2"})
    except ContentUnavailable as error:
        return refuse(503, str(error))
    except DataError as error:
        return refuse(400, str(error))
    except QuorateError as error:
        return refuse(503, str(error), {"Retry-After": "5"})


def refuse(status: int, reason: str, headers: dict[str, str] | None = None) -> Response:
    """An answer in words."""
    kept = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", **_CORS, **(headers or {})}
    return PlainTextResponse(reason + "\n", status, kept)


def demand(required: PaymentRequired) -> Response:
    """402: the offers, as header and as body."""
    headers = {x402.REQUIRED: x402.encode_required(required), "Cache-Control": "no-store", **_CORS}
    return Response(x402.dump_required(required), 402, headers, "application/json")


def get_host(request: Request) -> str:
    """The address at the other end."""
    return request.client.host if request.client else ""


def get_url(services: Services, request: Request) -> str:
    """The absolute URL of a request, by the host that it names if that can be one."""
    scheme, _, own = services.base_url.partition("://")
    named = request.headers.get("host", "")
    host = named if _HOST.fullmatch(named) else own
    path = bytes(request.scope.get("raw_path", b"/")).decode("latin-1").partition("?")[0]
    query = bytes(request.scope.get("query_string", b"")).decode("latin-1")
    return f"{scheme}://{host}{path}" + (f"?{query}" if query else "")


def get_seller(services: Services) -> tuple[Seller, Desk]:
    """Who sells. Raises Busy where nobody does."""
    if services.seller is None or services.desk is None:
        raise Busy("this is not free, and this provider takes no payments now: it runs without a chain")
    return services.seller, services.desk


class Pieces:
    """`/piece`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._denied: dict[int, tuple[frozenset[bytes], bool]] = {}

    async def piece(self, request: Request) -> Response:
        """A piece, or a part of it."""
        s, name = self._services, request.path_params["cid"]
        dataset = await s.outlet.run(self._find, name)
        headers = _describe(dataset, name)
        if matches(request.headers.get("if-none-match"), headers["ETag"]):
            return Response(status_code=304, headers=headers)
        size, span = dataset.piece.size_bytes, _get_span(request, headers["ETag"], dataset.piece.size_bytes)
        if dataset.is_free:
            await s.outlet.run(s.pieces.check, dataset)
            if request.method == "HEAD":
                return Response(None, 200, headers | {"Content-Length": str(size)}, _get_type(dataset))
            s.outlet.check_room(get_host(request))
            return self._send(request, dataset, headers, span)
        header = request.headers.get(x402.SIGNATURE)
        if request.method == "HEAD" or header is None:
            return self._demand(request, dataset, name, "payment required")
        try:
            return await self._sell(request, dataset, name, headers, span, header)
        except (PaymentRefused, WireError) as error:
            s.tally.count("payments", "refused")
            return self._demand(request, dataset, name, str(error))

    async def nodes(self, request: Request) -> Response:
        """The nodes of height 15 of a piece's tree, free: whoever has them can check each chunk by itself."""
        s, name = self._services, request.path_params["cid"]
        dataset = await s.outlet.run(self._find, name)
        headers = {"ETag": f'"{dataset.piece.v2}.nodes"', "Cache-Control": f"public, {_IMMUTABLE}", **_CORS}
        if matches(request.headers.get("if-none-match"), headers["ETag"]):
            return Response(status_code=304, headers=headers)
        s.outlet.check_room(get_host(request))
        path = s.home.nodes(dataset.piece)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ContentUnavailable(f"the nodes of {dataset.piece.v2} are lost: add it again") from error
        kind = "application/octet-stream"
        if request.method == "HEAD":
            return Response(None, 200, headers | {"Content-Length": str(size)}, kind)
        return s.outlet.respond(_read_file(path), size, 200, headers, kind, get_host(request))

    def _find(self, name: str) -> Dataset:
        try:
            found = self._services.catalog.find_piece(cid := Cid.parse(name))
        except DataError as error:
            raise Refused(400, str(error)) from None
        if not found:
            raise Refused(404, f"the piece {cid} is not here; ask another provider")
        dataset = found[0]
        if any(each in self._services.denied for each in (cid, dataset.root, dataset.piece.v1, dataset.piece.v2)):
            raise Refused(410, f"the operator of this provider does not serve {cid}; ask another")
        if self._holds_denied(dataset):
            raise Refused(410, f"the operator of this provider does not serve a part of {cid}; ask another")
        return dataset

    def _holds_denied(self, dataset: Dataset) -> bool:
        """Whether a denied block lies within a piece; looked for once for each dataset and list."""
        listed = self._services.denied.multihashes
        known = self._denied.get(dataset.id)
        if known is None or known[0] is not listed:
            known = listed, self._services.catalog.holds_any(dataset, listed)
            self._denied[dataset.id] = known
        return known[1]

    def _demand(self, request: Request, dataset: Dataset, name: str, error: str) -> Response:
        s = self._services
        seller, _ = get_seller(s)
        resource = Resource(get_url(s, request), f"piece {dataset.piece.v2}", _get_type(dataset).partition(";")[0])
        return demand(seller.offer_piece(dataset, name, resource, int(s.clock()), error))

    async def _sell(
        self,
        request: Request,
        dataset: Dataset,
        name: str,
        headers: dict[str, str],
        span: tuple[int, int] | None,
        header: str,
    ) -> Response:
        s = self._services
        seller, desk = get_seller(s)
        payment = x402.parse_payment(header)
        s.outlet.check_room(get_host(request))
        if isinstance(payment, VoucherPayment):
            start, end = _get_chunk_span(span, dataset)
            data = await s.outlet.run(self._take_chunk, desk, payment, dataset, name, start, end)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{dataset.piece.size_bytes}"
            return s.outlet.respond_once(data, 206, headers, _get_type(dataset), get_host(request))
        await s.outlet.run(s.pieces.check, dataset)
        first, last = span or (0, dataset.piece.size_bytes)
        paid = await self._take_single(desk, seller, payment, dataset, last - first)
        return self._send(request, dataset, headers | {x402.RESPONSE: paid}, span)

    def _take_chunk(
        self, desk: Desk, payment: VoucherPayment, dataset: Dataset, name: str, start: int, end: int
    ) -> bytes:
        """The bytes first: nothing is taken for what cannot be sent."""
        data = self._services.pieces.read_whole(dataset, start, end)
        is_new = desk.take_voucher(payment, dataset, name, start // CHUNK_BYTES, len(data))
        self._services.tally.count("payments", "voucher" if is_new else "voucher again")
        return data

    async def _take_single(self, desk: Desk, seller: Seller, payment: ExactPayment, dataset: Dataset, size: int) -> str:
        """PAYMENT-RESPONSE of a payment for a piece."""
        offer = seller.make_exact(dataset.piece.size_bytes, dataset.price_per_mib)
        resource = f"/piece/{dataset.piece.v2}"
        settled = await self._services.outlet.run_slow(desk.take_single, payment, offer, resource, size)
        self._services.tally.count("payments", "single")
        return x402.encode_settlement(settled)

    def _send(
        self, request: Request, dataset: Dataset, headers: dict[str, str], span: tuple[int, int] | None
    ) -> Response:
        s, size = self._services, dataset.piece.size_bytes
        start, end = span or (0, size)
        status = 200
        if span is not None:
            status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{size}"
        parts = s.pieces.read(dataset, start, end)
        return s.outlet.respond(parts, end - start, status, headers, _get_type(dataset), get_host(request))


def _read_file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(NODES_BYTES):
            yield part


def _describe(dataset: Dataset, name: str) -> dict[str, str]:
    cid = dataset.piece.v2
    file = name if name.isascii() and name.isalnum() else str(cid)  # a CID can be spelled in emoji
    scope = "public" if dataset.is_free else "private"
    return {
        "ETag": f'"{cid}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": f"{scope}, {_IMMUTABLE}",
        "Content-Disposition": f'attachment; filename="{file}{".car" if dataset.is_car else ""}"',
        "X-Content-Type-Options": "nosniff",
        **_CORS,
    }


def _get_type(dataset: Dataset) -> str:
    return f"{CAR_TYPE}; version=1" if dataset.is_car else "application/octet-stream"


def _get_span(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """The one range that is asked for; None for the whole. Raises Refused (416) for one that lies outside."""
    unless = request.headers.get("if-range")
    if request.method != "GET" or (unless is not None and unless.strip() != etag):
        return None
    spans = block_ranges(request.headers.get("range"), size)
    return spans[0] if len(spans) == 1 else None


def _get_chunk_span(span: tuple[int, int] | None, dataset: Dataset) -> tuple[int, int]:
    """A range within one chunk, as a voucher pays for. Raises PaymentRefused."""
    if span is None and dataset.piece.size_bytes <= CHUNK_BYTES:
        return 0, dataset.piece.size_bytes
    if span is None or span[0] // CHUNK_BYTES != (span[1] - 1) // CHUNK_BYTES:
        raise PaymentRefused(f"a voucher pays for one chunk: ask for a range within one of {CHUNK_BYTES} bytes")
    return span
