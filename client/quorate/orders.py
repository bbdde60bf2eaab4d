"""From wishes to an order: seats by confidence, price with headroom, and what it will lock."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from quorate.chain.glance import OrderChain
from quorate.placement import Candidate, Locality, Objection, choose_class
from quorate.protocol.confidence import compute_least_seats_in_network
from quorate.protocol.errors import ProtocolViolation, ValidationError
from quorate.protocol.params import BUNDLE_TASKS, FUEL_UNIT, Params
from quorate.protocol.partition import count_bundles
from quorate.protocol.settlement import compute_needed_period, compute_order_escrow, compute_task_price
from quorate.protocol.types import Address, JobOrder, OrderFlag
from quorate.spec import PreparedSpec

DEFAULT_SEATS = 3
DEFAULT_MAX_FEE_WEI = 10**15
PRICE_HEADROOM = 2
"""A class's price moves by a tenth an era; orders may wait for a few."""


@dataclass(frozen=True, slots=True)
class OrderWishes:
    """What a requester decides; None takes a default from the chain.

    Either `seats`, or `confidence` (0.999: at most one wrong result in a thousand) against an adversary that holds
    `adversary` of all stake. `class_id` None: see `quorate.placement`, which `locality` is for.
    `max_price` in wei for a FUEL_UNIT, `max_fee` in wei for a bundle, `input_bytes` for an
    input that is not in our store, `valid_s` seconds for a collator to post it. `is_strict` refuses a result that only
    a part of the seats opened, the others silent: where all honest ones can be silenced it errs more often.
    """

    class_id: int | None = None
    seats: int | None = None
    rounds: int | None = None
    confidence: float | None = None
    adversary: float = 0.1
    commit_period: int | None = None
    min_units: int | None = None
    max_price: int | None = None
    max_fee: int = DEFAULT_MAX_FEE_WEI
    input_bytes: int | None = None
    valid_s: int = 600
    is_strict: bool = False
    locality: Locality = Locality.PREFER


@dataclass(frozen=True, slots=True)
class Quote:
    """What an order locks at its class's present price, highest fee included; amounts in wei."""

    class_id: int
    seats: int
    rounds: int
    price: int
    task_price: int
    escrow: int


def make_objection(gateway: OrderChain, wishes: OrderWishes, rounds: int) -> Objection:
    """Why an order by these wishes is not given to a class that it does not name. Raises ValidationError."""
    _check_wishes(wishes)
    stakes = cache(lambda: _list_stakes(gateway))

    def object_to(candidate: Candidate) -> str | None:
        if candidate.units < (wishes.min_units or 0):
            return f"it has {candidate.units} units, below min_units {wishes.min_units}"
        if stakes()[candidate.class_id] < 2 * wishes.adversary * sum(stakes().values()):
            return f"whoever has {wishes.adversary:.0%} of all stake could be half of it"
        try:
            seats = choose_seats(gateway, candidate.class_id, wishes, rounds)
        except ValidationError as error:
            return str(error)
        if seats > candidate.members // 2:
            return f"it has {candidate.members} members, too few for {seats} seats"
        return None

    return object_to


def choose_rounds(params: Params, wishes: OrderWishes) -> int:
    """Rounds as wished, or as many as allowed. Raises ValidationError."""
    rounds = params.max_rounds if wishes.rounds is None else wishes.rounds
    if not 0 <= rounds <= params.max_rounds:
        raise ValidationError(f"rounds {rounds} is out of range: choose 0 to {params.max_rounds}")
    return rounds


def build_order(
    gateway: OrderChain, requester: Address, usual_class: int, prepared: PreparedSpec, wishes: OrderWishes
) -> JobOrder:
    """An order with nonce 0.

    Raises ValidationError for wishes that `post` would skip, WrongClass for a spec that the class is not for.
    """
    params = gateway.params()
    rounds = choose_rounds(params, wishes)
    object_to = make_objection(gateway, wishes, rounds)
    class_id = choose_class(gateway, prepared.spec, wishes.class_id, usual_class, wishes.locality, object_to)
    info = gateway.class_info(class_id)
    table = gateway.table(class_id, info.table)
    seats = choose_seats(gateway, class_id, wishes, rounds)
    if not 1 <= seats <= len(table.members) // 2:
        most = len(table.members) // 2
        advice = f"1 to {most}: choose by --seats {most}" if most else "too few for any: name another class"
        raise ValidationError(
            f"{seats} seats are out of range: the class has {len(table.members)} members, so {advice}"
        )
    period = params.max_commit_period if wishes.commit_period is None else wishes.commit_period
    input_bytes = prepared.input_bytes if prepared.input_bytes is not None else wishes.input_bytes
    if input_bytes is None:
        raise ValidationError("the input is not in our store: give its size with --input-bytes")
    fuel = prepared.spec.limits.fuel
    check_period(params, min(prepared.task_count, BUNDLE_TASKS), fuel, input_bytes, period)
    least_units = len(table.units) * 9 // 10 if wishes.confidence is not None else 0
    return JobOrder(
        requester=requester,
        nonce=0,
        class_id=class_id,
        spec_hash=prepared.spec.digest,
        task_count=prepared.task_count,
        fuel_limit=fuel,
        input_bytes=input_bytes,
        seats=seats,
        rounds=rounds,
        commit_period=period,
        # A confidence holds for the class as it is: an order that waits must not land in a much smaller one.
        min_units=least_units if wishes.min_units is None else wishes.min_units,
        max_price=info.price * PRICE_HEADROOM if wishes.max_price is None else wishes.max_price,
        max_fee=wishes.max_fee,
        valid_until=gateway.head().timestamp + wishes.valid_s,
        flags=int(OrderFlag.STRICT if wishes.is_strict else 0),
    )


def choose_seats(gateway: OrderChain, class_id: int, wishes: OrderWishes, rounds: int) -> int:
    """Seats as wished, or the least number for a confidence. Raises ValidationError when both are given."""
    _check_wishes(wishes)
    if wishes.confidence is None:
        return DEFAULT_SEATS if wishes.seats is None else wishes.seats
    stakes = _list_stakes(gateway)
    error = 1 - wishes.confidence
    return compute_least_seats_in_network(wishes.adversary, error, rounds, sum(stakes.values()), stakes[class_id])


def _check_wishes(wishes: OrderWishes) -> None:
    if not 0 <= wishes.adversary < 1:
        raise ValidationError(f"adversary {wishes.adversary} must be a share of all stake, such as 0.1")
    if wishes.confidence is None:
        return
    if wishes.seats is not None:
        raise ValidationError("give either seats or a confidence")
    if not 0 < wishes.confidence < 1:
        raise ValidationError(f"confidence {wishes.confidence} must lie between 0 and 1, such as 0.999")


def _list_stakes(gateway: OrderChain) -> dict[int, int]:
    return {id_: _stake_of_class(gateway, id_) for id_ in range(1, gateway.class_count() + 1)}


def _stake_of_class(gateway: OrderChain, class_id: int) -> int:
    info = gateway.class_info(class_id)
    return len(gateway.table(class_id, info.table).units) * info.unit_wei if info.table else 0


def check_period(params: Params, tasks: int, fuel: int, input_bytes: int, period: int) -> None:
    """Raise ValidationError where `post` would skip an order for PERIOD."""
    rates = params.reference_fuel_rate, params.reference_byte_rate
    needed = compute_needed_period(tasks, fuel, input_bytes, *rates)
    if not needed <= period <= params.max_commit_period:
        raise ValidationError(
            f"{fuel} fuel and {input_bytes} bytes need {needed} s at the reference speed, and a commit period may have "
            f"{min(period, params.max_commit_period)} s: lower --fuel (of a container --seconds), or split the input"
        )


def quote_order(gateway: OrderChain, usual_class: int, prepared: PreparedSpec, wishes: OrderWishes) -> Quote:
    """What an order by these wishes would lock."""
    order = build_order(gateway, Address(bytes(20)), usual_class, prepared, wishes)
    return _quote(gateway, order)


def _quote(gateway: OrderChain, order: JobOrder) -> Quote:
    price = gateway.class_info(order.class_id).price
    task_price = compute_task_price(order.fuel_limit, price, FUEL_UNIT)
    escrow = compute_order_escrow(
        task_price, order.task_count, order.seats, order.rounds, order.max_fee, gateway.params().audit_bps
    )
    return Quote(order.class_id, order.seats, order.rounds, price, task_price, escrow)


def check_order(gateway: OrderChain, order: JobOrder) -> None:
    """Raise, before anything is signed, where `post` would skip the order for FEE, PRICE or DEPOSIT."""
    quote, free = _quote(gateway, order), gateway.account(order.requester).free
    if quote.price > order.max_price:
        raise ValidationError(
            f"the class's price is {quote.price} wei a FUEL_UNIT, above --max-price {order.max_price}"
        )
    fees = order.max_fee * count_bundles(order.task_count)
    if free < quote.escrow - fees:
        hint = "deposit more (`quorate account deposit AMOUNT`), or ask for fewer seats, rounds or fuel"
        raise ProtocolViolation("InsufficientDeposit", free, quote.escrow, hint=hint)
