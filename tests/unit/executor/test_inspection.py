"""`quorate-node inspect` and `doctor`: what is said of a module before it runs, and of a host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.protocol.errors import DataError
from quorate_node.cli.main import app, report
from quorate_node.executor.binary import MAX_READ, Reader, read_binary
from quorate_node.executor.diagnosis import compare_runs
from quorate_node.executor.inspection import inspect_module

FD_WRITE = '(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))'
START = '(func (export "_start"))'
MEMORY = '(memory (export "memory") 2 10)'


def inspect(wat: str) -> dict[str, Any]:
    return inspect_module(bytes(wasmtime.wat2wasm(wat)))


def test_a_module_is_described() -> None:
    found = inspect(
        f'(module {FD_WRITE} (table (export "t") 3 funcref) {MEMORY} (global (export "g") i32 (i32.const 1)) {START})'
    )
    assert (found["runs"], found["refused"], found["warnings"]) == (True, [], [])
    assert found["imports"] == [
        {
            "module": "wasi_snapshot_preview1", "name": "fd_write", "kind": "function",
            "type": "(i32, i32, i32, i32) -> (i32)", "offered": True,
        }
    ]  # fmt: skip
    assert [(item["name"], item["kind"]) for item in found["exports"]] == [
        ("t", "table"), ("memory", "memory"), ("g", "global"), ("_start", "function"),
    ]  # fmt: skip
    assert found["exports"][-1]["type"] == "() -> ()"
    assert found["memory"] == {
        "minimum_bytes": 2 * 65536, "maximum_bytes": 10 * 65536, "shared": False, "memory64": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wat", "reason"),
    [
        (f'(module (import "env" "f" (func)) {START})', "env.f is not offered"),
        (f'(module (import "wasi_unstable" "fd_write" (func)) {START})', "build for wasi_snapshot_preview1"),
        (f'(module (import "wasi_snapshot_preview1" "fd_write" (func)) {START})', "another signature"),
        (f'(module (import "wasi_snapshot_preview1" "fd_write" (memory 1)) {START})', "which is a function"),
        (f'(module (import "wasi_snapshot_preview1" "path_fly" (func)) {START})', "path_fly is not offered"),
        ("(module)", "_start"),
        ('(module (func (export "_start") (param i32)))', "_start"),
        ('(module (memory (export "_start") 1))', "_start"),
        (f"(module (memory 1 2 shared) {START})", "invalid under the profile"),
        (f"(module (memory i64 1) {START})", "invalid under the profile"),
        (f"(module (memory 1) (memory 1) {START})", "invalid under the profile"),
        (f"(module (memory 10000) {START})", "memory_bytes"),
        (f"(module (table 200000 funcref) {START})", "table_elements"),
        (f"(module (tag) {START})", "invalid under the profile"),
    ],
)
def test_each_reason_for_a_refusal_is_named(wat: str, reason: str, bench: Any) -> None:
    wasm = bytes(wasmtime.wat2wasm(wat))
    found = inspect_module(wasm)
    assert not found["runs"]
    assert any(reason in each for each in found["refused"]), found["refused"]
    assert bench.finish(wasm).result.exit_code == -3  # and a node does refuse it


def test_what_is_no_core_module_is_named() -> None:
    assert inspect_module(b"#!/bin/sh")["refused"] == ["this is not a WebAssembly module"]
    assert "component" in inspect_module(b"\0asm\x0d\0\1\0")["refused"][0]
    whole = bytes(wasmtime.wat2wasm(f"(module {FD_WRITE} {MEMORY} {START})"))
    cut = inspect_module(whole[:40])
    assert not cut["runs"]
    assert "malformed" in cut["refused"][0]


def test_a_module_whose_calls_would_trap_gets_a_warning() -> None:
    assert "no memory" in inspect(f"(module {FD_WRITE} (memory 1) {START})")["warnings"][0]
    assert "grow" in inspect(f'(module (memory (export "memory") 1 65536) {START})')["warnings"][0]


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(8, 120), st.integers(0, 255))
def test_no_bytes_confuse_the_reader(tail: bytes, at: int, value: int) -> None:
    whole = bytearray(wasmtime.wat2wasm(f"(module {FD_WRITE} (table 1 funcref) {MEMORY} {START})"))
    whole[min(at, len(whole) - 1)] = value
    for wasm in (bytes(whole), bytes(whole[:at]) + tail, b"\0asm\1\0\0\0" + tail):
        inspect_module(wasm)
    with pytest.raises(DataError):
        read_binary(tail[:7])


def command(capfd: Any, *argv: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        raise SystemExit(report(lambda: app(list(argv), standalone_mode=True)))
    return int(caught.value.code or 0), capfd.readouterr().out


def test_the_commands_print_json_and_text(tmp_path: Path, capfd: Any) -> None:
    module = tmp_path / "m.wasm"
    module.write_bytes(wasmtime.wat2wasm(f'(module (import "env" "f" (func (param i64))) {START})'))
    code, out = command(capfd, "inspect", str(module), "--output", "json")
    assert code == 0
    assert json.loads(out)["imports"][0]["type"] == "(i64) -> ()"
    code, out = command(capfd, "inspect", str(module))
    assert "env.f  (i64) -> ()  REFUSED" in out
    assert command(capfd, "inspect", str(tmp_path / "gone"))[0] == 2


def test_the_doctor_runs_both_engines_and_a_worker(capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    code, out = command(capfd, "doctor", "--output", "json")
    found = json.loads(out)
    assert code == 0
    assert found["wasm"]["ok"]
    runs = found["wasm"]["runs"]
    assert runs["cranelift"]["digest"] == runs["pulley"]["digest"] == runs["worker"]["digest"]
    assert runs["cranelift"]["fuel"] == runs["pulley"]["fuel"] == runs["worker"]["fuel"] > 1_000_000
    assert not found["docker"]["ok"]
    assert "/nowhere.sock" in found["docker"]["why"]
    assert found["gpu"]["ok"] or found["gpu"]["why"]


def test_the_doctor_says_so_when_runs_disagree() -> None:
    one, two, dead = {"ok": True, "digest": "0x1"}, {"ok": True, "digest": "0x2"}, {"ok": False, "why": "no"}
    assert compare_runs({"a": one, "b": one})["ok"]
    found = compare_runs({"a": one, "b": two})
    assert not found["ok"]
    assert "do not stake" in found["why"]
    assert not compare_runs({"a": one, "b": dead})["ok"]


STEERING = r"\1b[2J\1b]0;pwn\07\0aok: true\c2\9b31m"


def leb(number: int) -> bytes:
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def section(code: int, body: bytes) -> bytes:
    return bytes([code]) + leb(len(body)) + body


HEAD = b"\0asm\1\0\0\0" + section(1, b"\1\x60\0\0")
OVERSIZED = {
    "imports": HEAD + section(2, leb(10**6) + b"\1a\1b\0\0" * 10**6),
    "exports": HEAD + section(7, leb(10**6) + b"\1a\0\0" * 10**6),
    "sections": bytes(wasmtime.wat2wasm(f"(module {START})")) + b"\0\1\0" * 10**7,
    "tables": HEAD + section(4, leb(101) + b"\x70\0\0" * 101),
}


@pytest.mark.parametrize("what", list(OVERSIZED))
def test_a_module_of_too_many_parts_is_refused_without_reading_them(what: str, bench: Any, count_reads: Any) -> None:
    wasm = OVERSIZED[what]
    found = inspect_module(wasm)
    assert not found["runs"]
    assert [what in reason for reason in found["refused"]] == [True]
    assert len(found["imports"]) + len(found["exports"]) < 10
    outcome = bench.finish(wasm, limits={"module_bytes": 64 << 20})
    assert (outcome.result.exit_code, what in outcome.detail) == (-3, True)
    assert count_reads() < 2 * MAX_READ  # of 10^6 to 10^7 parts


@pytest.fixture
def count_reads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """How often a byte was taken out of a module."""
    taken, take = [0], Reader.take

    def counting(self: Reader, size: int) -> memoryview:
        taken[0] += 1
        return take(self, size)

    monkeypatch.setattr(Reader, "take", counting)
    return lambda: taken[0]


def test_of_long_lists_the_first_are_shown_and_all_are_judged() -> None:
    exports = "".join(f'(export "e{i}" (func $f))' for i in range(2000))
    found = inspect(f'(module (func $f) {exports} (export "_start" (func $f)))')
    assert (found["runs"], len(found["exports"])) == (True, 1000)
    assert found["warnings"] == ["of 2001 exports the first 1000 are shown"]
    imports = "".join(f'(import "env" "f{i}" (func))' for i in range(100))
    found = inspect(f"(module {imports} {START})")
    assert (len(found["imports"]), len(found["refused"]), found["refused"][-1]) == (100, 21, "and 80 reasons more")


@pytest.mark.parametrize("command", ["inspect", "exec"])
def test_names_in_a_module_do_not_steer_a_terminal(command: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "hostile.wasm"
    path.write_bytes(
        wasmtime.wat2wasm(
            f'(module (import "{STEERING}" "{STEERING}" (func)) {START} (memory (export "{STEERING}") 1))'
        )
    )
    with pytest.raises(SystemExit):
        raise SystemExit(report(lambda: app([command, str(path)], standalone_mode=True)))
    shown = "".join(capsys.readouterr())
    assert "\\x1b[2J" in shown
    assert not [letter for letter in shown if not letter.isprintable() and letter != "\n"]
    assert not [line for line in shown.splitlines() if line.startswith("ok")]
