"""The collator's edge: orders come in over HTTP, are judged as `post` would judge them, and wait in the core's queue.

The chain is read once for a requester and a few blocks, never for an order: what orders that wait here have a claim
on is counted beside. Providers of inputs are kept in a file too, so that a restart does not strand jobs that are
posted already.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

from quorate.chain.gateway import ChainGateway
from quorate.chain.signing import recover
from quorate.cli.output import format_ether
from quorate.protocol.container import parse_spec
from quorate.protocol.encoding import compute_job_id
from quorate.protocol.errors import Busy, DataError, RecoverableError, ValidationError
from quorate.protocol.types import Address, JobId, SignatureKind, SignedOrder
from quorate.storage.base import BlobStore, BlockNotFound
from quorate.storage.cid import Cid
from quorate_node.core.collation import count_queued
from quorate_node.core.core import Core
from quorate_node.core.intake import Account, OrderRefused, judge_extension, judge_order, judge_spec
from quorate_node.core.state import SignedExtension
from quorate_node.core.stimuli import ExtensionQueued, OrdersQueued
from quorate_node.hints import Hints

MAX_QUEUED = 20_000
MAX_KNOWN = 100_000
MAX_ACCOUNTS = 10_000
MAX_READ = 8
"""Accounts and wallets that are looked up at once: anybody may have that done, and threads have other work."""
FRESH_BLOCKS = 20
ANY_ACCOUNT = Account(0, 1 << 256, 0, 0)
"""One that can pay for everything: what is refused for it is refused for all."""


class NoBond(RecoverableError):
    """This collator's deposit does not reach for the bond that a batch locks."""


class Collator:
    """Takes orders for a core."""

    def __init__(self, core: Core, gateway: ChainGateway, hints: Hints, store: BlobStore) -> None:
        self._core, self._gateway, self._store = core, gateway, store
        self._accounts: OrderedDict[Address, Account] = OrderedDict()
        self._slots = asyncio.Semaphore(MAX_READ)
        self._reading: dict[Address, asyncio.Task[Account]] = {}
        self._mined: dict[Address, dict[int, int]] = {}
        self._known: OrderedDict[JobId, int] = OrderedDict()  # the block in which each was taken
        self._own: Account | None = None  # apart from those of strangers, who come and go
        self._hints = hints

    async def accept(self, signed: SignedOrder, providers: Sequence[str]) -> JobId:
        """Queue an order. Raises OrderRefused with the reason, Busy when too many wait, NoBond when none can go."""
        state = self._core.state
        if count_queued(state) >= MAX_QUEUED:
            raise Busy(f"{MAX_QUEUED} orders wait already: try again in a moment, or another collator")
        self._judge(signed, ANY_ACCOUNT, is_wallets=True)  # the chain is asked nothing for what nobody signed
        if (shortage := await self.find_shortage()) is not None:
            raise NoBond(shortage)
        await asyncio.to_thread(self._judge_spec, signed.order.spec_hash)
        is_wallets = signed.kind is SignatureKind.WALLET and await self._ask_wallet(signed)
        requester = signed.order.requester
        account = self._accounts.get(requester)
        if account is None or state.chain.head.number > account.block + FRESH_BLOCKS:
            account = await self._refresh(requester)
        try:
            job_id, _, escrow = self._judge(signed, account, is_wallets)
        except OrderRefused as error:
            if error.code not in ("NONCE", "DEPOSIT") or account.block >= state.chain.head.number:
                raise
            # The view may be older than a deposit that was just made.
            job_id, _, escrow = self._judge(signed, await self._refresh(requester), is_wallets)
        taken = self._known.get(job_id)
        if taken is not None and state.chain.head.number > taken + FRESH_BLOCKS:
            # Sent again long after: a reorganisation may have undone its batch.
            account = await self._refresh(requester)
            if not account.is_spent(signed.order.nonce):
                taken = None
        if taken is None:
            account = self._accounts.setdefault(requester, account)
            account.reserved[signed.order.nonce] = escrow
            self._remember(job_id, providers)
            self._core.handle(OrdersQueued((signed,)))
        return job_id

    async def adopt(self, signed: SignedOrder, providers: Sequence[str]) -> JobId:
        """Queue an order that another collator took and did not bring. Raises OrderRefused, Busy as `accept` does."""
        requester, head = signed.order.requester, self._core.state.chain.head.number
        known = self._accounts.get(requester)
        if known is not None and known.block < head:  # what was read before may not show that it was brought
            await self._refresh(requester)
        return await self.accept(signed, providers)

    async def find_shortage(self) -> str | None:
        """Why no batch could be posted now, for want of a bond; None where its deposit reaches."""
        state = self._core.state
        own, bond, head = state.identity.account, state.network.params.batch_bond, state.chain.head.number
        known = self._own
        # Where it seems too little it may have become more since.
        if known is None or head > known.block + (FRESH_BLOCKS if known.free >= bond else 0):
            known = self._own = await self._refresh(own)
        if known.free >= bond:
            return None
        return (
            f"this collator can post nothing: a batch locks {format_ether(bond)} of its deposit as a bond, and "
            f"{format_ether(known.free)} is free; its operator adds to it by `quorate-node deposit AMOUNT`"
        )

    def _judge_spec(self, spec_hash: bytes) -> None:
        """Refuse what this node would not execute, where the spec is here. A senseless one all nodes refuse alike."""
        try:
            spec = parse_spec(self._store.get(Cid.from_digest(spec_hash)))
        except (BlockNotFound, DataError, ValidationError):
            return
        judge_spec(self._core.state, spec.limits)

    def accept_extension(self, extension: SignedExtension) -> None:
        """Queue an extension. Raises OrderRefused with the reason."""
        judge_extension(self._core.state, extension, recover)
        self._core.handle(ExtensionQueued(extension))

    def _judge(self, signed: SignedOrder, account: Account, is_wallets: bool) -> tuple[JobId, object, int]:
        # The chain's time, by which `post` will judge: this host's clock may be wrong.
        now, known = self._core.state.chain.head.timestamp, self._known.keys()
        return judge_order(self._core.state, signed, account, recover, now, known, lambda *_: is_wallets)

    async def _ask_wallet(self, signed: SignedOrder) -> bool:
        """Raises OrderRefused unless a requester's contract agrees now; in the block it may not, which is a skip."""
        job_id = compute_job_id(self._core.state.network.separator, signed.order)
        asked = (signed.order.requester, job_id, signed.signature)
        async with self._slots:
            is_signed = await asyncio.to_thread(self._gateway.is_wallet_signed, *asked)
        self._judge(signed, ANY_ACCOUNT, is_signed)
        return is_signed

    def _remember(self, job_id: JobId, providers: Sequence[str]) -> None:
        self._known[job_id] = self._core.state.chain.head.number
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        self._hints.put(job_id, list(providers))

    def on_posted(self, orders: Sequence[SignedOrder], block: int) -> None:
        """Orders are on chain in `block`: their claims end with the first account view that includes it."""
        for signed in orders:
            self._mined.setdefault(signed.order.requester, {})[signed.order.nonce] = block

    async def _refresh(self, requester: Address) -> Account:
        """Read an account; many orders of one requester at once share the reading."""
        task = self._reading.get(requester)
        if task is None:
            task = asyncio.create_task(self._read(requester))
            self._reading[requester] = task
            task.add_done_callback(lambda _: self._reading.pop(requester, None))
        return await task

    async def _read(self, requester: Address) -> Account:
        block = self._core.state.chain.head.number
        async with self._slots:
            money = await asyncio.to_thread(self._gateway.account, requester)
            window = await asyncio.to_thread(self._gateway.nonces, requester)
        old, mined = self._accounts.get(requester), self._mined.get(requester, {})
        account = Account(block, money.free, window.base, window.used)
        if old is not None:
            account.reserved = {n: wei for n, wei in old.reserved.items() if mined.get(n, block + 1) > block}
        self._mined[requester] = {n: at for n, at in mined.items() if n in account.reserved}
        self._accounts[requester] = account
        self._accounts.move_to_end(requester)
        self._forget_idle()
        return account

    def _forget_idle(self) -> None:
        """Keep those that were read last, and all with orders here: whoever likes may have any number of accounts."""
        for requester in list(islice(self._accounts, max(0, len(self._accounts) - MAX_ACCOUNTS))):
            if not self._accounts[requester].reserved:
                del self._accounts[requester]
                self._mined.pop(requester, None)
