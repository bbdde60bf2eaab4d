"""A network on three hosts that is split and healed in every phase of a job: what came of it, as one JSON object.

Run it in a network of its own: `unshare --net python -m tests.faults.partitions FOLDER SCENE...`. In each scene hosts
are cut off as soon as a phase begins, and healed shortly before that phase's deadline. A scene of which the premise did
not hold (nobody there was drawn, or it was done before the cut) is played again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.faults.hosts import OWN_ADDRESS, Hosts
from tests.integration.network import OUR_PATHS, check_the_end, find_events, is_quiet, lying_farm, wait_for
from wasmtime import wat2wasm

from quorate.devnet.devnet import Devnet
from quorate.devnet.options import DevnetOptions, find_node_program
from quorate.jobs import JobRecord
from quorate.orders import OrderWishes
from quorate.progress import JobStage
from quorate.protocol import events
from quorate.protocol.committee import compute_committee
from quorate.protocol.dispute_pages import decode_vote_lists
from quorate.protocol.params import LOCAL
from quorate.protocol.spec import Limits
from quorate.protocol.types import FineKind
from quorate.sdk import QuorateClient

HOSTS, OPERATORS = 3, 4
COLLATOR, VICTIM = 0, 2
LIAR = 5
SEATS = 6
PERIOD, SHORT_PERIOD, LONG_PERIOD = 10, 4, 24
"""Seconds to commit: the long one where the collator is away, who alone knows at first where the content is."""
PARAMS = replace(LOCAL, direct_period=10, settle_period=10)
DEPTH = 8
"""Blocks that a commitment lies deep before it is opened: there is time between them for a cut."""
ATTEMPTS, DRAWS = 8, 12
PATIENCE_S = 180.0
EXIT_CODE, SAYS = 7, "one result"
PROGRAM = f"""
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "{SAYS}")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 8))
    (i32.store (i32.const 4) (i32.const {len(SAYS)}))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))
    (call $exit (i32.const {EXIT_CODE}))))
"""


class MissedPhase(Exception):
    """The premise of a scene did not hold."""


class Play:
    """One network with its requester."""

    def __init__(self, hosts: Hosts, devnet: Devnet, client: QuorateClient, url: str, module: Path) -> None:
        self.hosts, self.devnet, self.client = hosts, devnet, client
        self._url, self._module, self._count = url, module, 0

    def submit(self, period: int = PERIOD) -> JobRecord:
        """A job that nobody else had."""
        self._count += 1
        env = [f"JOB={self._count} of {self.client.config.home}"]
        prepared = self.client.prepare(str(self._module), env=env, limits=Limits(fuel=10**7))
        wishes = OrderWishes(seats=SEATS, commit_period=period)
        job = self.client.submit(prepared, wishes, providers=[self._url])
        # Who waits for a job tells seats that cannot ask its collator where the content is.
        threading.Thread(target=self._wait, args=(job,), daemon=True).start()
        return job

    def _wait(self, job: JobRecord) -> None:
        with QuorateClient.open(self.client.config) as other:
            other.wait(job, timeout_s=PATIENCE_S)

    def await_stage(self, job: JobRecord, stage: JobStage) -> None:
        """Until a job is there, looked at often."""
        for step in self.client.watch(job, timeout_s=PATIENCE_S, poll_s=0.05):
            if step.stage is stage:
                return
        raise MissedPhase(f"the job ended without having been {stage.value}")

    def await_time(self, timestamp: int) -> None:
        """Until the chain's clock says so."""
        while self.devnet.gateway.head().timestamp < timestamp:
            time.sleep(0.05)

    def started_at(self, job: JobRecord) -> int:
        """When the job's round began, by the chain."""
        step = next(each for each in self.client.track(job).history if each.stage is JobStage.ASSIGNED)
        return self.devnet.gateway.block(step.block).timestamp

    def drawn(self, job: JobRecord) -> set[int]:
        """Hosts of the committee of the round that runs."""
        gateway, tracker = self.devnet.gateway, self.client.track(job)
        assert tracker.batch is not None
        table = gateway.table(tracker.batch.class_id, tracker.batch.table)
        domain, (bundle,) = gateway.round_domain(tracker.batch.batch_id), tracker.bundles
        return {host_of(each) for each in compute_committee(domain, bundle, SEATS, table.units, len(table.members))}

    def committed(self, job: JobRecord) -> set[int]:
        """Hosts with a commitment on chain, in the job's bundle."""
        [bundle] = self.client.track(job).bundles.values()
        return {host_of(member) for member in bundle.committed.values()}

    def count_revealed(self, job: JobRecord) -> int:
        """Openings on chain."""
        return len(find_events(self.devnet, events.OpeningsRevealed, job.from_block))

    def finish(self, job: JobRecord, first: int, folder: Path, liars: Sequence[int] = ()) -> dict[str, Any]:
        """Wait for the end of it all, and tell what came of it. Raises AssertionError where a wei is missing."""
        step = self.client.wait(job, timeout_s=PATIENCE_S)
        result = self.client.fetch_result(job, folder).results[0] if step.stage is JobStage.ACCEPTED else None
        stdout = next(iter(folder.rglob("stdout*")), None) if result else None
        check_the_end(self.devnet)
        fines = find_events(self.devnet, events.OperatorFined, first)
        faults = [e.operator_id for e in fines if e.kind in (FineKind.SILENT, FineKind.UNREVEALED, FineKind.ABSENT)]
        abstained = [e.operator_id for e in fines if e.kind == FineKind.ABSTAINED]
        slashed = [e.operator_id for e in find_events(self.devnet, events.OperatorSlashed, first)]
        return {
            "stage": step.stage.value,
            "is_right": result is not None and result.exit_code == EXIT_CODE and read_text(stdout) == SAYS,
            "faults": sorted(set(faults) - set(liars)),
            "abstained": sorted(set(abstained) - set(liars)),
            "slashed": sorted(set(slashed) - set(liars)),
            "liars_slashed": sorted(set(slashed) & set(liars)),
            "rounds": 1 + max(e.round for e in find_events(self.devnet, events.RoundStarted, first)),
        }


def read_text(path: Path | None) -> str:
    return path.read_text() if path is not None and path.is_file() else ""


def host_of(member: int) -> int:
    """Members of the class are in the order of their hosts."""
    return member // OPERATORS


# scenes -------------------------------------------------------------------------------------------------------------


def cut_before_commit(play: Play, victim: int) -> JobRecord:
    """A host is away from before it can commit until shortly before T2, when its lists go to the chain directly."""
    period = LONG_PERIOD if victim == COLLATOR else PERIOD
    job = play.submit(period)
    play.await_stage(job, JobStage.POSTED)
    play.hosts.cut(victim)
    play.await_stage(job, JobStage.ASSIGNED)
    drawn = play.drawn(job)
    play.await_time(play.started_at(job) + period - 1)
    committed = play.committed(job)
    play.hosts.heal(victim)
    if victim not in drawn or victim in committed or not (committed or victim == COLLATOR):
        raise MissedPhase("it had no seat, or had committed, or nobody had")
    return job


def cut_between(play: Play, victim: int) -> JobRecord:
    """A host is away from when all have committed until after T2, before T3."""
    job = play.submit(SHORT_PERIOD)
    play.await_stage(job, JobStage.COMMITTED)
    play.hosts.cut(victim)
    has_seats, revealed = victim in play.committed(job), play.count_revealed(job)
    play.await_time(play.started_at(job) + SHORT_PERIOD + PARAMS.direct_period + 2)
    stage = play.client.track(job).stage
    play.hosts.heal(victim)
    if not has_seats or revealed or stage is not JobStage.COMMITTED:
        raise MissedPhase("it had no seat, or was not needed any more")
    return job


def cut_in_dispute(play: Play, victim: int) -> JobRecord:
    """A host is away from when the class is asked until shortly before the end of the window for its votes."""
    job = draw_the_liar(play)
    play.hosts.cut(victim)
    asked = wait_for(lambda: bool(find_events(play.devnet, events.QuestionAsked, job.from_block)), PATIENCE_S)
    if not asked:
        raise MissedPhase("nobody was asked")
    began = play.devnet.gateway.head().timestamp
    play.await_time(began + PARAMS.vote_commit_period // 2)
    missing = victim not in list_voters(play, job)
    play.hosts.heal(victim)
    if not missing:
        raise MissedPhase("it had voted")
    assert wait_for(lambda: victim in list_voters(play, job), PATIENCE_S), "who came back in time did not vote"
    return job


def draw_the_liar(play: Play) -> JobRecord:
    """A job in dispute: half of the committees are without the liar, whose jobs are soon over."""
    for draw in range(DRAWS):
        job = play.submit()
        try:
            play.await_stage(job, JobStage.DISPUTED)
            return job
        except MissedPhase as reason:
            print(f"draw {draw}: {reason}", file=sys.stderr)
    raise MissedPhase("the liar was never drawn")


def list_voters(play: Play, job: JobRecord) -> set[int]:
    """Hosts with a class vote on chain since the job was ordered."""
    found = find_events(play.devnet, events.VotesCommitted, job.from_block)
    return {host_of(member) for event in found for member, _, _ in decode_vote_lists(event.lists)}


def part_all(play: Play, victim: int) -> JobRecord:
    """No host hears another, all hear the chain: everything goes there directly."""
    play.hosts.part()
    try:
        job = play.submit(LONG_PERIOD)
        play.await_stage(job, JobStage.COMMITTED)
        pages = find_events(play.devnet, events.CommitPage, job.from_block)
        play.client.wait(job, timeout_s=PATIENCE_S)
        if len(pages) < HOSTS - 1 or not play.count_revealed(job):
            raise MissedPhase("hardly anybody was drawn")
    finally:
        play.hosts.part(False)
    return job


def stay_away(play: Play, victim: int) -> JobRecord:
    """A host is away from before it can commit until all deadlines of the round are over."""
    job = play.submit()
    play.await_stage(job, JobStage.POSTED)
    play.hosts.cut(victim)
    play.await_stage(job, JobStage.ASSIGNED)
    if victim not in play.drawn(job):
        play.hosts.heal(victim)
        raise MissedPhase("it had no seat")
    play.await_time(play.started_at(job) + PERIOD + 2 * PARAMS.direct_period + PARAMS.settle_period + 2)
    play.hosts.heal(victim)
    return job


AWAY = "away"
Scene = Callable[[Play, int], JobRecord]
HONEST: dict[str, tuple[Scene, int]] = {
    "before_commit": (cut_before_commit, VICTIM),
    "collator_before_commit": (cut_before_commit, COLLATOR),
    "between": (cut_between, VICTIM),
    "collator_between": (cut_between, COLLATOR),
    "parted": (part_all, VICTIM),
    AWAY: (stay_away, VICTIM),
}
DISPUTED: dict[str, tuple[Scene, int]] = {
    "dispute": (cut_in_dispute, VICTIM),
    "collator_dispute": (cut_in_dispute, COLLATOR),
}


def act(play: Play, name: str, folder: Path, liars: Sequence[int] = ()) -> dict[str, Any]:
    """One scene, again until its premise holds."""
    scene, victim = (HONEST | DISPUTED)[name]
    for attempt in range(ATTEMPTS):
        first = play.devnet.gateway.head().number + 1
        try:
            job = scene(play, victim)
        except MissedPhase as reason:
            print(f"{name}: {reason}; once more", file=sys.stderr)
            assert wait_for(lambda: is_quiet(play.devnet), PATIENCE_S)
            continue
        return play.finish(job, first, folder / f"{name}-{attempt}", liars) | {"attempts": attempt + 1}
    raise SystemExit(f"{name}: its premise never held")


@contextmanager
def play_on(hosts: Hosts, folder: Path, liar: int | None = None) -> Iterator[Play]:
    """A network on the hosts; one operator lies, if told, on the host in the middle."""
    programs: dict[int, Sequence[str]] = {index: [find_node_program()] for index in range(HOSTS)}
    if liar is not None:
        programs[(liar - 1) // OPERATORS] = lying_farm(str(liar), "always_lie")
    options = DevnetOptions(
        home=folder / "net", nodes=HOSTS, operators_per_node=OPERATORS, params=PARAMS, block_time_s=0.5,
        commands={index: hosts.command(index, words) for index, words in programs.items()}, env=OUR_PATHS,
        addresses={index: hosts.address(index) for index in range(HOSTS)}, chain_address=OWN_ADDRESS,
        settings={"reveal_depth": DEPTH},
    )  # fmt: skip
    with Devnet(options) as devnet, QuorateClient.open(devnet.make_config(folder / "client")) as client:
        module = folder / "program.wasm"
        module.write_bytes(bytes(wat2wasm(PROGRAM)))
        client.prepare(str(module))
        with serving(folder / "client" / "store") as url:
            yield Play(hosts, devnet, client, url, module)


@contextmanager
def serving(store: Path) -> Iterator[str]:
    """A gateway where the hosts reach it, with what the requester has."""
    argv = [find_node_program(), "gateway", "--store", str(store), "--listen", f"{OWN_ADDRESS}:0", "--output", "json"]
    running = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert running.stdout is not None
        yield json.loads(running.stdout.readline())["url"]
    finally:
        running.terminate()
        running.wait()


def main() -> None:
    """Play scenes by their names."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    found: dict[str, Any] = {}
    with Hosts(HOSTS) as hosts:
        for known, liar in ((HONEST, None), (DISPUTED, LIAR)):
            wanted = [name for name in names if name in known]
            if not wanted:
                continue
            work = folder / ("honest" if liar is None else "lying")
            work.mkdir()
            with play_on(hosts, work, liar) as play:
                for name in wanted:
                    began = time.monotonic()
                    found[name] = act(play, name, work, () if liar is None else (liar,))
                    print(f"{name}: {found[name]} in {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
