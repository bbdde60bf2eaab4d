"""Walking all steps at which a node may die: armed a few at a time, while jobs go on and whoever died is started again.

A node comes back before its deadline whatever this machine does beside: chain time stands still while one is down. With
`is_late` a node that died with a vote on the chain is away until no commitment counts any more, and only its opening
can save it.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.steps import ARMED, DIED, SEEN, SIGNED, TOKENS
from tests.integration.network import OUR_PATHS, PATIENCE_S, Chain, Requester, find_events

from quorate.devnet.devnet import Devnet, NodeFailed
from quorate.devnet.options import DevnetOptions
from quorate.jobs import JobRecord
from quorate.progress import JobProgress, JobStage
from quorate.protocol import encoding, events
from quorate.protocol.errors import RecoverableError
from quorate.protocol.job import BatchStatus
from quorate.protocol.types import FineKind
from quorate.watching import StillWaiting
from quorate_node.journal import Journal

MOST_DOWN = 3
JOBS_AT_ONCE = 3
BLOCK_S = 1


def make_options(home: Path, nodes: int, **more: Any) -> DevnetOptions:
    """A devnet all of whose nodes can die; `commands` are those of others."""
    steps = home / "steps"
    command = [sys.executable, "-m", "tests.faults.dying_node", str(steps)]
    commands = dict.fromkeys(range(nodes), command) | more.pop("commands", {})
    collators = frozenset(range(min(3, nodes)))
    return DevnetOptions(
        home=home / "net", nodes=nodes, collators=collators, commands=commands, env=OUR_PATHS, block_time_s=BLOCK_S,
        **more,
    )  # fmt: skip


def make_folder(home: Path) -> Path:
    """Where nodes look for what is armed."""
    for name in (ARMED, DIED, TOKENS):
        (home / "steps" / name).mkdir(parents=True)
    (home / "steps" / SEEN).touch()
    return home / "steps"


@dataclass(slots=True)
class Findings:
    """What must not be: each list names what was found."""

    unreached: list[str] = field(default_factory=list)
    double_commits: list[str] = field(default_factory=list)
    unjournalled: list[str] = field(default_factory=list)
    lost_reveals: list[str] = field(default_factory=list)
    punished: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)

    def list(self) -> dict[str, list[str]]:
        """Those that there are."""
        return {name: found for name in Findings.__slots__ if (found := getattr(self, name))}


class Walk:
    """One walk over a devnet; `people` order jobs of `period_s` as long as steps are left."""

    def __init__(self, devnet: Devnet, people: Requester, folder: Path, period_s: int = 30) -> None:
        self._devnet, self._people, self._folder, self._period_s = devnet, people, folder, period_s
        self._chain, self._first = Chain(devnet), devnet.gateway.head().number + 1
        self._order = threading.Lock()
        self.deaths: list[str] = []
        self.jobs = 0
        self._ended: list[str] = []

    def collect(self, jobs: int = 2) -> list[str]:
        """Steps that nodes pass while a few jobs are done."""
        for _ in range(jobs):
            self._run_job()
        return self.seen()

    def seen(self) -> list[str]:
        """Steps that any node has passed so far."""
        return sorted(set((self._folder / SEEN).read_text().split()))

    def walk(self, steps: Sequence[str], timeout_s: float, *, is_late: bool = False) -> None:
        """Have a node die at each of the steps."""
        for step in steps:
            (self._folder / ARMED / step).touch()
        for number in range(1 if is_late else MOST_DOWN):
            (self._folder / TOKENS / f"token-{number}-{len(self.deaths)}").touch()
        deadline = time.monotonic() + timeout_s
        with ThreadPoolExecutor(JOBS_AT_ONCE) as threads:
            running: list[Future[None]] = []
            while any((self._folder / ARMED).iterdir()) and time.monotonic() < deadline:
                running = _drop_ended(running)
                if len(running) < JOBS_AT_ONCE:
                    running.append(threads.submit(self._run_job))
                self._revive(is_late)
                time.sleep(0.05)
            for armed in [*(self._folder / ARMED).iterdir(), *(self._folder / TOKENS).iterdir()]:
                armed.unlink(missing_ok=True)
            while running := _drop_ended(running):
                self._revive(is_late)
                time.sleep(0.05)
        self._revive(is_late)

    def _run_job(self) -> None:
        with self._order:
            try:
                job = self._people.submit(commit_period=self._period_s)
            except RecoverableError:  # collators are down
                time.sleep(0.5)
                return
            self.jobs += 1
        last = self._wait(job)
        if last.stage is not JobStage.ACCEPTED:
            self._ended.append(f"{last.stage.value}: {last.detail}")

    def _wait(self, job: JobRecord) -> JobProgress:
        """Its end. Patience is counted in the chain's seconds, for its clock stops whenever a node is down."""
        until = self._chain.head().timestamp + 2 * PATIENCE_S
        while True:
            try:
                return self._people.client.wait(job, timeout_s=PATIENCE_S)
            except StillWaiting:
                if self._chain.head().timestamp > until:
                    raise

    def _revive(self, is_late: bool) -> None:
        """Start again whoever has died; no time passes until it is back."""
        down = [node for node in self._devnet.nodes if node.running.exit_reason() is not None]
        if not down:
            return
        if is_late:
            for node in down:
                self._let_pass(node.operator_id)
        with self._chain.stopped_clock(BLOCK_S):
            for node in down:
                self.deaths.append(f"node {node.index} with code {node.running.popen.returncode}")
                try:
                    self._devnet.restart_node(node.index)
                except NodeFailed:  # it may have died at its next step before anybody saw that it was ready
                    if self._devnet.nodes[node.index].running.popen.returncode != -signal.SIGKILL:
                        raise
                (self._folder / TOKENS / f"token-again-{len(self.deaths)}").touch()

    def _let_pass(self, operator_id: int) -> None:
        """Let chain time pass until votes of an operator that stand can be opened alone, and no more be given."""
        gateway, params = self._devnet.gateway, self._devnet.options.params
        for batch_id in find_committed(self._devnet, operator_id, self._first):
            info = gateway.batch(batch_id)
            if info.status is BatchStatus.ASSIGNED:
                end = info.start_time + self._period_s + params.direct_period
                while gateway.head().timestamp < end and gateway.batch(batch_id).status is BatchStatus.ASSIGNED:
                    time.sleep(0.1)

    # judging ------------------------------------------------------------------------------------------------------

    def judge(self, steps: Sequence[str], honest: Sequence[int]) -> Findings:
        """Look at everything that the nodes have left: on the chain, in their journals, and in what they signed."""
        died = {path.name.rpartition("@")[0] for path in (self._folder / DIED).iterdir()}
        found = Findings(unreached=sorted(set(steps) - died), jobs=list(self._ended))
        for node in self._devnet.nodes:
            path = node.home / SIGNED
            rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
            found.double_commits += find_double(rows)
            found.unjournalled += find_unjournalled(node.home / "journal", rows)
        for each in find_events(self._devnet, events.OperatorFined, self._first):
            if each.operator_id in honest:
                name = FineKind(each.kind).name
                (found.lost_reveals if name == "UNREVEALED" else found.punished).append(f"{each.operator_id} {name}")
        for slash in find_events(self._devnet, events.OperatorSlashed, self._first):
            if slash.operator_id in honest:
                found.punished.append(f"{slash.operator_id} slashed")
        return found


def _drop_ended(running: Sequence[Future[None]]) -> list[Future[None]]:
    """Those that still run. Raises what one of them has raised."""
    for each in running:
        if each.done():
            each.result()
    return [each for each in running if not each.done()]


def find_committed(devnet: Devnet, operator_id: int, first: int) -> list[int]:
    """Open batches in which commitments of an operator are on the chain."""
    opened = {each.batch_id: each for each in find_events(devnet, events.BatchOpened, first)}
    for settled in find_events(devnet, events.BatchSettled, first):
        opened.pop(settled.batch_id, None)
    found = set()
    for page in find_events(devnet, events.CommitPage, first):
        if (batch := opened.get(page.batch_id)) is not None:
            members = devnet.gateway.table(batch.class_id, batch.table).members
            rows = {each.member for each in encoding.decode_commit_lists(page.lists)}
            if operator_id in {members[row].operator_id for row in rows}:
                found.add(page.batch_id)
    return sorted(found)


def find_double(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Seats for which two different commitments were signed, and lists that were signed once more in other company."""
    commitments: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    lists: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for row in rows:
        whole = json.dumps(row["secrets"])
        for bundle, seat, commitment in row["secrets"]:
            key = (row["operator"], row["domain"], bundle, seat)
            commitments[key].add(commitment)
            lists[key].add(whole)
    twice = [f"two commitments of {key}" for key, values in commitments.items() if len(values) > 1]
    return twice + [f"two lists with {key}" for key, values in lists.items() if len(values) > 1]


def find_unjournalled(path: Path, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Commitments that were signed and are not in the journal. The journal's node must not run."""
    known = {s.commitment.hex() for group in read_journal(path) for s in group.secrets}
    signed = {commitment for row in rows for _, _, commitment in row["secrets"]}
    return sorted(f"{path.parent.name}: {commitment}" for commitment in signed - known)


def read_journal(path: Path) -> Sequence[Any]:
    """Groups in a copy of a journal: its node may hold it."""
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    journal = Journal(copy)
    journal.close()
    copy.unlink()
    return journal.groups
