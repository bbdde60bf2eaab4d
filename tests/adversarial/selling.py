"""A provider of paid pieces and DAGs that keeps its word, and what it takes to let it break it: see `lying_seller`.

It speaks the same wire as the shipped provider and keeps its books in memory: every voucher and payment that reached it
is kept, which is what the tests add up. Rails are numbers that `FixedRails` gives out.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from quorate.filecoin.payments import PaymentSigner, SignedTransfer, SignedVoucher, TokenDomain
from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.piecetree import CHUNK_BYTES, compute_piece
from quorate.filecoin.retrieval.paying import TooLittleMoney
from quorate.filecoin.spending import Currency
from quorate.filecoin.terms import ExactOffer, Offer, PaymentRequired, Resource, Terms, VoucherOffer, compute_price
from quorate.filecoin.x402 import (
    REQUIRED,
    RESPONSE,
    SIGNATURE,
    Settlement,
    VoucherPayment,
    encode_required,
    encode_settlement,
    parse_payment,
)

CURRENCY = Currency(31415926, "0x" + "11" * 20)
OPERATOR, PAY, PAYEE = "0x" + "22" * 20, "0x" + "44" * 20, "0x" + "33" * 20
FAR = 2**40
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@cache
def _compute_tree(data: bytes) -> tuple[PieceCid, bytes]:
    nodes: list[bytes] = []
    piece = compute_piece([data], on_node=nodes.append)
    return piece, b"".join(nodes)


@dataclass(slots=True)
class Item:
    """Something for sale under a path; `nodes` of its tree where it is a piece."""

    data: bytes
    piece: PieceCid
    nodes: bytes
    price: int
    hint: str = ""

    @classmethod
    def of(cls, data: bytes, price: int) -> Item:
        return cls(data, *_compute_tree(data), price)


@dataclass(slots=True)
class Asked:
    """One request, as the provider saw it."""

    method: str
    path: str
    range: tuple[int, int] | None
    voucher: SignedVoucher | None = None
    transfer: SignedTransfer | None = None

    @property
    def is_paid(self) -> bool:
        return self.voucher is not None or self.transfer is not None


class Seller:
    """Serves at `url`. What subclasses change are the hooks below `answer`; `asked` is everything that came."""

    def __init__(self, *, payee: str = PAYEE, is_exact: bool = False) -> None:
        self.items: dict[str, Item] = {}
        self.payee, self.is_exact = payee, is_exact
        self.asked: list[Asked] = []
        self.delivered: dict[int, int] = defaultdict(int)  # base units, by rail
        self.served: dict[tuple[int, bytes], set[int]] = defaultdict(set)  # chunks by rail and terms
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    # what tests add up --------------------------------------------------------------------------------------------

    @property
    def best(self) -> dict[int, int]:
        """What each rail could be redeemed for."""
        found: dict[int, int] = defaultdict(int)
        for each in self.asked:
            if each.voucher is not None:
                voucher = each.voucher.voucher
                found[voucher.rail_id] = max(found[voucher.rail_id], voucher.cumulative)
        return dict(found)

    @property
    def redeemable(self) -> int:
        """All that this provider could ever get: vouchers, and single payments each once."""
        once = {each.transfer.nonce: each.transfer.value for each in self.asked if each.transfer is not None}
        return sum(self.best.values()) + sum(once.values())

    # what is for sale ---------------------------------------------------------------------------------------------

    def add_piece(self, data: bytes, price: int) -> PieceCid:
        """Sell bytes as a piece, for so many base units a MiB."""
        item = Item.of(data, price)
        self.items[f"/piece/{item.piece.v2}"] = item
        return item.piece

    def add_car(self, root: str, car: bytes, price: int, *, is_piece: bool = True) -> PieceCid:
        """Sell a DAG by its root, and with `is_piece` as the piece that its CAR is."""
        item = Item.of(car, price)
        self.items[f"/ipfs/{root}"] = replace(item, hint=str(item.piece.v2) if is_piece else "")
        if is_piece:
            self.items[f"/piece/{item.piece.v2}"] = item
        return item.piece

    # hooks --------------------------------------------------------------------------------------------------------

    def make_offers(self, path: str, item: Item) -> list[Offer]:
        """What a 402 for something lists."""
        size, payee = len(item.data), self.payee
        offers: list[Offer] = []
        if self.is_exact:
            domain = TokenDomain("Devnet USD", "1")
            offers.append(ExactOffer(CURRENCY, compute_price(size, item.price), payee, 60, domain, size))
        terms = Terms(CURRENCY, payee, PAY, OPERATOR, item.price, path.rpartition("/")[2], size, FAR)
        return [*offers, VoucherOffer.of(terms, 60)]

    def make_resource(self, path: str) -> str:
        """`resource.url` of a 402."""
        return self.url + path

    def change_header(self, header: str) -> str:
        """PAYMENT-REQUIRED on its way out."""
        return header

    def before_paid(self, handler: BaseHTTPRequestHandler, asked: Asked) -> bool:
        """After a payment was taken; True where it has answered by itself."""
        return False

    def change_body(self, asked: Asked, body: bytes) -> bytes:
        """What is sent for a request; its length was announced."""
        return body

    def change_nodes(self, nodes: bytes) -> bytes:
        """The tree's nodes."""
        return nodes

    # serving ------------------------------------------------------------------------------------------------------

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """One request."""
        path = handler.path.partition("?")[0]
        found = _RANGE.fullmatch(handler.headers.get("range", ""))
        asked = Asked(str(handler.command), path, (int(found[1]), int(found[2])) if found else None)
        payment = parse_payment(handler.headers[SIGNATURE]) if handler.headers.get(SIGNATURE) else None
        if isinstance(payment, VoucherPayment):
            asked.voucher = payment.signed
        elif payment is not None:
            asked.transfer = payment.transfer
        with self.lock:
            self.asked.append(asked)
        if path.endswith("/nodes") and (item := self.items.get(path.removesuffix("/nodes"))) is not None:
            reply(handler, 200, {}, self.change_nodes(item.nodes))
        elif (item := self.items.get(path)) is None:
            reply(handler, 404, {}, b"not here")
        elif item.price and not asked.is_paid:
            self.demand(handler, path, item, "payment needed")
        else:
            self._sell(handler, asked, path, item)

    def demand(self, handler: BaseHTTPRequestHandler, path: str, item: Item, error: str) -> None:
        """402."""
        required = PaymentRequired(Resource(self.make_resource(path)), tuple(self.make_offers(path, item)), error)
        header = encode_required(required)
        if item.hint:
            header = _with_hint(header, item.hint)
        body = b"" if handler.command == "HEAD" else b'{"error":"%s"}' % error.encode()
        reply(handler, 402, {REQUIRED: self.change_header(header)}, body)

    def _sell(self, handler: BaseHTTPRequestHandler, asked: Asked, path: str, item: Item) -> None:
        first, last = asked.range or (0, len(item.data) - 1)
        last = min(last, len(item.data) - 1)
        if asked.voucher is not None and (problem := self._take(asked.voucher, first // CHUNK_BYTES, item)):
            self.demand(handler, path, item, problem)
            return
        if asked.is_paid and self.before_paid(handler, asked):
            return
        body = item.data[first : last + 1]
        headers = {
            "Content-Type": "application/vnd.ipld.car" if path.startswith("/ipfs") else "application/octet-stream"
        }
        status = 200
        if asked.range is not None:
            status = 206
            headers["Content-Range"] = f"bytes {first}-{last}/{len(item.data)}"
        if asked.transfer is not None:
            headers[RESPONSE] = encode_settlement(Settlement(CURRENCY.chain_id, asked.transfer.sender, b"\x01" * 32))
        headers["Content-Length"] = str(len(body))
        reply(handler, status, headers, self.change_body(asked, body))

    def _take(self, signed: SignedVoucher, chunk: int, item: Item) -> str:
        """Count a voucher, as the wire says; why it is refused."""
        voucher = signed.voucher
        rail, key = voucher.rail_id, (voucher.rail_id, voucher.terms_hash)
        with self.lock:
            if chunk in self.served[key]:
                return ""
            length = min(CHUNK_BYTES, len(item.data) - chunk * CHUNK_BYTES)
            due = self.delivered[rail] + compute_price(length, item.price)
            if voucher.cumulative < due:
                return f"cumulative {voucher.cumulative} is less than {due}"
            self.delivered[rail] = due
            self.served[key].add(chunk)
        return ""

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


def reply(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Send an answer whose length is that of its body, unless the headers say otherwise."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
        if len(body) != int({"Content-Length": len(body), **headers}["Content-Length"]):
            handler.close_connection = True


def _with_hint(header: str, piece: str) -> str:
    import base64
    import json

    values = json.loads(base64.b64decode(header))
    for each in values["accepts"]:
        if each["scheme"] == "quorate-voucher":
            each["extra"]["piece"] = piece
    return base64.b64encode(json.dumps(values).encode()).decode()


def _handler(seller: Seller) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            try:
                seller.answer(self)
            except (ConnectionError, TimeoutError):
                self.close_connection = True

        do_HEAD = do_GET  # noqa: N815  (the server's name for it)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


@dataclass(slots=True)
class FixedRails:
    """Rails in memory, numbered behind `first`, each of which can pay `lockup`; `opened` are the payees of those that
    there are."""

    lockup: int
    first: int = 0
    opened: list[str] = field(default_factory=list)
    tokens: int = 2**200
    problem: Exception | None = None

    def has_tokens(self, amount: int) -> bool:
        """As `quorate.filecoin.retrieval.paying.Rails`."""
        return amount <= self.tokens

    def choose(self, payee: str, needed: int, busy: Set[int]) -> int:
        """As `quorate.filecoin.retrieval.paying.Rails`."""
        if self.problem is not None:
            raise self.problem
        if needed > self.lockup:
            raise TooLittleMoney(f"{needed} base units are needed, and {self.lockup} are there: deposit more")
        for number, each in enumerate(self.opened, self.first + 1):
            if each == payee and number not in busy:
                return number
        self.opened.append(payee)
        return self.first + len(self.opened)


class CountingSigner(PaymentSigner):
    """Keeps what it signed."""

    def __init__(self, account: Any) -> None:
        super().__init__(account)
        self.vouchers: list[SignedVoucher] = []
        self.transfers: list[SignedTransfer] = []

    def sign_voucher(self, authorization: Any, terms_hash: bytes) -> SignedVoucher:
        self.vouchers.append(super().sign_voucher(authorization, terms_hash))
        return self.vouchers[-1]

    def sign_transfer(self, authorization: Any, domain: TokenDomain) -> SignedTransfer:
        self.transfers.append(super().sign_transfer(authorization, domain))
        return self.transfers[-1]

    @property
    def signed(self) -> int:
        """All that the signatures are worth, in base units: of each rail the best voucher."""
        best: dict[int, int] = defaultdict(int)
        for each in self.vouchers:
            best[each.voucher.rail_id] = max(best[each.voucher.rail_id], each.voucher.cumulative)
        return sum(best.values()) + sum({each.nonce: each.value for each in self.transfers}.values())
