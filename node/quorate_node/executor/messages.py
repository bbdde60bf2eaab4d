"""What pool and worker say to each other: frames of length and JSON, so that neither end unpickles the other's bytes.

A worker runs untrusted programs, so the pool checks what comes back like any other input.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from functools import lru_cache
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


def encode_tasks(tasks: Sequence[ExecutionTask], timeout_s: float) -> dict[str, Any]:
    """A request for tasks of one spec, to be run one after the other; the answer is a frame for each."""
    named = [[task.task_index, task.input] for task in tasks]
    return {"spec": tasks[0].spec.to_bytes().decode(), "tasks": named, "timeout_s": timeout_s}


@lru_cache(maxsize=16)
def _read_spec(text: str) -> JobSpec:
    """A job over many files asks with one spec many times."""
    return JobSpec.from_bytes(text.encode())


def decode_tasks(message: dict[str, Any]) -> tuple[list[ExecutionTask], float]:
    """Inverse of `encode_tasks`."""
    spec = _read_spec(message["spec"])
    return [ExecutionTask(spec, *named) for named in message["tasks"]], float(message["timeout_s"])


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
