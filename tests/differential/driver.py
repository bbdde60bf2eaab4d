"""Random actions of many parties, sent to the model and to a backend, and compared after each.

Each method takes a random generator, looks at the model's state for something to do, now and then spoils it on
purpose, and acts. What it learns it learns from events, as any third party would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.differential.actors import (
    COLLATORS,
    OUTSIDER,
    OWNERS,
    PARAMS,
    PRICE,
    REQUESTERS,
    SIGNERS,
    STAKE,
    UNIT_WEI,
    WALLETS,
    KnownBatch,
    KnownDispute,
)
from tests.differential.backend import Backend, normalize

from quorate.chain.abi import Contract
from quorate.chain.signing import recover
from quorate.protocol import events as ev
from quorate.protocol.context import Block, Call
from quorate.protocol.dispute_pages import decode_dispute_record, decode_vote_lists
from quorate.protocol.encoding import (
    decode_commit_lists,
    decode_list_skips,
    decode_order_skips,
    decode_outcomes,
    decode_post_page,
    decode_revealed,
    encode_record_page,
)
from quorate.protocol.errors import ProtocolViolation
from quorate.protocol.hashing import keccak
from quorate.protocol.market import Batch
from quorate.protocol.params import ETHER, FUEL_UNIT, Params
from quorate.protocol.settlement import compute_task_price, post_record
from quorate.protocol.types import Address, PostRecord, Vote
from quorate.protocol.world import World

CLASS = 1
CAPACITY = 3 * 10**9
UNITS = (10, 10, 10, 10, 20, 20)
"""Of the first members: some of them together hold exactly half, so that a tie can happen."""
Model = Callable[[Call], list[ev.Event]]


class Driver:
    """One run: world, backend, what is known, and how often each action was accepted or refused."""

    def __init__(self, backend: Backend, params: Params = PARAMS) -> None:
        self.backend, d = backend, backend.deployment
        self.world = World(params, d.chain_id, d.registry, d.market, d.disputes, d.challenges, recover, self.ask_wallet)
        self.batches: dict[int, KnownBatch] = {}
        self.disputes: dict[int, KnownDispute] = {}
        self.tally: Counter[str] = Counter()
        self.next_nonce: Counter[Address] = Counter()
        self.actions = 0

    # acting

    @property
    def now(self) -> int:
        """Timestamp of the next action's block."""
        return self.backend.timestamp + 1

    @property
    def block(self) -> Block:
        """The next action's block."""
        return Block(self.backend.number + 1, self.now)

    def act(
        self,
        sender: Address,
        contract: Contract,
        name: str,
        args: Sequence[Any],
        model: Model,
        value: int = 0,
        hashes: dict[int, bytes] | None = None,
    ) -> list[ev.Event] | None:
        """One call to both; events, or None when it was refused."""
        call = Call(sender, Block(self.backend.number + 1, self.now, hashes or {}), value)
        error: str | None = None
        events: list[ev.Event] = []
        try:
            events = model(call)
        except ProtocolViolation as violation:
            error = violation.name
        outcome = self.backend.send(sender, contract, name, args, value, self.now)
        if outcome is not None:
            assert outcome.error == error, f"{name}: contracts say {outcome.error}, the model {error}"
            told, wanted = normalize(outcome.events), normalize(events)
            assert told == wanted, f"{name}: only contracts {told - wanted}, only model {wanted - told}"
        self.actions += 1
        self.tally[f"{name} {error or 'ok'}"] += 1
        self._check()
        self._learn(events)
        return events if error is None else None

    def _check(self) -> None:
        self.world.check_invariants()
        self.backend.compare(self.world)

    def wait(self, blocks: int, seconds: int) -> None:
        """Let time pass without an action."""
        self.backend.mine(blocks, max(blocks, seconds))

    def ask_wallet(self, account: Address, digest: bytes, signature: bytes) -> bool:
        """What a contract wallet says in the block at hand; accounts without code say nothing."""
        said = [w.says(digest, signature, self.block.number) for w in WALLETS if w.address == account]
        return said == [True]

    # learning

    def _learn(self, events: Sequence[ev.Event]) -> None:
        """What any third party can know after these events."""
        for event in events:
            if isinstance(event, ev.DisputesEvent):
                self._learn_vote(event)
            match event:
                case ev.BatchOpened():
                    self.batches[event.batch_id] = KnownBatch()
                case ev.PagePosted():
                    self._learn_page(event)
                case ev.CommitPage():
                    skips = decode_list_skips(event.skips)
                    self.tally.update(f"list skipped {reason.name}" for reason in skips.values())
                    lists = enumerate(decode_commit_lists(event.lists))
                    kept = tuple(each for index, each in lists if index not in skips)
                    self.batches[event.batch_id].commit_pages += [kept] if kept else []
                case ev.BundlesCarried():
                    self.batches[event.batch_id].next_pages.append(event.page)
                case ev.RoundAwaited():
                    known = self.batches[event.batch_id]
                    kept_pages = known.next_pages, [], known.record_pages, known.outcome_pages
                    self.batches[event.batch_id] = KnownBatch(*kept_pages)
                case ev.BundlesSettled():
                    self.batches[event.batch_id].outcome_pages.append(bytes((event.round,)) + event.outcomes)
                    self.tally.update(f"verdict {row.verdict.name}" for row in decode_outcomes(event.outcomes))
                case ev.OpeningsRevealed():
                    known = self.batches[event.batch_id]
                    shown = decode_revealed(event.votes, event.openings)
                    items = (item for page in known.commit_pages for each in page for item in each.items)
                    known.withheld -= {i.commitment for i in items if (i.bundle, i.seat) in shown}
                case ev.DisputeOpened():
                    self.disputes[event.dispute_id] = KnownDispute(event.record, decode_dispute_record(event.record))
                case ev.OperatorSlashed():
                    self.tally["slashed, ejected" if event.ejected else "slashed"] += 1

    def _learn_vote(self, event: ev.DisputesEvent) -> None:
        match event:
            case ev.LeavesPublished():
                self.disputes[event.dispute_id].published[Vote(event.root)] = event.leaves
            case ev.QuestionAsked():
                self.disputes[event.dispute_id].question = event.question
                self.tally[f"tasks in question {int.from_bytes(event.question[:2], 'big')}"] += 1
            case ev.VotesCommitted():
                skips = decode_list_skips(event.skips)
                self.tally.update(f"class vote skipped {reason.name}" for reason in skips.values())
                votes = enumerate(decode_vote_lists(event.lists))
                kept = tuple(each for index, each in votes if index not in skips)
                self.disputes[event.dispute_id].pages += [kept] if kept else []
            case ev.VoteWindowOpened():
                known = self.disputes[event.dispute_id]
                known.cast, known.pages = event.cast, []
                self.tally[f"class vote window {event.window}"] += 1
            case ev.DisputeDecided():
                known = self.disputes[event.dispute_id]
                known.tally = event.tally
                won = "a winner" if any(event.answer) else "none"
                self.tally[f"dispute {known.decoded.kind.name} verdict {event.verdict}, {won}"] += 1
            case ev.DisputeSettled():
                del self.disputes[event.dispute_id]

    def _learn_page(self, event: ev.PagePosted) -> None:
        batch, skips, index = self.batch(event.batch_id), decode_order_skips(event.skips), 0
        self.tally.update(f"order skipped {reason.name}" for reason in skips.values())
        price = self.world.registry.get_class(batch.terms.class_id).price
        groups: list[list[PostRecord]] = []
        for orders in decode_post_page(event.page, batch.terms):
            groups.append([])
            for signed in orders:
                if index not in skips:
                    task_price = compute_task_price(signed.order.fuel_limit, price, FUEL_UNIT)
                    groups[-1].append(post_record(signed.order, task_price))
                index += 1
        if any(groups):
            record = encode_record_page(keccak(event.page), event.first_bundle, groups)
            self.batches[event.batch_id].pages.append(record)
            self.batches[event.batch_id].record_pages.append(record)

    def batch(self, batch_id: int) -> Batch:
        """A batch of the model."""
        return self.world.market.get_batch(batch_id)

    # the start of every run

    def set_up(self) -> None:
        """A class of six members with a table, and deposits."""
        registry, price = self.world.registry, PRICE
        self.act(
            OWNERS[0].address, Contract.REGISTRY, "createClass", (bytes(32), UNIT_WEI, price, True),
            lambda c: registry.apply_create_class(c, bytes(32), UNIT_WEI, price, True), PARAMS.class_deposit,
        )  # fmt: skip
        for i, owner in enumerate(OWNERS[:6]):
            self.register(owner.address, SIGNERS[i].address)
            self.join(owner.address, CLASS, UNITS[i], PRICE + i * 10**8, CAPACITY)
        self.advance_era()
        for actor in (*REQUESTERS[:2], *COLLATORS):
            self.deposit(actor.address, ETHER)
        self.deposit(REQUESTERS[2].address, 10**9)
        for wallet in WALLETS:
            self.deposit_for(wallet.address, ETHER // 100)

    def register(self, owner: Address, key: Address, value: int = STAKE) -> None:
        """Become an operator, or be refused."""
        self.act(
            owner, Contract.REGISTRY, "register", (key,),
            lambda c: self.world.registry.apply_register(c, key), value,
        )  # fmt: skip

    def join(self, owner: Address, class_id: int, units: int, ask: int, capacity: int) -> None:
        """Join a class, or be refused."""
        self.act(
            owner, Contract.REGISTRY, "join", (class_id, units, ask, capacity),
            lambda c: self.world.registry.apply_join(c, class_id, units, ask, capacity),
        )  # fmt: skip

    def deposit(self, account: Address, amount: int) -> None:
        """Pay in."""
        self.act(account, Contract.MARKET, "deposit", (), self.world.market.apply_deposit, amount)

    def deposit_for(self, account: Address, amount: int) -> None:
        """Pay in for somebody else."""
        self.act(
            OUTSIDER.address, Contract.MARKET, "depositFor", (account,),
            lambda c: self.world.market.apply_deposit(c, account), amount,
        )  # fmt: skip

    def advance_era(self, class_id: int = CLASS, error: int = 0, capacity_error: int = 0) -> None:
        """Advance an era with the right medians, or with wrong ones."""
        registry = self.world.registry
        medians = registry.medians(class_id) if class_id in registry.classes else (0, 0)
        ask, capacity = medians[0] + error, max(0, medians[1] + capacity_error)
        self.act(
            COLLATORS[0].address, Contract.REGISTRY, "advanceEra", (class_id, ask, capacity),
            lambda c: self.world.registry.apply_advance_era(c, class_id, ask, capacity),
        )  # fmt: skip

    def pick_batch(self, rng: Random, *statuses: Any) -> Batch | None:
        """A batch in one of the statuses."""
        found = [batch for batch in self.world.market.slots if batch.status in statuses]
        return rng.choice(found) if found else None
