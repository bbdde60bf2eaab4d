"""Answering other nodes over libp2p: what they bring goes over the node's desk, as it would by HTTP.

Only nodes of staked operators are heard, each at a rate. Whatever they send is taken or refused with a word for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel
from pydantic import ValidationError as SchemaError

from quorate.messages import (
    ErrorDetail,
    ExtensionMessage,
    LogsQuery,
    MailMessage,
    Message,
    OrderMessage,
    StatusAnswer,
    StatusQuery,
)
from quorate.protocol.errors import QuorateError
from quorate_node.desk import Desk, describe_refusal
from quorate_node.joblog import JobLog
from quorate_node.mailbox import KINDS
from quorate_node.p2p.port import PeerId, PeerNetwork
from quorate_node.p2p.wire.limits import Buckets, Rate
from quorate_node.p2p.wire.messages import (
    REQUESTS,
    Taken,
    open_request,
    seal,
)
from quorate_node.p2p.wire.network import NetworkName, WireError

RATE = Rate(50.0, 500.0)
"""Requests of one peer; a request of mail carries up to 256 letters."""
QUESTION_RATE = Rate(1.0, 20.0)
"""Questions about status and logs, which cost more to answer than to ask."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a node can be asked besides what its desk takes."""

    describe_status: Callable[[], Awaitable[Mapping[str, Any]]]
    logs: JobLog


class PeerService:
    """Serves a node's desk to its peers; `is_staked` says whether an identity is that of a staked operator's node."""

    def __init__(
        self, network: PeerNetwork, name: NetworkName, desk: Desk, answers: Answers, is_staked: Callable[[str], bool]
    ) -> None:
        self._network, self._name, self._desk, self._answers = network, name, desk, answers
        self._is_staked = is_staked
        self._rate, self._questions = Buckets(RATE), Buckets(QUESTION_RATE)
        self.counts: Counter[str] = Counter()
        """Requests that were taken, and refusals by their word."""

    async def start(self) -> None:
        """Answer from now on."""
        for kind in (*KINDS, "mail", "orders", "extensions", "status", "logs"):
            protocol = self._name.name_protocol(kind)
            await self._network.serve(protocol, partial(self._answer, kind), REQUESTS[kind].max_bytes)

    async def _answer(self, kind: str, peer: PeerId, data: bytes) -> bytes:
        refusal = self._find_objection(kind, peer)
        if refusal is None:
            try:
                answer = await self._take(kind, open_request(self._name, kind, data))
                self.counts[kind] += 1
                return seal(self._name, answer)
            except WireError as error:
                refusal = ErrorDetail(type=error.code, message=str(error))
            except (SchemaError, QuorateError) as error:
                refusal = describe_refusal(error)
                assert refusal is not None
        self.counts[f"refused: {refusal.type}"] += 1
        return seal(self._name, None, refusal)

    def _find_objection(self, kind: str, peer: PeerId) -> ErrorDetail | None:
        if not self._is_staked(peer):
            return ErrorDetail(type="UNSTAKED", message="no record of a staked operator names you: tell yours")
        now = asyncio.get_running_loop().time()
        buckets = self._questions if kind in ("status", "logs") else self._rate
        if not buckets.take(peer, now):
            return ErrorDetail(type="RATE", message="asked too often: wait some seconds")
        return None

    async def _take(self, kind: str, message: Message) -> BaseModel:
        match message:
            case MailMessage():
                return await self._desk.take_mail(message)
            case OrderMessage():
                return await self._desk.take_order(message, is_passed_on=True)
            case ExtensionMessage():
                await self._desk.take_extension(message, is_passed_on=True)
            case StatusQuery():
                return StatusAnswer(status=dict(await self._answers.describe_status()))
            case LogsQuery():
                return self._answers.logs.answer(message)
            case _:
                self._desk.take(message)
        return Taken()
