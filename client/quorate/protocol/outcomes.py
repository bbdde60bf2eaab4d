"""Proving to a contract what a batch decided: the chain keeps hashes of its pages alone (section 4.8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quorate.protocol.context import require
from quorate.protocol.encoding import compute_typed_digest, decode_outcomes, decode_record_page, fold
from quorate.protocol.hashing import keccak
from quorate.protocol.partition import count_bundle_tasks, count_bundles
from quorate.protocol.types import ZERO32, OutcomeRow, PostRecord, Vote

EXTENSION_TYPEHASH = keccak(b"Extension(bytes32 postHash,bytes32 bundlesHash,uint8 round,uint8 rounds)")
AUDIT_TYPEHASH = keccak(b"Audit(bytes32 auditDomain,uint32 operatorId,uint16 bundle,bytes32 vote)")


@dataclass(frozen=True, slots=True)
class Proof:
    """A record page and an outcome page (round u8 ‖ rows) of a batch, in the order of the Solidity struct."""

    prior: bytes
    page: bytes
    tail: tuple[bytes, ...]
    outcome_prior: bytes
    outcomes: bytes
    outcome_tail: tuple[bytes, ...]

    def as_tuple(self) -> tuple[object, ...]:
        """Values in the order of the Solidity struct."""
        return self.prior, self.page, self.tail, self.outcome_prior, self.outcomes, self.outcome_tail


@dataclass(frozen=True, slots=True)
class Extension:
    """Arguments of `extend`; `signature` is the requester's, whoever calls."""

    rounds: int
    bundles: tuple[int, ...]
    proof: Proof
    signature: bytes = b""

    def as_tuple(self) -> tuple[object, ...]:
        """Values in the order of the Solidity struct."""
        return self.rounds, self.bundles, self.proof.as_tuple(), self.signature


@dataclass(frozen=True, slots=True)
class Outcome:
    """One bundle as its batch recorded it and as one round decided it."""

    record: PostRecord
    tasks: int
    round: int
    row: OutcomeRow

    @property
    def price(self) -> int:
        """Wei that a seat earns for the bundle."""
        return self.record.task_price * self.tasks


def plan_proof(pages: Sequence[bytes], page: int, outcomes: Sequence[bytes], outcome: int) -> Proof:
    """Proof by all record pages and all outcome pages (round u8 ‖ rows) of a batch, of which one each is shown."""
    hashes, told = [keccak(each) for each in pages], [keccak(each) for each in outcomes]
    return Proof(
        prior=fold(ZERO32, hashes[:page]),
        page=pages[page],
        tail=tuple(hashes[page + 1 :]),
        outcome_prior=fold(ZERO32, told[:outcome]),
        outcomes=outcomes[outcome],
        outcome_tail=tuple(told[outcome + 1 :]),
    )


def read_proof(proof: Proof, post_hash: bytes, outcome_hash: bytes) -> Mapping[int, Outcome]:
    """Outcomes by bundle, of those that both pages have. Raises HashMismatch as the contracts do."""
    page = fold(proof.prior, [keccak(proof.page), *proof.tail])
    require(page == post_hash, "HashMismatch", "page")
    outcomes = fold(proof.outcome_prior, [keccak(proof.outcomes), *proof.outcome_tail])
    require(outcomes == outcome_hash, "HashMismatch", "outcomes")
    _, bundle, records = decode_record_page(proof.page)
    rows = {row.bundle: row for row in decode_outcomes(proof.outcomes[1:])}
    found: dict[int, Outcome] = {}
    for record in records:
        for number in range(count_bundles(record.task_count)):
            if bundle in rows:
                tasks = count_bundle_tasks(record.task_count, number)
                found[bundle] = Outcome(record, tasks, proof.outcomes[0], rows[bundle])
            bundle += 1
    return found


def compute_extension_digest(
    separator: bytes, post_hash: bytes, bundles: Sequence[int], round_: int, rounds: int
) -> bytes:
    """EIP-712 digest that a requester signs for somebody else to extend its bundles."""
    packed = b"".join(bundle.to_bytes(2, "big") for bundle in bundles)
    numbers = round_.to_bytes(32, "big") + rounds.to_bytes(32, "big")
    return compute_typed_digest(separator, keccak(EXTENSION_TYPEHASH + post_hash + keccak(packed) + numbers))


def compute_audit_digest(separator: bytes, audit_domain: bytes, operator_id: int, bundle: int, vote: Vote) -> bytes:
    """EIP-712 digest that an auditor signs."""
    numbers = operator_id.to_bytes(32, "big") + bundle.to_bytes(32, "big")
    return compute_typed_digest(separator, keccak(AUDIT_TYPEHASH + audit_domain + numbers + vote))
