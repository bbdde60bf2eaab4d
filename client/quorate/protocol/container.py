"""ContainerSpec: the description of a job in a container, profile `quorate-docker-1`.

Beside `JobSpec`: the same canonical JSON under the same rules, another profile and so other fields. An order signs its
digest in the same way.

**Fuel stands for time.** A market's price is for fuel, and nobody can count a container's instructions alike on all
hosts. So a container's fuel is seconds at CONTAINER_FUEL_RATE, the rate at which the contracts' presets reckon the
time of a WASM task too: it may run for `fuel / CONTAINER_FUEL_RATE` seconds on one processor. Since it has one
processor only, the wall clock bounds both. Running out of time differs from host to host: it is never a vote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from quorate.protocol.errors import ValidationError
from quorate.protocol.jsontext import load_json
from quorate.protocol.spec import (
    DEFAULT_INPUT_NAME,
    GIB,
    KIB,
    MAX_SPEC_BYTES,
    MIB,
    SPEC_VERSION,
    JobSpec,
    Partition,
    Spec,
    check_cid,
    check_ranges,
    check_text,
    check_words,
    parse_canonical,
    parse_object,
)

DOCKER_PROFILE = "quorate-docker-1"
CONTAINER_FUEL_RATE = 200_000_000
"""Fuel that stands for a second."""

CONTAINER_CEILINGS: Mapping[str, tuple[int, int]] = {
    "fuel": (1, (1 << 63) - 1),
    "memory_bytes": (8 * MIB, 64 * GIB),
    "pids": (2, 4096),
    "open_files": (16, 65_536),
    "image_bytes": (KIB, 16 * GIB),
    "output_bytes": (0, GIB),
    "output_files": (0, 65_536),
    "tmp_bytes": (0, 4 * GIB),
    "stdout_bytes": (0, 16 * MIB),
    "stderr_bytes": (0, MIB),
}

HOSTS_NAMES = ("TINI_", "LD_", "GLIBC_TUNABLES")
"""Variables that the init of a host, or a loader, listens to: what they print or load differs between hosts."""
HOSTS_PLACES = ("/sbin/docker-init", "/proc/", "/sys/", "/dev/")

_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")
_REFERENCE = re.compile(r"[a-z0-9][a-z0-9._:/-]{0,255}@sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ContainerLimits:
    """What a container may use.

    `fuel` stands for time (see above). `memory_bytes` is for its processes; what lies in /outputs and /tmp, which are
    in memory, comes on top. `pids` counts processes and threads, `open_files` descriptors of each process,
    `image_bytes` bounds the archive, `output_bytes` the apparent sizes of files in /outputs, `output_files` its files
    and folders. Of standard error `stderr_bytes` are kept and the rest is dropped: it is no part of a result.
    """

    fuel: int = 25 * CONTAINER_FUEL_RATE
    memory_bytes: int = 512 * MIB
    pids: int = 64
    open_files: int = 256
    image_bytes: int = GIB
    output_bytes: int = 64 * MIB
    output_files: int = 4096
    tmp_bytes: int = 64 * MIB
    stdout_bytes: int = MIB
    stderr_bytes: int = 64 * KIB

    def __post_init__(self) -> None:
        check_ranges(self, CONTAINER_CEILINGS)

    @property
    def seconds(self) -> float:
        """How long a container may run."""
        return self.fuel / CONTAINER_FUEL_RATE


@dataclass(frozen=True, slots=True)
class Image:
    """What is run, pinned by content.

    Either `archive`, the CID of a docker-archive, with `id`, the sha256 of the config JSON inside; or `reference`, a
    manifest in a registry by its digest (`name@sha256:…`).
    """

    archive: str | None = None
    id: str | None = None
    reference: str | None = None

    def __post_init__(self) -> None:
        for name in ("archive", "id", "reference"):
            if (value := getattr(self, name)) is not None:
                check_text(value, f"image.{name}")
        if (self.archive is None) != (self.id is None) or (self.archive is None) == (self.reference is None):
            raise ValidationError("image needs either archive with id, or reference alone; the others are null")
        if self.archive is not None:
            check_cid(self.archive, "image.archive")
        if self.id is not None and not _IMAGE_ID.fullmatch(self.id):
            raise ValidationError(f"image.id must be sha256: and 64 hex digits, not {self.id[:80]!r}")
        if self.reference is not None and not _REFERENCE.fullmatch(self.reference):
            raise ValidationError(f"image.reference must be NAME@sha256:…, pinned, not {self.reference[:80]!r}")

    @property
    def digest(self) -> str:
        """`sha256:…` by which a class may be narrowed to this image."""
        return self.id or str(self.reference).rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class ContainerSpec(Spec):
    """One job's image, its input and its limits.

    What is executed is `entrypoint` (the image's own where None) followed by `args`; where both are left out, by the
    image's default arguments. `env` goes over the image's own. Input and partition are as in `JobSpec`.
    """

    image: Image
    input: str | None = None
    input_name: str = DEFAULT_INPUT_NAME
    entrypoint: tuple[str, ...] | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    limits: ContainerLimits = ContainerLimits()
    partition: Partition = Partition()
    profile: str = DOCKER_PROFILE
    version: int = SPEC_VERSION

    def __post_init__(self) -> None:
        self.check(DOCKER_PROFILE)
        if self.entrypoint is not None:
            check_words(self.entrypoint, {})
            if not self.entrypoint or not self.entrypoint[0]:
                raise ValidationError("entrypoint must name a program, or be null for the image's own")
            if self.entrypoint[0].startswith(HOSTS_PLACES):
                raise ValidationError(
                    f"entrypoint {self.entrypoint[0][:80]!r} is no program of the image, but the host's"
                )
        if taken := [name for name in self.env if name.startswith(HOSTS_NAMES)]:
            raise ValidationError(f"env must not set {taken[0]}: it changes what starts a program, host by host")

    @classmethod
    def from_bytes(cls, data: bytes) -> ContainerSpec:
        """Inverse of `to_bytes`; ValidationError for anything but the canonical bytes of a valid spec."""
        values = parse_canonical(data, "the spec", {f.name for f in fields(cls)})
        parts = {
            name: parse_object(values[name], name, {f.name for f in fields(part)})
            for name, part in (("image", Image), ("limits", ContainerLimits), ("partition", Partition))
        }
        entrypoint = values["entrypoint"]
        if not isinstance(values["args"], list) or not isinstance(entrypoint, list | None):
            raise ValidationError("the spec's args must be an array, entrypoint an array or null")
        changed = {
            "image": Image(**parts["image"]),
            "limits": ContainerLimits(**parts["limits"]),
            "partition": Partition(**parts["partition"]),
            "args": tuple(values["args"]),
            "entrypoint": None if entrypoint is None else tuple(entrypoint),
        }
        return cls(**(values | changed))

    @property
    def contents(self) -> tuple[str, ...]:
        """Archive and input."""
        return tuple(filter(None, (self.image.archive, self.input)))


AnySpec = JobSpec | ContainerSpec


def parse_spec(data: bytes) -> AnySpec:
    """A spec of whatever profile its bytes name; ValidationError for all but the canonical bytes of a valid one."""
    try:
        value = load_json(data) if len(data) <= MAX_SPEC_BYTES else None
    except ValueError:
        value = None
    if isinstance(value, dict) and value.get("profile") == DOCKER_PROFILE:
        return ContainerSpec.from_bytes(data)
    return JobSpec.from_bytes(data)
