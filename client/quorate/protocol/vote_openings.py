"""Reading what `revealVotes` and `settleVotes` are sent: rebuilt commitments must give the hashes that the chain kept.

Errors are those of the contract: MalformedPage for bytes that make no sense, HashMismatch for a lie about the past.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from quorate.protocol.context import refuse, require
from quorate.protocol.dispute_pages import compute_opened_page_hash, decode_answers, read_vote_page
from quorate.protocol.encoding import Reader
from quorate.protocol.errors import ValidationError
from quorate.protocol.types import Opening, Table, Vote


@dataclass(frozen=True, slots=True)
class ReadVotes:
    """Openings of one window: answers by member that opened, commitments by member that did not."""

    opened: Mapping[int, Vote] = field(default_factory=dict)
    closed: Mapping[int, bytes] = field(default_factory=dict)


def read_answers(votes: bytes, needed: Collection[Vote] = ()) -> list[Vote]:
    """Answers that the caller lists; those `needed` must be among them, since the contract numbers by this list."""
    try:
        answers = decode_answers(votes)
    except ValidationError:
        refuse("MalformedPage")
    require(set(needed) <= set(answers), "MalformedPage")
    return answers


def read_vote_openings(
    statement: bytes, table: Table, pages: Sequence[bytes], answers: Sequence[Vote], data: bytes, is_whole: bool
) -> ReadVotes:
    """Openings of a window with commit page hashes `pages`, of which all must stand in `data` if it `is_whole`."""
    reader, opened, closed, after = Reader(data), dict[int, Vote](), dict[int, bytes](), 0
    operator_ids = [int(member.operator_id) for member in table.members]
    while not reader.done:
        try:
            index = reader.uint(2)
            if not after <= index < len(pages) or (is_whole and index != after):
                raise ValidationError(f"commit page {index} of {len(pages)} stands behind {after - 1}")
            rows = read_vote_page(reader, answers)
            if any(member >= len(operator_ids) for member, _ in rows):
                raise ValidationError("no such member")
        except ValidationError:
            refuse("MalformedPage")
        after = index + 1
        require(compute_opened_page_hash(rows, statement, operator_ids) == pages[index], "HashMismatch", "openings")
        opened.update({member: row.vote for member, row in rows if isinstance(row, Opening)})
        closed.update({member: row for member, row in rows if isinstance(row, bytes)})
    require(not is_whole or after == len(pages), "MalformedPage")
    return ReadVotes(opened, closed)
