"""Finding what a bundle needs: spec, module and input, from whoever has them, into this node's store.

Content comes from whoever the collator names, then from the collator and the other seats, and what none of them has
from Filecoin's providers, where this node reads those; every byte is checked against its CID.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakValueDictionary

from quorate.protocol.container import AnySpec, parse_spec
from quorate.protocol.errors import ContentUnavailable, DataError, ValidationError
from quorate.protocol.partition import tasks_of_bundle
from quorate.protocol.pieces import is_piece_text
from quorate.protocol.profiles import fits
from quorate.protocol.spec import JobSpec
from quorate.protocol.types import JobOrder
from quorate.storage.base import MAX_BLOCK_BYTES, BlobStore, BlockNotFound
from quorate.storage.cid import RAW, Cid
from quorate.storage.fetch import ContentTooLarge, fetch_block, fetch_dag
from quorate.storage.listing import fetch_listing
from quorate.storage.providers import ProviderBook
from quorate.storage.traffic import Meter
from quorate.storage.transfer import FetchLimits
from quorate.tasks import TaskList, divide
from quorate_node.admission import Admission
from quorate_node.beside import Beside
from quorate_node.core.instructions import Execute
from quorate_node.core.policy import DEFAULT_LIMITS, Limits, explain_excess
from quorate_node.exchange import measure_content
from quorate_node.executor.base import AnyTask, Executor
from quorate_node.executor.content import StoredFile
from quorate_node.filecoin.reading import FilecoinSource
from quorate_node.messaging import Messenger
from quorate_node.providers import check_url
from quorate_node.room import Room
from quorate_node.roots import Holders, OwnRoots
from quorate_node.told import Told

INPUT_SLACK_BYTES = 1 << 20  # a DAG's inner blocks, over the bytes of its files
# Providers are strangers: none may hold a fetch for long, nor all fetches that there are.
MAX_FETCHES = 16
MAX_DIVIDED = 4  # inputs whose tasks are remembered
FILE_SLACK_BYTES = 16 * 1024  # as INPUT_SLACK_BYTES, of one of many files
FEW_FILES = 16  # which are asked for one by one
MAX_FILES_AT_ONCE = 6  # of one bundle
MAX_GATHERED_AT_ONCE = 2  # bundles of one job: while one is fetched another runs, and all at once would all be late
STALL_S = 10.0
LEAST_BYTES_S = 32 * 1024


class AboveCeilings(Exception):
    """The spec asks for more than this node's operator gives."""


@dataclass(frozen=True, slots=True)
class Content:
    """A spec that is not refused, and its tasks where it is partitioned; `piece_root` is what an input stands for that
    is a piece."""

    spec: AnySpec
    tasks: TaskList | None
    piece_root: Cid | None = None


@dataclass(slots=True)
class ContentFinder:
    """Finds content. `hints` gives the providers of a job that this node was told, `holders` the peers that have
    content whole, which are asked first; of what is whole here `roots` tells. `beside` is a daemon on this host that
    may have content, too; `filecoin` reads what nobody of these has. `executor` and `is_shared` are those of
    `ExecutionService`. A spec above the operator's ceilings is refused, and what its `admission` does.
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
    admission: Admission = field(default_factory=Admission)
    room: Room | None = None
    meter: Meter = field(default_factory=lambda: Meter("fetch"))
    filecoin: FilecoinSource | None = None
    book: ProviderBook = field(default_factory=ProviderBook)
    fetching: dict[Cid, asyncio.Future[None]] = field(default_factory=dict)
    fetchers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(MAX_FETCHES, "fetch"))
    divided: OrderedDict[Hashable, TaskList | None] = field(default_factory=OrderedDict)
    dividing: dict[Hashable, asyncio.Future[TaskList | None]] = field(default_factory=dict)
    gathering: WeakValueDictionary[bytes, asyncio.Semaphore] = field(default_factory=WeakValueDictionary)
    told: Told = field(init=False)

    def __post_init__(self) -> None:
        self.told = Told(self.messenger.ask_hints)

    async def find_content(self, instruction: Execute) -> Content | None:
        """The spec, with all that the bundle needs in the store; None when the spec itself is to be refused."""
        order = instruction.order
        cid = Cid.from_digest(order.spec_hash)
        self.admission.check([cid])
        providers: list[str] = []
        data = await asyncio.to_thread(self._get_here, cid)
        if data is None:
            providers = await self._find_providers(instruction)
            await self._fetch(cid, providers, 1 << 20, instruction)
            data = await asyncio.to_thread(self.store.get, cid)
        try:
            spec = parse_spec(data)
        except ValidationError:
            return None
        is_divided = spec.partition.pattern is not None
        if (order.task_count != 1 and not is_divided) or spec.limits.fuel > order.fuel_limit:
            return None
        if not fits(spec, instruction.profile):
            return None
        if (excess := explain_excess(spec.limits, self.limits)) is not None:
            raise AboveCeilings(excess)
        contents = {text: Cid.parse(text) for text in spec.contents if not is_piece_text(text)}
        self.admission.check(map(Cid.parse, spec.contents))
        await self.admission.ask(instruction.job_id, order, spec)
        wanted = {text: content for text, content in contents.items() if not (is_divided and text == spec.input)}
        # Before anything of it comes: what a job in progress needs is not thrown away to make room.
        for text in await asyncio.to_thread(self._hold, [cid, *contents.values()], wanted):
            providers = providers or await self._find_providers(instruction)
            if isinstance(spec, JobSpec) and text == spec.module:  # noqa: SIM102 (an await in a condition hides)
                if await self._is_too_long(spec, providers, instruction.period_s):
                    continue
            nearest = [*self.holders.find(text), *providers]
            await self._fetch(wanted[text], nearest, most_bytes(order), instruction)
            await asyncio.to_thread(self._note_whole, wanted[text])
        if spec.input is not None and is_piece_text(spec.input):
            return Content(spec, None, await self._bring_piece(spec.input, instruction))
        if not is_divided:
            return Content(spec, None)
        tasks = await self._divide(instruction, spec, providers)
        if tasks is None or len(tasks.tasks) != order.task_count:
            return None
        await self._fetch_files(instruction, spec, tasks, providers)
        return Content(spec, tasks)

    def _get_here(self, cid: Cid) -> bytes | None:
        try:
            return self.store.get(cid)
        except BlockNotFound:
            return None

    def _hold(self, roots: Sequence[Cid], wanted: Mapping[str, Cid]) -> list[str]:
        """Keep these for as long as a job may be disputed; those wanted that are not here whole, by name."""
        self.store.hold(roots)
        absent = [name for name, root in wanted.items() if not self.store.is_complete(root)]
        for name in wanted.keys() - set(absent):
            self._note_whole(wanted[name])
        return absent

    async def _bring_piece(self, piece: str, instruction: Execute) -> Cid:
        """What an input that is a piece stands for, once it is here."""
        if self.filecoin is None:
            raise ContentUnavailable(f"{piece} is a Filecoin piece, and this node reads none (its setting `filecoin`)")
        limits = self._limit(most_bytes(instruction.order), instruction.period_s)
        source, job = self.filecoin, instruction.job_id.hex()

        def bring() -> Cid:
            with self._taking(most_bytes(instruction.order)):
                return source.bring_piece(self.store, piece, job, limits)

        root = await asyncio.get_running_loop().run_in_executor(self.fetchers, bring)
        self.admission.check([root])
        await asyncio.to_thread(self.store.hold, [root])
        await asyncio.to_thread(self._note_whole, root)
        return root

    async def _divide(self, instruction: Execute, spec: AnySpec, providers: list[str]) -> TaskList | None:
        """The tasks of a partitioned job; None where its input has none, which everybody finds alike."""
        assert spec.input is not None
        key, root = (spec.input, spec.partition), Cid.parse(spec.input)
        while (running := self.dividing.get(key)) is not None:  # another bundle of the job: as in `_fetch`
            await asyncio.wait([running])
        if key in self.divided:
            self.divided.move_to_end(key)
            return self.divided[key]
        future = asyncio.ensure_future(self._list_tasks(instruction, spec, root, providers))
        self.dividing[key] = future
        try:
            found = await future
        finally:
            del self.dividing[key]
        self.divided[key] = found
        while len(self.divided) > MAX_DIVIDED:
            self.divided.popitem(last=False)
        return found

    async def _list_tasks(
        self, instruction: Execute, spec: AnySpec, root: Cid, providers: list[str]
    ) -> TaskList | None:
        if not await asyncio.to_thread(self.store.is_complete, root):
            providers = await self._find_nearest(instruction, spec, providers)
        limits = self._limit(most_bytes(instruction.order), instruction.period_s)

        def find() -> TaskList | None:
            if self.beside is not None:
                self.beside.bring_listing(root)
            with contextlib.suppress(ValidationError):
                try:
                    listed = fetch_listing(self.store, root, providers, limits, self.book)
                except ContentUnavailable as error:
                    self._read_filecoin(root, instruction.job_id, limits, error)
                    listed = fetch_listing(self.store, root, (), limits, self.book)
                return divide(listed, spec.partition)
            return None

        return await asyncio.get_running_loop().run_in_executor(self.fetchers, find)

    async def _find_nearest(self, instruction: Execute, spec: AnySpec, providers: list[str]) -> list[str]:
        """Who may have the input: peers that have it whole, then those that are known of the job."""
        return [*self.holders.find(str(spec.input)), *(providers or await self._find_providers(instruction))]

    async def _fetch_files(self, instruction: Execute, spec: AnySpec, tasks: TaskList, providers: list[str]) -> None:
        """Bring the files of this bundle's own tasks into the store, within what the order says of a bundle."""
        bundle = tasks_of_bundle(instruction.order.task_count, instruction.job_bundle)
        wanted = [index for at, index in enumerate(bundle) if not instruction.tasks or at in instruction.tasks]
        sizes = {file.cid: file.size for file in tasks.files_of(wanted)}
        self.admission.check(sizes)
        absent = await asyncio.to_thread(lambda: [cid for cid in sizes if not self.store.is_complete(cid)])
        if not absent:
            return
        size, most = sum(sizes[cid] for cid in absent), most_bytes(instruction.order)
        if size > most:
            raise ContentUnavailable(f"the bundle's files have {size} bytes, and its order grants {most}")
        self.meter.check(size)
        nearest = await self._find_nearest(instruction, spec, providers)
        if len(absent) > FEW_FILES and 2 * len(absent) > len(sizes):
            whole = tasks.whole_bytes + tasks.listed_bytes if 2 * size > tasks.whole_bytes else most + 1
            gathered = await asyncio.to_thread(tasks.gather, instruction.job_bundle)
            for root, bytes_ in ((Cid.parse(str(spec.input)), whole), (gathered[0] if gathered else None, size)):
                if root is not None and bytes_ <= most:
                    with contextlib.suppress(ContentUnavailable):  # nobody may have gathered them, or not all be there
                        await self._gather(root, nearest, most, instruction)
                        return
        # What no peer has is read from Filecoin's providers: as the whole dataset, unless that is more than is granted.
        is_small = tasks.whole_bytes + tasks.listed_bytes <= most
        try:
            await self._bring_files(sizes, absent, nearest, instruction, reads_filecoin=not is_small)
        except ContentUnavailable as error:
            if not is_small:
                raise
            read = partial(
                self._read_filecoin, Cid.parse(str(spec.input)), instruction.job_id,
                self._limit(most, instruction.period_s), error,
            )  # fmt: skip
            await asyncio.get_running_loop().run_in_executor(self.fetchers, read)

    async def _bring_files(
        self, sizes: dict[Cid, int], absent: Sequence[Cid], nearest: list[str], instruction: Execute, *,
        reads_filecoin: bool,
    ) -> None:  # fmt: skip
        """A few files at once. Raises what came of the first that is not to be had."""
        slots, problems = asyncio.Semaphore(MAX_FILES_AT_ONCE), list[Exception]()

        async def bring(cid: Cid) -> None:
            async with slots:
                try:
                    if not problems:
                        most = sizes[cid] * 11 // 10 + FILE_SLACK_BYTES
                        await self._fetch(cid, nearest, most, instruction, reads_filecoin=reads_filecoin)
                except (ContentUnavailable, DataError) as error:
                    problems.append(error)

        await asyncio.gather(*map(bring, absent))
        if problems:
            raise problems[0]

    async def _gather(self, root: Cid, providers: list[str], max_bytes: int, instruction: Execute) -> None:
        """Fetch what a whole bundle needs, a few of a job at a time: those of other jobs do not wait for it."""
        slots = self.gathering.get(instruction.job_id) or asyncio.Semaphore(MAX_GATHERED_AT_ONCE)
        self.gathering[instruction.job_id] = slots
        async with slots:
            await self._fetch(root, providers, max_bytes, instruction, reads_filecoin=False)

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
        limits = self._limit(MAX_BLOCK_BYTES, period_s)

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
            if url != self.own_url and not found:  # a requester that told us itself may know its collator to be away
                found += await self.told.ask(url, instruction.job_id)
        found += filter(None, collators)
        found += filter(None, map(self.messenger.locate_operator, instruction.operators))
        wanted = [url for url in dict.fromkeys(each.rstrip("/") for each in found) if url != self.own_url]

        def check() -> list[str]:
            good: list[str] = []
            for url in wanted:
                with contextlib.suppress(DataError):
                    good.append(check_url(url, is_local=self.is_local))
            return good

        return await asyncio.to_thread(check)

    async def _fetch(
        self, cid: Cid, providers: list[str], max_bytes: int, instruction: Execute, *, reads_filecoin: bool = True
    ) -> None:
        limits = self._limit(max_bytes, instruction.period_s)
        # What several bundles need is fetched once; who waited in vain tries by itself, with providers of its own.
        while (running := self.fetching.get(cid)) is not None:
            await asyncio.wait([running])
            if await asyncio.to_thread(self.store.is_complete, cid):
                return

        def fetch() -> None:
            with self._taking(max_bytes):
                if self.beside is not None:
                    self.beside.bring(cid, max_bytes)
                try:
                    fetch_dag(self.store, cid, providers, limits=limits, book=self.book)
                except ContentUnavailable as error:
                    if not reads_filecoin or isinstance(error, ContentTooLarge):
                        raise
                    self._read_filecoin(cid, instruction.job_id, limits, error)

        # In threads of their own: those of the loop are for the chain, which must not wait for a stranger.
        running = asyncio.get_running_loop().run_in_executor(self.fetchers, fetch)
        self.fetching[cid] = running
        try:
            await running
        finally:
            del self.fetching[cid]

    def _read_filecoin(self, root: Cid, job_id: bytes, limits: FetchLimits, error: ContentUnavailable) -> None:
        """Where no peer has it. Raises that error, too, where this node does not read Filecoin data."""
        if self.filecoin is None:
            raise error
        self.filecoin.bring_dag(self.store, root, job_id.hex(), limits, error)

    def _taking(self, max_bytes: int) -> contextlib.AbstractContextManager[None]:
        return self.room.taking(max_bytes) if self.room is not None else contextlib.nullcontext()

    def _limit(self, max_bytes: int, period_s: float) -> FetchLimits:
        return FetchLimits(max_bytes, float(period_s), stall_s=STALL_S, min_bytes_s=LEAST_BYTES_S, meter=self.meter)


def most_bytes(order: JobOrder) -> int:
    """What may be received for a bundle, and written out for a container."""
    return order.input_bytes * 11 // 10 + INPUT_SLACK_BYTES
