"""Each limit of a spec: a program that just keeps to it, and one that goes one over, on both engines."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from quorate.protocol.result import EXIT_OUT_OF_FUEL, EXIT_OVER_LIMIT, EXIT_REFUSED
from quorate_node.executor.base import Executed, FailureReason, LocalFailure
from quorate_node.executor.binary import Limit
from quorate_node.executor.shape import find_excess, share_elements
from quorate_node.executor.wasi.linking import SIGNATURES
from quorate_node.executor.wasm import MAX_ENGINES, PULLEY, build_engine

KINDS = {"i": "i32", "I": "i64"}
NAMES = ("proc_exit", "path_open", "fd_write", "fd_close", "path_create_directory", "path_symlink", "fd_fdstat_get")
MFILE, NAMETOOLONG = 33, 37
PAGE = 65_536


@pytest.fixture(params=["cranelift", "pulley"])
def site(request: Any, tmp_path: Path, bench: Any) -> Any:
    """A bench on each engine."""
    if request.param == "cranelift":
        return bench
    return type(bench)(tmp_path / "pulley", build_engine(PULLEY), PULLEY)


def call(name: str, *arguments: int | str) -> str:
    """A call with constants, or with text for what is computed."""
    given = (
        f"({KINDS[kind]}.const {value})" if isinstance(value, int) else value
        for kind, value in zip(SIGNATURES[name][0], arguments, strict=True)
    )
    return f"(call ${name} {' '.join(given)})"


def program(body: str, *, data: str = "", memory: int = 1, more: str = "") -> str:
    used = ""
    for name in NAMES:
        parameters, results = SIGNATURES[name]
        shape = "".join(f"(param {KINDS[p]})" for p in parameters) + "".join(f"(result {KINDS[r]})" for r in results)
        used += f'(import "wasi_snapshot_preview1" "{name}" (func ${name} {shape}))'
    start = f'(func (export "_start") (local $n i32) {body})'
    return f'(module {used} (memory (export "memory") {memory}) {more} (data (i32.const 1024) "{data}") {start})'


def exiting(code: str) -> str:
    """Exit with a computed code."""
    return call("proc_exit", code)


def writing(fd: int | str, size: int) -> str:
    """Write `size` bytes of memory."""
    vector = f"(i32.store (i32.const 0) (i32.const 2048)) (i32.store (i32.const 4) (i32.const {size}))"
    return f"{vector} (drop {call('fd_write', fd, 0, 1, 8)})"


def opening(size: int, *, directory: int = 4, create: int = 1, rights: int = 66) -> str:
    """path_open of the first `size` bytes of the data; the descriptor goes to address 16."""
    return call("path_open", directory, 0, 1024, size, create, rights, 0, 0, 16)


def code_of(outcome: Executed | LocalFailure) -> int | FailureReason:
    return outcome.reason if isinstance(outcome, LocalFailure) else outcome.result.exit_code


OPENED = f"(drop {opening(1)}) {writing('(i32.load (i32.const 16))', 100)}"
GROWING = exiting("(i32.add (memory.grow (i32.const 3)) (i32.const 2))")  # 1 if it is refused, else 3
TABLE = "(table $t 3 funcref)"
GROWING_TABLE = exiting("(i32.add (table.grow $t (ref.null func) (i32.const 4)) (i32.const 2))")  # 1, else 5
ONE_FILE = f"(drop {opening(1)})"
SIZE_OF_ONE_FILE = len(bytes(wasmtime.wat2wasm(program(ONE_FILE, data="x"))))
LEFT_DEEP = (
    f"(drop {call('path_create_directory', 4, 1024, 2)}) (drop {opening(2, create=2, rights=0)})"
    f"(drop {call('path_create_directory', '(i32.load (i32.const 16))', 1024, 2)})"
)

# Limit, the value that is just enough, a program, its code there, its code with one less.
CASES: dict[str, tuple[str, int, str, int, int]] = {
    "memory at the start": ("memory_bytes", 3 * PAGE, program("", memory=3), 0, EXIT_REFUSED),
    "memory that grows": ("memory_bytes", 4 * PAGE, program(GROWING), 3, 1),
    "table at the start": ("table_elements", 3, program("", more=TABLE), 0, EXIT_REFUSED),
    "table that grows": ("table_elements", 7, program(GROWING_TABLE, more=TABLE), 5, 1),
    "tables at the start": ("table_elements", 6, program("", more=TABLE + "(table 3 externref)"), 0, EXIT_REFUSED),
    "tables that share": ("table_elements", 14, program(GROWING_TABLE, more=TABLE + "(table 0 funcref)"), 5, 1),
    "table beside a fixed one": ("table_elements", 9, program(GROWING_TABLE, more=TABLE + "(table 2 2 funcref)"), 5, 1),
    "small table beside a large one": (
        "table_elements", 12, program("", more="(table 6 6 funcref) (table 0 funcref)"), 0, EXIT_REFUSED,
    ),
    "module": ("module_bytes", SIZE_OF_ONE_FILE, program(ONE_FILE, data="x"), 0, EXIT_REFUSED),
    "bytes in files": ("output_bytes", 100, program(OPENED, data="x"), 0, EXIT_OVER_LIMIT),
    "files": ("output_files", 1, program(ONE_FILE, data="x"), 0, EXIT_OVER_LIMIT),
    "path": ("path_bytes", 9, program(exiting(opening(9)), data="long-name"), 0, NAMETOOLONG),
    "path of a folder": (
        "path_bytes", 9, program(exiting(call("path_create_directory", 4, 1024, 9)), data="long-name"), 0, NAMETOOLONG,
    ),
    "target of a link": (
        "path_bytes", 9, program(exiting(call("path_symlink", 1024, 9, 5, 1024, 1)), data="long-name"), 0, NAMETOOLONG,
    ),
    "path in the outputs": ("path_bytes", 5, program(LEFT_DEEP, data="ab"), 0, EXIT_OVER_LIMIT),
    "standard output": ("stdout_bytes", 100, program(writing(1, 100)), 0, EXIT_OVER_LIMIT),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_a_limit_holds_exactly_and_as_a_result_that_all_agree_on(site: Any, name: str) -> None:
    limit, enough, text, code, code_below = CASES[name]
    assert code_of(site.run(text, limits={limit: enough})) == code
    assert code_of(site.run(text, limits={limit: enough - 1})) == code_below


def test_as_many_descriptors_are_open_as_the_spec_allows(site: Any) -> None:
    """Streams and folders are six of them; 8 is the least that a spec may allow."""
    texts = [program(f"(drop {opening(1)})" * more + exiting(opening(1)), data="x") for more in (1, 2)]
    assert [code_of(site.run(text, limits={"open_files": 8})) for text in texts] == [0, MFILE]
    assert code_of(site.run(texts[1], limits={"open_files": 9})) == 0


def test_fuel_holds_exactly(site: Any) -> None:
    again = "(i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 9))"
    text = program(f"(loop $l (br_if $l {again}))" + exiting("(i32.const 7)"))
    needed = site.finish(text).fuel_used
    assert code_of(site.run(text, limits={"fuel": needed})) == 7
    assert code_of(site.run(text, limits={"fuel": needed - 1})) == EXIT_OUT_OF_FUEL


def test_standard_error_is_kept_up_to_its_limit_and_changes_no_result(site: Any) -> None:
    runs = {size: site.finish(program(writing(2, 100)), limits={"stderr_bytes": size}) for size in (0, 99, 100, 101)}
    assert {size: len(run.stderr) for size, run in runs.items()} == {0: 0, 99: 99, 100: 100, 101: 100}
    assert {(run.result.status, run.result.exit_code, run.fuel_used) for run in runs.values()} == {
        (runs[0].result.status, 0, runs[0].fuel_used)
    }


def recursing(depth: int) -> str:
    """Calls itself `depth` times; what is left to do afterwards keeps it from becoming a loop."""
    again = "(i32.add (call $r (i32.sub (local.get $d) (i32.const 1))) (i32.const 1))"
    body = f"(if (result i32) (local.get $d) (then {again}) (else (i32.const 0)))"
    more = f"(func $r (param $d i32) (result i32) {body})"
    return program(exiting(f"(i32.ne (call $r (i32.const {depth})) (i32.const {depth}))"), more=more)


def test_the_stack_is_as_large_as_the_spec_says_and_too_little_of_it_is_no_vote(site: Any) -> None:
    """How many calls it holds is the engine's own; that a stack of twice the size holds more is not."""
    sizes = [64 << 10, 1 << 20, 2 << 20]

    def held(size: int, depth: int) -> bool:
        return code_of(site.run(recursing(depth), limits={"stack_bytes": size})) == 0

    deepest = []
    for size in sizes:
        least, most = 1, 1 << 17
        while most - least > 64:
            middle = (least + most) // 2
            least, most = (middle, most) if held(size, middle) else (least, middle)
        deepest.append(least)
        outcome = site.run(recursing(most + 64), limits={"stack_bytes": size})
        assert code_of(outcome) is FailureReason.STACK_OVERFLOW
    assert deepest[0] * 8 < deepest[1] < deepest[2]


def test_stacks_of_many_sizes_keep_few_engines_and_all_of_them_time_out(bench: Any) -> None:
    for size in range(64 << 10, (64 << 10) + 3 * MAX_ENGINES):
        assert code_of(bench.run(program(""), limits={"stack_bytes": size})) == 0
    places = bench.runtime._places
    assert len(places) == MAX_ENGINES + 1
    assert bench.cache.compiled == 1
    assert places[0].engine is bench.runtime.engine


def test_time_outs_reach_engines_of_other_stacks(bench: Any) -> None:
    loop = program("(loop $l (br $l))")
    with bench.ticking():
        outcome = bench.run(loop, timeout_s=0.1, limits={"fuel": 1 << 62, "stack_bytes": 128 << 10})
    assert code_of(outcome) is FailureReason.TIMEOUT


def held_by_tables(growing: str, count: int) -> str:
    """A module of many tables that all grow as far as they may; it exits with how many growths were refused."""
    tables = "".join(f"(table $t{i} 0 10000000 funcref)" for i in range(count))
    refused = (f"(i32.eq (table.grow $t{i} (ref.null func) {growing}) (i32.const -1))" for i in range(count))
    counting = "".join(f"(local.set $n (i32.add (local.get $n) {each}))" for each in refused)
    return program(counting + exiting("(local.get $n)"), more=tables)


@pytest.mark.parametrize(("growth", "refused"), [(111_111, 0), (111_112, 90), (9_000_000, 90)])
def test_many_tables_hold_no_more_than_one_may(site: Any, growth: int, refused: int) -> None:
    """90 tables of 9,000,000 elements were 6 GB of the host's memory; together they are now held to 10^7."""
    outcome = site.run(held_by_tables(f"(i32.const {growth})", 90), limits={"table_elements": 10_000_000})
    assert code_of(outcome) == refused


def test_a_share_of_elements_is_the_most_that_all_tables_may_have() -> None:
    """Against every smaller and larger number, for tables of any sizes."""
    rng = random.Random(5)
    for _ in range(300):
        sizes = [(rng.randrange(9), rng.choice([None, rng.randrange(9)])) for _ in range(rng.randrange(1, 5))]
        tables = [Limit(least, None if most is None else least + most, False, False) for least, most in sizes]
        total = rng.randrange(40)

        def held(share: int, tables: list[Limit] = tables) -> int:
            return sum(max(t.minimum, share if t.maximum is None else min(share, t.maximum)) for t in tables)

        fitting = [each for each in range(total + 1) if each >= max(t.minimum for t in tables) and held(each) <= total]
        assert share_elements(tables, total) == max(fitting, default=None)
        assert (find_excess(tables, total) is None) == bool(fitting)
