"""What is sent to `settle`, `reveal` and `settleVotes`: built from pages, commitments and known openings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from quorate.protocol.encoding import (
    OpenedList,
    compute_commit_page_hash,
    compute_list_leaf,
    encode_openings,
    encode_votes,
    fold,
)
from quorate.protocol.hashing import keccak
from quorate.protocol.settlement import Ballot, RoundTerms
from quorate.protocol.types import ZERO32, CarryRecord, CommitItem, CommitList, Opening, Verdict, Vote

MAX_LISTED_VOTES = 254
"""A count of 255 and the tag 255 mean something else."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """Arguments of `settle`, in the order of the Solidity struct."""

    prior: bytes
    page: bytes
    tail: tuple[bytes, ...] = ()
    commit_pages: tuple[bytes, ...] = ()
    votes: bytes = b""
    openings: bytes = b""

    def as_tuple(self) -> tuple[bytes, bytes, tuple[bytes, ...], tuple[bytes, ...], bytes, bytes]:
        """Values in the order of the Solidity struct."""
        return self.prior, self.page, self.tail, self.commit_pages, self.votes, self.openings


@dataclass(frozen=True, slots=True)
class Reveal:
    """Arguments of `reveal` behind the batch's id."""

    commit_pages: tuple[bytes, ...]
    votes: bytes
    openings: bytes


@dataclass(frozen=True, slots=True)
class PlannedSettlement:
    """A settle call with what it will decide: (bundle, verdict) of each bundle settled, ascending."""

    settlement: Settlement
    verdicts: tuple[tuple[int, Verdict], ...]


@dataclass(frozen=True, slots=True)
class RoundView:
    """What a collator knows of a round.

    `commit_pages` are the lists of each page that were not skipped, in the order of the chain; `openings` those that
    reached it (by a peer or `reveal`), by (bundle, seat); `pages` all record pages (round 0) or carry pages (later).
    """

    terms: RoundTerms
    pending: frozenset[int]
    pages: tuple[bytes, ...]
    commit_pages: tuple[tuple[CommitList, ...], ...]
    openings: Mapping[tuple[int, int], Opening]
    committee: Callable[[int], tuple[int, ...]]
    commit_hashes: tuple[bytes, ...] = field(default=())

    def get_commit_hashes(self) -> tuple[bytes, ...]:
        """Hashes of the commit pages; computed when not given."""
        return self.commit_hashes or tuple(compute_commit_page_hash(page) for page in self.commit_pages)

    def get_items(self) -> dict[tuple[int, int], CommitItem]:
        """What each seat committed."""
        return {(i.bundle, i.seat): i for page in self.commit_pages for each in page for i in each.items}


def may_open(view: RoundView, record: CarryRecord, is_direct_past: bool) -> bool:
    """Whether an operator may show its vote on a bundle: nobody can commit to a copy of it any more.

    `is_direct_past` tells whether window 2 is past. Before, every seat must have committed or have a standing vote.
    """
    items, committee = view.get_items(), view.committee(record.bundle)
    return is_direct_past or all(
        (record.bundle, seat) in items or member in record.voters for seat, member in enumerate(committee)
    )


def build_ballots(view: RoundView, bundles: Sequence[CarryRecord]) -> list[Ballot]:
    """Ballots of the pending ones among a page's bundles; an opening counts where its seat has committed."""
    items: dict[int, dict[int, CommitItem]] = {}
    for (bundle, seat), item in view.get_items().items():
        items.setdefault(bundle, {})[seat] = item
    pending = (record for record in bundles if record.bundle in view.pending)
    return [_build_ballot(view, record, items.get(record.bundle, {})) for record in pending]


def _build_ballot(view: RoundView, record: CarryRecord, items: Mapping[int, CommitItem]) -> Ballot:
    found = {seat: view.openings.get((record.bundle, seat)) for seat in items}
    return Ballot(
        record=record,
        committee=view.committee(record.bundle),
        opened={seat: opening.vote for seat, opening in found.items() if opening},
        abstained=frozenset(seat for seat, item in items.items() if item.reason is not None),
        committed=frozenset(items),
    )


def plan_settlement(
    view: RoundView, page: int, bundles: Sequence[CarryRecord], is_late: bool, limit: int | None = None
) -> PlannedSettlement | None:
    """Settle call for one page: every bundle that is ready, or every pending one once window 4 is past (`is_late`).

    `bundles` are those of the page (`expand_record_page`, `decode_carry_page`); at most `limit` of them are settled.
    None when there is nothing to settle.
    """
    chosen = [ballot for ballot in build_ballots(view, bundles) if is_late or ballot.is_ready][:limit]
    if not chosen:
        return None
    # Of the votes listed only those opened now count; a standing vote is on record.
    votes = {ballot.record.bundle: sorted(set(ballot.opened.values())) for ballot in chosen}
    hashes = [keccak(each) for each in view.pages]
    settlement = Settlement(
        prior=fold(ZERO32, hashes[:page]),
        page=view.pages[page],
        tail=tuple(hashes[page + 1 :]),
        commit_pages=view.get_commit_hashes(),
        votes=encode_votes([votes.get(record.bundle) for record in bundles]),
        openings=encode_openings(_select_openings(view, lambda item: item.bundle in votes), votes),
    )
    return PlannedSettlement(settlement, tuple((b.record.bundle, b.compute_verdict(view.terms)) for b in chosen))


def plan_reveals(view: RoundView, seats: Collection[tuple[int, int]]) -> list[Reveal]:
    """Calls of `reveal` for openings that a collator left out: those of `seats`, (bundle, seat), that are known.

    One call carries at most `MAX_LISTED_VOTES` distinct votes, so there may be several.
    """
    items = view.get_items()
    known = sorted(s for s in seats if s in items and s in view.openings and s[0] in view.pending)
    groups: list[tuple[set[Vote], set[tuple[int, int]]]] = []
    for place in known:
        vote = view.openings[place].vote
        if not groups or (len(groups[-1][0]) == MAX_LISTED_VOTES and vote not in groups[-1][0]):
            groups.append((set(), set()))
        groups[-1][0].add(vote)
        groups[-1][1].add(place)
    return [_plan_reveal(view, sorted(votes), places) for votes, places in groups]


def _plan_reveal(view: RoundView, votes: Sequence[Vote], places: Collection[tuple[int, int]]) -> Reveal:
    pages = _select_openings(view, lambda item: (item.bundle, item.seat) in places)
    return Reveal(view.get_commit_hashes(), encode_votes([votes]), encode_openings(pages, votes))


def plan_void_settlement(pages: Sequence[bytes], page: int) -> Settlement:
    """Settle call for one page of a `VOIDED` batch."""
    hashes = [keccak(each) for each in pages]
    return Settlement(fold(ZERO32, hashes[:page]), pages[page], tuple(hashes[page + 1 :]))


def _select_openings(view: RoundView, is_wanted: Callable[[CommitItem], bool]) -> list[tuple[int, list[OpenedList]]]:
    """Commit pages with a wanted item, wanted items opened where possible; lists without one stand as leaves."""
    found: list[tuple[int, list[OpenedList]]] = []
    for index, lists in enumerate(view.commit_pages):
        if any(is_wanted(item) for each in lists for item in each.items):
            found.append((index, [_select_list(view, each, is_wanted) for each in lists]))
    return found


def _select_list(view: RoundView, commit_list: CommitList, is_wanted: Callable[[CommitItem], bool]) -> OpenedList:
    if not any(map(is_wanted, commit_list.items)):
        return commit_list.member, compute_list_leaf(commit_list)
    return commit_list.member, [
        (item, view.openings.get((item.bundle, item.seat)) if is_wanted(item) else None) for item in commit_list.items
    ]
