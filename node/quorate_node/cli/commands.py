"""What the commands do, apart from reading options and printing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from quorate.chain.account import SigningAccount
from quorate.chain.gateway import JsonRpcGateway
from quorate.chain.types import Deployment, parse_address, to_hex, write_atomically
from quorate.cli.output import parse_amount as parse_amount  # for quorate_node.cli.main
from quorate.protocol.errors import ConfigurationError, QuorateError, RecoverableError, ValidationError
from quorate.protocol.profiles import BUILT_IN, Description
from quorate.protocol.types import Address
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate_node.cli import memberships, rotation, stakes
from quorate_node.cli.asking import ask_node
from quorate_node.cli.idleness import explain_idleness
from quorate_node.cli.transfers import fund
from quorate_node.config import CONFIG_FILE, KEYSTORE_FILE, NodeConfig, build_config, change_config, load_config
from quorate_node.keystore import create_key, derive_keys, get_passphrase, open_key, read_address, read_addresses

TRAFFIC = ("serve_bytes_s", "serve_bytes_day", "fetch_bytes_s", "fetch_bytes_day")


@dataclass(frozen=True, slots=True)
class InitOptions:
    """Options of `init`; see NodeConfig."""

    rpc_url: str
    deployment: Path
    listen: str
    announce: str | None
    passphrase_file: Path | None
    owner: str | None
    classes: tuple[int, ...]
    collator: bool
    workers: int
    operators: int = 1
    ceilings: Sequence[str] = ()
    container_ceilings: Sequence[str] = ()
    docker_host: str | None = None
    docker_runtime: str | None = None
    docker_registries: tuple[str, ...] = ()
    kubo: str | None = None
    store_bytes: int | None = None
    traffic: Sequence[str] = ()


def init(home: Path, options: InitOptions) -> dict[str, Any]:
    """Make keystore and config.json. Raises ConfigurationError when there are some already."""
    path = home / CONFIG_FILE
    if path.exists():
        raise ConfigurationError(f"{path} exists: edit it, or choose another --home")
    Deployment.load(options.deployment.expanduser())  # a wrong path is told before there is anything
    values: dict[str, Any] = {
        "rpc_url": options.rpc_url,
        "deployment": str(options.deployment.expanduser().absolute()),
        "keystore": KEYSTORE_FILE,
        "passphrase_file": str(options.passphrase_file.absolute()) if options.passphrase_file else None,
        "listen": options.listen,
        "announce": options.announce,
        "collator": options.collator,
        "workers": options.workers,
        "operators": options.operators,
        "classes": list(options.classes),
        "owner": options.owner,
        "ceilings": _parse_ceilings(options.ceilings),
        "container_ceilings": _parse_ceilings(options.container_ceilings),
        "docker_host": options.docker_host,
        "docker_runtime": options.docker_runtime,
        "docker_registries": list(options.docker_registries) or None,
        "kubo": options.kubo,
        "store_bytes": options.store_bytes,
    } | _parse_traffic(options.traffic)
    values = {name: value for name, value in values.items() if value is not None}
    config = build_config(home, values, "init")
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    account = create_key(config.keystore, get_passphrase(config.passphrase_file, confirm=True))
    write_atomically(path, json.dumps(values, indent=1) + os.linesep)
    return {"address": to_hex(account.address), "keystore": str(config.keystore), "config": str(path)}


def _parse_ceilings(items: Sequence[str]) -> dict[str, int] | None:
    """NAME=NUMBER items as a setting; names and sizes are checked with all others."""
    return _parse_numbers("a ceiling", items) or None


def _parse_traffic(items: Sequence[str]) -> dict[str, int]:
    """NAME=NUMBER items as settings. Raises ConfigurationError for a name that is none of TRAFFIC."""
    found = _parse_numbers("a bound on traffic", items)
    if unknown := sorted(found.keys() - set(TRAFFIC)):
        raise ConfigurationError(f"there is no bound on traffic {unknown[0]!r}: they are {', '.join(TRAFFIC)}")
    return found


def _parse_numbers(what: str, items: Sequence[str]) -> dict[str, int]:
    pairs = [item.partition("=") for item in items]
    for name, sign, number in pairs:
        if not (number.isascii() and number.isdecimal()):
            raise ConfigurationError(f"{what} is given as NAME=NUMBER, not {name + sign + number!r}")
    return {name: int(number) for name, _, number in pairs}


def _open(home: Path, operators: int | None = None) -> tuple[NodeConfig, JsonRpcGateway]:
    config = load_config(home, operators)
    gateway = JsonRpcGateway(config.rpc_url, Deployment.load(config.deployment))
    gateway.check()
    return config, gateway


def _open_owners(home: Path, operators: int | None = None) -> tuple[NodeConfig, JsonRpcGateway, list[SigningAccount]]:
    """Configuration, the chain, and the key of each operator, the keystore's own first."""
    config, gateway = _open(home, operators)
    keystore = config.owner_keystore or config.keystore
    key = open_key(keystore, config.passphrase_file)
    if config.owner and parse_address(config.owner) != key.address:
        raise ConfigurationError(
            f"the stake belongs to {config.owner}, but {keystore} is another key: do this with the owner's key, whose "
            "keystore config.json may name as owner_keystore"
        )
    return config, gateway, derive_keys(key, config)


def stake(
    home: Path, wei: int, class_id: int, units: int, ask: int, capacity: int, operators: int | None = None
) -> dict[str, Any]:
    """Register or stake, and join a class when `units` is above 0; a farm's first key pays for the others.

    What can be refused is refused before any money moves; of a farm, those that are not refused go on.
    """
    config, gateway, keys = _open_owners(home, operators)
    wish = stakes.StakeWish(wei, class_id, units, ask, capacity)
    wish.check(gateway)
    description = _check_joinable(config, gateway, class_id) if units else None
    refusals = {key.address: stakes.find_refusal(gateway, key, wish) for key in keys}
    if able := [key for key in keys if refusals[key.address] is None]:
        stakes.check_money(gateway, keys[0], able, wei)

    def stake_one(key: SigningAccount) -> dict[str, Any]:
        if (refusal := refusals[key.address]) is not None:
            raise refusal
        if key is not keys[0]:
            fund(gateway, keys[0], key.address, wei)
        if description is not None:
            _remember(config, description, class_id)
        return stakes.stake(gateway, key, wish)

    return stakes.try_each(gateway, keys, stake_one)


def unstake(home: Path, wei: int, leave: bool) -> dict[str, Any]:
    """Begin to unbond; `leave` first takes the operator out of all its classes, whose units hold stake."""
    _, gateway, keys = _open_owners(home)
    return stakes.try_each(gateway, keys, lambda key: stakes.unstake(gateway, key, wei, leave))


def withdraw(home: Path, to: str | None = None, sweep: bool = False) -> dict[str, Any]:
    """Take unbonded stake out, and bring it to one address: `to`, or that of a farm's first operator.

    With `sweep` all that the other operators' addresses hold comes along, be there unbonded stake or not; only those
    whose stake still unbonds keep it, for the withdraw that is to come.
    """
    _, gateway, keys = _open_owners(home)
    target = parse_address(to) if to else keys[0].address
    if not any(target):
        raise ValidationError("nobody has the address 0x0: what is sent there is lost")
    if sweep and all(key.address == target for key in keys):
        raise ValidationError("--sweep empties the addresses of a farm's other operators: say where to with --to")
    return stakes.try_each(gateway, keys, lambda key: stakes.withdraw(gateway, key, target, sweep))


def rejoin(home: Path) -> dict[str, Any]:
    """Have operators drawn again whose jail is over."""
    _, gateway, keys = _open_owners(home)
    return stakes.try_each(gateway, keys, lambda key: stakes.rejoin(gateway, key))


# classes


def create_class(
    home: Path, words: Sequence[str], unit_wei: int | None, price: int, judged: bool | None
) -> dict[str, Any]:
    """Create a class with the keystore's key; its description is written down, as only a hash is on chain."""
    wish = memberships.ClassWish(Description.parse(" ".join(words)), unit_wei, price, judged)
    config, gateway = _open(home)
    key = open_key(config.keystore, config.passphrase_file)
    found = memberships.create(gateway, key, wish)
    _remember(config, wish.description)
    return found


def join_class(
    home: Path,
    class_id: int,
    words: Sequence[str],
    units: int,
    ask: int | None,
    capacity: int,
    operators: int | None = None,
) -> dict[str, Any]:
    """Join a class with stake that is free, after everything that can be refused is.

    The configuration names class and description before anybody is in it: a node that did not know them would refuse
    its seats, and pay for that.
    """
    given = Description.parse(" ".join(words)) if words else None
    config, gateway, keys = _open_owners(home, operators)
    info, wish = memberships.get_class(gateway, class_id), memberships.JoinWish(class_id, units, ask, capacity)
    if ask is not None:
        memberships.check_ask(gateway, ask)
    description = _check_joinable(config, gateway, class_id, given)

    def join_one(key: SigningAccount) -> dict[str, Any]:
        if (refusal := memberships.find_refusal(gateway, key, wish, info)) is not None:
            raise refusal
        _remember(load_config(home), description, class_id)
        return memberships.join(gateway, key, wish, info)

    try:
        found = stakes.try_each(gateway, keys, join_one)
    except QuorateError:
        change_config(home, profiles=list(config.profiles), classes=list(config.classes))
        raise
    return found | {"description": str(description)}


def set_ask(home: Path, class_id: int, ask: int) -> dict[str, Any]:
    """Change what all operators that are in a class ask there."""
    _, gateway, keys = _open_owners(home)
    memberships.get_class(gateway, class_id)
    memberships.check_ask(gateway, ask)
    return stakes.try_each(gateway, keys, lambda key: memberships.set_ask(gateway, key, class_id, ask))


def leave_class(home: Path, class_id: int) -> dict[str, Any]:
    """Leave a class with all operators that are in it; the node keeps it alive no longer."""
    _, gateway, keys = _open_owners(home)
    memberships.get_class(gateway, class_id)
    found = stakes.try_each(gateway, keys, lambda key: memberships.leave(gateway, key, class_id))
    config = load_config(home)
    change_config(home, classes=[each for each in config.classes if each != class_id])
    return found


def list_classes(home: Path) -> list[dict[str, Any]]:
    """All classes of the deployment, as this host sees them."""
    config, gateway = _open(home)
    return _list_classes(config, gateway, partial(_find_obstacle, config))


def list_described(home: Path, *more: Description) -> list[dict[str, Any]]:
    """The classes whose descriptions this home knows, or are among `more`; whether it can run them is not tried."""
    config, gateway = _open(home)
    listed = _list_classes(config, gateway, lambda _: None, more)
    return [each for each in listed if each["description"] is not None]


def _list_classes(
    config: NodeConfig,
    gateway: JsonRpcGateway,
    obstacles: memberships.FindObstacle,
    more: Sequence[Description] = (),
) -> list[dict[str, Any]]:
    operators = [gateway.operator_of(owner) for owner in _read_owners(config)]
    return memberships.describe_all(gateway, operators, (*config.descriptions, *more), obstacles)


def _check_joinable(
    config: NodeConfig, gateway: JsonRpcGateway, class_id: int, given: Description | None = None
) -> Description:
    info = gateway.class_info(class_id)
    return memberships.check_joinable(class_id, info, given, config.descriptions, partial(_find_obstacle, config))


def _find_obstacle(config: NodeConfig, description: Description) -> str | None:
    from quorate_node.executor.diagnosis import find_obstacle  # it knows wasmtime

    if description.dataset is not None and not _holds(config, description.dataset):
        return f"it does not hold {description.dataset} whole: `quorate-node dataset join` fetches and pins it"
    return find_obstacle(description, config.docker)


def _holds(config: NodeConfig, dataset: str) -> bool:
    with closing(EmbeddedStore(config.home / "store")) as store:
        root = Cid.parse(dataset)
        return root in store.pins() and store.is_complete(root)


def _remember(config: NodeConfig, description: Description, class_id: int | None = None) -> None:
    """Write down what this node is to work for: WebAssembly it always does."""
    profiles, classes = list(config.profiles), list(config.classes)
    if description not in BUILT_IN[:1] and str(description) not in profiles:
        profiles.append(str(description))
    if class_id is not None and class_id not in classes:
        classes.append(class_id)
    if (tuple(profiles), tuple(classes)) != (config.profiles, config.classes):
        change_config(config.home, profiles=profiles, classes=classes)


# looking


def status(home: Path) -> dict[str, Any]:
    """Chain and node; `operators` has all of a farm, the fields beside it are the first one's.

    The node's part is None when it does not answer; `why_no_work` gathers what is wrong in all of it.
    """
    config, gateway = _open(home)
    operators = [_describe_operator(gateway, owner) for owner in _read_owners(config)]
    node = ask_node(config.listen)
    first = operators[0] | {"url": config.url, "operators": operators}
    return first | {"node": node, "why_no_work": explain_idleness(operators, node, config.listen, time.time())}


def _read_owners(config: NodeConfig) -> list[Address]:
    """Who owns this home's operators, without a passphrase."""
    if config.operators > 1:
        return read_addresses(config)
    return [parse_address(config.owner) if config.owner else read_address(config.keystore)]


def _describe_operator(gateway: JsonRpcGateway, owner: Address) -> dict[str, Any]:
    operator_id = gateway.operator_of(owner)
    found: dict[str, Any] = {"operator_id": operator_id, "owner": to_hex(owner)}
    if not operator_id:
        problem = f"no operator yet: send ether to {to_hex(owner)}, then `quorate-node stake AMOUNT --units N`"
        return found | {"problem": problem}
    info = gateway.operator(operator_id)
    return (
        found
        | {
            "signing_key": to_hex(info.signing_key),
            "stake_wei": info.stake,
            "allocated_wei": info.allocated,
            "unbonding_wei": info.unbonding,
            "release_at": info.release_at,
            "ejected": info.ejected,
        }
        | _describe_faults(gateway, operator_id)
    )


def _describe_faults(gateway: JsonRpcGateway, operator_id: int) -> dict[str, Any]:
    faults = gateway.faults(operator_id)
    found: dict[str, Any] = {"failed_seats": faults.failed, "jailed_until": faults.jailed_until}
    if faults.jailed_until:
        found["problem"] = f"in jail: `quorate-node rejoin` from {faults.jailed_until} (unix seconds) on"
    return found


def leave_all(home: Path) -> dict[str, Any]:
    """Leave all classes with all operators."""
    _, gateway, keys = _open_owners(home)
    return stakes.try_each(gateway, keys, lambda key: stakes.leave_all(gateway, key))


def count_obligations(home: Path) -> dict[str, int]:
    """What the operators may still be asked for, in words. Raises RecoverableError when their node does not answer."""
    config, gateway = _open(home)
    operators = [found for owner in _read_owners(config) if (found := gateway.operator_of(owner))]
    node = ask_node(config.listen)
    if node is None or not node["ready"]:
        raise RecoverableError(f"no node answers at {config.listen}: it has to run until it is free; start it again")
    drawn = stakes.count_drawn(gateway, operators)
    return {"tables that still draw it": drawn, "batches that are not final": node["obligations"]}


def rotate_key(home: Path, fund_wei: int) -> dict[str, Any]:
    """Give the operator another signing key, while nothing can be asked of it."""
    config, gateway, owners = _open_owners(home)
    if left := [f"{name} {count}" for name, count in count_obligations(home).items() if count]:
        raise ValidationError(f"the old key may still have to sign ({', '.join(left)}): `quorate-node drain` first")
    return rotation.rotate(gateway, config, owners[0], config.owner_keystore or config.keystore, fund_wei)
