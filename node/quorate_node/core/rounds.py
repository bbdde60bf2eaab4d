"""What follows from a batch's events: who was drawn, who is missing, and which window is past."""

from __future__ import annotations

from quorate.protocol.committee import compute_committee
from quorate.protocol.encoding import decode_carry_page
from quorate.protocol.errors import UnrecoverableError
from quorate.protocol.planning import RoundView
from quorate.protocol.settlement import RoundTerms
from quorate.protocol.types import REASONS, CarryRecord
from quorate_node.core.state import Network
from quorate_node.core.views import Batch, Round

LAST_CALL_S = 3
LAST_CALL_BLOCKS = 3


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


def get_last_call(batch: Batch, network: Network) -> int:
    """Seconds before the end of window 1 in which the collator sends what it has: a few blocks, but a third at most."""
    return min(max(LAST_CALL_S, LAST_CALL_BLOCKS * network.params.block_period), batch.terms.commit_period // 3)


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


def is_abstention(commitment: bytes) -> bool:
    """Whether a commitment is no vote's: nobody opens it."""
    return int.from_bytes(commitment, "big") < REASONS


def get_page_records(batch: Batch, current: Round, index: int) -> list[CarryRecord]:
    """Bundles of a page as its layout gives them."""
    if current.number:
        return decode_carry_page(batch.pages[index])
    return [batch.bundles[bundle].record for bundle in batch.page_bundles[index]]


def get_round_view(batch: Batch, current: Round, network: Network) -> RoundView:
    """The present round as planners want it."""
    terms = batch.terms
    return RoundView(
        terms=RoundTerms(
            terms.seats, current.number, terms.rounds, terms.fee_wei, network.params.audit_bps, batch.judged
        ),
        pending=frozenset(batch.pending),
        pages=tuple(batch.pages),
        commit_pages=tuple(current.pages),
        openings=current.openings,
        committee=lambda bundle: get_committee(batch, bundle),
    )
