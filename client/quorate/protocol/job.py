"""Statuses of batches, bundles and jobs, and the lines along which each moves (section 1 of contracts/README.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from typing import TypeVar

from quorate.protocol.errors import InvalidTransition


class BatchStatus(IntEnum):
    """Status of a batch, numbered as in Solidity."""

    NONE = 0
    POSTING = 1
    AWAITING = 2
    ASSIGNED = 3
    VOIDED = 4
    SETTLED = 5


class BundleStatus(IntEnum):
    """Status of a bundle; the chain keeps a bit of it, the rest is in its events."""

    PENDING = 0
    ACCEPTED = 1
    DISPUTED = 2
    CARRIED = 3
    VOID = 4


class JobStatus(IntEnum):
    """Status of a job as its requester sees it: a function of its bundles and of time."""

    POSTED = 0
    ASSIGNED = 1
    DISPUTED = 2
    ACCEPTED = 3
    FINAL = 4
    VOID = 5


BATCH_TRANSITIONS: Mapping[BatchStatus, frozenset[BatchStatus]] = {
    BatchStatus.NONE: frozenset({BatchStatus.POSTING}),
    BatchStatus.POSTING: frozenset(
        {BatchStatus.POSTING, BatchStatus.AWAITING, BatchStatus.SETTLED, BatchStatus.VOIDED}
    ),
    BatchStatus.AWAITING: frozenset({BatchStatus.ASSIGNED, BatchStatus.VOIDED}),
    BatchStatus.ASSIGNED: frozenset({BatchStatus.AWAITING, BatchStatus.SETTLED}),
    BatchStatus.VOIDED: frozenset({BatchStatus.SETTLED}),
    # By an extension. The slot is reused under a new id; under its old one the batch then moves no more.
    BatchStatus.SETTLED: frozenset({BatchStatus.AWAITING}),
}

BUNDLE_TRANSITIONS: Mapping[BundleStatus, frozenset[BundleStatus]] = {
    BundleStatus.PENDING: frozenset(
        {BundleStatus.ACCEPTED, BundleStatus.DISPUTED, BundleStatus.CARRIED, BundleStatus.VOID}
    ),
    BundleStatus.CARRIED: frozenset({BundleStatus.PENDING, BundleStatus.VOID}),
    BundleStatus.DISPUTED: frozenset({BundleStatus.ACCEPTED, BundleStatus.VOID}),
    # A committee that was convicted is followed by another; a reversal voids.
    BundleStatus.ACCEPTED: frozenset({BundleStatus.CARRIED, BundleStatus.VOID}),
    BundleStatus.VOID: frozenset({BundleStatus.CARRIED}),
}

JOB_TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.POSTED: frozenset({JobStatus.ASSIGNED, JobStatus.VOID}),
    # A fresh round waits for its beacon again.
    JobStatus.ASSIGNED: frozenset({JobStatus.POSTED, JobStatus.DISPUTED, JobStatus.ACCEPTED, JobStatus.VOID}),
    JobStatus.DISPUTED: frozenset({JobStatus.ACCEPTED, JobStatus.VOID}),
    # A reversal voids, a convicted committee is followed by another.
    JobStatus.ACCEPTED: frozenset({JobStatus.FINAL, JobStatus.VOID, JobStatus.POSTED}),
    JobStatus.FINAL: frozenset(),
    JobStatus.VOID: frozenset({JobStatus.POSTED}),
}

_Status = TypeVar("_Status", BatchStatus, BundleStatus, JobStatus)


def apply_transition(
    table: Mapping[_Status, Collection[_Status]],
    subject: str,
    current: _Status,
    wanted: _Status,
    history: Sequence[_Status] = (),
) -> _Status:
    """Return `wanted`, or raise InvalidTransition with the history when the table does not list the pair."""
    if wanted not in table[current]:
        raise InvalidTransition(subject, current.name, wanted.name, [status.name for status in history])
    return wanted


def compute_job_status(assigned: bool, bundles: Sequence[BundleStatus], is_final: bool) -> JobStatus:
    """Status of a job from those of its bundles.

    `assigned` tells whether the batch's present round has its beacon, `is_final` whether the challenge period of the
    last bundle's acceptance is over.
    """
    found = set(bundles)
    if BundleStatus.DISPUTED in found:
        return JobStatus.DISPUTED
    if found & {BundleStatus.PENDING, BundleStatus.CARRIED}:
        return JobStatus.ASSIGNED if assigned else JobStatus.POSTED
    if BundleStatus.VOID in found:
        return JobStatus.VOID
    return JobStatus.FINAL if is_final else JobStatus.ACCEPTED
