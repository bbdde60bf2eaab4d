"""A node among others: by which ways it reaches them, what it hears of them, and what they may ask of it.

With libp2p messages go over it first, and by HTTP where it does not get there, unless the operator wants one way alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quorate.chain.account import SigningAccount
from quorate.chain.types import Deployment
from quorate.protocol.errors import QuorateError
from quorate.protocol.types import ZERO32, Address, SignedOrder
from quorate_node.collator import Collator
from quorate_node.config import NodeConfig
from quorate_node.core.state import State
from quorate_node.core.views import ChainView
from quorate_node.desk import Desk
from quorate_node.hints import BatchHints, Hints
from quorate_node.http_messaging import HttpMessenger
from quorate_node.joblog import JobLog
from quorate_node.logs import get_logger
from quorate_node.messaging import Route

if TYPE_CHECKING:
    from quorate_node.p2p.announcing import Announcer
    from quorate_node.p2p.carrying import PeerCarrier
    from quorate_node.p2p.membership import Membership
    from quorate_node.p2p.serving import PeerService

HTTP, P2P = "http", "p2p"
MAX_POSTERS = 16
"""Collators that are known from the chain alone."""


@dataclass(frozen=True, slots=True)
class Counterpart:
    """What others get of this node; `hints` are those of its collator, `block_s` says how far apart blocks are."""

    desk: Desk
    collator: Collator | None
    hints: Hints
    log: JobLog
    get_state: Callable[[], State]
    describe_status: Callable[[], Awaitable[Mapping[str, Any]]]
    block_s: Callable[[], float]


class Neighbours:
    """All other nodes, as far as this one deals with them. `is_dry`: it has no part in their talk."""

    def __init__(
        self, config: NodeConfig, deployment: Deployment, view: ChainView, keys: Sequence[SigningAccount], *,
        is_local: bool, is_dry: bool,
    ) -> None:  # fmt: skip
        self._config, self._view = config, view
        self._log = get_logger()
        self.get_roots: Callable[[], bytes] = lambda: ZERO32
        """Digest of the datasets that are whole here, for the node's record."""
        self.membership: Membership | None = None
        self._carrier: PeerCarrier | None = None
        self._service: PeerService | None = None
        self._announcer: Announcer | None = None
        self._batch_hints = BatchHints()
        if config.p2p_listen is not None and not is_dry:
            self._found_membership(deployment, keys, is_local=is_local)
        self.messenger = HttpMessenger(
            view, is_local=is_local, find_url=self._find_url, find_peer=self._find_peer,
            carriers=list(filter(None, (self._carrier,))), is_mail=HTTP in config.message_ways,
        )  # fmt: skip

    def _found_membership(self, deployment: Deployment, keys: Sequence[SigningAccount], *, is_local: bool) -> None:
        from quorate_node.p2p.carrying import PeerCarrier
        from quorate_node.p2p.membership import Membership  # schemas take a while to import
        from quorate_node.p2p.wire.network import NetworkName

        name = NetworkName(deployment.chain_id, deployment.market)
        self.membership = Membership(self._config, name, self._view, keys, is_local=is_local, get_roots=self._get_roots)
        if P2P in self._config.message_ways:
            self._carrier = PeerCarrier(self.membership.network, name, self.membership.discovery)

    def _get_roots(self) -> bytes:
        return self.get_roots()

    def _find_url(self, owner: Address) -> str | None:
        return self.membership.find_url(owner) if self.membership else None

    def _find_peer(self, owner: Address) -> str | None:
        return self.membership.find_peer(owner) if self.membership and self._carrier else None

    # what they get ------------------------------------------------------------------------------------------------

    def attach(self, counterpart: Counterpart, deployment: Deployment) -> None:
        """Say what others may ask of this node; before `run`."""
        if self.membership is None:
            return
        from quorate_node.p2p.announcing import Announcer, Work
        from quorate_node.p2p.serving import Answers, PeerService
        from quorate_node.p2p.wire.network import NetworkName

        known, c = self.membership, counterpart
        name = NetworkName(deployment.chain_id, deployment.market)
        answers = Answers(c.describe_status, c.log)
        self._service = PeerService(
            known.network, name, c.desk, answers, lambda peer: known.find_author(peer) is not None
        )
        work = Work(c.get_state, c.collator, c.hints, self._batch_hints, known.find_author, c.block_s)
        self._announcer = Announcer(known.network, name, work)

    async def run(self, on_url: Callable[[str], None]) -> None:
        """Until cancelled. Where libp2p cannot start, work goes on by the chain and HTTP."""
        if self.membership is None or self._service is None or self._announcer is None:
            return
        await self._service.start()
        await self._announcer.start()
        announcing = asyncio.create_task(self._announcer.run())
        try:
            await self.membership.run(on_url)
        except QuorateError as error:
            self._log.error("libp2p is not used", error=str(error))
        finally:
            announcing.cancel()
            await asyncio.gather(announcing, return_exceptions=True)

    def tell_order(self, signed: SignedOrder, providers: Sequence[str]) -> None:
        """The own collator has taken an order: others stand by for it."""
        if self._announcer is not None:
            self._announcer.tell_order(signed, providers)

    # what they know -----------------------------------------------------------------------------------------------

    def find_collators(self) -> list[Route]:
        """Where orders can be handed on: nodes that say so in their records, and who has posted lately."""
        said = self.membership.list_collators() if self.membership else []
        found = (self.messenger.find_route_to(each) for each in [*said, *self._list_posters()])
        return [each for each in dict.fromkeys(found) if each is not None and each.url != self._config.url]

    def _list_posters(self) -> list[Address]:
        batches = self._view.batches
        newest = (batches[id_].collator for id_ in sorted(batches, reverse=True))
        return list(dict.fromkeys(newest))[:MAX_POSTERS]

    def find_providers(self, job_id: bytes) -> Iterator[str]:
        """Gateways with a job's input, by the word of the collators that posted it."""
        if self.membership is None:
            return
        for batch in list(self._view.batches.values()):
            if any(bundle.job_id == job_id for bundle in batch.bundles.values()):
                operator = self._view.operators.get(self._view.operator_by_address.get(batch.collator, 0))
                yield from self._batch_hints.find(batch.id, [operator.owner] if operator else [])

    def guess_holders(self, cid: str) -> Sequence[str]:
        """Nodes that may have a dataset whole, by their records."""
        return self.membership.find_holders(cid) if self.membership else ()

    def describe(self) -> dict[str, Any] | None:
        """How it is doing, as JSON values; None without libp2p."""
        if self.membership is None:
            return None
        carrier, service, announcer = self._carrier, self._service, self._announcer
        return self.membership.describe() | {
            "messages": {"sent": carrier.sent, "failed": carrier.failed} if carrier else {},
            "answered": dict(service.counts) if service else {},
            "announcements": announcer.counts if announcer else {},
        }
