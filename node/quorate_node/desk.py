"""What others bring to a node, by HTTP or by libp2p: orders, extensions, mail. One door, the same checks.

A node that does not collate hands orders on to one that does, so a requester may bring them to any node.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError as SchemaError

from quorate.messages import (
    ErrorDetail,
    ExtensionMessage,
    Letter,
    MailAnswer,
    MailMessage,
    Message,
    OrderAccepted,
    OrderMessage,
)
from quorate.protocol.errors import Busy, QuorateError, RecoverableError, ValidationError
from quorate.protocol.types import SignedOrder
from quorate_node.collator import Collator, NoBond
from quorate_node.core.intake import OrderRefused
from quorate_node.core.mailroom import MessageRefused
from quorate_node.core.state import SignedExtension
from quorate_node.mailbox import KINDS, Mailbox
from quorate_node.messaging import NEXT_WAY_CODES, Messenger, Route, Undelivered

MAX_ASKED = 4  # collators that an order is offered to
NOT_A_COLLATOR = "NOT_A_COLLATOR"
NO_BOND = "NO_BOND"
NEXT_COLLATOR_CODES = NEXT_WAY_CODES | {NOT_A_COLLATOR, NO_BOND}


class NoCollator(RecoverableError):
    """This node takes no orders, and none that does answers it."""


class Starting(RecoverableError):
    """The chain is not read yet."""


def describe_refusal(error: Exception) -> ErrorDetail | None:
    """Why something was not taken, for the sender; None for what is our own fault."""
    match error:
        case OrderRefused() | MessageRefused():
            return ErrorDetail(type=error.code, message=str(error))
        case SchemaError():
            return ErrorDetail(type="MALFORMED", message=describe_schema_error(error))
        case Busy():
            return ErrorDetail(type="BUSY", message=str(error))
        case NoBond():
            return ErrorDetail(type=NO_BOND, message=str(error))
        case Starting():
            return ErrorDetail(type="STARTING", message=str(error))
        case QuorateError():
            return ErrorDetail(type=type(error).__name__, message=str(error))
    return None


def describe_schema_error(error: SchemaError) -> str:
    """The first thing that is wrong."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


@dataclass(slots=True)
class Forwarding:
    """Hands orders on to collators, as `find_collators` knows them now."""

    messenger: Messenger
    find_collators: Callable[[], Sequence[Route]]

    async def forward(self, kind: str, message: Message) -> bytes:
        """The answer of the first collator that takes it. Raises OrderRefused as that one does, NoCollator."""
        routes = list(self.find_collators())
        random.shuffle(routes)  # none of them gets all orders
        problems = []
        for route in routes[:MAX_ASKED]:
            try:
                return await self.messenger.ask(route, kind, message)
            except Undelivered as error:
                if error.code not in NEXT_COLLATOR_CODES:
                    raise OrderRefused(error.code, str(error)) from error
                problems.append(str(error))
        known = "; ".join(problems) or "it knows of none"
        raise NoCollator(f"this node takes no orders, and no collator takes it from here ({known}): try another node")


@dataclass(slots=True)
class Desk:
    """Where a node takes what others bring. `on_taken` hears of orders that this node's collator has taken."""

    mailbox: Mailbox
    collator: Collator | None
    forwarding: Forwarding
    is_ready: Callable[[], bool] = lambda: True
    count_order: Callable[[str], None] = lambda outcome: None
    on_taken: Callable[[SignedOrder, Sequence[str]], None] = lambda signed, providers: None

    async def take_order(self, message: OrderMessage, *, is_passed_on: bool = False) -> OrderAccepted:
        """Queue an order, or hand it on unless another node has done so. Raises OrderRefused and others, with why."""
        if self.collator is None:
            self._check_first(is_passed_on)
            return OrderAccepted.model_validate_json(await self.forwarding.forward("orders", message))
        if not self.is_ready():
            raise Starting("this node has not read the chain yet: try again in a moment")
        try:
            signed = message.to_signed()
            job_id = await self.collator.accept(signed, message.providers)
        except OrderRefused as error:
            self.count_order(error.code)
            raise
        except NoBond as shortage:
            self.count_order(NO_BOND)
            return await self._hand_on(message, shortage, is_passed_on=is_passed_on)
        except ValidationError:
            self.count_order("MALFORMED")
            raise
        self.count_order("ACCEPTED")
        self.on_taken(signed, message.providers)
        return OrderAccepted(job_id=f"0x{job_id.hex()}")

    async def _hand_on(self, message: OrderMessage, shortage: NoBond, *, is_passed_on: bool) -> OrderAccepted:
        """Give an order to another collator, once; raises why it is not taken here where no other takes it."""
        if is_passed_on:
            raise shortage
        try:
            return OrderAccepted.model_validate_json(await self.forwarding.forward("orders", message))
        except NoCollator as nobody:
            raise shortage from nobody

    async def take_extension(self, message: ExtensionMessage, *, is_passed_on: bool = False) -> None:
        """Queue an extension, or hand it on. Raises OrderRefused and others, with why."""
        if self.collator is None:
            self._check_first(is_passed_on)
            await self.forwarding.forward("extensions", message)
            return
        m = message
        extension = SignedExtension(m.batch_id, tuple(m.bundles), m.round, m.rounds, m.signature)
        self.collator.accept_extension(extension)

    @staticmethod
    def _check_first(is_passed_on: bool) -> None:
        if is_passed_on:  # else two nodes could send it to and fro
            raise OrderRefused(NOT_A_COLLATOR, "this node takes no orders: send them to one that does")

    def take(self, message: Message) -> None:
        """Take one message of a node. Raises MessageRefused, or ValidationError for one that makes no sense."""
        self.mailbox.take(message)

    async def take_mail(self, mail: MailMessage) -> MailAnswer:
        """Many messages between nodes, each taken or refused by itself."""
        refused: list[ErrorDetail | None] = []
        for letter in mail.letters:
            refused.append(self._take_letter(letter))
            await asyncio.sleep(0)  # signatures are checked here: others get their turn
        return MailAnswer(refused=refused)

    def _take_letter(self, letter: Letter) -> ErrorDetail | None:
        model = KINDS.get(letter.kind)
        if model is None:
            return ErrorDetail(type="MALFORMED", message="there is no such kind of message")
        try:
            self.mailbox.take(model.model_validate_json(letter.body))
        except (SchemaError, ValidationError) as error:
            return describe_refusal(error)
        return None
