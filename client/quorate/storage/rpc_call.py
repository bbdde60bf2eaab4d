"""One call of the RPC: what was asked for, and the forms that an answer can have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quorate.protocol.errors import DataError, ValidationError
from quorate.storage import reader
from quorate.storage.allowed import AllowedStore
from quorate.storage.cid import Cid
from quorate.storage.multipart import Upload

MAX_ARGUMENTS = 1000


class BadArgument(ValidationError):
    """An argument or an option cannot be understood."""


@dataclass(slots=True)
class Call:
    """One request: arguments, options and, for commands that take files, the files."""

    store: AllowedStore
    args: Sequence[str]
    options: Mapping[str, str]
    uploads: Callable[[], Iterator[Upload]] = field(default=lambda: iter(()))

    def flag(self, name: str, default: bool = False) -> bool:
        """An option that is yes or no, as Go spells it."""
        text = self.options.get(name)
        if text is None:
            return default
        if text not in _YES | _NO:
            raise BadArgument(f"{name}={text} is neither true nor false")
        return text in _YES

    def number(self, name: str) -> int | None:
        text = self.options.get(name)
        if text is None:
            return None
        if not text.isascii() or not text.isdecimal() or len(text) > 18:
            raise BadArgument(f"{name}={text[:40]} is no number of 0 or more")
        return int(text)

    def paths(self) -> list[tuple[str, Cid]]:
        """The arguments, each with the CID that it leads to."""
        if not self.args:
            raise BadArgument('argument "ipfs-path" is required')
        if len(self.args) > MAX_ARGUMENTS:
            raise BadArgument(f"at most {MAX_ARGUMENTS} arguments are taken at once")
        return [(text, self.find(text)) for text in self.args]

    def path(self) -> tuple[str, Cid]:
        """The only argument."""
        if len(self.args) > 1:
            raise BadArgument("one argument is taken")
        return self.paths()[0]

    def find(self, text: str) -> Cid:
        try:
            root, path = reader.parse_path(text)
        except DataError as error:
            raise BadArgument(f"invalid path {text[:80]!r}: {error}") from None
        return self.store.resolve(root, "/".join(path))


_YES = frozenset({"true", "True", "TRUE", "t", "T", "1", ""})
_NO = frozenset({"false", "False", "FALSE", "f", "F", "0"})


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes, piece by piece; an error in the middle cuts the answer off."""

    pieces: Iterator[bytes]
    kind: str = "application/octet-stream"
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Lines:
    """JSON values, one a line."""

    values: Iterator[Any]
