"""What a class is asked, what its votes decide, and where the money goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quorate.protocol.hashing import keccak
from quorate.protocol.questions import compute_answer, compute_question, compute_tasks_in_question, is_publishable
from quorate.protocol.result import compute_merkle_root
from quorate.protocol.types import (
    ZERO32,
    Address,
    BatchId,
    DisputeKind,
    DisputeRecord,
    Member,
    OperatorId,
    Question,
    Table,
    Verdict,
    Vote,
)
from quorate.protocol.verdict import (
    Aftermath,
    Conduct,
    TallyRow,
    WindowVotes,
    compute_silence_fine,
    count_silence,
    dismiss_at_once,
    end_vote,
    find_winner,
    go_on,
    share_out,
)

A, B, C = (Vote(bytes((n,)) * 32) for n in (1, 2, 3))
ZERO = Address(bytes(20))
PRICE = 100
TABLE = Table(tuple(Member(ZERO, OperatorId(m + 1)) for m in range(5)), (0, 1, 1, 2, 3, 4))


def dispute(*votes: tuple[int, Vote], kind: DisputeKind = DisputeKind.CONFLICT) -> DisputeRecord:
    return DisputeRecord(kind, BatchId(1), 0, 4, ZERO, PRICE, 40, 620, 10, 10, ZERO, 1, 1, ZERO, 0, ZERO32, 0, votes)


def whole(record: DisputeRecord) -> Question:
    return Question((), record.roots)


def window(
    votes: dict[int, Vote], abstained: dict[int, int] | None = None, closed: tuple[int, ...] = ()
) -> WindowVotes:
    return WindowVotes(votes, abstained or {}, frozenset(closed), (0,) * 5)


def conducts(*rows: TallyRow) -> list[Conduct]:
    return [row.conduct for row in rows]


def test_more_than_half_of_all_units_decide() -> None:
    assert find_winner(TABLE, {1: A, 2: A}) is None
    assert find_winner(TABLE, {1: A, 2: A, 3: A}) == A
    ending = end_vote(dispute((0, A), (1, B)), whole(dispute((0, A), (1, B))), TABLE, window({1: A, 2: A, 3: A}))
    assert (ending.verdict, ending.root, ending.answer) == (Verdict.ACCEPTED, A, A)
    nothing, right, wrong = Conduct.NOTHING, Conduct.RIGHT, Conduct.WRONG
    assert conducts(*ending.tally) == [nothing, wrong, right, right, nothing]
    assert [row.silent for row in ending.tally] == [1, 0, 0, 0, 1]


def test_a_class_vote_is_together_with_a_seat_of_the_same_lie_but_the_seat_stays_lone() -> None:
    record = dispute((0, A), (1, B))
    ending = end_vote(record, whole(record), TABLE, window({0: A, 1: A, 2: A, 3: A, 4: B}))
    assert conducts(*ending.tally)[1] is Conduct.WRONG, "else anybody could take all of a lone seat's stake"
    assert conducts(*ending.tally)[4] is Conduct.WRONG_TOGETHER
    other = dispute((0, B), (1, A))
    again = end_vote(other, whole(other), TABLE, window({0: B, 1: A, 2: A, 3: A, 4: B}))
    assert conducts(*again.tally)[0] is Conduct.WRONG, "nor when it repeats itself"
    assert conducts(*again.tally)[4] is Conduct.WRONG_TOGETHER
    seats = dispute((0, B), (1, A), (2, B))
    pair = end_vote(seats, whole(seats), TABLE, window({1: A, 3: A, 4: A}))
    assert conducts(*pair.tally)[::2] == [Conduct.WRONG_TOGETHER, Conduct.WRONG_TOGETHER, Conduct.RIGHT]


def test_a_lie_that_one_member_tells_twice_is_lone() -> None:
    record = dispute((0, A), (1, B))
    ending = end_vote(record, whole(record), TABLE, window({1: B, 2: A, 3: A, 0: A, 4: A}))
    assert conducts(*ending.tally)[1] is Conduct.WRONG


def test_without_a_winner_nobody_is_wrong_and_the_silent_pay() -> None:
    record = dispute((0, A), (1, B))
    ending = end_vote(record, whole(record), TABLE, replace(window({0: A}, closed=(1,)), silent=(0, 2, 2, 2, 2)))
    assert (ending.verdict, ending.answer) == (Verdict.VOID, None)
    assert [row.silent for row in ending.tally] == [0, 3, 3, 3, 3]
    challenged = dispute((0, A), (1, A), kind=DisputeKind.CHALLENGE)
    assert end_vote(challenged, whole(challenged), TABLE, window({})).root == A


def test_who_commits_is_not_silent_where_the_call_decides() -> None:
    assert count_silence(window({0: A}, {1: 2}, (2,)), decides=True) == (0, 0, 0, 1, 1)
    assert count_silence(window({0: A}, {1: 2}, (2,)), decides=False) == (0, 0, 1, 1, 1)
    assert go_on(window({0: A}, {1: 2})).votes == {0: A}


def test_votes_on_what_nobody_can_fetch_count_as_abstentions_and_nobody_is_silent() -> None:
    record = dispute((0, A), (1, B))
    ending = end_vote(record, whole(record), TABLE, window({}, {2: 1, 3: 1, 4: 5}))
    assert [row.is_unknowable for row in ending.tally] == [True, True, False, False, False]
    assert not any(row.silent for row in ending.tally)
    half = end_vote(record, whole(record), TABLE, window({4: A}, {2: 1, 3: 5}))
    assert not any(row.is_unknowable for row in half.tally)


def test_a_challenge_reverses_or_is_dismissed() -> None:
    record = dispute((0, A), (1, A), kind=DisputeKind.CHALLENGE)
    question = Question((0,), (B,))
    upheld = end_vote(record, question, TABLE, window(dict.fromkeys(range(5), C)))
    assert (upheld.verdict, upheld.aftermath) == (Verdict.VOID, Aftermath.UPHELD)
    assert conducts(*upheld.tally)[0] is Conduct.WRONG_TOGETHER
    kept = end_vote(record, question, TABLE, window(dict.fromkeys(range(5), B)))
    assert (kept.root, kept.aftermath) == (A, Aftermath.DISMISSED)
    audit = dispute((0, A), (1, B), kind=DisputeKind.AUDIT)
    assert end_vote(audit, whole(audit), TABLE, window(dict.fromkeys(range(5), A))).aftermath is Aftermath.NOTHING


def challenged(*votes: tuple[int, Vote], seats: int) -> DisputeRecord:
    return replace(dispute(*votes, kind=DisputeKind.CHALLENGE), escrow=seats * PRICE)


def test_an_auditor_that_agreed_is_together_with_the_seat_and_the_seat_stays_lone() -> None:
    for votes in ({0: B, 1: B, 2: B, 3: B, 4: B}, {0: A, 1: B, 2: B, 3: B, 4: B}):
        record = challenged((0, A), (1, A), seats=1)
        ending = end_vote(record, whole(record), TABLE, window(votes))
        assert conducts(*ending.tally)[:2] == [Conduct.WRONG, Conduct.WRONG_TOGETHER]
    two = challenged((0, A), (1, A), seats=2)
    ending = end_vote(two, whole(two), TABLE, window(dict.fromkeys(range(5), B)))
    assert conducts(*ending.tally)[:2] == [Conduct.WRONG_TOGETHER] * 2


def test_one_mistake_is_punished_once_and_what_is_new_in_the_second_vote_as_ever() -> None:
    record = challenged((0, A), (1, A), seats=1)
    votes = {0: A, 1: B, 2: B, 3: B, 4: A}
    first = end_vote(record, whole(record), TABLE, window(votes))
    assert conducts(*first.tally)[0] is Conduct.WRONG
    nothing, right, together = Conduct.NOTHING, Conduct.RIGHT, Conduct.WRONG_TOGETHER
    again = end_vote(record, whole(record), TABLE, window(votes), convicted=1)
    assert conducts(*again.tally) == [nothing, together, right, right, together], "the auditor was no entry before"
    assert again.aftermath is Aftermath.UPHELD
    last = end_vote(record, whole(record), TABLE, window(votes), convicted=2)
    assert conducts(*last.tally) == [nothing, nothing, right, right, together]
    other = end_vote(record, whole(record), TABLE, window({**votes, 0: C}), convicted=2)
    assert conducts(*other.tally)[0] is Conduct.WRONG, "another lie in the class vote is another mistake"
    dissent = dispute((0, A), (1, C), kind=DisputeKind.AUDIT)
    found = end_vote(dissent, whole(dissent), TABLE, window(dict.fromkeys(range(1, 5), B)), convicted=2)
    assert conducts(*found.tally)[:2] == [nothing, Conduct.WRONG], "only who voted for what was accepted is excused"


@pytest.mark.parametrize(("taken", "voters", "share"), [(1000, 3, 100), (100, 3, 13), (0, 2, 0), (10, 0, 0)])
def test_voters_share_at_most_two_fifths(taken: int, voters: int, share: int) -> None:
    assert share_out(dispute((0, A)), Aftermath.NOTHING, voters, taken).voter == share


def test_money_behind_the_last_row_adds_up() -> None:
    record = replace(dispute((0, A), kind=DisputeKind.CHALLENGE), pot=7, escrow=300)
    for aftermath in Aftermath:
        for taken in (0, 1, 99, 500, 10**6):
            for voters in (0, 1, 7):
                out = share_out(record, aftermath, voters, taken)
                bond = 7 if aftermath is Aftermath.DISMISSED else 0
                total = out.voter * voters + out.challenger + out.requester + out.treasury
                assert total == taken + bond
                assert min(out.voter, out.challenger, out.requester, out.treasury) >= 0
                assert out.voter * voters + out.challenger <= taken * 2 // 5 + bond
    assert share_out(record, Aftermath.UPHELD, 1, 10**6).requester == 0, "refunded before"
    assert share_out(record, Aftermath.REVERSED, 1, 10**6).requester == 300


@pytest.mark.parametrize(("silent", "bps"), [(0, 0), (1, 10), (2, 110), (3, 610), (4, 1110), (7, 2610)])
def test_silence_costs_more_each_window(silent: int, bps: int) -> None:
    assert compute_silence_fine(10, 10**6, silent) == 10**3 * bps


def test_the_question_tells_all_roots_apart() -> None:
    base = [keccak(bytes((n,))) for n in range(4)]
    lists = [base, [*base[:2], ZERO32, base[3]], [base[0], ZERO32, *base[2:]], [base[0], ZERO32, ZERO32, base[3]]]
    assert compute_tasks_in_question(lists) == (1, 2)
    assert compute_tasks_in_question([base, [*base[:3], ZERO32]]) == (3,)
    columns = {Vote(compute_merkle_root(leaves)): leaves for leaves in lists}
    record = dispute(*enumerate(columns))
    question = compute_question(record, columns)
    assert question.tasks == (1, 2)
    assert len(set(question.answers)) == 4
    assert question.answers[record.roots.index(next(iter(columns)))] == keccak(base[1] + base[2])
    assert compute_answer(question, A, base) == keccak(base[1] + base[2])
    some = dict(list(columns.items())[1:])
    assert compute_question(record, some) == Question((), record.roots), "unless all are there: the whole bundle"
    assert compute_answer(Question((), record.roots), A, ()) == A


def test_too_many_roots_cannot_be_shown() -> None:
    record = replace(dispute(*((m, Vote(keccak(bytes((m,))))) for m in range(33))), tasks=256)
    assert not is_publishable(record)
    assert is_publishable(replace(record, tasks=248))


def test_claiming_what_was_accepted_ends_at_once() -> None:
    leaves = [keccak(bytes((n,))) for n in range(4)]
    root = Vote(compute_merkle_root(leaves))
    record = replace(dispute((0, root), kind=DisputeKind.CHALLENGE), task=2, claim=leaves[2])
    question = compute_question(record, {root: leaves})
    ending = dismiss_at_once(record, question, TABLE)
    assert ending is not None
    assert (ending.root, set(ending.tally)) == (root, {TallyRow()})
    assert dismiss_at_once(replace(record, claim=ZERO32), question, TABLE) is None
    assert dismiss_at_once(record, compute_question(record, {}), TABLE) is None


def test_a_row_is_one_byte() -> None:
    for value in (0, 7, 1 << 3, 2 << 3 | 1, 3 << 3 | 7, 1 << 5, 1 << 5 | 2):
        assert TallyRow.decode(value).encode() == value
