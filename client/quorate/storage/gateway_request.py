"""What a request to the trustless gateway asks for.

Source: the trustless gateway specification and the parts of the path gateway's that it builds upon. Pure: query
parameters and the Accept header in, a `Wanted` or a `Refused` out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, cast
from urllib.parse import quote

from quorate.protocol.errors import DataError
from quorate.storage.base import ByteRange, Scope
from quorate.storage.cid import Cid
from quorate.storage.reader import split_path

RAW_TYPE = "application/vnd.ipld.raw"
CAR_TYPE = "application/vnd.ipld.car"
Format = Literal["raw", "car"]
_TYPES: Mapping[str, Format] = {RAW_TYPE: "raw", CAR_TYPE: "car"}
_OTHER_FORMATS = frozenset({"ipns-record", "tar", "dag-json", "dag-cbor", "json", "cbor"})
_RANGE = re.compile(r"(-?\d{1,18}):(\*|-?\d{1,18})")
_RANGES = re.compile(r"bytes=([-\d, \t]{1,1000})")
_SPAN = re.compile(r"\d{0,18}-\d{0,18}")
MAX_RANGES = 16


class Refused(Exception):
    """An answer other than content; `reason` is its text."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.reason, self.headers = status, reason, headers or {}
        super().__init__(f"{status} {reason}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that can be served; `is_explicit` when the URL itself names the format."""

    cid: Cid
    path: tuple[str, ...]
    format: Format
    is_explicit: bool
    scope: Scope = "all"
    byte_range: ByteRange | None = None
    dups: bool = False
    filename: str | None = None
    name: str = ""
    """The CID as the request wrote it."""

    @property
    def content_type(self) -> str:
        if self.format == "raw":
            return RAW_TYPE
        return f"{CAR_TYPE}; version=1; order=dfs; dups={'y' if self.dups else 'n'}"

    def etag(self, target: Cid) -> str:
        """Strong for the block at the path's end; weak for a CAR, which another gateway may write differently."""
        return f'"{target}.raw"' if self.format == "raw" else f'W/"{self.cid}.car.{self._digest()}"'

    def _digest(self) -> str:
        parts = ("/".join(self.path), self.scope, repr(self.byte_range), self.dups)
        return sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def content_path(self) -> str:
        return quote("/".join(("/ipfs", self.name or str(self.cid), *self.path)), errors="surrogatepass")

    @property
    def location(self) -> str:
        """The URL that names this very answer, whatever headers are sent with it."""
        if self.format == "raw":
            return f"{self.content_path}?format=raw"
        query = f"?format=car&dag-scope={self.scope}&car-dups={'y' if self.dups else 'n'}&car-order=dfs"
        if self.byte_range is not None:
            last = "*" if self.byte_range.last is None else self.byte_range.last
            query += f"&entity-bytes={self.byte_range.first}:{last}"
        return self.content_path + query

    def disposition(self, target: Cid) -> str:
        name = self.filename or (f"{target}.bin" if self.format == "raw" else f"{self.cid}.car")
        plain = re.sub(r'[^\x20-\x7e]|["\\]', "_", name)
        extended = f"; filename*=UTF-8''{quote(name, safe='', errors='replace')}" if plain != name else ""
        return f'attachment; filename="{plain}"{extended}'


def parse(cid: str, path: str, query: Mapping[str, str], accept: str) -> Wanted:
    """Refused with 400 for what is malformed and 406 for what this gateway does not have."""
    try:
        root = Cid.parse(cid)
        root.check_supported()
    except DataError as error:
        raise Refused(400, f"invalid CID: {error}") from None
    chosen, parameters, is_explicit = _choose(query.get("format"), accept)
    segments = tuple(split_path(path))
    if chosen == "raw":
        return Wanted(root, segments, "raw", is_explicit, filename=query.get("filename"), name=cid)
    _check_version_and_order(query, parameters)
    byte_range = _byte_range(query.get("entity-bytes"))
    scope = query.get("dag-scope") or ("all" if byte_range is None else "entity")
    if scope not in ("block", "entity", "all"):
        raise Refused(400, f"dag-scope={scope} is not known; use block, entity or all")
    dups = query.get("car-dups") or parameters.get("dups") or "n"
    if dups not in ("y", "n"):
        raise Refused(400, f"dups={dups} is not known; use y or n")
    return Wanted(
        root,
        segments,
        "car",
        is_explicit,
        cast(Scope, scope if byte_range is None else "entity"),
        byte_range,
        dups == "y",
        query.get("filename"),
        cid,
    )


def _check_version_and_order(query: Mapping[str, str], parameters: Mapping[str, str]) -> None:
    version = query.get("car-version") or parameters.get("version") or "1"
    if version != "1":
        raise Refused(400, f"CAR version {version} is not written here; ask for version=1")
    order = query.get("car-order") or parameters.get("order") or "dfs"
    if order not in ("dfs", "unk"):
        raise Refused(400, f"order={order} is not known; use dfs")


def _choose(named: str | None, accept: str) -> tuple[Format, Mapping[str, str], bool]:
    """Format, parameters of its media type, and whether the URL named it."""
    offers = sorted(_accepted(accept), key=lambda offer: -offer[2])
    if named is not None:
        if named not in ("raw", "car"):
            status = 406 if named in _OTHER_FORMATS else 400
            raise Refused(status, f"format={named} is not served here; use raw or car")
        chosen = cast(Format, named)
        return chosen, next((offer[1] for offer in offers if _TYPES[offer[0]] == chosen), {}), True
    if offers:
        return _TYPES[offers[0][0]], offers[0][1], False
    if accept.strip() in ("", "*/*"):
        raise Refused(400, f"say what you want: ?format=raw or car, or Accept: {RAW_TYPE} or {CAR_TYPE}")
    raise Refused(406, f"only {RAW_TYPE} and {CAR_TYPE} are served here, since only they can be verified")


def _accepted(accept: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Media types of ours in an Accept header, with parameters and weight."""
    for offer in accept.split(","):
        kind, *rest = (part.strip() for part in offer.split(";"))
        pairs = (part.partition("=") for part in rest)
        parameters = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        try:
            weight = float(parameters.pop("q", "1"))
        except ValueError:
            weight = 0.0
        if kind.lower() in _TYPES and weight > 0:
            yield kind.lower(), parameters, weight


def _byte_range(text: str | None) -> ByteRange | None:
    if text is None:
        return None
    found = _RANGE.fullmatch(text)
    if found is None:
        raise Refused(400, f"entity-bytes={text} is malformed; write from:to, where to may be *")
    first, last = int(found[1]), None if found[2] == "*" else int(found[2])
    if last is not None and (first < 0) == (last < 0) and last < first:
        raise Refused(400, f"entity-bytes={text} ends before it starts")
    return ByteRange(first, last)


def matches(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match header names this ETag; compared weakly, as RFC 9110 asks."""
    if header is None:
        return False
    named = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return "*" in named or etag.removeprefix("W/") in named


def block_ranges(header: str | None, size: int) -> list[tuple[int, int]]:
    """Starts and ends of the parts of a block that a `Range` header asks for; none when the whole is to be sent.

    Refused 416 when nothing that it asks for is there. What asks for more than the whole gets the whole, and so does
    what is malformed, as RFC 9110 has it.
    """
    found = _RANGES.fullmatch(header.strip()) if header else None
    if found is None:
        return []
    asked = [part.strip() for part in found[1].split(",") if part.strip()]
    if len(asked) > MAX_RANGES or any(not _SPAN.fullmatch(part) or part == "-" for part in asked):
        return []
    spans = [span for part in asked if (span := _span(part, size)) is not None]
    if asked and not spans:
        raise Refused(416, f"the block has {size} bytes; the range lies outside", {"Content-Range": f"bytes */{size}"})
    return spans if sum(end - start for start, end in spans) <= size else []


def _span(part: str, size: int) -> tuple[int, int] | None:
    first, _, last = part.partition("-")
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    return (start, end) if start < end else None
