"""The real scripts/setup on a tiny project of the same shape, without network: what it installs is made here.

The locks are replaced by one local wheel, the project builds itself with a backend of ten lines, and npm is a stand-in
that writes the binaries npm would have fetched. Everything else is the code that a newcomer runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

BACKEND = """
import os, time, zipfile

def write_wheel(folder):
    name = "mini-1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("mini.pth", os.getcwd() + "\\n")
        info = "mini-1.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: mini\\nVersion: 1\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    if os.path.exists("hang-in-pip"):
        open("pip-hangs", "w").close()
        time.sleep(600)
    return write_wheel(wheel_directory)

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return write_wheel(wheel_directory)
"""

NPM = """#!/bin/sh
# A stand-in for npm: counts its starts and writes the binaries that the real one would fetch.
echo "npm $*" >>"$MINI/started"
while [ "$1" != --prefix ]; do shift; done
[ -e "$MINI/hang-in-npm" ] && { touch "$MINI/npm-hangs"; exec sleep 600; }
for tool in anvil forge; do
  for platform in linux-amd64 linux-arm64 darwin-amd64 darwin-arm64; do
    bin="$2/node_modules/@foundry-rs/$tool-$platform/bin"
    mkdir -p "$bin"
    printf '#!/bin/sh\\necho "%s Version: 1.7.1-stable"\\n' "$tool" >"$bin/$tool"
    chmod +x "$bin/$tool"
  done
done
"""


@dataclass
class Mini:
    """The tiny project, and the real script in it."""

    root: Path
    environment: dict[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.root / "scripts" / "setup", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        try:
            stdout, stderr = process.communicate(timeout=120)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def kill_when(self, appears: str, *arguments: str) -> None:
        """Start the script and kill it with all its children once a file appears."""
        process = self.start(*arguments)
        deadline = time.monotonic() + 120
        try:
            while not (self.root / appears).exists():
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline, f"{appears} never appeared"
                time.sleep(0.02)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def count_started(self) -> tuple[int, int]:
        """How often pip and npm were started so far."""
        pip_log, started = self.root / "pip.log", self.root / "started"
        return (
            pip_log.read_text().count("Non-user install") if pip_log.exists() else 0,
            len(started.read_text().splitlines()) if started.exists() else 0,
        )

    def is_complete(self) -> bool:
        python, anvil = self.root / ".venv" / "bin" / "python", self.root / ".tools" / "bin" / "anvil"
        if not python.exists() or not anvil.exists():
            return False
        imported = subprocess.run([python, "-c", "import tiny, mini_project"], capture_output=True, check=False)
        return imported.returncode == 0 and b"1.7.1" in subprocess.run([anvil], capture_output=True, check=True).stdout


def write_tiny_wheel(folder: Path) -> str:
    """A wheel with one module; returns the digest of the file."""
    folder.mkdir()
    path = folder / "tiny-1-py3-none-any.whl"
    files = {
        "tiny.py": "",
        "tiny-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n",
        "tiny-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(content)}\n"
        wheel.writestr("tiny-1.dist-info/RECORD", record + "tiny-1.dist-info/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lay_out(root: Path) -> Mini:
    (root / "scripts" / "lib").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup", root / "scripts" / "setup")
    for module in ("setup.py", "steps.py", "foundry.py"):
        shutil.copy(ROOT / "scripts" / "lib" / module, root / "scripts" / "lib" / module)
    digest = write_tiny_wheel(root / "wheels")
    (root / "scripts" / "lock").mkdir()
    for name in ("build.txt", "requirements.txt", "dev.txt"):
        (root / "scripts" / "lock" / name).write_text(f"tiny==1 --hash=sha256:{digest}\n")
    for name in ("anvil", "solidity"):
        (root / "scripts" / "tools" / name).mkdir(parents=True)
        (root / "scripts" / "tools" / name / "package-lock.json").write_text(json.dumps({"name": name}))
    (root / "mini_project.py").write_text("")
    for name in ("client", "node"):
        (root / name).mkdir()
        (root / name / "code.py").write_text("")
    (root / "backend.py").write_text(BACKEND)
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "mini"\nversion = "1"\n'
    )
    binaries = root / "bin"
    binaries.mkdir()
    for name, content in {"npm": NPM, "node": "#!/bin/sh\n"}.items():
        (binaries / name).write_text(content)
        (binaries / name).chmod(0o755)
    environment = {
        "PATH": f"{binaries}:/usr/bin:/bin",
        "HOME": str(root / "home"),
        "MINI": str(root),
        "QUORATE_PYTHON": getattr(sys, "_base_executable", sys.executable),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(root / "wheels"),
        "PIP_LOG": str(root / "pip.log"),
    }
    return Mini(root, environment)


@pytest.fixture
def mini(tmp_path: Path) -> Mini:
    return lay_out(tmp_path / "project")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    """A project that three set-ups at once have installed; each test here leaves it complete."""
    mini = lay_out(tmp_path_factory.mktemp("installed") / "project")
    processes = [mini.start() for _ in range(3)]
    for process in processes:
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        assert stdout == "", "progress belongs on stderr"
    return mini


def test_three_at_once_install_once(installed: Mini) -> None:
    assert installed.is_complete()
    assert installed.count_started()[1] == 1, "one of them installed, the others found it done"
    assert all(list((installed.root / name).glob("__pycache__/code.*.pyc")) for name in ("client", "node"))


def test_a_second_run_starts_neither_pip_nor_npm(installed: Mini) -> None:
    started = installed.count_started()
    assert min(started) > 0
    again = installed.run()
    assert (again.returncode, again.stderr) == (0, "")
    assert installed.count_started() == started


def change_lock(root: Path) -> None:
    lock = root / "scripts" / "lock" / "requirements.txt"
    lock.write_text("# changed\n" + lock.read_text())


def change_project(root: Path) -> None:
    project = root / "pyproject.toml"
    project.write_text(project.read_text() + "# changed\n")


def remove_anvil(root: Path) -> None:
    (root / ".tools" / "bin" / "anvil").unlink()


def remove_environment(root: Path) -> None:
    shutil.rmtree(root / ".venv")


STEPS = {"environment": "a Python env", "packages": "Python packages", "quorate": "quorate itself", "anvil": "anvil 1"}


@pytest.mark.parametrize(
    ("damage", "repeated"),
    [
        (change_lock, ["packages"]),
        (change_project, ["quorate"]),
        (remove_anvil, ["anvil"]),
        (remove_environment, ["environment", "packages", "quorate"]),
    ],
)
def test_repeats_only_what_changed(installed: Mini, damage: Callable[[Path], None], repeated: list[str]) -> None:
    damage(installed.root)
    again = installed.run()
    assert again.returncode == 0, again.stderr
    assert installed.is_complete()
    assert [step for step, words in STEPS.items() if words in again.stderr] == repeated


def test_goes_on_after_a_kill_in_npm(installed: Mini) -> None:
    hang = installed.root / "hang-in-npm"
    hang.touch()
    installed.kill_when("npm-hangs", "--dev")
    hang.unlink()
    again = installed.run("--dev")
    assert again.returncode == 0, again.stderr
    assert "Python" not in again.stderr, "what was finished is not done twice"
    assert (installed.root / ".tools" / "bin" / "forge").exists()

    started = installed.count_started()
    assert installed.run().returncode == 0
    assert installed.count_started() == started, "the set-up for development covers the smaller one"


def test_goes_on_after_a_kill_in_pip(mini: Mini) -> None:
    hang = mini.root / "hang-in-pip"
    hang.touch()
    mini.kill_when("pip-hangs")
    hang.unlink()
    again = mini.run()
    assert again.returncode == 0, again.stderr
    assert "building .venv anew" in again.stderr, "what pip left half done is not trusted"
    assert mini.is_complete()


def test_a_wrong_hash_stops_it_and_leaves_no_stamp(mini: Mini) -> None:
    (mini.root / "scripts" / "lock" / "build.txt").write_text(f"tiny==1 --hash=sha256:{'0' * 64}\n")
    failed = mini.run()
    assert failed.returncode == 1
    assert "setup.log" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (mini.root / ".venv" / ".stamps" / "environment").exists()


@pytest.mark.parametrize("named", [True, False])
def test_without_a_fitting_python_it_says_what_to_do(mini: Mini, named: bool) -> None:
    old = mini.root / "bin" / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")  # what a Python 3.8 answers to the version test
    old.chmod(0o755)
    for tool in ("bash", "env", "dirname"):
        (mini.root / "bin" / tool).symlink_to(str(shutil.which(tool)))
    mini.environment["PATH"] = str(mini.root / "bin")
    del mini.environment["QUORATE_PYTHON"]
    if named:
        mini.environment["QUORATE_PYTHON"] = str(old)
    failed = mini.run()
    assert failed.returncode == 1
    assert "Python 3.11" in failed.stderr
    assert "Install one" in failed.stderr
    assert not (mini.root / ".venv").exists()


def test_without_ensurepip_it_says_what_to_do(mini: Mini) -> None:
    python = mini.root / "bin" / "python-without-ensurepip"
    python.write_text(
        f"#!/bin/sh\ncase \"$*\" in *venv*) echo 'ensurepip is not available'; exit 1;; esac\n"
        f'export __PYVENV_LAUNCHER__= ; exec {mini.environment["QUORATE_PYTHON"]} "$@"\n'
    )
    python.chmod(0o755)
    mini.environment["QUORATE_PYTHON"] = str(python)
    failed = mini.run()
    assert failed.returncode == 1
    assert "python3-venv" in failed.stderr
