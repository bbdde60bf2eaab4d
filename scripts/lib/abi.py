"""Write client/quorate/chain/abi/CONTRACT.json from what forge compiled; `--check` only compares.

Users need no compiler: what they deploy and call is committed, one file a contract with sorted keys, so that the same
sources always give the same bytes and a stale file shows up in scripts/check.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ROOT / "contracts"
ABI = ROOT / "client" / "quorate" / "chain" / "abi"
BUILD = ROOT / ".tools" / "forge" / "abi"
NAMES = (
    "StakeRegistry", "ComputeMarket", "Disputes", "Challenges", "HeaderBeacon", "Extender",
    "DevnetToken", "DevnetPay", "RetrievalOperator",
)  # fmt: skip


def compile_contracts() -> None:
    """Compile all sources together and from nothing: by IR, the bytes may depend on what else is compiled along."""
    forge = ROOT / ".tools" / "bin" / "forge"
    folders = ["--out", str(BUILD / "out"), "--cache-path", str(BUILD / "cache")]
    subprocess.run([forge, "build", "src", "--force", "--quiet", *folders], cwd=CONTRACTS, check=True)


def find_sources() -> dict[str, Path]:
    """Contract → source file, for those of NAMES that are written already."""
    return {path.stem: path for path in sorted((CONTRACTS / "src").rglob("*.sol")) if path.stem in NAMES}


def render(source: Path) -> str:
    artifact: dict[str, Any] = json.loads((BUILD / "out" / source.name / f"{source.stem}.json").read_text())
    deployed = artifact["deployedBytecode"]
    content = {
        "contract": source.stem,
        "abi": sorted(artifact["abi"], key=lambda entry: json.dumps(entry, sort_keys=True)),
        "bytecode": artifact["bytecode"]["object"],
        "deployed_size_bytes": (len(deployed["object"]) - 2) // 2,
        "method_identifiers": artifact["methodIdentifiers"],
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the committed ABI and bytecode, or check that they are fresh.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file is stale")
    check = parser.parse_args().check
    sources = find_sources()
    if not sources:
        print("abi: NOTE: none of the contracts is written yet", file=sys.stderr)
        return 0
    compile_contracts()
    wanted = {ABI / f"{name}.json": render(source) for name, source in sources.items()}
    present = {path: path.read_text() for path in ABI.glob("*.json")}
    stale = sorted(path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path))
    for path in stale:
        verb = (
            "is stale: run .venv/bin/python scripts/lib/abi.py" if check else "written" if path in wanted else "removed"
        )
        print(f"abi: {path.relative_to(ROOT)} {verb}", file=sys.stderr)
        if not check and path in wanted:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted[path])
        elif not check:
            path.unlink()
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
