"""Would `post` take this order? The collator asks before it answers 202, so that a requester hears at once why not."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from quorate.protocol.context import AskWallet, Recover, no_wallets
from quorate.protocol.encoding import compute_job_id
from quorate.protocol.errors import ValidationError
from quorate.protocol.job import BatchStatus
from quorate.protocol.market import NONCE_WINDOW
from quorate.protocol.outcomes import compute_extension_digest
from quorate.protocol.params import FUEL_UNIT, MAX_TASKS
from quorate.protocol.partition import compute_page_bundles, count_bundles
from quorate.protocol.settlement import compute_needed_period, compute_order_escrow, compute_task_price
from quorate.protocol.types import JobId, JobOrder, OrderFlag, SignatureKind, SignedOrder, Terms, Verdict
from quorate_node.core.collation import compute_terms
from quorate_node.core.policy import AnyLimits, explain_excess
from quorate_node.core.state import SignedExtension, State


@dataclass(slots=True)
class Account:
    """A requester as this collator sees it.

    `free` wei on chain at `block`; `base` and `used` are its nonce window; `reserved` is the escrow of orders that are
    accepted here and not yet on chain, by their nonces.
    """

    block: int
    free: int
    base: int
    used: int
    reserved: dict[int, int] = field(default_factory=dict)

    def is_used(self, nonce: int) -> bool:
        """Whether `post` would find the nonce used, by the chain or by an order that waits here."""
        return nonce in self.reserved or self.is_spent(nonce)

    def is_spent(self, nonce: int) -> bool:
        """Whether the chain says that the nonce is used."""
        return nonce < self.base or (nonce < self.base + NONCE_WINDOW and bool(self.used >> (nonce - self.base) & 1))

    @property
    def available(self) -> int:
        """Wei that no order has a claim on."""
        return self.free - sum(self.reserved.values())


class OrderRefused(ValidationError):
    """`code` is the name of the skip reason (OrderSkip) or of what the batch's terms refuse."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def judge_spec(state: State, wanted: AnyLimits) -> None:
    """Raise OrderRefused where this node's operator would not execute what a spec asks for."""
    if (excess := explain_excess(wanted, state.settings.limits)) is not None:
        raise OrderRefused("CEILING", f"{excess}: ask for less, or send the order to another collator")


def judge_extension(state: State, extension: SignedExtension, recover: Recover) -> None:
    """Would `extend` take this? Raises OrderRefused with the reason; money and contract wallets the chain judges."""
    batch, head = state.chain.batches.get(extension.batch_id), state.chain.head
    if batch is None or batch.status is not BatchStatus.SETTLED or head.timestamp >= batch.final_at:
        raise OrderRefused("NOT_EXTENDABLE", f"batch {extension.batch_id} is not settled, or final already")
    number = batch.round.number if batch.round else 0
    if number != extension.round:
        raise OrderRefused("ROUND", f"batch {batch.id} stands in round {number}: sign for that")
    rows = [batch.outcomes.get(bundle) for bundle in extension.bundles]
    for bundle, outcome in zip(extension.bundles, rows, strict=True):
        if outcome is None or outcome.row.verdict is Verdict.ACCEPTED or not outcome.row.voters:
            raise OrderRefused("NOT_EXTENDABLE", f"bundle {bundle} is not void with votes that stand")
    if len({outcome.page for outcome in rows if outcome}) > 1:
        raise OrderRefused("NOT_EXTENDABLE", "the bundles were settled by different calls: extend those of one first")
    requesters = {batch.bundles[bundle].order.requester for bundle in extension.bundles}
    digest = compute_extension_digest(
        state.network.separator, batch.post_hash, extension.bundles, extension.round, extension.rounds
    )
    if len(extension.signature) == 65 and {recover(digest, extension.signature)} != requesters:
        raise OrderRefused("SIGNATURE", "the extension is not signed by the bundles' requester")


def judge_order(
    state: State,
    signed: SignedOrder,
    account: Account,
    recover: Recover,
    now: int,
    known: AbstractSet[JobId],
    ask_wallet: AskWallet = no_wallets,
) -> tuple[JobId, Terms, int]:
    """Job id, terms and escrow in wei of an order that may be queued.

    `now` in unix seconds of the chain; `known` are jobs that were accepted before and are accepted again. Raises
    OrderRefused with the first reason that holds, in the order of `post`.
    """
    order, params = signed.order, state.network.params
    terms = compute_terms(order, params, state.settings.fee_wei)
    price = _check_shape(state, order, terms, now)
    job_id = compute_job_id(state.network.separator, order)
    if not _is_signed(signed, job_id, recover, ask_wallet):
        raise OrderRefused("SIGNATURE", "the order is not signed by its requester for this deployment")
    task_price = compute_task_price(order.fuel_limit, price, FUEL_UNIT)
    escrow = compute_order_escrow(
        task_price, order.task_count, order.seats, order.rounds, terms.fee_wei, params.audit_bps
    )
    if job_id in known:
        return job_id, terms, escrow
    if account.is_used(order.nonce):
        raise OrderRefused("NONCE", f"nonce {order.nonce} is used: choose one from {account.base} on")
    if account.available < escrow:
        shortage = f"the order needs {escrow} wei of free deposit, {max(account.available, 0)} are there"
        raise OrderRefused("DEPOSIT", f"{shortage}: `quorate account deposit AMOUNT`")
    return job_id, terms, escrow


def _is_signed(signed: SignedOrder, job_id: JobId, recover: Recover, ask_wallet: AskWallet) -> bool:
    requester = signed.order.requester
    if signed.kind is SignatureKind.WALLET:
        return ask_wallet(requester, job_id, signed.signature)
    return recover(job_id, signed.signature) == requester


def _check_shape(state: State, order: JobOrder, terms: Terms, now: int) -> int:
    """The class's price; all that needs neither signature nor account."""
    params, view = state.network.params, state.chain.classes.get(order.class_id)
    if not 0 < order.task_count <= MAX_TASKS or order.fuel_limit == 0:
        raise OrderRefused("EMPTY", f"task_count must be 1 to {MAX_TASKS} and fuel_limit above 0")
    if order.strategy or order.flags > OrderFlag.STRICT or order.fuel_limit > params.max_task_fuel:
        most = params.max_task_fuel
        raise OrderRefused("UNSUPPORTED", f"strategy must be 0, flags 0 or 1 (strict), fuel_limit at most {most}")
    if now > order.valid_until:
        raise OrderRefused("EXPIRED", f"valid_until {order.valid_until} is past: it is {now}")
    if view is None:
        raise OrderRefused("CLASS", f"class {order.class_id} does not exist")
    table = state.chain.tables.get((order.class_id, view.table))
    members = len(table.members) if table else 0
    if not 1 <= order.seats <= members // 2:
        raise OrderRefused("SEATS", f"class {order.class_id} has {members} members: seats must be 1 to {members // 2}")
    if order.rounds > params.max_rounds or order.commit_period < 1:
        raise OrderRefused("TERMS", f"rounds must be at most {params.max_rounds}, commit_period at least 1")
    if table is not None and len(table.units) < order.min_units:
        raise OrderRefused("UNITS", f"class {order.class_id} has {len(table.units)} units, below min_units")
    if terms.fee_wei > order.max_fee:
        raise OrderRefused("FEE", f"this collator takes {terms.fee_wei} wei for a bundle, above max_fee")
    task_price = compute_task_price(order.fuel_limit, view.price, FUEL_UNIT)
    if view.price > order.max_price or task_price >= 1 << 64:
        raise OrderRefused("PRICE", f"class {order.class_id} costs {view.price} wei for 1e9 fuel, above max_price")
    needed = compute_needed_period(
        order.task_count, order.fuel_limit, order.input_bytes, params.reference_fuel_rate, params.reference_byte_rate
    )
    if not needed <= terms.commit_period <= order.commit_period:
        most = params.max_commit_period
        raise OrderRefused("PERIOD", f"a bundle needs {needed} s: commit_period must be that at least (most {most})")
    if count_bundles(order.task_count) > compute_page_bundles(order.seats, order.rounds):
        raise OrderRefused("FULL", f"{order.task_count} tasks are more than one page holds: split the job")
    return view.price
