"""Reading what `settle` and `settleVotes` are sent: rebuilt commitments must give the hashes that the chain kept.

Errors are those of the contracts: MalformedPage for bytes that make no sense, HashMismatch for a lie about the past.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quorate.protocol.commitment import compute_commitment, compute_statement
from quorate.protocol.context import require
from quorate.protocol.encoding import NOT_OPENED, Reader, encode_items
from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.types import CommitItem, OperatorId, Table, Vote

SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class OpenedSeat:
    """A commitment that was opened: whose, and what it says."""

    member: int
    vote: Vote


def decode_openings(
    data: bytes,
    round_domain: bytes,
    table: Table,
    pages: Sequence[bytes],
    votes: Mapping[int, Sequence[Vote]],
    seats: int,
) -> dict[tuple[int, int], OpenedSeat]:
    """Opened seats by (bundle, seat) from `openings` of settle.

    `pages` are the round's commit page hashes, `votes` the votes of each bundle settled now; items of other bundles
    must stand unopened. Raises ValidationError for malformed bytes, ProtocolViolation(HashMismatch).
    """
    reader, found, last = Reader(data), dict[tuple[int, int], OpenedSeat](), -1
    while not reader.done:
        index, leaves = reader.uint(1), b""
        if not last < index < len(pages):
            raise ValidationError(f"commit page {index} of {len(pages)} does not ascend from {last}")
        last = index
        for _ in range(reader.uint(2)):
            leaves += _read_list(reader, round_domain, table, votes, seats, found)
        require(keccak(leaves) == pages[index], "HashMismatch", "commitPage")
    return found


def _read_list(
    reader: Reader,
    round_domain: bytes,
    table: Table,
    votes: Mapping[int, Sequence[Vote]],
    seats: int,
    found: dict[tuple[int, int], OpenedSeat],
) -> bytes:
    """Leaf of one list; its opened seats are added to `found`."""
    member, items = reader.uint(2), []
    operator_id = _operator_of(table, member)
    for _ in range(reader.uint(2)):
        bundle, seat, tag = reader.uint(2), reader.uint(1), reader.uint(1)
        if tag == NOT_OPENED:
            items.append(CommitItem(bundle, seat, reader.take(32)))
            continue
        if seat >= seats:
            raise ValidationError(f"seat {seat} of {seats} was opened")
        vote = _vote_of(votes.get(bundle, ()), tag)
        statement = compute_statement(round_domain, bundle)
        items.append(
            CommitItem(bundle, seat, compute_commitment(statement, operator_id, vote, reader.take(SALT_BYTES)))
        )
        found[bundle, seat] = OpenedSeat(member, vote)
    return keccak(member.to_bytes(2, "big") + keccak(encode_items(items)))


def decode_vote_openings(
    data: bytes, statement: bytes, table: Table, pages: Sequence[bytes], votes: Sequence[Vote]
) -> tuple[dict[int, Vote], bool]:
    """(class vote by member, whether every commitment was opened) from `openings` of settleVotes; all pages stand."""
    reader, found, complete = Reader(data), dict[int, Vote](), True
    for page in pages:
        leaves = b""
        for _ in range(reader.uint(2)):
            member, tag = reader.uint(2), reader.uint(1)
            if tag == NOT_OPENED:
                commitment, complete = reader.take(32), False
            else:
                found[member] = _vote_of(votes, tag)
                operator_id = _operator_of(table, member)
                commitment = compute_commitment(statement, operator_id, found[member], reader.take(SALT_BYTES))
            leaves += keccak(member.to_bytes(2, "big") + commitment)
        require(keccak(leaves) == page, "HashMismatch", "commitPage")
    if not reader.done:
        raise ValidationError("bytes behind the last page of openings")
    return found, complete


def _operator_of(table: Table, member: int) -> OperatorId:
    if member >= len(table.members):
        raise ValidationError(f"the table has no member {member}")
    return table.members[member].operator_id


def _vote_of(votes: Sequence[Vote], tag: int) -> Vote:
    if tag >= len(votes):
        raise ValidationError(f"vote {tag} of {len(votes)} was opened")
    return votes[tag]
