"""`add` of the RPC: uploaded files and directories become DAGs as Kubo's own `add` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quorate.protocol.errors import DataError
from quorate.storage import adding
from quorate.storage.base import Session
from quorate.storage.directories import build_directory
from quorate.storage.multipart import Upload
from quorate.storage.rpc_call import BadArgument, Call, Lines
from quorate.storage.traversal import MAX_DEPTH
from quorate.storage.unixfs import PROFILES, Part, Profile

MAX_ENTRIES = 1_000_000
MIN_CHUNK_BYTES = 512  # Kubo takes less: a block for each byte takes minutes for a megabyte
MAX_CHUNK_BYTES = 2 * 1024 * 1024 - 256
DIRECTORY_TYPE = "application/x-directory"

_Tree = dict[str, "Part | _Tree"]


def add(call: Call) -> Lines:
    """A line for each file and each directory, the outermost last; roots are pinned unless that is not wanted."""
    profile, tree, events = _profile(call), _Tree(), list[dict[str, Any]]()
    for refused in ("trickle", "nocopy", "fscache", "inline", "to-files", "preserve-mode", "preserve-mtime"):
        if call.options.get(refused) and (refused == "to-files" or call.flag(refused)):
            raise BadArgument(f"{refused} is not served here; leave it out")
    if call.flag("only-hash"):
        return Lines(iter(_take(call, adding.Hashing(), profile, tree, events)[0]))
    with call.store.keeping():
        with call.store.session() as session:
            events, roots = _take(call, session, profile, tree, events)
        if call.flag("pin", True):
            for root in roots:
                call.store.pin(root.cid)
    return Lines(iter(events))


def _profile(call: Call) -> Profile:
    """Kubo's default is the profile of 2015, but for what is asked for."""
    version = call.number("cid-version") or 0
    if version > 1:
        raise BadArgument("cid-version is 0 or 1")
    if call.options.get("hash", "sha2-256") != "sha2-256":
        raise BadArgument("only hash=sha2-256 is kept here")
    kind, _, size = (call.options.get("chunker") or "size-262144").partition("-")
    if kind != "size" or not size.isdecimal() or not MIN_CHUNK_BYTES <= int(size[:12]) <= MAX_CHUNK_BYTES:
        raise BadArgument(f"chunker is size-N here, with N from {MIN_CHUNK_BYTES} to {MAX_CHUNK_BYTES}")
    links = call.number("max-file-links") or 174
    if not 2 <= links <= 8192:
        raise BadArgument("max-file-links is between 2 and 8192")
    raw = call.flag("raw-leaves", version == 1)
    return replace(
        PROFILES["unixfs-v0-2015"], name="rpc", cid_version=version, raw_leaves=raw, chunk=int(size), links=links
    )


def _take(
    call: Call, session: Session, profile: Profile, tree: _Tree, events: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[Part]]:
    wraps, count = call.flag("wrap-with-directory"), 0
    for upload in call.uploads():
        count += 1
        if count > MAX_ENTRIES:
            raise DataError(f"an upload has more than {MAX_ENTRIES} entries; import it as a CAR")
        part = _keep(session, upload, profile)
        name = upload.path.strip("/")
        if not name and part is not None:  # a stream without a name has its CID's
            name = str(part.cid)
        _place(tree, name.split("/"), part)
        if part is not None:
            events.append(_event(name, part))
    if not count:
        raise BadArgument('argument "path" is required')
    if wraps:
        return events, [_build(session, "", tree, profile, events)]
    return events, [
        found if isinstance(found, Part) else _build(session, name, found, profile, events)
        for name, found in tree.items()
    ]


def _keep(session: Session, upload: Upload, profile: Profile) -> Part | None:
    """None for a directory."""
    if upload.kind == DIRECTORY_TYPE:
        return None
    if upload.kind == "application/symlink":
        raise DataError(f"{upload.path!r} is a symbolic link; add the file that is meant")
    return adding.add_stream(session, upload.read, profile)


def _place(tree: _Tree, path: list[str], part: Part | None) -> None:
    if len(path) > MAX_DEPTH:
        raise DataError(f"{'/'.join(path)[:80]!r}… nests deeper than {MAX_DEPTH} directories")
    for name in path:
        adding.check_name(name)
    for name in path if part is None else path[:-1]:
        below = tree.setdefault(name, {})
        if isinstance(below, Part):
            raise DataError(f"{name!r} in {'/'.join(path)!r} is a file and a directory at once; rename one")
        tree = below
    if part is None:
        return
    known = tree.get(path[-1])
    if known is not None and known != part:
        raise DataError(f"{'/'.join(path)!r} is uploaded twice with other content; rename one")
    tree[path[-1]] = part


def _build(session: Session, path: str, tree: _Tree, profile: Profile, events: list[dict[str, Any]]) -> Part:
    """Depth is bounded by that of the names."""
    children: Mapping[str, Part] = {
        name: found
        if isinstance(found, Part)
        else _build(session, f"{path}/{name}" if path else name, found, profile, events)
        for name, found in tree.items()
    }
    root: Part | None = None
    for part, block in build_directory((child.link(name) for name, child in children.items()), profile):
        session.put(part.cid, block)
        root = part
    assert root is not None
    events.append(_event(path, root))
    return root


def _event(name: str, part: Part) -> dict[str, Any]:
    return {"Name": name, "Hash": str(part.cid), "Size": str(part.total)}
