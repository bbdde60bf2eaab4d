"""The main job before your eyes: ten nodes of which one lies, a verified cloud mask, and a slashed liar."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from pictures import Scene, StakeSample, load_scene, read_mask, write_mask_picture, write_stakes_picture
from quorate.cli.output import format_ether, progress
from quorate.devnet.devnet import Devnet
from quorate.devnet.options import DevnetOptions
from quorate.jobs import JobRecord
from quorate.orders import OrderWishes
from quorate.progress import JobStage
from quorate.protocol.errors import DataError, QuorateError, UnrecoverableError
from quorate.protocol.spec import Limits
from quorate.sdk import QuorateClient
from quorate.spec import PreparedSpec

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "client" / "examples" / "cloud-detection"
REAL_SCENE = ROOT.parent / "shared" / "data" / "landsat8"
LIAR = 9  # its node's index; its operator's id is one more
LIAR_UNITS = 30  # three times what the others have, so that it is drawn soon
LYING_NODE = "tests.adversarial.lying_node"
PRICE = 10**13
FUEL = 4_000_000_000
MAX_JOBS = 20
JOBS_AT_ONCE = 5
MAX_SEATS = 5  # half of the nodes
JOB_TIMEOUT_S = 180.0
SECONDS = ("setup", "devnet", "import", "post", "assign", "commit", "reveal", "accept", "fetch", "render")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(slots=True)
class Run:
    """What the demo has, and what it measures on its way."""

    arguments: argparse.Namespace
    devnet: Devnet
    client: QuorateClient
    began: float
    seconds: dict[str, float]
    samples: list[StakeSample] = field(default_factory=list)
    jobs: list[JobRecord] = field(default_factory=list)

    def sample_stakes(self) -> None:
        """Remember everybody's stake now."""
        gateway = self.devnet.gateway
        stakes = {node.operator_id: gateway.operator(node.operator_id).stake for node in self.devnet.nodes}
        self.samples.append(StakeSample(time.monotonic() - self.began, stakes))

    def timed(self, name: str, since: float) -> None:
        """Note how long a step took."""
        self.seconds[name] = round(time.monotonic() - since, 3)


def parse_arguments() -> argparse.Namespace:
    """Command line of scripts/demo."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--scene", type=Path, metavar="DIR", help="a Landsat 8 scene: *_B2.tif … *_B10.tif, *_MTL.txt")
    parser.add_argument("--seats", type=int, default=3, help="operators that must agree, 1 to 5 (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "out", metavar="DIR", help="folder for the pictures")
    arguments = parser.parse_args()
    if not 1 <= arguments.seats <= MAX_SEATS:
        parser.error(f"--seats {arguments.seats} is out of range: ten nodes can seat 1 to {MAX_SEATS}")
    arguments.out = arguments.out.absolute()
    return arguments


def choose_scene(wanted: Path | None, scratch: Path) -> tuple[Path, str]:
    """Folder of the scene and where it comes from: as asked, the real one, else a synthetic one."""
    if wanted is not None:
        if not wanted.is_dir():
            raise DataError(f"--scene {wanted} is not a folder: give one with the bands and the MTL file of a scene")
        return wanted.resolve(), f"the scene in {wanted}"
    if REAL_SCENE.is_dir():
        return REAL_SCENE, f"the real Landsat 8 scene in {REAL_SCENE.relative_to(ROOT.parent)}"
    folder = scratch / "synthetic-scene"
    if not (folder / "l8_MTL.txt").exists():
        maker = [sys.executable, str(EXAMPLE / "make_scene.py"), str(folder), "--seed", "1"]
        subprocess.run(maker, check=True, stdout=subprocess.DEVNULL)
    return folder, "a synthetic scene (seed 1)"


def devnet_options(home: Path) -> DevnetOptions:
    """Ten nodes; the last one runs a lying core."""
    return DevnetOptions(
        home=home,
        commands={LIAR: [sys.executable, "-m", LYING_NODE]},
        units={LIAR: LIAR_UNITS},
        price=PRICE,
        env={"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "client", ROOT / "node")))},
    )


def run_pictured_job(run: Run, prepared: PreparedSpec, url: str) -> JobRecord:
    """Submit the first job and follow it."""
    job = run.client.submit(prepared, OrderWishes(seats=run.arguments.seats), providers=[url])
    run.jobs.append(job)
    with progress(f"job {job.job_id.hex()[:8]}") as show:
        for step in run.client.watch(job, timeout_s=JOB_TIMEOUT_S):
            show(step)
            run.sample_stakes()
    if step.stage != JobStage.ACCEPTED:
        raise UnrecoverableError(f"the job ended as {step.stage.value}: {step.detail}; logs are in {logs_of(run)}")
    return job


def fetch_and_draw(run: Run, job: JobRecord, scene: Scene) -> tuple[dict[str, Any], float]:
    """Fetch the result, check it, draw the mask; gives the receipt and the share of cloud."""
    since = time.monotonic()
    folder = run.client.config.home / "results" / job.job_id.hex()
    fetched = run.client.fetch_result(job, folder)
    run.timed("fetch", since)
    since = time.monotonic()
    if fetched.results[0].exit_code != 0:
        raise DataError(f"the program refused the scene (exit code {fetched.results[0].exit_code}): see its README")
    mask = read_mask(folder / "outputs" / "cloudmask.pgm")
    share = float(mask.mean())
    write_mask_picture(run.arguments.out / "cloudmask.png", scene, mask, share)
    run.timed("render", since)
    out.print(f"cloud share      {share:.2%} of {mask.size} pixels; every byte is what {fetched.results[0].cid} says")
    if scene.quality_cloud is not None:
        agree = float((mask == scene.quality_cloud).mean())
        out.print(f"quality band     {scene.quality_cloud.mean():.2%} cloud; {agree:.1%} of the pixels are the same")
    out.print(
        f"picture          {run.arguments.out / 'cloudmask.png'}, {time.monotonic() - run.began:.1f} s after start"
    )
    return run.client.describe(job), share


def hunt_liar(run: Run, prepared: PreparedSpec, url: str) -> dict[str, Any] | None:
    """Post jobs until the liar was slashed, at most MAX_JOBS in all."""
    while len(run.jobs) < MAX_JOBS:
        count = min(JOBS_AT_ONCE, MAX_JOBS - len(run.jobs))
        err.print(f"posting {count} jobs more: the liar lies when it is drawn for the second time")
        wishes = OrderWishes(seats=run.arguments.seats)
        batch = [run.client.submit(prepared, wishes, providers=[url]) for _ in range(count)]
        run.jobs += batch
        found = []
        for job in batch:
            for step in run.client.watch(job, timeout_s=JOB_TIMEOUT_S):
                if step.stage == JobStage.DISPUTED:
                    err.print(f"job {job.job_id.hex()[:8]}: votes differ, the whole class is asked")
                run.sample_stakes()
            if step.stage not in (JobStage.ACCEPTED, JobStage.VOID):
                raise UnrecoverableError(f"job {job.job_id.hex()[:8]} ended as {step.stage.value}: {step.detail}")
            found += find_slashes(run, job)
        if found:
            return min(found, key=lambda slash: (slash["block"], slash["amount_wei"]))
    return None


def find_slashes(run: Run, job: JobRecord) -> list[dict[str, Any]]:
    """What a job's dispute took from liars; nothing when an earlier dispute of the batch had taken all."""
    receipt = run.client.describe(job)
    block = receipt["steps"][-1]["block"]
    return [slash | {"block": block} for slash in receipt["slashes"] if slash["amount_wei"]]


def print_balances(run: Run) -> None:
    """Stakes before and after, as a table."""
    before, after = run.samples[0].stakes_wei, run.samples[-1].stakes_wei
    table = Table("operator", "stake before", "stake after", "change", box=None, header_style="bold")
    for operator in sorted(before):
        name = f"{operator} (the liar)" if operator == LIAR + 1 else str(operator)
        change = after[operator] - before[operator]
        table.add_row(name, format_ether(before[operator]), format_ether(after[operator]), format_ether(change))
    out.print(table)


def write_receipt(run: Run, receipt: dict[str, Any], share: float, scene: str, slash: dict[str, Any] | None) -> None:
    """The pictured job, with how long everything took."""
    seconds = {**receipt["seconds"], **run.seconds}
    receipt |= {
        "cloud_share": share,
        "scene": scene,
        "seconds": {name: seconds[name] for name in SECONDS},
        "slash": slash,
        "jobs_posted": len(run.jobs),
    }
    path = run.arguments.out / "receipt.json"
    path.write_text(json.dumps(receipt, indent=2) + "\n")
    out.print(f"receipt          {path}")


def logs_of(run: Run) -> Path:
    """Where the processes write."""
    return run.devnet.options.home / "logs"


def show(run: Run, scene_folder: Path, scene: Scene, scene_name: str) -> int:
    """All that happens once the network is up; the exit code."""
    since = time.monotonic()
    prepared = run.client.prepare(
        str(EXAMPLE / "cloud-detection.wasm"), str(scene_folder), limits=Limits(fuel=FUEL, memory_bytes=256 << 20)
    )
    run.timed("import", since)
    err.print(f"input {prepared.spec.input}, program {prepared.spec.contents[0]}")
    run.sample_stakes()
    with run.client.serving() as url:
        job = run_pictured_job(run, prepared, url)
        receipt, share = fetch_and_draw(run, job, scene)
        slash = hunt_liar(run, prepared, url) if run.arguments.seats > 1 else None
    run.sample_stakes()
    slashed_at = next((s.seconds for s in run.samples if _has_lost(run.samples[0], s)), None)
    write_stakes_picture(run.arguments.out / "stakes.png", run.samples, LIAR + 1, slashed_at)
    print_balances(run)
    out.print(f"stakes           {run.arguments.out / 'stakes.png'}")
    write_receipt(run, receipt, share, scene_name, slash)
    if run.arguments.seats == 1:
        out.print("slash            none: nobody contradicts a committee of one; take --seats 2 or more")
        return 0
    if slash is None:
        out.print(f"slash            none: the liar was not drawn twice in {len(run.jobs)} jobs; try again")
        return 1
    lost = run.samples[0].stakes_wei[LIAR + 1] - run.samples[-1].stakes_wei[LIAR + 1]
    out.print(
        f"slash            operator {slash['operator']} lost {format_ether(slash['amount_wei'])} in job "
        f"{slash['job_id'][2:10]}, {format_ether(lost)} in all, less what it earned; {len(run.jobs)} jobs were posted"
    )
    return 0


def _has_lost(first: StakeSample, sample: StakeSample) -> bool:
    return sample.stakes_wei[LIAR + 1] < first.stakes_wei[LIAR + 1]


def run_demo(arguments: argparse.Namespace) -> int:
    """Start everything, show it, stop everything."""
    began, setup_s = time.monotonic(), float(os.environ.get("QUORATE_SETUP_SECONDS", "0"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    scratch = arguments.out / "demo"
    scene_folder, scene_name = choose_scene(arguments.scene, scratch)
    scene = load_scene(scene_folder)  # before anything is started: a wrong folder is told at once
    err.print(f"scene: {scene_name}")
    for name in ("cloudmask.png", "stakes.png", "receipt.json"):  # of a run before: they would not belong together
        (arguments.out / name).unlink(missing_ok=True)
    devnet = Devnet(devnet_options(scratch / "devnet"), on_step=lambda text: err.print(f"devnet: {text}"))
    with devnet, QuorateClient.open(devnet.make_config(scratch / "client")) as client:
        run = Run(arguments, devnet, client, began - setup_s, {"setup": setup_s})
        run.timed("devnet", began)
        code = show(run, scene_folder, scene, scene_name)
    out.print(f"done             {time.monotonic() - began + setup_s:.1f} s; everything that was started is stopped")
    return code


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Run the demo; a failure is one line, and leaves nothing running."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGINT too: a shell's background jobs ignore it
        signal.signal(number, _interrupt)
    try:
        return run_demo(parse_arguments())
    except QuorateError as error:
        err.print(f"demo: {error}", markup=False)
        return error.exit_code
    except OSError as error:
        if error.filename is None and not isinstance(error, FileNotFoundError):
            raise
        err.print(f"demo: {error}", markup=False)
        return DataError.exit_code
    except KeyboardInterrupt:
        err.print("demo: interrupted; everything that was started is stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
