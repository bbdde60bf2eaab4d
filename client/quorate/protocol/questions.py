"""What a class is asked in a dispute (section 5 of contracts/README.md): the fewest tasks that tell all roots apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quorate.protocol.hashing import keccak
from quorate.protocol.types import DisputeKind, DisputeRecord, Question, Vote

MAX_QUESTION_LEAVES = 8192
"""Roots × tasks above this cannot be shown in one call: the class is asked for the whole bundle."""


def is_publishable(record: DisputeRecord) -> bool:
    """Whether leaves of the roots can be published at all."""
    return len(record.roots) * record.tasks <= MAX_QUESTION_LEAVES


def compute_tasks_in_question(columns: Sequence[Sequence[bytes]]) -> tuple[int, ...]:
    """Tasks, ascending, of which any two lists of leaves differ in one; `columns` are the leaves of each root.

    A task is taken when it splits roots that all tasks before it left together.
    """
    taken, groups = [], [list(columns)]
    for task in range(len(columns[0])):
        parts = [_split(group, task) for group in groups]
        if any(len(part) > 1 for part in parts):
            taken.append(task)
        groups = [group for part in parts for group in part]
    return tuple(taken)


def _split(group: Sequence[Sequence[bytes]], task: int) -> list[list[Sequence[bytes]]]:
    parts: dict[bytes, list[Sequence[bytes]]] = {}
    for leaves in group:
        parts.setdefault(leaves[task], []).append(leaves)
    return list(parts.values())


def compute_question(record: DisputeRecord, published: Mapping[Vote, Sequence[bytes]]) -> Question:
    """The question of a dispute from the leaves of its published roots: the whole bundle unless all are there."""
    roots = record.roots
    if not is_publishable(record) or any(root not in published for root in roots):
        return Question((), roots)
    columns = [published[root] for root in roots]
    is_challenge = record.kind is DisputeKind.CHALLENGE
    tasks = (record.task,) if is_challenge else compute_tasks_in_question(columns)
    return Question(tasks, tuple(_hash_leaves(tasks, leaves) for leaves in columns))


def compute_answer(question: Question, root: Vote, leaves: Sequence[bytes]) -> Vote:
    """What a member answers that found `leaves`, whose Merkle root is `root`, for the bundle's tasks.

    Of `leaves` only those of the question's tasks are read; where it names tasks, `root` is not.
    """
    return _hash_leaves(question.tasks, leaves) if question.tasks else root


def _hash_leaves(tasks: Sequence[int], leaves: Sequence[bytes]) -> Vote:
    return Vote(keccak(b"".join(leaves[task] for task in tasks)))
