"""What a program finds when it starts, and what is kept of what it leaves: the job profile's three folders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from quorate.protocol.spec import JobSpec
from quorate.storage.base import Additions, BlobStore
from quorate_node.executor.content import collect_outputs, mount_input, store_outputs
from quorate_node.executor.wasi.host import Preopen
from quorate_node.executor.wasi.tree import Directory, Usage

OUTPUTS = b"/outputs"


@dataclass(frozen=True, slots=True)
class Mounted:
    """The folders that a program starts with, from descriptor 3 on, and the allowance that they share."""

    preopens: list[Preopen]
    usage: Usage

    def find(self, path: bytes) -> Directory | None:
        """The folder with this name in the guest."""
        return next((preopen.directory for preopen in self.preopens if preopen.path == path), None)


class World(Protocol):
    """Where a program's folders come from, and where its results go."""

    def mount(self, spec: JobSpec, store: BlobStore) -> Mounted:
        """Make the folders of one run."""

    def keep(self, mounted: Mounted, store: Additions) -> str:
        """Store what a program that ended by itself left; its CID. OverLimit if it left what is no agreed content."""


class JobWorld:
    """/inputs (read-only, by the spec), empty /outputs and /tmp, in this order; /outputs is kept."""

    def mount(self, spec: JobSpec, store: BlobStore) -> Mounted:
        """The three folders."""
        # They are there before the program and not part of its allowance.
        limits = spec.limits
        usage = Usage(limits.output_bytes, limits.output_files + 2, limits.path_bytes, given_files=2)
        folders = (
            (b"/inputs", mount_input(store, spec, usage)),
            (OUTPUTS, Directory(usage)),
            (b"/tmp", Directory(usage)),
        )
        return Mounted([Preopen(path, directory) for path, directory in folders], usage)

    def keep(self, mounted: Mounted, store: Additions) -> str:
        """The CID of /outputs."""
        outputs = mounted.find(OUTPUTS)
        assert outputs is not None
        return store_outputs(store, collect_outputs(outputs, mounted.usage))
