"""Collators are asked once for the input of a job of many bundles, and again when they said nothing."""

from __future__ import annotations

import asyncio

import pytest

from quorate_node.told import MAX_JOBS, REMEMBER_S, Told

URL = "http://127.0.0.1:1"
JOB = bytes(32)


class Collator:
    """Answers when it is let; counts who asks."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self.answers, self.asked, self.may_answer = list(answers), list[tuple[str, bytes]](), asyncio.Event()
        self.may_answer.set()

    async def ask(self, url: str, job_id: bytes) -> list[str]:
        self.asked.append((url, job_id))
        await self.may_answer.wait()
        answer = self.answers.pop(0) if self.answers else ["http://127.0.0.1:9"]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_bundles_that_ask_together_share_one_answer() -> None:
    collator = Collator(["http://127.0.0.1:2"])
    collator.may_answer.clear()
    told = Told(collator.ask)
    waiting = [asyncio.ensure_future(told.ask(URL, JOB)) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    collator.may_answer.set()
    assert await asyncio.gather(*waiting[1:]) == [["http://127.0.0.1:2"]] * 4
    assert collator.asked == [(URL, JOB)], "one that gave up did not end it for the others"


async def test_an_answer_is_good_for_a_while_and_for_its_job_and_collator_alone() -> None:
    now, collator = [1000.0], Collator()
    told = Told(collator.ask, lambda: now[0])
    for url, job in ((URL, JOB), (URL, JOB), (URL, b"other"), ("http://127.0.0.1:3", JOB)):
        assert await told.ask(url, job) == ["http://127.0.0.1:9"]
    assert len(collator.asked) == 3
    now[0] += REMEMBER_S
    await told.ask(URL, JOB)
    assert len(collator.asked) == 4


async def test_nothing_and_errors_are_not_remembered() -> None:
    collator = Collator([], ValueError("garbage"), ["http://127.0.0.1:2"])
    told = Told(collator.ask)
    assert await told.ask(URL, JOB) == []
    with pytest.raises(ValueError, match="garbage"):
        await told.ask(URL, JOB)
    assert await told.ask(URL, JOB) == ["http://127.0.0.1:2"]
    assert len(collator.asked) == 3


async def test_it_remembers_so_many() -> None:
    collator = Collator()
    told = Told(collator.ask)
    for number in range(MAX_JOBS + 1):
        await told.ask(URL, number.to_bytes(32))
    before = len(collator.asked)
    await told.ask(URL, (MAX_JOBS).to_bytes(32))
    assert len(collator.asked) == before
    await told.ask(URL, bytes(32))
    assert len(collator.asked) == before + 1, "the oldest is forgotten"
