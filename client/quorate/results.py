"""Fetching what a committee agreed on, from seats that nobody trusts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from quorate.bundles import gather_contents, gather_results
from quorate.chain.gateway import ChainGateway
from quorate.delivery import open_http, read_error
from quorate.jobs import JobRecord
from quorate.layout import Mirror, add_mirror, write_result
from quorate.progress import JobStage
from quorate.protocol.container import parse_spec
from quorate.protocol.errors import ContentUnavailable, DataError, ValidationError
from quorate.protocol.jsontext import load_json
from quorate.protocol.params import BUNDLE_TASKS
from quorate.protocol.partition import count_bundles, tasks_of_bundle
from quorate.protocol.pattern import compile_pattern
from quorate.protocol.result import TaskResult, compute_merkle_root
from quorate.protocol.types import Vote
from quorate.receipts import describe_promise, find_seats
from quorate.spec import find_tasks
from quorate.storage.base import BlobStore, BlockNotFound
from quorate.storage.cid import Cid
from quorate.storage.fetch import fetch_block, fetch_dag
from quorate.tasks import TaskList
from quorate.tracking import JobTracker

LEAVES_PATH = "/quorate/v1/leaves/"
MAX_LEAVES_BYTES = 64 * 1024
TIMEOUT_S = 10.0

MAX_BUNDLES_AT_ONCE = 4
MAX_OUTPUTS_AT_ONCE = 4
MAX_GATHERERS = 4
"""Seats that are asked for all of a bundle at once; they voted for it, so that the first has it."""

Refusals = list[tuple[str, str]]
"""Providers that were left, each with the reason."""
OnFetched = Callable[[int, int, int], None]
"""Told of bundles that are here, of how many, and the bytes received."""


@dataclass(frozen=True, slots=True)
class FetchedResult:
    """A job's verified results, in order of their tasks; `refused` names providers that lied or were away.

    `root` is the directory of all results of a job over many files (see `quorate.layout.add_mirror`).
    """

    results: tuple[TaskResult, ...]
    path: Path
    bytes_received: int
    refused: tuple[tuple[str, str], ...]
    root: Cid | None = None


def fetch_leaves(vote: Vote, providers: Sequence[str], refused: Refusals) -> list[bytes]:
    """Leaves under an accepted vote, from the first provider whose leaves hash to it.

    Raises DataError naming the liars when nobody is left and somebody lied, ContentUnavailable when all were away.
    """
    has_lied = False
    for url in providers:
        try:
            leaves = _ask_leaves(url, vote)
            if compute_merkle_root(leaves) != vote:
                raise DataError("sent leaves that are not those of the accepted vote")
            return leaves
        except DataError as error:
            has_lied = True
            refused.append((url, str(error)))
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ContentUnavailable) as error:
            refused.append((url, f"{type(error).__name__}: {error}"))
    reasons = "; ".join(f"{url}: {reason}" for url, reason in refused) or "no seat has announced an endpoint"
    kind = DataError if has_lied else ContentUnavailable
    raise kind(f"nobody served the leaves of vote 0x{vote.hex()} ({reasons}); try again later")


def _ask_leaves(url: str, vote: Vote) -> list[bytes]:
    with open_http(url, TIMEOUT_S) as client:
        answer = client.get(f"{url}{LEAVES_PATH}{vote.hex()}")
    if answer.is_error:
        raise ContentUnavailable(read_error(answer))
    if len(answer.content) > MAX_LEAVES_BYTES:
        raise DataError(f"sent {len(answer.content)} bytes of leaves")
    try:
        leaves = [bytes.fromhex(str(leaf).removeprefix("0x")) for leaf in load_json(answer.content)["leaves"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"sent no list of leaves ({error!r})") from error
    if not leaves or any(len(leaf) != 32 for leaf in leaves):
        raise DataError("sent leaves that are not of 32 bytes")
    return leaves


def fetch_task_result(
    store: BlobStore, leaf: bytes, spec_cid: str, task: int, providers: Sequence[str], refused: Refusals
) -> tuple[TaskResult, int]:
    """A task's result, put into the store without its output, and the bytes received; it is checked by its CID.

    Raises ContentUnavailable when nobody serves it, DataError when the committee agreed on rubbish.
    """
    cid, received = Cid.from_digest(leaf), 0
    try:
        block = store.get(cid)  # as a rule it came with all of its bundle
    except BlockNotFound:
        report = fetch_block(store, cid, providers)
        refused.extend(report.rejected)
        block, received = store.get(cid), report.bytes
    result = TaskResult.from_bytes(block)
    if result.spec != spec_cid or result.task_index != task:
        raise DataError(f"{cid} is the result of task {result.task_index} of {result.spec}, not of this job's")
    return result, received


def fetch_output(store: BlobStore, result: TaskResult, providers: Sequence[str], refused: Refusals) -> int:
    """Bring what a task put out into the store; the bytes received. Raises ContentUnavailable."""
    received = 0
    for root in (result.outputs_cid, result.stdout_cid):
        report = fetch_dag(store, Cid.parse(root), providers)
        refused.extend(report.rejected)
        received += report.bytes
    return received


@dataclass(slots=True)
class Bundle:
    """One accepted bundle: its tasks, who may serve them, and what came of asking."""

    number: int
    vote: Vote
    tasks: range
    providers: list[str]
    results: list[TaskResult] = field(default_factory=list)
    received: int = 0
    refused: Refusals = field(default_factory=list)

    def choose(self, wanted: set[int] | None) -> list[TaskResult]:
        """Results of the tasks that are wanted; None: of all."""
        return [each for each in self.results if wanted is None or each.task_index in wanted]


class ResultReader:
    """A job's accepted results, at the seats that voted for them."""

    def __init__(self, gateway: ChainGateway, store: BlobStore, record: JobRecord, tracker: JobTracker) -> None:
        self._gateway, self._store, self._record, self._tracker = gateway, store, record, tracker

    def check_accepted(self) -> None:
        """ValidationError unless all of the job was accepted."""
        if self._tracker.stage != JobStage.ACCEPTED:
            stage = self._tracker.stage.value if self._tracker.stage else "not posted yet"
            raise ValidationError(f"job 0x{self._record.job_id.hex()} is {stage}: there is no accepted result to fetch")

    def read(self) -> tuple[TaskResult, ...]:
        """Results without their output: how each task ended."""
        self.check_accepted()
        bundles = self.bundles()
        self.collect(bundles, None, lambda _: None, with_output=False)
        return tuple(result for bundle in bundles for result in bundle.results)

    def find_cid(self) -> Cid:
        """Where the first task's result is, whoever has its bytes."""
        self.check_accepted()
        bundle = self.bundles()[0]
        return Cid.from_digest(fetch_leaves(bundle.vote, bundle.providers, [])[0])

    def find_tasks(self, *, is_needed: bool) -> TaskList | None:
        """Tasks with their files; None for a job that is not divided, and unless `is_needed` where none can be had."""
        spec = parse_spec(self._record.spec.encode())
        providers = [*self._record.providers, *self._gateway.endpoints().values()]
        try:
            return find_tasks(self._store, spec, providers)
        except ContentUnavailable:
            if is_needed:
                raise
            return None

    def has_any(self) -> bool:
        """Whether any bundle is accepted."""
        return any(each.vote for each in self._tracker.bundles.values())

    def find_vote(self, bundle: int) -> Vote | None:
        """By which a bundle is accepted."""
        found = self._tracker.bundles.get(bundle)
        return found.vote if found is not None else None

    def bundles(self, without: Collection[int] = ()) -> list[Bundle]:
        """Those that are accepted, in order, without some."""
        count = self._record.order.task_count
        return [
            Bundle(number, Vote(each.vote), tasks_of_bundle(count, index), self._providers_of(number))
            for index, (number, each) in enumerate(sorted(self._tracker.bundles.items()))
            if each.vote and number not in without
        ]

    def collect(
        self, bundles: Sequence[Bundle], wanted: set[int] | None, keep: Callable[[Bundle], None], *, with_output: bool
    ) -> None:
        """Bring some bundles here, or of each only `wanted` tasks' output; several at once.

        Each is told to `keep` when it is here, while others still come.
        """
        spec_cid = parse_spec(self._record.spec.encode()).cid
        with ThreadPoolExecutor(MAX_BUNDLES_AT_ONCE, "results") as threads:
            futures = {
                threads.submit(self._collect_bundle, bundle, spec_cid, wanted, with_output=with_output): bundle
                for bundle in bundles
            }
            try:
                for future in as_completed(futures):
                    future.result()
                    keep(futures[future])
            finally:
                threads.shutdown(cancel_futures=True)

    def _collect_bundle(self, bundle: Bundle, spec_cid: str, wanted: set[int] | None, *, with_output: bool) -> None:
        try:
            leaves = fetch_leaves(bundle.vote, bundle.providers, bundle.refused)
            if len(leaves) != len(bundle.tasks):
                vote, count = bundle.vote.hex(), len(bundle.tasks)
                raise ContentUnavailable(f"the vote 0x{vote} has {len(leaves)} leaves for {count} tasks")
            self._fetch_gathered(bundle, gather_results(leaves)[0], map(Cid.from_digest, leaves))
            for task, leaf in zip(bundle.tasks, leaves, strict=True):
                found = fetch_task_result(self._store, leaf, spec_cid, task, bundle.providers, bundle.refused)
                bundle.results.append(found[0])
                bundle.received += found[1]
            if with_output:
                self._fetch_outputs(bundle, wanted)
        except ContentUnavailable as error:
            promise = describe_promise(self._gateway, self._tracker, bundle.number)
            raise ContentUnavailable(f"{error}; {promise}") from error

    def _fetch_outputs(self, bundle: Bundle, wanted: set[int] | None) -> None:
        chosen = bundle.choose(wanted)
        if 2 * len(chosen) > len(bundle.results):
            parts = {cid for result in bundle.results for cid in (result.outputs_cid, result.stdout_cid)}
            if self._fetch_gathered(bundle, gather_contents(bundle.results)[0], map(Cid.parse, parts)):
                return

        def fetch(result: TaskResult) -> int:
            return fetch_output(self._store, result, bundle.providers, bundle.refused)

        with ThreadPoolExecutor(MAX_OUTPUTS_AT_ONCE, "outputs") as threads:
            bundle.received += sum(threads.map(fetch, chosen))

    def _fetch_gathered(self, bundle: Bundle, root: Cid, parts: Iterable[Cid]) -> bool:
        """Bring what a bundle's tasks left in one request, if that can be; whether all is here now.

        A seat that cannot do so is asked for one after the other.
        """
        if len(bundle.tasks) == 1:
            return False
        if all(map(self._store.is_complete, parts)):
            return True
        try:
            bundle.received += fetch_dag(self._store, root, bundle.providers[:MAX_GATHERERS]).bytes
        except ContentUnavailable:
            return False
        return True

    def _providers_of(self, bundle: int) -> list[str]:
        """Endpoints of seats that voted for the accepted result, then of everybody else: the class may have voted."""
        endpoints, vote = self._gateway.endpoints(), self._tracker.bundles[bundle].vote
        voters = [s["operator"] for s in find_seats(self._gateway, self._tracker, bundle) if s["vote"] == vote]
        return list(dict.fromkeys([*(endpoints[id_] for id_ in voters if id_ in endpoints), *endpoints.values()]))


class ResultFetch:
    """A job's results on their way to a folder.

    Those of a job over many files lie there as its input is laid out, and with `match` only tasks with a file that
    fits; `dest` may be what an earlier fetch of the job began. Else `dest` must not exist, and several tasks get
    folders in it. `track` tells what the chain says of the job now; `note` hears of the results in the end, and of the
    directory of all of them.
    """

    def __init__(
        self,
        gateway: ChainGateway,
        store: BlobStore,
        record: JobRecord,
        track: Callable[[], JobTracker],
        dest: Path,
        match: str | None = None,
        note: Callable[[Sequence[TaskResult], Cid | None], None] = lambda *_: None,
    ) -> None:
        self._gateway, self._store, self._record, self._track = gateway, store, record, track
        self._dest, self._match, self._note = dest, match, note
        self._here: dict[int, Bundle] = {}
        self._tasks: TaskList | None = None
        self._mirror: Mirror | None = None
        self._wanted: set[int] | None = None
        self._is_open = self._is_troubled = False

    def take(self, on_progress: OnFetched | None = None) -> None:
        """Fetch what is accepted already of a job over many files, and take away what was undone.

        What cannot be had is left to `finish`, which tells why.
        """
        reader = self._read()
        if not self._is_open and not reader.has_any():
            return  # a job of which nothing is ever accepted leaves no folder
        try:
            self._open(reader, is_listed=True)
            self._undo(reader)
            if self._mirror is not None and not self._is_troubled:
                self._fetch(reader, on_progress)
        except (ContentUnavailable, DataError):
            self._is_troubled = True  # asking in vain takes time, in which nobody looks after the job

    def finish(self, on_progress: OnFetched | None = None) -> FetchedResult:
        """Fetch what is missing, of an accepted job.

        Raises ValidationError for any other, DataError or ContentUnavailable naming the providers that lied or were
        away when none served it.
        """
        reader = self._read()
        reader.check_accepted()
        self._open(reader, is_listed=self._match is not None)
        self._undo(reader)
        self._fetch(reader, on_progress)
        bundles = [bundle for _, bundle in sorted(self._here.items())]
        results = tuple(each for bundle in bundles for each in bundle.choose(self._wanted))
        root: Cid | None = None
        if self._tasks is None or self._mirror is None:
            for result in results:
                folder = self._dest if len(results) == 1 else self._dest / str(result.task_index)
                write_result(self._store, result, folder)
        else:
            self._mirror.finish(results)
            root = add_mirror(self._store, self._tasks, results) if self._wanted is None else None
        refused = tuple(dict.fromkeys(each for bundle in bundles for each in bundle.refused))
        received = sum(bundle.received for bundle in bundles)
        self._note(results, root)
        return FetchedResult(results, self._dest, received, refused, root)

    def _read(self) -> ResultReader:
        return ResultReader(self._gateway, self._store, self._record, self._track())

    def _open(self, reader: ResultReader, *, is_listed: bool) -> None:
        """Find the job's tasks, for which somebody has to list its input if `is_listed`, and make its folder."""
        if self._is_open:
            return
        tasks = reader.find_tasks(is_needed=is_listed)
        self._wanted = None if self._match is None else _choose(tasks, self._match)
        if tasks is None and self._dest.exists():
            raise ValidationError(f"{self._dest} exists: choose another folder")
        self._tasks = tasks
        self._mirror = None if tasks is None else Mirror(self._store, tasks, self._dest, self._record.job_id)
        self._is_open = True

    def _undo(self, reader: ResultReader) -> None:
        """Forget bundles whose votes are not accepted any more: their files must not be taken for results."""
        for number, bundle in list(self._here.items()):
            if reader.find_vote(number) != bundle.vote:
                if self._mirror is not None:
                    self._mirror.remove(bundle.tasks)
                del self._here[number]

    def _fetch(self, reader: ResultReader, on_progress: OnFetched | None) -> None:
        """All that is accepted, and not here."""
        count, wanted = count_bundles(self._record.order.task_count), self._wanted
        bundles = reader.bundles(without=self._here)
        if wanted is not None:
            count = len({task // BUNDLE_TASKS for task in wanted})
            bundles = [each for each in bundles if not wanted.isdisjoint(each.tasks)]

        def keep(bundle: Bundle) -> None:
            if self._mirror is not None:
                self._mirror.add(bundle.tasks, bundle.vote, bundle.choose(wanted))
            self._here[bundle.number] = bundle
            if on_progress is not None:
                on_progress(len(self._here), count, sum(each.received for each in self._here.values()))

        reader.collect(bundles, wanted, keep, with_output=True)


def _choose(tasks: TaskList | None, match: str) -> set[int]:
    """Tasks with a path that fits. Raises ValidationError where there are none."""
    if tasks is None:
        raise ValidationError("this job is not divided over files, so that there are none to match: leave it out")
    fits = compile_pattern(match).match
    found = {task.index for task in tasks.tasks if any(map(fits, task.paths))}
    if not found:
        raise ValidationError(f"no file of this job matches {match!r}: `*` stands for anything, also with slashes")
    return found
