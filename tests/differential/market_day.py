"""Honest business at full size on deployed contracts: many operators, pages of orders, everybody speaks in time.

Every call goes to the model as well, which plans what is sent; what a call used is read from its receipt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.differential.actors import COLLATORS, KEYS, Actor, make_commitment, make_vote, sign_list, sign_order
from tests.differential.backend import AnvilBackend
from tests.differential.driver import CLASS
from tests.differential.parties import Parties

from quorate.chain.abi import Contract
from quorate.chain.rpc import JsonRpc
from quorate.chain.types import Deployment, parse_hex, to_hex
from quorate.protocol.committing import apply_commit, apply_reveal
from quorate.protocol.encoding import encode_commit_lists, encode_post_page
from quorate.protocol.hashing import keccak
from quorate.protocol.market import Batch
from quorate.protocol.paging import split_orders
from quorate.protocol.params import ETHER, PRODUCTION, Params
from quorate.protocol.planning import Reveal, plan_reveals, plan_settlement
from quorate.protocol.types import CommitItem, JobOrder, SignedOrder, Terms
from quorate.protocol.world import World

UNIT_WEI = ETHER
UNITS = 10
PRICE = 10**11
CAPACITY = 10**12
FUEL = 10**7
TRANSACTION_GAS = 21_000
FLOOR_GAS_PER_TOKEN = 10
"""EIP-7623: a zero byte of calldata is a token, any other four."""


def compute_gas(used: int, data: bytes) -> int:
    """Gas of a transaction where calldata has a floor price; Anvil runs older rules."""
    tokens = sum(1 if byte == 0 else 4 for byte in data)
    return max(used, TRANSACTION_GAS + FLOOR_GAS_PER_TOKEN * tokens)


@dataclass(frozen=True, slots=True)
class Spent:
    """Gas of one transaction."""

    name: str
    gas: int
    bytes: int


class MeteredBackend(AnvilBackend):
    """Compares nothing: a thousand members would be asked for after each call."""

    def compare(self, world: World) -> None:
        pass

    def compute_gas(self) -> int:
        """Gas of the last call."""
        data = self.rpc.call("eth_getTransactionByHash", self.receipt["transactionHash"])["input"]
        return compute_gas(int(self.receipt["gasUsed"], 16), parse_hex(data))


class MarketDay(Parties):
    """A class of many operators, and whole lives of batches in it."""

    backend: MeteredBackend

    def __init__(self, rpc: JsonRpc, deployment: Deployment, operators: int, params: Params = PRODUCTION) -> None:
        super().__init__(MeteredBackend(rpc, deployment), params)
        self.params, self.rpc = params, rpc
        self.collator = COLLATORS[0]
        self._open_class(operators)

    def _check(self) -> None:
        pass

    # actors

    def _enrich(self, actors: Sequence[Actor]) -> None:
        calls = [("anvil_setBalance", (to_hex(actor.address), hex(10**6 * ETHER))) for actor in actors]
        self.rpc.batch_strict(calls)

    def _open_class(self, operators: int) -> None:
        registry = self.world.registry
        self.act(
            self.collator.address, Contract.REGISTRY, "createClass", (bytes(32), UNIT_WEI, PRICE, True),
            lambda c: registry.apply_create_class(c, bytes(32), UNIT_WEI, PRICE, True), self.params.class_deposit,
        )  # fmt: skip
        self.operators = [Actor.named(f"operator {i}") for i in range(operators)]
        self._enrich(self.operators)
        for actor in self.operators:
            KEYS[actor.address] = actor.key
            self.register(actor.address, actor.address, UNITS * UNIT_WEI)
            self.join(actor.address, CLASS, UNITS, PRICE, CAPACITY)
        self.advance_era()
        self.table_gas = self.backend.compute_gas()
        self.deposit(self.collator.address, 1000 * ETHER)

    def make_requesters(self, count: int) -> list[Actor]:
        """Requesters with deposits."""
        found = [Actor.named(f"day's requester {i}") for i in range(count)]
        self._enrich(found)
        for actor in found:
            self.deposit(actor.address, 100 * ETHER)
        return sorted(found, key=lambda actor: actor.address)

    # a batch

    def spend(self, name: str) -> Spent:
        """What the last call used; it must have succeeded."""
        assert int(self.backend.receipt["status"], 16) == 1, f"{name} was refused"
        data = self.rpc.call("eth_getTransactionByHash", self.backend.receipt["transactionHash"])["input"]
        return Spent(name, self.backend.compute_gas(), len(data) // 2 - 1)

    def rest(self) -> None:
        """Let the last batch become final, so that its slot is used again, and the era be fresh."""
        self.wait(2, self.params.challenge_period + 1)
        if self.now + 2 * self.params.post_period >= self.world.registry.classes[CLASS].era_end:
            self.wait(1, max(1, self.world.registry.classes[CLASS].era_end - self.backend.timestamp))
            self.advance_era()

    def post_batch(
        self, requesters: Sequence[Actor], jobs: int, page_jobs: int, seats: int
    ) -> tuple[Batch, list[Spent]]:
        """Post orders of all requesters in pages of so many, or of as many as a transaction takes."""
        self.rest()
        terms, spent, batch_id = Terms(CLASS, seats, 2, 60, 10**6), [], 0
        chosen = (range(start, min(start + page_jobs, jobs)) for start in range(0, jobs, page_jobs))
        known = {address for address, window in self.world.market.nonces.items() if window.base + window.used}
        pages = [
            page
            for numbers in chosen
            for page in split_orders(self._sign_orders(requesters, len(numbers), terms), known)
        ]
        for index, orders in enumerate(pages):
            is_last = index == len(pages) - 1
            self._send_post(self.collator.address, batch_id, terms, encode_post_page(orders), is_last)
            spent.append(self.spend("post"))
            batch_id = self.newest.batch_id
        assert self.newest.bundles == jobs, f"{self.newest.bundles} bundles of {jobs} orders"
        return self.newest, spent

    def _sign_orders(self, requesters: Sequence[Actor], count: int, terms: Terms) -> list[SignedOrder]:
        orders = []
        for actor, many in _deal(requesters, count):
            for _ in range(many):
                self.next_nonce[actor.address] += 1
                order = self._make_plain_order(actor, self.next_nonce[actor.address], terms)
                orders.append(sign_order(self.world.market.separator, order, actor))
        return orders

    @property
    def newest(self) -> Batch:
        """The batch opened last."""
        return max(self.world.market.slots, key=lambda batch: batch.batch_id)

    def _make_plain_order(self, actor: Actor, nonce: int, terms: Terms) -> JobOrder:
        return JobOrder(
            requester=actor.address,
            nonce=nonce,
            class_id=CLASS,
            spec_hash=keccak(actor.address + nonce.to_bytes(8, "big")),
            task_count=1,
            fuel_limit=FUEL,
            input_bytes=10**6,
            seats=terms.seats,
            rounds=terms.rounds,
            commit_period=600,
            min_units=10,
            max_price=2 * PRICE,
            max_fee=10**7,
            valid_until=self.now + 10**6,
        )

    def draw(self, batch: Batch) -> Spent:
        """Wait for the batch's beacon and prove it."""
        self.wait(max(1, batch.beacon_block - self.backend.number), 2 * self.params.beacon_delay)
        self._prove(batch)
        return self.spend("beacon")

    def choose(self, batch: Batch, bundles: range) -> dict[int, list[CommitItem]]:
        """Honest commitments of all seats of some bundles, by row."""
        market, known = self.world.market, self.batches[batch.batch_id]
        domain, rows = market.round_domain(batch), market.table_of(batch).members
        found: dict[int, list[CommitItem]] = defaultdict(list)
        for bundle in bundles:
            vote = make_vote(batch.post_hash, bundle, 0, tasks=1)
            for seat, member in enumerate(market.committee(batch, bundle)):
                commitment, opening = make_commitment(domain, bundle, rows[member], vote)
                known.openings[commitment] = opening
                found[member].append(CommitItem(bundle, seat, commitment))
        return found

    def commit_page(self, batch: Batch, bundles: range) -> Spent:
        """Commit for all seats of some bundles in one call."""
        market = self.world.market
        domain, rows = market.round_domain(batch), market.table_of(batch).members
        lists = [
            sign_list(market.separator, domain, row, rows[row], tuple(items))
            for row, items in sorted(self.choose(batch, bundles).items())
        ]
        self._send_commit(self.collator, batch.batch_id, bundles.start, bundles.stop, encode_commit_lists(lists))
        return self.spend("commit")

    def _send_commit(self, sender: Actor, batch_id: int, start: int, end: int, page: bytes) -> None:
        self.act(
            sender.address, Contract.MARKET, "commit", (batch_id, start, end, page),
            lambda c: apply_commit(self.world.market, c, batch_id, start, end, page),
        )  # fmt: skip

    def settle_page(self, batch: Batch, index: int) -> Spent:
        """Settle one record page of a batch whose seats have all opened."""
        bundles = self.bundles_of(batch, self.batches[batch.batch_id].pages[index])
        planned = plan_settlement(self.view(batch, True), index, bundles, False)
        assert planned is not None
        self._send_settle(self.collator.address, batch.batch_id, planned.settlement)
        return self.spend("settle")

    def live_directly(self, requester: Actor, seats: int = 3) -> list[Spent]:
        """One job without a collator: its requester posts it, each operator commits and reveals for itself."""
        collator, self.collator = self.collator, requester
        batch, spent = self.post_batch([requester], 1, 1, seats)
        self.collator = collator
        market, batch_id = self.world.market, batch.batch_id
        spent.append(self.draw(batch))
        committee = [self.operators[row] for row in market.committee(batch, 0)]
        domain, rows = market.round_domain(batch), market.table_of(batch).members
        self._wait_for_window(batch, 1)
        chosen = self.choose(batch, range(1))
        for actor, row in zip(committee, market.committee(batch, 0), strict=True):
            lists = [sign_list(market.separator, domain, row, rows[row], tuple(chosen[row]))]
            self._send_commit(actor, batch_id, 0, 1, encode_commit_lists(lists))
            spent.append(self.spend("commit"))
        self._wait_for_window(batch, 3)
        for seat, actor in enumerate(committee):
            (planned,) = plan_reveals(self.view(batch, True), [(0, seat)])
            self._send_reveal(actor, batch_id, planned)
            spent.append(self.spend("reveal"))
        self._wait_for_window(batch, 4)
        return [*spent, self.settle_page(batch, 0)]

    def _send_reveal(self, sender: Actor, batch_id: int, planned: Reveal) -> None:
        pages, votes, openings = planned.commit_pages, planned.votes, planned.openings
        self.act(
            sender.address, Contract.MARKET, "reveal", (batch_id, pages, votes, openings),
            lambda c: apply_reveal(self.world.market, c, batch_id, pages, votes, openings),
        )  # fmt: skip

    def live(self, requesters: Sequence[Actor], jobs: int, page_jobs: int, seats: int = 3) -> list[Spent]:
        """One batch from its first page until it is settled."""
        batch, spent = self.post_batch(requesters, jobs, page_jobs, seats)
        pages = [self.bundles_of(batch, page) for page in self.batches[batch.batch_id].pages]
        spent.append(self.draw(batch))
        spent += [self.commit_page(batch, range(page[0].bundle, page[-1].bundle + 1)) for page in pages]
        return [*spent, *(self.settle_page(batch, index) for index in range(len(pages)))]


def _deal(requesters: Sequence[Actor], count: int) -> list[tuple[Actor, int]]:
    """How many orders each requester has in a page."""
    base, more = divmod(count, len(requesters))
    dealt = [(actor, base + (index < more)) for index, actor in enumerate(requesters)]
    return [(actor, many) for actor, many in dealt if many]
