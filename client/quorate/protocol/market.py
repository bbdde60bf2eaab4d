"""State of `ComputeMarket` as a pure model, its deposits, and the start and end of rounds (sections 4, 4.2 and 4.3).

Posting, committing and settling lie beside: posting.py, committing.py, settling.py. All check every requirement before
the first effect, so a refused call leaves no trace.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from quorate.protocol import events as ev
from quorate.protocol.beacon import read_beacon
from quorate.protocol.classes import Earning, EraTable
from quorate.protocol.commitment import compute_round_domain
from quorate.protocol.committee import compute_committee
from quorate.protocol.context import AskWallet, Block, Call, Recover, no_wallets, refuse, require
from quorate.protocol.encoding import compute_domain_separator, fold
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BATCH_TRANSITIONS, BatchStatus, apply_transition
from quorate.protocol.params import BEACON_REACH_BLOCKS, Params
from quorate.protocol.registry import Registry
from quorate.protocol.settlement import RoundTerms
from quorate.protocol.types import ZERO32, Address, BatchId, Stage, Table, Terms

if TYPE_CHECKING:
    from quorate.protocol.disputes import Disputes

NONCE_WINDOW = 192
SLOT_BITS = 32
"""So many that nobody can take all slots, by batches or disputes that never end."""
"""The bundle was reversed, or its convicted committee extended: nobody is refunded for it (again)."""


@dataclass(slots=True)
class NonceWindow:
    """Which nonces of a requester are used: all below `base`, and those whose bit is set."""

    base: int = 0
    used: int = 0

    def is_used(self, nonce: int) -> bool:
        """Whether an order with this nonce is refused."""
        offset = nonce - self.base
        return offset < 0 or (offset < NONCE_WINDOW and bool(self.used >> offset & 1))

    def use(self, nonce: int) -> None:
        """Mark a nonce; one beyond the window moves it."""
        shift = max(0, nonce - self.base - (NONCE_WINDOW - 1))
        self.base += shift
        self.used = self.used >> shift | 1 << (nonce - self.base)


@dataclass(slots=True)
class Batch:
    """One batch; `pending` are the bundles of the present round, `carried` those of the next."""

    batch_id: BatchId
    collator: Address
    terms: Terms
    table: int
    open_time: int
    bond: int
    status: BatchStatus = BatchStatus.POSTING
    history: list[BatchStatus] = field(default_factory=list)
    round: int = 0
    bundles: int = 0
    pending: set[int] = field(default_factory=set)
    carried: set[int] = field(default_factory=set)
    committed: set[tuple[int, int]] = field(default_factory=set)
    revealed: set[tuple[int, int]] = field(default_factory=set)
    beacon_block: int = 0
    start_time: int = 0
    start_block: int = 0
    final_at: int = 0
    beacon: bytes = ZERO32
    post_hash: bytes = ZERO32
    commit_hash: bytes = ZERO32
    carry_hash: bytes = ZERO32
    next_carry_hash: bytes = ZERO32
    outcome_hash: bytes = ZERO32
    open_disputes: int = 0
    judged: bool = True
    queued: bool = False
    audit_drawn: bool = False
    audit_from: int = 0  # least round whose outcomes the present draw of audits is about
    struck: dict[int, int] = field(default_factory=dict)  # by bundle: least round whose outcome counts

    def is_live(self, bundle: int, round_: int) -> bool:
        """Whether the outcome that a round gave to a bundle still counts."""
        return round_ >= self.struck.get(bundle, 0)

    def move(self, wanted: BatchStatus) -> None:
        """Change the status along its table."""
        apply_transition(BATCH_TRANSITIONS, f"batch {self.batch_id}", self.status, wanted, self.history)
        if wanted is not self.status:
            self.history.append(self.status)
            self.status = wanted

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is pending and no dispute is open: time alone makes it final, unless somebody acts."""
        return self.status is BatchStatus.SETTLED and self.open_disputes == 0

    def compute_round_terms(self, params: Params) -> RoundTerms:
        """Terms of the present round."""
        terms = self.terms
        return RoundTerms(terms.seats, self.round, terms.rounds, terms.fee_wei, params.audit_bps, self.judged)

    def window_end(self, window: int, params: Params) -> tuple[int, int]:
        """(time, block) from which window 1 to 4 of the present round is past."""
        lengths = (self.terms.commit_period, params.direct_period, params.settle_period, params.direct_period)
        return self.start_time + sum(lengths[:window]), self.start_block + window * params.min_blocks

    def is_past(self, window: int, block: Block, params: Params) -> bool:
        """Whether window 1 to 4 of the present round is past."""
        time, number = self.window_end(window, params)
        return block.timestamp >= time and block.number >= number


class Market:
    """Model of ComputeMarket; `balance` is the contract's, ledgers in wei by address."""

    def __init__(
        self,
        params: Params,
        chain_id: int,
        address: Address,
        registry: Registry,
        recover: Recover,
        ask_wallet: AskWallet = no_wallets,
    ) -> None:
        self.params, self.chain_id, self.address = params, chain_id, address
        self.registry, self.recover, self.ask_wallet = registry, recover, ask_wallet
        self.separator = compute_domain_separator(chain_id, address)
        self.free: dict[Address, int] = defaultdict(int)
        self.escrow: dict[Address, int] = defaultdict(int)
        self.bonds = self.balance = 0
        self.nonces: dict[Address, NonceWindow] = defaultdict(NonceWindow)
        self.backlog: dict[int, tuple[int, int]] = {}  # by class: fuel, since when
        self.slots: list[Batch] = []
        self.settled_slots: deque[int] = deque()  # oldest first
        self.sequence = 0
        self._disputes: Disputes | None = None

    @property
    def disputes(self) -> Disputes:
        """The contract that conflicts go to; set by World."""
        assert self._disputes is not None
        return self._disputes

    def bind(self, disputes: Disputes) -> None:
        """Tell where conflicts go."""
        self._disputes = disputes

    # reading

    def get_batch(self, batch_id: int) -> Batch:
        """State of a batch; BatchUnknown, also once its slot was reused."""
        slot = batch_id & ((1 << SLOT_BITS) - 1)
        if slot >= len(self.slots) or self.slots[slot].batch_id != batch_id:
            refuse("BatchUnknown", batch_id)
        return self.slots[slot]

    def era_table(self, batch: Batch) -> EraTable:
        """The table that a batch was opened under."""
        return self.registry.get_class(batch.terms.class_id).tables[batch.table]

    def table_of(self, batch: Batch) -> Table:
        """Rows and units that a batch's committees are drawn from."""
        return self.era_table(batch).table

    def round_domain(self, batch: Batch, stage: Stage = Stage.BUNDLE, round_: int | None = None) -> bytes:
        """Domain of all statements of the present round, or of a class vote's window."""
        number = batch.round if round_ is None else round_
        return compute_round_domain(
            self.chain_id, self.address, batch.batch_id, batch.post_hash, stage, number, batch.beacon
        )

    def committee(self, batch: Batch, bundle: int) -> tuple[int, ...]:
        """Members drawn for a bundle's seats in the present round."""
        table = self.table_of(batch)
        domain = self.round_domain(batch)
        return compute_committee(domain, bundle, batch.terms.seats, table.units, len(table.members))

    def is_batch_final(self, batch: Batch, now: int) -> bool:
        """Whether a batch is settled and its challenge period is over."""
        return batch.is_quiet and now >= batch.final_at

    # deposits

    def apply_deposit(self, call: Call, account: Address | None = None) -> list[ev.Event]:
        """`deposit()` and `depositFor(account)` payable."""
        whose = call.sender if account is None else account
        self.free[whose] += call.value
        self.balance += call.value
        return [ev.Deposited(whose, call.value)]

    def apply_withdraw(self, call: Call, amount: int) -> list[ev.Event]:
        """`withdraw(amount)` from the caller's free deposit."""
        available = self.free[call.sender]
        require(amount > 0, "NothingToWithdraw")
        require(amount <= available, "InsufficientDeposit", available, amount)
        self.free[call.sender] -= amount
        self.balance -= amount
        return [ev.Withdrawn(call.sender, amount)]

    # batches

    def open_batch(self, call: Call, terms: Terms) -> Batch:
        """Lock the bond and take a slot; every requirement of opening must hold already."""
        self.lock_bond(call.sender)
        self.sequence += 1
        slot = self._take_slot(call.now)
        state = self.registry.get_class(terms.class_id)
        batch_id = BatchId(self.sequence << SLOT_BITS | slot)
        batch = Batch(batch_id, call.sender, terms, state.table_number, call.now, self.params.batch_bond)
        batch.judged = state.judged
        self.slots[slot:] = [batch, *self.slots[slot + 1 :]]
        return batch

    def _take_slot(self, now: int) -> int:
        """The slot of the oldest batch that is final, or a new one."""
        oldest = self.slots[self.settled_slots[0]] if self.settled_slots else None
        if oldest is None or (oldest.is_quiet and now < oldest.final_at):
            return len(self.slots)
        slot = self.settled_slots.popleft()
        if oldest.is_quiet:
            return slot
        # Extended, or disputed: nobody knows for how long, and those behind it are not to wait.
        self.settled_slots.append(slot)
        return len(self.slots)

    def lock_bond(self, owner: Address) -> None:
        """Move a batch's bond out of a free deposit that has it."""
        self.free[owner] -= self.params.batch_bond
        self.bonds += self.params.batch_bond

    def is_audited(self, batch: Batch) -> bool:
        """Whether auditors are drawn for a settled batch: a class vote must be able to follow, in time."""
        return batch.judged and batch.terms.commit_period <= self.params.audit_period

    def await_beacon(self, batch: Batch, block: Block) -> None:
        """Fix the block whose header decides the committees."""
        batch.beacon_block = block.number + self.params.beacon_delay
        batch.move(BatchStatus.AWAITING)

    def finish(self, batch: Batch, block: Block) -> list[ev.Event]:
        """Settle a batch of which nothing is pending: the bond returns unless it is lost, the slot will."""
        self._return_bond(batch)
        batch.final_at = block.timestamp + self.params.challenge_period
        if self.is_audited(batch):
            batch.beacon_block = block.number + self.params.beacon_delay
        batch.move(BatchStatus.SETTLED)
        if not batch.queued:
            batch.queued = True
            self.settled_slots.append(batch.batch_id & ((1 << SLOT_BITS) - 1))
        return [ev.BatchSettled(batch.batch_id, batch.final_at)]

    def _return_bond(self, batch: Batch) -> None:
        self.bonds -= batch.bond
        self.free[batch.collator] += batch.bond
        batch.bond = 0

    def start_next_round(self, batch: Batch, block: Block) -> list[ev.Event]:
        """Send carried bundles to a fresh committee."""
        batch.round += 1
        batch.pending, batch.carried = batch.carried, set()
        batch.carry_hash, batch.next_carry_hash = batch.next_carry_hash, ZERO32
        batch.commit_hash = ZERO32
        batch.committed, batch.revealed = set(), set()
        self.await_beacon(batch, block)
        return [ev.RoundAwaited(batch.batch_id, batch.round, batch.beacon_block)]

    def apply_prove_beacon(self, call: Call, batch_id: int, header: bytes) -> list[ev.Event]:
        """`proveBeacon(batchId, header)`: the round starts, its committees are known."""
        batch = self.get_batch(batch_id)
        require(batch.status is BatchStatus.AWAITING, "WrongStatus", batch_id, batch.status)
        batch.beacon = read_beacon(call.block, batch.beacon_block, header)
        batch.start_time, batch.start_block = call.now, call.block.number
        batch.move(BatchStatus.ASSIGNED)
        return [ev.RoundStarted(batch.batch_id, batch.round, batch.beacon)]

    def apply_expire(self, call: Call, batch_id: int) -> list[ev.Event]:
        """`expire(batchId)`: a batch that nobody closed, or whose beacon nobody proved, ends by time alone."""
        batch = self.get_batch(batch_id)
        if batch.status is BatchStatus.POSTING:
            require(call.now >= batch.open_time + self.params.post_period, "WindowOpen", "post")
            if batch.bundles == 0:
                return self.finish(batch, call.block)
            batch.pending = set(range(batch.bundles))
        else:
            require(batch.status is BatchStatus.AWAITING, "WrongStatus", batch_id, batch.status)
            require(call.block.number > batch.beacon_block + BEACON_REACH_BLOCKS, "WindowOpen", "beacon")
        found = self._lose_bond(call, batch)
        batch.move(BatchStatus.VOIDED)
        return [*found, ev.BatchVoided(batch.batch_id)]

    def _lose_bond(self, call: Call, batch: Batch) -> list[ev.Event]:
        lost, batch.bond = batch.bond, 0
        self.bonds -= lost
        self.balance -= lost
        return self.registry.apply_donate(replace(call, sender=self.address, value=lost))

    def apply_reverse(self, call: Call, batch_id: int, bundle: int, round_: int) -> bool:
        """`reverse(batchId, bundle, round)`: only disputes; whether that round's outcome still counted."""
        require(call.sender == self.disputes.address, "Unauthorized")
        batch = self.get_batch(batch_id)
        is_first = batch.is_live(bundle, round_)
        if is_first:
            batch.struck[bundle] = round_ + 1
        return is_first

    # disputes

    def _require_disputes(self, call: Call) -> None:
        require(call.sender == self.disputes.address, "Unauthorized")

    def count_dispute(self, call: Call, batch_id: int, change: int) -> None:
        """`disputeOpened(batchId)` (1), `disputeClosed(batchId)` (-1): a slot waits for the disputes of its batch."""
        self._require_disputes(call)
        self.get_batch(batch_id).open_disputes += change

    def apply_resolve(
        self,
        call: Call,
        batch_id: int,
        requester: Address,
        escrow: int,
        collator: Address,
        fee: int,
        audit_fee: int,
        entries: Sequence[Earning],
        row: bytes,
    ) -> list[ev.Event]:
        """`resolve(…)`: a conflict's escrow goes to operators, to who settled, to the treasury, and back."""
        self._require_disputes(call)
        earned = sum(entry.amount for entry in entries)
        self.escrow[requester] -= escrow
        self.free[collator] += fee
        self.free[requester] += escrow - fee - audit_fee - earned
        found: list[ev.Event] = []
        if row:
            batch = self.get_batch(batch_id)
            batch.outcome_hash = fold(batch.outcome_hash, [keccak(bytes((batch.round,)) + row)])
            found.append(ev.BundlesSettled(batch.batch_id, batch.round, row))
        found += self.pay_operators(call, entries, 0)
        return [*found, *self.pay_treasury(call, audit_fee)]

    # money

    def pay_treasury(self, call: Call, amount: int) -> list[ev.Event]:
        """Give from the contract's balance to the treasury."""
        if not amount:
            return []
        self.balance -= amount
        return self.registry.apply_donate(replace(call, sender=self.address, value=amount))

    def pay_operators(self, call: Call, entries: Sequence[Earning], from_pot: int) -> list[ev.Event]:
        """Credit operators from the contract's balance and from the pots; nothing is sent when nobody earns."""
        if not entries:
            return []
        value = sum(entry.amount for entry in entries) - from_pot
        self.balance -= value
        market = replace(call, sender=self.address, value=value)
        return self.registry.apply_credit(market, sorted(entries), from_pot)
