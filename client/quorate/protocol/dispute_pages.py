"""Bytes of class votes: records, questions, commitments, cast votes, openings (section 5 of contracts/README.md).

As in encoding.py, decoders raise ValidationError where the contract reverts with MalformedPage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from eth_abi.abi import encode

from quorate.protocol.commitment import compute_commitment
from quorate.protocol.encoding import Reader
from quorate.protocol.encoding import _uints as pack_uints
from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.types import (
    REASONS,
    Address,
    BatchId,
    CastVotes,
    DisputeId,
    DisputeKind,
    DisputeRecord,
    Opening,
    Question,
    Vote,
    VoteCommit,
)

CLASS_VOTE_TAG = keccak(b"Quorate.ClassVote.v1")
CLOSED = 0xFFFF
"""Tag of a commitment that stays closed, or abstains."""
SALT_BYTES = 16
VotePage = tuple[int, Sequence[tuple[int, Opening | bytes]]]
"""A commit page with what is opened in it: (index, [(member, opening, or the commitment)])."""


def encode_dispute_record(r: DisputeRecord) -> bytes:
    """The record of a dispute, whose hash the chain keeps."""
    return (
        pack_uints((r.kind, 1), (r.batch_id, 8), (r.bundle, 2), (r.tasks, 2)) + r.requester
        + pack_uints((r.price, 12), (r.pot, 16), (r.escrow, 16), (r.fee, 8), (r.audit_fee, 12)) + r.collator
        + pack_uints((r.class_id, 4), (r.table, 2)) + r.challenger + pack_uints((r.task, 2)) + r.claim
        + pack_uints((r.round, 1), (len(r.votes), 1))
        + b"".join(pack_uints((member, 2)) + vote for member, vote in r.votes)
    )  # fmt: skip


def decode_dispute_record(data: bytes) -> DisputeRecord:
    """Inverse of encode_dispute_record."""
    reader = Reader(data)
    kind, batch_id, bundle, tasks = reader.uint(1), BatchId(reader.uint(8)), reader.uint(2), reader.uint(2)
    requester = Address(reader.take(20))
    price, pot, escrow, fee, audit_fee = map(reader.uint, (12, 16, 16, 8, 12))
    collator, class_id, table = Address(reader.take(20)), reader.uint(4), reader.uint(2)
    challenger, task, claim, round_ = Address(reader.take(20)), reader.uint(2), reader.take(32), reader.uint(1)
    votes = tuple((reader.uint(2), Vote(reader.take(32))) for _ in range(reader.uint(1)))
    if not reader.done:
        raise ValidationError("bytes behind a dispute record")
    if kind not in list(DisputeKind):
        raise ValidationError(f"a dispute of kind {kind} is unknown")
    return DisputeRecord(
        DisputeKind(kind), batch_id, bundle, tasks, requester, price, pot, escrow, fee, audit_fee, collator, class_id,
        table, challenger, task, claim, round_, votes,
    )  # fmt: skip


def encode_question(question: Question) -> bytes:
    """Tasks in question, then an answer for each root."""
    tasks = b"".join(pack_uints((task, 2)) for task in question.tasks)
    return pack_uints((len(question.tasks), 2)) + tasks + b"".join(question.answers)


def decode_question(data: bytes) -> Question:
    """Inverse of encode_question."""
    reader = Reader(data)
    tasks = tuple(reader.uint(2) for _ in range(reader.uint(2)))
    answers = []
    while not reader.done:
        answers.append(Vote(reader.take(32)))
    return Question(tasks, tuple(answers))


def compute_question_hash(record: bytes, question: bytes) -> bytes:
    """What the chain keeps of a question."""
    return keccak(keccak(record) + question)


def compute_vote_statement(
    chain_id: int, disputes: Address, dispute_id: DisputeId | int, window: int, question_hash: bytes
) -> bytes:
    """What commitments and signatures of one window are about; tied to chain, contract, dispute, window, question."""
    types = ["bytes32", "uint256", "address", "uint256", "uint256", "bytes32"]
    return keccak(encode(types, [CLASS_VOTE_TAG, chain_id, disputes, dispute_id, window, question_hash]))


def compute_vote_items_hash(commitment: bytes) -> bytes:
    """Items hash that a class voter signs (`compute_list_digest` with the statement as its domain)."""
    return keccak(commitment)


def compute_reason(commitment: bytes) -> int | None:
    """Reason of an abstention, or None for the commitment of a vote."""
    value = int.from_bytes(commitment, "big")
    return value if value < REASONS else None


def encode_vote_lists(lists: Sequence[VoteCommit]) -> bytes:
    """A page of `commitVotes`."""
    return b"".join(pack_uints((member, 2)) + signature + commitment for member, signature, commitment in lists)


def decode_vote_lists(page: bytes) -> list[VoteCommit]:
    """Inverse of encode_vote_lists."""
    reader, lists = Reader(page), []
    while not reader.done:
        lists.append((reader.uint(2), reader.take(65), reader.take(32)))
    return lists


def compute_vote_page_hash(lists: Sequence[VoteCommit]) -> bytes:
    """Hash of the class votes of one page that were not skipped."""
    return keccak(b"".join(_leaf(member, commitment) for member, _, commitment in lists))


def _leaf(member: int, commitment: bytes) -> bytes:
    return keccak(member.to_bytes(2, "big") + commitment)


def encode_cast(cast: CastVotes) -> bytes:
    """Votes that stand from earlier windows, ascending by member, then a byte of silent windows for each row.

    Empty before the first window is over.
    """
    if not cast.silent:
        return b""
    rows = b"".join(pack_uints((member, 2)) + vote for member, vote in sorted(cast.votes.items()))
    return pack_uints((len(cast.votes), 2)) + rows + bytes(cast.silent)


def decode_cast(data: bytes, member_count: int) -> CastVotes:
    """Inverse of encode_cast; an empty one has zeros for each row."""
    if not data:
        return CastVotes({}, (0,) * member_count)
    reader = Reader(data)
    votes = {reader.uint(2): Vote(reader.take(32)) for _ in range(reader.uint(2))}
    silent = tuple(reader.take(member_count))
    if not reader.done:
        raise ValidationError("bytes behind the cast votes")
    return CastVotes(votes, silent)


def encode_answers(answers: Sequence[Vote]) -> bytes:
    """`votes` of settleVotes and revealVotes: distinct answers, ascending."""
    ordered = sorted(set(answers))
    return pack_uints((len(ordered), 2)) + b"".join(ordered)


def decode_answers(data: bytes) -> list[Vote]:
    """Inverse of encode_answers."""
    reader = Reader(data)
    found = [Vote(reader.take(32)) for _ in range(reader.uint(2))]
    if not reader.done:
        raise ValidationError("bytes behind the last answer")
    if any(a >= b for a, b in pairwise(found)):
        raise ValidationError("answers do not ascend")
    return found


def encode_vote_openings(pages: Sequence[VotePage], answers: Sequence[Vote]) -> bytes:
    """Commit pages with what is opened in them; `answers` ascend, as in encode_answers."""
    numbers, out = {answer: number for number, answer in enumerate(answers)}, b""
    for index, rows in pages:
        out += pack_uints((index, 2), (len(rows), 2))
        for member, row in rows:
            if isinstance(row, Opening):
                out += pack_uints((member, 2), (numbers[row.vote], 2)) + row.salt
            else:
                out += pack_uints((member, 2), (CLOSED, 2)) + row
    return out


def read_vote_page(reader: Reader, answers: Sequence[Vote]) -> Sequence[tuple[int, Opening | bytes]]:
    """Rows of one commit page, behind its index."""
    rows = list[tuple[int, Opening | bytes]]()
    for _ in range(reader.uint(2)):
        member, tag = reader.uint(2), reader.uint(2)
        if tag == CLOSED:
            rows.append((member, reader.take(32)))
        elif tag < len(answers):
            rows.append((member, Opening(answers[tag], reader.take(SALT_BYTES))))
        else:
            raise ValidationError(f"answer {tag} of {len(answers)} was opened")
    return rows


def decode_vote_openings(data: bytes, answers: Sequence[Vote]) -> list[VotePage]:
    """Inverse of encode_vote_openings."""
    reader, pages = Reader(data), list[VotePage]()
    while not reader.done:
        pages.append((reader.uint(2), read_vote_page(reader, answers)))
    return pages


def compute_opened_page_hash(
    rows: Sequence[tuple[int, Opening | bytes]], statement: bytes, operator_ids: Mapping[int, int] | Sequence[int]
) -> bytes:
    """Hash that a commit page must have had; `operator_ids` by member."""
    leaves = b""
    for member, row in rows:
        leaves += _leaf(member, _commitment_of(row, statement, operator_ids[member]))
    return keccak(leaves)


def _commitment_of(row: Opening | bytes, statement: bytes, operator_id: int) -> bytes:
    return row if isinstance(row, bytes) else compute_commitment(statement, operator_id, row.vote, row.salt)
