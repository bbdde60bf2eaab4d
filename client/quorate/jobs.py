"""Records of our own jobs, one file each, written before an order leaves the machine; and nonces."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from quorate.chain.types import Deployment, NonceWindow, parse_address, parse_hex, to_hex, write_atomically
from quorate.protocol.errors import ConfigurationError, ValidationError
from quorate.protocol.types import Address, JobId, JobOrder, SignatureKind, SignedOrder


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What we know of a job without asking anybody.

    `created_at` is unix seconds of this machine, `from_block` one before which the order cannot be posted, `seen` the
    seconds from signature to each step as far as we watched, `result_cid` known after the result was fetched, `state`
    the last step as we last saw it on the chain, and `is_closed` whether nothing can follow it any more.
    """

    job_id: JobId
    order: JobOrder
    signature: bytes
    spec: str
    chain_id: int
    market: Address
    from_block: int
    created_at: float
    providers: tuple[str, ...] = ()
    collator: str | None = None
    result_cid: str | None = None
    seen: dict[str, float] = field(default_factory=dict)
    kind: SignatureKind = SignatureKind.ECDSA
    state: str | None = None
    is_closed: bool = False

    @property
    def signed(self) -> SignedOrder:
        """The order with its signature."""
        return SignedOrder(self.order, self.signature, self.kind)

    def to_json(self) -> dict[str, Any]:
        """What the file holds."""
        values = {name: getattr(self, name) for name in ("spec", "chain_id", "from_block", "created_at", "collator")}
        return {
            "job_id": to_hex(self.job_id),
            "order": describe_order(self.order),
            "signature": to_hex(self.signature),
            "kind": int(self.kind),
            "market": to_hex(self.market),
            "providers": list(self.providers),
            "result_cid": self.result_cid,
            "seen": self.seen,
            "state": self.state,
            "is_closed": self.is_closed,
        } | values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> JobRecord:
        """Inverse of to_json."""
        order = values["order"]
        fixed = {"requester": parse_address(order["requester"]), "spec_hash": parse_hex(order["spec_hash"])}
        return cls(
            job_id=JobId(parse_hex(values["job_id"])),
            order=JobOrder(**(order | fixed)),
            signature=parse_hex(values["signature"]),
            spec=values["spec"],
            chain_id=values["chain_id"],
            market=parse_address(values["market"]),
            from_block=values["from_block"],
            created_at=values["created_at"],
            providers=tuple(values["providers"]),
            collator=values["collator"],
            result_cid=values["result_cid"],
            seen=values["seen"],
            kind=SignatureKind(values.get("kind", 0)),
            state=values.get("state"),
            is_closed=values.get("is_closed", False),
        )


def describe_order(order: JobOrder) -> dict[str, Any]:
    """An order as JSON: numbers, and hex for bytes."""
    return asdict(order) | {"requester": to_hex(order.requester), "spec_hash": to_hex(order.spec_hash)}


class JobBook:
    """The folder of job records. Safe between processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, record: JobRecord) -> None:
        """Write a record, durably."""
        write_atomically(self._path(record.job_id), json.dumps(record.to_json(), indent=1) + "\n", mode=0o600)

    def update(self, record: JobRecord, **changes: Any) -> JobRecord:
        """Save a record with changed fields."""
        changed = replace(record, **changes)
        self.save(changed)
        return changed

    def load(self, name: str) -> JobRecord:
        """A record by its job id in hex, or by the id's beginning. Raises ValidationError when there is none."""
        wanted = name.lower().removeprefix("0x")
        found = [path for path in self._paths() if path.stem.startswith(wanted)]
        if len(found) != 1 or not wanted:
            problem = f"{len(found)} jobs begin with" if found else "no job"
            raise ValidationError(f"{problem} {name!r} in {self.folder}: `quorate job list` shows their ids")
        return self._read(found[0])

    def load_all(self) -> list[JobRecord]:
        """All records, the oldest first."""
        return sorted(map(self._read, self._paths()), key=lambda record: (record.created_at, record.order.nonce))

    def reserve_nonce(self, deployment: Deployment, requester: Address, window: NonceWindow) -> int:
        """An order nonce that was never given out, on disk before it is returned: used twice, one order is lost."""
        path = self.folder / "nonces" / f"{deployment.chain_id}-{deployment.market.hex()}-{requester.hex()}"
        with self._lock():
            local = int(path.read_text()) if path.exists() else 0
            nonce = max(local, window.base + window.used.bit_length())
            write_atomically(path, f"{nonce + 1}\n")
            return nonce

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _path(self, job_id: JobId) -> Path:
        return self.folder / f"{job_id.hex()}.json"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))

    def _read(self, path: Path) -> JobRecord:
        try:
            return JobRecord.from_json(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"the job record {path} is broken ({error!r}): remove it") from error
