"""The 46 functions of WASI preview 1 as imports of a wasmtime linker."""

from __future__ import annotations

from collections.abc import Callable

import wasmtime

from quorate_node.executor.wasi import files, paths, process
from quorate_node.executor.wasi.abi import MODULE, WasiError
from quorate_node.executor.wasi.callbacks import define_function, exported_memory, run_export
from quorate_node.executor.wasi.host import FUEL_PER_CALL, GuestTrap, Host, OutOfFuel
from quorate_node.executor.wasi.memory import RESERVED_BYTES, GuestMemory

# Parameters by letter: i is i32, I is i64. All of these return an errno; proc_exit returns nothing.
_RETURNING: tuple[tuple[Callable[..., None], str], ...] = (
    (process.args_get, "ii"),
    (process.args_sizes_get, "ii"),
    (process.environ_get, "ii"),
    (process.environ_sizes_get, "ii"),
    (process.clock_res_get, "ii"),
    (process.clock_time_get, "iIi"),
    (process.poll_oneoff, "iiii"),
    (process.proc_raise, "i"),
    (process.random_get, "ii"),
    (process.sched_yield, ""),
    (process.sock_accept, "iii"),
    (process.sock_recv, "iiiiii"),
    (process.sock_send, "iiiii"),
    (process.sock_shutdown, "ii"),
    (files.fd_advise, "iIIi"),
    (files.fd_allocate, "iII"),
    (files.fd_close, "i"),
    (files.fd_datasync, "i"),
    (files.fd_fdstat_get, "ii"),
    (files.fd_fdstat_set_flags, "ii"),
    (files.fd_fdstat_set_rights, "iII"),
    (files.fd_filestat_get, "ii"),
    (files.fd_filestat_set_size, "iI"),
    (files.fd_filestat_set_times, "iIIi"),
    (files.fd_pread, "iiiIi"),
    (files.fd_prestat_dir_name, "iii"),
    (files.fd_prestat_get, "ii"),
    (files.fd_pwrite, "iiiIi"),
    (files.fd_read, "iiii"),
    (files.fd_readdir, "iiiIi"),
    (files.fd_renumber, "ii"),
    (files.fd_seek, "iIii"),
    (files.fd_sync, "i"),
    (files.fd_tell, "ii"),
    (files.fd_write, "iiii"),
    (paths.path_create_directory, "iii"),
    (paths.path_filestat_get, "iiiii"),
    (paths.path_filestat_set_times, "iiiiIIi"),
    (paths.path_link, "iiiiiii"),
    (paths.path_open, "iiiiiIIii"),
    (paths.path_readlink, "iiiiii"),
    (paths.path_remove_directory, "iii"),
    (paths.path_rename, "iiiiii"),
    (paths.path_symlink, "iiiii"),
    (paths.path_unlink_file, "iii"),
)

FUNCTIONS = {call.__name__: call for call, _ in _RETURNING} | {"proc_exit": process.proc_exit}
SIGNATURES = {call.__name__: (letters, "i") for call, letters in _RETURNING} | {"proc_exit": ("i", "")}


class FuelMeter:
    """The store's fuel while a host call runs: read when the call begins, written back when it ends."""

    __slots__ = ("_left", "_store")

    def __init__(self, store: wasmtime.Store) -> None:
        self._store, self._left = store, 0

    def begin(self) -> None:
        """A host call begins."""
        self._left = self._store.get_fuel()

    def spend(self, fuel: int) -> None:
        """Take fuel, or all of it and raise OutOfFuel."""
        if fuel > self._left:
            self._left = 0
            raise OutOfFuel
        self._left -= fuel

    def end(self) -> None:
        """The host call ends, whether or not it fails."""
        self._store.set_fuel(self._left)


class WasiLinker:
    """A linker whose host calls act on the task that `begin` named last; one task at a time."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self._task: tuple[Host, wasmtime.Store, FuelMeter] | None = None
        self._raised: BaseException | None = None
        self._is_bound = False
        self._linker = wasmtime.Linker(engine)
        self._callbacks = [self._define(name, call) for name, call in FUNCTIONS.items()]

    def begin(self, host: Host, store: wasmtime.Store, meter: FuelMeter) -> None:
        """Let host calls act on `host`, whose module will be instantiated in `store`."""
        self._task = host, store, meter
        self._is_bound = False

    def run(self, store: wasmtime.Store, module: wasmtime.Module) -> None:
        """Run the module's `_start`; raises what a host call raised, or wasmtime's Trap or WasmtimeError."""
        try:
            run_export(store, self._linker.instantiate(store, module), b"_start")
        except (wasmtime.Trap, wasmtime.WasmtimeError):
            if self._raised is not None:
                raise self._raised from None
            raise

    def end(self) -> None:
        """Forget the task, and let its host forget the memory, which goes with the store."""
        if self._task is not None:
            self._task[0].memory = GuestMemory(lambda: 0, lambda: 0)
        self._task = self._raised = None

    def _define(self, name: str, call: Callable[..., None]) -> object:
        def entry(caller: int, *values: int) -> int:
            host, meter = self._enter(caller)
            try:
                host.spend(FUEL_PER_CALL)
                call(host, *values)
            except WasiError as error:
                return int(error.errno)
            finally:
                meter.end()
            return 0

        return define_function(self._linker, MODULE, name, SIGNATURES[name], entry, self._fail)

    def _fail(self, error: BaseException) -> None:
        self._raised = error

    def _enter(self, caller: int) -> tuple[Host, FuelMeter]:
        """The running task's host, with its memory bound, and its fuel."""
        if self._task is None:
            raise RuntimeError("a host call came while no task runs")
        host, store, meter = self._task
        if not self._is_bound:
            host.memory = _bind_memory(caller, store)
            self._is_bound = True
        meter.begin()
        return host, meter


def _bind_memory(caller: int, store: wasmtime.Store) -> GuestMemory:
    """The memory that the module exports."""
    memory = exported_memory(caller, store)
    if memory is None:
        raise GuestTrap("the module exports no memory named 'memory'")
    return GuestMemory(*memory, RESERVED_BYTES)
