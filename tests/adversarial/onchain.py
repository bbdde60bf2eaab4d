"""Liars on a real chain: real nodes, some of them with lying cores; then the model is fed what the chain drew.

Operators run in two processes: the honest first, then the liars, then those that take the place of liars who lost
their stake. Jobs come in waves, as in the model: a wave is posted under one table, and the next one when all of it, its
disputes, extensions and audits included, is over. Between two waves nobody has anything to do, and the chain's clock is
set forward to the next era.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.adversarial.auditing import audit_batch
from tests.adversarial.batch_play import BatchPlay, Feed, Plan, Row
from tests.adversarial.chainwatch import SETTLED, AttackWatcher, SeenBatch
from tests.adversarial.economy import Economy
from tests.adversarial.ordering import Orderer
from tests.adversarial.reserve import Liars

from quorate.devnet.devnet import Devnet
from quorate.devnet.options import CLASS_ID, DevnetOptions
from quorate.orders import OrderWishes
from quorate.protocol.errors import UnrecoverableError
from quorate.protocol.params import LOCAL
from quorate.sdk import QuorateClient

ROOT = Path(__file__).resolve().parents[2]
FARMS = 2
WAVE = 100
GROUP = 15
COMMIT_PERIOD_S = 20
POLL_S = 0.5
STUCK_S = 600.0
EXTEND_S = 55.0
ASK_AGAIN_S = 10.0  # an extension waits for audits, and a collator tries once
ERA_S = 60.0
SCALED = replace(
    LOCAL,
    era_period=7200,
    publish_period=4,
    vote_commit_period=1800,
    vote_reveal_period=600,
    audit_period=COMMIT_PERIOD_S,
    challenge_period=60,
    fault_memory=72_000,
    unbonding_period=86_400,
)
"""Windows end early where everybody has spoken, so that long ones cost nothing: two cores run a hundred operators, who
all vote on every bundle. Eras are longer than a wave takes, so that one table serves it whatever the machine's speed;
between waves the clock is set forward."""
RECKLESS = ("always_lie", "disjoint_groups")
"""Strategies that lose most of their liars in every wave."""
MINDFUL = ("grief", "one_lie_per_window")
"""Strategies whose liars must all live in one process, for what they do depends on what they did: no replacement."""


class Attack:
    """One plan on a devnet. Rows are those of the model, with `agrees`: whether the model says the same verdict, and
    `agrees_in_all`: whether it has the same number of rounds, disputes, extensions and audits too."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan = replace(plan, params=SCALED, deplete=plan.deplete or plan.strategy in MINDFUL)
        self.say = say
        self.model = Economy(self.plan)
        self.split = self.model.split
        self.honest = len(self.split.honest)
        self.reserve = self._count_reserve()
        self.done = 0

    def _count_reserve(self) -> int:
        waves = -(-self.plan.bundles // WAVE)
        times = waves - 1 if self.plan.strategy in RECKLESS else min(waves - 1, 1)
        wanted = 0 if self.plan.deplete else times * len(self.split.liars)
        return wanted + (self.plan.nodes + wanted) % FARMS

    def run(self) -> Iterator[Row]:
        """For each wave a row of kind "bundle" for each of its bundles, then one of kind "era"."""
        with tempfile.TemporaryDirectory(prefix="quorate-attack-") as name:
            home = Path(name)
            devnet = Devnet(self._options(home / "devnet"), self.say)
            with devnet, QuorateClient.open(devnet.make_config(home / "client")) as client:
                yield from self._run(devnet, client, home)

    def _options(self, home: Path) -> DevnetOptions:
        operators = self.plan.nodes + self.reserve
        lying = [sys.executable, "-m", "tests.adversarial.farm_node", "--liars", f"{self.honest + 1}-{operators}"]
        command = [*lying, "--strategy", self.plan.strategy]
        units = [*self.split.honest, *self.split.liars, *(0,) * self.reserve]
        return DevnetOptions(
            home=home,
            nodes=FARMS,
            operators_per_node=operators // FARMS,
            commands=dict.fromkeys(range(FARMS), command) if self.split.liars else {},
            env={"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "client", ROOT / "node")))},
            units=dict(enumerate(units)),
            params=SCALED,
            ready_s=180,
        )

    def _run(self, devnet: Devnet, client: QuorateClient, home: Path) -> Iterator[Row]:
        wishes = OrderWishes(seats=self.plan.seats, rounds=self.plan.rounds, commit_period=COMMIT_PERIOD_S)
        orderer = Orderer(client, wishes, home)
        watcher = AttackWatcher(devnet.gateway, orderer.roots)
        liars = Liars(devnet, self.split, self.reserve)
        self.honest_put_in = liars.holdings(range(1, self.honest + 1))
        wave = 0
        with client.serving() as url:
            while self.done < self.plan.bundles:
                began, known = time.monotonic(), set(watcher.batches)
                count = min(WAVE, self.plan.bundles - self.done)
                group = GROUP if self.plan.strategy in RECKLESS else count
                for _ in range(0, count, group):  # all disputes at once would be a test of the machine
                    orderer.post(min(group, self.done + count - orderer.posted), url)
                    self._await(watcher, "decided", lambda: self._is_decided(watcher))
                if self.plan.extends:
                    self._extend(watcher, orderer, set(watcher.batches) - known)
                batches = [watcher.batches[each] for each in sorted(set(watcher.batches) - known)]
                self._await(watcher, "audited", partial(self._is_audited, watcher, batches))
                self._await(watcher, "decided", lambda: self._is_decided(watcher))
                rows = list(self._compare(devnet, [batch for batch in batches if batch.roots]))
                yield from rows
                self.done += count
                seconds = round(time.monotonic() - began, 1)
                yield {**self._describe(devnet, watcher, liars, batches, rows), "era": wave, "seconds": seconds}
                wave += 1
                if self.done < self.plan.bundles:
                    self._pass_era(devnet, liars)

    # waiting

    def _is_decided(self, watcher: AttackWatcher) -> bool:
        batches = list(watcher.batches.values())
        is_over = not watcher.disputes and all(batch.is_over for batch in batches)
        return is_over and self._count(watcher) == len(watcher.roots)

    def _is_audited(self, watcher: AttackWatcher, batches: Sequence[SeenBatch]) -> bool:
        return not any(map(watcher.awaits_audit, batches))

    def _count(self, watcher: AttackWatcher) -> int:
        batches = watcher.batches.values()
        return sum(batch.verdicts.get(b) in SETTLED for batch in batches for b in range(len(batch.roots)))

    def _await(self, watcher: AttackWatcher, what: str, is_done: Callable[[], bool]) -> None:
        since, told = time.monotonic(), -1
        while watcher.poll() or not is_done():
            count = self._count(watcher)
            if count > told:
                self.say(
                    f"{count} of {self.plan.bundles} bundles are decided, {len(watcher.disputes)} disputes are open"
                )
                since, told = time.monotonic(), count
            if time.monotonic() > since + STUCK_S:
                raise UnrecoverableError(f"the bundles were not {what} in time: {told} of {len(watcher.roots)}")
            time.sleep(POLL_S)

    def _extend(self, watcher: AttackWatcher, orderer: Orderer, wave: set[int]) -> None:
        """Buy as many rounds again for what came to nothing. One call for a batch: its rounds are counted together."""
        wanted = {each: watcher.batches[each].extendable for each in sorted(wave)}
        asked = [each for each, bundles in wanted.items() if bundles]
        deadline, ask_at = time.monotonic() + EXTEND_S, 0.0
        while asked and time.monotonic() < deadline:
            if time.monotonic() >= ask_at:
                ask_at = time.monotonic() + ASK_AGAIN_S
                for each in asked:
                    orderer.extend(watcher.batches[each], wanted[each], self.plan.rounds + 1)
            time.sleep(POLL_S)
            watcher.poll()
            asked = [each for each in asked if not watcher.batches[each].extensions]
        if asked:
            self.say(f"{len(asked)} batches were not extended in time")
        self._await(watcher, "decided", lambda: self._is_decided(watcher))

    def _pass_era(self, devnet: Devnet, liars: Liars) -> None:
        """Replace who was ejected, and let time pass until the next table is built."""
        people = self.model.people
        gone = [] if self.plan.deplete else liars.restore()
        for liar in gone:
            people.replace(liar)
        if not self.plan.deplete:
            people.restore()
        if people.liars != liars.active and not self.plan.deplete:
            raise UnrecoverableError(f"liars are {sorted(liars.active)} on the chain, but {sorted(people.liars)} here")
        gateway = devnet.gateway
        before = gateway.class_info(CLASS_ID)
        if not before.dirty:
            return
        gateway.rpc.call("evm_increaseTime", max(1, before.era_end - gateway.head().timestamp))
        deadline = time.monotonic() + ERA_S
        while gateway.class_info(CLASS_ID).table == before.table:
            if time.monotonic() > deadline:
                raise UnrecoverableError("nobody began the next era of the class")
            time.sleep(POLL_S)

    # what the model says

    def _compare(self, devnet: Devnet, batches: Sequence[SeenBatch]) -> Iterator[Row]:
        number = self.done
        for batch in batches:
            self.model.people.now = batch.start_time
            feed = Feed(
                number=batch.batch_id,
                first=number,
                count=len(batch.roots),
                table=devnet.gateway.table(CLASS_ID, batch.table),
                domain=partial(find_domain, batch),
                honest=batch.roots.__getitem__,
                extends=partial(self._was_extended, batch),
            )
            play = BatchPlay(self.plan, self.model.strategy, self.model.people, feed)
            for bundle, row in enumerate(play_as_far_as_drawn(play, batch)):
                yield self._judge(batch, bundle, row)
            number += len(batch.roots)

    def _was_extended(self, batch: SeenBatch, bundle: int) -> bool:
        return batch.rounds[bundle] > 1 + self.plan.rounds

    def _judge(self, batch: SeenBatch, bundle: int, row: Row) -> Row:
        seen = {
            "verdict": batch.verdicts[bundle].name,
            "wrong_accepted": bundle in batch.was_wrong,
            "rounds": batch.rounds[bundle],
            "disputed": bundle in batch.disputed,
            "extended": self._was_extended(batch, bundle),
            "audited": bundle in batch.audited,
        }
        # What the class decided may be drawn as well, if it did so in time; the model draws from what seats accepted.
        compared = {name for name in seen if name != "audited" or not seen["disputed"]}
        is_wrong = seen["verdict"] == "ACCEPTED" and batch.votes[bundle] != batch.roots[bundle]
        return {
            **row,
            **seen,
            "wrong_final": is_wrong,
            "batch": batch.batch_id,
            "model": {name: row[name] for name in seen},
            "agrees": all(row[name] == seen[name] for name in ("verdict", "wrong_accepted")),
            "agrees_in_all": all(row[name] == seen[name] for name in compared),
        }

    def _describe(
        self, devnet: Devnet, watcher: AttackWatcher, liars: Liars, batches: Sequence[SeenBatch], rows: Sequence[Row]
    ) -> Row:
        people, table = self.model.people, devnet.gateway.table(CLASS_ID, batches[0].table)
        return {
            "kind": "era",
            "bundles": self.done,
            "count": len(rows),
            "batches": sum(bool(batch.roots) for batch in batches),
            "share": people.share_of(table),
            "all_theirs": people.compute_capture(table, self.plan.seats),
            "void_share": sum(row["verdict"] == "VOID" for row in rows) / len(rows),
            "void_first_share": sum(row["verdict"] == "VOID" or row["extended"] for row in rows) / len(rows),
            "honest_stake": liars.holdings(range(1, self.honest + 1)) / self.honest_put_in,
            "liar_stake": liars.holdings(liars.ever) / liars.invested if liars.invested else 0.0,
            "liars_ejected": len(liars.ejected),
            "model_ejects_the_same": self._find_ejected(liars.ever)
            == {i for i in liars.ever if devnet.gateway.operator(i).ejected},
            "honest_slashed": sum(operator <= self.honest for operator in watcher.slashed),
            "honest_jailed": sum(operator <= self.honest for operator in watcher.jailed),
            "liars_jailed": sum(operator > self.honest for operator in watcher.jailed),
        }

    def _find_ejected(self, among: set[int]) -> set[int]:
        return {int(i) for i, each in self.model.people.registry.operators.items() if each.ejected and int(i) in among}


class RoundNotDrawn(Exception):
    """The model wants a round that the chain has not had: they disagree about the bundle."""


def find_domain(batch: SeenBatch, round_: int) -> bytes:
    """Domain of a round that the chain has drawn."""
    if round_ not in batch.domains:
        raise RoundNotDrawn(f"batch {batch.batch_id} has no round {round_}")
    return batch.domains[round_]


def play_as_far_as_drawn(play: BatchPlay, batch: SeenBatch) -> list[Row]:
    """Rows of a batch; where the model goes on without the chain, its last verdict of a bundle is what stands."""
    with contextlib.suppress(RoundNotDrawn):
        play.play()
    for draw in batch.draws:
        if draw.bundles:
            audit_batch(play, draw.domain, range(draw.first, draw.last + 1))
    return list(play.rows())
