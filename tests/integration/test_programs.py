"""Programs of other languages under the profile, on both engines: compiled here by what the machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from quorate_node.executor.folders import Folder
from quorate_node.executor.trial import EngineName, Trial, TrialOutcome, run_trial

PROGRAMS = Path(__file__).parent / "programs"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first C program of a machine builds wasi-libc

CPP = """
#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>
int main(int argc, char **argv) {
  std::map<std::string, int> counts;
  for (int i = 1; i < argc; i++) counts[argv[i]]++;
  std::vector<std::pair<int, std::string>> order;
  for (auto &[word, count] : counts) order.emplace_back(-count, word);
  std::sort(order.begin(), order.end());
  for (auto &[count, word] : order) std::printf("%s %d\\n", word.c_str(), -count);
}
"""
GO = """package main

import (
	"fmt"
	"math/rand"
	"os"
	"time"
)

func main() {
	began := time.Now()
	time.Sleep(time.Hour)
	numbers := make(chan int)
	go func() {
		for i := 0; i < 100; i++ {
			numbers <- i
		}
		close(numbers)
	}()
	sum := 0
	for i := range numbers {
		sum += i
	}
	if err := os.WriteFile("/outputs/sum", []byte(fmt.Sprint(sum)), 0o644); err != nil {
		panic(err)
	}
	fmt.Println(sum, time.Since(began) >= time.Hour, rand.Int() != rand.Int())
	os.Exit(9)
}
"""
RUST = """
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};
fn main() -> io::Result<()> {
    let began = Instant::now();
    thread::sleep(Duration::from_secs(3600));
    let mut counts = BTreeMap::new();
    for word in env::args().skip(1) {
        *counts.entry(word).or_insert(0) += 1;
    }
    for (word, count) in &counts {
        fs::write(format!("/outputs/{word}"), format!("{count}"))?;
    }
    fs::rename("/outputs/a", "/outputs/c")?;
    let missing = fs::read("/inputs/none").unwrap_err();
    println!("{:?} {} {}", counts, began.elapsed().as_secs() >= 3600, missing.kind() == io::ErrorKind::NotFound);
    process::exit(7)
}
"""


def find_rust() -> list[str] | None:
    """A Rust compiler with a WASI target (of Debian with `libstd-rust-dev-wasm32`, of rustup after `target add`)."""
    for compiler in filter(None, (shutil.which("rustc"), shutil.which("/usr/bin/rustc"))):
        for target in ("wasm32-wasip1", "wasm32-wasi"):
            command = [compiler, "--target", target]
            found = subprocess.run([*command, "--print", "target-libdir"], capture_output=True, text=True, check=False)
            if found.returncode == 0 and Path(found.stdout.strip()).is_dir():
                return command
    return None


def compile_c(source: Path, output: Path, compiler: str = "cc", *flags: str) -> bytes:
    command = [sys.executable, "-m", "ziglang", compiler, "-target", "wasm32-wasi", "-O1", "-s", *flags, str(source)]
    subprocess.run([*command, "-o", str(output)], check=True)
    return output.read_bytes()


def keep(chunks: list[bytes], chunk: memoryview) -> None:
    """A chunk is only good until the next one."""
    chunks.append(bytes(chunk))


def run_on_both(wasm: bytes, **fields: Any) -> tuple[TrialOutcome, bytes]:
    """Run on both engines, which must agree; what it printed."""
    from quorate_node.executor.runner import Echo

    outcomes, printed, out = [], [], fields.pop("out", None)
    for engine in EngineName:
        fields |= {"out": out / engine.value} if out else {}
        chunks: list[bytes] = []
        echo = Echo(partial(keep, chunks), lambda chunk: None)
        outcomes.append(run_trial(Trial(wasm, engine=engine, **fields), echo))
        printed.append(b"".join(chunks))
    assert outcomes[0].result == outcomes[1].result
    assert outcomes[0].fuel == outcomes[1].fuel
    assert printed[0] == printed[1]
    return outcomes[0], printed[0]


def test_c_programs_find_files_as_posix_has_them(tmp_path: Path) -> None:
    wasm = compile_c(PROGRAMS / "files.c", tmp_path / "files.wasm")
    (tmp_path / "root").mkdir()
    outcome, printed = run_on_both(wasm, folders=(Folder(tmp_path / "root", b"/"),))
    assert printed == b""
    assert outcome.code == 0
    assert list((tmp_path / "root").iterdir()) == []


def test_cpp_programs_run(tmp_path: Path) -> None:
    (tmp_path / "count.cpp").write_text(CPP)
    wasm = compile_c(tmp_path / "count.cpp", tmp_path / "count.wasm", "c++", "-fno-exceptions")
    outcome, printed = run_on_both(wasm, args=("b", "a", "b"))
    assert (outcome.code, printed) == (0, b"b 2\na 1\n")


@pytest.mark.skipif(shutil.which("go") is None, reason="there is no Go toolchain on this machine")
def test_go_programs_run(tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text(GO)
    env = os.environ | {"GOOS": "wasip1", "GOARCH": "wasm", "GO111MODULE": "off", "GOFLAGS": ""}
    subprocess.run(["go", "build", "-o", "main.wasm", "main.go"], cwd=tmp_path, env=env, check=True)
    outcome, printed = run_on_both((tmp_path / "main.wasm").read_bytes(), out=tmp_path / "out")
    assert (outcome.code, printed) == (9, b"4950 true true\n")
    assert {(tmp_path / "out" / each / "sum").read_bytes() for each in EngineName} == {b"4950"}


def test_rust_programs_run(tmp_path: Path) -> None:
    command = find_rust()
    if command is None:
        pytest.skip("no Rust compiler with a WASI target here (Debian: apt install rustc libstd-rust-dev-wasm32 lld)")
    (tmp_path / "main.rs").write_text(RUST)
    subprocess.run([*command, "-O", "main.rs", "-o", "main.wasm"], cwd=tmp_path, check=True)
    wasm = (tmp_path / "main.wasm").read_bytes()
    outcome, printed = run_on_both(wasm, args=("b", "a", "b"), out=tmp_path / "out")
    assert (outcome.code, printed) == (7, b'{"a": 1, "b": 2} true true\n')
    for engine in EngineName:
        left = {path.name: path.read_bytes() for path in (tmp_path / "out" / engine.value).iterdir()}
        assert left == {"b": b"2", "c": b"1"}
