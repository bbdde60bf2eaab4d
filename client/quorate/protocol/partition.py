"""From an input listing to tasks, and from tasks to bundles: pure, so that everybody counts alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from quorate.protocol.errors import ValidationError
from quorate.protocol.params import BUNDLE_TASKS, MAX_PAGE_BUNDLES, MAX_PAGE_SEATS, MAX_TASKS
from quorate.protocol.pattern import compile_pattern


@dataclass(frozen=True, slots=True)
class Task:
    """One deterministic unit of a job: its index and the paths that it reads, ascending."""

    index: int
    paths: tuple[str, ...]


def partition(entries: Iterable[str], pattern: str = "*", batch_size: int = 1) -> tuple[Task, ...]:
    """Split the listed paths that match `pattern` into tasks of up to `batch_size` paths.

    Paths are ordered by their UTF-8 bytes, so that no locale or file system decides; `pattern` is one of
    `quorate.protocol.pattern`. Raises ValidationError for duplicates, for no path or no match, and
    for more tasks than an order holds.
    """
    if batch_size < 1:
        raise ValidationError(f"batch_size {batch_size} must be at least 1")
    fits = compile_pattern(pattern).match
    listed = list(entries)
    if not listed:
        raise ValidationError(f"no path matches {pattern!r}: the folder is empty; give one with files in it")
    matching = sorted((e for e in listed if fits(e)), key=lambda path: path.encode())
    if not matching:
        raise ValidationError(f"no path matches {pattern!r}: widen the pattern")
    if any(a == b for a, b in pairwise(matching)):
        raise ValidationError("a path is listed twice")
    chunks = [tuple(matching[at : at + batch_size]) for at in range(0, len(matching), batch_size)]
    if len(chunks) > MAX_TASKS:
        raise ValidationError(f"{len(chunks)} tasks are above {MAX_TASKS}: raise batch_size")
    return tuple(Task(index, paths) for index, paths in enumerate(chunks))


def count_bundles(task_count: int) -> int:
    """Bundles of a job of so many tasks."""
    return -(-task_count // BUNDLE_TASKS)


def compute_page_bundles(seats: int, rounds: int) -> int:
    """Most bundles that one page of orders may bring, so that one `settle` call can take the page."""
    return min(MAX_PAGE_BUNDLES, MAX_PAGE_SEATS // (seats * (1 + rounds)))


def count_bundle_tasks(task_count: int, bundle: int) -> int:
    """Tasks of the job's bundle of that number, from 0; only the last may be short."""
    if not 0 <= bundle < count_bundles(task_count):
        raise ValidationError(f"a job of {task_count} tasks has no bundle {bundle}")
    return min(BUNDLE_TASKS, task_count - bundle * BUNDLE_TASKS)


def tasks_of_bundle(task_count: int, bundle: int) -> range:
    """Task indices of one bundle of a job."""
    first = bundle * BUNDLE_TASKS
    return range(first, first + count_bundle_tasks(task_count, bundle))
