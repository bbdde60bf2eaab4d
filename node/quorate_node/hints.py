"""Who has a job's input: what requesters told this node, as a collator or because they feared that theirs is gone."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from quorate.protocol.types import Address

MAX_KNOWN = 100_000
MAX_HINTS_BYTES = 64 << 20
MAX_BATCHES = 4_096
MAX_CLAIMS = 8
"""Operators whose word about one batch is kept: a batch has one collator, but the chain may not show which yet."""


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


class BatchHints:
    """Who has the inputs of a batch, as its collator announced: for when it cannot be asked any more."""

    def __init__(self) -> None:
        self._rows: OrderedDict[int, OrderedDict[Address, tuple[str, ...]]] = OrderedDict()

    def put(self, batch_id: int, author: Address, providers: Iterable[str]) -> None:
        """Keep what an operator says, by the address from which it staked."""
        claims: OrderedDict[Address, tuple[str, ...]] = self._rows.pop(batch_id, OrderedDict())
        claims[author] = tuple(providers)
        while len(claims) > MAX_CLAIMS:
            claims.popitem(last=False)
        self._rows[batch_id] = claims
        while len(self._rows) > MAX_BATCHES:
            self._rows.popitem(last=False)

    def find(self, batch_id: int, collators: Iterable[Address]) -> Sequence[str]:
        """Providers by the word of a batch's collators alone; none when they said nothing."""
        claims: Mapping[Address, Sequence[str]] = self._rows.get(batch_id, {})
        return list(dict.fromkeys(url for each in collators for url in claims.get(each, ())))
