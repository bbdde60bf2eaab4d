"""Events → what the node knows of the chain. Feeding all events from the first again gives the same view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from quorate.protocol import encoding, events
from quorate.protocol.beacon import get_mix_hash
from quorate.protocol.commitment import compute_round_domain
from quorate.protocol.errors import UnrecoverableError
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.params import FUEL_UNIT
from quorate.protocol.partition import count_bundles
from quorate.protocol.settlement import compute_task_price, expand_record_page, post_record
from quorate.protocol.types import Address, FineKind, JobId, Opening, PostRecord, SignedOrder, Stage, Terms
from quorate_node.core.disputeview import DISPUTE_HANDLERS, get_table
from quorate_node.core.state import Network
from quorate_node.core.stimuli import ChainAdvanced, Logged
from quorate_node.core.views import (
    Audits,
    Batch,
    Bundle,
    ChainView,
    ClassView,
    Faults,
    OperatorView,
    Outcome,
    Round,
    SeatKey,
)

SALT_BYTES = 16
MAX_SKIPPED = 10_000


def advance(chain: ChainView, network: Network, stimulus: ChainAdvanced) -> tuple[list[str], set[int]]:
    """Take in new blocks; what made no sense of them, and the batches that are followed no longer."""
    chain.tables.update(stimulus.tables)
    problems: list[str] = []
    for logged in stimulus.events:
        try:
            apply_event(chain, network, logged)
        except UnrecoverableError:
            raise
        except Exception as error:  # one event that makes no sense must not hide those behind it
            problems.append(f"event {type(logged.event).__name__} in block {logged.block}: {error!r}")
    chain.head = stimulus.head
    return problems, _drop_final(chain)


def _drop_final(chain: ChainView) -> set[int]:
    """Drop what can never matter again: settled batches after their challenge period, unless in dispute."""
    disputed = {dispute.record.batch_id for dispute in chain.disputes.values()}
    gone = {
        batch.id
        for batch in chain.batches.values()
        if batch.status is BatchStatus.SETTLED and chain.head.timestamp >= batch.final_at and batch.id not in disputed
    }
    for batch_id in gone:
        del chain.batches[batch_id]
    return gone


def is_followed(event: events.Event) -> bool:
    """Whether an event changes the view."""
    return type(event) in _HANDLERS


def apply_event(chain: ChainView, network: Network, logged: Logged) -> None:
    """Bring the view up to date with one event. Events of batches that were dropped are ignored."""
    handler = _HANDLERS.get(type(logged.event))
    if handler is not None:
        handler(chain, network, logged.event, logged)


# registry -----------------------------------------------------------------------------------------------------------


def _on_registered(chain: ChainView, network: Network, event: events.OperatorRegistered, logged: Logged) -> None:
    chain.operators[event.operator_id] = OperatorView(event.owner, event.signing_key)
    chain.operator_by_address[event.owner] = event.operator_id
    chain.operator_by_address[event.signing_key] = event.operator_id


def _on_key(chain: ChainView, network: Network, event: events.SigningKeyChanged, logged: Logged) -> None:
    chain.operators[event.operator_id].signing_key = event.signing_key
    chain.operator_by_address[event.signing_key] = event.operator_id


def _on_endpoint(chain: ChainView, network: Network, event: events.EndpointAnnounced, logged: Logged) -> None:
    chain.operators[event.operator_id].url = event.url


def _on_jailed(chain: ChainView, network: Network, event: events.OperatorJailed, logged: Logged) -> None:
    operator = chain.operators[event.operator_id]
    operator.jailed_until, operator.faults = event.until, None


def _on_released(chain: ChainView, network: Network, event: events.OperatorReleased, logged: Logged) -> None:
    chain.operators[event.operator_id].jailed_until = 0


def _on_slashed(chain: ChainView, network: Network, event: events.OperatorSlashed, logged: Logged) -> None:
    chain.operators[event.operator_id].ejected |= event.ejected


def _on_class(chain: ChainView, network: Network, event: events.ClassCreated, logged: Logged) -> None:
    chain.classes[event.class_id] = ClassView(event.profile, event.price, logged.timestamp, judged=event.judged)


def _on_joined(chain: ChainView, network: Network, event: events.ClassJoined, logged: Logged) -> None:
    chain.classes[event.class_id].joined.add(event.operator_id)


def _on_left(chain: ChainView, network: Network, event: events.ClassLeft, logged: Logged) -> None:
    chain.classes[event.class_id].joined.discard(event.operator_id)


def _on_era(chain: ChainView, network: Network, event: events.EraAdvanced, logged: Logged) -> None:
    view = chain.classes[event.class_id]
    view.price, view.era_end, view.table = event.price, event.era_end, event.table


def _on_fined(chain: ChainView, network: Network, event: events.OperatorFined, logged: Logged) -> None:
    if event.kind not in (FineKind.SILENT, FineKind.UNREVEALED):
        return
    if faults := _find_faults(chain, network, event, logged):
        faults.failed += 1
    if event.kind == FineKind.UNREVEALED and (operator := chain.operators.get(event.operator_id)):
        operator.was_left_out = True


def _on_credited(chain: ChainView, network: Network, event: events.Credited, logged: Logged) -> None:
    for entry in event.entries:
        operator = chain.operators.get(entry >> 128)
        faults = operator.faults if operator else None
        if faults is not None and logged.timestamp // network.params.era_period == faults.era:
            faults.done += entry >> 96 & 0xFFFFFFFF


def _find_faults(chain: ChainView, network: Network, event: events.OperatorFined, logged: Logged) -> Faults | None:
    operator = chain.operators.get(event.operator_id)
    if operator is None or not logged.timestamp:
        return None
    era = logged.timestamp // network.params.era_period
    # The chain judges the record of an earlier era before it counts in another.
    if operator.faults is None or operator.faults.era != era:
        operator.faults = Faults(era)
    return operator.faults


# batches ------------------------------------------------------------------------------------------------------------


def _on_opened(chain: ChainView, network: Network, event: events.BatchOpened, logged: Logged) -> None:
    terms = Terms(event.class_id, event.seats, event.rounds, event.commit_period, event.fee_wei)
    table = get_table(chain, event.class_id, event.table)
    chain.batches[event.batch_id] = Batch(
        event.batch_id, Address(event.collator), event.table, terms, table, logged.timestamp,
        judged=chain.classes[event.class_id].judged,
    )  # fmt: skip


def _on_page(chain: ChainView, network: Network, event: events.PagePosted, logged: Logged) -> None:
    batch = chain.batches.get(event.batch_id)
    if batch is None:
        return
    groups = encoding.decode_post_page(event.page, batch.terms)
    skips, index, number = encoding.decode_order_skips(event.skips), 0, event.first_bundle
    price = chain.classes[batch.terms.class_id].price
    records: list[list[PostRecord]] = []
    accepted: list[SignedOrder] = []
    for orders in groups:
        records.append([])
        for signed in orders:
            if index in skips:
                _note_skip(chain, encoding.compute_job_id(network.separator, signed.order), skips[index].name)
            else:
                task_price = compute_task_price(signed.order.fuel_limit, price, FUEL_UNIT)
                records[-1].append(post_record(signed.order, task_price))
                accepted.append(signed)
            index += 1
    if not accepted:
        return
    page = encoding.encode_record_page(keccak(event.page), number, records)
    batch.post_hash = encoding.fold(batch.post_hash, [keccak(page)])
    shares = batch.terms.seats * (1 + batch.terms.rounds)
    expanded = iter(expand_record_page(number, [record for group in records for record in group], shares))
    for signed in accepted:
        job_id = encoding.compute_job_id(network.separator, signed.order)
        for job_bundle in range(count_bundles(signed.order.task_count)):
            carry = next(expanded)
            batch.bundles[carry.bundle] = Bundle(carry.bundle, job_id, signed.order, job_bundle, carry)
    batch.pages.append(page)
    batch.record_pages.append(page)
    batch.page_bundles.append(tuple(range(number, len(batch.bundles))))
    batch.record_bundles.append(batch.page_bundles[-1])


def _note_skip(chain: ChainView, job_id: JobId, reason: str) -> None:
    chain.skipped[job_id] = reason
    while len(chain.skipped) > MAX_SKIPPED:
        chain.skipped.popitem(last=False)


def _on_closed(chain: ChainView, network: Network, event: events.BatchClosed, logged: Logged) -> None:
    if batch := chain.batches.get(event.batch_id):
        batch.status, batch.pending = BatchStatus.AWAITING, set(batch.bundles)
        batch.round = Round(0, event.beacon_block)


def _on_round_started(chain: ChainView, network: Network, event: events.RoundStarted, logged: Logged) -> None:
    batch = chain.batches.get(event.batch_id)
    if batch is None or batch.round is None:
        return
    batch.status = BatchStatus.ASSIGNED
    set_beacon(batch, network, event.beacon)
    batch.round.start_time, batch.round.start_block = logged.timestamp, logged.block


def set_beacon(batch: Batch, network: Network, beacon: bytes) -> None:
    """A round's randomness is known, from its header or from the chain, which has the last word."""
    if batch.round is None or batch.round.beacon == beacon:
        return
    batch.round.beacon, batch.round.committees = beacon, {}
    batch.round.domain = compute_round_domain(
        network.chain_id, network.market, batch.id, batch.post_hash, Stage.BUNDLE, batch.round.number, beacon
    )


def take_header(batch: Batch, network: Network, round_: int, header: bytes) -> None:
    """The header that decides a round was read."""
    if batch.round is None or batch.round.number != round_:
        return
    batch.round.header, batch.round.is_doubted = header, False
    if batch.status is BatchStatus.AWAITING:
        set_beacon(batch, network, get_mix_hash(header))


def _on_commit_page(chain: ChainView, network: Network, event: events.CommitPage, logged: Logged) -> None:
    batch = chain.batches.get(event.batch_id)
    if batch is None or batch.round is None:
        return
    skips = encoding.decode_list_skips(event.skips)
    lists = encoding.decode_commit_lists(event.lists)
    kept = tuple(each for index, each in enumerate(lists) if index not in skips)
    if kept:
        batch.round.pages.append(kept)
    for each in kept:
        for item in each.items:
            batch.round.committed[item.bundle, item.seat] = item.commitment
            batch.round.commit_block[item.bundle] = logged.block


def _on_revealed(chain: ChainView, network: Network, event: events.OpeningsRevealed, logged: Logged) -> None:
    batch = chain.batches.get(event.batch_id)
    if batch is None or batch.round is None:
        return
    for seat, opening in decode_revealed(event.votes, event.openings).items():
        batch.round.openings[seat] = opening
        batch.round.revealed.add(seat)


def decode_revealed(votes: bytes, openings: bytes) -> dict[SeatKey, Opening]:
    """Openings of a `reveal` call by their seats; the chain has checked them."""
    listed = encoding.decode_votes(votes, 1)[0] or []
    reader, found = encoding.Reader(openings), dict[SeatKey, Opening]()
    while not reader.done:
        reader.uint(2)  # number of the commit page
        for _ in range(reader.uint(2)):
            reader.uint(2)  # member
            count = reader.uint(2)
            if count == 0:
                reader.take(32)
            for _ in range(count):
                seat, tag = (reader.uint(2), reader.uint(1)), reader.uint(1)
                if tag == encoding.NOT_OPENED:
                    reader.take(32)
                else:
                    found[seat] = Opening(listed[tag], reader.take(SALT_BYTES))
    return found


def _on_settled(chain: ChainView, network: Network, event: events.BundlesSettled, logged: Logged) -> None:
    if batch := chain.batches.get(event.batch_id):
        batch.outcome_pages.append(bytes((event.round,)) + event.outcomes)
        for row in encoding.decode_outcomes(event.outcomes):
            batch.pending.discard(row.bundle)
            batch.outcomes[row.bundle] = Outcome(event.round, len(batch.outcome_pages) - 1, row)


def _on_carried(chain: ChainView, network: Network, event: events.BundlesCarried, logged: Logged) -> None:
    if batch := chain.batches.get(event.batch_id):
        batch.carried_pages.append(event.page)


def _on_awaited(chain: ChainView, network: Network, event: events.RoundAwaited, logged: Logged) -> None:
    batch = chain.batches.get(event.batch_id)
    if batch is None:
        return
    batch.status, batch.round = BatchStatus.AWAITING, Round(event.round, event.beacon_block)
    batch.pages, batch.carried_pages, batch.page_bundles = batch.carried_pages, [], []
    batch.pending = set()
    for page in batch.pages:
        records = encoding.decode_carry_page(page)
        batch.page_bundles.append(tuple(record.bundle for record in records))
        for record in records:
            batch.bundles[record.bundle].record = record
            batch.pending.add(record.bundle)


def _on_voided(chain: ChainView, network: Network, event: events.BatchVoided, logged: Logged) -> None:
    if batch := chain.batches.get(event.batch_id):
        if batch.round is None:  # it never closed: nothing was pending yet
            batch.pending = set(batch.bundles)
        batch.status = BatchStatus.VOIDED


def _on_batch_settled(chain: ChainView, network: Network, event: events.BatchSettled, logged: Logged) -> None:
    if batch := chain.batches.get(event.batch_id):
        batch.status, batch.final_at = BatchStatus.SETTLED, event.final_at
        batch.pending = set()
        number = batch.round.number if batch.round else 0
        batch.audits = Audits(logged.block + network.params.beacon_delay, number)


def _on_extended(chain: ChainView, network: Network, event: events.BatchExtended, logged: Logged) -> None:
    if batch := chain.batches.get(event.batch_id):
        if batch.audits is not None and batch.audits.start_time is not None:  # each outcome is in one draw
            batch.audit_from = batch.audits.round + 1
        batch.collator, batch.audits = Address(event.collator), None
        batch.terms = replace(batch.terms, rounds=event.rounds)


_HANDLERS: dict[type, Callable[[ChainView, Network, Any, Logged], None]] = {
    events.OperatorRegistered: _on_registered,
    events.SigningKeyChanged: _on_key,
    events.EndpointAnnounced: _on_endpoint,
    events.OperatorJailed: _on_jailed,
    events.OperatorReleased: _on_released,
    events.OperatorSlashed: _on_slashed,
    events.ClassCreated: _on_class,
    events.ClassJoined: _on_joined,
    events.ClassLeft: _on_left,
    events.EraAdvanced: _on_era,
    events.BatchOpened: _on_opened,
    events.PagePosted: _on_page,
    events.BatchClosed: _on_closed,
    events.RoundStarted: _on_round_started,
    events.CommitPage: _on_commit_page,
    events.BundlesSettled: _on_settled,
    events.BundlesCarried: _on_carried,
    events.RoundAwaited: _on_awaited,
    events.BatchVoided: _on_voided,
    events.BatchSettled: _on_batch_settled,
    events.OperatorFined: _on_fined,
    events.Credited: _on_credited,
    events.OpeningsRevealed: _on_revealed,
    events.BatchExtended: _on_extended,
    **DISPUTE_HANDLERS,
}
