"""`extend` and `proveAudit`: what may happen to a settled batch (sections 4.8 and 6 of contracts/README.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from quorate.protocol import events as ev
from quorate.protocol.beacon import read_beacon
from quorate.protocol.context import Call, refuse, require
from quorate.protocol.encoding import encode_carry_page, fold
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.market import Batch, Market
from quorate.protocol.outcomes import Extension, Outcome, compute_extension_digest, read_proof
from quorate.protocol.params import MAX_PAGE_SEATS, MAX_VOTERS
from quorate.protocol.settlement import compute_audit_fee
from quorate.protocol.types import ZERO32, Address, CarryRecord, Verdict


def apply_extend(market: Market, call: Call, batch_id: int, extension: Extension) -> list[ev.Event]:
    """`extend(batchId, extension)`: more rounds for bundles of one requester; opened votes stand."""
    batch, bundles = market.get_batch(batch_id), extension.bundles
    require(batch.status is BatchStatus.SETTLED, "WrongStatus", batch_id, batch.status)
    require(call.now < batch.final_at, "WindowPast", "extend")
    # Else whoever owns a void order beside a bundle that the lot fell on could call its audit off.
    audits_end = batch.start_time + 2 * market.params.audit_period if batch.audit_drawn else 0
    require(call.now >= audits_end, "WindowOpen", "audit")
    _require_terms(market, batch, extension)
    outcomes = read_proof(extension.proof, batch.post_hash, batch.outcome_hash)
    require(all(a < b for a, b in pairwise(bundles)), "MalformedPage")
    convicted = _judge(market, batch, bundles, outcomes)
    requester = outcomes[bundles[0]].record.requester
    require(call.sender == requester or _is_signed(market, batch, extension, requester), "Unauthorized")
    records = [_carry(batch, extension, outcomes[bundle], bundle in convicted) for bundle in bundles]
    escrow = sum(
        r.price * r.shares + batch.terms.fee_wei + compute_audit_fee(r.price, market.params.audit_bps) for r in records
    )
    _require_money(market, call.sender, requester, escrow)
    for record in records:
        batch.struck[record.bundle] = outcomes[record.bundle].round + 1
    market.lock_bond(call.sender)
    market.free[requester] -= escrow
    market.escrow[requester] += escrow
    return _reopen(market, call, batch, extension, encode_carry_page(records))


def _require_terms(market: Market, batch: Batch, extension: Extension) -> None:
    last = batch.round + extension.rounds
    drawn = batch.terms.seats * (1 + last)
    is_bounded = last < 2 * (1 + market.params.max_rounds) and drawn <= MAX_VOTERS
    require(extension.rounds > 0 and is_bounded, "InvalidTerms", "rounds")
    # One call settles the whole carry page.
    require(0 < len(extension.bundles) * drawn <= MAX_PAGE_SEATS, "InvalidTerms", "bundles")


def _judge(market: Market, batch: Batch, bundles: tuple[int, ...], outcomes: Mapping[int, Outcome]) -> frozenset[int]:
    """Bundles that a committee accepted which was convicted since; refuses those with no reason to be extended."""
    first, rows, operators = outcomes.get(bundles[0]), market.table_of(batch).members, market.registry.operators
    convicted = set()
    for bundle in bundles:
        outcome = outcomes.get(bundle)
        if outcome is None or first is None:
            refuse("NotExtendable", bundle)
        row = outcome.row
        if row.verdict is Verdict.ACCEPTED and all(operators[rows[m].operator_id].ejected for m in row.voters):
            convicted.add(bundle)
        is_due = bundle in convicted or (row.verdict is Verdict.VOID and bool(row.voters))
        is_theirs = outcome.record.requester == first.record.requester
        require(is_due and is_theirs and batch.is_live(bundle, outcome.round), "NotExtendable", bundle)
    return frozenset(convicted)


def _is_signed(market: Market, batch: Batch, extension: Extension, requester: Address) -> bool:
    digest = compute_extension_digest(
        market.separator, batch.post_hash, extension.bundles, batch.round, extension.rounds
    )
    # The chain asks a requester that has code, and recovers the signer for others; no account can do both.
    if market.recover(digest, extension.signature) == requester:
        return True
    return market.ask_wallet(requester, digest, extension.signature)


def _carry(batch: Batch, extension: Extension, outcome: Outcome, is_convicted: bool) -> CarryRecord:
    row, voters = outcome.row, () if is_convicted else outcome.row.voters
    return CarryRecord(
        bundle=row.bundle,
        requester=outcome.record.requester,
        price=outcome.price,
        tasks=outcome.tasks,
        flags=outcome.record.flags,
        shares=len(voters) + batch.terms.seats * extension.rounds,
        opened=0 if is_convicted else row.opened,
        vote=row.vote if voters else None,
        voters=voters,
    )


def _require_money(market: Market, sender: Address, requester: Address, escrow: int) -> None:
    bond = market.params.batch_bond
    available = market.free[sender]
    require(available >= bond, "InsufficientDeposit", available, bond)
    left = market.free[requester] - (bond if sender == requester else 0)
    require(left >= escrow, "InsufficientDeposit", left, escrow)


def _reopen(market: Market, call: Call, batch: Batch, extension: Extension, page: bytes) -> list[ev.Event]:
    if batch.audit_drawn:  # each outcome is in one draw: its requester paid for one
        batch.audit_from = batch.round + 1
    batch.terms = replace(batch.terms, rounds=batch.round + extension.rounds)
    batch.collator, batch.bond, batch.audit_drawn = call.sender, market.params.batch_bond, False
    batch.carried = set(extension.bundles)
    batch.next_carry_hash = fold(ZERO32, [keccak(page)])
    [awaited] = market.start_next_round(batch, call.block)
    return [
        ev.BatchExtended(batch.batch_id, call.sender, batch.terms.rounds),
        ev.BundlesCarried(batch.batch_id, batch.round, page),
        awaited,
    ]


def apply_prove_audit(market: Market, call: Call, batch_id: int, header: bytes) -> list[ev.Event]:
    """`proveAudit(batchId, header)`: who audits what is known."""
    batch = market.get_batch(batch_id)
    require(batch.status is BatchStatus.SETTLED, "WrongStatus", batch_id, batch.status)
    require(market.is_audited(batch) and call.now < batch.final_at, "WindowPast", "audit")
    require(not batch.audit_drawn, "AlreadyDrawn")
    batch.beacon = read_beacon(call.block, batch.beacon_block, header)
    batch.audit_drawn, batch.start_time = True, call.now
    return [ev.AuditDrawn(batch.batch_id, batch.beacon)]
