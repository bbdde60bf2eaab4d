"""The 46 functions of WASI preview 1 as imports of a wasmtime linker."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from operator import and_

import wasmtime

from quorate_node.executor.wasi import files, paths, process
from quorate_node.executor.wasi.abi import MODULE, WasiError
from quorate_node.executor.wasi.host import FUEL_PER_CALL, GuestTrap, Host
from quorate_node.executor.wasi.memory import RESERVED_BYTES, GuestMemory

M32, M64 = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF

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


class WasiLinker:
    """A linker whose host calls act on the task that `begin` named last; one task at a time."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self._host: Host | None = None
        self._store: wasmtime.Store | None = None
        self._is_bound = False
        self.linker = wasmtime.Linker(engine)
        for name, call in FUNCTIONS.items():
            letters, results = SIGNATURES[name]
            self._define(call, letters, [wasmtime.ValType.i32()] if results else [])

    def begin(self, host: Host, store: wasmtime.Store) -> None:
        """Let host calls act on `host`, whose module will be instantiated in `store`."""
        self._host, self._store = host, store
        self._is_bound = False

    def end(self) -> None:
        """Forget the task, and let its host forget the memory, which goes with the store."""
        if self._host is not None:
            self._host.memory = GuestMemory(lambda: 0, lambda: 0)
        self._host = self._store = None

    def _define(self, call: Callable[..., None], letters: str, results: list[wasmtime.ValType]) -> None:
        types = [wasmtime.ValType.i32() if letter == "i" else wasmtime.ValType.i64() for letter in letters]
        masks = tuple(M32 if letter == "i" else M64 for letter in letters)

        def entry(caller: wasmtime.Caller, *values: int) -> int | None:
            host = self._enter(caller)
            try:
                call(host, *map(and_, values, masks))
            except WasiError as error:
                return int(error.errno)
            return 0 if results else None

        self.linker.define_func(MODULE, call.__name__, wasmtime.FuncType(types, results), entry, access_caller=True)

    def _enter(self, caller: wasmtime.Caller) -> Host:
        """The running task's host, with its memory bound and the call paid for."""
        host = self._host
        if host is None or self._store is None:
            raise RuntimeError("a host call came while no task runs")
        if not self._is_bound:
            host.memory = _bind_memory(caller, self._store)
            self._is_bound = True
        host.spend(FUEL_PER_CALL)
        return host


def _bind_memory(caller: wasmtime.Caller, store: wasmtime.Store) -> GuestMemory:
    """The memory that the module exports; read through the store, since a caller is valid during its call only."""
    memory = caller.get("memory")
    if not isinstance(memory, wasmtime.Memory):
        raise GuestTrap("the module exports no memory named 'memory'")
    return GuestMemory(
        lambda: memory.data_len(store),
        lambda: ctypes.addressof(memory.data_ptr(store).contents),
        RESERVED_BYTES,
    )
