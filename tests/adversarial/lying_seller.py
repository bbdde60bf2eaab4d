"""Providers that break their word, each in one way. Only tests run them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.adversarial.selling import Asked, Item, Seller, reply

from quorate.filecoin.terms import Offer, VoucherOffer

ChangeOffer = Callable[[dict[str, Any]], None]


class Editing(Seller):
    """Its 402 says what `edit` makes of each offer."""

    def __init__(self, edit: ChangeOffer, *, is_exact: bool = False) -> None:
        super().__init__(is_exact=is_exact)
        self.edit = edit

    def change_header(self, header: str) -> str:
        values = json.loads(base64.b64decode(header))
        for each in values["accepts"]:
            self.edit(each)
        return base64.b64encode(json.dumps(values).encode()).decode()


class Garbled(Seller):
    """Its 402 is not what x402 writes."""

    def __init__(self, garble: Callable[[str], str]) -> None:
        super().__init__()
        self.garble = garble

    def change_header(self, header: str) -> str:
        return self.garble(header)


class Swapped(Seller):
    """Its 402 is for something else than what was asked for."""

    def make_resource(self, path: str) -> str:
        return self.url + path[:-1] + "q"


class WrongNodes(Seller):
    """Its nodes are not those of the piece."""

    def change_nodes(self, nodes: bytes) -> bytes:
        return nodes[:40] + bytes(1) + nodes[41:]


class FromChunk(Seller):
    """Honest up to a chunk, that a voucher was paid for."""

    def __init__(self, chunk: int = 1) -> None:
        super().__init__()
        self.first = chunk * 1_040_384

    def is_turn(self, asked: Asked) -> bool:
        return asked.is_paid and asked.range is not None and asked.range[0] >= self.first


class Raising(FromChunk):
    """Raises its price in mid-stream."""

    def before_paid(self, handler: BaseHTTPRequestHandler, asked: Asked) -> bool:
        if not self.is_turn(asked):
            return False
        item = self.items[asked.path]
        self.demand(handler, asked.path, replace(item, price=2 * item.price), "the price went up")
        return True


class Refusing(FromChunk):
    """Takes a voucher, and says that it does not."""

    def before_paid(self, handler: BaseHTTPRequestHandler, asked: Asked) -> bool:
        if not self.is_turn(asked):
            return False
        self.demand(handler, asked.path, self.items[asked.path], "signature")
        return True


class Answering(FromChunk):
    """Takes the payment, and answers with another status, as 404."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__()
        self.status, self.headers = status, headers or {}

    def before_paid(self, handler: BaseHTTPRequestHandler, asked: Asked) -> bool:
        if not self.is_turn(asked):
            return False
        reply(handler, self.status, self.headers, b"")
        return True


class Sending(FromChunk):
    """Takes the payment, and sends what `change` makes of a chunk."""

    def __init__(self, change: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self.change = change

    def change_body(self, asked: Asked, body: bytes) -> bytes:
        return self.change(body) if self.is_turn(asked) else body


class Stalling(FromChunk):
    """Takes the payment, sends a little, and then nothing, or a byte now and then (`is_dripping`)."""

    def __init__(self, seconds: float, *, is_dripping: bool = False) -> None:
        super().__init__()
        self.seconds, self.is_dripping = seconds, is_dripping

    def before_paid(self, handler: BaseHTTPRequestHandler, asked: Asked) -> bool:
        if not self.is_turn(asked) or asked.range is None:
            return False
        handler.send_response(206)
        handler.send_header("Content-Length", str(asked.range[1] + 1 - asked.range[0]))
        handler.end_headers()
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            if self.is_dripping:
                handler.wfile.write(b"x")
            time.sleep(0.05)
        handler.close_connection = True
        return True


class Redirecting(Seller):
    """Redirects whoever asks, to where `target` says; those who pay, if `is_paid`."""

    def __init__(self, target: str, *, is_paid: bool = False) -> None:
        super().__init__()
        self.target, self.is_paid = target, is_paid

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self.is_paid:
            super().answer(handler)
        else:
            reply(handler, 302, {"Location": self.target}, b"")

    def before_paid(self, handler: BaseHTTPRequestHandler, asked: Asked) -> bool:
        reply(handler, 302, {"Location": self.target}, b"")
        return True


class ForeignCar(Seller):
    """Sells a piece as the CAR of a DAG that it is not."""

    def make_offers(self, path: str, item: Item) -> list[Offer]:
        return [each for each in super().make_offers(path, item) if isinstance(each, VoucherOffer)]
