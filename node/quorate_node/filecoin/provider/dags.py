"""`/ipfs`: the project's trustless gateway, with a till before it."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from starlette.requests import Request
from starlette.responses import Response

from quorate.filecoin import x402
from quorate.filecoin.terms import MAX_EXACT_BYTES, Offer, PaymentRequired, Resource, VoucherOffer, WireError
from quorate.filecoin.x402 import ExactPayment
from quorate.protocol.errors import DataError
from quorate.storage import car
from quorate.storage.base import BlockNotFound
from quorate.storage.cid import RAW
from quorate.storage.denylist import Denied
from quorate.storage.gateway import gateway_routes
from quorate.storage.gateway_request import Refused, Wanted, parse
from quorate.storage.reader import resolve_all
from quorate.storage.traversal import PathNotFound, Traversal
from quorate_node.filecoin.provider.app import Services, demand, get_host, get_seller, get_url
from quorate_node.filecoin.provider.catalog import Dataset, measure_section
from quorate_node.filecoin.provider.railbook import PaymentRefused

MAX_MEASURED = 1024


class Dags:
    """Only what is in the DAG of a dataset is there at all; its price is that of the cheapest that holds the root."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._free = gateway_routes(services.store, services.denied)[0].endpoint
        self._get = services.denied.guard(services.store.get)
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._lock = Lock()

    async def answer(self, request: Request) -> Response:
        """A block or a CAR, or what it costs."""
        s, params = self._services, request.path_params
        accept = ",".join(request.headers.getlist("accept"))
        wanted = parse(params["cid"], params.get("path", ""), request.query_params, accept)
        holders = await s.outlet.run(s.catalog.find_servers, wanted.cid)
        if not holders:
            raise Refused(404, f"{wanted.cid} is not here; ask another provider")
        if holders[0].is_free:
            return await self._give(request)
        get_seller(s)
        if wanted.cid in s.denied:
            raise Refused(410, f"the operator of this provider does not serve {wanted.cid}; ask another")
        size = await s.outlet.run(self._measure, wanted, holders[0])
        header = request.headers.get(x402.SIGNATURE)
        if request.method == "HEAD" or header is None:
            return self._demand(request, wanted, holders, size, "payment required")
        try:
            return await self._sell(request, wanted, holders, size, header)
        except (PaymentRefused, WireError) as error:
            s.tally.count("payments", "refused")
            return self._demand(request, wanted, holders, size, str(error))

    async def _give(self, request: Request) -> Response:
        response: Response = await self._free(request)
        return response

    async def _sell(self, request: Request, wanted: Wanted, holders: list[Dataset], size: int, header: str) -> Response:
        s = self._services
        seller, desk = get_seller(s)
        payment = x402.parse_payment(header)
        if not isinstance(payment, ExactPayment):
            raise PaymentRefused("vouchers pay for pieces: read the one that extra.piece names, where there is one")
        s.outlet.check_room(get_host(request))
        offer = seller.make_exact(size, holders[0].price_per_mib)
        settled = await s.outlet.run_slow(desk.take_single, payment, offer, wanted.location, size)
        s.tally.count("payments", "single")
        response = await self._give(request)
        response.headers[x402.RESPONSE] = x402.encode_settlement(settled)
        response.headers["Cache-Control"] = "private, max-age=29030400, immutable"
        return response

    def _demand(self, request: Request, wanted: Wanted, holders: list[Dataset], size: int, error: str) -> Response:
        s = self._services
        seller, _ = get_seller(s)
        offers: list[Offer] = []
        if (exact := seller.make_exact(size, holders[0].price_per_mib)) is not None:
            offers.append(exact)
        whole = [each for each in holders if each.is_dag and each.root.to_v1() == wanted.cid.to_v1()]
        if whole and wanted.format == "car" and not wanted.path:
            piece = str(whole[0].piece.v2)
            terms = seller.make_terms(whole[0], piece, int(s.clock()))
            offers.append(VoucherOffer.of(terms, seller.timeout_s, piece))
        if not offers:
            raise Refused(
                413, f"{size} bytes and more are not sold in one payment: read the piece {holders[0].piece.v2}"
            )
        kind = wanted.content_type.partition(";")[0]
        resource = Resource(get_url(s, request), f"{wanted.format} of {wanted.content_path[:200]}", kind)
        return demand(PaymentRequired(resource, tuple(offers), error))

    def _measure(self, wanted: Wanted, dataset: Dataset) -> int:
        """Bytes of an answer, counted up to a little more than is sold in one payment. Raises Refused.

        Where anything is denied, it is looked for each time: what is not served must not be paid for.
        """
        is_denying = len(self._services.denied) > 0
        is_all = wanted.scope == "all" and not wanted.path and wanted.byte_range is None and not wanted.dups
        if wanted.format == "car" and is_all and wanted.cid == dataset.root and not is_denying:
            return dataset.car_size
        with self._lock:
            if (known := self._sizes.get(wanted.location)) is not None and not is_denying:
                return known
        try:
            self._check_path(wanted)
            size = self._measure_raw(wanted) if wanted.format == "raw" else self._measure_car(wanted)
        except BlockNotFound as error:
            raise Refused(404, f"{error.cid} is not here; ask another provider") from None
        except Denied as error:
            raise Refused(410, str(error)) from None
        except PathNotFound as error:
            raise Refused(404, str(error)) from None
        except DataError as error:
            raise Refused(400, str(error)) from None
        with self._lock:
            self._sizes[wanted.location] = size
            if len(self._sizes) > MAX_MEASURED:
                self._sizes.popitem(last=False)
        return size

    def _check_path(self, wanted: Wanted) -> None:
        for cid in resolve_all(self._get, wanted.cid, wanted.path) if wanted.path else ():
            self._services.denied.check(cid)

    def _measure_raw(self, wanted: Wanted) -> int:
        target = resolve_all(self._get, wanted.cid, wanted.path)[-1] if wanted.path else wanted.cid
        return len(self._get(target))

    def _measure_car(self, wanted: Wanted) -> int:
        store, size = self._services.store, len(car.encode_header(wanted.cid))
        walk = Traversal(
            wanted.cid, path=wanted.path, scope=wanted.scope, byte_range=wanted.byte_range, dups=wanted.dups
        )
        while (cid := walk.wanted) is not None and size <= MAX_EXACT_BYTES:
            self._services.denied.check(cid)
            length = store.size(cid)
            if cid.codec == RAW and length is not None and wanted.scope == "all":
                block = b""  # it has no links: no need to read it
            else:
                block = self._get(cid)
                length = len(block)
            size += measure_section(cid, length)
            walk.accept(block)
        return size
