"""TaskResult: what one task came to, and the Merkle root under which a bundle's results are voted on.

The canonical JSON of a result is itself a block in the store: `leaf` is its sha2-256, so its CID is CIDv1 (raw,
sha2-256) of the leaf, and the bytes that a vote stands for can be fetched and checked by anybody.

Which endings are results. A program that ends by itself, in whatever way that every honest host sees alike, has a
result; it is never thrown away. The ending is `status` with `exit_code`:

    OK            0          `_start` returned, or proc_exit(0)
    FAILED        1 … 2^32-1 proc_exit with that code
    FAILED        EXIT_TRAP        a trap: unreachable, out of bounds, division by zero, a bad pointer to a host call …
    FAILED        EXIT_OVER_LIMIT  stdout, output bytes or files over the limit, or links among the outputs
    FAILED        EXIT_REFUSED     the module is not one, is too large, imports the unknown, or lacks `_start`
    OUT_OF_FUEL   EXIT_OUT_OF_FUEL

Negative codes are out of reach for proc_exit, so a program cannot pretend to have trapped. Where the program did not
end by itself its outputs are left out (an empty directory): half-written files help nobody and would be one more
thing to agree on. Its stdout is kept, up to where it got. Time-outs, memory of the host, depth of the stack and
missing data are no results (`quorate_node.executor.base.LocalFailure`).

Of a container (profile `quorate-docker-1`) there are fewer: OK, FAILED with 1 … 255, where 128 + n is death by
signal n, and FAILED with EXIT_OVER_LIMIT for too much on stdout, for too much in /outputs and for what is neither file
nor folder there. Out of memory, out of time, SIGKILL, an image that is not what its spec says and a program that is
not there are no results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from quorate.protocol.container import DOCKER_PROFILE
from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.spec import WASM_PROFILE, canonical_json, check_cid, compute_raw_cid, parse_canonical, shallow

EXIT_TRAP = -1
EXIT_OVER_LIMIT = -2
EXIT_REFUSED = -3
EXIT_OUT_OF_FUEL = -4
MAX_EXIT_CODE = (1 << 32) - 1
MAX_TASKS = 1 << 32

_LEAF, _NODE = b"\x00", b"\x01"


class TaskStatus(StrEnum):
    """How a task ended."""

    OK = "OK"
    FAILED = "FAILED"
    OUT_OF_FUEL = "OUT_OF_FUEL"


@dataclass(frozen=True, slots=True)
class TaskResult:
    """Canonical result of one task. `spec`, `stdout_cid` and `outputs_cid` are CIDs; stderr and times are not in it."""

    spec: str
    task_index: int
    status: TaskStatus
    exit_code: int
    stdout_cid: str
    outputs_cid: str
    profile: str = WASM_PROFILE

    def __post_init__(self) -> None:
        for name in ("spec", "stdout_cid", "outputs_cid"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise ValidationError(f"the result's {name} must be a CID, not {value!r}")
            check_cid(value, f"the result's {name}")
        if self.profile not in (WASM_PROFILE, DOCKER_PROFILE):
            raise ValidationError(f"the result's profile {self.profile!r} is unknown")
        if type(self.task_index) is not int or not 0 <= self.task_index < MAX_TASKS:
            raise ValidationError(f"the result's task_index {self.task_index!r} is not a task's number")
        if type(self.exit_code) is not int or not _is_ending(self.status, self.exit_code):
            raise ValidationError(f"status {self.status} cannot come with exit code {self.exit_code!r}")

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(shallow(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> TaskResult:
        """Inverse of `to_bytes`; ValidationError for anything but the canonical bytes of a valid result."""
        values = parse_canonical(data, "the result", {f.name for f in fields(cls)})
        if values["status"] not in list(TaskStatus):
            raise ValidationError(f"the result's status {values['status']!r} is unknown")
        return cls(**(values | {"status": TaskStatus(values["status"])}))

    @property
    def leaf(self) -> bytes:
        """sha2-256 of `to_bytes()`, 32 bytes."""
        return hashlib.sha256(self.to_bytes()).digest()

    @property
    def cid(self) -> str:
        """CID of the block `to_bytes()`."""
        return compute_raw_cid(self.leaf)


def _is_ending(status: TaskStatus, code: int) -> bool:
    if status is TaskStatus.OK:
        return code == 0
    if status is TaskStatus.OUT_OF_FUEL:
        return code == EXIT_OUT_OF_FUEL
    return code in (EXIT_TRAP, EXIT_OVER_LIMIT, EXIT_REFUSED) or 0 < code <= MAX_EXIT_CODE


def compute_task_id(spec_digest: bytes, task_index: int) -> bytes:
    """Name of a task, 32 bytes: sha2-256(spec digest ‖ task index u32 big-endian). It seeds the task's random_get."""
    if len(spec_digest) != 32 or not 0 <= task_index < MAX_TASKS:
        raise ValidationError("a task id needs a 32-byte spec digest and a task index below 2^32")
    return hashlib.sha256(spec_digest + task_index.to_bytes(4, "big")).digest()


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """From the hashed leaves up to the root; a node without a sibling is promoted as it is."""
    if not leaves or any(len(leaf) != 32 for leaf in leaves):
        raise ValidationError("a Merkle root needs at least one leaf, each of 32 bytes")
    levels = [[keccak(_LEAF + leaf) for leaf in leaves]]
    while len(row := levels[-1]) > 1:
        paired = [keccak(_NODE + row[i] + row[i + 1]) for i in range(0, len(row) - 1, 2)]
        levels.append(paired + row[len(paired) * 2 :])
    return levels


def compute_merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Vote on a bundle: keccak tree over its leaves in the order of their tasks.

    Leaves and nodes are hashed under different prefixes, so that no leaf can pass for a subtree.
    """
    return _levels(leaves)[-1][0]


def compute_merkle_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Siblings from leaf `index` up to the root."""
    if not 0 <= index < len(leaves):
        raise ValidationError(f"there is no leaf {index} among {len(leaves)}")
    proof = []
    for row in _levels(leaves)[:-1]:
        if (index ^ 1) < len(row):
            proof.append(row[index ^ 1])
        index >>= 1
    return proof


def verify_merkle_proof(root: bytes, leaf: bytes, index: int, count: int, proof: Sequence[bytes]) -> bool:
    """Whether `leaf` is number `index` of the `count` leaves under `root`."""
    if not 0 <= index < count:
        return False
    value, siblings = keccak(_LEAF + leaf), list(proof)
    while count > 1:
        if (index ^ 1) < count:
            if not siblings:
                return False
            sibling = siblings.pop(0)
            value = keccak(_NODE + (sibling + value if index & 1 else value + sibling))
        index, count = index >> 1, (count + 1) >> 1
    return not siblings and value == root
