"""CIDs of files and directories against the published vectors of both profiles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from quorate.storage import unixfs
from quorate.storage.cid import Cid
from quorate.storage.dagpb import Link
from quorate.storage.directories import build_directory

VECTORS = json.loads((Path(__file__).parent / "published" / "unixfs.json").read_text())
ALPHABET = b"abcdefghijklmnopqrstuvwxyz01234567890-_"


def content(size: int, seed: str, piece: int) -> Iterator[bytes]:
    """The vectors' generator in pieces: a ChaCha20 keystream."""
    key = hashlib.sha256(seed.encode()).digest()
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    zeros = bytes(piece)
    for start in range(0, size, piece):
        yield stream.update(zeros[: min(piece, size - start)])


def file_cid(chunks: Iterator[bytes], profile: unixfs.Profile) -> Cid:
    builder = unixfs.FileBuilder(profile)
    for chunk in chunks:
        part, _ = unixfs.leaf(chunk, profile)
        for _ in builder.add(part):
            pass
    for _ in builder.finish():
        pass
    assert builder.root is not None
    return builder.root.cid


def _name(vector: dict[str, Any]) -> str:
    return f"{vector['profile']}: {vector['name']}"


@pytest.mark.parametrize("vector", VECTORS["files"], ids=_name)
def test_a_file_has_the_published_cid(vector: dict[str, Any]) -> None:
    profile = unixfs.PROFILES[vector["profile"]]
    if "content" in vector:
        chunks = iter([vector["content"].encode()])
    else:
        chunks = content(vector["size"], vector["seed"], profile.chunk)
    assert str(file_cid(chunks, profile)) == vector["cid"]


@pytest.mark.parametrize("vector", VECTORS["directories"], ids=_name)
def test_the_largest_flat_directory_has_the_published_cid(vector: dict[str, Any]) -> None:
    profile = unixfs.PROFILES[vector["profile"]]
    letters = b"".join(content(1 << 20, vector["seed"], 1 << 20))
    part, _ = unixfs.leaf(b"x", profile)
    links, at = [], 0
    for index in range(vector["entries"]):
        is_last = index == vector["entries"] - 1
        length = vector["last_name_length"] if is_last else vector["name_length"]
        name = bytes(ALPHABET[byte % len(ALPHABET)] for byte in letters[at : at + length]).decode()
        links.append(part.link(name))
        at += length
    blocks = list(build_directory(links, profile))
    assert len(blocks) == 1
    assert str(blocks[-1][0].cid) == vector["cid"]
    sharded = list(build_directory([*links, part.link("one more")], profile))
    assert len(sharded) > 1


@pytest.mark.parametrize(
    ("profile", "count", "name", "text", "cid"),
    [
        ("unixfs-v0-2015", 10_000, "tile-{:05}.bin", "{}", "QmadAG7rLfeNDN7hoYhKiSs7y1vYy9cWg7xBHroV6w3u8C"),
        (
            "unixfs-v1-2025",
            10_000,
            "tile-{:05}.bin",
            "{}",
            "bafybeibcsxqi2woc4mkp2vfpf6blopzw3s3bgxujj2xtv65pvcoqmtqie4",
        ),
        ("unixfs-v0-2015", 6_000, "{:05}" + "n" * 50, "7", "QmViyAASEVo9wDdnx6LF9oRgmbyei1XJeQVoeWXbfSyzin"),
        (
            "unixfs-v1-2025",
            6_000,
            "{:05}" + "n" * 50,
            "7",
            "bafybeiflnrelsw4nbu6oxdxocrokqllmsd4x3csstkyh5qszxghsel2rm4",
        ),
    ],
)
def test_sharded_directories_have_kubos_cids(profile: str, count: int, name: str, text: str, cid: str) -> None:
    """The CIDs are what `ipfs add -r --only-hash` of Kubo 0.43.0 said under the profile's configuration."""
    chosen = unixfs.PROFILES[profile]
    links = []
    for number in range(count):
        content_ = str(number) if text == "{}" else str(number % int(text))
        part, _ = unixfs.leaf(content_.encode(), chosen)
        links.append(part.link(name.format(number)))
    assert str(list(build_directory(links, chosen))[-1][0].cid) == cid


def test_the_empty_ones_have_their_well_known_cids() -> None:
    v0, v1 = unixfs.PROFILES["unixfs-v0-2015"], unixfs.PROFILES["unixfs-v1-2025"]
    known = VECTORS["empty"]
    assert str(file_cid(iter(()), v0)) == known["file unixfs-v0-2015"]
    assert str(file_cid(iter(()), v1)) == known["file cid-v1 raw leaves"]
    empty: list[Link] = []
    assert str(next(build_directory(empty, v0))[0].cid) == known["directory unixfs-v0-2015"]
