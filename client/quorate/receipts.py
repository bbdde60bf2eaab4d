"""What is told of a job when it is asked for: the receipt."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from quorate.chain.gateway import ChainGateway
from quorate.chain.types import to_hex
from quorate.jobs import JobRecord, describe_order
from quorate.progress import JobStage, Slash, TrackedBundle
from quorate.protocol.errors import ValidationError
from quorate.protocol.openings import decode_settled
from quorate.protocol.partition import tasks_of_bundle
from quorate.tracking import JobTracker

TRANSACTION_NAMES = {
    JobStage.POSTED: "post",
    JobStage.ASSIGNED: "assign",
    JobStage.COMMITTED: "commit",
    JobStage.REVEALED: "reveal",
    JobStage.CARRIED: "carry",
    JobStage.DISPUTED: "dispute",
    JobStage.ACCEPTED: "accept",
    JobStage.VOID: "void",
    JobStage.FINAL: "final",
    JobStage.EXTENDED: "extend",
    JobStage.SKIPPED: "skip",
}


def find_seats(gateway: ChainGateway, tracker: JobTracker, bundle: int) -> list[dict[str, Any]]:
    """Who sat for a bundle and how they voted: operator ids, and votes as bytes or None."""
    if tracker.batch is None:
        return []
    members = gateway.table(tracker.batch.class_id, tracker.batch.table).members
    tracked = tracker.bundles[bundle]
    if tracked.seats:
        rows = [(seat.seat, seat.member, seat.vote, seat.reason) for seat in tracked.seats]
    else:
        standing = [(None, member, vote, None) for member, vote in tracked.standing.items()
                    if member not in tracked.committed.values()]  # fmt: skip
        rows = standing + [
            (seat, member, tracked.shown.get(seat) or tracked.standing.get(member), tracked.abstained.get(seat))
            for seat, member in sorted(tracked.committed.items())
        ]
    return [
        {
            "seat": seat,
            "operator": members[member].operator_id,
            "key": members[member].key,
            "vote": vote,
            "abstained": reason,
        }
        for seat, member, vote, reason in rows
    ]


def find_votes(gateway: ChainGateway, tracker: JobTracker) -> None:
    """Let a tracker know votes that no event tells: where seats differ and nobody judges, or while some are silent.

    They stand in the input of the transaction that settled, unless another contract made that call.
    """
    open_rows = set()
    for bundle in tracker.bundles.values():
        hidden = bundle.committed.keys() - bundle.abstained.keys() - bundle.shown.keys()
        if bundle.settled_in is not None and hidden and not bundle.seats:
            open_rows.add((bundle.settled_in, bundle.round))
    for transaction, round_ in sorted(open_rows):
        sent = gateway.settlement(transaction)
        with suppress(ValidationError):  # an input that is not what it seems tells nothing
            if sent is not None:
                tracker.show(decode_settled(round_, sent.page, sent.votes, sent.openings))


def describe_promise(gateway: ChainGateway, tracker: JobTracker, bundle: int) -> str:
    """Who has to serve a bundle's accepted result, and until when."""
    vote = tracker.bundles[bundle].vote
    voters = sorted(seat["operator"] for seat in find_seats(gateway, tracker, bundle) if seat["vote"] == vote)
    *most, last = [str(each) for each in voters] or ["nobody"]
    who = f"operators {', '.join(most)} and {last}" if most else f"operator {last}"
    if tracker.final_at is None:
        return f"{who} voted for it, and keep it until it is final"
    until = datetime.fromtimestamp(tracker.final_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{who} voted for it, and keep it until it is final: {until}, in the chain's time"


def find_wrong(gateway: ChainGateway, tracker: JobTracker) -> set[int]:
    """Ids of operators whose votes a class vote about this job found wrong."""
    if tracker.batch is None:
        return set()
    members = gateway.table(tracker.batch.class_id, tracker.batch.table).members
    return {members[row].operator_id for bundle in tracker.bundles.values() for row in bundle.wrong}


def describe_job(gateway: ChainGateway, record: JobRecord, tracker: JobTracker) -> dict[str, Any]:
    """The receipt as JSON values. `votes` are what bundles were accepted with, None where seats did not agree."""
    find_votes(gateway, tracker)
    verdict = tracker.stage.value if tracker.stage else "waiting"
    bundles = sorted(tracker.bundles.items())
    steps = _describe_steps(gateway, tracker)
    wrong = find_wrong(gateway, tracker) if tracker.slashes else set()
    slashes = [
        {"job_id": to_hex(record.job_id), **_describe_slash(slash)}
        for slash in tracker.slashes
        if slash.operator_id in wrong
    ]
    return {
        "job_id": to_hex(record.job_id),
        "order": describe_order(record.order),
        "spec": json.loads(record.spec),
        "batch_id": tracker.batch.batch_id if tracker.batch else None,
        "collator": record.collator,
        "result_cid": record.result_cid,
        "verdict": verdict,
        "bundles": [
            _describe_bundle(number, bundle, tasks_of_bundle(record.order.task_count, index))
            for index, (number, bundle) in enumerate(bundles)
        ],
        "votes": [to_hex(bundle.vote) if bundle.vote else None for _, bundle in bundles],
        "seats": [seat for number, _ in bundles for seat in _describe_seats(gateway, tracker, number)],
        "transactions": {TRANSACTION_NAMES[s.stage]: to_hex(s.transaction) for s in tracker.history if s.transaction},
        "seconds": _seconds(record, steps),
        "steps": steps,
        "disputes": [bundle.dispute_id for _, bundle in bundles if bundle.dispute_id is not None],
        "slash": slashes[0] if slashes else None,
        "slashes": slashes,
        "final_at": tracker.final_at,
        "final": tracker.is_final(gateway.head().timestamp),
        "abstentions": dict(sum((bundle.reasons for _, bundle in bundles), Counter[str]())),
        "extendable": list(tracker.extendable),
        "error": tracker.history[-1].detail if verdict in ("void", "skipped") else None,
    }


def _describe_bundle(number: int, bundle: TrackedBundle, tasks: range) -> dict[str, Any]:
    """`tasks` are the first and the last one; `verdict` is None before there is one."""
    return {
        "bundle": number,
        "tasks": [tasks[0], tasks[-1]],
        "verdict": bundle.verdict.name.lower() if bundle.verdict else None,
        "vote": to_hex(bundle.vote) if bundle.vote else None,
        "dispute_id": bundle.dispute_id,
    }


def _describe_seats(gateway: ChainGateway, tracker: JobTracker, bundle: int) -> list[dict[str, Any]]:
    return [
        {"bundle": bundle, **seat, "key": to_hex(seat["key"]), "vote": to_hex(seat["vote"]) if seat["vote"] else None}
        for seat in find_seats(gateway, tracker, bundle)
    ]


def _describe_steps(gateway: ChainGateway, tracker: JobTracker) -> list[dict[str, Any]]:
    return [
        {
            "stage": step.stage.value,
            "round": step.round,
            "block": step.block,
            "timestamp": gateway.block(step.block).timestamp,
            "transaction": to_hex(step.transaction),
            "detail": step.detail,
        }
        for step in tracker.history
    ]


def _describe_slash(slash: Slash) -> dict[str, Any]:
    return {
        "operator": slash.operator_id,
        "amount_wei": slash.amount,
        "ejected": slash.ejected,
        "transaction": to_hex(slash.transaction),
    }


def _seconds(record: JobRecord, steps: list[dict[str, Any]]) -> dict[str, float]:
    """How long each step took after the one before it, the first since the signature.

    As we saw it; for steps that nobody watched by the blocks' timestamps, which count whole seconds.
    """
    found: dict[str, float] = {}
    before = 0.0
    for step in steps:
        stage = JobStage(step["stage"])
        reached = max(before, record.seen.get(stage.value, step["timestamp"] - record.created_at))
        name = TRANSACTION_NAMES.get(stage, stage.value)
        found[name] = round(found.get(name, 0.0) + reached - before, 3)
        before = reached
    return found
