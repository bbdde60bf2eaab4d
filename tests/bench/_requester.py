"""A process of one requester with many jobs: orders them at a steady pace, follows all, fetches and judges results.

Usage: python tests/bench/_requester.py HOME PLAN.json; a row for each job goes to the file that the plan names. What a
person's `quorate job wait` does for one job it does for all: an order that is not on chain after a while goes to
another collator, the same order with the same nonce. A job that ended without a result is ordered anew, which its row
tells: it has failed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _judge import is_same
from _mixed import Job, Mix

from quorate.config import load_config
from quorate.jobs import JobRecord
from quorate.orders import OrderWishes
from quorate.progress import PASSING_SKIPS, JobStage
from quorate.protocol.errors import QuorateError, RecoverableError, ValidationError
from quorate.results import FetchedResult, ResultFetch
from quorate.sdk import QuorateClient
from quorate.tracking import JobTracker

POLL_S = 0.5
ORDERERS = 4
"""Orders that are handed over at once: each is a dozen answers that are waited for."""
RESEND_S = 10.0
FETCHERS = 4
FETCH_PATIENCE_S = 120.0
FETCH_PAUSE_S = 3.0
ORDER_PATIENCE_S = 120.0
MOST_OPEN = 200
"""Jobs of one requester under way: below the 256 nonces that the chain keeps open."""
WINDOW_S = 20.0
LEAST_PENDING = 20
"""No more wait for a result than came to one in the last WINDOW_S, or so many: what a slow machine cannot execute in
its period is no fault of the network, and to order more only makes more of it late."""


@dataclass(slots=True)
class Followed:
    """A job from its order to its end. `sends` counts hand-overs of its order, `orders` its orders."""

    number: int
    job: Job
    began: float
    record: JobRecord
    tracker: JobTracker
    sent_at: float
    sends: int = 1
    orders: int = 1
    cause: str | None = None  # of the first order's failure
    accepted_at: float | None = None
    is_fetching: bool = False
    row: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """An order that is about to be signed; `former` is the job's first, when that failed."""

    number: int
    job: Job
    began: float
    former: Followed | None


class Client(QuorateClient):
    """Tells of an order before it leaves: a collator may take it and die before it answers."""

    on_order: Callable[[JobRecord], None] = staticmethod(lambda record: None)

    def send(self, record: JobRecord, collators: Any = None) -> JobRecord:
        if collators is None:  # it was just signed
            self.on_order(record)
        return super().send(record, collators)


class Crowd:
    """All jobs of one requester."""

    def __init__(self, home: Path, plan: dict[str, Any]) -> None:
        self._plan, self._client = plan, Client(load_config(home))
        self._client.on_order = self._note
        self._mix = Mix(Path(plan["folder"]), home / "inputs", plan["seed"])
        self._open: dict[bytes, Followed] = {}
        self._lock, self._pace, self._writing = threading.Lock(), threading.Lock(), threading.Lock()
        self._own = threading.local()  # `turn`: a thread's order until it is signed
        self._numbers, self._due = list(plan["jobs"]), time.monotonic()
        self._under_way = 0  # orders of all threads that are not followed yet
        self._results, self._rows = home / "results", Path(plan["rows"])
        self._is_over = threading.Event()
        self._left = len(plan["jobs"])
        self._ends: deque[float] = deque()  # when jobs came to a result, of late
        self._block: int | None = None
        self._providers: list[str] = []

    def run(self) -> None:
        """Until every job has its row."""
        with self._client as client, client.serving() as url:
            client.gateway, client.account  # noqa: B018 - opened before threads race for them
            self._providers = [url] if self._plan["serve"] else []
            self._fetchers, self._senders = ThreadPoolExecutor(FETCHERS), ThreadPoolExecutor(FETCHERS)
            tasks = [*[self._order_all] * ORDERERS, self._follow]
            threads = [threading.Thread(target=or_die, args=(each,)) for each in tasks]
            for thread in threads:
                thread.start()
            self._is_over.wait()
            for thread in threads:
                thread.join()
            self._fetchers.shutdown(cancel_futures=True)
            self._senders.shutdown(cancel_futures=True)

    # ordering -----------------------------------------------------------------------------------------------------

    def _order_all(self) -> None:
        """At the plan's pace, which all threads keep together, and again those that failed."""
        while not self._is_over.is_set():
            turn = self._take_turn()
            if turn is None:
                time.sleep(0.02)
                continue
            self._order(turn)
            with self._lock:
                self._under_way -= 1

    def _take_turn(self) -> Turn | None:
        """What is to be ordered next; None when nothing is due."""
        with self._pace:
            if (again := self._take_again()) is not None:
                return Turn(again.number, again.job, time.time(), again)
            with self._lock:
                if not self._numbers or time.monotonic() < self._due or self._is_full():
                    return None
                self._under_way += 1
            spacing = self._plan["spacing_s"]
            self._due = max(self._due + spacing, time.monotonic() - 2.0)  # after a wait it makes no burst
            number = self._numbers.pop(0)
            return Turn(number, self._mix.make(number), time.time(), None)

    def _is_full(self) -> bool:
        while self._ends and self._ends[0] < time.monotonic() - WINDOW_S:
            self._ends.popleft()
        pending = sum(each.accepted_at is None for each in self._open.values()) + self._under_way
        return len(self._open) + self._under_way >= MOST_OPEN or pending >= max(LEAST_PENDING, len(self._ends))

    def _take_again(self) -> Followed | None:
        with self._lock:
            failed = (each for each in self._open.values() if each.cause and each.orders == 1)
            waiting = [each for each in failed if not each.is_fetching]
            for each in waiting[:1]:
                del self._open[each.record.job_id]
                self._under_way += 1
            return waiting[0] if waiting else None

    def _order(self, turn: Turn) -> None:
        """Hand one order over. What goes wrong before it was signed is tried again; it is followed from then on."""
        job, problem = turn.job, ""
        while time.time() < turn.began + ORDER_PATIENCE_S:
            self._own.turn = turn
            try:
                prepared = self._client.prepare(
                    job.module, str(job.source) if job.source else None, args=job.args,
                    env=[f"JOB={self._plan['seed']}-{turn.number}"], limits=job.limits, partition=job.partition,
                )  # fmt: skip
                wishes = OrderWishes(seats=self._plan["seats"], commit_period=self._plan["period_s"])
                self._client.submit(prepared, wishes, providers=self._providers)
                assert self._own.turn is None, "nobody follows it"
                return
            except (RecoverableError, ValidationError) as error:
                problem = f"{type(error).__name__}: {error}"
                if self._own.turn is None:  # it was signed, and is followed: it goes again if it is not on chain
                    return
                time.sleep(0.5)
        self._write({"job": turn.number, "kind": job.kind, "cause": f"not ordered: {problem}", "is_wrong": False})

    def _note(self, record: JobRecord) -> None:
        turn: Turn | None = self._own.turn
        assert turn is not None
        self._own.turn, former = None, turn.former
        followed = Followed(turn.number, turn.job, turn.began, record, JobTracker(record.signed), time.monotonic())
        if former is not None:
            followed.began, followed.cause, followed.orders = former.began, former.cause, former.orders + 1
            followed.sends += former.sends
        with self._lock:
            self._block = record.from_block if self._block is None else self._block
            self._open[record.job_id] = followed

    # following ----------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        while not self._is_over.is_set():
            with suppress(RecoverableError):
                self._read()
            time.sleep(POLL_S)

    def _read(self) -> None:
        """Blocks that are new. The head first: what is signed after that is in none of them."""
        head = self._client.gateway.head()
        with self._lock:
            followed, first = list(self._open.values()), self._block
        if first is None:
            return
        for logged in self._client.gateway.events(first, head.number):
            for each in followed:
                each.tracker.apply(logged)
        self._block = head.number + 1
        for each in followed:
            self._look(each, head.number, head.timestamp)

    def _look(self, followed: Followed, block: int, now: int) -> None:
        tracker = followed.tracker
        if tracker.batch is None and now > followed.record.order.valid_until:
            tracker.expire(block)
        elif tracker.batch is None and time.monotonic() > followed.sent_at + RESEND_S:
            followed.sent_at, followed.sends = time.monotonic(), followed.sends + 1
            self._senders.submit(or_die, self._send_again, followed)
        stage = tracker.stage
        if stage is None or not stage.is_end or (stage is JobStage.SKIPPED and tracker.skip in PASSING_SKIPS):
            return
        if stage is JobStage.ACCEPTED:
            if followed.accepted_at is None:
                followed.accepted_at = time.time()
                self._ends.append(time.monotonic())
            if not followed.is_fetching:
                followed.is_fetching = True
                self._fetchers.submit(or_die, self._judge, followed)
            if tracker.is_final(now) and followed.row:
                self._finish(followed)
            return
        reason = "reversed" if followed.accepted_at else stage.value
        followed.cause = followed.cause or f"{reason}: {tracker.history[-1].detail}"
        if followed.row or followed.orders > 1:
            followed.row = followed.row or self._describe(followed, is_wrong=False)
            self._finish(followed)

    def _send_again(self, followed: Followed) -> None:
        collators = list(self._client.config.collators)
        first = followed.sends % len(collators)
        with suppress(RecoverableError, ValidationError):
            self._client.send(followed.record, [*collators[first:], *collators[:first]])

    # results ------------------------------------------------------------------------------------------------------

    def _judge(self, followed: Followed) -> None:
        """Fetch a result and compare it with what the judge says; seats may be away for a while."""
        deadline, tries, problem = time.monotonic() + FETCH_PATIENCE_S, 0, ""
        while time.monotonic() < deadline:
            tries += 1
            folder = self._results / f"{followed.number}-{followed.orders}-{tries}"
            try:
                gateway, store = self._client.gateway, self._client.store
                tracker = followed.tracker
                fetched = ResultFetch(gateway, store, followed.record, lambda t=tracker: t, folder).finish()
                is_wrong = not self._is_right(followed.job, fetched, folder)
                followed.row = self._describe(followed, is_wrong=is_wrong) | {"fetches": tries}
                shutil.rmtree(folder)
                return
            except (QuorateError, OSError) as error:
                problem = f"{type(error).__name__}: {error}"
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(FETCH_PAUSE_S)
        followed.cause = followed.cause or f"no result: {problem}"
        followed.row = self._describe(followed, is_wrong=False) | {"fetches": tries}

    @staticmethod
    def _is_right(job: Job, fetched: FetchedResult, folder: Path) -> bool:
        if len(fetched.results) != len(job.tasks):
            return False
        if "" in job.tasks:
            stdout = (folder / "stdout").read_bytes()
            return is_same(job.tasks[""], fetched.results[0].exit_code, stdout, folder / "outputs")
        codes = [result.exit_code for result in fetched.results]
        return all(
            is_same(expected, code, (folder / "stdout" / name).read_bytes(), folder / "outputs" / name)
            for code, (name, expected) in zip(codes, sorted(job.tasks.items()), strict=True)
        )

    def _describe(self, followed: Followed, *, is_wrong: bool) -> dict[str, Any]:
        accepted = followed.accepted_at
        return {
            "job": followed.number,
            "id": followed.record.job_id.hex(),
            "kind": followed.job.kind,
            "began": round(followed.began, 3),
            "latency_s": round(accepted - followed.began, 3) if accepted else None,
            "rounds": followed.tracker.round + 1,
            "sends": followed.sends,
            "orders": followed.orders,
            "cause": followed.cause,
            "is_wrong": is_wrong,
        }

    def _finish(self, followed: Followed) -> None:
        with self._lock:
            if self._open.pop(followed.record.job_id, None) is None:
                return
        self._write(followed.row | {"cause": followed.cause})
        source = followed.job.source
        if source is not None and source.is_relative_to(self._results.parent):
            shutil.rmtree(source) if source.is_dir() else source.unlink(missing_ok=True)

    def _write(self, row: dict[str, Any]) -> None:
        with self._writing:
            with self._rows.open("a") as file:
                file.write(json.dumps(row, sort_keys=True) + "\n")
            self._left -= 1
            if self._left == 0:
                self._is_over.set()


def or_die(act: Callable[..., None], *given: Any) -> None:
    """Do it; a mistake of ours ends the process, so that it is seen."""
    try:
        act(*given)
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)


def main() -> None:
    """Run a plan."""
    home, plan = map(Path, sys.argv[1:])
    Crowd(home, json.loads(plan.read_text())).run()


if __name__ == "__main__":
    main()
