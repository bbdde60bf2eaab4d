"""Classes as an operator sees them: what they are for, whether this host can run that, and making, joining, leaving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from quorate.chain import calls
from quorate.chain.account import SigningAccount
from quorate.chain.gateway import JsonRpcGateway
from quorate.chain.types import ClassInfo, to_hex
from quorate.classes import describe_class
from quorate.cli.output import format_ether
from quorate.protocol.errors import ProtocolViolation, UnrecoverableError, ValidationError
from quorate.protocol.events import ClassCreated
from quorate.protocol.params import MAX_CLASSES
from quorate.protocol.profiles import Description, find_description
from quorate_node.cli.stakes import find_operator, send
from quorate_node.cli.transfers import MINED_S

FindObstacle = Callable[[Description], str | None]
"""Why this host cannot run a profile, or None: what a test replaces by another host's answer."""


@dataclass(frozen=True, slots=True)
class ClassWish:
    """Options of `class create`; `unit_wei` None: the least, `judged` None: if its programs can be."""

    description: Description
    unit_wei: int | None
    price: int
    judged: bool | None

    @property
    def is_judged(self) -> bool:
        """As wished, or as the profile allows."""
        return self.description.find_objection(True) is None if self.judged is None else self.judged


@dataclass(frozen=True, slots=True)
class JoinWish:
    """Options of `class join`; `ask` in wei for a FUEL_UNIT (None: the class's price), `capacity` in fuel a second."""

    class_id: int
    units: int
    ask: int | None
    capacity: int


def create(gateway: JsonRpcGateway, key: SigningAccount, wish: ClassWish) -> dict[str, Any]:
    """Make a class; its deposit stays locked. What the chain would refuse is refused before money moves."""
    params, description = gateway.params(), wish.description
    if objection := description.find_objection(wish.is_judged):
        raise ValidationError(f"a judged class for {description} is refused: {objection}")
    unit_wei = params.least_unit_wei if wish.unit_wei is None else wish.unit_wei
    if unit_wei < params.least_unit_wei:
        raise ValidationError(f"--unit is below {format_ether(params.least_unit_wei)}, the least on this deployment")
    if not 0 < wish.price <= params.max_price:
        raise ValidationError(f"--price must be 1 to {params.max_price} on this deployment")
    if (held := gateway.balance(key.address)) <= params.class_deposit:
        raise ValidationError(
            f"a class locks a deposit of {format_ether(params.class_deposit)}, and {to_hex(key.address)} holds "
            f"{format_ether(held)}: send it that and gas first"
        )
    call = calls.create_class(description.digest, unit_wei, wish.price, wish.is_judged)
    transaction = gateway.send(key, call, value=params.class_deposit)
    receipt = gateway.wait(transaction, MINED_S)
    made = next((each.event for each in receipt.logs if isinstance(each.event, ClassCreated)), None)
    if made is None:
        raise UnrecoverableError(f"transaction {to_hex(transaction)} made no class: another contract answers there")
    return {
        "class": made.class_id,
        "description": str(description),
        "profile": to_hex(description.digest),
        "unit_wei": unit_wei,
        "price": wish.price,
        "judged": wish.is_judged,
        "deposit_wei": params.class_deposit,
        "transaction": to_hex(transaction),
    }


# joining and leaving


def get_class(gateway: JsonRpcGateway, class_id: int) -> ClassInfo:
    """A class. Raises ValidationError where there is none of this id."""
    if not 1 <= class_id <= (count := gateway.class_count()):
        raise ValidationError(f"there is no class {class_id} here: this deployment has {count}")
    return gateway.class_info(class_id)


def check_joinable(
    class_id: int,
    info: ClassInfo,
    given: Description | None,
    known: Sequence[Description],
    find_obstacle: FindObstacle,
) -> Description:
    """What a class is for, if this host can run it. Raises ValidationError, also where nobody said what it is for.

    `given` is what the operator says that it is for, `known` what its configuration knows.
    """
    if given is not None and given.digest != info.profile:
        raise ValidationError(
            f"class {class_id} is not for {given}: that hashes to {to_hex(given.digest)}, and its profile is "
            f"{to_hex(info.profile)}; ask who created it for the right description"
        )
    found = given or find_description(info.profile, known)
    if found is None:
        raise ValidationError(
            f"what class {class_id} is for is not known here, only its hash {to_hex(info.profile)}: ask who created "
            f"it, then `quorate-node class join {class_id} PROFILE image=sha256:…`"
        )
    if objection := found.find_objection(info.judged):
        raise ValidationError(f"class {class_id} is judged, and for {found}: {objection}")
    if obstacle := find_obstacle(found):
        raise ValidationError(f"class {class_id} is for {found}, which this host cannot run: {obstacle}")
    return found


def find_refusal(
    gateway: JsonRpcGateway, key: SigningAccount, wish: JoinWish, info: ClassInfo
) -> ValidationError | None:
    """Why an operator could not join like this; None if it could, as far as is known before it tries."""
    try:
        operator_id = find_operator(gateway, key)
    except ProtocolViolation as refusal:
        return refusal
    operator = gateway.operator(operator_id)
    if operator.ejected:
        return ProtocolViolation("Ejected", operator_id, hint="it was slashed in full and can join no class again")
    if operator_id in gateway.class_members(wish.class_id):
        hint = f"it is in the class; for another number of units first `quorate-node class leave {wish.class_id}`"
        return ProtocolViolation("AlreadyMember", wish.class_id, hint=hint)
    joined = [id_ for id_ in range(1, gateway.class_count() + 1) if operator_id in gateway.class_members(id_)]
    if len(joined) >= MAX_CLASSES:
        hint = f"it is in classes {', '.join(map(str, joined))}, and in no more than {MAX_CLASSES} at once: leave one"
        return ProtocolViolation("LimitReached", "classes", hint=hint)
    free = operator.stake - operator.allocated
    if (wanted := wish.units * info.unit_wei) <= free:
        return None
    hint = (
        f"{wish.units} units of class {wish.class_id} need {format_ether(wanted)}, and {format_ether(free)} of the "
        "stake is free: stake more with `quorate-node stake AMOUNT`, or ask for fewer units"
    )
    return ProtocolViolation("InsufficientStake", free, wanted, hint=hint)


def join(gateway: JsonRpcGateway, key: SigningAccount, wish: JoinWish, info: ClassInfo) -> dict[str, Any]:
    """Allocate units to a class: drawn from its next era on."""
    ask = info.price if wish.ask is None else wish.ask
    transaction = send(gateway, key, calls.join(wish.class_id, wish.units, ask, wish.capacity))
    operator_id = gateway.operator_of(key.address)
    operator = gateway.operator(operator_id)
    return {
        "operator_id": operator_id,
        "class": wish.class_id,
        "units": wish.units,
        "ask": ask,
        "allocated_wei": operator.allocated,
        "stake_wei": operator.stake,
        "transaction": transaction,
    }


def check_ask(gateway: JsonRpcGateway, ask: int) -> None:
    """Raise ValidationError for an ask that the deployment does not allow, in wei for a FUEL_UNIT."""
    most = gateway.params().max_price
    if not 0 < ask <= most:
        raise ValidationError(f"an ask (--ask) is 1 to {most} wei for 1e9 fuel on this deployment, not {ask}")


def set_ask(gateway: JsonRpcGateway, key: SigningAccount, class_id: int, ask: int) -> dict[str, Any]:
    """Ask another price in a class from its next era on, whose price is the median of all asks by units."""
    operator_id = _find_member(gateway, key, class_id)
    transaction = send(gateway, key, calls.set_ask(class_id, ask))
    info = gateway.class_info(class_id)
    found: dict[str, Any] = {"operator_id": operator_id, "class": class_id, "ask": ask, "transaction": transaction}
    return found | {"price": info.price, "counts_from": info.era_end}


def _find_member(gateway: JsonRpcGateway, key: SigningAccount, class_id: int) -> int:
    operator_id = find_operator(gateway, key)
    if operator_id not in gateway.class_members(class_id):
        raise ProtocolViolation("NotMember", class_id, hint="it is not in this class: see `quorate-node class list`")
    return operator_id


def leave(gateway: JsonRpcGateway, key: SigningAccount, class_id: int) -> dict[str, Any]:
    """Free the units that a class holds; the present table still draws them."""
    operator_id = _find_member(gateway, key, class_id)
    transaction = send(gateway, key, calls.leave(class_id))
    found = {"operator_id": operator_id, "class": class_id, "transaction": transaction}
    return found | {"drawn_until": gateway.class_info(class_id).era_end}


# looking


def describe_all(
    gateway: JsonRpcGateway, operators: Sequence[int], known: Sequence[Description], find_obstacle: FindObstacle
) -> list[dict[str, Any]]:
    """Every class of the deployment; `mine` are units of these operators, `why` says what keeps this host out."""
    explain = cache(find_obstacle)
    return [_describe(gateway, class_id, operators, known, explain) for class_id in range(1, gateway.class_count() + 1)]


def _describe(
    gateway: JsonRpcGateway,
    class_id: int,
    operators: Sequence[int],
    known: Sequence[Description],
    find_obstacle: FindObstacle,
) -> dict[str, Any]:
    info, members = gateway.class_info(class_id), gateway.class_members(class_id)
    table = gateway.table(class_id, info.table).members if info.table else ()
    try:
        check_joinable(class_id, info, None, known, find_obstacle)
        why = None
    except ValidationError as refusal:
        why = str(refusal)
    return describe_class(gateway, class_id, known) | {
        "mine": sum(members[each].units for each in operators if each in members),
        "drawn_until": info.era_end if any(row.operator_id in operators for row in table) else None,
        "can_run": why is None,
        "why": why,
    }
