"""The tasks of a job over many files, as its spec and its input's listing give them to everybody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quorate.bundles import MAX_GATHERED, Block, gather_files
from quorate.protocol.partition import Task, count_bundles, partition, tasks_of_bundle
from quorate.protocol.spec import Partition
from quorate.storage.base import Additions
from quorate.storage.cid import Cid
from quorate.storage.dagpb import Link
from quorate.storage.listing import ListedFile

DIRECTORY_ENTRY_BYTES = 64
"""What an entry costs in a directory's block, beside its name."""


@dataclass(frozen=True, slots=True)
class TaskList:
    """All tasks, and the files that they are about.

    `listed_bytes` stands for the directories' own blocks; `whole_bytes` is of all files of the input.
    """

    tasks: tuple[Task, ...]
    files: dict[str, ListedFile]
    listed_bytes: int
    whole_bytes: int

    def files_of(self, indices: Iterable[int]) -> list[ListedFile]:
        """Files of some tasks, in order."""
        return [self.files[path] for index in indices for path in self.tasks[index].paths]

    def add_input(self, store: Additions, index: int) -> Cid:
        """Keep the directory that one task sees: its own files at their paths, none of which is read for it."""
        seen = [self.files[path] for path in self.tasks[index].paths]
        return store.add_tree({file.path: Link(file.cid, tsize=file.size) for file in seen})

    def gather(self, bundle: int) -> Block | None:
        """The directory of a bundle's files, each once; None where they are too many for one."""
        files = list(dict.fromkeys(file.cid for file in self.files_of(tasks_of_bundle(len(self.tasks), bundle))))
        return gather_files(files) if len(files) <= MAX_GATHERED else None

    def count_most_bytes(self) -> int:
        """Bytes that the bundle which needs most has to fetch of the input."""
        count = len(self.tasks)
        most = max(self._count_bytes(tasks_of_bundle(count, bundle)) for bundle in range(count_bundles(count)))
        return self.listed_bytes + most

    def _count_bytes(self, indices: Iterable[int]) -> int:
        return sum({file.cid: file.size for file in self.files_of(indices)}.values())


def divide(listed: Sequence[ListedFile], how: Partition) -> TaskList:
    """The tasks of a partitioned job. Raises ValidationError where there are none, or too many."""
    assert how.pattern is not None
    tasks = partition((file.path for file in listed), how.pattern, how.batch_size)
    wanted = {path for task in tasks for path in task.paths}
    size = sum(len(file.path.rpartition("/")[2].encode()) + DIRECTORY_ENTRY_BYTES for file in listed)
    files = {file.path: file for file in listed if file.path in wanted}
    return TaskList(tasks, files, size, sum(file.size for file in listed))
