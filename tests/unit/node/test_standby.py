"""Orders that another collator has taken: brought in time if it does not, and by few at once."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.node.simulation import Network0

from quorate.protocol.encoding import compute_job_id
from quorate.protocol.types import Address, JobId, SignedOrder
from quorate_node.core import standby
from quorate_node.core.standby import LEAST_WAIT_S, MAX_AT_ONCE, STEP_S, STEPS, Standby
from quorate_node.hints import MAX_BATCHES, MAX_CLAIMS, BatchHints

OWN, LATE_S = Address(b"\x01" * 20), LEAST_WAIT_S + STEPS * STEP_S


def make_orders(count: int, valid_until: int = 10**9) -> list[tuple[JobId, SignedOrder]]:
    net = Network0(8)
    signed = net.order()
    orders = [replace(signed.order, nonce=number, valid_until=valid_until) for number in range(count)]
    return [(compute_job_id(net.world.market.separator, each), SignedOrder(each, bytes(65))) for each in orders]


def hear_all(
    waiting: Standby, orders: list[tuple[JobId, SignedOrder]], author: str = "a", block_s: float = 0.25
) -> int:
    return sum(waiting.hear(job_id, signed, (), author, 100.0, block_s) for job_id, signed in orders)


def test_what_its_collator_brings_is_forgotten_and_what_it_does_not_is_due() -> None:
    waiting, orders = Standby(OWN), make_orders(3)
    assert hear_all(waiting, orders) == 3
    assert hear_all(waiting, orders) == 0, "heard before"
    posted = {orders[0][0]}
    assert list(waiting.take_due(100.0 + LEAST_WAIT_S - 0.1, 0, posted.__contains__)) == []
    assert len(waiting) == 2
    due = list(waiting.take_due(100.0 + LATE_S, 0, posted.__contains__))
    assert {each.job_id for each in due} == {job_id for job_id, _ in orders[1:]}
    assert len(waiting) == 0
    assert hear_all(waiting, orders[1:]) == 2, "it may be heard of again: another collator took it"


def test_an_expired_order_is_nobodys() -> None:
    waiting = Standby(OWN)
    hear_all(waiting, make_orders(2, valid_until=50))
    assert list(waiting.take_due(100.0 + LATE_S, 51.0, lambda _: False)) == []
    assert len(waiting) == 0


def test_collators_do_not_all_go_first() -> None:
    orders = make_orders(40)
    firsts = []
    for number in range(8):
        waiting = Standby(Address(bytes((number,)) * 20))
        hear_all(waiting, orders)
        firsts.append({each.job_id for each in waiting.take_due(100.0 + LEAST_WAIT_S, 0, lambda _: False)})
    assert all(0 < len(first) < 30 for first in firsts)
    assert len({frozenset(first) for first in firsts}) == len(firsts)


def test_on_a_slow_chain_it_waits_longer() -> None:
    waiting, orders = Standby(OWN), make_orders(10)
    hear_all(waiting, orders, block_s=12.0)
    assert list(waiting.take_due(100.0 + 4 * 12.0 - 1, 0, lambda _: False)) == []
    assert len(list(waiting.take_due(100.0 + 8 * 12.0, 0, lambda _: False))) == 10


def test_one_author_does_not_fill_it() -> None:
    orders = make_orders(standby.MAX_OF_AUTHOR + 5)
    waiting = Standby(OWN)
    assert hear_all(waiting, orders) == standby.MAX_OF_AUTHOR
    assert hear_all(waiting, orders[-5:], author="b") == 5
    taken = list(waiting.take_due(100.0 + LATE_S, 0, lambda _: False))
    assert len(taken) == MAX_AT_ONCE, "the account of each requester may have to be read"
    assert hear_all(waiting, orders[standby.MAX_OF_AUTHOR :], author="a") == 0, "those of b are heard already"


def test_only_a_batchs_own_collator_says_who_has_its_inputs() -> None:
    hints, collator, liar = BatchHints(), Address(b"\x02" * 20), Address(b"\x03" * 20)
    hints.put(7, liar, ["http://liar"])
    hints.put(7, collator, ["http://one", "http://two", "http://one"])
    assert hints.find(7, [collator]) == ["http://one", "http://two"]
    assert hints.find(7, []) == []
    assert hints.find(8, [collator]) == []
    for number in range(MAX_CLAIMS - 1):
        hints.put(7, Address(bytes((100 + number,)) * 20), [])
    assert hints.find(7, [collator]) == ["http://one", "http://two"]
    for number in range(MAX_BATCHES):
        hints.put(100 + number, liar, [])
    assert hints.find(7, [collator]) == [], "the oldest are forgotten"
