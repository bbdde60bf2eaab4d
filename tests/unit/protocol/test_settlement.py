"""One bundle's verdict and money, and what a class vote makes of a conflict."""

from __future__ import annotations

import pytest

from quorate.protocol.errors import ValidationError
from quorate.protocol.settlement import Ballot, BundleOutcome, RoundTerms, decide_bundle, void_bundle
from quorate.protocol.types import (
    ZERO32,
    Address,
    BatchId,
    CarryRecord,
    DisputeRecord,
    Member,
    OperatorId,
    Table,
    Verdict,
    Vote,
)
from quorate.protocol.verdict import compute_voter_share, decide_dispute

PRICE, FEE = 100, 7
A, B = Vote(b"a" * 32), Vote(b"b" * 32)
TERMS = RoundTerms(seats=3, round=0, rounds=1, fee=FEE)
ESCROW = PRICE * 3 * 2 + FEE


def record(pot: int = 0, voters: tuple[int, ...] = ()) -> CarryRecord:
    return CarryRecord(0, Address(bytes(20)), PRICE, pot, A if voters else None, voters)


def check_money(out: BundleOutcome, pot_before: int) -> None:
    fines = sum(taken for _, _, taken in out.fines)
    assert out.from_escrow + out.fee + out.refund + out.locked == ESCROW
    assert pot_before + fines == out.from_pot + out.to_treasury + out.pot
    assert sum(out.payments.values()) == out.from_pot + out.from_escrow


def test_unanimous_seats_are_paid_and_the_unused_escrow_returns() -> None:
    out = decide_bundle(Ballot(record(), (4, 5, 6), {0: A, 1: A, 2: A}), TERMS, is_late=False)
    assert (out.verdict, out.vote, out.payments) == (Verdict.ACCEPTED, A, {4: PRICE, 5: PRICE, 6: PRICE})
    assert (out.fee, out.refund) == (FEE, 3 * PRICE)
    check_money(out, 0)


def test_silence_is_early_before_the_window_and_fined_behind_it() -> None:
    ballot = Ballot(record(), (4, 5, 6), {0: A})
    with pytest.raises(ValidationError):
        decide_bundle(ballot, TERMS, is_late=False)
    out = decide_bundle(ballot, TERMS, is_late=True, holdings={5: 30, 6: 1000})
    assert out.verdict is Verdict.CARRIED
    assert out.fines == ((5, 200, 30), (6, 200, 200))
    assert (out.pot, out.locked, out.vote) == (230, ESCROW, A)
    check_money(out, 0)


def test_the_pot_pays_fresh_seats_first_and_its_rest_goes_to_the_treasury() -> None:
    last = RoundTerms(3, 1, 1, FEE)
    out = decide_bundle(Ballot(record(250, (4,)), (4, 7, 8), {1: A, 2: A}), last, is_late=False)
    assert (out.from_pot, out.from_escrow, out.to_treasury) == (200, 100, 50)
    assert set(out.payments) == {4, 7, 8}
    check_money(out, 250)


def test_after_the_last_round_silence_voids_and_voters_share_the_pot() -> None:
    last = RoundTerms(3, 1, 1, FEE)
    out = decide_bundle(Ballot(record(30, (4,)), (7, 8, 9), {0: A}), last, is_late=True, holdings={8: 0, 9: 5})
    assert (out.verdict, out.refund) == (Verdict.VOID, ESCROW)
    assert (out.payments, out.to_treasury) == ({4: 17, 7: 17}, 1)
    check_money(out, 30)


def test_a_conflict_moves_nothing_and_keeps_every_vote() -> None:
    out = decide_bundle(Ballot(record(9, (4,)), (7, 8, 9), {1: B}), TERMS, is_late=False)
    assert (out.verdict, out.voters, out.locked, out.pot) == (Verdict.DISPUTED, ((4, A), (8, B)), ESCROW, 9)
    check_money(out, 9)


def test_a_standing_voter_that_contradicts_itself_is_a_conflict_with_both_votes() -> None:
    out = decide_bundle(Ballot(record(0, (4,)), (4, 8, 9), {0: B}), TERMS, is_late=False)
    assert out.voters == ((4, A), (4, B))
    same = decide_bundle(Ballot(record(0, (4,)), (4, 8, 9), {0: A, 1: A, 2: A}), TERMS, is_late=False)
    assert [member for member, _ in same.voters] == [4, 8, 9]


def test_a_voided_batch_fines_nobody() -> None:
    out = void_bundle(record(250, (4, 5)), TERMS)
    assert (out.verdict, out.fines, out.payments, out.to_treasury) == (Verdict.VOID, (), {4: 100, 5: 100}, 50)
    check_money(out, 250)


TABLE = Table(tuple(Member(Address(bytes(20)), OperatorId(m + 1)) for m in range(5)), (0, 1, 1, 2, 3, 4))


def dispute(*votes: tuple[int, Vote]) -> DisputeRecord:
    zero = Address(bytes(20))
    return DisputeRecord(BatchId(1), 0, zero, PRICE, 40, ESCROW, FEE, zero, 1, 1, ZERO32, votes)


def test_more_than_half_of_all_units_decide() -> None:
    seats = dispute((0, A), (1, B))
    assert decide_dispute(seats, TABLE, {1: A, 2: A}).verdict is Verdict.VOID
    out = decide_dispute(seats, TABLE, {1: A, 2: A, 3: A})
    assert (out.verdict, out.vote, out.earnings) == (Verdict.ACCEPTED, A, {0: PRICE})
    assert out.wrong == ((1, False),)
    assert out.right_voters == (2, 3)
    assert out.refund == ESCROW - FEE - PRICE


def test_liars_with_one_vote_are_wrong_together_also_across_seats_and_class() -> None:
    out = decide_dispute(dispute((0, A), (1, B)), TABLE, {0: A, 1: A, 2: A, 3: A, 4: B})
    assert out.wrong == ((1, True), (4, True))


@pytest.mark.parametrize(("slashed", "voters", "share"), [(1000, 3, 100), (100, 3, 13), (0, 2, 0), (10, 0, 0)])
def test_voters_share_at_most_two_fifths(slashed: int, voters: int, share: int) -> None:
    assert compute_voter_share(PRICE, slashed, voters) == share
