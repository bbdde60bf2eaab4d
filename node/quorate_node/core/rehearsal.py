"""A dry run: whatever is accepted is executed, too, and compared. Nothing is committed, sent or staked.

For who wants to know whether this host would agree with the others before it has stake at risk.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.protocol.job import BatchStatus
from quorate.protocol.types import OutcomeRow, Verdict
from quorate_node.core.challenges import find_wrong_task
from quorate_node.core.core import Core
from quorate_node.core.instructions import Instruction, Note
from quorate_node.core.state import Rehearsal, State, Work, WorkStatus
from quorate_node.core.views import Batch
from quorate_node.core.work import ensure_work

DONE = (WorkStatus.DONE, WorkStatus.REFUSED, WorkStatus.FAILED)


class RehearsingCore(Core):
    """Decides nothing but executions."""

    def decisions(self) -> Iterator[Instruction]:
        """Bundles to execute, and what came of it."""
        yield from self._guard(decide_rehearsal(self.state))


def decide_rehearsal(state: State) -> Iterator[Instruction]:
    """All accepted bundles of this node's classes, each once."""
    for batch in state.chain.batches.values():
        if batch.status is not BatchStatus.SETTLED:
            continue
        for bundle, outcome in batch.outcomes.items():
            is_ours = batch.bundles[bundle].order.class_id in state.settings.classes
            if is_ours and outcome.row.verdict is Verdict.ACCEPTED and (batch.id, bundle) not in state.rehearsal.seen:
                yield from _rehearse(state, batch, bundle, outcome.row)


def _rehearse(state: State, batch: Batch, bundle: int, row: OutcomeRow) -> Iterator[Instruction]:
    key, rehearsal = (batch.id, bundle), state.rehearsal
    voters = tuple(batch.table.members[member].operator_id for member in row.voters)
    work, start = ensure_work(state, key, batch.bundles[bundle], voters)
    if start is not None:
        yield start
    if work.status not in DONE or (work.status is not WorkStatus.DONE and work.retry_at is not None):
        return
    job = f"job 0x{work.job_id.hex()}, bundle {work.job_bundle}"
    if work.status is not WorkStatus.DONE:
        rehearsal.abstained += 1
        yield _tell(state, work, f"would have abstained with {work.abstention.name}: {job}: {work.reason}")
    elif work.root == row.vote:
        rehearsal.agreed += 1
    else:
        task, ask = find_wrong_task(state, batch, bundle, row, work)
        if task is None:
            yield from ask
            return
        rehearsal.differed += 1
        result = f"this host's result is 0x{work.leaves[task].hex()}, and another was accepted"
        yield _tell(state, work, f"would have been slashed: {job}, task {task} of the bundle: {result}")
    rehearsal.seen.add(key)


def _tell(state: State, work: Work, text: str) -> Note:
    state.notes.append(f"dry run: {text}")
    return Note(f"dry run: {text}", work.job_id)


def describe_rehearsal(rehearsal: Rehearsal) -> dict[str, int]:
    """Counts, for the status."""
    return {"agreed": rehearsal.agreed, "differed": rehearsal.differed, "abstained": rehearsal.abstained}
