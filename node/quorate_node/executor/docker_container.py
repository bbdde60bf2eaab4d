"""One container from creation to removal: hardened, watched, and never left behind."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import docker
import docker.errors
import docker.types
import requests

from quorate.protocol.container import ContainerLimits
from quorate_node.executor.base import FailureReason, LocalFailure
from quorate_node.executor.docker_folders import NOBODY, TaskFolders

LABEL = "quorate.scratch"
ONE_PROCESSOR = 10**9
OOM_GRACE_S = 0.5  # a child that ran out of memory must not pass for a result
STUCK_S = 15.0  # after a kill; then the daemon is given up
JUDGED_BYTES = 4096  # of standard error that are looked at, however few the spec wants kept
INIT_COMPLAINT = b"[FATAL tini ("
KILLED = {137: "SIGKILL", 143: "SIGTERM"}  # as by a daemon or a host that shuts down
SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
DAEMON_ERRORS = (requests.exceptions.RequestException, docker.errors.DockerException, OSError)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run, and where. `owner` marks the container as this node's."""

    image: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    working_dir: str
    folders: TaskFolders
    limits: ContainerLimits
    owner: str
    runtime: str | None = None


@dataclass(slots=True)
class Ended:
    """A program that ended by itself, or wrote more than `limits.stdout_bytes` and was killed for it."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    seconds: float
    is_over: bool = False


@dataclass(slots=True)
class Guard:
    """Kills a container when its time is up or when told to; gives the daemon up where that does not help."""

    api: docker.APIClient
    name: str
    seconds: float
    cancelled: threading.Event
    streams: list[Any] = field(default_factory=list)
    reason: str = ""
    _over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Until `finish`; in a thread of its own."""
        deadline = time.monotonic() + self.seconds
        while not self._over.wait(0.02):
            if self.cancelled.is_set() or time.monotonic() >= deadline:
                self.reason = self.reason or ("cancelled" if self.cancelled.is_set() else "timeout")
            if self.reason:
                with contextlib.suppress(*DAEMON_ERRORS):
                    self.api.kill(self.name)
                break
        if not self._over.wait(STUCK_S):
            for stream in self.streams:
                with contextlib.suppress(*DAEMON_ERRORS):
                    stream.close()

    def finish(self) -> None:
        """It has ended."""
        self._over.set()


def run_container(
    api: docker.APIClient, plan: Plan, seconds: float, cancelled: threading.Event
) -> Ended | LocalFailure:
    """Run a container for at most `seconds`. It is gone afterwards, and no error of a daemon is raised."""
    name = f"quorate-{uuid4().hex}"
    try:
        api.create_container_from_config(_configure(api, plan), name)
        return _run(api, name, plan, seconds, cancelled)
    except docker.errors.APIError as error:
        is_daemons = error.is_server_error() and "No such file" not in str(error) and "OCI runtime" not in str(error)
        reason = FailureReason.NO_DAEMON if is_daemons else None
        return LocalFailure(reason or FailureReason.CANNOT_START, f"the container did not start: {error.explanation}")
    except DAEMON_ERRORS as error:
        return LocalFailure(FailureReason.NO_DAEMON, f"the container daemon failed in mid-task: {error}")
    finally:
        remove_container(api, name)


def remove_container(api: docker.APIClient, name: str) -> None:
    """Remove a container with whatever it left, if it is there and the daemon is."""
    with contextlib.suppress(*DAEMON_ERRORS):
        api.remove_container(name, v=True, force=True)


def _configure(api: docker.APIClient, plan: Plan) -> Any:
    limits, env = plan.limits, dict(plan.env) | dict.fromkeys(SINGLE_THREADED, "1")
    in_memory = limits.memory_bytes + limits.output_bytes + limits.tmp_bytes
    host = api.create_host_config(
        network_mode="none", read_only=True, cap_drop=["ALL"], security_opt=["no-new-privileges"],
        pids_limit=limits.pids, mem_limit=in_memory, memswap_limit=in_memory, nano_cpus=ONE_PROCESSOR,
        tmpfs={"/tmp": f"rw,noexec,nosuid,nodev,size={max(limits.tmp_bytes, 4096)},nr_inodes=65536,mode=1777"},
        ulimits=[
            docker.types.Ulimit(name="nofile", soft=limits.open_files, hard=limits.open_files),
            docker.types.Ulimit(name="core", soft=0, hard=0),
        ],
        ipc_mode="none", init=True, oom_score_adj=1000, log_config=docker.types.LogConfig(type="none"),
        mounts=[
            docker.types.Mount("/inputs", str(plan.folders.inputs), type="bind", read_only=True),
            docker.types.Mount("/outputs", str(plan.folders.outputs), type="bind"),
        ],
        runtime=plan.runtime,
    )  # fmt: skip
    return api.create_container_config(
        plan.image, list(plan.command[1:]), entrypoint=[plan.command[0]], hostname="quorate", environment=env,
        user=f"{NOBODY}:{NOBODY}", working_dir=plan.working_dir or "/", labels={LABEL: plan.owner},
        network_disabled=True, stop_signal="SIGKILL", healthcheck={"test": ["NONE"]}, host_config=host,
    )  # fmt: skip


def _run(
    api: docker.APIClient, name: str, plan: Plan, seconds: float, cancelled: threading.Event
) -> Ended | LocalFailure:
    """Both streams are open before the start, so nothing is missed, and a daemon that dies breaks them."""
    guard = Guard(api, name, seconds, cancelled)
    events = api.events(filters={"container": [name], "event": ["die", "oom"]}, decode=True)
    stream = api.attach(name, stdout=True, stderr=True, stream=True, demux=True)
    guard.streams += [events, stream]
    try:
        api.start(name)
        began = time.monotonic()
        watching = threading.Thread(target=guard.watch, daemon=True)
        watching.start()
        try:
            stdout, stderr = _collect(stream, plan.limits, guard)
            code, was_oom = _wait(events)
        finally:
            guard.finish()
            watching.join()
        spent = time.monotonic() - began
    finally:
        for each in (stream, events):
            with contextlib.suppress(*DAEMON_ERRORS):
                each.close()
    was_oom = was_oom or bool(api.inspect_container(name)["State"].get("OOMKilled"))
    return _judge(Ended(code, stdout, stderr, spent, guard.reason == "stdout"), guard.reason, was_oom, plan)


def _collect(stream: Iterator[Any], limits: ContainerLimits, guard: Guard) -> tuple[bytes, bytes]:
    """What it writes, up to the limits; the rest is read and dropped."""
    stdout, stderr = bytearray(), bytearray()
    for out, err in stream:
        if out:
            room = limits.stdout_bytes - len(stdout)
            stdout += out[:room]
            if len(out) > room and not guard.reason:
                guard.reason = "stdout"  # not killed from here: a kill is answered only when all output is read
        if err:
            stderr += err[: max(limits.stderr_bytes, JUDGED_BYTES) - len(stderr)]
    return bytes(stdout), bytes(stderr)


def _wait(events: Any) -> tuple[int, bool]:
    """Exit code, and whether memory ran out. The daemon may tell the second after the first."""
    code: int | None = None
    was_oom = False
    late = threading.Timer(OOM_GRACE_S, events.close)  # ends the iteration
    try:
        for event in events:
            if event.get("Action") == "oom":
                was_oom = True
            elif event.get("Action") == "die":
                code = int(event["Actor"]["Attributes"]["exitCode"])
                late.start()
            if code is not None and was_oom:
                break
    finally:
        late.cancel()
    if code is None:
        raise docker.errors.DockerException("it stopped telling what happens before the container ended")
    return code, was_oom


def _judge(ended: Ended, reason: str, was_oom: bool, plan: Plan) -> Ended | LocalFailure:
    """What of this every honest host sees alike; the rest is no vote."""
    if reason == "cancelled":
        return LocalFailure(FailureReason.TIMEOUT, "the task was given up")
    if reason == "timeout":
        return LocalFailure(FailureReason.TIMEOUT, f"it ran for {ended.seconds:.1f} s, all the time that it may have")
    if ended.is_over:
        return ended
    if was_oom:
        text = f"it needs more than memory_bytes = {plan.limits.memory_bytes}"
        return LocalFailure(FailureReason.MEMORY_LIMIT, text)
    if ended.exit_code in KILLED:
        return LocalFailure(
            FailureReason.WORKER_DIED, f"it was killed ({KILLED[ended.exit_code]}), by itself or from outside"
        )
    if ended.exit_code in (126, 127) and ended.stderr.startswith(INIT_COMPLAINT):
        text = "".join(c if c.isprintable() else "?" for c in ended.stderr.decode(errors="replace").strip()[:400])
        return LocalFailure(FailureReason.CANNOT_START, f"{plan.command[0]!r} cannot be executed: {text}")
    ended.stderr = ended.stderr[: plan.limits.stderr_bytes]
    return ended
