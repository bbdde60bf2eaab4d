"""Following a chain whose past changes: what is told is always the chain's own story, and little is read again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from quorate.chain.gateway import ChainGateway
from quorate.chain.types import BlockHead, LoggedEvent
from quorate.protocol import events
from quorate.protocol.hashing import keccak
from quorate.protocol.types import Address, Table
from quorate_node.core.stimuli import ChainAdvanced, ChainReorganised
from quorate_node.watcher import SAFE_BLOCKS, ChainWatcher

ONE = Address(b"1" * 20)


@dataclass
class FakeChain:
    """Blocks by number, each with the fork that made it and at most one event: that an operator has registered."""

    forks: list[int] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    deployment: Any = field(default_factory=lambda: type("Deployment", (), {"block": 0}))

    def mine(self, count: int, fork: int = 0) -> None:
        self.forks += [fork] * count

    def forget(self) -> None:
        """Nothing is kept here."""

    def head(self) -> BlockHead:
        return self.block(len(self.forks) - 1)

    def block(self, number: int) -> BlockHead:
        hashes = [keccak(bytes((0, *self.forks[: n + 1]))) for n in (number, number - 1)]
        return BlockHead(number, 1_000 + number, hashes[0], hashes[1], bytes(32))

    def events(self, first: int, last: int) -> list[LoggedEvent]:
        self.reads += range(first, last + 1)
        return [self._event(number) for number in range(first, last + 1)]

    def _event(self, number: int) -> LoggedEvent:
        key = Address(bytes(18) + bytes((self.forks[number], number % 256)))
        return LoggedEvent(events.OperatorRegistered(number, ONE, key), number, 0, bytes(32))


def follow(watcher: ChainWatcher, story: list[Any]) -> None:
    for stimulus in watcher.poll():
        if isinstance(stimulus, ChainReorganised):
            story.clear()
        else:
            assert isinstance(stimulus, ChainAdvanced)
            story += [(each.block, each.event) for each in stimulus.events]


def test_a_changed_past_is_told_again_from_a_safe_block() -> None:
    chain, story = FakeChain(), []  # type: ignore[var-annotated]
    watcher = ChainWatcher(cast(ChainGateway, chain))
    for _ in range(3 * SAFE_BLOCKS):
        chain.mine(1)
        follow(watcher, story)
    chain.forks = chain.forks[:-10]
    chain.mine(12, fork=1)
    chain.reads.clear()
    follow(watcher, story)
    assert len(chain.reads) <= SAFE_BLOCKS + 13
    assert story == [(each.block_number, each.event) for each in chain.events(0, len(chain.forks) - 1)]


def test_a_past_that_changed_before_the_safe_block_is_read_whole() -> None:
    chain, story = FakeChain(), []  # type: ignore[var-annotated]
    watcher = ChainWatcher(cast(ChainGateway, chain))
    for _ in range(2 * SAFE_BLOCKS):
        chain.mine(1)
        follow(watcher, story)
    chain.forks = chain.forks[:3]
    chain.mine(2 * SAFE_BLOCKS, fork=1)
    follow(watcher, story)
    assert story == [(each.block_number, each.event) for each in chain.events(0, len(chain.forks) - 1)]


def test_a_chain_that_got_shorter_is_followed() -> None:
    chain, story = FakeChain(), []  # type: ignore[var-annotated]
    watcher = ChainWatcher(cast(ChainGateway, chain))
    chain.mine(20)
    follow(watcher, story)
    chain.forks = [*chain.forks[:5], 1]
    follow(watcher, story)
    assert [block for block, _ in story] == list(range(6))
    assert watcher.poll() == []


@dataclass
class ManyClasses(FakeChain):
    """Each block begins an era of another class, or operator 7 joins it there."""

    tables_read: list[tuple[int, int]] = field(default_factory=list)
    joined_in: frozenset[int] = frozenset()

    def table(self, class_id: int, number: int) -> Table:
        self.tables_read.append((class_id, number))
        return Table((), ())

    def _event(self, number: int) -> LoggedEvent:
        era = events.EraAdvanced(number, 1, 1, 10**9, 5_000)
        joined = events.ClassJoined(number, 7, 10, 1, 1)
        return LoggedEvent(joined if number in self.joined_in else era, number, bytes(32), 0)


def test_tables_are_read_of_the_classes_that_matter_however_many_others_have() -> None:
    for others in (10, 100):
        chain = ManyClasses(joined_in=frozenset({3}))
        watcher = ChainWatcher(cast(ChainGateway, chain), lambda class_id: class_id == 2, own=(7,))
        chain.mine(others)
        follow(watcher, [])
        assert chain.tables_read == [(2, 1)], "the other one that it is in has no table yet"
        chain.joined_in = frozenset()
        watcher.head = None
        follow(watcher, [])
        assert sorted(chain.tables_read[1:]) == [(2, 1), (3, 1)], "that it joined is remembered"
    chain = ManyClasses()
    chain.mine(10)
    follow(ChainWatcher(cast(ChainGateway, chain)), [])
    assert len(chain.tables_read) == 10
