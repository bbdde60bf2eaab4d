"""The client: money, orders, progress, results. `quorate`'s commands are a thin face on it.

with QuorateClient.open(load_config()) as client:
    prepared = client.prepare("program.wasm", "scene/")
    with client.serving() as url:                      # our input, for as long as we wait
        job = client.submit(prepared, seats=3, providers=[url])
        for step in client.watch(job):
            print(step.stage)
    print(client.fetch_result(job, Path("out")).path)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any

from quorate.chain import calls
from quorate.chain.account import SigningAccount
from quorate.chain.gateway import ChainGateway
from quorate.chain.types import Receipt
from quorate.classes import collect_descriptions, list_classes
from quorate.config import Config
from quorate.delivery import Pushed, check_provider_urls, offer_content, send_extension, send_order
from quorate.direct import post_directly
from quorate.following import REORG_BLOCKS, JobFollower, refresh_states
from quorate.jobs import JobBook, JobRecord
from quorate.messages import ExtensionMessage
from quorate.orders import OrderWishes, Quote, build_order, check_order, quote_order
from quorate.progress import JobProgress, JobStage
from quorate.protocol.container import ContainerLimits, parse_spec
from quorate.protocol.encoding import compute_job_id
from quorate.protocol.errors import ConfigurationError, ContentUnavailable, DataError, RecoverableError, ValidationError
from quorate.protocol.outcomes import compute_extension_digest
from quorate.protocol.profiles import Description
from quorate.protocol.result import TaskResult
from quorate.protocol.spec import Limits, Partition
from quorate.protocol.types import Address, SignatureKind
from quorate.receipts import describe_job
from quorate.results import FetchedResult, OnFetched, ResultFetch, ResultReader
from quorate.retrying import prepare_retry
from quorate.spec import PreparedSpec, find_tasks, prepare_container, prepare_spec
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.opening import open_store
from quorate.tasks import TaskList
from quorate.tracking import JobTracker
from quorate.watching import JobWatch, StillWaiting

POLL_S = 0.1
EXTEND_S = 30.0


@dataclass(frozen=True, slots=True)
class Balance:
    """A requester's money in wei: outside of the contracts, free deposit, and escrow of jobs that run."""

    address: Address
    wallet: int
    free: int
    escrow: int


@dataclass(frozen=True, slots=True)
class ContractWallet:
    """A requester that is a contract (EIP-1271).

    `sign` turns a job id into the bytes for which the contract's `isValidSignature(job id, bytes)` says yes within
    50,000 gas, in the block in which the order is posted.
    """

    address: Address
    sign: Callable[[bytes], bytes]


class QuorateClient:
    """One requester on one deployment. Chain, key and store are opened when first needed.

    Methods raise the errors of quorate.protocol.errors; each message says what to do.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.book, self._pushed = JobBook(config.jobs), Pushed()

    @classmethod
    def open(cls, config: Config) -> QuorateClient:
        """A client by its configuration; nothing is connected yet."""
        return cls(config)

    @cached_property
    def gateway(self) -> ChainGateway:
        """The chain."""
        return self.config.connect()

    @cached_property
    def account(self) -> SigningAccount:
        """The requester's key."""
        return self.config.open_account()

    @cached_property
    def store(self) -> BlobStore:
        """Our content."""
        return open_store(self.config.store)

    def close(self) -> None:
        """Close what was opened."""
        for name in ("gateway", "store"):
            opened = self.__dict__.pop(name, None)
            if opened is not None:
                opened.close()

    def __enter__(self) -> QuorateClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # money --------------------------------------------------------------------------------------------------------

    def balance(self) -> Balance:
        """What the requester has."""
        address = self.account.address
        account = self.gateway.account(address)
        return Balance(address, self.gateway.balance(address), account.free, account.escrow)

    def deposit(self, amount_wei: int) -> Receipt:
        """Move wei from the wallet to the free deposit."""
        return self._transact(calls.deposit(), value=amount_wei)

    def withdraw(self, amount_wei: int) -> Receipt:
        """Move wei from the free deposit to the wallet."""
        return self._transact(calls.withdraw_deposit(amount_wei))

    def _transact(self, call: calls.Call, value: int = 0) -> Receipt:
        return self.gateway.wait(self.gateway.send(self.account, call, value=value))

    def classes(self, wishes: OrderWishes | None = None, known: Sequence[Description] = ()) -> list[dict[str, Any]]:
        """All classes, and whether each is asked for an order by these wishes that names none; see quorate.classes.

        On chain a class's description is a hash: known are those in `known`, in our config's `profiles`, and of
        classes that our jobs could be ordered in.
        """
        ours = collect_descriptions(parse_spec(record.spec.encode()) for record in self.book.load_all())
        described = (*known, *map(Description.parse, self.config.profiles), *ours)
        return list_classes(self.gateway, described, self.config.class_id, wishes or OrderWishes())

    # orders -------------------------------------------------------------------------------------------------------

    def prepare(
        self,
        module: str,
        source: str | None = None,
        *,
        args: Sequence[str] = (),
        env: Sequence[str] = (),
        limits: Limits | None = None,
        partition: Partition | None = None,
        providers: Sequence[str] = (),
    ) -> PreparedSpec:
        """Add module and input (paths or CIDs) to our store and describe the job.

        With a `partition` it has a task for each batch of files; `providers` list an input that is not here.
        """
        return prepare_spec(
            self.store, module, source,
            args=args, env=env, limits=limits, partition=partition, providers=providers,
        )  # fmt: skip

    def prepare_container(
        self,
        image: str,
        source: str | None = None,
        *,
        image_id: str | None = None,
        entrypoint: str | None = None,
        args: Sequence[str] = (),
        env: Sequence[str] = (),
        limits: ContainerLimits | None = None,
        partition: Partition | None = None,
        providers: Sequence[str] = (),
    ) -> PreparedSpec:
        """Add image and input to our store and describe the job in a container; see `prepare`."""
        return prepare_container(
            self.store, image, source,
            image_id=image_id, entrypoint=entrypoint, args=args, env=env, limits=limits,
            partition=partition, providers=providers,
        )  # fmt: skip

    def prepare_retry(
        self, record: JobRecord, *, fuel: int | None = None, limits: Sequence[str] = (), providers: Sequence[str] = ()
    ) -> PreparedSpec:
        """Describe a job of those tasks alone that failed in an accepted one over many files; see `prepare`.

        `fuel` and `limits` (`NAME=NUMBER`) are for tasks that ran out of them: with the same program and limits a task
        fails again. Raises ValidationError where none failed.
        """
        tasks, results = self.find_tasks(record), self.read_result(record)
        return prepare_retry(self.store, record, tasks, results, fuel, limits, providers)

    def quote(self, prepared: PreparedSpec, wishes: OrderWishes | None = None) -> Quote:
        """What an order would lock now, with seats and rounds as they would be signed."""
        return quote_order(self.gateway, self.config.class_id, prepared, wishes or OrderWishes())

    def submit(
        self,
        prepared: PreparedSpec,
        wishes: OrderWishes | None = None,
        *,
        providers: Sequence[str] = (),
        wallet: ContractWallet | None = None,
        is_direct: bool = False,
    ) -> JobRecord:
        """Sign an order and hand it to a collator; with `is_direct` post it ourselves (quorate.direct).

        `providers` are URLs that serve spec, module and input (`serving`); without any, content is pushed to the
        collator. The record, and with it the nonce, is on disk before the order leaves. With a `wallet` that contract
        is the requester: its free deposit pays.
        """
        requester = self.account.address if wallet is None else wallet.address
        check_provider_urls(providers)
        wishes = wishes or OrderWishes()
        chain = self.gateway.glance(wishes.class_id or self.config.class_id, requester)
        order_without_nonce = build_order(chain, requester, self.config.class_id, prepared, wishes)
        check_order(chain, order_without_nonce)
        providers = offer_content(self.store, prepared, providers, self.config.collators, self._pushed)
        deployment = self.gateway.deployment
        nonce = self.book.reserve_nonce(deployment, requester, self.gateway.nonces(requester))
        order = replace(order_without_nonce, nonce=nonce)
        job_id = compute_job_id(self.gateway.domain_separator(), order)
        record = JobRecord(
            job_id=job_id,
            order=order,
            signature=self.account.sign(job_id) if wallet is None else wallet.sign(job_id),
            kind=SignatureKind.ECDSA if wallet is None else SignatureKind.WALLET,
            spec=prepared.spec.to_bytes().decode(),
            chain_id=deployment.chain_id,
            market=deployment.market,
            from_block=max(deployment.block, chain.head().number - REORG_BLOCKS),
            created_at=time.time(),
            providers=tuple(providers),
        )
        self.book.save(record)
        if is_direct:
            post_directly(self.gateway, self.account, record.signed)
        return record if is_direct else self.send(record)

    def send(self, record: JobRecord, collators: Sequence[str] | None = None) -> JobRecord:
        """Hand a signed order to a collator (again); its nonce keeps it from being posted twice."""
        wanted = self.config.collators if collators is None else collators
        url = send_order(record.signed, record.job_id, wanted, record.providers)
        return self.book.update(record, collator=url)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve our store on loopback; yields the URL for `providers`."""
        from quorate.storage.gateway import build_gateway
        from quorate.storage.serve import LoopbackServer

        with LoopbackServer(build_gateway(self.store)) as server:
            yield server.url

    # progress -----------------------------------------------------------------------------------------------------

    def job(self, name: str) -> JobRecord:
        """Our record of a job, by its id or the id's beginning."""
        record = self.book.load(name)
        deployment = self.gateway.deployment
        if (record.chain_id, record.market) != (deployment.chain_id, deployment.market):
            place = f"chain {record.chain_id}, market 0x{record.market.hex()}"
            raise ValidationError(f"job {name} was posted on another deployment ({place}), such as an earlier devnet")
        return record

    def watch(
        self, record: JobRecord, *, timeout_s: float | None = None, poll_s: float = POLL_S, until_final: bool = False
    ) -> Iterator[JobProgress]:
        """Steps of a job, as they appear on the chain, until it has ended.

        Ends after ACCEPTED (with `until_final` after FINAL, when no challenge can undo it any more), VOID, a SKIPPED
        that will not be tried again, or EXPIRED. An order that nobody posts goes to the collators again, the next one
        first. Raises StillWaiting.
        """
        watch = JobWatch(self.gateway, self.book, record, self._send_again)
        yield from watch.steps(timeout_s=timeout_s, poll_s=poll_s, until_final=until_final)

    def _send_again(self, record: JobRecord, attempt: int) -> None:
        """A collator that took an order and died would take it along."""
        collators = self.config.collators
        first = attempt % len(collators) if collators else 0
        with suppress(RecoverableError, ValidationError, ConfigurationError):  # the chain tells what becomes of it
            self.send(self.book.load(record.job_id.hex()), [*collators[first:], *collators[:first]])

    def wait(self, record: JobRecord, *, timeout_s: float | None = None, until_final: bool = False) -> JobProgress:
        """The last step of a job."""
        *_, last = self.watch(record, timeout_s=timeout_s, until_final=until_final)
        return last

    def track(self, record: JobRecord) -> JobTracker:
        """All that the chain says about a job now."""
        return JobFollower(self.gateway, record).track()

    def refresh(self) -> list[JobRecord]:
        """All our jobs, the oldest first, with their states as the chain has them now.

        Those of other deployments stay as they were last seen, and those that nothing can follow any more.
        """
        return refresh_states(self.gateway, self.book)

    def describe(self, record: JobRecord) -> dict[str, Any]:
        """The job's receipt: order, result, verdict, seats with their votes, transactions, seconds, slash.

        `result_cid` is None for a job of several tasks, and where no seat could be asked for it.
        """
        tracker, fresh = self.track(record), self.book.load(record.job_id.hex())
        if fresh.result_cid is None and tracker.stage == JobStage.ACCEPTED and record.order.task_count == 1:
            with suppress(ContentUnavailable, DataError):  # the receipt is worth having without it
                cid = self._reader(record, tracker).find_cid()
                fresh = self.book.update(fresh, result_cid=str(cid))
        return describe_job(self.gateway, fresh, tracker)

    def extend(self, record: JobRecord, rounds: int = 1, *, timeout_s: float | None = None) -> tuple[int, ...]:
        """Buy more rounds for the bundles of a void job whose votes stand; their numbers in the batch.

        Returns when it is on chain. What it locks goes from the free deposit to escrow. Raises ValidationError for a
        job that has nothing to extend or when a collator refuses, StillWaiting.
        """
        tracker = self.track(record)
        bundles, batch = tracker.extendable, tracker.batch
        if not bundles or batch is None:
            stage = tracker.stage.value if tracker.stage else "not posted yet"
            raise ValidationError(
                f"job 0x{record.job_id.hex()} is {stage}: nothing of it is void with votes that stand"
            )
        info = self.gateway.batch(batch.batch_id)
        digest = compute_extension_digest(self.gateway.domain_separator(), info.post_hash, bundles, info.round, rounds)
        message = ExtensionMessage(
            batch_id=batch.batch_id,
            bundles=list(bundles),
            round=info.round,
            rounds=rounds,
            signature=self.account.sign(digest),
        )
        send_extension(message, self.config.collators)
        deadline = time.monotonic() + (EXTEND_S if timeout_s is None else timeout_s)
        while self.gateway.batch(batch.batch_id).round == info.round:
            if time.monotonic() > deadline:
                raise StillWaiting("the extension is not on chain yet: look at `quorate job describe`, then try again")
            time.sleep(POLL_S)
        return bundles

    # results ------------------------------------------------------------------------------------------------------

    def fetch_result(
        self, record: JobRecord, dest: Path, *, match: str | None = None, on_progress: OnFetched | None = None
    ) -> FetchedResult:
        """Fetch and verify an accepted job's results and lay them out in `dest`.

        One task lies in `dest` itself, several in `dest`/NUMBER; `dest` must not exist. Of a job over many files
        outputs lie as its input does, `match` takes those of some files, and `dest` may be what an earlier fetch began.
        Raises ValidationError for a job that is not accepted, DataError or ContentUnavailable naming the providers that
        lied or were away when none served it.
        """
        return self.open_results(record, dest, match=match).finish(on_progress)

    def open_results(self, record: JobRecord, dest: Path, *, match: str | None = None) -> ResultFetch:
        """`fetch_result` in steps: `take` brings what is accepted while others of many tasks run, `finish` the rest."""
        track, note = JobFollower(self.gateway, record).track, partial(self._note_result, record)
        return ResultFetch(self.gateway, self.store, record, track, dest, match, note)

    def find_tasks(self, record: JobRecord) -> TaskList | None:
        """The tasks of a job over many files; None for others, and where nobody has what lists its input."""
        try:
            return find_tasks(self.store, parse_spec(record.spec.encode()), record.providers)
        except ContentUnavailable:
            return None

    def read_result(self, record: JobRecord) -> tuple[TaskResult, ...]:
        """How each task of an accepted job ended, without fetching what it put out; errors as `fetch_result`'s."""
        results = self._reader(record).read()
        self._note_result(record, results)
        return results

    def _reader(self, record: JobRecord, tracker: JobTracker | None = None) -> ResultReader:
        return ResultReader(self.gateway, self.store, record, tracker or self.track(record))

    def _note_result(self, record: JobRecord, results: Sequence[TaskResult], root: Cid | None = None) -> None:
        cid = str(root) if root is not None else results[0].cid if record.order.task_count == 1 else None
        if cid is not None and self.book.load(record.job_id.hex()).result_cid is None:
            self.book.update(self.book.load(record.job_id.hex()), result_cid=cid)
