"""What anybody sends to `revealVotes` and `settleVotes`: built from commit pages, known openings and the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quorate.protocol.dispute_pages import (
    VotePage,
    compute_vote_page_hash,
    encode_answers,
    encode_cast,
    encode_vote_openings,
)
from quorate.protocol.types import CastVotes, Opening, Question, Vote, VoteCommit


@dataclass(frozen=True, slots=True)
class VoteReveal:
    """Arguments of `revealVotes` behind the dispute's id, record and question."""

    commit_pages: tuple[bytes, ...]
    votes: bytes
    openings: bytes


@dataclass(frozen=True, slots=True)
class VoteSettlement:
    """Arguments of `settleVotes` behind the dispute's id, record and question."""

    cast: bytes
    commit_pages: tuple[bytes, ...]
    votes: bytes
    openings: bytes
    rows: int

    def as_tuple(self) -> tuple[bytes, tuple[bytes, ...], bytes, bytes]:
        """Values in the order of the Solidity struct; `rows` is an argument of its own."""
        return self.cast, self.commit_pages, self.votes, self.openings


def plan_reveal_votes(pages: Sequence[Sequence[VoteCommit]], openings: Mapping[int, Opening]) -> VoteReveal | None:
    """Call of `revealVotes` that opens `openings` (by member); pages without one are left out. None without any.

    `pages` are the lists of this window that were not skipped, page by page.
    """
    rows = _open_pages(pages, openings)
    needed = [(index, page) for index, page in rows if any(isinstance(row, Opening) for _, row in page)]
    answers = [row.vote for _, page in needed for _, row in page if isinstance(row, Opening)]
    if not needed:
        return None
    listed = sorted(set(answers))
    return VoteReveal(_hash_pages(pages), encode_answers(listed), encode_vote_openings(needed, listed))


def plan_vote_settlement(
    question: Question,
    cast: CastVotes | None,
    pages: Sequence[Sequence[VoteCommit]],
    openings: Mapping[int, Opening],
    rows: int,
) -> VoteSettlement:
    """Call of `settleVotes` from the class votes of this window that were not skipped, page by page.

    `cast` is what `VoteWindowOpened` told last (`decode_cast`), None in the first window; `openings` are those known,
    by member; `rows` of the tally are punished in the same call (0 to leave all to `punish`).
    """
    opened = _open_pages(pages, openings)
    found = {row.vote for _, page in opened for _, row in page if isinstance(row, Opening)}
    standing: Mapping[int, Vote] = cast.votes if cast else {}
    listed = sorted({*found, *question.answers, *standing.values()})
    return VoteSettlement(
        cast=encode_cast(cast) if cast else b"",
        commit_pages=_hash_pages(pages),
        votes=encode_answers(listed),
        openings=encode_vote_openings(opened, listed),
        rows=rows,
    )


def _hash_pages(pages: Sequence[Sequence[VoteCommit]]) -> tuple[bytes, ...]:
    return tuple(map(compute_vote_page_hash, pages))


def _open_pages(pages: Sequence[Sequence[VoteCommit]], openings: Mapping[int, Opening]) -> list[VotePage]:
    return [
        (index, [(member, openings.get(member, commitment)) for member, _, commitment in page])
        for index, page in enumerate(pages)
    ]
