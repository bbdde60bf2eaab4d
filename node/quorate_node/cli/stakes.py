"""What commands do with the stake of one operator, and how those of a farm go on where one of them cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from quorate.chain import calls
from quorate.chain.account import SigningAccount
from quorate.chain.calls import Call
from quorate.chain.gateway import JsonRpcGateway
from quorate.chain.types import to_hex
from quorate.cli.output import format_ether, format_time
from quorate.protocol.errors import ProtocolViolation, QuorateError, RecoverableError, ValidationError
from quorate.protocol.types import Address
from quorate_node.cli.transfers import MINED_S, send_on

Action = Callable[[SigningAccount], dict[str, Any]]
"""What a command does with one operator's key, and what it tells."""


def try_each(gateway: JsonRpcGateway, keys: Sequence[SigningAccount], action: Action) -> dict[str, Any]:
    """What one operator's command tells; for a farm that of each, with the `problem` of those that could not.

    Raises what stopped the operator where all of them were stopped.
    """
    if len(keys) == 1:
        return action(keys[0])
    found: list[dict[str, Any]] = []
    problems: list[QuorateError] = []
    for key in keys:
        told: dict[str, Any] = {"owner": to_hex(key.address)}
        try:
            told["operator_id"] = gateway.operator_of(key.address)
            told |= action(key)
        except (ValidationError, RecoverableError) as error:
            problems.append(error)
            told["problem"] = str(error)
        found.append(told)
    if len(problems) == len(keys):
        raise _retell(problems[0], f"all {len(keys)} operators are refused; the first: {problems[0]}") from problems[0]
    return {"operators": found}


def _retell(error: QuorateError, text: str) -> QuorateError:
    """The same sort of error in other words."""
    return RecoverableError(text) if isinstance(error, RecoverableError) else ValidationError(text)


def send(gateway: JsonRpcGateway, key: SigningAccount, call: Call, value: int = 0) -> str:
    """Send a call and wait until it is mined; its hash in hex."""
    transaction = gateway.send(key, call, value=value)
    gateway.wait(transaction, MINED_S)
    return to_hex(transaction)


def find_operator(gateway: JsonRpcGateway, key: SigningAccount) -> int:
    """Id of a key's operator. Raises ProtocolViolation when it has none."""
    if operator_id := gateway.operator_of(key.address):
        return operator_id
    hint = f"{to_hex(key.address)} has no operator yet: `quorate-node stake AMOUNT` registers one"
    raise ProtocolViolation("OperatorUnknown", hint=hint)


# stake


@dataclass(frozen=True, slots=True)
class StakeWish:
    """Options of `stake`: wei for each operator, and with `units` above 0 the class to join."""

    wei: int
    class_id: int
    units: int
    ask: int
    capacity: int

    def check(self, gateway: JsonRpcGateway) -> None:
        """Raise ValidationError for what no operator could have."""
        if not self.units:
            return
        if not 1 <= self.class_id <= gateway.class_count():
            raise ValidationError(
                f"there is no class {self.class_id} here: this deployment has {gateway.class_count()}"
            )
        most = gateway.params().max_price
        if self.units < 0 or self.capacity <= 0 or not 0 < self.ask <= most:
            raise ValidationError(f"--units and --capacity are above 0, and --ask is 1 to {most} on this deployment")


def find_refusal(gateway: JsonRpcGateway, key: SigningAccount, wish: StakeWish) -> ValidationError | None:
    """Why an operator could not stake and join like this; None if it could, as far as is known before it tries."""
    operator_id = gateway.operator_of(key.address)
    if not wish.units:
        return None
    info = gateway.operator(operator_id) if operator_id else None
    if info is not None and info.ejected:
        return ProtocolViolation("Ejected", operator_id, hint="it was slashed in full and can join no class again")
    if operator_id and operator_id in gateway.class_members(wish.class_id):
        hint = (
            "it is in the class, and nothing was staked: without --units this only stakes; "
            "for another number of units first leave with `quorate-node unstake AMOUNT --leave`"
        )
        return ProtocolViolation("AlreadyMember", wish.class_id, hint=hint)
    free = wish.wei + (info.stake - info.allocated if info else 0)
    unit_wei = gateway.class_info(wish.class_id).unit_wei
    if wish.units * unit_wei <= free:
        return None
    return ValidationError(
        f"{wish.units} units of class {wish.class_id} need {wish.units * unit_wei} wei ({unit_wei} each), "
        f"but {free} would be free: stake more, or ask for fewer units"
    )


def check_money(gateway: JsonRpcGateway, payer: SigningAccount, keys: Sequence[SigningAccount], wei: int) -> None:
    """Raise ValidationError unless the payer has the stake of all these operators, where they do not hold it."""
    wanted = sum(wei if key.address == payer.address else max(0, wei - gateway.balance(key.address)) for key in keys)
    if (held := gateway.balance(payer.address)) < wanted:
        raise ValidationError(
            f"{to_hex(payer.address)} holds {format_ether(held)} of the {format_ether(wanted)} to stake: "
            "send it stake and gas for each operator first"
        )


def stake(gateway: JsonRpcGateway, key: SigningAccount, wish: StakeWish) -> dict[str, Any]:
    """Register or stake, then join."""
    operator_id = gateway.operator_of(key.address)
    call = calls.stake(operator_id) if operator_id else calls.register(key.address)
    found: dict[str, Any] = {"transaction": send(gateway, key, call, wish.wei)}
    if wish.units:
        try:
            found["joined"] = send(gateway, key, calls.join(wish.class_id, wish.units, wish.ask, wish.capacity))
        except (ValidationError, RecoverableError) as error:
            staked = f"{format_ether(wish.wei)} are staked, but class {wish.class_id} is not joined"
            again = f"`quorate-node stake 1 --units {wish.units}` tries again with no more than a wei"
            raise _retell(error, f"{staked}: {error}; {again}") from error
        found["class"] = wish.class_id
    operator_id = operator_id or gateway.operator_of(key.address)
    info = gateway.operator(operator_id)
    return found | {"operator_id": operator_id, "stake_wei": info.stake, "allocated_wei": info.allocated}


# and back


def unstake(gateway: JsonRpcGateway, key: SigningAccount, wei: int, leave: bool) -> dict[str, Any]:
    """Begin to unbond. An amount that is not there is refused before any class is left."""
    operator_id = find_operator(gateway, key)
    held = gateway.operator(operator_id).stake
    if wei > held:
        hint = f"the operator's whole stake is {format_ether(held)}, with what classes hold: ask for less"
        raise ProtocolViolation("InsufficientStake", held, wei, hint=hint)
    if leave:
        leave_all(gateway, key)
    transaction = send(gateway, key, calls.unstake(wei))
    info = gateway.operator(operator_id)
    return {"transaction": transaction, "unbonding_wei": info.unbonding, "release_at": info.release_at}


def leave_all(gateway: JsonRpcGateway, key: SigningAccount) -> dict[str, Any]:
    """Leave every class; those that were left."""
    operator_id, left = find_operator(gateway, key), []
    for class_id in range(1, gateway.class_count() + 1):
        if operator_id in gateway.class_members(class_id):
            send(gateway, key, calls.leave(class_id))
            left.append(class_id)
    return {"operator_id": operator_id, "left": left}


def count_drawn(gateway: JsonRpcGateway, operators: Sequence[int]) -> int:
    """Memberships of operators in the tables that are drawn from now: what they left counts until its era ends."""
    infos = ((class_id, gateway.class_info(class_id)) for class_id in range(1, gateway.class_count() + 1))
    tables = (gateway.table(class_id, info.table).members for class_id, info in infos if info.table)
    return sum(member.operator_id in operators for members in tables for member in members)


def withdraw(gateway: JsonRpcGateway, key: SigningAccount, target: Address, sweep: bool) -> dict[str, Any]:
    """Take out what has unbonded, and bring it to `target`; with `sweep` all else that the address holds."""
    operator_id = gateway.operator_of(key.address)
    unbonding = gateway.operator(operator_id).unbonding if operator_id else 0
    found: dict[str, Any] = {}
    try:
        found |= {"transaction": send(gateway, key, calls.withdraw()), "withdrawn_wei": unbonding}
    except ProtocolViolation as refusal:
        if not sweep or key.address == target:
            raise
        if unbonding:
            raise ValidationError(f"{refusal}; {_tell_kept(gateway, operator_id)}") from refusal
        found["not_withdrawn"] = str(refusal)
    if key.address == target:
        return found
    if sweep and operator_id and gateway.operator(operator_id).unbonding:  # unstaked since
        return found | {"problem": _tell_kept(gateway, operator_id)}
    try:
        sent, transaction = send_on(gateway, key, target, None if sweep else unbonding)
    except (ValidationError, RecoverableError) as error:
        if refused := found.get("not_withdrawn"):
            raise _retell(error, f"{refused}; {error}") from error
        return found | {"problem": f"{error}: what was withdrawn is there, and --sweep brings it"}
    return found | {"sent_wei": sent, "sent_to": to_hex(target), "sent_transaction": transaction}


def _tell_kept(gateway: JsonRpcGateway, operator_id: int) -> str:
    info = gateway.operator(operator_id)
    return (
        f"{format_ether(info.unbonding)} unbond until {format_time(info.release_at)} ({info.release_at}): "
        "the address keeps what it holds, for the gas of that withdraw"
    )


def rejoin(gateway: JsonRpcGateway, key: SigningAccount) -> dict[str, Any]:
    """Be drawn again after a jail."""
    operator_id = find_operator(gateway, key)
    found: dict[str, Any] = {"operator_id": operator_id}
    if not gateway.faults(operator_id).jailed_until:
        return found | {"problem": "it is not in jail"}
    return found | {"transaction": send(gateway, key, calls.rejoin())}
