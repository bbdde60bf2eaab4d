"""What pool and worker say to each other: frames of length and JSON, so that neither end unpickles the other's bytes.

A worker runs untrusted programs, so the pool checks what comes back like any other input.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from quorate.protocol.errors import DataError, ValidationError
from quorate.protocol.result import TaskResult
from quorate.protocol.spec import JobSpec
from quorate_node.executor.base import Executed, ExecutionTask, FailureReason, LocalFailure

LENGTH_BYTES = 4
MAX_FRAME_BYTES = 1 << 20


def pack(message: dict[str, Any]) -> bytes:
    """A frame: length (u32, big-endian), JSON."""
    body = json.dumps(message).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise DataError(f"a message of {len(body)} bytes is over {MAX_FRAME_BYTES}")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def frame_length(head: bytes) -> int:
    """Length of the body that follows; DataError if it is absurd."""
    size = int.from_bytes(head, "big")
    if size > MAX_FRAME_BYTES:
        raise DataError(f"a frame claims {size} bytes, over {MAX_FRAME_BYTES}")
    return size


def unpack(body: bytes) -> dict[str, Any]:
    """The message in a frame's body."""
    try:
        message = json.loads(body)
    except ValueError as error:
        raise DataError(f"a frame is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise DataError("a frame is not a JSON object")
    return message


def encode_task(task: ExecutionTask, timeout_s: float) -> dict[str, Any]:
    """A request."""
    return {"spec": task.spec.to_bytes().decode(), "task_index": task.task_index, "timeout_s": timeout_s}


def decode_task(message: dict[str, Any]) -> tuple[ExecutionTask, float]:
    """Inverse of `encode_task`."""
    spec = JobSpec.from_bytes(message["spec"].encode())
    return ExecutionTask(spec, message["task_index"]), float(message["timeout_s"])


def encode_outcome(outcome: Executed | LocalFailure) -> dict[str, Any]:
    """An answer."""
    if isinstance(outcome, LocalFailure):
        return {"failure": outcome.reason.value, "detail": outcome.detail[:4096]}
    return {
        "result": outcome.result.to_bytes().decode(),
        "fuel_used": outcome.fuel_used,
        "seconds": outcome.seconds,
        "stderr": base64.b64encode(outcome.stderr).decode(),
        "detail": outcome.detail[:4096],
    }


def decode_outcome(message: dict[str, Any]) -> Executed | LocalFailure:
    """Inverse of `encode_outcome`; DataError for anything else."""
    try:
        detail = str(message["detail"])
        if "failure" in message:
            return LocalFailure(FailureReason(message["failure"]), detail)
        result = TaskResult.from_bytes(message["result"].encode())
        stderr = base64.b64decode(message["stderr"])
        return Executed(result, int(message["fuel_used"]), float(message["seconds"]), stderr, detail)
    except (KeyError, ValueError, TypeError, AttributeError, ValidationError) as error:
        raise DataError(f"the worker's answer makes no sense: {error}") from error
