"""What happened to a job, in a few lines: here, and at the other seats, for whoever asks why it has no result."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from quorate.messages import JobLogs, LogLine, LogsAnswer, LogsQuery, SeatLog
from quorate_node.core.rounds import get_committee
from quorate_node.core.views import Batch, ChainView
from quorate_node.messaging import Messenger, Undelivered

MAX_JOBS = 2_000
MAX_LINES = 50
MAX_DETAIL = 400
MAX_SEATS = 32
MAX_GATHERED = 4  # questions that are passed on at once


class JobLog:
    """The newest lines of the newest jobs."""

    def __init__(self) -> None:
        self._rows: OrderedDict[bytes, deque[LogLine]] = OrderedDict()

    def note(self, job_id: bytes, event: str, detail: str = "") -> None:
        """Something happened to a job. Nothing of a vote may stand in it before all have committed."""
        lines = self._rows.pop(job_id, None) or deque(maxlen=MAX_LINES)
        line = LogLine(at=round(time.time(), 3), event=event, detail=detail[:MAX_DETAIL])
        if not lines or (lines[-1].event, lines[-1].detail) != (line.event, line.detail):
            lines.append(line)  # operators of one process share an execution: it is told once
        self._rows[job_id] = lines
        while len(self._rows) > MAX_JOBS:
            self._rows.popitem(last=False)

    def answer(self, query: LogsQuery) -> LogsAnswer:
        """Lines of a job in their order; none where nothing is known."""
        return LogsAnswer(lines=list(self._rows.get(query.job_id, ())))


@dataclass(slots=True)
class LogGatherer:
    """Asks a job's seats what they did for it; `own_url` is where this very node is for others."""

    own: JobLog
    view: ChainView
    messenger: Messenger
    own_url: str
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_GATHERED))

    async def gather(self, job_id: bytes) -> JobLogs:
        """Of all seats that are known, each with its lines or why there are none."""
        async with self.slots:
            operators = find_seats(self.view, job_id)[:MAX_SEATS]
            return JobLogs(seats=await asyncio.gather(*(self._ask(each, job_id) for each in operators)))

    async def _ask(self, operator: int, job_id: bytes) -> SeatLog:
        query, route = LogsQuery(job_id=job_id), self.messenger.find_route(operator)
        if route is None:
            return SeatLog(operator=operator, problem="nobody knows where it answers")
        if route.url == self.own_url:
            return SeatLog(operator=operator, lines=self.own.answer(query).lines)
        try:
            answer = LogsAnswer.model_validate_json(await self.messenger.ask(route, "logs", query))
        except Undelivered as error:
            return SeatLog(operator=operator, problem=str(error)[:MAX_DETAIL])
        except ValueError:
            return SeatLog(operator=operator, problem="its answer makes no sense")
        return SeatLog(operator=operator, lines=answer.lines)


def find_seats(view: ChainView, job_id: bytes) -> list[int]:
    """Operators that were drawn for a job in its present round, or have voted on it or abstained before."""
    found: list[int] = []
    for batch in view.batches.values():
        for number, bundle in batch.bundles.items():
            if bundle.job_id == job_id:
                found += [batch.table.members[row].operator_id for row in _find_rows(batch, number)]
    return list(dict.fromkeys(found))


def _find_rows(batch: Batch, bundle: int) -> list[int]:
    outcome = batch.outcomes.get(bundle)
    drawn = get_committee(batch, bundle) if batch.round and batch.round.domain is not None else ()
    record = batch.bundles[bundle].record
    return [*drawn, *record.voters, *record.abstainers, *(outcome.row.voters if outcome else ())]
