"""scripts/demo as a newcomer runs it: pictures, receipt, a slashed liar, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from quorate.chain.types import Deployment
from quorate.protocol.encoding import compute_domain_separator, compute_job_id
from quorate.protocol.types import Address, JobOrder

ROOT = Path(__file__).resolve().parents[2]
DEMO = [str(ROOT / "scripts" / "demo")]
MAKE_SCENE = ROOT / "client" / "examples" / "cloud-detection" / "make_scene.py"
SECONDS = {"setup", "devnet", "import", "post", "assign", "commit", "reveal", "accept", "fetch", "render"}

Finished = tuple[Path, subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.timeout(300)


def processes_in(folder: Path) -> list[str]:
    """Command lines of processes that name a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it ended while we looked
            if str(folder) in line:
                found.append(line)
    return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic scene."""
    folder = tmp_path_factory.mktemp("scene")
    subprocess.run([sys.executable, str(MAKE_SCENE), str(folder), "--seed", "3", "--size", "200"], check=True)
    return folder


@pytest.fixture(scope="module")
def finished(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One whole run: its folder and what it printed."""
    out = tmp_path_factory.mktemp("demo")
    command = [*DEMO, "--scene", str(scene), "--out", str(out)]
    return out, subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_ends_well_and_says_so(finished: Finished) -> None:
    out, done = finished
    assert done.returncode == 0, done.stderr
    for stage in ("posted", "assigned", "committed", "revealed", "accepted"):
        assert stage in done.stderr
    assert "cloud share" in done.stdout
    assert "quality band" in done.stdout
    assert "operator 10 lost" in done.stdout
    assert processes_in(out) == []


def test_pictures_are_pictures(finished: Finished) -> None:
    out, _ = finished
    with Image.open(out / "cloudmask.png") as mask:
        assert mask.size[0] > 2 * 200
        assert mask.size[1] > 200
        colours = mask.convert("RGB").getcolors(maxcolors=1 << 24)
        assert colours is not None
        assert len(colours) > 100
    with Image.open(out / "stakes.png") as stakes:
        assert min(stakes.size) > 300


def test_receipt_describes_the_pictured_job(finished: Finished) -> None:
    out, _ = finished
    receipt = json.loads((out / "receipt.json").read_text())
    assert receipt["verdict"] == "accepted"
    assert {seat["vote"] for seat in receipt["seats"]} == {receipt["votes"][0]}
    assert len({seat["operator"] for seat in receipt["seats"]}) == 3
    assert set(receipt["seconds"]) == SECONDS
    assert all(seconds >= 0 for seconds in receipt["seconds"].values())
    assert 0 < receipt["cloud_share"] < 1
    assert receipt["slash"]["operator"] == 10
    assert receipt["slash"]["amount_wei"] > 0
    assert {"post", "assign", "commit", "accept"} <= set(receipt["transactions"])
    deployment = Deployment.load(out / "demo" / "devnet" / "deployment.json")
    separator = compute_domain_separator(deployment.chain_id, Address(deployment.market))
    fields = dict(receipt["order"])
    for name in ("requester", "spec_hash"):
        fields[name] = bytes.fromhex(fields[name].removeprefix("0x"))
    assert "0x" + compute_job_id(separator, JobOrder(**fields)).hex() == receipt["job_id"]


def test_an_interrupted_demo_leaves_nothing_running(scene: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [*DEMO, "--scene", str(scene), "--out", str(tmp_path)], stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stderr is not None
        for line in demo.stderr:
            if "posted" in line:
                break
        assert processes_in(tmp_path / "demo"), "the control: there is something to leave behind"
        demo.send_signal(signal.SIGINT)
        demo.stderr.read()
        assert demo.wait(timeout=60) == 130
    deadline = time.monotonic() + 60
    while processes_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_in(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scene", "/nowhere"], "is not a folder"),
        (["--seats", "6"], "1 to 5"),
        (["--seats", "0"], "1 to 5"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = subprocess.run([*DEMO, *arguments, "--out", str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert processes_in(tmp_path) == []


def test_a_scene_without_bands_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    command = [*DEMO, "--scene", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "has no band" in done.stderr
    assert processes_in(tmp_path) == []
