"""A worker process: runs tasks one after the other, as the pool asks over standard input and output.

It is its own process because Python host callbacks of several threads mix up their exceptions (measured: 867 of
12,000), and so that a crash of the engine, or the kernel's choice when memory is short, costs one task.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from quorate_node.executor.base import COMPILE_WALL_FACTOR, FailureReason, LocalFailure
from quorate_node.executor.messages import LENGTH_BYTES, decode_tasks, encode_outcome, frame_length, pack, unpack

CPU_GRACE_SECONDS = 60  # the kernel ends a worker whose processor time runs this far past its tasks' time-outs
MAX_OPEN_FILES = 512
IDLE_SECONDS = 1.0


class Channel:
    """The pipes to the pool. Nothing else in this process may write to them: stdout becomes stderr."""

    def __init__(self) -> None:
        self._in: BinaryIO = os.fdopen(os.dup(0), "rb")
        self._out: BinaryIO = os.fdopen(os.dup(1), "wb")
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when the pool has gone."""
        head = self._in.read(LENGTH_BYTES)
        if len(head) < LENGTH_BYTES:
            return None
        size = frame_length(head)
        body = self._in.read(size)
        return unpack(body) if len(body) == size else None

    def send(self, *messages: dict[str, Any]) -> None:
        """Answer."""
        for message in messages:
            self._out.write(pack(message))
        self._out.flush()


class Ticker(threading.Thread):
    """Advances the engine's epoch while a task runs, and ends the process when the pool's process is gone.

    It goes on for a second after the last task: to wake it for each of many small ones would take a part of their time.
    """

    def __init__(self, tick: Any, seconds: float) -> None:
        super().__init__(daemon=True, name="epoch")
        self._tick, self._seconds, self._parent = tick, seconds, os.getppid()
        self._is_running, self._awake = False, threading.Event()

    def begin(self) -> None:
        """A task runs from now on."""
        self._is_running = True  # before the look at the event: see `run`
        if not self._awake.is_set():
            self._awake.set()

    def end(self) -> None:
        """No task runs any more."""
        self._is_running = False

    def run(self) -> None:
        idle_s = 0.0
        while True:
            if idle_s > IDLE_SECONDS:
                self._awake.clear()
                if self._is_running:  # it began before the event was cleared, and may not have set it
                    self._awake.set()
                self._awake.wait()
            time.sleep(self._seconds)
            self._tick()
            idle_s = 0.0 if self._is_running else idle_s + self._seconds
            if os.getppid() != self._parent:
                os._exit(0)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Die when the block takes longer: compiling is native code that nothing else can stop.

    Of SIGPROF after `seconds` of processor time of all threads, which do not depend on what else the machine does; of
    SIGALRM where it hardly gets any.
    """
    timers = {signal.ITIMER_PROF: seconds, signal.ITIMER_REAL: seconds * COMPILE_WALL_FACTOR}
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    for timer, limit in timers.items():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)


def _confine(address_space: int) -> None:
    """What the kernel holds against this process. Backstops only: each is far beyond what the profile allows."""
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = MAX_OPEN_FILES if most == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with contextlib.suppress(OSError):  # Linux only: if memory runs out, a worker goes before the node
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(OSError, AttributeError):  # no new privileges, whatever is executed
        ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)


def _allow_cpu(seconds: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + CPU_GRACE_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def serve(channel: Channel) -> None:
    """Take the configuration, say that all is well, then run task after task until the pool goes."""
    config = channel.receive()
    if config is None:
        return
    _confine(int(config["address_space"]))
    from quorate.storage.embedded import EmbeddedStore
    from quorate_node.executor.cache import ModuleCache
    from quorate_node.executor.runner import TaskRunner
    from quorate_node.executor.wasm import TICK_SECONDS, Runtime, build_engine

    runtime = Runtime(build_engine())
    compile_s = float(config["compile_s"])
    secret = bytes.fromhex(config["secret"])
    cache = ModuleCache(runtime.engine, Path(config["cache_dir"]), secret, lambda s: time_limit(min(s, compile_s)))
    runner = TaskRunner(EmbeddedStore(Path(config["store_dir"])), cache, runtime)
    ticker = Ticker(runtime.tick, TICK_SECONDS)
    ticker.start()
    gc.collect()
    gc.freeze()  # what is there by now stays: no collection during a task need look at it again
    channel.send({"ready": os.getpid()})
    while (message := channel.receive()) is not None:
        tasks, timeout_s = decode_tasks(message)
        _allow_cpu(len(tasks) * timeout_s + 2 * compile_s)
        ticker.begin()
        try:
            outcomes = runner.run_all(tasks, timeout_s)
        except Exception as error:  # a bug of ours: say so rather than leave the pool guessing, and start afresh
            traceback.print_exc()
            channel.send(encode_outcome(LocalFailure(FailureReason.INTERNAL, f"{type(error).__name__}: {error}")))
            return
        finally:
            ticker.end()
        channel.send(*map(encode_outcome, outcomes))


def main() -> None:
    """Entry point of `python -m quorate_node.executor.worker`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which then closes the pipe
    try:
        serve(Channel())
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(0)


if __name__ == "__main__":
    main()
