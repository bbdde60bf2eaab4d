"""A module that calls every WASI function from inside, with pointers around every edge of a memory that grows.

QUORATE_FUZZ_CALLS sets about how many calls are made; CI makes few, and a million take some minutes.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from tests.unit.executor.test_hostile_modules import module, wasi

from quorate.protocol.result import EXIT_OVER_LIMIT, EXIT_TRAP
from quorate_node.executor.base import Executed
from quorate_node.executor.wasi.linking import SIGNATURES
from quorate_node.executor.wasm import PULLEY, build_engine

CALLS = int(os.environ.get("QUORATE_FUZZ_CALLS", "6000"))
CALLS_A_TASK = 20  # about; the first pointer that is wild ends a task
PAGE = 65536
NAMES = b"in\0a\0a/b\0../../etc\0/"
SMALL = [0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 64, 1024, 2048, 4096]
EDGES = [PAGE - 8, PAGE - 1, PAGE, 2 * PAGE - 4, 3 * PAGE, 1 << 31, (1 << 32) - 8, (1 << 32) - 1]
WIDE = [*SMALL, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


def choose(name: str, kind: str, values: list[int]) -> str:
    """A function of the guest that gives one of 64 values, by a number."""
    chosen = [values[place % len(values)] for place in range(64)]
    text = f"({kind}.const {chosen[0]})"
    for place, value in enumerate(chosen[1:], 1):
        text = f"(select ({kind}.const {value}) {text} (i32.eq (local.get 0) (i32.const {place})))"
    return f"(func ${name} (param i32) (result {kind}) {text})"


def make_driver() -> str:
    """Calls what random numbers say, whose seed is the first argument; grows now and then; has no end."""
    cases = ""
    for place, (name, (parameters, results)) in enumerate(SIGNATURES.items()):
        given = " ".join(f"(call ${'narrow' if kind == 'i' else 'wide'} (call $next))" for kind in parameters)
        call = f"(call ${name} {given})"
        cases += f"(if (i32.eq (local.get 0) (i32.const {place})) (then {f'(drop {call})' if results else call}))"
    step = (
        "(global.set $seed (i64.add (i64.mul (global.get $seed) (i64.const 6364136223846793005)) "
        "(i64.const 1442695040888963407)))"
    )
    names = "".join(f"\\{byte:02x}" for byte in NAMES)
    more = (
        f'(global $seed (mut i64) (i64.const 0)) (data (i32.const 1024) "{names}")'
        f"(func $next (result i32) {step} (i32.wrap_i64 (i64.shr_u (global.get $seed) (i64.const 58))))"
        f"(func $call (param i32) {cases})" + choose("narrow", "i32", SMALL * 4 + EDGES) + choose("wide", "i64", WIDE)
        # Seven of eight are such that a call may get somewhere.
    )
    body = (
        "(drop (call $args_get (i32.const 0) (i32.const 16))) (global.set $seed (i64.load (i32.load (i32.const 4))))"
        "(loop $l (call $call (call $next)) "
        "(if (i32.eqz (call $next)) (then (drop (memory.grow (i32.const 1))))) (br $l))"
    )
    return module(body, "".join(map(wasi, SIGNATURES)), more=more)


@pytest.mark.timeout(max(120, CALLS // 200))
def test_every_function_with_any_pointer_gives_what_all_hosts_agree_on(bench: Any, tmp_path: Any) -> None:
    other = type(bench)(tmp_path / "other", build_engine(PULLEY))
    driver, endings = make_driver(), set()
    limits = {"fuel": 2_000_000, "memory_bytes": 4 * PAGE, "output_bytes": 20_000, "output_files": 40}
    given = str(bench.store.add_bytes(b"words" * 100))
    other.store.add_bytes(b"words" * 100)
    for task in range(max(1, CALLS // CALLS_A_TASK)):
        seed = "".join(random.Random(task).choices("abcdefghijklmnop", k=8))
        one = bench.run(driver, args=(seed,), input=given, limits=limits)
        assert isinstance(one, Executed), one
        endings.add(one.result.exit_code)
        if task % 10 == 0:
            two = other.run(driver, args=(seed,), input=given, limits=limits)
            assert (two.result, two.fuel_used) == (one.result, one.fuel_used)
    # Wild pointers trap; the rest got somewhere: to an exit of its own, or to a limit.
    assert EXIT_TRAP in endings
    assert endings & {0, EXIT_OVER_LIMIT, *SMALL}


FILL = "(memory.fill (i32.const 1024) (i32.const 171) (i32.const 900000)) (global.set $g (i32.const 171))"
FILL += "(table.set (i32.const 3) (ref.func $f))"
SCAN = (
    "(local $at i32) (local.set $at (i32.const 1024)) (if (global.get $g) (then (call $proc_exit (i32.const 9))))"
    "(if (i32.eqz (ref.is_null (table.get (i32.const 3)))) (then (call $proc_exit (i32.const 8))))"
    "(loop $l (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (call $proc_exit (i32.const 7))))"
    "(local.set $at (i32.add (local.get $at) (i32.const 8))) (br_if $l (i32.lt_u (local.get $at) (i32.const 900000))))"
)
MORE = "(global $g (mut i32) (i32.const 0)) (table 10 funcref) (elem declare func $f) (func $f)"


def test_nothing_of_a_task_is_left_for_the_next_one(bench: Any) -> None:
    def run(body: str) -> int:
        text = module(body, wasi("proc_exit"), '(memory (export "memory") 16)', MORE)
        return int(bench.finish(text).result.exit_code)

    memory_alone = FILL.split(")) (global")[0] + "))"
    assert run(SCAN.replace("(local $at i32)", f"(local $at i32) {memory_alone}")) == 7, "where there is something"
    assert run(SCAN.replace("(local $at i32)", f"(local $at i32) {FILL}")) == 9
    for _ in range(20):
        assert run(FILL) == 0
        assert run(FILL + "unreachable") == EXIT_TRAP
        assert run(SCAN) == 0


def test_a_memory_never_shrinks_and_hosts_see_it_as_large_as_it_is(bench: Any) -> None:
    """What begins in the second page is outside, until there is one."""
    touch = "(drop (call $random_get (i32.const 65528) (i32.const 16)))"
    back = "(if (i32.ne (memory.grow (i32.const -1)) (i32.const -1)) (then unreachable))"
    grow = "(if (i32.ne (memory.grow (i32.const 1)) (i32.const 1)) (then unreachable))"
    size = "(call $proc_exit (memory.size))"
    imports = wasi("random_get") + wasi("proc_exit")
    small = "(drop (call $random_get (i32.const 0) (i32.const 16)))"  # the host has looked at it before
    assert bench.finish(module(small + back + touch + size, imports)).result.exit_code == EXIT_TRAP
    assert bench.finish(module(small + grow + touch + back + touch + size, imports)).result.exit_code == 2
