"""Misfortunes for a devnet, by a schedule: nodes are killed and come back, stand still, lose and delay messages."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.faults.proxy import FaultProxy, Faults

from quorate.devnet.devnet import Devnet, NodeFailed


@dataclass(frozen=True, slots=True)
class Schedule:
    """Seconds between kills of any node, between kills of a collator, and between stalls; from and to how many seconds
    a node is away, or stands still; and what befalls messages between nodes."""

    kill_every_s: float = 10.0
    collator_every_s: float = 60.0
    stall_every_s: float = 15.0
    away_s: tuple[float, float] = (0.5, 4.0)
    stall_s: tuple[float, float] = (1.0, 4.0)
    messages: Faults = Faults(drop=0.01, swallow=0.003, delay=0.05, delay_s=(0.1, 1.5))


class Chaos:
    """Carries a schedule out until `stop`; as a context manager until its end, when all nodes are back.

    Victims are drawn from a deck that is shuffled when it is used up, so that each has its turn. `record` takes a row
    of what was done and when.
    """

    def __init__(
        self,
        devnet: Devnet,
        proxy: FaultProxy,
        schedule: Schedule,
        record: Callable[[dict[str, Any]], None],
        seed: int = 1,
    ) -> None:
        self._devnet, self._proxy, self._schedule, self._record = devnet, proxy, schedule, record
        self._chance = random.Random(seed)
        self._decks: dict[str, list[int]] = {}
        self._away: set[int] = set()
        self._changed = threading.Condition()  # of who is away
        self._waiting: set[str] = set()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._began = time.monotonic()
        self.kills: Counter[int] = Counter()
        self.collator_kills: Counter[int] = Counter()
        self.stalls = 0
        self.failures: list[str] = []

    def __enter__(self) -> Chaos:
        for node in self._devnet.nodes:
            self._introduce(node.index)
            self._proxy.set(self._schedule.messages, source=f"node-{node.index}")
        self._began = time.monotonic()
        s, nodes = self._schedule, tuple(node.index for node in self._devnet.nodes)
        collators = tuple(sorted(self._devnet.options.collators))
        self._repeat(s.kill_every_s, lambda: self._kill("nodes", nodes, self.kills))
        self._repeat(s.collator_every_s, lambda: self._kill("collators", collators, self.collator_kills))
        self._repeat(s.stall_every_s, lambda: self._stall(nodes))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let everybody come back, and do nothing any more."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
        while self._threads:
            self._threads.pop().join()
        self._proxy.heal()

    def _repeat(self, every_s: float, act: Callable[[], None]) -> None:
        def run() -> None:
            for number in self._count():
                due = self._began + (number + 1) * every_s
                if self._stopped.wait(max(0.0, due - time.monotonic())):
                    return
                self._start(act)  # who takes long to come back does not spare the next

        self._start(run)

    def _start(self, act: Callable[[], None]) -> None:
        thread = threading.Thread(target=act)
        thread.start()
        self._threads.append(thread)

    def _count(self) -> Iterator[int]:
        number = 0
        while not self._stopped.is_set():
            yield number
            number += 1

    def _draw(self, name: str, deck: Sequence[int]) -> int | None:
        """The next victim that is there; it counts as away from now on. Waits while a quarter of all are away already;
        None when the end comes first, or when a misfortune of the same name waits already."""
        with self._changed:
            if name in self._waiting:
                return None  # on a machine so busy that others are not back yet
            self._waiting.add(name)
            self._changed.wait_for(self._has_room)
            self._waiting.discard(name)
            if self._stopped.is_set():
                return None
            left = self._decks.setdefault(name, [])
            if not left:
                left.extend(self._chance.sample(deck, len(deck)))
            index = next((each for each in left if each not in self._away), None)
            if index is not None:
                left.remove(index)
                self._away.add(index)
            return index

    def _has_room(self) -> bool:
        return self._stopped.is_set() or len(self._away) < max(1, len(self._devnet.nodes) // 4)

    def _come_back(self, index: int) -> None:
        with self._changed:
            self._away.discard(index)
            self._changed.notify_all()

    def _kill(self, name: str, deck: Sequence[int], counts: Counter[int]) -> None:
        index = self._draw(name, deck)
        if index is None:
            return
        away_s = self._chance.uniform(*self._schedule.away_s)
        self._tell("kill", index, away_s)
        self._devnet.kill_node(index)
        counts[index] += 1
        time.sleep(away_s)
        began = time.monotonic()
        try:
            self._devnet.restart_node(index)
        except NodeFailed as error:
            self.failures.append(str(error))
            return
        self._introduce(index)
        self._tell("back", index, time.monotonic() - began)
        self._come_back(index)

    def _stall(self, deck: Sequence[int]) -> None:
        index = self._draw("stalls", deck)
        if index is None:
            return
        stall_s, group = self._chance.uniform(*self._schedule.stall_s), self._devnet.nodes[index].running.id.pid
        self._tell("stall", index, stall_s)
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGSTOP)
            time.sleep(stall_s)
            os.killpg(group, signal.SIGCONT)
            self.stalls += 1
        self._come_back(index)

    def _introduce(self, index: int) -> None:
        self._proxy.know(f"node-{index}", self._devnet.nodes[index].running.id.pid)

    def _tell(self, what: str, index: int, seconds: float) -> None:
        at = round(time.monotonic() - self._began, 2)
        self._record({"at_s": at, "what": what, "node": index, "seconds": round(seconds, 2)})
