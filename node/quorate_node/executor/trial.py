"""One run of a program outside any job: `quorate-node exec`, by the code that runs tasks, without chain and workers."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path

from quorate.protocol.errors import ConfigurationError, DataError
from quorate.protocol.result import EXIT_OVER_LIMIT, EXIT_REFUSED, EXIT_TRAP, TaskResult, TaskStatus
from quorate.protocol.spec import CEILINGS, DEFAULT_INPUT_NAME, JobSpec, Limits
from quorate.storage.cid import Cid
from quorate.storage.memory import MemoryStore
from quorate_node.executor.base import Executed, ExecutionTask, FailureReason, LocalFailure
from quorate_node.executor.cache import ModuleCache, load_secret
from quorate_node.executor.folders import Folder, FolderWorld, check_out, write_back
from quorate_node.executor.runner import JOB_WORLD, Echo, TaskRunner
from quorate_node.executor.wasm import PULLEY, TICK_SECONDS, Runtime, build_engine

CODE_TRAP = 134  # as a shell reports abort()
CODE_OUT_OF_FUEL = 152  # as after SIGXCPU: its processor time is used up
CODE_OVER_LIMIT = 153  # as after SIGXFSZ: a file would become too large
CODE_REFUSED = 126  # as a shell says that something cannot be executed
CODE_TIMEOUT = 124  # as of timeout(1)
CODE_NO_RESULT = 125
MAX_CODE = 255


class EngineName(StrEnum):
    """The profile's engines, which give the same results."""

    CRANELIFT = "cranelift"
    PULLEY = "pulley"


@dataclass(frozen=True, slots=True)
class Trial:
    """What to run. `source` is what a job would have as its input; `folders` take the place of the job's three.

    `abandon` is told the outcome where compiling takes too long, which ends this process: nothing else stops it.
    """

    wasm: bytes
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    source: Path | None = None
    folders: Sequence[Folder] = ()
    out: Path | None = None
    engine: EngineName = EngineName.CRANELIFT
    timeout_s: float = 600.0
    cache_dir: Path | None = None
    abandon: Callable[[TrialOutcome], None] = lambda outcome: None


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """How it went. `code` is what a command line ends with; `result` is missing where a node would not vote either.

    `compile_seconds` is not part of `seconds`, and short where machine code was kept from an earlier run.
    """

    code: int
    status: str
    detail: str
    result: TaskResult | None = None
    fuel: int | None = None
    seconds: float | None = None
    compile_seconds: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """For printing; `digest` is what nodes would agree on."""
        result = self.result
        return {
            "status": self.status,
            "exit_code": result and result.exit_code,
            "digest": result and f"0x{result.leaf.hex()}",
            "fuel": self.fuel,
            "seconds": None if self.seconds is None else round(self.seconds, 6),
            "compile_seconds": round(self.compile_seconds, 6),
            "detail": self.detail,
            "spec": result and result.spec,
            "stdout": result and result.stdout_cid,
            "outputs": result and result.outputs_cid,
        }


def read_module(path: Path) -> bytes:
    """A module's bytes. Raises ConfigurationError, or DataError for one that no job could have."""
    most = CEILINGS["module_bytes"][1]
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, a device read without end
            raise ConfigurationError(f"cannot read {path}: it is no file; give a .wasm module")
        if (size := status.st_size) > most:
            raise DataError(f"{path} has {size} bytes; no job's module may have more than {most}: strip it")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def run_trial(trial: Trial, echo: Echo | None = None) -> TrialOutcome:
    """Run a program, and write back what it left if that is asked for. Raises ConfigurationError, ValidationError."""
    if trial.folders and trial.source is not None:
        raise ConfigurationError("with --dir the program has these folders and no /inputs: leave out --input or --dir")
    world = FolderWorld(trial.folders) if trial.folders else JOB_WORLD
    if trial.out is not None and trial.folders and not any(f.guest == b"/outputs" for f in trial.folders):
        raise ConfigurationError("--out writes /outputs back, which is not there: add --dir FOLDER::/outputs")
    if trial.out is not None:
        check_out(trial.out)
    store = MemoryStore()
    spec = _describe(trial, store)
    target = PULLEY if trial.engine is EngineName.PULLEY else None
    runtime = Runtime(build_engine(target), target)
    limit = partial(_limit_compilation, abandon=trial.abandon)
    cache = ModuleCache(runtime.engine, *_open_cache(trial.cache_dir), limit, target)
    runner = TaskRunner(store, cache, runtime, world=world, echo=echo)
    began = time.perf_counter()
    engine = runtime.engine_for(spec.limits)
    cache.get(spec.module, lambda: trial.wasm, spec.limits, engine)  # now, so that it is not part of the run
    compile_s = time.perf_counter() - began
    with _ticking(runtime):
        outcome = runner.run(ExecutionTask(spec), trial.timeout_s)
    if isinstance(outcome, Executed) and outcome.result.exit_code >= 0 and trial.out is not None:
        outputs = world.outputs if isinstance(world, FolderWorld) else outcome.result.outputs_cid
        assert outputs is not None
        write_back(store, Cid.parse(outputs), trial.out)
    return replace(_judge(outcome), compile_seconds=compile_s)


def _describe(trial: Trial, store: MemoryStore) -> JobSpec:
    """The spec that a job with the same program, input and limits has."""
    source, name = None, DEFAULT_INPUT_NAME
    if trial.source is not None:
        if not trial.source.exists():
            raise ConfigurationError(f"{trial.source} does not exist: give a file or a folder to --input")
        source = str(store.add_path(trial.source.absolute()).to_v1())
        name = trial.source.name if trial.source.is_file() else name
    return JobSpec(
        module=str(store.add_bytes(trial.wasm).to_v1()),
        input=source,
        input_name=name,
        args=tuple(trial.args),
        env=trial.env,
        limits=trial.limits,
    )


def _open_cache(directory: Path | None) -> tuple[Path, bytes]:
    """Where machine code is kept, and the secret that authenticates it; where nothing can be written, it is not."""
    if directory is not None:
        with contextlib.suppress(OSError):
            return directory, load_secret(directory / "secret")
    return Path(os.devnull), secrets.token_bytes(32)


@contextlib.contextmanager
def _limit_compilation(seconds: float, abandon: Callable[[TrialOutcome], None]) -> Iterator[None]:
    """End the process when compiling takes too long: it is native code that nothing else can stop.

    Counted is processor time, of which a machine that is busy with other things gives less in a second.
    """
    done, limit = threading.Event(), time.process_time() + seconds

    def watch() -> None:
        while not done.wait(min(1.0, seconds / 4)):
            if time.process_time() > limit:
                text = f"compiling takes over {seconds:g} s of processor time: raise --limit compile_seconds=N"
                abandon(TrialOutcome(CODE_TIMEOUT, FailureReason.COMPILE_TIMEOUT.value, text, compile_seconds=seconds))
                os._exit(CODE_TIMEOUT)

    watcher = threading.Thread(target=watch, daemon=True, name="compile-limit")
    watcher.start()
    try:
        yield
    finally:
        done.set()


@contextlib.contextmanager
def _ticking(runtime: Runtime) -> Iterator[None]:
    """Advance the time that the time-out is measured in."""
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(TICK_SECONDS):
            runtime.tick()

    ticker = threading.Thread(target=tick, daemon=True, name="epoch")
    ticker.start()
    try:
        yield
    finally:
        stop.set()
        ticker.join()


def _judge(outcome: Executed | LocalFailure) -> TrialOutcome:
    if isinstance(outcome, LocalFailure):
        code = CODE_TIMEOUT if outcome.reason is FailureReason.TIMEOUT else CODE_NO_RESULT
        return TrialOutcome(code, outcome.reason.value, outcome.detail)
    result = outcome.result
    special = {EXIT_TRAP: CODE_TRAP, EXIT_OVER_LIMIT: CODE_OVER_LIMIT, EXIT_REFUSED: CODE_REFUSED}
    if result.status is TaskStatus.OUT_OF_FUEL:
        code = CODE_OUT_OF_FUEL
    else:
        code = special.get(result.exit_code, min(result.exit_code, MAX_CODE))
    return TrialOutcome(code, result.status.value, outcome.detail, result, outcome.fuel_used, outcome.seconds)
