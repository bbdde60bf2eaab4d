"""Rates, repetitions and bans by a clock that the test holds."""

from __future__ import annotations

import pytest

from quorate.protocol.types import Address
from quorate_node.p2p.wire.frames import MAX_FRAME_BYTES, Frame, check_length, decode_frame
from quorate_node.p2p.wire.limits import Buckets, GossipGate, GossipLimits, Offences, Rate, Seen, Verdict
from quorate_node.p2p.wire.network import NetworkName, WireError
from quorate_node.p2p.wire.settings import HostSettings


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    buckets = Buckets(Rate(2.0, 5.0))
    assert [buckets.take("a", 10.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert buckets.take("b", 10.0)
    assert [buckets.take("a", 11.0) for _ in range(3)] == [True, True, False]
    assert not buckets.take("a", 5.0)  # a clock that went back gives nothing
    assert [buckets.take("a", 1000.0) for _ in range(6)] == [True] * 5 + [False]


def test_tables_are_bounded() -> None:
    buckets, seen = Buckets(Rate(1.0, 1.0), max_names=3), Seen(max_rows=3)
    for number in range(10):
        buckets.take(str(number), 0.0)
        seen.add("topic", "a", b"%d" % number)
    assert len(buckets) == len(seen) == 3
    assert not buckets.take("9", 0.0)
    assert not seen.add("topic", "a", b"9")
    assert seen.add("topic", "a", b"0")
    assert seen.add("another", "a", b"9")
    assert seen.add("topic", "b", b"9")


def test_who_offends_too_often_is_out_for_a_while() -> None:
    offences = Offences(patience=3, window_s=3.0, ban_s=60.0)
    assert [offences.note("a", 0.0) for _ in range(5)] == [False, False, False, True, False]
    assert offences.is_banned("a", 59.9)
    assert not offences.is_banned("b", 0.0)
    assert not offences.is_banned("a", 60.0)
    assert [offences.note("b", float(number)) for number in range(100)] == [False] * 100  # one a second is patience


def judge(gate: GossipGate, author: str, data: bytes, now: float = 0.0, *, good: bool = True) -> Verdict:
    return gate.judge("topic", author, data, now, is_well_formed=good)


def test_a_gate_takes_what_is_small_new_well_formed_and_not_too_much() -> None:
    gate = GossipGate(GossipLimits(max_bytes=10, author=Rate(1.0, 3.0), total=Rate(1.0, 5.0)))
    for author in "abcd":
        gate.note_believed(author)
    assert judge(gate, "a", b"x" * 11) is Verdict.TOO_LARGE
    assert judge(gate, "a", b"x", good=False) is Verdict.MALFORMED
    assert judge(gate, "a", b"1") is Verdict.ACCEPTED
    assert judge(gate, "a", b"1") is Verdict.REPEATED
    assert judge(gate, "a", b"2") is Verdict.ACCEPTED
    assert judge(gate, "a", b"3") is Verdict.AUTHOR_RATE
    assert judge(gate, "b", b"4") is Verdict.ACCEPTED
    assert judge(gate, "c", b"5") is Verdict.ACCEPTED
    assert judge(gate, "d", b"6") is Verdict.TOTAL_RATE
    assert judge(gate, "a", b"7", 1.0) is Verdict.ACCEPTED


def test_strangers_take_nothing_from_those_that_are_believed() -> None:
    gate = GossipGate(GossipLimits(author=Rate(1.0, 3.0), total=Rate(4.0, 40.0)))
    gate.note_believed("friend")
    heard = [judge(gate, f"stranger {number}", b"%d" % number) for number in range(100)]
    assert heard == [Verdict.ACCEPTED] * 10 + [Verdict.TOTAL_RATE] * 90
    assert judge(gate, "friend", b"friendly") is Verdict.ACCEPTED
    assert judge(gate, "stranger 100", b"another", 1.0) is Verdict.ACCEPTED, "one a second"


def test_whoever_repeats_anothers_words_does_not_silence_it() -> None:
    gate = GossipGate(GossipLimits())
    assert judge(gate, "echo", b"words") is Verdict.ACCEPTED
    assert judge(gate, "author", b"words") is Verdict.ACCEPTED
    assert judge(gate, "author", b"words") is Verdict.REPEATED


def test_frames_carry_bytes_beside_their_header() -> None:
    frame = Frame("call", {"call": 3, "peer": "é"}, bytes(range(256)))
    encoded = frame.encode()
    assert check_length(encoded[:4]) == len(encoded) - 4
    assert decode_frame(encoded[4:]) == frame
    assert decode_frame(Frame("pong").encode()[4:]) == Frame("pong")
    with pytest.raises(WireError, match="larger than"):
        Frame("x", {}, bytes(MAX_FRAME_BYTES)).encode()
    with pytest.raises(WireError, match="larger than"):
        Frame("x", {"a": "b" * (1 << 16)}).encode()


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x00\x05{}", b"\x00\x02[]", b"\x00\x02{}", b'\x00\x0a{"kind":1}', b"\x00\x02\xff\xff"]
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_frame(data)
    for size in (0, 1, MAX_FRAME_BYTES + 1, (1 << 32) - 1):
        with pytest.raises(WireError):
            check_length(size.to_bytes(4, "big"))


def test_settings_survive_the_way_to_the_child() -> None:
    settings = HostSettings(
        bytes(range(32)), "/ip4/127.0.0.1/tcp/0", NetworkName(5, Address(b"\x01" * 20)),
        GossipLimits(100, Rate(1.0, 2.5)), idle_s=0.5, max_peers=7,
    )  # fmt: skip
    assert HostSettings.from_values(settings.to_values()) == settings
    for broken in ({}, settings.to_values() | {"surplus": 1}, settings.to_values() | {"seed": "x"}):
        with pytest.raises(WireError):
            HostSettings.from_values(broken)
