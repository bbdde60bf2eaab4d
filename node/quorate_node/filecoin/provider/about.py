"""What a provider says about itself: what it has, as an index would (IPNI, delegated routing), and how it is doing."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quorate.filecoin.piececid import is_piece
from quorate.filecoin.x402 import EXACT, VOUCHER
from quorate.protocol.errors import DataError
from quorate.storage.cid import RAW, Cid
from quorate.storage.gateway_request import Refused
from quorate_node.filecoin.provider import indexing
from quorate_node.filecoin.provider.app import Services
from quorate_node.filecoin.provider.catalog import Catalog, Dataset
from quorate_node.filecoin.provider.tally import CONTENT_TYPE
from quorate_node.filecoin.provider.till import RailAccount, SingleState, Till, describe_rail

_NDJSON = "application/x-ndjson"


class About:
    """The routes about the provider."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._addresses = [indexing.to_multiaddr(services.base_url)]

    async def find_cid(self, request: Request) -> Response:
        """IPNI's `/cid/{cid}`."""
        return await self._find(request, _parse(request.path_params["cid"]))

    async def find_multihash(self, request: Request) -> Response:
        """IPNI's `/multihash/{multihash}`, in base58 or any multibase."""
        return await self._find(request, parse_multihash(request.path_params["multihash"]))

    async def _find(self, request: Request, cid: Cid) -> Response:
        kinds = await self._services.outlet.run(self._list_kinds, cid)
        peer, headers = self._services.peer, {"Access-Control-Allow-Origin": "*"}
        found = indexing.answer_find(cid.multihash, peer, self._addresses, kinds)
        if _NDJSON in request.headers.get("accept", ""):
            lines = indexing.dump_lines(found["MultihashResults"][0]["ProviderResults"])
            return Response(lines, 200, headers, _NDJSON)
        return JSONResponse(found, headers=headers)

    async def find_providers(self, request: Request) -> Response:
        """Delegated routing's `/routing/v1/providers/{cid}`."""
        kinds = await self._services.outlet.run(self._list_kinds, _parse(request.path_params["cid"]))
        record = indexing.answer_routing(self._services.peer, self._addresses, kinds)
        headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=300", "Vary": "Accept"}
        if _NDJSON in request.headers.get("accept", ""):
            return Response(indexing.dump_lines([record]), 200, headers, _NDJSON)
        return JSONResponse({"Providers": [record]}, headers=headers)

    def _list_kinds(self, cid: Cid) -> list[int]:
        """How something is served here. Raises Refused (404) when it is not."""
        catalog, kinds = self._services.catalog, list[int]()
        if cid not in self._services.denied:
            if catalog.find_holders(cid.multihash):
                kinds.append(indexing.GATEWAY_HTTP)
            if is_piece(cid) and catalog.find_piece(cid):
                kinds.append(indexing.PIECE_HTTP)
        if not kinds:
            raise Refused(404, f"{cid} is not here")
        return kinds

    async def status(self, request: Request) -> Response:
        """Datasets with prices, and how they are paid for; what readers paid is for the operator alone to see."""
        s = self._services
        datasets = await s.outlet.run(s.catalog.list_all)
        listed = [describe_dataset(each) | {"path": None} for each in datasets if each.root not in s.denied]
        seller: dict[str, Any] | None = None
        if s.seller is not None:
            schemes = [VOUCHER] if s.seller.domain is None else [EXACT, VOUCHER]
            seller = {"chain_id": s.seller.currency.chain_id, "asset": s.seller.currency.token, "schemes": schemes}
            seller |= {"payee": s.seller.payee, "pay": s.seller.pay, "operator": s.seller.operator}
        return JSONResponse({"peer": s.peer, "url": s.base_url, "seller": seller, "datasets": listed})

    async def health(self, request: Request) -> Response:
        """200 while the records can be read."""
        await self._services.outlet.run(self._services.catalog.list_all)
        return JSONResponse({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        s = self._services
        gauges = await s.outlet.run(measure, s.catalog, s.desk.till if s.desk is not None else None)
        return Response(s.tally.render(gauges), media_type=CONTENT_TYPE)


def measure(catalog: Catalog, till: Till | None) -> dict[str, tuple[str, float]]:
    """Gauges; amounts in base units, as near as a float comes."""
    rails = till.list_rails() if till is not None else []
    sums = sum_rails(rails)
    gauges: dict[str, tuple[str, float]] = {
        "datasets": ("Datasets on sale, or free.", len(catalog.list_all())),
        "rails": ("Rails on which a voucher was taken.", len(rails)),
        "chunks": ("Chunks that were paid for.", till.count_chunks() if till is not None else 0),
    }
    texts = {"taken": "Vouchers taken", "delivered": "Price of what was sent", "owed": "Vouchers not redeemed yet"}
    return gauges | {name: (f"{text}, in base units.", float(sums[name])) for name, text in texts.items()}


def sum_rails(rails: list[RailAccount]) -> dict[str, int]:
    """Base units over all rails."""
    return {
        "taken": sum(each.best.voucher.cumulative for each in rails),
        "delivered": sum(each.delivered for each in rails),
        "redeemed": sum(each.redeemed for each in rails),
        "owed": sum(each.owed for each in rails if not each.is_over),
        "lost": sum(each.owed for each in rails if each.is_over),
    }


def describe_dataset(dataset: Dataset) -> dict[str, Any]:
    """A dataset as JSON values; the price as decimal text."""
    return {
        "root": str(dataset.root),
        "piece": str(dataset.piece.v2),
        "piece_v1": str(dataset.piece.v1),
        "piece_bytes": dataset.piece.size_bytes,
        "padded_bytes": dataset.piece.padded_bytes,
        "car_bytes": dataset.car_size,
        "kind": str(dataset.kind),
        "path": dataset.path or None,
        "price_per_mib": str(dataset.price_per_mib),
    }


def describe_till(till: Till) -> dict[str, Any]:
    """Rails and single payments as JSON values; amounts as decimal text."""
    rails = till.list_rails()
    singles = {str(state): till.list_singles(state) for state in SingleState}
    counts = {state: len(found) for state, found in singles.items()}
    return {
        "rails": [describe_rail(each) for each in rails],
        "sums": {name: str(value) for name, value in sum_rails(rails).items()},
        "chunks": till.count_chunks(),
        "single_payments": counts | {"sum": str(sum(each.transfer.value for each in singles["settled"]))},
    }


def parse_multihash(text: str) -> Cid:
    """A CID with a multihash that is given in hex, base58 or any multibase. Raises Refused (400)."""
    import libipld

    for spelled in (text, f"z{text}", f"f{text}"):
        try:
            _, raw = libipld.decode_multibase(spelled[:512])
            return Cid.parse(bytes((1, RAW)) + bytes(raw))
        except (ValueError, DataError):
            continue
    raise Refused(400, f"{text[:80]!r} is no multihash")


def _parse(text: str) -> Cid:
    try:
        return Cid.parse(text)
    except DataError as error:
        raise Refused(400, str(error)) from None
