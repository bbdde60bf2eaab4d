"""A job of those tasks alone that failed in another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from quorate.jobs import JobRecord
from quorate.protocol.container import AnySpec, parse_spec
from quorate.protocol.errors import ValidationError
from quorate.protocol.result import TaskResult
from quorate.protocol.spec import JobSpec
from quorate.spec import LimitsT, PreparedSpec, find_size, parse_limits, prepare_made
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.dagpb import Link
from quorate.tasks import TaskList


def prepare_retry(
    store: BlobStore,
    record: JobRecord,
    tasks: TaskList | None,
    results: Sequence[TaskResult],
    fuel: int | None,
    limits: Sequence[str],
    providers: Sequence[str],
) -> PreparedSpec:
    """Describe it: the same program over a directory of the failed tasks' files, at the same paths; none is read.

    `limits` are `NAME=NUMBER` items. Raises ValidationError where nothing can be run again.
    """
    name = record.job_id.hex()[:12]
    if tasks is None:
        raise ValidationError(f"job {name} is not divided over files, or nobody lists its input: run it again whole")
    failed = [result.task_index for result in results if result.exit_code]
    if not failed:
        raise ValidationError(f"no task of job {name} failed: there is nothing to run again")

    def change(old: LimitsT) -> LimitsT:
        return parse_limits(old if fuel is None else replace(old, fuel=fuel), limits)

    root = store.add_tree({file.path: Link(file.cid, tsize=file.size) for file in tasks.files_of(failed)})
    spec, source = parse_spec(record.spec.encode()), str(root.to_v1())
    again: AnySpec
    if isinstance(spec, JobSpec):
        again = replace(spec, input=source, limits=change(spec.limits))
    else:
        again = replace(spec, input=source, limits=change(spec.limits))
    sizes = [find_size(store, Cid.parse(text)) for text in again.contents if text != source]
    known = [size for size in sizes if size is not None]
    return prepare_made(store, again, sum(known) if len(known) == len(sizes) else None, None, providers)
