"""`post`: which orders enter a batch (section 4.2 of contracts/README.md)."""

from __future__ import annotations

from dataclasses import dataclass

from quorate.protocol import events as ev
from quorate.protocol.context import Call, refuse, require
from quorate.protocol.encoding import compute_job_id, decode_post_page, encode_record_page, fold
from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.market import Batch, Market
from quorate.protocol.params import FUEL_UNIT, MAX_BUNDLES, MAX_TASKS, MAX_VOTERS
from quorate.protocol.partition import compute_page_bundles, count_bundles
from quorate.protocol.settlement import compute_needed_period, compute_order_escrow, compute_task_price, post_record
from quorate.protocol.types import JobOrder, OrderFlag, OrderSkip, PostRecord, SignatureKind, SignedOrder, Terms

U64 = 1 << 64


def apply_post(
    market: Market, call: Call, batch_id: int, terms: Terms, page: bytes, last: bool
) -> tuple[int, list[ev.Event]]:
    """`post(batchId, terms, page, last)`: the batch's id and the events."""
    batch = _require_posting(market, call, batch_id) if batch_id else None
    if batch is None:
        _require_opening(market, call, terms)
    try:
        groups = decode_post_page(page, batch.terms if batch else terms)
    except ValidationError:
        refuse("MalformedPage")
    found: list[ev.Event] = []
    if batch is None:
        batch = market.open_batch(call, terms)
        found.append(
            ev.BatchOpened(
                batch.batch_id, call.sender, terms.class_id, batch.table, terms.seats, terms.rounds,
                terms.commit_period, terms.fee_wei,
            )
        )  # fmt: skip
    found.append(_append_page(market, call, batch, page, groups))
    if last:
        found += _close(market, call, batch)
    return batch.batch_id, found


def _require_posting(market: Market, call: Call, batch_id: int) -> Batch:
    batch = market.get_batch(batch_id)
    require(batch.status is BatchStatus.POSTING, "WrongStatus", batch_id, batch.status)
    require(call.sender == batch.collator, "NotCollator", batch.collator)
    require(call.now < batch.open_time + market.params.post_period, "WindowPast", "post")
    return batch


def _require_opening(market: Market, call: Call, terms: Terms) -> None:
    params, state = market.params, market.registry.get_class(terms.class_id)
    require(call.now < state.era_end, "EraOverdue", terms.class_id)
    members = len(state.current.table.members)
    require(terms.seats >= 1 and 2 * terms.seats <= members, "InvalidTerms", "seats")
    require(terms.rounds <= params.max_rounds, "InvalidTerms", "rounds")
    # Counts of voters travel in one byte.
    require(terms.seats * (1 + terms.rounds) <= MAX_VOTERS, "InvalidTerms", "seats")
    require(1 <= terms.commit_period <= params.max_commit_period, "InvalidTerms", "commitPeriod")
    available = market.free[call.sender]
    require(available >= params.batch_bond, "InsufficientDeposit", available, params.batch_bond)


def _append_page(market: Market, call: Call, batch: Batch, page: bytes, groups: list[list[SignedOrder]]) -> ev.Event:
    first, index, skips = batch.bundles, 0, b""
    records: list[list[PostRecord]] = []
    for orders in groups:
        records.append([])
        for signed in orders:
            task_price, reason = judge_order(market, call, batch, first, signed)
            if reason is None:
                records[-1].append(_accept(market, call, batch, signed.order, task_price))
            else:
                skips += index.to_bytes(2, "big") + bytes((reason,))
            index += 1
    if any(records):
        record_page = encode_record_page(keccak(page), first, records)
        batch.post_hash = fold(batch.post_hash, [keccak(record_page)])
    return ev.PagePosted(batch.batch_id, first, page, skips)


@dataclass(frozen=True, slots=True)
class _Judged:
    """An order with all that its reasons for a skip need."""

    market: Market
    call: Call
    batch: Batch
    first: int
    signed: SignedOrder
    task_price: int

    def is_above_capacity(self) -> bool:
        market, terms = self.market, self.batch.terms
        most = market.era_table(self.batch).capacity * terms.commit_period // 2
        return compute_backlog(market, self.batch, self.call.now) + _fuel_of(terms, self.signed.order) > most

    def is_period_wrong(self) -> bool:
        params, order = self.market.params, self.signed.order
        needed = compute_needed_period(
            order.task_count, order.fuel_limit, order.input_bytes, params.reference_fuel_rate,
            params.reference_byte_rate,
        )  # fmt: skip
        return not needed <= self.batch.terms.commit_period <= order.commit_period

    def is_signature_bad(self) -> bool:
        signature, requester = self.signed.signature, self.signed.order.requester
        digest = compute_job_id(self.market.separator, self.signed.order)
        if self.signed.kind is SignatureKind.WALLET:
            return not self.market.ask_wallet(requester, digest, signature)
        return self.market.recover(digest, signature) != requester

    def find_reason(self) -> OrderSkip | None:
        """First reason that holds, in the order of the table."""
        market, batch, order = self.market, self.batch, self.signed.order
        if not 0 < order.task_count <= MAX_TASKS or order.fuel_limit == 0:
            return OrderSkip.EMPTY
        if order.strategy or order.flags > OrderFlag.STRICT or order.fuel_limit > market.params.max_task_fuel:
            return OrderSkip.UNSUPPORTED
        if self.call.now > order.valid_until:
            return OrderSkip.EXPIRED
        if len(market.table_of(batch).units) < order.min_units:
            return OrderSkip.UNITS
        if batch.terms.fee_wei > order.max_fee:
            return OrderSkip.FEE
        price = market.registry.get_class(order.class_id).price
        if price > order.max_price or self.task_price >= U64:
            return OrderSkip.PRICE
        if self.is_period_wrong():
            return OrderSkip.PERIOD
        most = self.first + compute_page_bundles(batch.terms.seats, batch.terms.rounds)
        if batch.bundles + count_bundles(order.task_count) > min(MAX_BUNDLES, most):
            return OrderSkip.FULL
        if self.is_above_capacity():
            return OrderSkip.CAPACITY
        if self.is_signature_bad():
            return OrderSkip.SIGNATURE
        if market.nonces[order.requester].is_used(order.nonce):
            return OrderSkip.NONCE
        if market.free[order.requester] < _escrow_of(market, batch, order, self.task_price):
            return OrderSkip.DEPOSIT
        return None


def judge_order(
    market: Market, call: Call, batch: Batch, first: int, signed: SignedOrder
) -> tuple[int, OrderSkip | None]:
    """Price of a task in wei, and why the order would be skipped if it stood next in a page that begins at bundle
    `first` of this batch."""
    price = market.registry.get_class(batch.terms.class_id).price
    task_price = compute_task_price(signed.order.fuel_limit, price, FUEL_UNIT)
    return task_price, _Judged(market, call, batch, first, signed, task_price).find_reason()


def compute_backlog(market: Market, batch: Batch, now: int) -> int:
    """Fuel that was ordered of the batch's class and may still be under way: half the capacity drains a second."""
    fuel, at = market.backlog.get(batch.terms.class_id, (0, 0))
    return max(0, fuel - (now - at) * market.era_table(batch).capacity // 2)


def _fuel_of(terms: Terms, order: JobOrder) -> int:
    return order.fuel_limit * order.task_count * terms.seats


def _escrow_of(market: Market, batch: Batch, order: JobOrder, task_price: int) -> int:
    terms, bps = batch.terms, market.params.audit_bps
    return compute_order_escrow(task_price, order.task_count, terms.seats, terms.rounds, terms.fee_wei, bps)


def _accept(market: Market, call: Call, batch: Batch, order: JobOrder, task_price: int) -> PostRecord:
    terms, escrow = batch.terms, _escrow_of(market, batch, order, task_price)
    market.nonces[order.requester].use(order.nonce)
    market.free[order.requester] -= escrow
    market.escrow[order.requester] += escrow
    market.backlog[terms.class_id] = compute_backlog(market, batch, call.now) + _fuel_of(terms, order), call.now
    batch.bundles += count_bundles(order.task_count)
    return post_record(order, task_price)


def _close(market: Market, call: Call, batch: Batch) -> list[ev.Event]:
    if batch.bundles == 0:
        return market.finish(batch, call.block)
    batch.pending = set(range(batch.bundles))
    market.await_beacon(batch, call.block)
    return [ev.BatchClosed(batch.batch_id, batch.bundles, batch.beacon_block)]
