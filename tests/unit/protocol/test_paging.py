"""Pages of orders: as many as surely fit a transaction."""

from __future__ import annotations

from itertools import chain

from quorate.protocol.paging import PAGE_GAS, compute_fitting_bundles, split_orders
from quorate.protocol.params import WALLET_GAS
from quorate.protocol.types import Address, JobOrder, SignatureKind, SignedOrder


def _order(requester: int, nonce: int, kind: SignatureKind = SignatureKind.ECDSA) -> SignedOrder:
    order = JobOrder(
        requester=Address(requester.to_bytes(20, "big")), nonce=nonce, class_id=1, spec_hash=bytes(32), task_count=1,
        fuel_limit=1, input_bytes=0, seats=3, rounds=2, commit_period=60, min_units=1, max_price=1, max_fee=1,
        valid_until=1,
    )  # fmt: skip
    return SignedOrder(order, bytes(65), kind)


def test_pages_keep_the_order_of_orders_and_lose_none() -> None:
    orders = [_order(number // 3, number) for number in range(1200)]
    pages = split_orders(orders)
    assert list(chain.from_iterable(pages)) == orders
    assert max(map(len, pages)) <= compute_fitting_bundles(3, 2)


def test_many_requesters_take_more_pages_than_one() -> None:
    assert len(split_orders([_order(1, number) for number in range(500)])) == 1
    assert len(split_orders([_order(number, 0) for number in range(500)])) == 2


def test_requesters_that_the_chain_knows_share_a_page() -> None:
    orders = [_order(number, 0) for number in range(500)]
    known = {signed.order.requester for signed in orders}
    assert len(split_orders(orders, known)) == 1
    pages = split_orders(orders, {signed.order.requester for signed in orders[::2]})
    assert [len(page) for page in pages] == [428, 72]


def test_what_contract_wallets_may_burn_is_reserved() -> None:
    pages = split_orders([_order(number, 0, SignatureKind.WALLET) for number in range(500)])
    assert max(map(len, pages)) * WALLET_GAS < PAGE_GAS
