"""A retrieval provider that is killed at one step: `killed_provider.py STEP filecoin-provider run …`.

It is the shipped one, whose process ends by SIGKILL just before or just after it does what the step names.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from starlette.types import Receive, Scope, Send

from quorate.filecoin import rails
from quorate_node.cli.main import main
from quorate_node.filecoin.provider.sending import PromptResponse
from quorate_node.filecoin.provider.till import Till


def die(*_: Any, **__: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process goes on")


def die_after(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **options: Any) -> Any:
        function(*args, **options)
        die()

    return run


async def send_half(self: PromptResponse, scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
    await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})
    die()


STEPS: dict[str, tuple[object, str, Callable[..., Any]]] = {
    "before a voucher is kept": (Till, "take", die),
    "after a voucher was kept": (Till, "take", die_after(Till.take)),
    "in the middle of a chunk": (PromptResponse, "__call__", send_half),
    "before a voucher is redeemed": (rails, "redeem", die),
    "after a voucher was redeemed": (rails, "redeem", die_after(rails.redeem)),
    "before a payment is noted": (Till, "begin_single", die),
    "after a payment was noted": (Till, "begin_single", die_after(Till.begin_single)),
    "before a payment is sent": (rails, "transfer", die),
    "after a payment was sent": (rails, "transfer", die_after(rails.transfer)),
    "after a payment was settled": (Till, "end_single", die_after(Till.end_single)),
}


if __name__ == "__main__":
    owner, name, changed = STEPS[sys.argv[1]]
    setattr(owner, name, changed)
    main(sys.argv[2:])
