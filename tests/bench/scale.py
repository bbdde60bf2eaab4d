"""How a network grows: memory, messages and chain reads of each node, with a terabyte of named content for each.

Datasets are real CIDs over files of zeros that nobody made. One that most nodes hold is preferred for jobs over it as
things are; small ones only where the requester assumes that nobody with much stake lies (see the README). The work is
in proportion to the nodes, so that what a node does for it should not grow with their number.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from _bench import Bench, whole
from _manifests import MOST_GIB, PATTERN, Dataset, make_dataset
from _usage import list_family, read_pss_kb, read_usage

from quorate.chain import calls
from quorate.chain.account import SigningAccount
from quorate.devnet.devnet import Devnet
from quorate.devnet.enroll import Member, PlannedCall, send_all, set_balances
from quorate.devnet.options import DevnetOptions
from quorate.devnet.state import DevnetNode
from quorate.jobs import JobRecord
from quorate.orders import OrderWishes
from quorate.placement import Locality
from quorate.progress import JobStage
from quorate.protocol.classes import Membership
from quorate.protocol.errors import QuorateError
from quorate.protocol.params import ETHER, LOCAL
from quorate.protocol.profiles import Description
from quorate.protocol.spec import WASM_PROFILE, Limits, Partition
from quorate.sdk import QuorateClient
from quorate.storage.embedded import EmbeddedStore
from quorate_node.config import change_config
from quorate_node.exchange import measure_content

# (module (func (export "_start")))
NOTHING = bytes.fromhex("0061736d01000000 010401600000 03020100 070a01065f73746172740000 0a040102000b")
FUEL = 10**6
MIDDLE_GIB = 932  # a terabyte
UNITS = {"general": 2, "shared": 20, "small": 4}
SHARE_OF_FIVE = 3  # of five nodes hold the shared dataset
SMALL_OF_TEN = 3  # datasets a node, in tenths
SMALL_FILES = 2
ASSUMED = 0.004
"""Share of all stake that lies, at most, as a requester of a small dataset's class has to assume."""
PARAMS = replace(LOCAL, max_commit_period=240, era_period=600, unbonding_period=20_000)
NODE_MB = 110  # with its worker, what it shares with others divided among them
PATIENCE_S = 900.0
LINE = re.compile(r"^quorate_(\w+?)_total\{(.*)\} (\S+)$")
HEAD = re.compile(r"^quorate_head_block (\S+)$", re.MULTILINE)
COUNTED = ("chain_calls", "chain_answer_bytes", "messages", "peer_requests", "transactions")


@dataclass(frozen=True, slots=True)
class Placed:
    """A dataset, its class, and the operators that hold it, by their indices."""

    dataset: Dataset
    class_id: int
    kind: str
    holders: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of job: over which datasets, and what its requester wishes."""

    name: str
    kind: str
    locality: Locality = Locality.PREFER
    adversary: float = 0.1


CASES = (
    Case("shared", "shared"),
    Case("shared, ignored", "shared", Locality.IGNORE),
    Case("small, assumed", "small", adversary=ASSUMED),
    Case("small", "small"),
)


def list_sizes(text: str) -> tuple[int, ...]:
    """Type of an argument: numbers of nodes, each larger than the one before."""
    parse = whole(2, MOST_GIB - MIDDLE_GIB + 50)
    found = tuple(parse(each) for each in text.split(","))
    if list(found) != sorted(set(found)):
        raise argparse.ArgumentTypeError(f"{text!r} does not grow")
    return found


ARGUMENTS: dict[str, dict[str, Any]] = {
    "--nodes": {"type": whole(4, 140), "default": 100, "help": "nodes at most, each an operator (default: 100)"},
    "--sizes": {"type": list_sizes, "default": None, "help": "all sizes of the network (default: 10,30 and --nodes)"},
    "--operators": {"type": whole(1), "default": None, "help": "a process (default: as few as memory allows)"},
    "--seats": {"type": whole(1), "default": 3, "help": "operators that must agree (default: 3)"},
    "--jobs": {"type": whole(1), "default": 1, "help": "of each kind, for ten nodes (default: 1)"},
    "--block-time": {"type": float, "default": 2.0, "help": "seconds (default: 2)"},
    "--idle": {"type": whole(1), "default": 20, "help": "blocks without work, before it (default: 20)"},
}


def find_problem(a: argparse.Namespace) -> str | None:
    """What is wrong with the arguments together."""
    a.sizes = a.sizes or tuple(sorted({each for each in (10, 30) if each < a.nodes} | {a.nodes}))
    if a.sizes[0] < 4 * a.seats // SHARE_OF_FIVE + 1:
        return f"--seats {a.seats} are too many for {a.sizes[0]} nodes, of which three of five hold a dataset"
    a.operators = a.operators or choose_operators(a.sizes)
    if any(size % a.operators for size in a.sizes):
        return f"--operators {a.operators} do not divide {', '.join(map(str, a.sizes))} nodes evenly"
    return None


# placement ----------------------------------------------------------------------------------------------------------


def place(nodes: int, seats: int, chance: random.Random) -> list[tuple[str, list[int], tuple[int, ...]]]:
    """Kind, sizes of files in GiB, and holders of each dataset; a terabyte a node in all, no file like another."""
    small = max(1, SMALL_OF_TEN * nodes // 10)
    sizes = [MIDDLE_GIB - nodes // 2 + number for number in range(nodes)]
    shared = tuple(each for each in range(nodes) if each % 5 < SHARE_OF_FIVE)
    placed = [("shared", sizes[SMALL_FILES * small :], shared)]
    load = dict.fromkeys(range(nodes), 0)
    for number in range(small):
        files = sizes[SMALL_FILES * number : SMALL_FILES * (number + 1)]
        least = sorted(load, key=lambda each: (load[each], chance.random()))[: 2 * seats]
        load |= {each: load[each] + 1 for each in least}
        placed.append(("small", files, tuple(sorted(least))))
    return placed


def found_classes(devnet: Devnet, placed: Sequence[Placed], members: Sequence[Member]) -> None:
    """A class for each dataset, with its holders, and the first era of each."""
    founder = SigningAccount.create()
    set_balances(devnet.gateway.rpc, [founder], 1000 * ETHER)
    create, join, begin = list[PlannedCall](), list[PlannedCall](), list[PlannedCall]()
    unit, price, capacity = devnet.options.unit_wei, devnet.options.price, devnet.options.capacity
    deposit = devnet.gateway.params().class_deposit
    for each in placed:
        digest, terms = describe(each).digest, (UNITS[each.kind], price, capacity)
        create.append((founder, calls.create_class(digest, unit, price, True), deposit))
        join += [(members[index].account, calls.join(each.class_id, *terms), 0) for index in each.holders]
        rows = [Membership(*terms) for _ in each.holders]
        begin.append((founder, calls.advance_era(each.class_id, rows), 0))
    send_all(devnet.gateway, [*create, *join, *begin])


def describe(placed: Placed) -> Description:
    """What a class is for."""
    return replace(Description.parse(WASM_PROFILE), dataset=str(placed.dataset.root.to_v1()))


def hold(bench: Bench, devnet: Devnet, placed: Sequence[Placed]) -> None:
    """Each node gets what its operators hold, measures it as a node does, and hears of its classes."""
    per = devnet.options.operators_per_node
    for node in devnet.nodes:
        mine = [each for each in placed if any(index // per == node.index for index in each.holders)]
        with closing(EmbeddedStore(node.home / "store")) as store:
            for each in mine:
                store.import_car([each.dataset.car], each.dataset.root)
                store.pin(each.dataset.root)
                found = measure_content(store, each.dataset.root)
                if found != (each.dataset.files, each.dataset.size):
                    raise SystemExit(f"node {node.index} holds {found} of {each.dataset.name}")
        bench.record("held", {
            "size": devnet.options.operators, "node": node.index, "datasets": [each.dataset.name for each in mine],
            "bytes": sum(each.dataset.size for each in mine),
        })  # fmt: skip
        classes, profiles = [each.class_id for each in mine], [str(describe(each)) for each in mine]
        change_config(node.home, classes=[1, *classes], profiles=profiles)


# measuring ----------------------------------------------------------------------------------------------------------


def read_counts(node: DevnetNode) -> dict[str, float]:
    """Counters of a process by name and labels, those that are looked at."""
    page = httpx.get(f"{node.url}/metrics", trust_env=False, timeout=60.0).text
    rows = (match.groups() for line in page.splitlines() if (match := LINE.match(line)))
    found = {f"{name} {labels}": float(value) for name, labels, value in rows if name in COUNTED}
    [head] = HEAD.findall(page)
    return found | {"head": float(head)}


def snap(devnet: Devnet) -> list[dict[str, float]]:
    """The counters of all."""
    return [read_counts(node) for node in devnet.nodes]


def record_phase(bench: Bench, devnet: Devnet, phase: str, before: list[dict[str, float]]) -> None:
    """A row for each process with the counters that have moved, and the blocks that it has seen meanwhile."""
    for node, old, new in zip(devnet.nodes, before, snap(devnet), strict=True):
        moved: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for key, value in new.items():
            name, _, labels = key.partition(" ")
            if name != "head" and value > old.get(key, 0.0):
                moved[name][labels.replace('"', "")] = value - old.get(key, 0.0)
        row = {"size": devnet.options.operators, "phase": phase, "node": node.index}
        row["blocks"] = new["head"] - old["head"]
        bench.record("counts", row | moved)


def record_memory(bench: Bench, devnet: Devnet) -> None:
    """A row for each process with its children."""
    for node in devnet.nodes:
        family = list_family(node.running.id.pid)
        used = [read_usage(pid) for pid in family]
        bench.record("memory", {
            "size": devnet.options.operators, "node": node.index, "operators": len(node.operators),
            "processes": len(family), "rss_mb": sum(each.rss_kb for each in used) / 1024,
            "pss_mb": sum(map(read_pss_kb, family)) / 1024, "cpu_s": sum(each.cpu_s for each in used),
        })  # fmt: skip


def wait_blocks(devnet: Devnet, count: int) -> None:
    """Until so many more were mined."""
    last = devnet.gateway.head().number + count
    while devnet.gateway.head().number < last:
        time.sleep(0.2)


# work ---------------------------------------------------------------------------------------------------------------


def list_jobs(bench: Bench, size: int, placed: Sequence[Placed]) -> Iterator[tuple[Case, Placed]]:
    """What is to be run: as many jobs of each kind for ten nodes as told, over the datasets in turn."""
    for case in CASES:
        among = [each for each in placed if each.kind == case.kind]
        for number in range(bench.args.jobs * -(-size // 10)):
            yield case, among[number % len(among)]


def run_jobs(bench: Bench, client: QuorateClient, module: Path, placed: Sequence[Placed], size: int) -> None:
    """All jobs at once, and a row for each seat that was drawn."""
    submitted: list[tuple[Case, Placed, JobRecord]] = []
    with client.serving() as url:
        for case, on in list_jobs(bench, size, placed):
            prepared = client.prepare(
                str(module), str(on.dataset.root), env=[f"JOB={size} {len(submitted)}"], limits=Limits(fuel=FUEL),
                partition=Partition(PATTERN),
            )  # fmt: skip
            wishes = OrderWishes(
                seats=bench.args.seats, locality=case.locality, adversary=case.adversary, commit_period=120,
                input_bytes=1 << 20,
            )  # fmt: skip
            submitted.append((case, on, client.submit(prepared, wishes, providers=[url])))
        for case, on, job in submitted:
            step = client.wait(job, timeout_s=PATIENCE_S)
            if step.stage != JobStage.ACCEPTED:
                raise SystemExit(f"a job of {case.name} ended as {step.stage.value}: {step.detail}")
            seats = [seat["operator"] for seat in client.describe(job)["seats"]]
            held = {index + 1 for index in on.holders}
            bench.record("jobs", {
                "size": size, "case": case.name, "dataset": on.dataset.name, "class": job.order.class_id,
                "seats": seats, "on_holders": sum(each in held for each in seats), "holders": len(held),
                "job": job.job_id.hex(),
            })  # fmt: skip


def choose_operators(sizes: Sequence[int]) -> int:
    """How many a process has, in all networks alike: one, where memory allows."""
    [line] = [each for each in Path("/proc/meminfo").read_text().splitlines() if each.startswith("MemAvailable")]
    most = max(1, int(line.split()[1]) // 1024 * 2 // 3 // NODE_MB)
    fitting = (per for per in range(1, sizes[0] + 1) if not any(size % per for size in sizes))
    return next(per for per in fitting if sizes[-1] <= most * per or per == sizes[0])


def run_size(bench: Bench, work: Path, size: int) -> None:
    """A network of one size, from nothing to all figures' rows."""
    a, processes = bench.args, size // bench.args.operators
    plan = place(size, a.seats, random.Random(a.seed))
    placed = [
        Placed(make_dataset(f"{kind}-{number}", files), 2 + number, kind, holders)
        for number, (kind, files, holders) in enumerate(plan)
    ]
    for each in placed:
        row = {"size": size, "name": each.dataset.name, "cid": str(each.dataset.root), "bytes": each.dataset.size}
        bench.record("datasets", row | {"files": each.dataset.files, "holders": list(each.holders)})
    options = DevnetOptions(
        home=work / f"net-{size}", nodes=processes, operators_per_node=size // processes, params=PARAMS,
        block_time_s=a.block_time, default_units=UNITS["general"], spare_stake_wei=20 * ETHER, ready_s=600.0,
        collators=frozenset(range(min(processes, max(1, size // 25)))), deposit_wei=1000 * ETHER,
    )  # fmt: skip
    bench.say(f"{size} nodes in {processes} processes, {sum(each.dataset.size for each in placed) / 1e12:.1f} TB named")
    with (
        Devnet(options, bench.say) as devnet,
        QuorateClient.open(devnet.make_config(work / f"client-{size}")) as client,
    ):
        for each in placed:
            client.store.import_car([each.dataset.car], each.dataset.root)
        found_classes(devnet, placed, [member for node in devnet.nodes for member in node.operators])
        hold(bench, devnet, placed)
        module = work / "nothing.wasm"
        module.write_bytes(NOTHING)
        wait_blocks(devnet, 3)  # nodes have heard of their classes
        before = snap(devnet)
        wait_blocks(devnet, a.idle)
        record_phase(bench, devnet, "idle", before)
        before = snap(devnet)
        run_jobs(bench, client, module, placed, size)
        record_phase(bench, devnet, "work", before)
        record_memory(bench, devnet)
        bench.record("sizes", {"size": size, "processes": processes, "classes": 1 + len(placed)})


# figures ------------------------------------------------------------------------------------------------------------


def compute_size(bench: Bench, size: int) -> dict[str, Any]:
    """Figures of one size, from rows alone: what a process of that network has, does and asks."""
    [network] = [row for row in bench.rows("sizes") if row["size"] == size]
    memory = [row for row in bench.rows("memory") if row["size"] == size]
    counts = [row for row in bench.rows("counts") if row["size"] == size]
    processes, found = network["processes"], {"processes": network["processes"], "classes": network["classes"]}

    def total(phase: str, name: str, label: str = "") -> float:
        rows = [row.get(name, {}) for row in counts if row["phase"] == phase]
        return sum(value for row in rows for key, value in row.items() if label in key)

    blocks = {phase: sum(row["blocks"] for row in counts if row["phase"] == phase) for phase in ("idle", "work")}
    resting = total("idle", "chain_calls") / blocks["idle"]
    return found | {
        "named_bytes": sum(row["bytes"] for row in bench.rows("datasets") if row["size"] == size),
        "held_bytes": sum(row["bytes"] for row in bench.rows("held") if row["size"] == size),
        "memory_mb": round(sum(row["pss_mb"] for row in memory) / processes, 1),
        "memory_mb_operator": round(sum(row["pss_mb"] for row in memory) / size, 1),
        "rss_mb": round(sum(row["rss_mb"] for row in memory) / processes, 1),
        "reads_block_idle": round(resting, 2),
        "reads_work": round(max(0.0, total("work", "chain_calls") - resting * blocks["work"]) / processes, 1),
        "events_kb_work": round(total("work", "chain_answer_bytes", "eth_getLogs") / processes / 1000, 1),
        "messages_idle": round(total("idle", "peer_requests") / processes, 2),
        "messages_work": round(total("work", "messages") / processes, 1),
        "requests_work": round(total("work", "peer_requests") / processes, 1),
        "transactions_work": round(total("work", "transactions") / processes, 1),
        "on_holders": {case.name: compute_share(bench, size, case) for case in CASES},
    }


def compute_share(bench: Bench, size: int, case: Case) -> dict[str, Any]:
    """The share of seats that holders of the data have, and what it is where everybody is drawn."""
    rows = [row for row in bench.rows("jobs") if row["size"] == size and row["case"] == case.name]
    seats = sum(len(row["seats"]) for row in rows)
    by_lot = sum(len(row["seats"]) * row["holders"] / size for row in rows) / seats
    share = sum(row["on_holders"] for row in rows) / seats
    return {"share": round(share, 4), "by_lot": round(by_lot, 4), "seats": seats, "jobs": len(rows)}


def compute_growth(first: dict[str, Any], last: dict[str, Any], factor: float) -> dict[str, float]:
    """Exponents: 0, it is the same however many nodes there are; 1, it grows as their number does. None of one size."""
    if factor == 1:
        return {}
    names = [name for name, value in first.items() if isinstance(value, float) and value > 0 and last[name] > 0]
    return {name: round(math.log(last[name] / first[name]) / math.log(factor), 2) for name in names}


def main() -> None:
    """Run it."""
    bench = Bench("scale", __doc__ or "", ARGUMENTS, find_problem)
    bench.keep_as(str(bench.args.nodes))
    work = Path(tempfile.mkdtemp(prefix="quorate-bench-"))
    try:
        for size in bench.args.sizes:
            run_size(bench, work, size)
    except QuorateError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    finally:
        shutil.rmtree(work)
    found = {str(size): compute_size(bench, size) for size in bench.args.sizes}
    first, last = found[str(bench.args.sizes[0])], found[str(bench.args.sizes[-1])]
    growth = compute_growth(first, last, bench.args.sizes[-1] / bench.args.sizes[0])
    bench.finish({**last, "growth": growth, "sizes": found})


if __name__ == "__main__":
    main()
