"""What the commands of the RPC do, except `add`. Each takes a `Call` and gives JSON, `Lines` of it, or `Content`."""

from __future__ import annotations

import os
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from quorate.protocol.errors import DataError
from quorate.storage import adding, codecs, dagpb, reader
from quorate.storage.allowed import AllowedStore
from quorate.storage.base import MAX_BLOCK_BYTES, BlockNotFound, Entry
from quorate.storage.cid import DAG_CBOR, DAG_JSON, DAG_PB, RAW, Cid
from quorate.storage.multipart import Upload
from quorate.storage.rpc_adding import add
from quorate.storage.rpc_call import BadArgument, Call, Content, Lines
from quorate.storage.traversal import Traversal
from quorate.storage.unixfs import check_block_size

VERSION = "0.8.0-quorate"  # the level of Kubo's RPC that its Python client knows
MAX_SENT_BYTES = 1 << 40  # a small DAG can claim any size
_BLOCK = 512  # of a tar file


# the node -------------------------------------------------------------------------------------------------------------


def version(call: Call) -> Any:
    system = f"{os.uname().machine}/{sys.platform}"
    return {"Version": VERSION, "Commit": "", "Repo": "0", "System": system, "Golang": ""}


def identify(call: Call) -> Any:
    """A name for this store; nobody can dial it, since there is no peer-to-peer network behind it."""
    name = sha256(b"quorate store " + str(call.store.directory.resolve()).encode("utf-8", "surrogateescape"))
    return {
        "ID": str(Cid(0, DAG_PB, b"\x12\x20" + name.digest())),
        "PublicKey": "",
        "Addresses": [],
        "AgentVersion": f"quorate/{VERSION}",
        "ProtocolVersion": "",
        "Protocols": [],
    }


def repo_stat(call: Call) -> Any:
    stats = call.store.stats()
    free = os.statvfs(call.store.directory)
    return {
        "RepoSize": stats.disk_bytes,
        "StorageMax": stats.disk_bytes + free.f_bavail * free.f_frsize,
        "NumObjects": stats.blocks,
        "RepoPath": str(call.store.directory),
        "Version": "quorate-store@2",
    }


# files ----------------------------------------------------------------------------------------------------------------


def cat(call: Call) -> Content:
    start, length = call.number("offset") or 0, call.number("length")
    found = [(cid, _file_size(call, cid)) for _, cid in call.paths()]
    total = sum(size for _, size in found)
    if (total if length is None else length) > MAX_SENT_BYTES:
        raise DataError(f"a file claims {total} bytes, over the limit of {MAX_SENT_BYTES}; ask for a length")
    end = total if length is None else min(total, start + length)

    def pieces() -> Iterator[bytes]:
        at = 0
        for cid, size in found:
            first, last = max(start - at, 0), min(end - at, size)
            if first < last:
                yield from call.store.stream(cid, first, last)
            at += size

    return Content(pieces(), "text/plain", max(0, end - start))


def _file_size(call: Call, cid: Cid) -> int:
    if reader.describe(call.store.get, dagpb.Link(cid)).kind == "directory":
        raise DataError("this dag node is a directory: list it by ls, or name a file in it")
    return reader.file_size(call.store.get, cid)


def ls(call: Call) -> Any:
    objects = [{"Hash": text, "Links": [_link(entry) for entry in _entries(call, cid)]} for text, cid in call.paths()]
    return {"Objects": objects}


def _entries(call: Call, cid: Cid) -> Sequence[Entry]:
    try:
        return call.store.list(cid)
    except DataError:
        reader.file_size(call.store.get, cid)  # a file has no entries; anything else is an error
        return ()


def _link(entry: Entry) -> dict[str, Any]:
    kind = {"directory": 1, "file": 2, "symlink": 4}.get(entry.kind, 0)
    size = entry.size if entry.kind == "file" else 0
    return {"Name": entry.name, "Hash": str(entry.cid), "Size": size, "Type": kind, "Target": ""}


def get(call: Call) -> Content:
    """A tar archive."""
    text, cid = call.path()
    if call.flag("compress"):
        raise BadArgument("nothing is compressed here; leave compress out")
    call.store.denied.check(cid)
    name = text.rstrip("/").rpartition("/")[2]
    entry = reader.describe(call.store.get, dagpb.Link(cid, name))
    if entry.kind not in ("file", "directory"):
        raise DataError(f"{cid} is neither a file nor a directory")
    return Content(_tar(call.store, entry), "application/x-tar")


def _tar(store: AllowedStore, top: Entry) -> Iterator[bytes]:
    yield from _tar_entry(store, top.name, top)
    if top.kind == "directory":
        for path, entry in store.walk(top.cid):
            adding.check_name(entry.name)
            yield from _tar_entry(store, f"{top.name}/{path}", entry)
    yield bytes(2 * _BLOCK)


def _tar_entry(store: AllowedStore, path: str, entry: Entry) -> Iterator[bytes]:
    info = tarfile.TarInfo(path)
    if entry.kind == "directory":
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        return
    if entry.kind != "file":
        raise DataError(f"{path!r} is no file; links are not exported")
    info.size = reader.file_size(store.get, entry.cid)
    if info.size > MAX_SENT_BYTES:
        raise DataError(f"{path!r} claims {info.size} bytes, over the limit of {MAX_SENT_BYTES}; get a part of it")
    yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    yield from store.stream(entry.cid)
    yield bytes(-info.size % _BLOCK)


def resolve(call: Call) -> Any:
    return {"Path": f"/ipfs/{call.path()[1]}"}


# blocks and DAGs ------------------------------------------------------------------------------------------------------


def block_get(call: Call) -> Content:
    block = call.store.get(call.path()[1])
    return Content(iter((block,)), size=len(block))


def block_stat(call: Call) -> Any:
    _, cid = call.path()
    return {"Key": str(cid), "Size": len(call.store.get(cid))}


def block_put(call: Call) -> Lines:
    codec, is_v0 = _codec(call)
    if call.options.get("mhtype", "sha2-256") != "sha2-256":
        raise BadArgument("only mhtype=sha2-256 is kept here")
    done = []
    for upload in call.uploads():
        block = upload.read(MAX_BLOCK_BYTES)
        while piece := upload.read(MAX_BLOCK_BYTES):
            block += piece
            check_block_size(block)
        cid = Cid.of(block, codec)
        if codec in codecs.KNOWN_CODECS:
            codecs.links_of(cid, block)  # a block that says it has a codec must have it
        cid = Cid(0, DAG_PB, cid.multihash) if is_v0 else cid
        with call.store.keeping():
            call.store.put(cid, block)
            if call.flag("pin"):
                call.store.pin(cid)
        done.append({"Key": str(cid), "Size": len(block)})
    if not done:
        raise BadArgument('argument "data" is required')
    return Lines(iter(done))


def _chunks(upload: Upload) -> Iterator[bytes]:
    while chunk := upload.read(1 << 20):
        yield chunk


def _codec(call: Call) -> tuple[int, bool]:
    name = call.options.get("format") or call.options.get("cid-codec") or "raw"
    known = {"raw": RAW, "dag-pb": DAG_PB, "protobuf": DAG_PB, "v0": DAG_PB, "dag-cbor": DAG_CBOR, "cbor": DAG_CBOR}
    known["dag-json"] = DAG_JSON
    if name not in known:
        raise BadArgument(f"codec {name[:40]!r} is not known; use {', '.join(known)}")
    return known[name], name == "v0"


def dag_get(call: Call) -> Any:
    if call.options.get("output-codec", "dag-json") not in ("dag-json", "json"):
        raise BadArgument("only output-codec=dag-json is shown here")
    _, cid = call.path()
    return codecs.to_dag_json(cid, call.store.get(cid))


def dag_resolve(call: Call) -> Any:
    return {"Cid": {"/": str(call.path()[1])}, "RemPath": ""}


def dag_export(call: Call) -> Content:
    _, cid = call.path()
    if not call.store.has(cid):
        raise BlockNotFound(cid)
    return Content(call.store.export_car(cid), "application/vnd.ipld.car")


def dag_import(call: Call) -> Lines:
    is_pinning, values, blocks, size = call.flag("pin-roots", True), list[Any](), 0, 0
    for upload in call.uploads():
        with call.store.keeping():
            report = call.store.import_any_car(_chunks(upload))
            blocks, size = blocks + report.blocks, size + report.received_bytes
            for root, is_complete in report.roots.items():
                if is_pinning and is_complete:
                    call.store.pin(root)
                lacks = "" if is_complete or not is_pinning else "not pinned: a part of the DAG is not here"
                values.append({"Root": {"Cid": {"/": str(root)}, "PinErrorMsg": lacks}})
    if call.flag("silent") or not is_pinning:
        values = []
    if call.flag("stats"):
        values.append({"Stats": {"BlockCount": blocks, "BlockBytesCount": size}})
    return Lines(iter(values))


# pins -----------------------------------------------------------------------------------------------------------------


def pin_add(call: Call) -> Any:
    if not call.flag("recursive", True):
        raise BadArgument("only recursive pins are kept here")
    with call.store.keeping():
        found = [cid for _, cid in call.paths()]
        for cid in found:
            if not call.store.is_complete(cid):
                raise BlockNotFound(cid, "or a part of it is missing; add, import or fetch it first")
        for cid in found:
            call.store.pin(cid)
    return {"Pins": [str(cid) for cid in found]}


def pin_rm(call: Call) -> Any:
    pinned: dict[Cid, list[Cid]] = {}
    for cid in call.store.pins():
        pinned.setdefault(cid.to_v1(), []).append(cid)
    found = [cid for _, cid in call.paths()]
    for cid in found:
        if cid.to_v1() not in pinned:
            raise DataError(f"{cid} is not pinned or pinned indirectly")
    for cid in found:
        for each in pinned[cid.to_v1()]:
            call.store.unpin(each)
    return {"Pins": [str(cid) for cid in found]}


def pin_update(call: Call) -> Any:
    if len(call.args) != 2:
        raise BadArgument("two arguments are taken: the old root and the new one")
    (old, first), (new, second) = call.paths()
    pin_add(Call(call.store, [new], {}))
    if call.flag("unpin", True) and first != second:
        pin_rm(Call(call.store, [old], {}))
    return {"Pins": [f"/ipfs/{first}", f"/ipfs/{second}"]}


def pin_ls(call: Call) -> Any:
    kind = call.options.get("type", "all")
    if kind not in ("all", "recursive", "direct", "indirect"):
        raise BadArgument(f"invalid type {kind[:40]!r}: must be one of direct, indirect, recursive or all")
    found = {} if kind in ("direct", "indirect") else {str(cid): "recursive" for cid in call.store.pins()}
    if kind in ("all", "indirect") and (not call.args or kind == "indirect"):
        for cid in _below_pins(call.store):
            found.setdefault(str(cid), "indirect")
    if call.args:
        names = {Cid.parse(name).to_v1(): (name, kind) for name, kind in found.items()}
        asked = [(text, names.get(cid.to_v1())) for text, cid in call.paths()]
        for text, row in asked:
            if row is None:
                raise DataError(f"path '{text}' is not pinned")
        found = dict(row for _, row in asked if row is not None)
    if call.flag("stream"):
        return Lines({"Cid": cid, "Type": kind} for cid, kind in found.items())
    return {"Keys": {cid: {"Type": kind} for cid, kind in found.items()}}


def _below_pins(store: AllowedStore) -> Iterator[Cid]:
    """All that pins reach and that is here, without the roots."""
    roots = {cid.to_v1() for cid in store.pins()}
    for root in store.pins():
        walk = Traversal(root)
        while (cid := walk.wanted) is not None:
            if cid.to_v1() not in roots:
                yield cid
            try:
                walk.accept(b"" if cid.codec == RAW else store.get(cid))
            except (BlockNotFound, DataError):
                break


Method = Callable[[Call], object]
READING: Mapping[str, Method] = {
    "version": version,
    "id": identify,
    "repo/stat": repo_stat,
    "cat": cat,
    "ls": ls,
    "get": get,
    "resolve": resolve,
    "block/get": block_get,
    "block/stat": block_stat,
    "dag/get": dag_get,
    "dag/resolve": dag_resolve,
    "dag/export": dag_export,
    "pin/ls": pin_ls,
}
WRITING: Mapping[str, Method] = {
    "add": add,
    "block/put": block_put,
    "dag/import": dag_import,
    "pin/add": pin_add,
    "pin/rm": pin_rm,
    "pin/update": pin_update,
}
UPLOADING: frozenset[Method] = frozenset({add, block_put, dag_import})
