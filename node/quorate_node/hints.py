"""Who has a job's input: what requesters told this node, as a collator or because they feared that theirs is gone."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

MAX_KNOWN = 100_000
MAX_HINTS_BYTES = 64 << 20


class Hints:
    """Providers by job: a bounded table and a file of lines that brings it back."""

    def __init__(self, file: Path) -> None:
        self._rows: OrderedDict[bytes, list[str]] = OrderedDict()
        self._load(file)
        self._path = file
        self._file = file.open("a", buffering=1)

    def _load(self, file: Path) -> None:
        if not file.exists():
            return
        for line in file.read_text(errors="replace").splitlines():
            try:
                job_id, providers = json.loads(line)
                self._keep(bytes.fromhex(job_id), list(map(str, providers)))
            except (ValueError, TypeError):
                continue  # a line that a crash cut off

    def get(self, job_id: bytes) -> list[str]:
        """Providers of a job; none when it is unknown."""
        return self._rows.get(job_id, [])

    def put(self, job_id: bytes, providers: list[str]) -> None:
        """Keep the providers of a job."""
        if not providers or self._rows.get(job_id) == providers:
            return
        self._keep(job_id, providers)
        if self._file.tell() > MAX_HINTS_BYTES:  # who may tell us something may tell it again and again
            self._file.close()
            self._file = self._path.open("w", buffering=1)
        self._file.write(json.dumps([job_id.hex(), providers]) + "\n")

    def _keep(self, job_id: bytes, providers: list[str]) -> None:
        self._rows[job_id] = providers
        while len(self._rows) > MAX_KNOWN:
            self._rows.popitem(last=False)
