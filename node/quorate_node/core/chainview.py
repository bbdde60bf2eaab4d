"""Events → what the node knows of the chain. Feeding all events from the first again gives the same view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quorate.protocol import dispute_pages, encoding, events
from quorate.protocol.beacon import get_mix_hash
from quorate.protocol.commitment import compute_round_domain
from quorate.protocol.committee import compute_committee
from quorate.protocol.errors import UnrecoverableError
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.params import FUEL_UNIT
from quorate.protocol.partition import count_bundles
from quorate.protocol.settlement import compute_task_price, expand_record_page, post_record
from quorate.protocol.types import Address, JobId, PostRecord, SignedOrder, Stage, Table, Terms, Verdict, Vote
from quorate_node.core.state import Batch, Bundle, ChainView, ClassView, Dispute, Network, OperatorView, Round
from quorate_node.core.stimuli import ChainAdvanced, Logged

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
    chain.operators[event.operator_id].jailed_until = event.until


def _on_released(chain: ChainView, network: Network, event: events.OperatorReleased, logged: Logged) -> None:
    chain.operators[event.operator_id].jailed_until = 0


def _on_slashed(chain: ChainView, network: Network, event: events.OperatorSlashed, logged: Logged) -> None:
    chain.operators[event.operator_id].ejected |= event.ejected


def _on_class(chain: ChainView, network: Network, event: events.ClassCreated, logged: Logged) -> None:
    chain.classes[event.class_id] = ClassView(event.profile, event.price, logged.timestamp)


def _on_era(chain: ChainView, network: Network, event: events.EraAdvanced, logged: Logged) -> None:
    view = chain.classes[event.class_id]
    view.price, view.era_end, view.table = event.price, event.era_end, event.table


# batches ------------------------------------------------------------------------------------------------------------


def _on_opened(chain: ChainView, network: Network, event: events.BatchOpened, logged: Logged) -> None:
    terms = Terms(event.class_id, event.seats, event.rounds, event.commit_period, event.fee_wei)
    table = get_table(chain, event.class_id, event.table)
    chain.batches[event.batch_id] = Batch(
        event.batch_id, Address(event.collator), event.table, terms, table, logged.timestamp
    )


def get_table(chain: ChainView, class_id: int, number: int) -> Table:
    """A table that the agent has read. Raises UnrecoverableError when it has not, which is our bug."""
    try:
        return chain.tables[class_id, number]
    except KeyError:
        raise UnrecoverableError(f"table {number} of class {class_id} was not read before its batch") from None


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
    batch.page_bundles.append(tuple(range(number, len(batch.bundles))))


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
    batch.round.header = header
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


def _on_settled(chain: ChainView, network: Network, event: events.BundlesSettled, logged: Logged) -> None:
    if batch := chain.batches.get(event.batch_id):
        for row in encoding.decode_outcomes(event.outcomes):
            batch.pending.discard(row.bundle)
            batch.verdicts[row.bundle] = row.verdict, row.vote


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


# disputes -----------------------------------------------------------------------------------------------------------


def _on_dispute(chain: ChainView, network: Network, event: events.DisputeOpened, logged: Logged) -> None:
    record = dispute_pages.decode_dispute_record(event.record)
    batch = chain.batches.get(record.batch_id)
    bundle = batch.bundles.get(record.bundle) if batch else None
    table = get_table(chain, record.class_id, record.table)
    chain.disputes[event.dispute_id] = Dispute(
        event.dispute_id, record, event.record, table, bundle, logged.timestamp, logged.block
    )


def _on_votes(chain: ChainView, network: Network, event: events.VotesCommitted, logged: Logged) -> None:
    dispute = chain.disputes.get(event.dispute_id)
    if dispute is None:
        return
    skips = encoding.decode_list_skips(event.skips)
    rows = dispute_pages.decode_vote_lists(event.lists)
    kept = tuple(row for index, row in enumerate(rows) if index not in skips)
    if kept:
        dispute.pages.append(kept)
    for member, _, commitment in kept:
        dispute.committed[member] = commitment


def _on_dispute_decided(chain: ChainView, network: Network, event: events.DisputeDecided, logged: Logged) -> None:
    if batch := chain.batches.get(event.batch_id):
        batch.verdicts[event.bundle] = Verdict(event.verdict), Vote(event.root)


def _on_dispute_settled(chain: ChainView, network: Network, event: events.DisputeSettled, logged: Logged) -> None:
    chain.disputes.pop(event.dispute_id, None)


_HANDLERS: dict[type, Callable[[ChainView, Network, Any, Logged], None]] = {
    events.OperatorRegistered: _on_registered,
    events.SigningKeyChanged: _on_key,
    events.EndpointAnnounced: _on_endpoint,
    events.OperatorJailed: _on_jailed,
    events.OperatorReleased: _on_released,
    events.OperatorSlashed: _on_slashed,
    events.ClassCreated: _on_class,
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
    events.DisputeOpened: _on_dispute,
    events.VotesCommitted: _on_votes,
    events.DisputeDecided: _on_dispute_decided,
    events.DisputeSettled: _on_dispute_settled,
}


# derived ------------------------------------------------------------------------------------------------------------


def get_committee(batch: Batch, bundle: int) -> tuple[int, ...]:
    """Rows drawn for a bundle in the present round, whose beacon must be known."""
    current = batch.round
    if current is None or current.domain is None:
        raise UnrecoverableError(f"batch {batch.id} has no beacon yet")
    if bundle not in current.committees:
        current.committees[bundle] = compute_committee(
            current.domain, bundle, batch.terms.seats, batch.table.units, len(batch.table.members)
        )
    return current.committees[bundle]


def get_missing_seats(batch: Batch, bundle: int) -> list[int]:
    """Seats of a pending bundle that have neither committed on chain nor a standing vote."""
    current, standing = batch.round, batch.bundles[bundle].record.voters
    committed = current.committed if current else {}
    return [
        seat
        for seat, member in enumerate(get_committee(batch, bundle))
        if (bundle, seat) not in committed and member not in standing
    ]


def get_window_end(batch: Batch, network: Network, window: int) -> tuple[int, int] | None:
    """(unix seconds, block) from which window 1 to 4 of the present round is past; None before it has started."""
    current, params = batch.round, network.params
    if current is None or current.start_time is None:
        return None
    periods = (batch.terms.commit_period, params.direct_period, params.settle_period, params.direct_period)
    return current.start_time + sum(periods[:window]), current.start_block + window * params.min_blocks


def is_window_past(batch: Batch, network: Network, window: int, timestamp: int, block: int) -> bool:
    """Whether a window is past in a block; False before the round has started."""
    end = get_window_end(batch, network, window)
    return end is not None and timestamp >= end[0] and block >= end[1]
