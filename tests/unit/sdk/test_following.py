"""Following a job while the chain's past changes: each step is told once, and again where the story became another."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from tests.unit.sdk.test_tracking import BATCH, GOOD, ORDER, sign

from quorate.chain.gateway import ChainGateway
from quorate.chain.types import BlockHead, Deployment, LoggedEvent
from quorate.following import REORG_BLOCKS, SETTLED_S, JobFollower, refresh_states
from quorate.jobs import JobBook, JobRecord
from quorate.progress import JobStage
from quorate.protocol import events
from quorate.protocol.encoding import encode_outcomes, encode_post_page
from quorate.protocol.events import Event
from quorate.protocol.hashing import keccak
from quorate.protocol.types import Address, JobId, OutcomeRow, Verdict

OPENED = events.BatchOpened(BATCH, Address(bytes(20)), 1, 1, 3, 2, 60, 0)
POSTED = events.PagePosted(BATCH, 0, encode_post_page([sign(ORDER)]), b"")
STARTED = events.RoundStarted(BATCH, 0, bytes(32))


def settled(verdict: Verdict) -> Event:
    return events.BundlesSettled(BATCH, 0, encode_outcomes([OutcomeRow(0, verdict, GOOD, 0, ())]))


@dataclass
class FakeChain:
    """Blocks of events; a block's hash is that of all before it and of its fork."""

    blocks: list[tuple[int, tuple[Event, ...]]] = field(default_factory=list)
    forgotten: int = 0
    deployment: Deployment = Deployment(1, *[Address(bytes(20))] * 5)

    def mine(self, *found: Event, fork: int = 0) -> None:
        self.blocks.append((fork, found))

    def head(self) -> BlockHead:
        return self.block(len(self.blocks) - 1)

    def block(self, number: int) -> BlockHead:
        digest = keccak(repr(self.blocks[: number + 1]).encode())
        return BlockHead(number, 1_000 + number, digest, keccak(repr(self.blocks[:number]).encode()), bytes(32))

    def events(self, first: int, last: int) -> list[LoggedEvent]:
        found = [(n, e) for n in range(first, last + 1) for e in self.blocks[n][1]]
        return [LoggedEvent(event, number, bytes(32), index) for index, (number, event) in enumerate(found)]

    def forget(self) -> None:
        self.forgotten += 1


def follow(chain: FakeChain) -> JobFollower:
    signed = sign(ORDER)
    record = JobRecord(bytes(32), ORDER, signed.signature, "", 1, Address(bytes(20)), 0, 0.0)  # type: ignore[arg-type]
    return JobFollower(cast(ChainGateway, chain), record)


def read(follower: JobFollower) -> list[JobStage]:
    follower.read()
    return [step.stage for step in follower.untold()]


def test_steps_are_told_once_and_again_where_they_changed(tmp_path: Path) -> None:
    chain = FakeChain()
    follower = follow(chain)
    chain.mine(OPENED, POSTED)
    chain.mine(STARTED)
    assert read(follower) == [JobStage.POSTED, JobStage.ASSIGNED]
    chain.mine(settled(Verdict.CARRIED))
    assert read(follower) == [JobStage.CARRIED]
    assert read(follower) == []
    chain.blocks[2:] = [(1, ()), (1, (settled(Verdict.ACCEPTED),))]
    assert read(follower) == [JobStage.REVEALED, JobStage.ACCEPTED], "posted and assigned stand as they were told"
    assert chain.forgotten == 1


def test_a_chain_of_the_same_length_or_shorter_is_noticed() -> None:
    chain = FakeChain()
    follower = follow(chain)
    chain.mine(OPENED, POSTED)
    chain.mine(STARTED)
    assert read(follower) == [JobStage.POSTED, JobStage.ASSIGNED]
    chain.blocks[1:] = [(1, ())]
    assert read(follower) == []
    assert follower.tracker.stage is JobStage.POSTED
    chain.blocks[:] = [(2, ())]
    assert read(follower) == []
    assert follower.tracker.batch is None
    chain.mine(OPENED, POSTED, fork=2)
    chain.mine(STARTED, fork=2)
    chain.mine(settled(Verdict.ACCEPTED), fork=2)
    assert read(follower) == [JobStage.REVEALED, JobStage.ACCEPTED]


def make_book(folder: Path) -> JobBook:
    """Three jobs that were sent: one here, one that nobody posts, one on another chain."""
    book = JobBook(folder)
    for number, (order, chain_id) in enumerate(
        ((ORDER, 1), (replace(ORDER, nonce=1, valid_until=1_500), 1), (ORDER, 2))
    ):
        job_id = JobId(bytes([number + 1]) * 32)
        book.save(JobRecord(job_id, order, sign(order).signature, "", chain_id, Address(bytes(20)), 0, float(number)))
    return book


def list_states(chain: FakeChain, book: JobBook) -> list[tuple[str | None, bool]]:
    found = [(each.state, each.is_closed) for each in refresh_states(cast(ChainGateway, chain), book)]
    assert found == [(each.state, each.is_closed) for each in book.load_all()], "what is told is kept"
    return found


def test_states_come_from_the_chain_until_nothing_can_follow(tmp_path: Path) -> None:
    chain, book = FakeChain(), make_book(tmp_path)
    chain.mine()
    assert list_states(chain, book) == [(None, False)] * 3
    chain.mine(OPENED, POSTED)
    assert list_states(chain, book)[0] == ("posted", False)
    chain.mine(STARTED)
    chain.mine(settled(Verdict.ACCEPTED), events.BatchSettled(BATCH, 1_010))
    assert list_states(chain, book) == [("accepted", False), (None, False), (None, False)]
    for _ in range(10):
        chain.mine()
    assert list_states(chain, book)[0] == ("final", False), "a chain may lose its newest blocks"
    chain.blocks[3:] = [(1, (settled(Verdict.VOID), events.BatchSettled(BATCH, 1_010)))]
    assert list_states(chain, book)[0] == ("void", False)
    for _ in range(REORG_BLOCKS):
        chain.mine()
    assert list_states(chain, book)[0] == ("void", False)
    chain.mine()
    assert list_states(chain, book)[0] == ("void", True)
    for _ in range(500):
        chain.mine()
    assert list_states(chain, book) == [("void", True), ("expired", False), (None, False)]
    for _ in range(SETTLED_S):
        chain.mine()
    assert list_states(chain, book) == [("void", True), ("expired", True), (None, False)]
