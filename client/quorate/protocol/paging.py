"""How much goes into one page: each of its `post`, `commit` and `settle` calls must fit a transaction.

A chain's limit is EIP-7825's, 2^24 gas. Operators sign a list of commitments for the bundles of one page, so that all
three calls are about the same bundles. Estimates are upper ones, of slots that were never written before;
`scripts/bench gas` measures what pages really use.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from quorate.protocol.params import WALLET_GAS
from quorate.protocol.partition import compute_page_bundles, count_bundles
from quorate.protocol.types import Address, SignatureKind, SignedOrder

MAX_TRANSACTION_GAS = 1 << 24
PAGE_GAS = MAX_TRANSACTION_GAS - 500_000
"""What a page may be estimated at; the rest is for what every call costs."""
ORDER_GAS = 14_000
REQUESTER_GAS = 34_000
KNOWN_REQUESTER_GAS = 14_000
"""Of a requester who has had an order in a batch before: the word of its nonces is written again, not first."""
SIGNATURE_GAS = 40
"""Of a byte that a contract wallet signs with, in calldata and event."""
BUNDLE_GAS = 5_000
SEAT_GAS = 9_000
"""Of a seat in the dearer of `commit` and `settle`; a list or an operator counts in full for each."""


def compute_fitting_bundles(seats: int, rounds: int) -> int:
    """Most bundles of a page; at least one."""
    return max(1, min(compute_page_bundles(seats, rounds), PAGE_GAS // (BUNDLE_GAS + SEAT_GAS * seats)))


def split_orders(orders: Sequence[SignedOrder], known: Collection[Address] = ()) -> list[list[SignedOrder]]:
    """Pages of `post`, in the order given; all orders must have the same terms.

    An order with more bundles than fit gets a page of its own: `settle` can take a page in parts. `known` are
    requesters that surely had an order in a batch before; whoever is left out takes more room.
    """
    pages: list[list[SignedOrder]] = []
    gas = bundles = 0
    for signed in orders:
        count, order_gas = count_bundles(signed.order.task_count), ORDER_GAS
        if signed.kind is SignatureKind.WALLET:
            order_gas += WALLET_GAS + SIGNATURE_GAS * len(signed.signature)
        most = compute_fitting_bundles(signed.order.seats, signed.order.rounds)
        requester_gas = KNOWN_REQUESTER_GAS if signed.order.requester in known else REQUESTER_GAS
        if not pages or bundles + count > most or gas + order_gas + requester_gas > PAGE_GAS:
            pages.append([])
            gas = bundles = 0
        is_new = not pages[-1] or pages[-1][-1].order.requester != signed.order.requester
        pages[-1].append(signed)
        gas, bundles = gas + order_gas + requester_gas * is_new, bundles + count
    return pages
