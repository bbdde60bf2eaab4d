"""What nodes tell each other of content that is whole: deltas that lose nothing, and lies that cost nothing."""

from __future__ import annotations

import random

import pytest

from quorate.messages import MAX_ROOT_CHANGES, RootChange, RootsMessage
from quorate_node import roots
from quorate_node.roots import Holders, OwnRoots

PEER, OTHER = "http://127.0.0.1:1", "http://127.0.0.1:2"


def listen(own: OwnRoots, holders: Holders, url: str = PEER, latency_s: float = 0.1) -> int:
    """All that a peer has to tell now; how many changes that took."""
    count = 0
    while True:
        told = RootsMessage.model_validate_json(own.tell(*holders.position(url)).model_dump_json())
        count += len(told.changes)
        if not holders.take(url, told, latency_s):
            return count


def test_only_what_has_changed_is_told() -> None:
    own, holders = OwnRoots(), Holders([PEER])
    for number in range(5_000):
        own.hold(f"cid{number}", number)
    assert listen(own, holders) == 5_000, "in several answers"
    assert listen(own, holders) == 0
    own.hold("cid1", 1)
    assert listen(own, holders) == 0, "known"
    own.hold("new", 7)
    own.drop("cid2")
    assert listen(own, holders) == 2
    assert (list(holders.find("new")), list(holders.find("cid2")), list(holders.find("cid3"))) == ([PEER], [], [PEER])


def test_a_peer_that_begins_anew_is_believed_anew() -> None:
    own, holders = OwnRoots(), Holders([PEER])
    own.hold("old", 1)
    listen(own, holders)
    again = OwnRoots()
    again.hold("new", 1)
    listen(again, holders)
    assert (list(holders.find("old")), list(holders.find("new"))) == ([], [PEER])
    holders.forget(PEER)
    assert holders.find("new") == []
    listen(again, holders)
    assert holders.find("new") == [PEER]


def test_whatever_comes_and_goes_both_sides_agree_in_the_end() -> None:
    chance, own, holders, truth = random.Random(5), OwnRoots(), Holders([PEER]), dict[str, int]()
    for _ in range(20_000):
        cid = f"cid{chance.randrange(300)}"
        if chance.random() < 0.5:
            own.hold(cid, 1)
            truth[cid] = 1
        else:
            own.drop(cid)
            truth.pop(cid, None)
        if chance.random() < 0.01:
            listen(own, holders)
    listen(own, holders)
    assert {cid for cid in map("cid{}".format, range(300)) if holders.find(cid)} == truth.keys()
    assert len(own._log) <= 2 * 300 + MAX_ROOT_CHANGES + 1, "old changes are forgotten"


def test_the_nearest_holder_comes_first() -> None:
    own, holders = OwnRoots(), Holders([PEER, OTHER])
    own.hold("cid", 1)
    for _ in range(20):
        holders.forget(PEER)
        holders.forget(OTHER)
        listen(own, holders, PEER, 0.5)
        listen(own, holders, OTHER, 0.01)
    assert holders.find("cid") == [OTHER, PEER]


def test_a_peer_that_tells_too_much_is_not_believed_any_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "MAX_ROOTS", 10)
    monkeypatch.setattr(roots, "MAX_TOLD", 20)
    holders = Holders([PEER, OTHER])
    for url in (PEER, OTHER):
        many = [RootChange(cid=f"cid{number} {url}", size=1) for number in range(100)]
        holders.take(url, RootsMessage(epoch="e", next=100, is_whole=True, changes=many), 0.1)
        assert sum(bool(holders.find(change.cid)) for change in many) == 10
    own = OwnRoots()
    for number in range(100):
        own.hold(f"cid{number}", 1)
    assert len(own.tell("", 0).changes) == 10


@pytest.mark.parametrize(("epoch", "since"), [("", 0), ("x", 3), ("", -1), ("", 10**9)])
def test_whoever_asks_for_what_is_not_there_is_told_everything(epoch: str, since: int) -> None:
    own = OwnRoots()
    own.hold("cid", 1)
    told = own.tell(epoch, since)
    assert (told.is_whole, [change.cid for change in told.changes]) == (True, ["cid"])
    assert own.tell(told.epoch, since).is_whole
