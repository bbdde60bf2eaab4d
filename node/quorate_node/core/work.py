"""Executions: begun once for all that needs them, tried again where that may help."""

from __future__ import annotations

from quorate.protocol.profiles import find_description
from quorate.protocol.types import AbstainReason
from quorate_node.core.instructions import Execute, Instruction, Note
from quorate_node.core.policy import compute_refusal
from quorate_node.core.state import State, Work, WorkKey, WorkStatus
from quorate_node.core.views import Bundle

RETRY_S = 1.0
LONGEST_RETRY_S = 30.0


def ensure_work(
    state: State, key: WorkKey, bundle: Bundle, operators: tuple[int, ...], tasks: tuple[int, ...] = ()
) -> tuple[Work, Instruction | None]:
    """The work on a bundle or on some of its tasks (none named: all), with the instruction that starts it.

    `operators` may have the content.
    """
    own = state.own
    work = own.work.get(key)
    # After a reorganisation a batch's number may stand for other orders.
    is_known = work is not None and (work.job_id, work.job_bundle) == (bundle.job_id, bundle.job_bundle)
    if work is not None and is_known:
        if work.retry_at is None or state.now < work.retry_at:
            return work, None
        work.attempts, work.retry_at = work.attempts + 1, None
    else:
        work = Work(bundle.job_id, bundle.job_bundle, since=state.now)
    own.work[key] = work
    running = sum(1 for each in own.work.values() if each is not work and each.status is WorkStatus.RUNNING)
    refusal = refuse_class(state, bundle.order.class_id)
    refusal = refusal or compute_refusal(bundle.order, state.settings.limits, running) or _refuse_for_now(state)
    if refusal is not None:
        return work, _refuse(state, work, *refusal)
    work.status = WorkStatus.RUNNING
    batch = state.chain.batches.get(key[0])
    collators = (batch.collator,) if batch else ()
    others = tuple(each for each in operators if each != state.identity.operator_id)
    period = bundle.order.commit_period
    profile = state.chain.classes[bundle.order.class_id].profile
    return work, Execute(key, bundle.job_id, bundle.order, bundle.job_bundle, collators, others, period, profile, tasks)


def refuse_class(state: State, class_id: int) -> tuple[AbstainReason, str] | None:
    """Whether the class asks for results of another profile, or judges what cannot be: ours would cost the stake."""
    view = state.chain.classes[class_id]
    if view.profile not in state.settings.profiles:
        return AbstainReason.POLICY, f"class {class_id} has a profile that this node does not run: leave it"
    found = find_description(view.profile)
    objection = found.find_objection(view.judged) if found else None
    return (AbstainReason.POLICY, f"leave class {class_id}: {objection}") if objection else None


def _refuse_for_now(state: State) -> tuple[AbstainReason, str] | None:
    objection = state.guard.find_objection(state.now, state.unix, state.chain.head.timestamp)
    return (AbstainReason.RESOURCES, objection) if objection else None


def _refuse(state: State, work: Work, reason: AbstainReason, text: str) -> Instruction:
    work.status, work.reason, work.abstention = WorkStatus.REFUSED, text, reason
    if reason is not AbstainReason.POLICY:  # too much to do: there may be room in a moment
        work.retry_at = state.now + RETRY_S
    note = f"job 0x{work.job_id.hex()}: {text}"
    if note not in state.notes:
        state.notes.append(note)
    return Note(text, work.job_id)


def fail_work(state: State, work: Work, text: str, reason: AbstainReason, retry: bool) -> None:
    """This host has no result; tried again with growing pauses where `retry`."""
    work.status, work.reason, work.abstention = WorkStatus.FAILED, text, reason
    pause = min(RETRY_S * 1.5 ** (work.attempts - 1), LONGEST_RETRY_S)
    work.retry_at = state.now + pause if retry else None
    state.notes.append(f"job 0x{work.job_id.hex()}: {text}")
