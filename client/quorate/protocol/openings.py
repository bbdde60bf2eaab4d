"""Reading what `settle`, `reveal`, `settleVotes` get: rebuilt commitments must give the hashes that the chain kept.

Errors are those of the contracts: MalformedPage for bytes that make no sense, HashMismatch for a lie about the past.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from quorate.protocol.commitment import compute_commitment, compute_statement
from quorate.protocol.context import require
from quorate.protocol.encoding import (
    NOT_OPENED,
    SALT_BYTES,
    Reader,
    decode_carry_page,
    decode_opened,
    decode_record_page,
    decode_votes,
    encode_items,
)
from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.partition import count_bundles
from quorate.protocol.types import CommitItem, Opening, OperatorId, Table, Vote


@dataclass(frozen=True, slots=True)
class PresentedSeat:
    """A seat whose commitment was shown: whose it is, its vote if it was opened, its reason if it abstains."""

    member: int
    vote: Vote | None = None
    reason: int | None = None


VotesOf = Callable[[int], Sequence[Vote] | None]
"""Votes that may be opened for a bundle; None where its items must stay closed."""


@dataclass(slots=True)
class OpeningsReader:
    """Rebuilds commit pages from `openings` of `settle` and `reveal`."""

    round_domain: bytes
    table: Table
    seats: int
    votes_of: VotesOf
    found: dict[tuple[int, int], PresentedSeat] = field(default_factory=dict)

    def read(self, data: bytes, pages: Sequence[bytes]) -> dict[tuple[int, int], PresentedSeat]:
        """Presented seats by (bundle, seat).

        `pages` are the round's commit page hashes. Raises ValidationError for malformed bytes,
        ProtocolViolation(HashMismatch) where a page does not come out as the chain kept it.
        """
        reader, last = Reader(data), -1
        while not reader.done:
            index = reader.uint(2)
            if not last < index < len(pages):
                raise ValidationError(f"commit page {index} of {len(pages)} does not ascend from {last}")
            last = index
            leaves = b"".join(self._read_list(reader) for _ in range(reader.uint(2)))
            require(keccak(leaves) == pages[index], "HashMismatch", "openings")
        return self.found

    def _read_list(self, reader: Reader) -> bytes:
        """Leaf of one list."""
        member, count = reader.uint(2), reader.uint(2)
        if count == 0:
            return reader.take(32)
        operator_id = _operator_of(self.table, member)
        items = encode_items([self._read_item(reader, member, operator_id) for _ in range(count)])
        return keccak(member.to_bytes(2, "big") + keccak(items))

    def _read_item(self, reader: Reader, member: int, operator_id: OperatorId) -> CommitItem:
        bundle, seat, tag = reader.uint(2), reader.uint(1), reader.uint(1)
        votes = self.votes_of(bundle)
        if tag == NOT_OPENED:
            item = CommitItem(bundle, seat, reader.take(32))
            if votes is not None and seat < self.seats:
                self.found[bundle, seat] = PresentedSeat(member, reason=item.reason)
            return item
        if votes is None or seat >= self.seats:
            raise ValidationError(f"bundle {bundle}, seat {seat} must stay closed")
        vote, salt = _vote_of(votes, tag), reader.take(SALT_BYTES)
        self.found[bundle, seat] = PresentedSeat(member, vote)
        return CommitItem(
            bundle, seat, compute_commitment(compute_statement(self.round_domain, bundle), operator_id, vote, salt)
        )


def _operator_of(table: Table, member: int) -> OperatorId:
    if member >= len(table.members):
        raise ValidationError(f"the table has no member {member}")
    return table.members[member].operator_id


def _vote_of(votes: Sequence[Vote], tag: int) -> Vote:
    if tag >= len(votes):
        raise ValidationError(f"vote {tag} of {len(votes)} was opened")
    return votes[tag]


def decode_settled(round_: int, page: bytes, votes: bytes, openings: bytes) -> dict[tuple[int, int], Opening]:
    """What a call of `settle` shows: openings by (bundle, seat). Raises ValidationError."""
    if round_ == 0:
        _, first, records = decode_record_page(page)
        bundles = list(range(first, first + sum(count_bundles(record.task_count) for record in records)))
    else:
        bundles = [record.bundle for record in decode_carry_page(page)]
    listed = dict(zip(bundles, decode_votes(votes, len(bundles)), strict=True))
    return decode_opened(openings, lambda bundle: listed.get(bundle) or [])
