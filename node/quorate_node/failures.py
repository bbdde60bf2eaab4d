"""What a node says when a task has no result on its host."""

from __future__ import annotations

from quorate.protocol.types import AbstainReason
from quorate_node.executor.base import FailureReason

FAILURES: dict[FailureReason, tuple[AbstainReason, bool]] = {
    FailureReason.TIMEOUT: (AbstainReason.TIME, False),
    FailureReason.COMPILE_TIMEOUT: (AbstainReason.TIME, False),
    FailureReason.HOST_MEMORY: (AbstainReason.RESOURCES, True),
    FailureReason.HOST_DISK: (AbstainReason.RESOURCES, True),
    FailureReason.STACK_OVERFLOW: (AbstainReason.RESOURCES, False),
    # A block that rotted is forgotten when it is found: the next try fetches it again.
    FailureReason.DATA_UNAVAILABLE: (AbstainReason.NO_DATA, True),
    FailureReason.WORKER_DIED: (AbstainReason.RESOURCES, True),
    FailureReason.MEMORY_LIMIT: (AbstainReason.RESOURCES, False),
    FailureReason.PROCESS_LIMIT: (AbstainReason.RESOURCES, False),
    FailureReason.INPUT_REFUSED: (AbstainReason.DATA_MISMATCH, False),
    FailureReason.IMAGE_REFUSED: (AbstainReason.DATA_MISMATCH, False),
    FailureReason.CANNOT_START: (AbstainReason.OTHER, False),
    FailureReason.NO_DAEMON: (AbstainReason.OTHER, False),
    FailureReason.DAEMON_LOST: (AbstainReason.OTHER, True),
    FailureReason.NOT_ALLOWED: (AbstainReason.POLICY, False),
    FailureReason.UNSUPPORTED: (AbstainReason.POLICY, False),
    FailureReason.INTERNAL: (AbstainReason.OTHER, False),
}
"""Reason of the abstention, and whether another try may help."""

HOST_FAULTS = frozenset(
    {
        FailureReason.HOST_MEMORY,
        FailureReason.HOST_DISK,
        FailureReason.WORKER_DIED,
        FailureReason.NO_DAEMON,
        FailureReason.DAEMON_LOST,
        FailureReason.INTERNAL,
    }
)
"""Those that say something of the host; of all others a job, or who has its content, may be to blame."""
