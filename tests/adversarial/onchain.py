"""Liars on a real chain: real nodes, some of them with lying cores; then the model is fed what the chain drew.

Operators run in two processes, so that all liars share one plan: the honest first, then the liars (their share is below
one half). Each job is one bundle of a program that does nothing, told apart by a variable.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.adversarial.batch_play import BatchPlay, Feed, Plan, Row
from tests.adversarial.economy import Economy

from quorate.chain.gateway import ChainGateway
from quorate.devnet.devnet import Devnet
from quorate.devnet.options import CLASS_ID, DevnetOptions
from quorate.jobs import JobRecord
from quorate.orders import OrderWishes
from quorate.protocol import events as ev
from quorate.protocol.commitment import compute_round_domain
from quorate.protocol.encoding import decode_order_skips, decode_outcomes, decode_post_page
from quorate.protocol.errors import UnrecoverableError
from quorate.protocol.params import LOCAL
from quorate.protocol.result import compute_merkle_root
from quorate.protocol.spec import JobSpec, Limits
from quorate.protocol.types import Stage, Terms, Verdict, Vote
from quorate.sdk import QuorateClient
from quorate.storage.memory import MemoryStore
from quorate_node.executor.base import Executed, ExecutionTask
from quorate_node.executor.cache import ModuleCache
from quorate_node.executor.runner import TaskRunner
from quorate_node.executor.wasm import Runtime, build_engine

ROOT = Path(__file__).resolve().parents[2]
# (module (func (export "_start")))
NOTHING = bytes.fromhex("0061736d01000000 010401600000 03020100 070a01065f73746172740000 0a040102000b")
FARMS = 2
COMMIT_PERIOD_S = 10
POLL_S = 0.5
SETTLED = (Verdict.ACCEPTED, Verdict.VOID)


@dataclass(slots=True)
class SeenBatch:
    """What events tell of one batch; bundles by number."""

    batch_id: int
    table: int
    terms: Terms
    post_hash: bytes = b""
    start_time: int = 0
    roots: list[Vote] = field(default_factory=list)
    domains: dict[int, bytes] = field(default_factory=dict)
    rounds: Counter[int] = field(default_factory=Counter)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    votes: dict[int, Vote] = field(default_factory=dict)
    disputed: set[int] = field(default_factory=set)
    was_wrong: set[int] = field(default_factory=set)

    @property
    def is_over(self) -> bool:
        """Whether every bundle was accepted or came to nothing."""
        return bool(self.roots) and all(self.verdicts.get(b) in SETTLED for b in range(len(self.roots)))


class ChainWatcher:
    """Follows batches by their events; `roots` gives what each job's program gives, by the digest of its spec."""

    def __init__(self, gateway: ChainGateway, roots: Mapping[bytes, Vote]) -> None:
        self.gateway, self.roots = gateway, roots
        self.batches: dict[int, SeenBatch] = {}
        self.slashed: set[int] = set()
        self._next = 0

    def poll(self) -> None:
        """Take in what has happened since."""
        head = self.gateway.head().number
        for logged in self.gateway.events(self._next, head):
            self._take(logged.event)
        self._next = head + 1

    def _take(self, event: ev.Event) -> None:
        match event:
            case ev.BatchOpened():
                terms = Terms(event.class_id, event.seats, event.rounds, event.commit_period, event.fee_wei)
                self.batches[event.batch_id] = SeenBatch(event.batch_id, event.table, terms)
            case ev.PagePosted():
                self._take_page(self.batches[event.batch_id], event)
            case ev.RoundStarted():
                self._start_round(self.batches[event.batch_id], event)
            case ev.BundlesSettled():
                self._settle(self.batches[event.batch_id], event)
            case ev.DisputeDecided():
                self._decide(self.batches[event.batch_id], event)
            case ev.OperatorSlashed() | ev.OperatorJailed():
                self.slashed.add(event.operator_id)

    def _take_page(self, batch: SeenBatch, event: ev.PagePosted) -> None:
        skips = decode_order_skips(event.skips)
        orders = [signed.order for group in decode_post_page(event.page, batch.terms) for signed in group]
        batch.roots += [self.roots[order.spec_hash] for i, order in enumerate(orders) if i not in skips]

    def _start_round(self, batch: SeenBatch, event: ev.RoundStarted) -> None:
        # A slot is used again only when its batch is final, which takes longer than a poll.
        batch.post_hash = batch.post_hash or self.gateway.batch(batch.batch_id).post_hash
        deployment = self.gateway.deployment
        batch.domains[event.round] = compute_round_domain(
            deployment.chain_id, deployment.market, batch.batch_id, batch.post_hash, Stage.BUNDLE, event.round,
            event.beacon,
        )  # fmt: skip
        if event.round == 0:
            batch.start_time = self.gateway.head().timestamp

    def _settle(self, batch: SeenBatch, event: ev.BundlesSettled) -> None:
        for row in decode_outcomes(event.outcomes):
            batch.rounds[row.bundle] = max(batch.rounds[row.bundle], event.round + 1)
            self._end(batch, row.bundle, row.verdict, row.vote)

    def _decide(self, batch: SeenBatch, event: ev.DisputeDecided) -> None:
        self._end(batch, event.bundle, Verdict(event.verdict), Vote(event.root))

    def _end(self, batch: SeenBatch, bundle: int, verdict: Verdict, vote: Vote) -> None:
        batch.verdicts[bundle], batch.votes[bundle] = verdict, vote
        if verdict is Verdict.DISPUTED:
            batch.disputed.add(bundle)
        if verdict is Verdict.ACCEPTED and vote != batch.roots[bundle]:
            batch.was_wrong.add(bundle)


class Attack:
    """One plan on a devnet. Rows are those of the model, with `agrees`: whether the model says the same verdict."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan, self.say = plan, say
        self.honest = len(Economy(plan).split.honest)
        self.liars = range(self.honest + 1, plan.nodes + 1)

    def run(self) -> Iterator[Row]:
        """A row of kind "bundle" for each bundle, then one of kind "era" for the whole run."""
        with tempfile.TemporaryDirectory(prefix="quorate-attack-") as name:
            home = Path(name)
            devnet = Devnet(self._options(home / "devnet"), self.say)
            with devnet, QuorateClient.open(devnet.make_config(home / "client")) as client:
                yield from self._run(devnet, client, home)

    def _options(self, home: Path) -> DevnetOptions:
        if self.plan.nodes % FARMS:
            raise SystemExit(f"bench: on a chain --nodes must be a multiple of {FARMS}")
        liars = f"{self.liars.start}-{self.liars.stop - 1}"
        lying = [sys.executable, "-m", "tests.adversarial.farm_node", "--liars", liars]
        command = [*lying, "--strategy", self.plan.strategy]
        return DevnetOptions(
            home=home,
            nodes=FARMS,
            operators_per_node=self.plan.nodes // FARMS,
            commands=dict.fromkeys(range(FARMS), command) if self.liars else {},
            env={"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "client", ROOT / "node")))},
            units=dict(enumerate((*Economy(self.plan).split.honest, *Economy(self.plan).split.liars))),
            params=LOCAL,
            ready_s=180,
        )

    def _run(self, devnet: Devnet, client: QuorateClient, home: Path) -> Iterator[Row]:
        (home / "nothing.wasm").write_bytes(NOTHING)
        known = RootMaker(home / "cache")
        watcher = ChainWatcher(devnet.gateway, known.roots)
        first = self._stakes(devnet)
        wishes = OrderWishes(seats=self.plan.seats, rounds=self.plan.rounds, commit_period=COMMIT_PERIOD_S)
        jobs: list[JobRecord] = []
        with client.serving() as url:
            for number in range(self.plan.bundles):
                prepared = client.prepare(str(home / "nothing.wasm"), env=[f"JOB={number}"], limits=Limits(fuel=10**8))
                known.add(prepared.spec)
                jobs.append(client.submit(prepared, wishes, providers=[url]))
            self._await_end(watcher, len(jobs))
        yield from self._compare(devnet, watcher)
        yield self._describe(devnet, watcher, first, len(jobs))

    def _await_end(self, watcher: ChainWatcher, jobs: int) -> None:
        rounds = 2 * (self.plan.rounds + 1)
        windows = COMMIT_PERIOD_S + 2 * LOCAL.direct_period + LOCAL.settle_period + 20
        deadline = time.monotonic() + jobs + rounds * windows + 4 * LOCAL.longest_dispute
        told = 0
        while time.monotonic() < deadline:
            watcher.poll()
            batches = list(watcher.batches.values())
            done = sum(batch.verdicts.get(b) in SETTLED for batch in batches for b in range(len(batch.roots)))
            if done > told:
                self.say(f"{done} of {jobs} bundles are decided")
                told = done
            if done == jobs and all(batch.is_over for batch in batches if batch.roots):
                return
            time.sleep(POLL_S)
        raise UnrecoverableError(f"only {told} of {jobs} bundles were decided in time")

    def _stakes(self, devnet: Devnet) -> tuple[int, int]:
        found = [devnet.gateway.operator(i) for i in range(1, self.plan.nodes + 1)]
        held = [operator.stake + operator.unbonding for operator in found]
        return sum(held[: self.honest]), sum(held[self.honest :])

    def _compare(self, devnet: Devnet, watcher: ChainWatcher) -> Iterator[Row]:
        model = Economy(self.plan)
        number = 0
        for batch in sorted(watcher.batches.values(), key=lambda each: each.batch_id):
            if not batch.roots:
                continue
            model.people.now = batch.start_time
            feed = Feed(
                number=batch.batch_id,
                first=number,
                count=len(batch.roots),
                table=devnet.gateway.table(CLASS_ID, batch.table),
                domain=partial(find_domain, batch),
                honest=batch.roots.__getitem__,
            )
            play = BatchPlay(self.plan, model.strategy, model.people, feed)
            rows = play_as_far_as_drawn(play)
            for bundle, row in enumerate(rows):
                verdict = batch.verdicts[bundle].name
                is_wrong = verdict == "ACCEPTED" and batch.votes[bundle] != batch.roots[bundle]
                yield {
                    **row,
                    "model_verdict": row["verdict"],
                    "verdict": verdict,
                    "rounds": batch.rounds[bundle],
                    "disputed": bundle in batch.disputed,
                    "wrong_accepted": bundle in batch.was_wrong,
                    "wrong_final": is_wrong,
                    "agrees": row["verdict"] == verdict and row["wrong_accepted"] == (bundle in batch.was_wrong),
                }
            number += len(batch.roots)

    def _describe(self, devnet: Devnet, watcher: ChainWatcher, first: Sequence[int], count: int) -> Row:
        honest, liars = self._stakes(devnet)
        table = devnet.gateway.table(CLASS_ID, 1)
        people = Economy(self.plan).people
        return {
            "kind": "era",
            "era": 0,
            "bundles": count,
            "count": count,
            "share": people.share_of(table),
            "all_theirs": people.compute_capture(table, self.plan.seats),
            "void_share": 0.0,
            "void_first_share": 0.0,
            "honest_stake": honest / first[0],
            "liar_stake": liars / first[1] if first[1] else 0.0,
            "honest_slashed": sum(operator <= self.honest for operator in watcher.slashed),
        }


class RoundNotDrawn(Exception):
    """The model wants a round that the chain has not had: they disagree about the bundle."""


def find_domain(batch: SeenBatch, round_: int) -> bytes:
    """Domain of a round that the chain has drawn."""
    if round_ not in batch.domains:
        raise RoundNotDrawn(f"batch {batch.batch_id} has no round {round_}")
    return batch.domains[round_]


def play_as_far_as_drawn(play: BatchPlay) -> list[Row]:
    """Rows of a batch; where the model goes on without the chain, its last verdict of a bundle is what stands."""
    with contextlib.suppress(RoundNotDrawn):
        play.play()
    return list(play.rows())


class RootMaker:
    """What jobs of the benchmark give, by the digest of their spec: executed once here, as an honest node does."""

    def __init__(self, cache: Path) -> None:
        engine, self._store = build_engine(), MemoryStore()
        self._store.add_bytes(NOTHING)
        cache.mkdir(parents=True)
        self._runner = TaskRunner(self._store, ModuleCache(engine, cache, b"s" * 32), Runtime(engine))
        self.roots: dict[bytes, Vote] = {}

    def add(self, spec: JobSpec) -> None:
        """Execute a job."""
        outcome = self._runner.run(ExecutionTask(spec, 0), 60)
        if not isinstance(outcome, Executed):
            raise UnrecoverableError(f"the program that does nothing failed: {outcome}")
        self.roots[spec.digest] = Vote(compute_merkle_root([outcome.result.leaf]))
