"""The executor of `quorate-docker-1`: one hardened container a task, on a Docker daemon."""

from __future__ import annotations

import asyncio
import platform
import threading
from collections.abc import Callable

import docker
import docker.errors

from quorate.images.archive import ImageRefused
from quorate.protocol.container import CONTAINER_FUEL_RATE, DOCKER_PROFILE
from quorate.protocol.errors import Busy, ConfigurationError, ContentUnavailable, DataError
from quorate.protocol.result import EXIT_OVER_LIMIT, TaskResult, TaskStatus
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate_node.executor.base import ContainerTask, DockerSettings, Executed, FailureReason, LocalFailure
from quorate_node.executor.docker_container import (
    DAEMON_ERRORS,
    LABEL,
    Ended,
    Plan,
    remove_container,
    run_container,
)
from quorate_node.executor.docker_folders import TaskFolders, make_folders, remove_leftovers, store_folder
from quorate_node.executor.docker_images import ImageNotAllowed, ImageShelf
from quorate_node.executor.wasi.tree import OverLimit

MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
ANSWER_S = 120.0  # what a daemon may take for one answer


class DockerExecutor:
    """Runs container tasks. The daemon is asked for when a task needs it, so it may come and go."""

    def __init__(self, settings: DockerSettings, store: BlobStore) -> None:
        self._settings, self._store = settings, store
        self._shelf = ImageShelf(store, settings.scratch, settings.registries)
        self._slots = asyncio.Semaphore(settings.workers)
        self._is_clean = False
        self._running: set[threading.Event] = set()
        self._lock = threading.Lock()

    async def execute(self, task: ContainerTask, *, timeout_s: float) -> Executed | LocalFailure:
        """Run a task for at most `timeout_s` seconds, and no longer than its fuel stands for. Cancelling kills it."""
        async with self._slots:
            cancelled = threading.Event()
            work = asyncio.ensure_future(asyncio.to_thread(self._guarded, task, timeout_s, cancelled))
            self._running.add(cancelled)
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                cancelled.set()
                await asyncio.wait([work])
                raise
            finally:
                self._running.discard(cancelled)

    async def close(self) -> None:
        """Kill what runs, and wait until nothing of it is left."""
        for cancelled in self._running:
            cancelled.set()
        for _ in range(self._settings.workers):
            await self._slots.acquire()

    def _guarded(self, task: ContainerTask, timeout_s: float, cancelled: threading.Event) -> Executed | LocalFailure:
        try:
            return self._execute(task, timeout_s, cancelled)
        except ImageNotAllowed as error:
            return LocalFailure(FailureReason.NOT_ALLOWED, str(error))
        except ImageRefused as error:
            return LocalFailure(FailureReason.IMAGE_REFUSED, str(error))
        except ConfigurationError as error:
            return LocalFailure(FailureReason.NOT_ALLOWED, str(error))
        except (ContentUnavailable, DataError, Busy) as error:
            return LocalFailure(FailureReason.DATA_UNAVAILABLE, str(error))
        except DAEMON_ERRORS as error:
            return LocalFailure(FailureReason.NO_DAEMON, f"the container daemon at {self._settings.host}: {error}")

    def _execute(self, task: ContainerTask, timeout_s: float, cancelled: threading.Event) -> Executed | LocalFailure:
        settings, spec, limits = self._settings, task.spec, task.spec.limits
        api = connect(settings.host)
        try:
            self._clean(api)
            name, config = self._shelf.get(api, spec.image, limits.image_bytes)
            if config.architecture != (here := MACHINES.get(platform.machine(), platform.machine())):
                text = f"the image is for {config.architecture[:40]!r}, and this host is {here}"
                return LocalFailure(FailureReason.CANNOT_START, text)
            command = config.compute_command(spec.entrypoint, spec.args)
            with make_folders(settings.scratch, self._store, spec) as folders:
                plan = Plan(
                    name, command, dict(config.env) | dict(spec.env), config.working_dir, folders, limits,
                    str(settings.scratch), settings.runtime,
                )  # fmt: skip
                outcome = run_container(api, plan, min(timeout_s, limits.seconds), cancelled)
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

    def _clean(self, api: docker.APIClient) -> None:
        """Once: remove what an earlier run of this node left, when it died."""
        with self._lock:
            if not self._is_clean:
                for each in api.containers(all=True, filters={"label": f"{LABEL}={self._settings.scratch}"}):
                    remove_container(api, each["Id"])
                remove_leftovers(self._settings.scratch)
                self._is_clean = True

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


def connect(
    host: str, answer_s: float = ANSWER_S, make: Callable[..., docker.APIClient] = docker.APIClient
) -> docker.APIClient:
    """A client of the daemon there. Raises errors of DAEMON_ERRORS; a daemon without seccomp is none that we use."""
    api = make(base_url=host, version="auto", timeout=answer_s)
    options = api.info().get("SecurityOptions") or []
    if not any("name=seccomp" in option for option in options):
        api.close()
        raise docker.errors.DockerException("it runs containers without seccomp, which is not safe: enable it")
    return api
