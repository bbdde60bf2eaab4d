"""One container from creation to removal: hardened, watched, and never left behind."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import docker
import docker.errors
import docker.types

from quorate.protocol.container import ContainerLimits
from quorate_node.executor.base import FailureReason, LocalFailure
from quorate_node.executor.docker_cgroup import MemoryEnd, MemoryWatch, watching
from quorate_node.executor.docker_client import DAEMON_ERRORS, DockerClient, answering_within
from quorate_node.executor.docker_clock import Allowance
from quorate_node.executor.docker_folders import NOBODY, TaskFolders

LABEL = "quorate.scratch"
ONE_PROCESSOR = 10**9
STUCK_S = 5.0  # after a kill; then the daemon is given up
LAST_S = 3.0  # what one that was given up may take for what is still asked of it
JUDGED_BYTES = 4096  # of standard error that are looked at, however few the spec wants kept
INIT_COMPLAINT = b"[FATAL tini ("
KILLED = {137: "SIGKILL", 143: "SIGTERM"}  # as by a daemon or a host that shuts down
SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run, and where. `owner` marks the container as this node's; its cgroup is made below that of `watch`."""

    image: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    working_dir: str
    folders: TaskFolders
    limits: ContainerLimits
    owner: str
    runtime: str | None = None
    watch: MemoryWatch | None = None

    @property
    def memory_bytes(self) -> int:
        """For its processes, and what lies in folders in memory."""
        return self.limits.memory_bytes + self.limits.output_bytes + self.limits.tmp_bytes


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

    api: DockerClient
    name: str
    seconds: float
    allowance: Allowance
    watch: MemoryWatch
    streams: list[Any] = field(default_factory=list)
    reason: str = ""
    is_given_up: bool = False
    _over: threading.Event = field(default_factory=threading.Event)

    def watch_over(self) -> None:
        """Until `finish`; in a thread of its own."""
        deadline, cancelled = time.monotonic() + self.seconds, self.allowance.cancelled
        while not self._over.wait(0.02):
            if cancelled.is_set() or time.monotonic() >= deadline:
                self.reason = self.reason or ("cancelled" if cancelled.is_set() else "timeout")
            if self.reason:
                self._kill()
                break
        if not self._over.wait(STUCK_S):
            self.is_given_up = True
            for stream in self.streams:
                with contextlib.suppress(*DAEMON_ERRORS):
                    stream.close()

    def _kill(self) -> None:
        """Without the daemon where that is possible: it may hang."""
        if self.watch.folder is not None:
            self.watch.kill()
        else:
            with contextlib.suppress(*DAEMON_ERRORS), answering_within(self.api, LAST_S):
                self.api.kill(self.name)

    def finish(self) -> None:
        """It has ended."""
        self._over.set()


def run_container(api: DockerClient, plan: Plan, allowance: Allowance, left: set[str]) -> Ended | LocalFailure:
    """Run a container for as long as its limits say and the allowance lasts. It is gone afterwards, or among those that
    are `left`, because the daemon does not answer; no error of a daemon is raised."""
    try:
        with watching(plan.owner, plan.memory_bytes, str(api.info().get("CgroupDriver"))) as watch:
            return _attempt(api, replace(plan, watch=watch), watch, allowance, left)
    except DAEMON_ERRORS as error:
        return LocalFailure(FailureReason.DAEMON_LOST, f"the container daemon failed in mid-task: {error}")


def _attempt(
    api: DockerClient, plan: Plan, watch: MemoryWatch, allowance: Allowance, left: set[str]
) -> Ended | LocalFailure:
    name = f"quorate-{uuid4().hex}"
    try:
        api.create_container_from_config(_configure(api, plan), name)
        seconds = min(plan.limits.seconds, allowance.left())
        return _run(api, plan, Guard(api, name, seconds, allowance, watch))
    except docker.errors.ImageNotFound as error:
        return LocalFailure(FailureReason.DAEMON_LOST, f"the daemon has the image no more: {error.explanation}")
    except docker.errors.APIError as error:
        is_daemons = error.is_server_error() and "No such file" not in str(error) and "OCI runtime" not in str(error)
        reason = FailureReason.DAEMON_LOST if is_daemons else None
        return LocalFailure(reason or FailureReason.CANNOT_START, f"the container did not start: {error.explanation}")
    finally:
        if not remove_container(api, name):
            left.add(name)


def remove_container(api: docker.APIClient, name: str) -> bool:
    """Remove a container with whatever it left, if the daemon is there. Whether it is gone."""
    try:
        api.remove_container(name, v=True, force=True)
    except docker.errors.NotFound:
        return True
    except DAEMON_ERRORS:
        return False
    return True


def _configure(api: docker.APIClient, plan: Plan) -> Any:
    limits, env = plan.limits, dict(plan.env) | dict.fromkeys(SINGLE_THREADED, "1")
    memory = plan.memory_bytes + (plan.watch.margin_bytes if plan.watch else 0)
    cgroup = f"/{plan.watch.name}" if plan.watch and plan.watch.name else None
    host = api.create_host_config(
        network_mode="none", read_only=True, cap_drop=["ALL"], security_opt=["no-new-privileges"],
        pids_limit=limits.pids, mem_limit=memory, memswap_limit=memory, nano_cpus=ONE_PROCESSOR,
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
        runtime=plan.runtime, cgroup_parent=cgroup,
    )  # fmt: skip
    return api.create_container_config(
        plan.image, list(plan.command[1:]), entrypoint=[plan.command[0]], hostname="quorate", environment=env,
        user=f"{NOBODY}:{NOBODY}", working_dir=plan.working_dir or "/", labels={LABEL: plan.owner},
        network_disabled=True, stop_signal="SIGKILL", healthcheck={"test": ["NONE"]}, host_config=host,
    )  # fmt: skip


def _run(api: DockerClient, plan: Plan, guard: Guard) -> Ended | LocalFailure:
    """Both streams are open before the start, so nothing is missed, and a daemon that dies breaks them."""
    events = api.events(filters={"container": [guard.name], "event": ["die"]}, decode=True)
    guard.streams.append(events)
    try:
        stream = api.attach(guard.name, stdout=True, stderr=True, stream=True, demux=True)
        guard.streams.append(stream)
        api.start(guard.name)
        began = time.monotonic()
        watching = threading.Thread(target=guard.watch_over, daemon=True)
        watching.start()
        try:
            stdout, stderr = _collect(stream, plan.limits, guard)
            code = _wait(events)
        finally:
            guard.finish()
            watching.join()
            if guard.is_given_up:
                api.timeout = LAST_S
        spent = time.monotonic() - began
    finally:
        for each in guard.streams:
            with contextlib.suppress(*DAEMON_ERRORS):
                each.close()
    is_out = api.inspect_container(guard.name)["State"].get("OOMKilled")
    memory = MemoryEnd.EXHAUSTED if is_out else guard.watch.judge()
    # The kernel refuses a process too many; a runtime between them, as gVisor, dies of that.
    if plan.runtime not in (None, "runc") and (guard.watch.find_most_tasks() or 0) >= plan.limits.pids:
        text = f"under {plan.runtime} it reached pids = {plan.limits.pids}, the processes of {plan.runtime} included"
        return LocalFailure(FailureReason.PROCESS_LIMIT, text)
    return _judge(Ended(code, stdout, stderr, spent, guard.reason == "stdout"), guard.reason, memory, plan)


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


def _wait(events: Any) -> int:
    """Exit code. Raises DockerException where the daemon ends first."""
    for event in events:
        if event.get("Action") == "die":
            return int(event["Actor"]["Attributes"]["exitCode"])
    raise docker.errors.DockerException("it stopped telling what happens before the container ended")


def _judge(ended: Ended, reason: str, memory: MemoryEnd, plan: Plan) -> Ended | LocalFailure:
    """What of this every honest host sees alike; the rest is no vote."""
    if reason == "cancelled":
        return LocalFailure(FailureReason.TIMEOUT, "the task was given up")
    if reason == "timeout":
        return LocalFailure(FailureReason.TIMEOUT, f"it ran for {ended.seconds:.1f} s, all the time that it may have")
    if memory is MemoryEnd.EXHAUSTED:
        text = f"it needs more than memory_bytes = {plan.limits.memory_bytes}"
        return LocalFailure(FailureReason.MEMORY_LIMIT, text)
    if memory is MemoryEnd.UNSURE:
        text = "something on this host ran out of memory meanwhile, and it cannot be told whether this task did"
        return LocalFailure(FailureReason.HOST_MEMORY, text)
    if ended.is_over:
        return ended
    if ended.exit_code in KILLED:
        return LocalFailure(
            FailureReason.WORKER_DIED, f"it was killed ({KILLED[ended.exit_code]}), by itself or from outside"
        )
    if ended.exit_code in (126, 127) and ended.stderr.startswith(INIT_COMPLAINT):
        text = "".join(c if c.isprintable() else "?" for c in ended.stderr.decode(errors="replace").strip()[:400])
        return LocalFailure(FailureReason.CANNOT_START, f"{plan.command[0]!r} cannot be executed: {text}")
    ended.stderr = ended.stderr[: plan.limits.stderr_bytes]
    return ended
