"""Thousands of jobs while nodes are killed, stand still and lose their messages: do all come out right, and all money?

Real nodes, each a process of its own with one operator, on a real chain; between them a proxy that drops and delays.
Requesters are processes, too. A job has succeeded when its first order was accepted and its result fetched; it is wrong
when that is not what programs say that share no code with the nodes (tests/bench/_judge.py). `retries` are orders that
were handed over again, to another collator, with the same nonce; `resubmitted` are jobs that were ordered anew, which
do not count as succeeded. `wei_unaccounted` compares what both contracts hold with what they owe to everybody, and with
what was ever put in.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any

from _bench import ROOT, Bench, whole
from _mixed import build
from tests.faults.chaos import Chaos, Schedule
from tests.faults.proxy import FaultProxy
from tests.integration.network import OUR_PATHS, is_quiet

from quorate.chain import calls
from quorate.chain.account import SigningAccount
from quorate.chain.types import to_hex
from quorate.devnet.devnet import Devnet
from quorate.devnet.enroll import create_wallet, set_balances
from quorate.devnet.options import DEPLOYMENT_FILE, KEYSTORE_FILE, PASSPHRASE_FILE, DevnetOptions
from quorate.devnet.ports import pick_ports
from quorate.protocol import events
from quorate.protocol.params import ETHER, LOCAL

PICTURE = ROOT / "out" / "reliability.png"
REQUESTERS = 3
DEPOSIT_WEI = 100 * ETHER
QUIET_S = 300.0
PLANTS = ("lie", "skew")
CHAOS = Schedule()
PARAMS = replace(LOCAL, direct_period=20, settle_period=20)
"""As the devnet's, with windows, a third of those of `production`, in which a process that died can be back."""


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__trunc__() - 1)] if ordered else 0.0


def plan_devnet(bench: Bench, work: Path, proxy: FaultProxy) -> DevnetOptions:
    """Nodes behind the proxy; planted liars are all of them."""
    a = bench.args
    ports = pick_ports(2 * a.nodes)
    fronts = {i: proxy.front(f"node-{i}", ports[i], ports[a.nodes + i]) for i in range(a.nodes)}
    liar = [sys.executable, "-m", "tests.faults.wrong_node"]
    liars = range(a.nodes) if "lie" in a.plant else ()
    return DevnetOptions(
        home=work / "devnet", nodes=a.nodes, params=PARAMS, block_time_s=a.block_time,
        collators=frozenset(range(a.collators)),
        ports=tuple(ports[: a.nodes]), fronts=fronts, commands=dict.fromkeys(liars, liar), env=OUR_PATHS,
    )  # fmt: skip


class Requesters:
    """Processes that order jobs, each from a wallet and a home of its own."""

    def __init__(self, bench: Bench, devnet: Devnet, work: Path) -> None:
        a = bench.args
        self.accounts: list[SigningAccount] = []
        self.files: list[Path] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._began = time.monotonic()
        for index in range(REQUESTERS):
            home = work / f"requester-{index}"
            account = create_wallet(home)
            self.accounts.append(account)
            set_balances(devnet.gateway.rpc, [account], 2 * DEPOSIT_WEI)
            devnet.gateway.wait(devnet.gateway.send(account, calls.deposit(), value=DEPOSIT_WEI))
            config = devnet.make_config(home)
            urls = devnet.collator_urls
            shift = index % len(urls)
            (home / "config.json").write_text(
                json.dumps(
                    {
                        "rpc_url": config.rpc_url, "deployment": str(devnet.options.home / DEPLOYMENT_FILE),
                        "keystore": KEYSTORE_FILE, "passphrase_file": PASSPHRASE_FILE,
                        "collators": [*urls[shift:], *urls[:shift]],
                    }
                )
            )  # fmt: skip
            rows = bench.path(f"jobs-{index}")
            plan = {
                "folder": str(work / "programs"), "seed": a.seed, "rows": str(rows), "serve": index % 2 == 0,
                "seats": a.seats, "period_s": a.period, "spacing_s": REQUESTERS * a.seconds / a.jobs,
                "jobs": list(range(index, a.jobs, REQUESTERS)),
            }  # fmt: skip
            (home / "plan.json").write_text(json.dumps(plan))
            self.files.append(rows)

    def start(self, work: Path) -> None:
        """Let them begin."""
        script = str(Path(__file__).with_name("_requester.py"))
        for index in range(REQUESTERS):
            home = work / f"requester-{index}"
            command = [sys.executable, script, str(home), str(home / "plan.json")]
            with (home / "log").open("wb") as log:
                self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        self._began = time.monotonic()

    def count(self) -> int:
        """Jobs that have come to their end."""
        return sum(path.read_bytes().count(b"\n") for path in self.files if path.exists())

    def wait(self, bench: Bench, least_s: float, most_s: float) -> float:
        """Until all are done, for `least_s` at least and `most_s` at most; seconds that it took."""
        told = time.monotonic()
        while True:
            time.sleep(1)
            now = time.monotonic()
            codes = [each.poll() for each in self._processes]
            if any(codes):
                raise SystemExit(f"a requester ended with {codes}: look at its log")
            if None not in codes and now >= self._began + least_s:
                return now - self._began
            if now > self._began + most_s:
                bench.say(f"{self.count()} of {bench.args.jobs} jobs have ended after {most_s:g} s: the others failed")
                return now - self._began
            if now > told + 30:
                told = now
                bench.say(f"{now - self._began:.0f} s: {self.count()} jobs")

    def collect(self) -> list[dict[str, Any]]:
        """Rows of all jobs that have ended; their files are gone then."""
        files = [path for path in self.files if path.exists()]
        rows = [json.loads(line) for path in files for line in path.read_text().splitlines()]
        for path in files:
            path.unlink()
        return rows

    def stop(self) -> None:
        """End what still runs."""
        for process in self._processes:
            process.kill()
            process.wait()


def count_money(devnet: Devnet, requesters: Sequence[SigningAccount]) -> dict[str, int]:
    """What both contracts hold, and what they owe to all who ever paid in; in wei."""
    gateway, deployment = devnet.gateway, devnet.gateway.deployment
    members = (member.account for node in devnet.nodes for member in node.operators)
    people = {each.address for each in (devnet.requester, *requesters, *members)}
    accounts = [gateway.account(address) for address in people]
    operators = [gateway.operator(id_) for id_ in range(1, gateway.operator_count() + 1)]
    ledgers = gateway.ledgers()
    return {
        "market": gateway.balance(deployment.market),
        "registry": gateway.balance(deployment.registry),
        "free": sum(account.free for account in accounts),
        "escrow": sum(account.escrow for account in accounts),
        "stakes": sum(each.stake + each.unbonding for each in operators),
        "pots": ledgers.pots,
        "class_deposits": ledgers.class_deposits,
        "treasury": ledgers.treasury,
    }


def find_missing(before: dict[str, int], after: dict[str, int]) -> int:
    """Wei that nobody can account for: at the end nothing is under way, so nothing lies in escrow or in pots."""
    owed = sum(after[name] for name in ("stakes", "class_deposits", "treasury"))
    at_market, at_registry = after["market"] - after["free"], after["registry"] - owed
    put_in = before["market"] + before["registry"]
    return abs(at_market) + abs(at_registry) + abs(put_in - after["market"] - after["registry"])


def list_faults(devnet: Devnet) -> dict[str, int]:
    """What the chain has punished, and rounds that had to be begun anew."""
    found: Counter[str] = Counter()
    for logged in devnet.gateway.events(0, devnet.gateway.head().number):
        event = logged.event
        if isinstance(event, events.OperatorFined):
            found[f"fined_{events_kind(event.kind)}"] += 1
        elif isinstance(
            event, events.OperatorSlashed | events.DisputeOpened | events.RoundStarted | events.BatchVoided
        ):
            found[type(event).__name__] += 1
        elif isinstance(event, events.CommitPage):
            found["CommitPage"] += 1
    return dict(found)


def events_kind(kind: int) -> str:
    """Name of a fine."""
    return {0: "absent", 1: "abstained", 2: "silent", 3: "unrevealed"}[int(kind)]


def compute_figures(bench: Bench) -> dict[str, Any]:
    """All figures, from rows alone."""
    jobs, [run] = bench.rows("jobs"), bench.rows("run")
    failed = Counter(row["cause"].partition(":")[0] for row in jobs if row["cause"])
    latencies = [row["latency_s"] for row in jobs if row.get("latency_s") is not None]
    kills = [row["node"] for row in bench.rows("faults") if row["what"] == "kill"]
    proxied = run["proxy"]
    return {
        "jobs": len(jobs),
        "succeeded": sum(row["cause"] is None and not row["is_wrong"] for row in jobs),
        "wrong": sum(row["is_wrong"] for row in jobs),
        "failed": dict(failed),
        "latency_p50_s": round(percentile(latencies, 50), 2),
        "latency_p99_s": round(percentile(latencies, 99), 2),
        "retries": sum(row.get("sends", 1) - row.get("orders", 1) for row in jobs),
        "resubmitted": sum(row.get("orders", 1) > 1 for row in jobs),
        "wei_unaccounted": find_missing(*[bench.rows("money")[at] for at in (0, -1)]),
        "jobs_s": round(len(jobs) / run["seconds"], 2),
        "seconds": round(run["seconds"], 1),
        "kills": len(kills),
        "least_kills_of_a_node": min((kills.count(node) for node in range(run["nodes"])), default=0),
        "collator_kills": run["collator_kills"],
        "faults_by_kind": {
            "killed": len(kills),
            "stalled": sum(row["what"] == "stall" for row in bench.rows("faults")),
            **{name: proxied.get(name, 0) for name in ("dropped", "swallowed", "delayed")},
        },
        "messages": proxied.get("messages", 0),
        "kinds": dict(Counter(row["kind"] for row in jobs)),
        "fresh_rounds": sum(row.get("rounds", 1) - 1 for row in jobs),
        "punished": {name: count for name, count in run["chain"].items() if name.startswith(("fined", "OperatorS"))},
        "batches": run["chain"].get("RoundStarted", 0),
        "disputes": run["chain"].get("DisputeOpened", 0),
    }


def draw(bench: Bench, figures: dict[str, Any], path: Path) -> None:
    """How long jobs took, in a histogram, and the same over the run, with its kills."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in bench.rows("jobs") if row.get("latency_s") is not None]
    began = min((row["began"] for row in rows), default=0.0)
    figure, (top, low) = pyplot.subplots(2, 1, figsize=(9, 7))
    top.hist([row["latency_s"] for row in rows], bins=100, log=True, color="tab:blue")
    for percent, colour in ((50, "tab:green"), (99, "tab:red")):
        top.axvline(figures[f"latency_p{percent}_s"], color=colour, label=f"p{percent}")
    top.set_xlabel("seconds from signature to acceptance")
    top.set_ylabel("jobs")
    top.legend()
    low.plot([row["began"] - began for row in rows], [row["latency_s"] for row in rows], ".", markersize=2)
    for row in bench.rows("faults"):
        if row["what"] == "kill":
            low.axvline(row["at_s"], color="tab:red", alpha=0.2, linewidth=0.8)
    low.set_xlabel("second of the run; red: a node is killed")
    low.set_ylabel("seconds")
    figure.suptitle(f"{figures['succeeded']} of {figures['jobs']} jobs succeeded, {figures['wrong']} wrong")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def measure(bench: Bench, work: Path) -> None:
    """All rows."""
    a = bench.args
    build(work / "programs", a.seed)
    with FaultProxy(a.seed) as proxy, Devnet(plan_devnet(bench, work, proxy), bench.say) as devnet:
        requesters = Requesters(bench, devnet, work)
        bench.record("money", count_money(devnet, requesters.accounts))
        bench.say(f"{a.jobs} jobs in {a.seconds} s or more")
        schedule = replace(CHAOS, kill_every_s=a.kill_every, collator_every_s=a.collator_every)
        try:
            with Chaos(devnet, proxy, schedule, lambda row: bench.record("faults", row), a.seed) as chaos:
                requesters.start(work)
                seconds = requesters.wait(bench, a.seconds, a.seconds * 4 + QUIET_S)
                proxied = proxy.count()
        finally:
            requesters.stop()
        if chaos.failures:
            raise SystemExit(f"a node did not come back: {chaos.failures[0]}")
        devnet_is_quiet(devnet)
        if "skew" in a.plant:
            plant_skew(devnet, requesters.accounts[0])
        bench.record("money", count_money(devnet, requesters.accounts))
        rows = requesters.collect()
        for row in rows:
            bench.record("jobs", row)
        cause = "unfinished: the run was over"
        for number in sorted(set(range(a.jobs)) - {row["job"] for row in rows}):
            bench.record("jobs", {"job": number, "kind": "any", "cause": cause, "is_wrong": False})
        bench.record(
            "run",
            {
                "seconds": seconds, "nodes": a.nodes, "proxy": proxied, "chain": list_faults(devnet),
                "collator_kills": {str(node): count for node, count in sorted(chaos.collator_kills.items())},
            },
        )  # fmt: skip


def devnet_is_quiet(devnet: Devnet) -> None:
    """Wait until nothing is under way. Raises SystemExit."""
    deadline = time.monotonic() + QUIET_S
    while not is_quiet(devnet):
        if time.monotonic() > deadline:
            raise SystemExit(f"batches or disputes are still open {QUIET_S:g} s after the last job")
        time.sleep(1)


def plant_skew(devnet: Devnet, account: SigningAccount) -> None:
    """One wei leaves behind the books' back."""
    devnet.gateway.wait(devnet.gateway.send(account, calls.withdraw_deposit(1)))
    print(f"planted: {to_hex(account.address)} has withdrawn a wei", file=sys.stderr)


ARGUMENTS: dict[str, dict[str, Any]] = {
    "--jobs": {"type": whole(1), "default": 10_000, "help": "jobs (default: 10000)"},
    "--nodes": {"type": whole(2), "default": 10, "help": "nodes, each a process with one operator (default: 10)"},
    "--collators": {"type": whole(1), "default": 3, "help": "how many of them collate (default: 3)"},
    "--seconds": {"type": whole(1), "default": 600, "help": "orders are spread over so long at least (default: 600)"},
    "--seats": {"type": whole(1), "default": 3, "help": "operators that must agree (default: 3)"},
    "--period": {"type": whole(2, 60), "default": 45, "help": "seconds for executions (default: 45)"},
    "--block-time": {"type": float, "default": 1.0, "help": "seconds between blocks (default: 1)"},
    "--kill-every": {"type": whole(1), "default": 10, "help": "seconds between kills of a node (default: 10)"},
    "--collator-every": {"type": whole(1), "default": 60, "help": "seconds between kills of a collator (default: 60)"},
    "--plant": {
        "choices": PLANTS,
        "action": "append",
        "default": [],
        "help": "what has to be noticed: all nodes lie alike; or a wei goes (may be given twice)",
    },
    "--keep": {"type": Path, "default": None, "help": "keep the work folder, with all logs, here"},
}


def find_problem(a: argparse.Namespace) -> str | None:
    """What is wrong with the arguments together."""
    if 2 * a.seats > a.nodes:
        return f"--seats {a.seats} are more than half of --nodes {a.nodes}"
    return f"--collators {a.collators} are more than --nodes {a.nodes}" if a.collators > a.nodes else None


def main() -> None:
    """Run it."""
    bench = Bench("reliability", __doc__ or "", ARGUMENTS, find_problem)
    bench.keep_as(f"{bench.args.jobs}-n{bench.args.nodes}{'-planted' if bench.args.plant else ''}")
    work = bench.args.keep or Path(tempfile.mkdtemp(prefix="quorate-bench-"))
    try:
        measure(bench, work)
    finally:
        if bench.args.keep is None:
            rmtree(work)
    figures = compute_figures(bench)
    draw(bench, figures, PICTURE)
    bench.say(f"picture: {PICTURE.relative_to(ROOT)}; rows: {bench.path('*').relative_to(ROOT)}")
    bench.finish(figures)


if __name__ == "__main__":
    main()
