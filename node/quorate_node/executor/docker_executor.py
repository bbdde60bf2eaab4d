"""The executor of `quorate-docker-1`: one hardened container a task, on a Docker daemon."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import platform
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

from quorate.images.archive import ImageRefused
from quorate.protocol.container import CONTAINER_FUEL_RATE, DOCKER_PROFILE
from quorate.protocol.errors import Busy, ConfigurationError, ContentUnavailable, DataError
from quorate.protocol.result import EXIT_OVER_LIMIT, TaskResult, TaskStatus
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate_node.executor.base import ContainerTask, DockerSettings, Executed, FailureReason, LocalFailure
from quorate_node.executor.docker_cgroup import remove_cgroups
from quorate_node.executor.docker_client import DAEMON_ERRORS, DockerClient, connect
from quorate_node.executor.docker_clock import Allowance, TaskOver
from quorate_node.executor.docker_container import LABEL, Ended, Plan, remove_container, run_container
from quorate_node.executor.docker_folders import (
    HostFull,
    InputRefused,
    TaskFolders,
    make_folders,
    remove_leftovers,
    store_folder,
)
from quorate_node.executor.docker_images import ImageNotAllowed, ImageShelf
from quorate_node.executor.wasi.tree import OverLimit

MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
GIVE_UP_S = 40.0  # what a daemon may take, over the time of a task, to show that it does not answer
CLOSE_S = 15.0
PREPARE_S = 30.0


class DockerExecutor:
    """Runs container tasks. The daemon is asked for when a task needs it, so it may come and go."""

    def __init__(
        self, settings: DockerSettings, store: BlobStore, make: Callable[..., DockerClient] = DockerClient
    ) -> None:
        self._settings, self._store, self._make = settings, store, make
        self._shelf = ImageShelf(store, settings.scratch, settings.registries)
        self._slots = asyncio.Semaphore(settings.workers)
        self._is_host_clear = self._is_clean = False
        self._running: set[Allowance] = set()
        self._left: set[str] = set()
        self._lock = threading.Lock()

    async def execute(self, task: ContainerTask, *, timeout_s: float) -> Executed | LocalFailure:
        """Run a task for at most `timeout_s` seconds, and no longer than its fuel stands for. Cancelling kills it.

        As much, or at least PREPARE_S, may go by before, for its image and its input.
        """
        async with self._slots:
            allowance = Allowance.of(max(timeout_s, PREPARE_S))
            work = run_in_thread(partial(self._guarded, task, allowance, timeout_s))
            self._running.add(allowance)
            try:
                done, _ = await asyncio.wait([work], timeout=max(timeout_s, PREPARE_S) + timeout_s + GIVE_UP_S)
            except asyncio.CancelledError:
                allowance.cancelled.set()
                await asyncio.wait([work], timeout=GIVE_UP_S)
                raise
            finally:
                self._running.discard(allowance)
            if not done:
                allowance.cancelled.set()
                return LocalFailure(FailureReason.DAEMON_LOST, f"the daemon at {self._settings.host} does not answer")
            return work.result()

    async def start(self) -> None:
        """Remove what an earlier run of this node left, when it died; its containers once the daemon is there."""
        await run_in_thread(self._clean_up)

    async def close(self) -> None:
        """Kill what runs, and wait until nothing of it is left, or the daemon has had its time."""
        for allowance in self._running:
            allowance.cancelled.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                for _ in range(self._settings.workers):
                    await self._slots.acquire()

    def _guarded(self, task: ContainerTask, allowance: Allowance, timeout_s: float) -> Executed | LocalFailure:
        try:
            return self._execute(task, allowance, timeout_s)
        except TaskOver as error:
            return LocalFailure(FailureReason.TIMEOUT, str(error))
        except InputRefused as error:
            return LocalFailure(FailureReason.INPUT_REFUSED, str(error))
        except HostFull as error:
            return LocalFailure(FailureReason.HOST_DISK, str(error))
        except ImageNotAllowed as error:
            return LocalFailure(FailureReason.NOT_ALLOWED, str(error))
        except ImageRefused as error:
            return LocalFailure(FailureReason.IMAGE_REFUSED, str(error))
        except ConfigurationError as error:
            return LocalFailure(FailureReason.NOT_ALLOWED, str(error))
        except (ContentUnavailable, DataError, Busy) as error:
            return LocalFailure(FailureReason.DATA_UNAVAILABLE, str(error))
        except DAEMON_ERRORS as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                return LocalFailure(FailureReason.HOST_DISK, f"this host has no room for the task: {error}")
            return LocalFailure(FailureReason.DAEMON_LOST, f"the container daemon at {self._settings.host}: {error}")

    def _execute(self, task: ContainerTask, allowance: Allowance, timeout_s: float) -> Executed | LocalFailure:
        settings, spec = self._settings, task.visible
        try:
            api = connect(settings.host, make=self._make)
        except DAEMON_ERRORS as error:
            text = f"no Docker daemon that can be used answers at {settings.host}: {error}"
            return LocalFailure(FailureReason.NO_DAEMON, text)
        try:
            self._clean(api)
            with self._shelf.using(api, spec.image, spec.limits.image_bytes, allowance) as (name, config):
                if config.architecture != (here := MACHINES.get(platform.machine(), platform.machine())):
                    text = f"the image is for {config.architecture[:40]!r}, and this host is {here}"
                    return LocalFailure(FailureReason.CANNOT_START, text)
                most = task.max_input_bytes
                with make_folders(settings.scratch, self._store, spec, most, allowance) as folders:
                    plan = Plan(
                        name, config.compute_command(spec.entrypoint, spec.args), dict(config.env) | dict(spec.env),
                        config.working_dir, folders, spec.limits, str(settings.scratch), settings.runtime,
                    )  # fmt: skip
                    outcome = run_container(api, plan, allowance.renew(timeout_s), self._left)
                    return outcome if isinstance(outcome, LocalFailure) else self._finish(task, outcome, folders)
        finally:
            api.close()

    def forget_images(self) -> None:
        """Leave no image with the daemon. Raises errors of DAEMON_ERRORS."""
        api = connect(self._settings.host)
        try:
            self._shelf.forget(api)
        finally:
            api.close()

    def _clean_up(self) -> None:
        self._clear_host()
        with contextlib.suppress(*DAEMON_ERRORS):
            api = connect(self._settings.host, make=self._make)
            with contextlib.closing(api):
                self._clean(api)

    def _clear_host(self) -> None:
        """Once: what this node left here itself."""
        with self._lock:
            if not self._is_host_clear:
                remove_cgroups(str(self._settings.scratch))
                remove_leftovers(self._settings.scratch)
                self._is_host_clear = True

    def _clean(self, api: DockerClient) -> None:
        """Once: remove what an earlier run of this node left. Later: what a daemon that did not answer kept."""
        self._clear_host()
        with self._lock:
            if not self._is_clean:
                for each in api.containers(all=True, filters={"label": f"{LABEL}={self._settings.scratch}"}):
                    remove_container(api, each["Id"])
                self._is_clean = True
        for name in tuple(self._left):
            if remove_container(api, name):
                self._left.discard(name)

    def _finish(self, task: ContainerTask, ended: Ended, folders: TaskFolders) -> Executed:
        status = TaskStatus.OK if ended.exit_code == 0 else TaskStatus.FAILED
        code, detail = ended.exit_code, f"exit code {ended.exit_code}" if ended.exit_code else ""
        outputs: str | None = None
        with self._store.adding() as additions:
            if ended.is_over:
                code, detail = EXIT_OVER_LIMIT, f"it wrote more than stdout_bytes = {task.spec.limits.stdout_bytes}"
            else:
                try:
                    outputs = store_folder(folders.outputs, task.spec.limits, additions)
                except OverLimit as error:
                    code, detail = EXIT_OVER_LIMIT, str(error)
            result = TaskResult(
                spec=task.spec.cid,
                task_index=task.task_index,
                status=TaskStatus.FAILED if code else status,
                exit_code=code,
                stdout_cid=str(additions.add_bytes(ended.stdout)),
                outputs_cid=outputs or str(additions.add_tree({})),
                profile=DOCKER_PROFILE,
            )
            additions.put_raw(result.to_bytes())  # the node keeps and holds it with all others of its bundle
            additions.hold((Cid.parse(result.stdout_cid), Cid.parse(result.outputs_cid)))
        fuel = int(ended.seconds * CONTAINER_FUEL_RATE)
        return Executed(result, fuel, ended.seconds, ended.stderr, detail)


ResultT = TypeVar("ResultT")


def run_in_thread(work: Callable[[], ResultT]) -> asyncio.Future[ResultT]:
    """In a thread that no end of the process waits for: a daemon that hangs must not keep a node from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[ResultT] = loop.create_future()

    def tell(result: ResultT | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(ResultT, result))

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # it is the waiting task's
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=run, daemon=True).start()
    return future
