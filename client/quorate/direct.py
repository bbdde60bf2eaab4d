"""A requester's order straight to the chain, as its own collator: for when no collator is to be had.

It costs its wallet gas, and the free deposit a bond until the batch is final. Nobody packs the votes on it: seats bring
theirs themselves, once the time that a collator would have had is past, so it takes as long as a withheld vote does.
"""

from __future__ import annotations

from quorate.chain import calls
from quorate.chain.account import SigningAccount
from quorate.chain.gateway import ChainGateway
from quorate.chain.types import Receipt
from quorate.protocol.encoding import encode_post_page
from quorate.protocol.errors import ValidationError
from quorate.protocol.params import Params
from quorate.protocol.settlement import compute_needed_period
from quorate.protocol.types import JobOrder, SignedOrder, Terms

LEAST_PERIOD_S = 2


def make_own_terms(order: JobOrder, params: Params) -> Terms:
    """Terms of a batch with one order in it: no fee, and no longer a time for a collator's pages than work needs."""
    needed = compute_needed_period(
        order.task_count, order.fuel_limit, order.input_bytes, params.reference_fuel_rate, params.reference_byte_rate
    )
    period = min(max(needed, LEAST_PERIOD_S), order.commit_period)
    return Terms(order.class_id, order.seats, order.rounds, period, 0)


def post_directly(gateway: ChainGateway, key: SigningAccount, signed: SignedOrder) -> Receipt:
    """Post a batch of one order, and wait until it is mined.

    Raises ValidationError when the sender's free deposit does not cover the bond, ProtocolViolation when it reverts.
    """
    params = gateway.params()
    free = gateway.account(key.address).free
    if free < params.batch_bond:
        raise ValidationError(
            f"a batch of one's own takes a bond of {params.batch_bond} wei beside the order's escrow, and {free} wei "
            "of deposit are free: `quorate account deposit AMOUNT`"
        )
    terms = make_own_terms(signed.order, params)
    return gateway.wait(gateway.send(key, calls.post(0, terms, encode_post_page([signed]), last=True)))
