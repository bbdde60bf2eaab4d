"""What a collator sends to `settle`, and anybody to `settleVotes`: built from pages, commitments and known openings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from quorate.protocol.encoding import (
    VoteCommit,
    compute_commit_page_hash,
    compute_vote_page_hash,
    encode_openings,
    encode_vote_openings,
    encode_votes,
    fold,
)
from quorate.protocol.hashing import keccak
from quorate.protocol.settlement import Ballot, RoundTerms
from quorate.protocol.types import ZERO32, CarryRecord, CommitItem, CommitList, Opening, Verdict, Vote


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
class VoteSettlement:
    """Arguments of `settleVotes` behind the dispute's id and record."""

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
    reached it, by (bundle, seat); `pages` all record pages (round 0) or carry pages (later) of the batch.
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


def build_ballots(view: RoundView, bundles: Sequence[CarryRecord]) -> list[Ballot]:
    """Ballots of the pending ones among a page's bundles; an opening counts where its seat has committed."""
    committed = {(item.bundle, item.seat) for page in view.commit_pages for each in page for item in each.items}
    opened: dict[int, dict[int, Vote]] = {}
    for (bundle, seat), opening in view.openings.items():
        if (bundle, seat) in committed:
            opened.setdefault(bundle, {})[seat] = opening.vote
    return [
        Ballot(record, view.committee(record.bundle), opened.get(record.bundle, {}))
        for record in bundles
        if record.bundle in view.pending
    ]


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
    votes = {ballot.record.bundle: sorted(ballot.votes) for ballot in chosen}
    hashes = [keccak(each) for each in view.pages]
    settlement = Settlement(
        prior=fold(ZERO32, hashes[:page]),
        page=view.pages[page],
        tail=tuple(hashes[page + 1 :]),
        commit_pages=view.get_commit_hashes(),
        votes=encode_votes([votes.get(record.bundle) for record in bundles]),
        openings=_encode_needed_openings(view, votes),
    )
    return PlannedSettlement(settlement, tuple((b.record.bundle, b.compute_verdict(view.terms)) for b in chosen))


def plan_void_settlement(pages: Sequence[bytes], page: int) -> Settlement:
    """Settle call for one page of a `VOIDED` batch."""
    hashes = [keccak(each) for each in pages]
    return Settlement(fold(ZERO32, hashes[:page]), pages[page], tuple(hashes[page + 1 :]))


def _encode_needed_openings(view: RoundView, votes: Mapping[int, Sequence[Vote]]) -> bytes:
    """Commit pages in which something is opened now; others cost calldata and prove nothing."""
    needed = []
    for index, lists in enumerate(view.commit_pages):
        rows = [(each.member, [(item, _opening_of(view, item, votes)) for item in each.items]) for each in lists]
        if any(opening for _, items in rows for _, opening in items):
            needed.append((index, rows))
    return encode_openings(needed, votes)


def _opening_of(view: RoundView, item: CommitItem, votes: Mapping[int, Sequence[Vote]]) -> Opening | None:
    return view.openings.get((item.bundle, item.seat)) if item.bundle in votes else None


def plan_vote_settlement(pages: Sequence[Sequence[VoteCommit]], openings: Mapping[int, Opening]) -> VoteSettlement:
    """Call of `settleVotes` from the class votes that were not skipped, page by page, and openings by member."""
    rows = [[(commit, openings.get(commit[0])) for commit in page] for page in pages]
    cast = [opening.vote for page in rows for _, opening in page if opening]
    votes, opened = encode_vote_openings(rows, cast)
    return VoteSettlement(tuple(map(compute_vote_page_hash, pages)), votes, opened)
