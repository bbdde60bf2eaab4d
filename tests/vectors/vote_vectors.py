"""Vectors of disputes: records, questions, and the ends of class votes."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from tests.vectors.rows import CHAIN_ID, Columns, Rows, pack

from quorate.protocol.dispute_pages import (
    compute_question_hash,
    compute_reason,
    compute_vote_statement,
    encode_answers,
    encode_cast,
    encode_dispute_record,
    encode_question,
)
from quorate.protocol.hashing import keccak
from quorate.protocol.questions import compute_question
from quorate.protocol.result import compute_merkle_root
from quorate.protocol.types import (
    ZERO32,
    Address,
    BatchId,
    CastVotes,
    DisputeKind,
    DisputeRecord,
    Member,
    OperatorId,
    Question,
    Table,
    Vote,
)
from quorate.protocol.verdict import (
    Aftermath,
    Conduct,
    WindowVotes,
    dismiss_at_once,
    end_vote,
    find_winner,
    go_on,
    share_out,
)


def make_dispute(rng: Random, count: int) -> DisputeRecord:
    votes = tuple((rng.randrange(1024), Vote(rng.randbytes(32))) for _ in range(count))
    return DisputeRecord(
        DisputeKind(count % 3), BatchId(rng.getrandbits(64)), rng.randrange(4096), rng.randrange(1, 257),
        Address(rng.randbytes(20)), rng.getrandbits(72), rng.getrandbits(80), rng.getrandbits(90), rng.getrandbits(64),
        rng.getrandbits(60), Address(rng.randbytes(20)), rng.getrandbits(32), rng.getrandbits(16),
        Address(rng.randbytes(20)), rng.randrange(256), rng.randbytes(32), rng.randrange(128), votes,
    )  # fmt: skip


def make_questions() -> Columns:
    """Questions from the leaves of all roots. `leaves` are those of each root, one behind the other, in the order of
    the roots; `isWhole` 0 means that one was not published, so nothing is sent."""
    rng, rows = Random(11), Rows()
    for i in range(40):
        tasks, count = rng.choice((1, 2, 3, 7, 40, 256)), 1 if i % 4 == 1 else rng.choice((2, 2, 3, 5))
        base = [rng.randbytes(32) for _ in range(tasks)]
        columns: dict[Vote, list[bytes]] = {}
        while len(columns) < count:
            leaves = list(base)
            for task in rng.choices(range(tasks), k=rng.randrange(1, 4)) if columns else ():
                leaves[task] = keccak(bytes((rng.randrange(3 if tasks > 3 else 9), task % 256)))
            columns[Vote(compute_merkle_root(leaves))] = leaves
        votes = tuple((m, root) for m, root in enumerate(columns))
        record = replace(make_dispute(rng, 0), kind=DisputeKind(i % 4 if i % 4 < 3 else 0), tasks=tasks, votes=votes)
        record = replace(record, task=rng.randrange(tasks) if record.kind is DisputeKind.CHALLENGE else 0)
        if rng.random() < 0.5:
            record = replace(record, claim=columns[record.roots[0]][record.task])
        is_whole = i % 10 != 9
        question = compute_question(record, columns if is_whole else dict(list(columns.items())[1:]))
        dispute_id, window, disputes = rng.getrandbits(64), rng.randrange(3), Address(rng.randbytes(20))
        question_hash = compute_question_hash(encode_dispute_record(record), encode_question(question))
        rows.add(
            record=encode_dispute_record(record), isWhole=is_whole,
            leaves=b"".join(b"".join(columns[root]) for root in record.roots), question=encode_question(question),
            isMoot=dismiss_at_once(record, question, Table((), ())) is not None, questionHash=question_hash,
            chainId=CHAIN_ID, disputes=disputes, disputeId=dispute_id, window=window,
            statement=compute_vote_statement(CHAIN_ID, disputes, dispute_id, window, question_hash),
        )  # fmt: skip
    return rows.columns


def make_class_votes() -> Columns:
    """Ends of windows. Packed: `units` row u16; `cast` as it travels; `opened` member u16 ‖ answer 32; `closed` member
    u16 ‖ commitment 32; `answers` as `votes` of settleVotes. `winner` is 0 without one; `tally` is that of the end, and
    `nextCast` what another window would start with; `convicted` entries were found wrong before.
    `kept` and `shares` tell the money behind the last row, if `taken` was taken: `voter`,
    `challenger`, `requester`, `treasury`."""
    rng, rows = Random(7), Rows()
    for i in range(80):
        count, kind = rng.choice((4, 6, 9)), DisputeKind(i % 3)
        units = tuple(m for m in range(count) for _ in range(rng.randrange(1, 5)))
        table = Table(tuple(Member(Address(bytes(20)), OperatorId(m + 1)) for m in range(count)), units)
        roots = sorted(Vote(rng.randbytes(32)) for _ in range(3))
        seats = tuple((m, rng.choice(roots)) for m in rng.sample(range(count), rng.randrange(2, 4)))
        if kind is DisputeKind.CHALLENGE:
            seats = tuple((m, roots[0]) for m, _ in seats)
        price = rng.randrange(1, 10**9)
        record = replace(
            make_dispute(rng, 0), kind=kind, price=price, pot=rng.randrange(20 * price), escrow=6 * price, votes=seats
        )
        if kind is DisputeKind.CHALLENGE and rng.random() < 0.5:  # the last one is an auditor that agreed
            record = replace(record, escrow=price * (len(seats) - 1))
        convicted = 0 if kind is DisputeKind.CONFLICT else rng.randrange(len(seats) + 1)
        question = Question((0,), tuple(Vote(keccak(root)) for root in record.roots))
        answers = [*question.answers, Vote(rng.randbytes(32))]
        honest, present = rng.choice((0.5, 0.9, 1.0)), rng.choice((0.4, 0.9, 1.0))
        cast, opened, closed = dict[int, Vote](), dict[int, Vote](), dict[int, bytes]()
        for member in range(count):
            answer = answers[0] if rng.random() < honest else rng.choice(answers)
            if rng.random() > present:
                continue
            if i % 2 and rng.random() < 0.3:
                cast[member] = answer
            elif (what := rng.random()) < 0.7:
                opened[member] = answer
            elif what < 0.85:
                closed[member] = rng.choice((0, 1, 1, 5)).to_bytes(32, "big")
            else:
                closed[member] = rng.randbytes(32)
        silent = tuple(rng.randrange(3) if i % 2 and m not in cast else 0 for m in range(count))
        abstained = {m: reason for m, c in closed.items() if (reason := compute_reason(c)) is not None}
        shut = frozenset(closed.keys() - abstained.keys())
        window = WindowVotes({**cast, **opened}, abstained, shut, silent)
        ending, taken = end_vote(record, question, table, window, convicted), rng.randrange(10**11)
        is_first = rng.random() < 0.7
        aftermath = Aftermath.REVERSED if ending.aftermath is Aftermath.UPHELD and is_first else ending.aftermath
        voters = sum(row.conduct is Conduct.RIGHT for row in ending.tally)
        shares = share_out(record, aftermath, voters, taken)
        listed = sorted({*answers, *opened.values(), *cast.values()})
        rows.add(
            record=encode_dispute_record(record), question=encode_question(question),
            units=pack(((u, 2),) for u in units), memberCount=count, convicted=convicted,
            cast=encode_cast(CastVotes(cast, silent)) if i % 2 else b"", answers=encode_answers(listed),
            opened=b"".join(m.to_bytes(2, "big") + vote for m, vote in sorted(opened.items())),
            closed=b"".join(m.to_bytes(2, "big") + c for m, c in sorted(closed.items())),
            winner=find_winner(table, window.votes) or ZERO32, root=ending.root or ZERO32,
            tally=ending.encoded_tally, nextCast=encode_cast(go_on(window)), aftermath=aftermath, taken=taken,
            voters=voters, voter=shares.voter, challenger=shares.challenger, requester=shares.requester,
            treasury=shares.treasury,
        )  # fmt: skip
    return rows.columns
