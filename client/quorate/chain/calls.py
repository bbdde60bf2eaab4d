"""Transactions to the contracts, one typed helper for each method; see contracts/README.md for their requirements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from quorate.chain.abi import Contract, load_interface
from quorate.protocol.classes import Membership, compute_median_ask, compute_median_capacity
from quorate.protocol.outcomes import Extension, Proof
from quorate.protocol.planning import Reveal, Settlement
from quorate.protocol.types import Address, BatchId, ClassId, DisputeId, OperatorId, Terms
from quorate.protocol.vote_planning import VoteReveal, VoteSettlement


@dataclass(frozen=True, slots=True)
class Call:
    """Calldata for one of the contracts; `name` is the method's, for messages and logs."""

    contract: Contract
    name: str
    data: bytes


def build(contract: Contract, name: str, *args: Any) -> Call:
    """A call by name; the helpers below are typed."""
    return Call(contract, name, load_interface(contract).encode_call(name, *args))


# ComputeMarket ------------------------------------------------------------------------------------------------------


def deposit() -> Call:
    """Send value with it: it becomes the sender's free deposit."""
    return build(Contract.MARKET, "deposit")


def deposit_for(account: Address) -> Call:
    """Send value with it: it becomes `account`'s free deposit."""
    return build(Contract.MARKET, "depositFor", account)


def withdraw_deposit(amount_wei: int) -> Call:
    """Free deposit back to the sender."""
    return build(Contract.MARKET, "withdraw", amount_wei)


def post(batch_id: BatchId | int, terms: Terms, page: bytes, last: bool) -> Call:
    """A page of orders; batch 0 opens a new batch under `terms`."""
    return build(Contract.MARKET, "post", batch_id, astuple(terms), page, last)


def prove_beacon(batch_id: BatchId | int, header: bytes) -> Call:
    """RLP of the header of the batch's beacon block: starts the round."""
    return build(Contract.MARKET, "proveBeacon", batch_id, header)


def expire(batch_id: BatchId | int) -> Call:
    """End a batch that its collator or its beacon has abandoned."""
    return build(Contract.MARKET, "expire", batch_id)


def commit(batch_id: BatchId | int, from_: int, to: int, lists: bytes) -> Call:
    """A page of lists of commitments for bundles in [from_, to)."""
    return build(Contract.MARKET, "commit", batch_id, from_, to, lists)


def settle(batch_id: BatchId | int, settlement: Settlement) -> Call:
    """Openings and verdicts of the bundles of one page."""
    return build(Contract.MARKET, "settle", batch_id, settlement.as_tuple())


def reveal(batch_id: BatchId | int, plan: Reveal) -> Call:
    """Openings that a later `settle` must not leave out."""
    return build(Contract.MARKET, "reveal", batch_id, plan.commit_pages, plan.votes, plan.openings)


def extend(batch_id: BatchId | int, extension: Extension) -> Call:
    """More rounds for void bundles whose votes stand; the sender becomes the batch's collator."""
    return build(Contract.MARKET, "extend", batch_id, extension.as_tuple())


def prove_audit(batch_id: BatchId | int, header: bytes) -> Call:
    """The header that draws the audits of a settled batch."""
    return build(Contract.MARKET, "proveAudit", batch_id, header)


# Challenges ---------------------------------------------------------------------------------------------------------


def challenge(batch_id: BatchId | int, proof: Proof, bundle: int, task: int, leaf: bytes) -> Call:
    """Say that a task of an accepted bundle has another leaf; send the bond with it."""
    return build(Contract.CHALLENGES, "challenge", batch_id, proof.as_tuple(), bundle, task, leaf)


def audit(batch_id: BatchId | int, proof: Proof, bundle: int, auditor: int, vote: bytes, signature: bytes) -> Call:
    """An auditor's signed vote on an accepted bundle."""
    return build(Contract.CHALLENGES, "audit", batch_id, proof.as_tuple(), bundle, auditor, vote, signature)


# Disputes -----------------------------------------------------------------------------------------------------------


def publish(dispute_id: DisputeId | int, record: bytes, leaves: bytes) -> Call:
    """Leaves of one of the roots, 32 bytes a task."""
    return build(Contract.DISPUTES, "publish", dispute_id, record, leaves)


def ask(dispute_id: DisputeId | int, record: bytes, leaves: bytes) -> Call:
    """Leaves of all roots, one behind the other, ascending by root; empty where not all were published."""
    return build(Contract.DISPUTES, "ask", dispute_id, record, leaves)


def commit_votes(dispute_id: DisputeId | int, record: bytes, question: bytes, lists: bytes) -> Call:
    """Commitments of class voters."""
    return build(Contract.DISPUTES, "commitVotes", dispute_id, record, question, lists)


def reveal_votes(dispute_id: DisputeId | int, record: bytes, question: bytes, reveal: VoteReveal) -> Call:
    """Openings of class votes that nobody shall leave out."""
    r = reveal
    return build(Contract.DISPUTES, "revealVotes", dispute_id, record, question, r.commit_pages, r.votes, r.openings)


def settle_votes(dispute_id: DisputeId | int, record: bytes, question: bytes, settlement: VoteSettlement) -> Call:
    """Openings of class votes: a decision, or another window."""
    values, rows = settlement.as_tuple(), settlement.rows
    return build(Contract.DISPUTES, "settleVotes", dispute_id, record, question, values, rows)


def punish(dispute_id: DisputeId | int, record: bytes, tally: bytes, up_to: int) -> Call:
    """Go on with the rows of a tally, up to `up_to`."""
    return build(Contract.DISPUTES, "punish", dispute_id, record, tally, up_to)


# StakeRegistry ------------------------------------------------------------------------------------------------------


def register(signing_key: Address) -> Call:
    """The sender becomes an owner; value sent becomes stake."""
    return build(Contract.REGISTRY, "register", signing_key)


def stake(operator_id: OperatorId | int) -> Call:
    """Send value with it."""
    return build(Contract.REGISTRY, "stake", operator_id)


def set_signing_key(signing_key: Address) -> Call:
    """Acts in each class from its next table on."""
    return build(Contract.REGISTRY, "setSigningKey", signing_key)


def announce_endpoint(url: str) -> Call:
    """Where the sender's node answers; at most 256 bytes."""
    return build(Contract.REGISTRY, "announceEndpoint", url)


def create_class(profile: bytes, unit_wei: int, price: int, judged: bool) -> Call:
    """Send `class_deposit` with it; `price` in wei for a FUEL_UNIT, conflicts of a `judged` class go to a vote."""
    return build(Contract.REGISTRY, "createClass", profile, unit_wei, price, judged)


def join(class_id: ClassId | int, units: int, ask: int, capacity: int) -> Call:
    """`ask` in wei for a FUEL_UNIT, `capacity` in fuel a second."""
    return build(Contract.REGISTRY, "join", class_id, units, ask, capacity)


def leave(class_id: ClassId | int) -> Call:
    """Out of the class from its next table on."""
    return build(Contract.REGISTRY, "leave", class_id)


def set_ask(class_id: ClassId | int, ask: int) -> Call:
    """`ask` in wei for a FUEL_UNIT."""
    return build(Contract.REGISTRY, "setAsk", class_id, ask)


def judge(operator_id: OperatorId | int) -> Call:
    """The verdict on an operator's faults of an era that is over."""
    return build(Contract.REGISTRY, "judge", operator_id)


def rejoin() -> Call:
    """The sender's operator is drawn again, after its jail."""
    return build(Contract.REGISTRY, "rejoin")


def unstake(amount_wei: int) -> Call:
    """Begin to unbond free stake."""
    return build(Contract.REGISTRY, "unstake", amount_wei)


def withdraw() -> Call:
    """Unbonded stake to the owner."""
    return build(Contract.REGISTRY, "withdraw")


def advance_era(class_id: ClassId | int, members: Sequence[Membership]) -> Call:
    """`members` of the next table, for their medians."""
    medians = (compute_median_ask(members), compute_median_capacity(members))
    return build(Contract.REGISTRY, "advanceEra", class_id, *medians)


def donate() -> Call:
    """Value to the treasury."""
    return build(Contract.REGISTRY, "donate")
