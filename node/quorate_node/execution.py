"""From an order to leaves: find spec, module and input, run the bundle's tasks, make their Merkle root.

Content comes from whoever the collator names, then from the collator and the other seats; every byte is checked
against its CID. A spec that contradicts its order, or is of another profile than the class, is not a local failure:
everybody sees the same bytes, so it is an agreed, refused result.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from quorate.protocol.container import AnySpec, parse_spec
from quorate.protocol.errors import ContentUnavailable, DataError, ValidationError
from quorate.protocol.partition import tasks_of_bundle
from quorate.protocol.profiles import fits
from quorate.protocol.result import EXIT_REFUSED, TaskResult, TaskStatus, compute_merkle_root
from quorate.protocol.spec import JobSpec, compute_raw_cid
from quorate.protocol.types import AbstainReason, JobOrder, Vote
from quorate.storage.base import MAX_BLOCK_BYTES, BlobStore
from quorate.storage.cid import RAW, Cid
from quorate.storage.fetch import FetchReport, fetch_block, fetch_dag
from quorate.storage.providers import ProviderBook
from quorate.storage.transfer import FetchLimits
from quorate_node.beside import Beside
from quorate_node.core.instructions import Execute
from quorate_node.core.policy import DEFAULT_LIMITS, Limits, explain_excess
from quorate_node.core.stimuli import BundleExecuted, BundleFailed
from quorate_node.exchange import measure_content
from quorate_node.executor.base import AnyTask, Executor, FailureReason, LocalFailure, make_task
from quorate_node.executor.content import StoredFile
from quorate_node.messaging import Messenger
from quorate_node.providers import check_url
from quorate_node.roots import Holders, OwnRoots

INPUT_SLACK_BYTES = 1 << 20  # a DAG's inner blocks, over the bytes of its files
# Providers are strangers: none may hold a fetch for long, nor all fetches that there are.
MAX_FETCHES = 16
MAX_DONE = 2_000
STALL_S = 10.0
LEAST_BYTES_S = 32 * 1024

FAILURES: dict[FailureReason, tuple[AbstainReason, bool]] = {
    FailureReason.TIMEOUT: (AbstainReason.TIME, False),
    FailureReason.COMPILE_TIMEOUT: (AbstainReason.TIME, False),
    FailureReason.HOST_MEMORY: (AbstainReason.RESOURCES, True),
    FailureReason.HOST_DISK: (AbstainReason.RESOURCES, True),
    FailureReason.STACK_OVERFLOW: (AbstainReason.RESOURCES, False),
    # A block that rotted is forgotten when it is found: the next try fetches it again.
    FailureReason.DATA_UNAVAILABLE: (AbstainReason.NO_DATA, True),
    FailureReason.WORKER_DIED: (AbstainReason.RESOURCES, True),
    FailureReason.MEMORY_LIMIT: (AbstainReason.RESOURCES, False),
    FailureReason.IMAGE_REFUSED: (AbstainReason.DATA_MISMATCH, False),
    FailureReason.CANNOT_START: (AbstainReason.OTHER, False),
    FailureReason.NO_DAEMON: (AbstainReason.RESOURCES, True),
    FailureReason.NOT_ALLOWED: (AbstainReason.POLICY, False),
    FailureReason.UNSUPPORTED: (AbstainReason.POLICY, False),
    FailureReason.INTERNAL: (AbstainReason.OTHER, False),
}
"""Reason of the abstention, and whether another try may help."""


class _AboveCeilings(Exception):
    """The spec asks for more than this node's operator gives."""


@dataclass(slots=True)
class ExecutionService:
    """Runs Execute instructions. `hints` gives the providers of a job that this node was told, `holders` the peers that
    have content whole, which are asked first; of what is whole here `roots` tells. `beside` is a daemon on this host
    that may have content, too, and gets the results.

    With `is_shared` operators of this process that are drawn for the same bundle share its execution. A spec above the
    operator's ceilings is not run.
    """

    store: BlobStore
    executor: Executor[AnyTask]
    messenger: Messenger
    own_url: str
    is_local: bool
    hints: Callable[[bytes], list[str]]
    is_shared: bool = True
    limits: Limits = DEFAULT_LIMITS
    roots: OwnRoots = field(default_factory=OwnRoots)
    holders: Holders = field(default_factory=lambda: Holders(()))
    beside: Beside | None = None
    book: ProviderBook = field(default_factory=ProviderBook)
    fetching: dict[Cid, asyncio.Future[FetchReport]] = field(default_factory=dict)
    fetchers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(MAX_FETCHES, "fetch"))
    running: dict[Hashable, asyncio.Task[BundleExecuted | BundleFailed]] = field(default_factory=dict)
    done: OrderedDict[Hashable, BundleExecuted] = field(default_factory=OrderedDict)

    async def run(self, instruction: Execute) -> BundleExecuted | BundleFailed:
        """Execute a bundle, or learn what another operator of this process got; a BundleFailed is this host's fault."""
        if not self.is_shared:
            return await self._run(instruction)
        subject = instruction.job_id, instruction.job_bundle, instruction.tasks
        if (found := self.done.get(subject)) is not None:
            return replace(found, key=instruction.key)
        task = self.running.get(subject)
        if task is None:
            task = asyncio.create_task(self._run(instruction))
            self.running[subject] = task
            task.add_done_callback(lambda _: self.running.pop(subject, None))
        outcome = await asyncio.shield(task)
        if isinstance(outcome, BundleExecuted):
            self.done[subject] = outcome
            if len(self.done) > MAX_DONE:
                self.done.popitem(last=False)
        return replace(outcome, key=instruction.key)

    async def _run(self, instruction: Execute) -> BundleExecuted | BundleFailed:
        order, began = instruction.order, time.monotonic()
        try:
            spec = await self._find_content(instruction)
        except _AboveCeilings as error:
            return BundleFailed(instruction.key, str(error), False, AbstainReason.RESOURCES)
        except ContentUnavailable as error:
            return BundleFailed(instruction.key, f"content is not to be had: {error}", True, AbstainReason.NO_DATA)
        except DataError as error:
            # Others may serve what this provider did not.
            text = f"content is not what it should be: {error}"
            return BundleFailed(instruction.key, text, True, AbstainReason.DATA_MISMATCH)
        found = time.monotonic()
        results: list[TaskResult | None] = []
        for position, index in enumerate(tasks_of_bundle(order.task_count, instruction.job_bundle)):
            if instruction.tasks and position not in instruction.tasks:
                results.append(None)
                continue
            if spec is None:
                results.append(await asyncio.to_thread(self._refuse, order, index))
                continue
            outcome = await self.executor.execute(make_task(spec, index), timeout_s=float(instruction.period_s))
            if isinstance(outcome, LocalFailure):
                reason, may_help = FAILURES[outcome.reason]
                return BundleFailed(instruction.key, f"{outcome.reason}: {outcome.detail}", may_help, reason)
            results.append(outcome.result)
        await asyncio.to_thread(self._keep, [result for result in results if result])
        if self.beside is not None:  # nobody waits for it
            done = [result for result in results if result]
            asyncio.get_running_loop().run_in_executor(self.fetchers, self.beside.offer, done)
        leaves = tuple(result.leaf if result else b"" for result in results)
        root = None if instruction.tasks else Vote(compute_merkle_root(leaves))
        spent = round(found - began, 4), round(time.monotonic() - found, 4)
        return BundleExecuted(instruction.key, root, leaves, *spent)

    async def _find_content(self, instruction: Execute) -> AnySpec | None:
        """The spec, with all its content in the store; None when the spec itself is to be refused."""
        order = instruction.order
        cid = Cid.from_digest(order.spec_hash)
        providers: list[str] = []
        if not await asyncio.to_thread(self.store.has, cid):
            providers = await self._find_providers(instruction)
        await self._fetch(cid, providers, 1 << 20, instruction.period_s)
        try:
            spec = parse_spec(await asyncio.to_thread(self.store.get, cid))
        except ValidationError:
            return None
        if spec.task_count != order.task_count or spec.limits.fuel > order.fuel_limit:
            return None
        if not fits(spec, instruction.profile):
            return None
        if (excess := explain_excess(spec.limits, self.limits)) is not None:
            raise _AboveCeilings(excess)
        # Before anything of it comes: what a job in progress needs is not thrown away to make room.
        await asyncio.to_thread(self.store.hold, [cid, *map(Cid.parse, spec.contents)])
        for text in spec.contents:
            content = Cid.parse(text)
            if not await asyncio.to_thread(self.store.is_complete, content):
                providers = providers or await self._find_providers(instruction)
                if isinstance(spec, JobSpec) and text == spec.module:  # noqa: SIM102 (an await in a condition hides)
                    if await self._is_too_long(spec, providers, instruction.period_s):
                        continue
                most = order.input_bytes * 11 // 10 + INPUT_SLACK_BYTES
                nearest = [*self.holders.find(text), *providers]
                await self._fetch(content, nearest, most, instruction.period_s)
            await asyncio.to_thread(self._note_whole, content)
        return spec

    def _note_whole(self, root: Cid) -> None:
        """Let peers know that content is here, measured by itself and not by what an order says of it."""
        name = str(root.to_v1())
        if name not in self.roots and (found := measure_content(self.store, root)) is not None:
            self.roots.hold(name, found[1])

    async def _is_too_long(self, spec: JobSpec, providers: list[str], period_s: float) -> bool:
        """Whether the module's first block says that it is over `module_bytes`: all refuse it, and fetch no more."""
        cid = Cid.parse(spec.module)
        if cid.codec == RAW:  # one block
            return False
        limits = FetchLimits(MAX_BLOCK_BYTES, float(period_s), stall_s=STALL_S, min_bytes_s=LEAST_BYTES_S)

        def fetch() -> None:
            if self.beside is not None:
                self.beside.bring_block(cid)
            fetch_block(self.store, cid, providers, limits=limits, book=self.book)

        await asyncio.get_running_loop().run_in_executor(self.fetchers, fetch)
        return await asyncio.to_thread(StoredFile(self.store, cid).size) > spec.limits.module_bytes

    async def _find_providers(self, instruction: Execute) -> list[str]:
        """Gateways in the order in which they are asked, each once, without those that must not be asked."""
        collators = [self.messenger.locate_address(address) for address in instruction.collators]
        found = list(self.hints(instruction.job_id))
        for url in filter(None, collators):
            if url != self.own_url:
                found += await self.messenger.ask_hints(url, instruction.job_id)
        found += filter(None, collators)
        found += filter(None, map(self.messenger.locate_operator, instruction.operators))
        good: list[str] = []
        for url in dict.fromkeys(each.rstrip("/") for each in found):
            if url == self.own_url:
                continue
            with contextlib.suppress(DataError):
                good.append(await asyncio.to_thread(check_url, url, is_local=self.is_local))
        return good

    async def _fetch(self, cid: Cid, providers: list[str], max_bytes: int, period_s: float) -> None:
        limits = FetchLimits(max_bytes, float(period_s), stall_s=STALL_S, min_bytes_s=LEAST_BYTES_S)
        # What several bundles need is fetched once; who waited in vain tries by itself, with providers of its own.
        while (running := self.fetching.get(cid)) is not None:
            await asyncio.wait([running])
            if await asyncio.to_thread(self.store.is_complete, cid):
                return

        def fetch() -> FetchReport:
            if self.beside is not None:
                self.beside.bring(cid, max_bytes)
            return fetch_dag(self.store, cid, providers, limits=limits, book=self.book)

        # In threads of their own: those of the loop are for the chain, which must not wait for a stranger.
        running = asyncio.get_running_loop().run_in_executor(self.fetchers, fetch)
        self.fetching[cid] = running
        try:
            await running
        finally:
            del self.fetching[cid]

    def _refuse(self, order: JobOrder, index: int) -> TaskResult:
        empty, nothing = str(self.store.add_bytes(b"")), str(self.store.add_tree({}))
        spec = compute_raw_cid(order.spec_hash)
        return TaskResult(spec, index, TaskStatus.FAILED, EXIT_REFUSED, empty, nothing)

    def _keep(self, results: list[TaskResult]) -> None:
        """Make all that the bundle's tasks left durable, before a vote says that it is here: once, not task by task."""
        with self.store.adding(is_durable=False) as additions:
            for result in results:
                additions.hold([additions.put_raw(result.to_bytes())])
        self.store.sync()
