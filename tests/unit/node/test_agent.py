"""The agent of a farm: what any operator may do is done by one of them at a time."""

from __future__ import annotations

import asyncio
from typing import cast

from tests.unit.node.simulation import Network0

from quorate.chain.gateway import ChainGateway
from quorate_node.agent import Agent
from quorate_node.core.core import Core
from quorate_node.core.farm import Farm
from quorate_node.core.instructions import Expire, Instruction, ReadHeader, Rejoin
from quorate_node.performer import Performer
from quorate_node.watcher import ChainWatcher


class Recorder:
    """Takes what an agent wants performed, and ends it when told."""

    def __init__(self) -> None:
        self.begun: list[Instruction] = []
        self.end = asyncio.Event()

    async def perform(self, instruction: Instruction) -> None:
        self.begun.append(instruction)
        await self.end.wait()


def make_agent() -> tuple[Agent, tuple[Core, ...], Recorder]:
    cores = tuple(node.core for node in Network0(8).nodes[:3])
    agent = Agent(Farm(cores), ChainWatcher(cast(ChainGateway, None)))  # it is not run: no chain is read
    recorder = Recorder()
    agent.performers = dict.fromkeys(cores, cast(Performer, recorder))
    return agent, cores, recorder


def give(agent: Agent, core: Core, instruction: Expire | Rejoin) -> None:
    core.state.under_way.add(instruction.key)
    agent._start(core, instruction)


async def test_one_operator_at_a_time_does_what_is_everybodys() -> None:
    agent, (first, second, _), recorder = make_agent()
    expire = Expire(("expire", 7), 7)
    give(agent, first, expire)
    give(agent, second, expire)
    await asyncio.sleep(0)
    assert recorder.begun == [expire]
    assert expire.key in first.state.under_way
    assert expire.key not in second.state.under_way, "the second may try again later"
    recorder.end.set()
    await asyncio.sleep(0.01)
    give(agent, second, expire)
    await asyncio.sleep(0.01)
    assert recorder.begun == [expire, expire]


async def test_what_is_ones_own_everyone_does() -> None:
    agent, cores, recorder = make_agent()
    recorder.end.set()
    for core in cores:
        give(agent, core, Rejoin(("rejoin", 1)))
    await asyncio.sleep(0.01)
    assert len(recorder.begun) == len(cores)


async def test_different_things_are_done_at_once() -> None:
    agent, (first, second, _), recorder = make_agent()
    give(agent, first, Expire(("expire", 7), 7))
    give(agent, second, Expire(("expire", 8), 8))
    await asyncio.sleep(0)
    assert len(recorder.begun) == 2
    recorder.end.set()
    await asyncio.sleep(0.01)


async def test_one_read_of_a_kind_is_under_way_however_often_it_is_asked_for() -> None:
    agent, (first, second, _), recorder = make_agent()
    header, other = ReadHeader(7, 0, 12), ReadHeader(7, 1, 20)
    for _ in range(50):
        agent._start(first, header)
    agent._start(first, other)
    agent._start(second, header)
    await asyncio.sleep(0)
    assert recorder.begun == [header, other, header], "an endpoint that does not answer takes up one thread for each"
    recorder.end.set()
    await asyncio.sleep(0.01)
    agent._start(first, header)
    await asyncio.sleep(0.01)
    assert len(recorder.begun) == 4, "when it has ended it may be tried again"
