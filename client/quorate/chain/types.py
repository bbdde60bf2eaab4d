"""What the chain says, as values; and deployments: which contracts on which chain."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.chain.abi import Contract
from quorate.protocol.disputes import DisputeStatus
from quorate.protocol.errors import ConfigurationError
from quorate.protocol.events import Event
from quorate.protocol.job import BatchStatus
from quorate.protocol.market import NONCE_WINDOW
from quorate.protocol.types import Address, Terms
from quorate.protocol.verdict import Aftermath


def to_hex(data: bytes) -> str:
    """0x and lower-case hex."""
    return f"0x{data.hex()}"


def parse_hex(text: str) -> bytes:
    """Inverse of to_hex; ConfigurationError when it is not hex."""
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except (ValueError, AttributeError) as error:
        raise ConfigurationError(f"{text!r} is not hex") from error


def parse_address(text: str) -> Address:
    """20 bytes from hex; ConfigurationError for anything else."""
    raw = parse_hex(text)
    if len(raw) != 20:
        raise ConfigurationError(f"{text!r} is not an address: give 0x and 40 hex digits")
    return Address(raw)


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file so that readers see the old or the new one, and a crash leaves one of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the name, too, has to outlive a crash
    finally:
        os.close(directory)


CONTRACT_FIELDS = ("registry", "market", "disputes", "challenges", "beacon")
"""Fields of Deployment that are addresses."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where the contracts are; `block` is the first one that can hold their events."""

    chain_id: int
    registry: Address
    market: Address
    disputes: Address
    challenges: Address
    beacon: Address
    block: int = 0

    def address_of(self, contract: Contract) -> Address:
        """Address of a contract that others call."""
        return {
            Contract.REGISTRY: self.registry,
            Contract.MARKET: self.market,
            Contract.DISPUTES: self.disputes,
            Contract.CHALLENGES: self.challenges,
            Contract.BEACON: self.beacon,
        }[contract]

    def to_json(self) -> dict[str, int | str]:
        """What `save` writes."""
        addresses = {name: to_hex(getattr(self, name)) for name in CONTRACT_FIELDS}
        return {"chain_id": self.chain_id, **addresses, "block": self.block}

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_atomically(path, json.dumps(self.to_json(), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Deployment:
        """Read what `save` wrote. Raises ConfigurationError when it is missing or malformed."""
        try:
            values: dict[str, Any] = json.loads(path.read_text())
            addresses = {name: parse_address(values[name]) for name in CONTRACT_FIELDS}
            return cls(int(values["chain_id"]), **addresses, block=int(values["block"]))
        except OSError as error:
            raise ConfigurationError(
                f"no deployment at {path}: start one with `quorate devnet up`, or name its file "
                "(quorate: QUORATE_DEPLOYMENT; quorate-node: init --deployment, or its config.json)"
            ) from error
        except (ValueError, KeyError, TypeError, ConfigurationError) as error:
            raise ConfigurationError(f"{path} is not a deployment file ({error!r}): deploy again") from error


@dataclass(frozen=True, slots=True)
class BlockHead:
    """A block; `timestamp` in unix seconds, hashes of 32 bytes."""

    number: int
    timestamp: int
    hash: bytes
    parent_hash: bytes
    mix_hash: bytes


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event and where it stands; `transaction` is the transaction's hash, `log_index` its place in the block."""

    event: Event
    block_number: int
    transaction: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """A mined transaction; `status` is 1, for a reverted one raises."""

    status: int
    block_number: int
    gas_used: int
    logs: tuple[LoggedEvent, ...]


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """A class; prices in wei for a FUEL_UNIT, `era_end` in unix seconds, `table` the number of the present table."""

    profile: bytes
    unit_wei: int
    price: int
    median_ask: int
    era: int
    era_end: int
    table: int
    dirty: bool
    judged: bool


@dataclass(frozen=True, slots=True)
class OperatorInfo:
    """An operator; amounts in wei, `release_at` in unix seconds."""

    owner: Address
    signing_key: Address
    stake: int
    allocated: int
    unbonding: int
    release_at: int
    lone_wrong: int
    ejected: bool


@dataclass(frozen=True, slots=True)
class FaultInfo:
    """Failed seats of the fault era `era` that are not judged yet, and what came of earlier ones.

    `jailed_until` in unix seconds, 0 outside of a jail; `seats` were filled in the era `seats_era` (modulo 256).
    """

    era: int
    failed: int
    unrevealed: int
    done: int
    jailed_until: int
    offence_era: int
    offences: int
    seats: int
    seats_era: int


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """A requester's or collator's deposit, in wei."""

    free: int
    escrow: int


@dataclass(frozen=True, slots=True)
class NonceWindow:
    """Used order nonces: all below `base`, and those whose bit `nonce - base` is set in `used`."""

    base: int
    used: int

    def is_used(self, nonce: int) -> bool:
        """Whether an order with this nonce would be skipped."""
        return nonce < self.base or (nonce < self.base + NONCE_WINDOW and bool(self.used >> (nonce - self.base) & 1))


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """A batch's state with its terms, hashes and, while it is ASSIGNED, the present round's domain."""

    status: BatchStatus
    collator: Address
    round: int
    bundles: int
    pending: int
    carried: int
    table: int
    beacon_block: int
    start_time: int
    start_block: int
    final_at: int
    terms: Terms
    beacon: bytes
    post_hash: bytes
    commit_hash: bytes
    carry_hash: bytes
    next_carry_hash: bytes
    outcome_hash: bytes


@dataclass(frozen=True, slots=True)
class DisputeInfo:
    """A dispute's state, as the struct `Dispute`; `committed` and `voted` count members, `taken` wei."""

    dispute_id: int
    start_time: int
    start_block: int
    committed: int
    voted: int
    next_free: int
    window: int
    status: DisputeStatus
    aftermath: Aftermath
    row: int
    taken: int
    published: int
    record_hash: bytes
    question_hash: bytes
    commit_hash: bytes
    cast_hash: bytes
    tally_hash: bytes


@dataclass(frozen=True, slots=True)
class RegistryLedgers:
    """The registry's money that is nobody's stake, in wei."""

    pots: int
    class_deposits: int
    treasury: int
