"""One bundle's verdict and money, and what a class vote makes of a conflict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quorate.protocol.errors import ValidationError
from quorate.protocol.settlement import (
    Ballot,
    BundleOutcome,
    RoundTerms,
    carry_record,
    decide_bundle,
    outcome_row,
    void_bundle,
)
from quorate.protocol.types import (
    ZERO32,
    Address,
    CarryRecord,
    OutcomeRow,
    Verdict,
    Vote,
)

PRICE, FEE = 100, 7
A, B = Vote(b"a" * 32), Vote(b"b" * 32)
TERMS = RoundTerms(seats=3, round=0, rounds=1, fee=FEE, audit_bps=150)
LAST = replace(TERMS, round=1)
AUDIT = 2  # 1.5 of 100 wei, rounded up
ESCROW = PRICE * 3 * 2 + FEE + AUDIT


def record(pot: int = 0, voters: tuple[int, ...] = (), abstainers: tuple[int, ...] = (), flags: int = 0) -> CarryRecord:
    vote = A if voters else None
    zero = Address(bytes(20))
    return CarryRecord(0, zero, PRICE, 1, flags, 6, pot, len(voters), vote, voters, abstainers)


def settle(ballot: Ballot, terms: RoundTerms = TERMS, taken: int | None = None) -> BundleOutcome:
    """What a late call decides, with its books checked."""
    out = decide_bundle(ballot, terms, True, taken)
    fines = sum(fine.amount for fine in out.fines) if taken is None else taken
    assert out.from_escrow + out.fee + out.audit_fee + out.refund + out.locked == ESCROW
    assert ballot.record.pot + fines == out.from_pot + out.to_treasury + out.pot
    assert sum(out.payments.values()) == out.from_pot + out.from_escrow
    return out


def kinds(out: BundleOutcome) -> list[tuple[int, int, str]]:
    return [(fine.member, fine.amount, fine.kind.name) for fine in out.fines]


def test_unanimous_seats_are_paid_and_the_unused_escrow_returns() -> None:
    out = settle(Ballot(record(), (4, 5, 6), {0: A, 1: A, 2: A}))
    assert (out.verdict, out.vote, out.payments) == (Verdict.ACCEPTED, A, {4: PRICE, 5: PRICE, 6: PRICE})
    assert (out.fee, out.audit_fee, out.refund, out.fresh) == (FEE, AUDIT, 3 * PRICE, (4, 5, 6))
    assert outcome_row(record(), out) == OutcomeRow(0, Verdict.ACCEPTED, A, 3, (4, 5, 6))


def test_silence_is_early_before_the_window_and_fined_behind_it() -> None:
    ballot = Ballot(record(), (4, 5, 6), {0: A}, committed=frozenset({0, 2}))
    with pytest.raises(ValidationError):
        decide_bundle(ballot, TERMS, is_late=False)
    out = settle(ballot, taken=230)
    assert out.verdict is Verdict.CARRIED
    assert kinds(out) == [(5, 200, "SILENT"), (6, 200, "UNREVEALED")]
    assert (out.pot, out.locked, out.vote, out.opened) == (230, ESCROW, A, 1)
    assert outcome_row(record(), out) == OutcomeRow(0, Verdict.CARRIED, Vote(ZERO32), 0, ())
    assert carry_record(record(), out) == replace(record(), pot=230, opened=1, vote=A, voters=(4,))


def test_the_pot_pays_fresh_seats_first_and_its_rest_goes_to_the_treasury() -> None:
    out = settle(Ballot(record(250, (4,)), (4, 7, 8), {1: A, 2: A}), LAST)
    assert (out.from_pot, out.from_escrow, out.to_treasury) == (200, 100, 50)
    assert (out.payments, out.fresh, out.opened) == ({4: 100, 7: 100, 8: 100}, (7, 8), 4)


def test_an_abstention_is_carried_at_once_and_fined_only_when_others_voted() -> None:
    ballot = Ballot(record(), (4, 5, 6), {0: A, 1: A}, frozenset({2}), frozenset({0, 1, 2}))
    assert ballot.is_ready
    out = decide_bundle(ballot, TERMS, is_late=False)
    assert (out.verdict, out.fines, out.abstainers, out.pot) == (Verdict.CARRIED, (), (6,), 0)
    carried = carry_record(record(), out)
    out = settle(Ballot(carried, (7, 8, 9), {0: A, 1: A, 2: A}), LAST)
    assert out.verdict is Verdict.ACCEPTED
    assert kinds(out) == [(6, 100, "ABSTAINED")]
    assert (out.from_pot, out.from_escrow) == (100, 400)


def test_who_abstains_in_two_rounds_pays_twice() -> None:
    out = settle(Ballot(record(0, (4, 5), (6,)), (6, 4, 5), {}, frozenset({0}), frozenset({0})), LAST)
    assert out.verdict is Verdict.ACCEPTED  # five of six drawn seats have a vote
    assert kinds(out) == [(6, 100, "ABSTAINED"), (6, 100, "ABSTAINED")]


def test_a_standing_voter_that_abstains_has_said_enough() -> None:
    ballot = Ballot(record(0, (4, 5)), (4, 5, 6), {2: A}, frozenset({0}), frozenset({0, 2}))
    out = settle(ballot, LAST)
    assert (out.verdict, out.fines, out.abstainers) == (Verdict.ACCEPTED, (), ())


def test_where_all_abstain_nobody_is_fined_and_each_gets_a_fifth() -> None:
    out = settle(Ballot(record(0, (), (4, 5, 6)), (4, 7, 8), {}, frozenset({0, 1, 2}), frozenset({0, 1, 2})), LAST)
    assert (out.verdict, out.fines, out.refund) == (Verdict.VOID, (), ESCROW - 6 * 20)
    assert out.payments == {4: 40, 5: 20, 6: 20, 7: 20, 8: 20}
    assert outcome_row(record(), out) == OutcomeRow(0, Verdict.VOID, Vote(ZERO32), 0, ())
    almost = settle(Ballot(record(0, (), (4, 5, 6)), (4, 7, 8), {}, frozenset({0, 1}), frozenset({0, 1})), LAST)
    assert (almost.verdict, almost.payments, almost.to_treasury) == (Verdict.VOID, {}, 5 * 100 + 200)


@pytest.mark.parametrize(("opened", "flags", "verdict"), [(3, 0, "ACCEPTED"), (2, 0, "VOID"), (3, 1, "VOID")])
def test_after_the_last_round_a_committee_s_worth_of_votes_suffices(opened: int, flags: int, verdict: str) -> None:
    """3 of 6 seats are more than 45 %; 2 are fewer than a committee."""
    before = record(0, (4, 5), flags=flags)
    ballot = Ballot(before, (7, 8, 9), {0: A} if opened == 3 else {}, committed=frozenset({0, 1}))
    out = settle(ballot, LAST)
    assert out.verdict.name == verdict
    assert [fine.member for fine in out.fines] == ([8, 9] if opened == 3 else [7, 8, 9])
    if verdict == "VOID":
        assert (out.refund, out.payments, out.pot) == (ESCROW, {}, 0)
        assert outcome_row(before, out).voters == ((4, 5, 7) if opened == 3 else (4, 5))


def test_a_conflict_keeps_every_vote_and_fines_who_was_silent() -> None:
    out = settle(Ballot(record(9, (4,), (5,)), (7, 8, 9), {1: B}, committed=frozenset({1})))
    assert (out.verdict, out.voters, out.locked) == (Verdict.DISPUTED, ((4, A), (8, B)), ESCROW)
    assert kinds(out) == [(5, 100, "ABSTAINED"), (7, 200, "SILENT"), (9, 200, "SILENT")]
    assert out.pot == 9 + 500


def test_a_conflict_in_a_class_that_is_not_judged_is_void_for_a_fifth() -> None:
    out = settle(Ballot(record(9, (4,)), (7, 8, 9), {0: A, 1: B, 2: B}), replace(TERMS, judged=False))
    assert (out.verdict, out.payments) == (Verdict.VOID, {4: 20, 7: 20, 8: 20, 9: 20})
    assert (out.refund, out.to_treasury, out.fresh) == (ESCROW - 80, 9, (7, 8, 9))
    assert outcome_row(record(), out) == OutcomeRow(0, Verdict.VOID, Vote(ZERO32), 4, ())


def test_a_standing_voter_that_contradicts_itself_is_a_conflict_with_both_votes() -> None:
    ballot = Ballot(record(0, (4,)), (4, 8, 9), {0: B, 1: A, 2: A})
    assert ballot.voters == ((4, A), (4, B), (8, A), (9, A))
    assert settle(ballot).verdict is Verdict.DISPUTED
    same = Ballot(record(0, (4,)), (4, 8, 9), {0: A, 1: A, 2: A})
    assert [member for member, _ in same.voters] == [4, 8, 9]


def test_a_voided_batch_fines_and_pays_nobody() -> None:
    out = void_bundle(record(250, (4, 5)), TERMS)
    assert (out.verdict, out.fines, out.payments, out.refund) == (Verdict.VOID, (), {}, ESCROW)
    assert out.to_treasury == 250
    assert outcome_row(record(), out) == OutcomeRow(0, Verdict.VOID, A, 2, (4, 5))
