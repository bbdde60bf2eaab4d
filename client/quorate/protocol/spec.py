"""JobSpec: the content-addressed description of the work, agreed before anybody executes it.

An order signs `JobSpec.digest` (sha2-256 of the canonical JSON), so the spec's CID is CIDv1, raw codec, over the same
digest: whoever has the order can find and check the spec. CIDs are strings here, because the pure code may not import
the store; only CIDv1 in lower-case base32 is accepted, so that one meaning has one spelling and one digest.

Canonical JSON: keys sorted, no whitespace, UTF-8 unescaped, integers only, every field present.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from quorate.protocol.errors import ValidationError
from quorate.protocol.jsontext import load_json
from quorate.protocol.pattern import compile_pattern
from quorate.protocol.pieces import is_piece_text, parse_piece_size

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SPEC_VERSION = 1
WASM_PROFILE = "quorate-wasm-1"
MAX_SPEC_BYTES = 64 * 1024
MAX_ARGS = 256
MAX_ENV = 256
MAX_TEXT_BYTES = 4096  # an argument, a variable's name or value, a pattern
MAX_BATCH = 4096  # files of one task
DEFAULT_INPUT_NAME = "input"

# A CIDv1 of 36 bytes: version, codec (raw or dag-pb), sha2-256 and its length before the digest.
_CID_TEXT = re.compile("b[a-z2-7]{58}")
_CID_HEADERS = (0x01_55_12_20, 0x01_70_12_20)
_BASE32_DIGITS = str.maketrans("abcdefghijklmnopqrstuvwxyz234567", "0123456789abcdefghijklmnopqrstuv")

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# Name → (least, most). A requester asks within these; an operator may set lower ceilings of its own, which decide
# whether it takes a task, never how the task runs.
CEILINGS: Mapping[str, tuple[int, int]] = {
    "fuel": (1, (1 << 63) - 1),
    "memory_bytes": (64 * KIB, 4 * GIB),
    "table_elements": (0, 10_000_000),
    "module_bytes": (8, 64 * MIB),
    "output_bytes": (0, GIB),
    "output_files": (0, 65_536),
    "open_files": (8, 4096),
    "path_bytes": (1, 4096),
    "stdout_bytes": (0, 16 * MIB),
    "stderr_bytes": (0, 512 * KIB),
    "stack_bytes": (16 * KIB, 2 * MIB),
    "compile_seconds": (1, 600),
}


def compute_raw_cid(digest: bytes) -> str:
    """CIDv1 (raw, sha2-256) of a block whose sha2-256 is `digest`."""
    if len(digest) != 32:
        raise ValidationError(f"a sha2-256 digest has 32 bytes, not {len(digest)}")
    return "b" + base64.b32encode(b"\x01\x55\x12\x20" + digest).decode().rstrip("=").lower()


def check_cid(text: str, what: str) -> str:
    """`text`, if it is a CIDv1 in base32 of a raw or UnixFS block under sha2-256; ValidationError otherwise."""
    if _CID_TEXT.fullmatch(text):
        number = int(text[1:].translate(_BASE32_DIGITS), 32)  # 4 bytes of header, 32 of digest, 2 bits that are nought
        if number >> 258 in _CID_HEADERS and number & 3 == 0:
            return text
    raise ValidationError(
        f"{what} must be a CIDv1 in base32 (bafk… or bafy…), not {text[:80]!r}; `ipfs cid base32` converts others"
    )


def check_input(text: str) -> str:
    """`text`, if it is a CID as of `check_cid`, or a piece CID of version 2; ValidationError otherwise."""
    if is_piece_text(text):
        parse_piece_size(text)
        return text
    return check_cid(text, "input")


def canonical_json(value: object) -> bytes:
    """The one spelling of a value that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def shallow(record: DataclassInstance) -> dict[str, Any]:
    """A dataclass's fields by name, values as they are (`asdict` copies them, at ten times the cost)."""
    return {f.name: getattr(record, f.name) for f in fields(record)}


def check_ranges(limits: object, ceilings: Mapping[str, tuple[int, int]]) -> None:
    """ValidationError unless every limit is an integer within its (least, most)."""
    for name, (least, most) in ceilings.items():
        value = getattr(limits, name)
        if type(value) is not int:
            raise ValidationError(f"limits.{name} must be an integer, not {value!r}")
        if not least <= value <= most:
            raise ValidationError(f"limits.{name} = {value} is out of range; choose {least} to {most}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a task may use. What is metered alike on every host makes an agreed result where the program runs into it.

    `table_elements` bounds the elements of all tables together: each may grow to the largest size at which all of them
    are within it.
    `fuel` counts executed instructions and host calls; `output_bytes` and `output_files` bound all that the program
    keeps in /outputs and /tmp together at any moment; `open_files` counts descriptors; a path longer than `path_bytes`
    is refused to the program, and ends it where it is found in /outputs; of standard error, which is no part of the
    result, `stderr_bytes` are kept.

    Not metered alike: `stack_bytes` of machine stack hold more or fewer calls from engine to engine, and
    `compile_seconds` of processor time are longer on one machine than on another. Who runs into these abstains.
    """

    fuel: int = 10_000_000_000
    memory_bytes: int = 512 * MIB
    table_elements: int = 100_000
    module_bytes: int = 32 * MIB
    output_bytes: int = 64 * MIB
    output_files: int = 4096
    open_files: int = 256
    path_bytes: int = 4096
    stdout_bytes: int = MIB
    stderr_bytes: int = 64 * KIB
    stack_bytes: int = MIB
    compile_seconds: int = 60

    def __post_init__(self) -> None:
        check_ranges(self, CEILINGS)


@dataclass(frozen=True, slots=True)
class Partition:
    """How an input directory becomes tasks: see `quorate.protocol.partition`.

    Each task sees the up to `batch_size` files that are its own, at their paths. With pattern None the whole input is
    one task's.
    """

    pattern: str | None = None
    batch_size: int = 1

    def __post_init__(self) -> None:
        if type(self.batch_size) is not int or not 1 <= self.batch_size <= MAX_BATCH:
            raise ValidationError(f"partition: batch_size {self.batch_size!r} is out of range; choose 1 to {MAX_BATCH}")
        if self.pattern is None and self.batch_size != 1:
            raise ValidationError("partition: a batch_size is of the files that a pattern finds: give one, such as '*'")
        if self.pattern is not None:
            compile_pattern(check_text(self.pattern, "partition: pattern"))


class Spec(ABC):
    """What specs of all profiles have alike: one spelling, its digest, and the fields that describe input and words.

    A subclass is a frozen dataclass with these fields and those of its profile.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Any]]  # what `shallow` asks for

    input: str | None
    input_name: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    partition: Partition
    profile: str
    version: int

    @property
    @abstractmethod
    def contents(self) -> tuple[str, ...]:
        """CIDs that a node needs beside the spec."""

    def check(self, profile: str) -> None:
        """ValidationError for what no profile allows, or another profile than this."""
        if type(self.version) is not int or self.version != SPEC_VERSION:
            raise ValidationError(f"spec version {self.version!r} is unknown; this Quorate speaks {SPEC_VERSION}")
        if self.profile != profile:
            raise ValidationError(f"profile {self.profile!r} is unknown; use {profile!r}")
        if self.input is not None:
            check_input(check_text(self.input, "input"))
        check_name(check_text(self.input_name, "input_name"))
        check_words(self.args, self.env)
        if self.partition.pattern is not None and self.input is None:
            raise ValidationError("partition: a pattern needs an input directory whose files it finds")
        if self.partition.pattern is not None and is_piece_text(self.input or ""):
            raise ValidationError("partition: an input whose files are found is named by its root, not by its piece")

    def to_bytes(self) -> bytes:
        """Canonical JSON; the block at the spec's CID."""
        values = {
            name: shallow(value) if is_dataclass(value) and not isinstance(value, type) else value
            for name, value in shallow(self).items()
        }
        encoded = canonical_json(values | {"env": dict(self.env)})
        if len(encoded) > MAX_SPEC_BYTES:
            raise ValidationError(f"the spec has {len(encoded)} bytes, over {MAX_SPEC_BYTES}: pass data as input")
        return encoded

    @property
    def digest(self) -> bytes:
        """sha2-256 of `to_bytes()`, 32 bytes: what the order signs as `specHash`."""
        return hashlib.sha256(self.to_bytes()).digest()

    @property
    def cid(self) -> str:
        """CID of the block `to_bytes()`."""
        return compute_raw_cid(self.digest)


@dataclass(frozen=True, slots=True)
class JobSpec(Spec):
    """One job's program, its input and its limits.

    `module` and `input` are CIDs; an input may be a Filecoin piece, too (see `pieces`). An input directory appears as
    /inputs, a file as /inputs/`input_name`, and no input as an empty /inputs. `args` follow the program's name; `env`
    is given to the program sorted by name.
    """

    module: str
    input: str | None = None
    input_name: str = DEFAULT_INPUT_NAME
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    partition: Partition = Partition()
    profile: str = WASM_PROFILE
    version: int = SPEC_VERSION

    def __post_init__(self) -> None:
        self.check(WASM_PROFILE)
        check_cid(check_text(self.module, "module"), "module")

    @classmethod
    def from_bytes(cls, data: bytes) -> JobSpec:
        """Inverse of `to_bytes`; ValidationError for anything but the canonical bytes of a valid spec."""
        values = parse_canonical(data, "the spec", {f.name for f in fields(cls)})
        limits = parse_object(values["limits"], "limits", {f.name for f in fields(Limits)})
        partition = parse_object(values["partition"], "partition", {f.name for f in fields(Partition)})
        if not isinstance(values["args"], list) or not isinstance(values["env"], dict):
            raise ValidationError("the spec's args must be an array and env an object")
        changed = {"limits": Limits(**limits), "partition": Partition(**partition), "args": tuple(values["args"])}
        return cls(**(values | changed))

    @property
    def contents(self) -> tuple[str, ...]:
        """Module and input."""
        return tuple(filter(None, (self.module, self.input)))


def parse_canonical(data: bytes, what: str, names: set[str]) -> dict[str, Any]:
    """A canonical JSON object with exactly the fields `names`; ValidationError says what is wrong."""
    if len(data) > MAX_SPEC_BYTES:
        raise ValidationError(f"{what} has {len(data)} bytes, over {MAX_SPEC_BYTES}")
    try:
        value = load_json(data, parse_float=_refuse_number, parse_constant=_refuse_number)
        is_canonical = canonical_json(value) == data
    except ValueError as error:
        raise ValidationError(f"{what} is not JSON in UTF-8 with integers only: {error}") from error
    found = parse_object(value, what, names)
    if not is_canonical:
        raise ValidationError(
            f"{what} is not canonical: sort the keys, once each, and leave out whitespace and escapes"
        )
    return found


def _refuse_number(text: str) -> Any:
    raise ValueError(f"{text} is not an integer")


def parse_object(value: Any, what: str, names: set[str]) -> dict[str, Any]:
    """`value`, if it is an object with exactly the fields `names`."""
    if not isinstance(value, dict):
        raise ValidationError(f"{what} must be a JSON object")
    if unknown := sorted(value.keys() - names):
        raise ValidationError(f"{what} has unknown fields: {', '.join(unknown)[:200]}")
    if missing := sorted(names - value.keys()):
        raise ValidationError(f"{what} lacks fields: {', '.join(missing)}")
    return value


def check_text(value: object, what: str) -> str:
    """`value`, if it is a string that a spec may hold."""
    if not isinstance(value, str):
        raise ValidationError(f"{what} must be a string, not {value!r}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise ValidationError(f"{what} is not valid Unicode") from error
    if size > MAX_TEXT_BYTES or "\0" in value:
        raise ValidationError(f"{what} must have at most {MAX_TEXT_BYTES} bytes and no NUL")
    return value


def check_name(name: str) -> None:
    """ValidationError unless `name` can be that of a file in /inputs."""
    if name in ("", ".", "..") or "/" in name or len(name.encode()) > 255:
        raise ValidationError(f"input_name {name!r} must be a plain file name of at most 255 bytes")


def check_words(args: object, env: object) -> None:
    """ValidationError unless these can be arguments and variables."""
    if not isinstance(args, tuple) or len(args) > MAX_ARGS:
        raise ValidationError(f"args must be a tuple of at most {MAX_ARGS} strings")
    if not isinstance(env, Mapping) or len(env) > MAX_ENV:
        raise ValidationError(f"env must map at most {MAX_ENV} names to values")
    for index, arg in enumerate(args):
        check_text(arg, f"args[{index}]")
    for name, value in env.items():
        check_text(value, f"env[{name!r}]")
        if not check_text(name, "a variable's name") or "=" in name:
            raise ValidationError(f"a variable's name must not be empty or contain '=': {name!r}")
