"""Jobs near the data: bytes that nodes read where they lie, and bytes that had to move, with and without locality.

Half of the nodes hold a dataset whole and are in its class. The same job, divided over its files, is posted to two
networks of the same kind: with `--locality require` it is drawn from that class, with `ignore` from everybody.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from _bench import Bench, whole

from quorate.devnet.devnet import Devnet
from quorate.devnet.options import DevnetOptions
from quorate.devnet.state import DevnetNode
from quorate.jobs import JobRecord
from quorate.orders import OrderWishes
from quorate.placement import Locality
from quorate.progress import JobStage
from quorate.protocol.errors import QuorateError
from quorate.protocol.params import LOCAL
from quorate.protocol.spec import Limits, Partition
from quorate.sdk import QuorateClient
from quorate.storage.cid import Cid

OPERATORS = 4  # a process
DATASET_CLASS = 2
FUEL = 10**7  # a task
PARAMS = replace(LOCAL, era_period=8)
"""As the devnet's, with eras that are soon over: members are drawn from the next one on."""
PATIENCE_S = 300.0
# What reads all of a task's files and prints how many bytes they have.
PROGRAM = r"""
#include <dirent.h>
#include <stdio.h>
#include <string.h>
int main(void) {
  static char path[300], data[1 << 16];
  unsigned long long total = 0, sum = 0;
  DIR *folder = opendir("/inputs");
  for (struct dirent *entry; folder && (entry = readdir(folder));) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    snprintf(path, sizeof path, "/inputs/%s", entry->d_name);
    FILE *file = fopen(path, "rb");
    if (!file) return 1;
    for (size_t got; (got = fread(data, 1, sizeof data, file)) > 0; total += got) sum += (unsigned char)data[got - 1];
    fclose(file);
  }
  printf("%llu bytes, %llu\n", total, sum);
  return total == 0;
}
"""
ARGUMENTS: dict[str, dict[str, Any]] = {
    "--files": {"type": whole(1, 100_000), "default": 2048, "help": "files of the dataset (default: 2048)"},
    "--size": {"type": whole(1, 1 << 20), "default": 65_536, "help": "bytes of each (default: 65536)"},
    "--nodes": {"type": whole(2, 64), "default": 4, "help": "processes, half of which hold it (default: 4)"},
    "--seats": {"type": whole(1), "default": 3, "help": "operators that must agree (default: 3)"},
}


def find_problem(a: argparse.Namespace) -> str | None:
    """What is wrong with the arguments together."""
    most = a.nodes // 2 * OPERATORS // 2
    return f"--seats {a.seats} are more than {most}, half of the dataset's holders" if a.seats > most else None


def make_dataset(folder: Path, files: int, size: int, seed: int) -> None:
    """Files that share nothing, so that each is fetched where it is needed."""
    chance = random.Random(seed)
    folder.mkdir()
    for number in range(files):
        (folder / f"{number:05}.bin").write_bytes(chance.randbytes(size))


def build_program(work: Path) -> Path:
    """The module."""
    (work / "read.c").write_text(PROGRAM)
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        "wasm32-wasi",
        "-O2",
        "-s",
        "read.c",
        "-o",
        "read.wasm",
    ]
    subprocess.run(command, cwd=work, check=True)
    return work / "read.wasm"


def command_node(node: DevnetNode, *words: str) -> dict[str, Any]:
    """What a command of the node's operator prints."""
    command = [sys.executable, "-m", "quorate_node.cli.main", *words, "--home", str(node.home), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def hold(bench: Bench, devnet: Devnet, root: Cid, url: str) -> None:
    """Half of the nodes fetch the dataset and join its class; until it can be drawn from."""
    holders = devnet.nodes[: bench.args.nodes // 2]
    words = ["class", "create", "quorate-wasm-1", f"dataset={root}", "--unit", "0.05ether"]
    command_node(holders[0], *words)
    for node in holders:
        command_node(node, "dataset", "join", str(root), "--provider", url)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        info = devnet.gateway.class_info(DATASET_CLASS)
        if info.table and len(devnet.gateway.table(DATASET_CLASS, info.table).members) == OPERATORS * len(holders):
            return
        if time.monotonic() > deadline:
            raise SystemExit("the dataset's class has no table to draw from")
        time.sleep(0.5)


def read_received(node: DevnetNode) -> int:
    """Bytes that a process has received from providers since it runs."""
    page = httpx.get(f"{node.url}/metrics", trust_env=False, timeout=60.0).text
    [line] = [line for line in page.splitlines() if line.startswith("quorate_received_bytes ")]
    return int(float(line.split()[1]))


def record_executions(bench: Bench, node: DevnetNode, case: str, job: JobRecord) -> None:
    """A row for each bundle that a process executed: operators of one process share that."""
    seen = set()
    for line in node.running.log.read_text().splitlines():
        entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("event") == "executed" and entry["job"] == job.job_id.hex() and entry["vote"] not in seen:
            seen.add(entry["vote"])
            bench.record(
                "executions", {"case": case, "node": node.index, "vote": entry["vote"], "tasks": entry["tasks"]}
            )


def run_case(bench: Bench, work: Path, module: Path, locality: Locality) -> None:
    """One network, one job; rows of what its processes executed and received."""
    a, case = bench.args, locality.value
    options = DevnetOptions(home=work / case / "devnet", nodes=a.nodes, operators_per_node=OPERATORS, params=PARAMS)
    with Devnet(options, bench.say) as devnet, QuorateClient.open(devnet.make_config(work / case / "client")) as client:
        prepared = client.prepare(
            str(module), str(work / "dataset"), limits=Limits(fuel=FUEL), partition=Partition("*.bin")
        )
        root = Cid.parse(str(prepared.spec.input))
        with client.serving() as url:
            hold(bench, devnet, root, url)
            before = {node.index: read_received(node) for node in devnet.nodes}
            began = time.perf_counter()
            job = client.submit(prepared, OrderWishes(seats=a.seats, locality=locality), providers=[url])
            step = client.wait(job, timeout_s=PATIENCE_S)
            seconds = time.perf_counter() - began
        if step.stage != JobStage.ACCEPTED:
            raise SystemExit(f"the job ended as {step.stage.value}: {step.detail}")
        bench.record(
            "jobs", {"case": case, "class": job.order.class_id, "tasks": job.order.task_count, "seconds": seconds}
        )
        for node in devnet.nodes:
            bench.record(
                "received", {"case": case, "node": node.index, "bytes": read_received(node) - before[node.index]}
            )
            record_executions(bench, node, case, job)


def compute_case(bench: Bench, case: str) -> dict[str, Any]:
    """Figures of one case, from rows alone."""
    [job] = [row for row in bench.rows("jobs") if row["case"] == case]
    executed = sum(row["tasks"] for row in bench.rows("executions") if row["case"] == case)
    read, moved = executed * bench.args.size, sum(row["bytes"] for row in bench.rows("received") if row["case"] == case)
    return {
        "class": job["class"],
        "bytes_read": read,
        "bytes_moved": moved,
        "local_share": round(max(0.0, 1 - moved / read), 4),
        "seconds": round(job["seconds"], 2),
    }


def main() -> None:
    """Run it."""
    bench = Bench("locality", __doc__ or "", ARGUMENTS, find_problem)
    work = Path(tempfile.mkdtemp(prefix="quorate-bench-"))
    try:
        make_dataset(work / "dataset", bench.args.files, bench.args.size, bench.args.seed)
        module = build_program(work)
        for locality in (Locality.REQUIRE, Locality.IGNORE):
            run_case(bench, work, module, locality)
    except QuorateError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    finally:
        shutil.rmtree(work)
    found, without = (compute_case(bench, each.value) for each in (Locality.REQUIRE, Locality.IGNORE))
    bench.finish(
        {
            "dataset_bytes": bench.args.files * bench.args.size,
            "local_share": found["local_share"],
            "bytes_moved": found["bytes_moved"],
            "local_share_without": without["local_share"],
            "bytes_moved_without": without["bytes_moved"],
            "with": found,
            "without": without,
        }
    )


if __name__ == "__main__":
    main()
