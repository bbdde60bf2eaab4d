"""Static analysis of the contracts with Slither: `scripts/check --analyse`.

Slither wants an older web3 than the client, so it lives in an environment of its own (.tools/slither), installed from
scripts/lock/slither.txt. It reads what forge compiled and needs no compiler. Findings that were looked at stand in
contracts/slither.json, each with the reason why it may stay ("CHECK *" speaks for all findings of a check); a finding
that is not there fails, and so does an entry that no finding needs any more.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ROOT / "contracts"
HOME = ROOT / ".tools" / "slither"
LOCK = ROOT / "scripts" / "lock" / "slither.txt"
SETTLED = CONTRACTS / "slither.json"
IGNORED_IMPACTS = ("Informational", "Optimization")
"""Style and gas: the formatter, the compiler and the gas snapshot judge these."""


def install() -> Path:
    """Slither's executable, installed if it is not there in the locked version."""
    stamp, binary = HOME / "stamp", HOME / "env" / "bin" / "slither"
    if not (stamp.exists() and stamp.read_text() == LOCK.read_text() and binary.exists()):
        shutil.rmtree(HOME, ignore_errors=True)
        venv.create(HOME / "env", with_pip=True)
        pip = [str(HOME / "env" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, "--require-hashes", "--requirement", str(LOCK)], check=True)
        stamp.write_text(LOCK.read_text())
    return binary


def analyse(slither: Path) -> list[dict[str, Any]]:
    """All findings, from a build of src alone."""
    out, report = HOME / "out", HOME / "report.json"
    shutil.rmtree(out, ignore_errors=True)
    folders = ["--out", str(out), "--cache-path", str(HOME / "cache"), "--build-info-path", str(out / "build-info")]
    forge = [str(ROOT / ".tools" / "bin" / "forge"), "build", "src", "--force", "--quiet", "--build-info", "--ast"]
    subprocess.run([*forge, *folders], cwd=CONTRACTS, check=True)
    report.unlink(missing_ok=True)
    command = [str(slither), ".", "--ignore-compile", "--foundry-out-directory", str(out), "--json", str(report)]
    # It exits with 255 when there are findings: what counts is the report.
    done = subprocess.run(command, cwd=CONTRACTS, capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {"error": done.stderr}
    if not found.get("success"):
        raise SystemExit(f"analyse: slither failed: {found['error']}")
    detectors: list[dict[str, Any]] = found["results"].get("detectors", [])
    return detectors


def name_of(finding: Mapping[str, Any]) -> str:
    """What identifies a finding over moved lines: the check, and the first element that it is about."""
    elements: list[dict[str, Any]] = finding["elements"]
    first: dict[str, Any] = elements[0] if elements else {"name": "", "source_mapping": {}}
    details: dict[str, Any] = first.get("type_specific_fields", {})
    parent: dict[str, Any] = details.get("parent", {})
    file = Path(first["source_mapping"].get("filename_relative", "")).name
    return f"{finding['check']} {file} {parent.get('name', '')}.{first['name']}"


def judge(findings: Sequence[Mapping[str, Any]], settled: Mapping[str, str]) -> list[str]:
    """Lines that say what is wrong; empty when every finding has its reason and every reason its finding."""
    serious = {name_of(f): f for f in findings if f["impact"] not in IGNORED_IMPACTS}
    fresh = [
        f"{f['impact']}: {name}\n    {' '.join(f['description'].split())}"
        for name, f in sorted(serious.items())
        if name not in settled and f"{f['check']} *" not in settled
    ]
    needed = {*serious, *(f"{f['check']} *" for f in serious.values())}
    return fresh + [f"no longer found, remove it: {name}" for name in sorted(settled.keys() - needed)]


def main() -> int:
    settled: dict[str, str] = json.loads(SETTLED.read_text())
    problems = judge(analyse(install()), settled)
    for problem in problems:
        print(f"analyse: {problem}", file=sys.stderr)
    if not problems:
        print(f"analyse: every finding of Slither has its reason ({len(settled)} in {SETTLED.name})", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
