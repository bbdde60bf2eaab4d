"""WASI command modules as others have published them: the same digest in every run, on both engines and in a worker.

published.json pins each by version and hash. They are fetched once, by the registries' ordinary clients.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from quorate.protocol.spec import JobSpec
from quorate.storage.embedded import EmbeddedStore
from quorate_node.executor.base import Executed, ExecutionTask
from quorate_node.executor.folders import Folder
from quorate_node.executor.pool import WorkerPool
from quorate_node.executor.runner import Echo
from quorate_node.executor.trial import EngineName, Trial, TrialOutcome, run_trial

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".tools" / "cache" / "published"
PINS = json.loads(Path(__file__).with_name("published.json").read_text())
RUNS = 3
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Two factors below 256 of a number that has some (221 and 211), and of one that has none (7 * 1069).
FACTORS = """(set-logic QF_BV)
(declare-fun x () (_ BitVec 16))
(declare-fun y () (_ BitVec 16))
(assert (and (= (bvmul x y) #xNUMBER) (bvugt x #x0001) (bvugt y #x0001) (bvult x #x0100) (bvult y #x0100)))
(check-sat)
(get-model)
"""
TYPESCRIPT = """interface Point { x: number }
export const f = (p: Point): number => p.x ** 2 + 1
console.log(f({ x: 3 }))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Machine code of all that is run here."""
    return tmp_path_factory.mktemp("code")


def find_npm() -> list[str]:
    """How npm is started: this machine's, or the one that scripts/setup has brought."""
    for command in (shutil.which("npm"), *map(str, (ROOT / ".tools").glob("**/npm-cli.js"))):
        if command is not None:
            node = shutil.which("node") or next(map(str, (ROOT / ".tools").glob("**/bin/node")), None)
            return [node, command] if command.endswith(".js") and node else [command]
    pytest.skip("there is no npm on this machine to fetch a module with")


def fetch(name: str) -> bytes:
    """A published module, from the cache or its registry; its package must have the pinned hash."""
    pin = PINS[name]
    kept = KEPT / f"{name}-{pin['sha256'][:16]}.package"
    if not kept.exists():
        folder = KEPT / "incoming" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if pin["registry"] == "pypi":
            wanted = f"{pin['package']}=={pin['version']}"
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--pre", "-d", str(folder), wanted]
        else:
            wanted = f"{pin['package']}@{pin['version']}"
            command = [*find_npm(), "pack", "--silent", "--pack-destination", str(folder), wanted]
        subprocess.run(command, check=True, cwd=folder)
        (package,) = folder.iterdir()
        package.replace(kept)
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == pin["sha256"], f"{kept} is another package: delete it"
    if pin["registry"] == "pypi":
        with zipfile.ZipFile(kept) as archive:
            return archive.read(pin["member"])
    with tarfile.open(kept) as package_file:
        member = package_file.extractfile(pin["member"])
        assert member is not None
        return member.read()


def run(trial: Trial) -> tuple[TrialOutcome, bytes]:
    """One run, and what it printed."""
    chunks: list[bytes] = []
    outcome = run_trial(trial, Echo(lambda chunk: chunks.append(bytes(chunk)), lambda chunk: None))
    return outcome, b"".join(chunks)


def run_often(wasm: bytes, cache: Path, **fields: Any) -> tuple[TrialOutcome, bytes]:
    """Run again and again on both engines: one result, one amount of fuel, and compiled once for each engine."""
    found = []
    for engine in EngineName:
        compiled = set()
        for _ in range(RUNS):
            found.append(run(Trial(wasm, engine=engine, cache_dir=cache / engine.value, **fields)))
            compiled |= {(file.name, file.stat().st_ino) for file in (cache / engine.value).glob("*.cwasm")}
        assert len(compiled) == 1, "a module is compiled once, however often it runs"
    first = found[0][0]
    assert first.result is not None, first.detail
    assert {(outcome.result, outcome.fuel) for outcome, _ in found} == {(first.result, first.fuel)}
    assert len({printed for _, printed in found}) == 1
    return found[0]


@pytest.mark.parametrize(("number", "code"), [("b627", 10), ("1d3b", 20)])
async def test_a_solver_says_the_same_everywhere(tmp_path: Path, cache: Path, number: str, code: int) -> None:
    """Its exit code, which is not 0 either way, is a result like any other; a worker comes to the same digest."""
    wasm, formula = fetch("boolector"), tmp_path / "factors.smt2"
    formula.write_text(FACTORS.replace("NUMBER", number))
    args: Sequence[str] = ("-m", "/inputs/factors.smt2")
    outcome, printed = run_often(wasm, cache / "solver", source=formula, args=args)
    assert outcome.code == code
    assert printed.startswith(b"sat\n" if code == 10 else b"unsat\n")
    with closing(EmbeddedStore(tmp_path / "store")) as store:
        spec = JobSpec(
            str(store.add_bytes(wasm)), str(store.add_path(formula)), "factors.smt2", tuple(args)
        )  # fmt: skip
        async with WorkerPool(1, tmp_path / "store", cache / "worker") as pool:
            executed = await pool.execute(ExecutionTask(spec), timeout_s=60)
    assert isinstance(executed, Executed), executed
    assert outcome.result is not None
    assert executed.result == outcome.result


def test_a_bundler_of_20_mb_says_the_same_everywhere(tmp_path: Path, cache: Path) -> None:
    wasm, folder = fetch("esbuild"), tmp_path / "root"
    assert len(wasm) > 19_000_000
    folder.mkdir()
    (folder / "a.ts").write_text(TYPESCRIPT)
    folders, args = (Folder(folder, b"/"),), ("a.ts", "--minify", "--outfile=out/a.js")
    outcome, printed = run_often(wasm, cache / "bundler", folders=folders, args=args)
    assert (outcome.code, printed) == (0, b"")
    shown, text = run(Trial(wasm, ("a.ts", "--minify"), folders=folders, cache_dir=cache / "bundler" / "cranelift"))
    assert (shown.code, text) == (0, b"export const f=n=>n.x**2+1;console.log(f({x:3}));\n")
