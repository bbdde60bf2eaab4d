"""Programs that mean harm: each ends as an agreed result or as a local failure, as the table in result.py says."""

from __future__ import annotations

import time
from typing import Any

import pytest
import wasmtime

from quorate.protocol.result import EXIT_OVER_LIMIT, EXIT_REFUSED, EXIT_TRAP, TaskStatus
from quorate_node.executor.base import FailureReason, LocalFailure
from quorate_node.executor.wasi.linking import SIGNATURES
from quorate_node.executor.wasm import PULLEY, build_engine

WASI = "wasi_snapshot_preview1"


def module(body: str, imports: str = "", memory: str = '(memory (export "memory") 1)', more: str = "") -> str:
    return f'(module {imports} {memory} {more} (func (export "_start") {body}))'


def wasi(name: str) -> str:
    """An import of a WASI function as $name."""
    parameters, results = SIGNATURES[name]
    types = {"i": "i32", "I": "i64"}
    shape = "".join(f"(param {types[p]})" for p in parameters) + "".join(f"(result {types[r]})" for r in results)
    return f'(import "{WASI}" "{name}" (func ${name} {shape}))'


NOT_MODULES = {
    "empty": b"",
    "text": b"(module)",
    "elf": b"\x7fELF" + bytes(100),
    "cut": bytes(wasmtime.wat2wasm(module("")))[:-3],
    "component": b"\0asm\x0d\0\1\0",
    "garbage": b"\0asm\1\0\0\0" + bytes(range(256)),
    "memory64": bytes(wasmtime.wat2wasm('(module (memory i64 1) (func (export "_start")))')),
    "threads": bytes(wasmtime.wat2wasm('(module (memory 1 1 shared) (func (export "_start")))')),
    "two memories": bytes(wasmtime.wat2wasm('(module (memory 1) (memory 1) (func (export "_start")))')),
}


@pytest.mark.parametrize("name", list(NOT_MODULES))
def test_what_is_no_module_of_the_profile_is_refused_alike_by_all(bench: Any, name: str) -> None:
    executed = bench.finish(NOT_MODULES[name])
    assert (executed.result.status, executed.result.exit_code) == (TaskStatus.FAILED, EXIT_REFUSED)
    assert "module" in executed.detail
    assert bench.outputs(executed) == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (module("", '(import "env" "exec" (func))'), "env.exec"),
        (module("", '(import "wasi_unstable" "fd_write" (func))'), "wasi_unstable.fd_write (build for wasi_snapshot"),
        (module("", f'(import "{WASI}" "fd_fork" (func))'), f"{WASI}.fd_fork"),
        (module("", f'(import "{WASI}" "fd_close" (func (param i64) (result i32)))'), "another signature"),
        (module("", f'(import "{WASI}" "fd_close" (global i32))'), "which is a function"),
        (module("", '(import "env" "memory" (memory 1))', memory=""), "env.memory"),
        ("(module)", "_start"),
        ('(module (func (export "_initialize")))', "_start"),
        ('(module (func (export "_start") (param i32)))', "_start"),
        ('(module (memory (export "_start") 1))', "_start"),
    ],
)
def test_unknown_imports_and_missing_start_are_named(bench: Any, text: str, named: str) -> None:
    executed = bench.finish(text)
    assert executed.result.exit_code == EXIT_REFUSED
    assert named in executed.detail


def test_a_module_over_its_size_is_refused(bench: Any) -> None:
    text = module("", more='(data (i32.const 0) "' + "x" * 500 + '")')
    assert bench.finish(text, limits={"module_bytes": 100}).result.exit_code == EXIT_REFUSED
    assert bench.finish(text).result.exit_code == 0
    assert bench.finish(text, limits={"module_bytes": 100}).result.exit_code == EXIT_REFUSED  # from memory, too


@pytest.mark.parametrize(
    "body",
    [
        "unreachable",
        "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
        "(drop (i32.load (i32.const -1)))",
        "(drop (i32.trunc_f32_s (f32.const nan)))",
        "(call_indirect (i32.const 7))",
    ],
)
def test_traps_are_agreed_failures(bench: Any, body: str) -> None:
    executed = bench.finish(module(body, more="(table 1 funcref)"))
    assert (executed.result.status, executed.result.exit_code) == (TaskStatus.FAILED, EXIT_TRAP)


def test_a_trap_keeps_stdout_and_drops_outputs(bench: Any) -> None:
    executed = bench.finish(write_text("hi") + "unreachable))")
    assert bench.stdout(executed) == b"hi"
    assert executed.result.exit_code == EXIT_TRAP


def write_text(text: str, fd: int = 1) -> str:
    """The beginning of a module that writes `text` to a descriptor; needs more of _start's body and two brackets."""
    data = f'(data (i32.const 0) "\\10\\00\\00\\00\\{len(text):02x}\\00\\00\\00") (data (i32.const 16) "{text}")'
    call = f"(drop (call $fd_write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))"
    return f'(module {wasi("fd_write")} (memory (export "memory") 1) {data} (func (export "_start") {call}'


def test_an_endless_loop_runs_out_of_fuel_at_the_same_place(bench: Any) -> None:
    runs = [bench.finish(module("(loop $l (br $l))"), limits={"fuel": 1_000_000}) for _ in range(2)]
    assert {run.result.status for run in runs} == {TaskStatus.OUT_OF_FUEL}
    assert [run.fuel_used for run in runs] == [1_000_000] * 2
    assert runs[0].result.leaf == runs[1].result.leaf


def test_host_calls_cost_fuel(bench: Any) -> None:
    body = "(loop $l (drop (call $sched_yield)) (br $l))"
    executed = bench.finish(module(body, wasi("sched_yield")), limits={"fuel": 1_000_000})
    assert executed.result.status is TaskStatus.OUT_OF_FUEL
    assert executed.seconds < 5


def test_large_requests_to_the_host_cost_fuel_before_they_are_served(bench: Any) -> None:
    body = "(drop (call $random_get (i32.const 0) (i32.const -1)))"
    assert bench.finish(module(body, wasi("random_get"))).result.status is TaskStatus.OUT_OF_FUEL


def test_the_time_out_is_a_local_failure(bench: Any) -> None:
    with bench.ticking():
        started = time.monotonic()
        outcome = bench.run(module("(loop $l (br $l))"), timeout_s=0.1, limits={"fuel": 1 << 62})
    assert isinstance(outcome, LocalFailure)
    assert outcome.reason is FailureReason.TIMEOUT
    assert time.monotonic() - started < 30


def test_recursion_is_a_local_failure(bench: Any) -> None:
    outcome = bench.run(module("(call $r)", more="(func $r (call $r) (call $r))"))
    assert isinstance(outcome, LocalFailure)
    assert outcome.reason is FailureReason.STACK_OVERFLOW


def test_growth_beyond_the_limit_is_refused_and_goes_on(bench: Any) -> None:
    count = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))"
    finish = "(call $proc_exit (memory.size))"
    limits = {"memory_bytes": 4 << 20}
    executed = bench.finish(module(count + finish, wasi("proc_exit")), limits=limits)
    assert executed.result.exit_code == 49  # of 64 pages, in steps of 16 from 1
    assert executed.result.status is TaskStatus.FAILED


def test_a_memory_that_starts_too_large_is_refused(bench: Any) -> None:
    executed = bench.finish(module("", memory='(memory (export "memory") 1000)'), limits={"memory_bytes": 1 << 20})
    assert executed.result.exit_code == EXIT_REFUSED
    executed = bench.finish(module("", more="(table 5000 funcref)"), limits={"table_elements": 100})
    assert executed.result.exit_code == EXIT_REFUSED


def test_writing_without_end_ends(bench: Any) -> None:
    text = (
        write_text("x" * 64)
        + "(loop $l (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
    )
    executed = bench.finish(text + "(br $l))))", limits={"stdout_bytes": 1000})
    assert (executed.result.status, executed.result.exit_code) == (TaskStatus.FAILED, EXIT_OVER_LIMIT)
    assert bench.stdout(executed) == b"x" * 960


def test_stderr_is_cut_and_changes_nothing(bench: Any) -> None:
    text = (
        write_text("x" * 64, fd=2)
        + "(loop $l (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))"
    )
    executed = bench.finish(text + "(br $l))))", limits={"fuel": 30_000_000})
    assert executed.result.status is TaskStatus.OUT_OF_FUEL
    assert 0 < len(executed.stderr) <= 65536


@pytest.mark.parametrize("code", [0, 1, 10, 255, 1 << 31, (1 << 32) - 1])
def test_exit_codes_are_results(bench: Any, code: int) -> None:
    executed = bench.finish(module(f"(call $proc_exit (i32.const {code}))", wasi("proc_exit")))
    assert executed.result.exit_code == code
    assert executed.result.status is (TaskStatus.OK if code == 0 else TaskStatus.FAILED)


def test_host_calls_without_a_memory_trap(bench: Any) -> None:
    text = (
        f'(module {wasi("random_get")} (func (export "_start") (drop (call $random_get (i32.const 0) (i32.const 0)))))'
    )
    assert bench.finish(text).result.exit_code == EXIT_TRAP


def test_host_calls_work_from_a_start_section(bench: Any) -> None:
    text = (
        write_text("early").replace('(func (export "_start")', "(func $early")
        + ')(start $early) (func (export "_start")))'
    )
    assert bench.stdout(bench.finish(text)) == b"early"


@pytest.mark.parametrize("value", [0, -1])
def test_wild_arguments_never_break_the_host(bench: Any, value: int) -> None:
    """Every function with every argument wild: an errno, a trap or an exit; never an error of the host."""
    for name, (parameters, results) in SIGNATURES.items():
        given = " ".join(f"({'i32' if kind == 'i' else 'i64'}.const {value})" for kind in parameters)
        body = f"(drop (call ${name} {given}))" if results else f"(call ${name} {given})"
        executed = bench.finish(module(body, wasi(name)))
        assert executed.result.exit_code in (0, EXIT_TRAP, (1 << 32) - 1) or name == "random_get"


def test_two_engines_agree(tmp_path: Any, bench: Any) -> None:
    """Cranelift and the interpreter: one result, one amount of fuel."""
    other = type(bench)(tmp_path / "other", build_engine(PULLEY))
    float_bits = "(i32.store (i32.const 32) (i32.reinterpret_f32 (f32.div (f32.const 0) (f32.const 0))))"
    echo = "(drop (call $fd_write (i32.const 1) (i32.const 40) (i32.const 1) (i32.const 48)))"
    text = module(
        f"{float_bits} {echo} (call $proc_exit (i32.const 3))",
        wasi("fd_write") + wasi("proc_exit"),
        more='(data (i32.const 40) "\\20\\00\\00\\00\\04\\00\\00\\00")',
    )
    one, two = bench.finish(text), other.finish(text)
    assert one.result == two.result
    assert one.fuel_used == two.fuel_used
    assert bench.stdout(one) == b"\0\0\xc0\x7f"  # the canonical NaN
