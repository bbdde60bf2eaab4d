"""The execution profile `quorate-wasm-1` on wasmtime: engine configuration, admission of modules, one run.

Nothing here knows where modules, inputs and outputs come from; `runner` joins it with the store.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import wasmtime

from quorate.protocol.errors import ProgramError
from quorate.protocol.result import EXIT_OUT_OF_FUEL, EXIT_OVER_LIMIT, EXIT_REFUSED, EXIT_TRAP, TaskStatus
from quorate.protocol.spec import Limits
from quorate.terminal import make_printable
from quorate_node.executor.base import FailureReason, LocalFailure
from quorate_node.executor.binary import SHOWN_LETTERS, Limit
from quorate_node.executor.shape import MAX_TABLES, share_elements
from quorate_node.executor.wasi.abi import MODULE
from quorate_node.executor.wasi.host import GuestTrap, Host, OutOfFuel, ProgramExit
from quorate_node.executor.wasi.linking import SIGNATURES, FuelMeter, WasiLinker
from quorate_node.executor.wasi.memory import RESERVED_BYTES, GuestFault
from quorate_node.executor.wasi.tree import OverLimit

WASM_MAGIC = b"\0asm\x01\0\0\0"
TICK_SECONDS = 0.02  # how often the epoch advances, so the precision of time-outs
MAX_ENGINES = 4  # kept at a time, of those for other stacks than the usual one
PULLEY = "pulley64"
DEFAULT_STACK = Limits().stack_bytes
LETTERS = {"i32": "i", "i64": "I"}  # as in SIGNATURES
NO_START = "the module exports no function _start() without parameters: build it as a WASI command"
WASM_FEATURES = ("simd", "bulk_memory", "multi_value", "reference_types", "tail_call")
WASM_NOT_FEATURES = (
    "threads", "relaxed_simd", "memory64", "multi_memory", "component_model", "exceptions", "function_references",
    "gc", "wide_arithmetic", "custom_page_sizes", "stack_switching",
)  # fmt: skip


def build_engine(target: str | None = None, stack_bytes: int = DEFAULT_STACK) -> wasmtime.Engine:
    """The profile's engine: Cranelift for this machine, or `target=PULLEY` for the interpreter.

    The two give the same results and the same fuel, at different speed. Machine code fits engines of every stack.
    """
    config = wasmtime.Config()
    if target is not None:
        config.target = target
    config.strategy = "cranelift"
    config.consume_fuel = True
    config.epoch_interruption = True
    config.cranelift_nan_canonicalization = True
    config.max_wasm_stack = stack_bytes
    # Whole 32-bit memories are reserved, so growing only changes protection: it never moves and the host never
    # refuses it, which would be a result that other hosts do not see.
    config.memory_reservation = RESERVED_BYTES
    config.memory_may_move = False
    for feature in WASM_FEATURES:
        setattr(config, f"wasm_{feature}", True)
    for feature in WASM_NOT_FEATURES:
        setattr(config, f"wasm_{feature}", False)
    config.shared_memory = False
    return wasmtime.Engine(config)


class ProgramRefused(ProgramError):
    """A module that the profile does not run; every host refuses it alike."""


def compile_module(engine: wasmtime.Engine, wasm: bytes) -> wasmtime.Module:
    """Validate, check and compile; ProgramRefused names why not. Takes as long as the module likes."""
    if not wasm.startswith(WASM_MAGIC):
        raise ProgramRefused("this is not a WebAssembly module (a binary core module of version 1)")
    try:
        wasmtime.Module.validate(engine, wasm)
        module = wasmtime.Module(engine, wasm)
    except wasmtime.WasmtimeError as error:
        raise ProgramRefused(describe_refusal(error)) from error
    check_module(module)
    return module


def describe_refusal(error: wasmtime.WasmtimeError) -> str:
    """Why the engine does not take a module."""
    return f"the module is invalid under the profile: {_first_lines(error)}"


def check_module(module: wasmtime.Module) -> None:
    """ProgramRefused unless all imports are known and `_start` is exported."""
    if problems := [problem for item in module.imports if (problem := _import_problem(item))]:
        shown = "; ".join(problems[:10]) + (f"; and {len(problems) - 10} more" if len(problems) > 10 else "")
        raise ProgramRefused(f"the module imports what the profile does not offer: {shown}")
    starts = [item.type for item in module.exports if item.name == "_start"]
    if not starts or not isinstance(starts[0], wasmtime.FuncType) or starts[0].params or starts[0].results:
        raise ProgramRefused(NO_START)


def _import_problem(item: wasmtime.ImportType) -> str | None:
    if not isinstance(item.type, wasmtime.FuncType):
        return judge_import(item.module, item.name or "", None)
    types = [str(t) for t in item.type.params], [str(t) for t in item.type.results]
    return judge_import(item.module, item.name or "", types)


def judge_import(module: str, name: str, types: tuple[Sequence[str], Sequence[str]] | None) -> str | None:
    """Why an import is refused, or None. `types` are a function's parameters and results, None for what is none."""
    shown = f"{make_printable(module, most=SHOWN_LETTERS)}.{make_printable(name, most=SHOWN_LETTERS)}"
    if module == "wasi_unstable":
        return f"{shown} (build for {MODULE} instead)"
    if module != MODULE or name not in SIGNATURES:
        return shown
    if types is None:
        return f"{shown} (which is a function)"
    found = tuple("".join(LETTERS.get(each, "?") for each in row) for row in types)
    return None if found == SIGNATURES[name] else f"{shown} (with another signature)"


def _first_lines(error: Exception) -> str:
    return make_printable(" ".join(str(error).split()), most=400)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, by the table in quorate.protocol.result."""

    status: TaskStatus
    exit_code: int
    fuel_used: int
    detail: str = ""


REFUSED = TaskStatus.FAILED, EXIT_REFUSED


@dataclass(frozen=True, slots=True)
class _Place:
    """An engine, the size of its stacks, and the host functions for it."""

    stack_bytes: int
    engine: wasmtime.Engine
    wasi: WasiLinker


class Runtime:
    """Runs modules one at a time on one thread. Someone else must call `tick` every TICK_SECONDS while a task runs.

    `engine` has the usual stack; those for other stacks are built for `target` when they are first asked for.
    """

    def __init__(self, engine: wasmtime.Engine, target: str | None = None) -> None:
        self.engine, self._target = engine, target
        # Replaced and never changed, for `tick` looks at it from another thread. The one used last comes last.
        self._places: tuple[_Place, ...] = (_Place(DEFAULT_STACK, engine, WasiLinker(engine)),)

    def tick(self) -> None:
        """Advance the time that time-outs are measured in; from any thread."""
        for place in self._places:
            place.engine.increment_epoch()

    def engine_for(self, limits: Limits) -> wasmtime.Engine:
        """The engine that a module must belong to which is run under these limits."""
        return self._place_for(limits.stack_bytes).engine

    def _place_for(self, stack_bytes: int) -> _Place:
        usual, *others = self._places
        if stack_bytes == DEFAULT_STACK:
            return usual
        found = next((place for place in others if place.stack_bytes == stack_bytes), None)
        if found is None:
            engine = build_engine(self._target, stack_bytes)
            found = _Place(stack_bytes, engine, WasiLinker(engine))
        kept = [place for place in others if place is not found][1 - MAX_ENGINES :]
        self._places = (usual, *kept, found)
        return found

    def run(
        self, module: wasmtime.Module, limits: Limits, make_host: Callable[[Callable[[int], None]], Host],
        *, timeout_s: float, tables: Sequence[Limit],
    ) -> Ending | LocalFailure:  # fmt: skip
        """Run `_start` of a module of `engine_for(limits)`. `make_host` gets the function that takes fuel for calls.

        `tables` are those that the module makes, which together have at most `table_elements`.
        Errors of the store behind the host's files pass through.
        """
        elements = share_elements(tables, limits.table_elements) or 0  # who has none is refused before, by the cache
        place = self._place_for(limits.stack_bytes)
        store, wasi = wasmtime.Store(place.engine), place.wasi
        store.set_limits(limits.memory_bytes, elements, 1, MAX_TABLES, 1)
        store.set_fuel(limits.fuel)
        store.set_epoch_deadline(max(1, math.ceil(timeout_s / TICK_SECONDS)) + 1)

        try:
            meter = FuelMeter(store)
            wasi.begin(make_host(meter.spend), store, meter)
            outcome = _start(store, module, wasi)
            fuel_used = limits.fuel - store.get_fuel()
        finally:
            wasi.end()
            # Exceptions out of host calls form cycles that hold the store; left to the collector, a few of these
            # reservations of 4 GiB exhaust the worker's address space.
            store.close()
        if isinstance(outcome, LocalFailure):
            return outcome
        status, code, detail = outcome
        return Ending(status, code, fuel_used, detail)


def _start(
    store: wasmtime.Store, module: wasmtime.Module, wasi: WasiLinker
) -> tuple[TaskStatus, int, str] | LocalFailure:
    try:
        wasi.run(store, module)
    except ProgramExit as end:
        return (TaskStatus.OK, 0, "") if end.code == 0 else (TaskStatus.FAILED, end.code, f"exit code {end.code}")
    except OutOfFuel:
        return TaskStatus.OUT_OF_FUEL, EXIT_OUT_OF_FUEL, "out of fuel in a host call"
    except OverLimit as end:
        return TaskStatus.FAILED, EXIT_OVER_LIMIT, str(end)
    except (GuestFault, GuestTrap) as end:
        return TaskStatus.FAILED, EXIT_TRAP, str(end)
    except wasmtime.Trap as trap:
        return _judge_trap(trap)
    except wasmtime.WasmtimeError as error:
        return _judge_error(error)
    except MemoryError:
        return LocalFailure(FailureReason.HOST_MEMORY, "this host ran out of memory in a host call")
    return TaskStatus.OK, 0, ""


def _judge_trap(trap: wasmtime.Trap) -> tuple[TaskStatus, int, str] | LocalFailure:
    """Which traps are agreed: all but time-outs and the depth of the stack. Growth refused by a limit is no trap."""
    code = trap.trap_code
    if code is wasmtime.TrapCode.OUT_OF_FUEL:
        return TaskStatus.OUT_OF_FUEL, EXIT_OUT_OF_FUEL, "out of fuel"
    if code is wasmtime.TrapCode.INTERRUPT:
        return LocalFailure(FailureReason.TIMEOUT, "the time-out came before the end and before the fuel ran out")
    if code is wasmtime.TrapCode.STACK_OVERFLOW:
        return LocalFailure(
            FailureReason.STACK_OVERFLOW, "the program recursed deeper than its stack_bytes allow on this engine"
        )
    return TaskStatus.FAILED, EXIT_TRAP, f"trap: {_first_lines(Exception(trap.message))}"


def _judge_error(error: wasmtime.WasmtimeError) -> tuple[TaskStatus, int, str] | LocalFailure:
    """Instantiation failed. What exceeds the spec's limits is agreed; anything else is this host's trouble."""
    text = _first_lines(error)
    if "limit" in text and "exceed" in text:
        return (*REFUSED, f"the module needs more than its limits to start: {text}")
    return LocalFailure(FailureReason.HOST_MEMORY, f"the module could not be instantiated here: {text}")
