"""The requester of an attack: jobs that differ in a variable alone, and more rounds for what came to nothing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
from tests.adversarial.chainwatch import SeenBatch

from quorate.delivery import ORDERS_PATH, CollatorAway, OrderRefused, open_http, read_error, send_extension
from quorate.devnet.options import CLASS_ID
from quorate.messages import ExtensionMessage, OrderMessage
from quorate.orders import OrderWishes, build_order
from quorate.protocol.encoding import compute_job_id
from quorate.protocol.errors import UnrecoverableError
from quorate.protocol.outcomes import compute_extension_digest
from quorate.protocol.result import compute_merkle_root
from quorate.protocol.spec import JobSpec, Limits
from quorate.protocol.types import JobOrder, SignedOrder, Vote
from quorate.sdk import QuorateClient
from quorate.storage.memory import MemoryStore
from quorate_node.executor.base import Executed, ExecutionTask
from quorate_node.executor.cache import ModuleCache
from quorate_node.executor.runner import TaskRunner
from quorate_node.executor.wasm import Runtime, build_engine

# (module (func (export "_start")))
NOTHING = bytes.fromhex("0061736d01000000 010401600000 03020100 070a01065f73746172740000 0a040102000b")
FUEL = 10**8


class RootMaker:
    """What jobs of the benchmark give, by the digest of their spec: executed once here, as an honest node does."""

    def __init__(self, cache: Path) -> None:
        engine, self._store = build_engine(), MemoryStore()
        self._store.add_bytes(NOTHING)
        cache.mkdir(parents=True)
        self._runner = TaskRunner(self._store, ModuleCache(engine, cache, b"s" * 32), Runtime(engine))
        self.roots: dict[bytes, Vote] = {}

    def add(self, spec: JobSpec) -> None:
        """Execute a job."""
        outcome = self._runner.run(ExecutionTask(spec, 0), 60)
        if not isinstance(outcome, Executed):
            raise UnrecoverableError(f"the program that does nothing failed: {outcome}")
        self.roots[spec.digest] = Vote(compute_merkle_root([outcome.result.leaf]))


class Orderer:
    """Signs orders, and hands them to the collator so fast that many share a batch.

    `QuorateClient.submit` asks the chain half a dozen things before each order and writes each to disk.
    """

    def __init__(self, client: QuorateClient, wishes: OrderWishes, home: Path) -> None:
        self._client, self._wishes = client, wishes
        self._module = home / "nothing.wasm"
        self._module.write_bytes(NOTHING)
        self._known = RootMaker(home / "cache")
        self._collator = client.config.collators[0]
        self._separator = client.gateway.domain_separator()
        self.posted = 0

    @property
    def roots(self) -> dict[bytes, Vote]:
        """What the program of each job gives."""
        return self._known.roots

    def post(self, count: int, url: str) -> None:
        """Order so many jobs more, whose content `url` serves. Raises UnrecoverableError when one is refused."""
        numbers = range(self.posted, self.posted + count)
        env = [[f"JOB={number}"] for number in numbers]
        prepared = [self._client.prepare(str(self._module), env=each, limits=Limits(fuel=FUEL)) for each in env]
        for each in prepared:
            self._known.add(each.spec)
        account, gateway = self._client.account, self._client.gateway
        order = build_order(gateway, account.address, CLASS_ID, prepared[0], self._wishes)
        orders = [
            replace(order, spec_hash=each.spec.digest, nonce=number)
            for number, each in zip(numbers, prepared, strict=True)
        ]
        messages = [OrderMessage.from_signed(self._sign(each), [url]).model_dump_json() for each in orders]
        with open_http(self._collator) as http:
            for message in messages:
                answer = http.post(self._collator + ORDERS_PATH, content=message)
                if answer.status_code != httpx.codes.ACCEPTED:
                    raise UnrecoverableError(f"the collator refused an order: {read_error(answer)}")
        self.posted += count

    def _sign(self, order: JobOrder) -> SignedOrder:
        return SignedOrder(order, self._client.account.sign(compute_job_id(self._separator, order)))

    def extend(self, batch: SeenBatch, bundles: tuple[int, ...], rounds: int) -> None:
        """Ask the collator for more rounds for void bundles of a batch."""
        digest = compute_extension_digest(self._separator, batch.post_hash, bundles, batch.round, rounds)
        message = ExtensionMessage(
            batch_id=batch.batch_id,
            bundles=list(bundles),
            round=batch.round,
            rounds=rounds,
            signature=self._client.account.sign(digest),
        )
        with suppress(OrderRefused, CollatorAway):  # what becomes of it the chain tells
            send_extension(message, self._client.config.collators)
