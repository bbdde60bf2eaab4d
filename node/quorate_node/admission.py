"""What an operator takes beyond what its limits say: a list of CIDs that it denies, and a program of its own.

Whoever is not admitted finds the seat abstaining, which costs the operator a seat's price: a guard for what it must not
do, not a way to choose its work. Anything but a clear yes of the program means no.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quorate.protocol.container import AnySpec
from quorate.protocol.errors import QuorateError
from quorate.protocol.types import JobOrder
from quorate.storage.cid import Cid
from quorate.storage.denylist import DenyList
from quorate_node.logs import get_logger

MAX_ASKED = 4  # programs at once
MAX_ANSWERS = 4096
MAX_REASON = 200
MAX_PRINTED = 4 * MAX_REASON  # bytes: a character has up to four
CHUNK_BYTES = 1 << 16
REFUSED = 1
"""The program's exit code for a no; the first line that it prints is the reason."""
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""Variables that the program sees: no other, for one of them may hold the passphrase."""


class NotAdmitted(QuorateError):
    """The operator does not take this job."""


@dataclass(slots=True)
class Admission:
    """Asked before anything of a job is fetched or run. `command` is the program with its arguments, none: all pass."""

    denied: DenyList = field(default_factory=DenyList)
    command: Sequence[str] = ()
    timeout_s: float = 5.0
    answers: OrderedDict[bytes, asyncio.Task[str | None]] = field(default_factory=OrderedDict)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_ASKED))
    told: str | None = None

    def check(self, cids: Iterable[Cid]) -> None:
        """Raise NotAdmitted for the first of them that is denied."""
        denied = next((cid for cid in cids if cid in self.denied), None)
        if self.denied.problem != self.told:
            self.told = self.denied.problem
            get_logger().error("deny-list not read", error=self.told)
        if denied is not None:
            raise NotAdmitted(f"{denied} is on this operator's deny-list")

    async def ask(self, job_id: bytes, order: JobOrder, spec: AnySpec) -> None:
        """Have the program judge a job, once. Raises NotAdmitted with its reason."""
        if not self.command:
            return
        answer = self.answers.get(job_id)
        if answer is None:  # of several bundles of a job the first one asks
            answer = asyncio.create_task(self._judge(describe_job(job_id, order, spec)))
            self.answers[job_id] = answer
            if len(self.answers) > MAX_ANSWERS:
                self.answers.popitem(last=False)
        if (reason := await asyncio.shield(answer)) is not None:
            raise NotAdmitted(reason)

    async def _judge(self, question: Mapping[str, Any]) -> str | None:
        async with self.slots:
            return await self._run(question)

    async def _run(self, question: Mapping[str, Any]) -> str | None:
        """Why not, or None for a yes."""
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command, env=env, start_new_session=True,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            return self._complain(f"policy_command cannot be run: {error}")
        try:
            async with asyncio.timeout(self.timeout_s):
                printed = await _converse(process, json.dumps(question).encode())
        except TimeoutError:
            return self._complain(f"policy_command gave no answer in {self.timeout_s:g} s")
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # with what it started
                await process.wait()
        if process.returncode == 0:
            return None
        if process.returncode != REFUSED:
            return self._complain(f"policy_command ended with {process.returncode}, neither 0 (yes) nor 1 (no)")
        line = printed.decode(errors="replace").partition("\n")[0][:MAX_REASON]
        return f"refused by this operator's policy: {line or 'no reason given'}"

    def _complain(self, problem: str) -> str:
        get_logger().error("policy", error=problem)
        return problem


async def _converse(process: asyncio.subprocess.Process, question: bytes) -> bytes:
    """Ask, and wait for the end of a program; the start of what it printed."""
    assert process.stdin is not None
    assert process.stdout is not None
    _, printed = await asyncio.gather(_tell(process.stdin, question), _read_start(process.stdout))
    await process.wait()
    return printed


async def _tell(stream: asyncio.StreamWriter, question: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # it need not read to the end
        stream.write(question)
        await stream.drain()
    stream.close()


async def _read_start(stream: asyncio.StreamReader) -> bytes:
    """Read to the end, and throw the rest away: a program that babbles must not fill our memory."""
    printed = b""
    while chunk := await stream.read(CHUNK_BYTES):
        printed += chunk[: MAX_PRINTED - len(printed)]
    return printed


def describe_job(job_id: bytes, order: JobOrder, spec: AnySpec) -> dict[str, Any]:
    """What the program reads on its standard input, as JSON; amounts are in the order's units."""
    return {
        "version": 1,
        "job_id": f"0x{job_id.hex()}",
        "requester": f"0x{order.requester.hex()}",
        "class_id": order.class_id,
        "seats": order.seats,
        "task_count": order.task_count,
        "fuel_limit": order.fuel_limit,
        "input_bytes": order.input_bytes,
        "commit_period": order.commit_period,
        "spec": json.loads(spec.to_bytes()),
    }
