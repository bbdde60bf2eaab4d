"""Pages survive encoding and decoding; draws are distinct; spoiled pages never pass."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.chain.signing import compute_address, recover, sign
from quorate.protocol.committee import compute_committee
from quorate.protocol.dispute_pages import (
    decode_answers,
    decode_cast,
    decode_dispute_record,
    decode_question,
    decode_vote_lists,
    decode_vote_openings,
    encode_answers,
    encode_cast,
    encode_dispute_record,
    encode_question,
    encode_vote_lists,
    encode_vote_openings,
)
from quorate.protocol.encoding import (
    decode_carry_page,
    decode_commit_lists,
    decode_outcomes,
    decode_votes,
    encode_carry_page,
    encode_commit_lists,
    encode_outcomes,
    encode_votes,
)
from quorate.protocol.errors import ValidationError
from quorate.protocol.types import (
    Address,
    CarryRecord,
    CastVotes,
    CommitItem,
    CommitList,
    DisputeKind,
    DisputeRecord,
    Opening,
    OutcomeRow,
    Question,
    Verdict,
    Vote,
)

B32, U16 = st.binary(min_size=32, max_size=32), st.integers(0, 0xFFFF)
VOTES = B32.map(Vote)
ADDRESSES = st.binary(min_size=20, max_size=20).map(Address)
SIGNATURES = st.binary(min_size=65, max_size=65)
ITEMS = st.builds(CommitItem, U16, st.integers(0, 255), B32)
LISTS = st.builds(CommitList, U16, st.lists(ITEMS, min_size=1, max_size=4).map(tuple), SIGNATURES)


@st.composite
def carry_records(draw: st.DrawFn) -> CarryRecord:
    voters = tuple(draw(st.lists(U16, max_size=4)))
    vote = draw(VOTES) if voters else None
    abstainers = tuple(draw(st.lists(U16, max_size=4)))
    price, tasks, flags, pot = draw(st.integers(0, 2**96 - 1)), draw(U16), draw(st.integers(0, 1)), draw(U16)
    return CarryRecord(
        draw(U16), draw(ADDRESSES), price, tasks, flags, draw(U16), pot, draw(U16), vote, voters, abstainers
    )


@st.composite
def outcome_rows(draw: st.DrawFn) -> OutcomeRow:
    voters = tuple(draw(st.lists(U16, max_size=4)))
    return OutcomeRow(draw(U16), draw(st.sampled_from(Verdict)), draw(VOTES), draw(U16), voters)


@given(st.lists(LISTS, min_size=1, max_size=4))
def test_commit_pages(lists: list[CommitList]) -> None:
    page = encode_commit_lists(lists)
    assert decode_commit_lists(page) == lists
    with pytest.raises(ValidationError):
        decode_commit_lists(page[:-1])


@given(st.lists(outcome_rows(), max_size=5))
def test_outcomes(rows: list[OutcomeRow]) -> None:
    assert decode_outcomes(encode_outcomes(rows)) == rows


@given(st.lists(carry_records(), max_size=5))
def test_carry_pages(records: list[CarryRecord]) -> None:
    assert decode_carry_page(encode_carry_page(records)) == records


@given(st.lists(st.one_of(st.none(), st.sets(VOTES, max_size=3).map(sorted)), max_size=5))
def test_votes(votes: list[list[Vote] | None]) -> None:
    data = encode_votes(votes)
    assert decode_votes(data, len(votes)) == votes
    with pytest.raises(ValidationError):
        decode_votes(data + b"\0", len(votes))


@given(st.lists(st.tuples(U16, SIGNATURES, B32), max_size=4))
def test_class_votes(lists: list[tuple[int, bytes, bytes]]) -> None:
    assert decode_vote_lists(encode_vote_lists(lists)) == lists


@given(st.builds(
    DisputeRecord, st.sampled_from(DisputeKind), st.integers(0, 2**64 - 1), U16, U16, ADDRESSES, U16, U16, U16, U16,
    U16, ADDRESSES, U16, U16, ADDRESSES, U16, B32, st.integers(0, 255),
    st.lists(st.tuples(U16, VOTES), max_size=5).map(tuple),
))  # fmt: skip
def test_dispute_records(record: DisputeRecord) -> None:
    assert decode_dispute_record(encode_dispute_record(record)) == record


@given(st.lists(U16, max_size=5).map(tuple), st.lists(VOTES, max_size=4).map(tuple))
def test_questions(tasks: tuple[int, ...], answers: tuple[Vote, ...]) -> None:
    assert decode_question(encode_question(Question(tasks, answers))) == Question(tasks, answers)


@given(st.dictionaries(st.integers(0, 8), VOTES), st.lists(st.integers(0, 7), min_size=9, max_size=9).map(tuple))
def test_cast_votes(votes: dict[int, Vote], silent: tuple[int, ...]) -> None:
    assert decode_cast(encode_cast(CastVotes(votes, silent)), 9) == CastVotes(votes, silent)
    with pytest.raises(ValidationError):
        decode_cast(encode_cast(CastVotes(votes, silent)) + b"\0", 9)


@given(st.sets(VOTES, min_size=1, max_size=5).map(sorted), st.data())
def test_vote_openings(answers: list[Vote], data: st.DataObject) -> None:
    openings = st.builds(Opening, st.sampled_from(answers), st.binary(min_size=16, max_size=16))
    row = st.tuples(U16, st.one_of(openings, B32))
    pages = data.draw(st.lists(st.tuples(U16, st.lists(row, max_size=4)), max_size=3))
    assert decode_vote_openings(encode_vote_openings(pages, answers), answers) == pages
    assert decode_answers(encode_answers(answers)) == answers


@given(B32, st.integers(0, 4095), st.lists(st.integers(1, 40), min_size=2, max_size=30), st.data())
def test_committees_are_distinct_and_repeatable(
    domain: bytes, bundle: int, sizes: list[int], data: st.DataObject
) -> None:
    units = [member for member, size in enumerate(sizes) for _ in range(size)]
    seats = data.draw(st.integers(1, len(sizes)))
    drawn = compute_committee(domain, bundle, seats, units, len(sizes))
    assert len(set(drawn)) == seats
    assert set(drawn) <= set(range(len(sizes)))
    # One seat more changes none of those before.
    assert drawn[:-1] == compute_committee(domain, bundle, seats - 1, units, len(sizes))


def test_first_seats_follow_units() -> None:
    units = [0] * 10 + [1] * 30 + [2] * 60
    found = Counter(compute_committee(bytes(32), bundle, 1, units, 3)[0] for bundle in range(2000))
    assert [round(found[member] / 2000, 1) for member in range(3)] == [0.1, 0.3, 0.6]


@given(B32, st.integers(1, 2**128))
def test_signatures_recover_and_nothing_else_does(digest: bytes, number: int) -> None:
    key = number.to_bytes(32, "big")
    signature = sign(digest, key)
    assert recover(digest, signature) == compute_address(key)
    assert recover(digest, signature[:64] + bytes((signature[64] ^ 7,))) != compute_address(key)
    assert recover(bytes(32), signature) != compute_address(key) or digest == bytes(32)
    assert recover(digest, bytes(65)) is None
