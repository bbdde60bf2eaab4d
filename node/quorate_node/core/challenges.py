"""Disputing what was accepted: who has executed a bundle itself and sees another root accepted puts up a bond.

A challenge names a task and its leaf, so the leaves that were accepted are asked for first; where no voter shows them
any task will do, for then the class looks at the whole bundle.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.protocol.challenges import compute_challenge_bond
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.params import BPS
from quorate.protocol.types import OutcomeRow, Verdict
from quorate_node.core.instructions import AskLeaves, Challenge, Instruction
from quorate_node.core.proofs import build_proof
from quorate_node.core.state import State, Work, WorkStatus
from quorate_node.core.views import Batch
from quorate_node.core.work import ensure_work

ASK_S = 5.0
PATIENCE_S = 2.0  # how long the voters' leaves are waited for
RETRY_S = 5.0


def decide_challenges(state: State) -> Iterator[Instruction]:
    """Bundles to look at, and challenges of what is wrong."""
    if not state.settings.challenge_budget_wei:
        return
    for batch in state.chain.batches.values():
        is_open = batch.status is BatchStatus.SETTLED and state.chain.head.timestamp < batch.final_at
        if not batch.judged or not is_open:
            continue
        for bundle, outcome in batch.outcomes.items():
            if outcome.row.verdict is Verdict.ACCEPTED:
                yield from _decide_bundle(state, batch, bundle, outcome.row)


def _decide_bundle(state: State, batch: Batch, bundle: int, row: OutcomeRow) -> Iterator[Instruction]:
    key = (batch.id, bundle)
    if key not in state.own.work and _is_watched(state, key):
        voters = tuple(batch.table.members[member].operator_id for member in row.voters)
        _, start = ensure_work(state, key, batch.bundles[bundle], voters)
        if start is not None:
            yield start
    work = state.own.work.get(key)
    is_wrong = work is not None and work.status is WorkStatus.DONE and work.root not in (None, row.vote)
    if work is None or not is_wrong or _is_disputed(state, batch.id, bundle):
        return
    yield from _decide_challenge(state, batch, bundle, row, work)


def _is_watched(state: State, key: tuple[int, int]) -> bool:
    """Whether this node looks at a bundle without a seat; by its own lot, so that watchers spread."""
    seed = keccak(repr((state.identity.account, key)).encode())
    return int.from_bytes(seed[:8], "big") % BPS < state.settings.watch_bps


def _is_disputed(state: State, batch_id: int, bundle: int) -> bool:
    return any(dispute.key == (batch_id, bundle) for dispute in state.chain.disputes.values())


def _decide_challenge(state: State, batch: Batch, bundle: int, row: OutcomeRow, work: Work) -> Iterator[Instruction]:
    task, ask = find_wrong_task(state, batch, bundle, row, work)
    if task is None:
        yield from ask
        return
    own = state.own
    bond = _compute_bond(state, batch, bundle)
    spent = sum(own.challenged.values())
    if (batch.id, bundle, task) in own.challenged or spent + bond > state.settings.challenge_budget_wei:
        return
    proof = build_proof(batch, bundle)
    key = ("challenge", batch.id, bundle, task)
    if proof is not None and state.is_due(key, RETRY_S):
        own.challenged[batch.id, bundle, task] = bond
        yield Challenge(key, batch.id, proof, bundle, task, work.leaves[task], bond)


def find_wrong_task(
    state: State, batch: Batch, bundle: int, row: OutcomeRow, work: Work
) -> tuple[int | None, list[Instruction]]:
    """The first task that was accepted with another leaf than ours; None while the voters are asked for theirs."""
    accepted = state.own.found_leaves.get(row.vote)
    since = state.asked.setdefault(("wrong", batch.id, bundle), state.now)
    if accepted is None and state.now < since + PATIENCE_S:
        if not state.is_due(("ask-leaves", batch.id, bundle), ASK_S):
            return None, []
        return None, [AskLeaves(row.vote, tuple(batch.table.members[member].operator_id for member in row.voters))]
    return _find_task(work, accepted), []


def _find_task(work: Work, accepted: tuple[bytes, ...] | None) -> int:
    """The first task whose accepted leaf is another than ours."""
    if accepted is None:
        return 0
    return next(
        (task for task, (mine, theirs) in enumerate(zip(work.leaves, accepted, strict=False)) if mine != theirs), 0
    )


def _compute_bond(state: State, batch: Batch, bundle: int) -> int:
    record = batch.bundles[bundle].record
    return compute_challenge_bond(state.network.params, record.price // record.tasks, len(batch.table.members))
