"""Layers over each other: taken where all daemons unpack them alike, refused with the place where they may not."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from quorate.images.archive import ImageRefused, verify_archive
from quorate.protocol.errors import DataError

Member = tuple[tarfile.TarInfo, bytes]


def put(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "", **fields: Any) -> Member:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, target
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def folder(name: str, **fields: Any) -> Member:
    return put(name, kind=tarfile.DIRTYPE, **fields)


def link(name: str, target: str) -> Member:
    return put(name, kind=tarfile.SYMTYPE, target=target)


def make_tar(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def alter(tar: bytes, at: int, data: bytes, kind: bytes | None = None) -> bytes:
    """The first header changed, with its checksum."""
    head = bytearray(tar[:512])
    head[at : at + len(data)] = data
    if kind is not None:
        head[156:157] = kind
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + tar[512:]


def check(*layers: bytes, names: tuple[str, str] = ("c.json", "layer{}.tar"), **config: Any) -> Any:
    """Verify an archive of these layers."""
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    values = {
        "architecture": "amd64", "config": {"Entrypoint": ["/x"]} | config, "os": "linux",
        "rootfs": {"diff_ids": diff_ids, "type": "layers"},
    }  # fmt: skip
    layer_names = [names[1].format(number) for number in range(len(layers))]
    manifest = [{"Config": names[0], "Layers": layer_names, "RepoTags": None}]
    members = [put(names[0], json.dumps(values).encode()), put("manifest.json", json.dumps(manifest).encode())]
    archive = make_tar(*members, *(put(name, layer) for name, layer in zip(layer_names, layers, strict=True)))
    return verify_archive(io.BytesIO(archive), len(archive), None, 1 << 20)


BASE = make_tar(folder("a"), put("a/x", b"1"), folder("a/sub"), put("a/sub/y", b"2"), link("l", "a"), folder("tmp"))


def test_layers_that_all_daemons_read_alike_are_taken() -> None:
    second = make_tar(
        folder("."), folder("a"), put("a/.wh.x"), put("a/new", b"3"), put(".wh.l"), folder("w"),
        put("a/hard", kind=tarfile.LNKTYPE, target="a/new"),
    )  # fmt: skip
    found = check(BASE, second, make_tar(folder("l"), put("l/z", b"4")), WorkingDir="/w")
    assert (found.files, found.unpacked_bytes, found.working_dir) == (15, 4, "/w")
    assert check(make_tar(folder("a"), put("a/" + "n" * 200, b"1"), form=tarfile.GNU_FORMAT)).files == 2
    assert check(make_tar(folder("a", mode=0o040755), put("a/x", b"1", mode=0o100644))).files == 2, "as Docker writes"
    assert check(make_tar(put("a", b"1", mtime=1.5, uid=1 << 21, gname="größe"))).files == 1


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ([put("l/z", b"1")], "comes before its folder 'l'"),
        ([folder("l"), put("l/z", b"1")], "'l/' replaces a file or link of a layer below"),
        ([put("a/z", b"1")], "comes before its folder 'a'"),
        ([put("h", kind=tarfile.LNKTYPE, target="a/x")], "'h' leads to nothing before it in its layer"),
        ([folder("a"), put("h", kind=tarfile.LNKTYPE, target="a")], "no file: 'a'"),
        ([link("k", "a"), put("h", kind=tarfile.LNKTYPE, target="k")], "no file: 'k'"),
        ([put("k", b"1"), put("h", kind=tarfile.LNKTYPE, target="k", mode=0o4755)], "another mode or owner than 'k'"),
        ([put("k", b"1"), put("h", kind=tarfile.LNKTYPE, target="k", uid=1)], "another mode or owner than 'k'"),
        ([folder("a"), put("a/.wh..wh..opq")], "'a/.wh..wh..opq' is a marker"),
        ([put(".wh..wh.plnk")], "is a marker"),
        ([put(".wh..wh.a")], "is a marker"),
        ([put(".wh.")], "removes nothing"),
        ([put(".wh..")], "removes nothing"),
        ([put(".wh...")], "removes nothing"),
        ([put(".wh.absent")], "removes nothing"),
        ([folder(".wh.a")], "no empty file"),
        ([put(".wh.a", b"1")], "no empty file"),
        ([link(".wh.a", "x")], "no empty file"),
        ([put(".wh.a"), folder("a")], "'a/' is removed and there"),
        ([folder("a"), put(".wh.a")], "'.wh.a' removes what the same layer puts there"),
        ([put(".wh.a"), put("a/x", b"1")], "comes before its folder"),
        ([put(".wh.a"), put("h", kind=tarfile.LNKTYPE, target=".wh.a")], "no file"),
        ([folder("a"), put("a/.wh.x"), link("a/x", "sub")], "'a/x' is removed and there"),
        ([folder(".", mode=0o700)], "the root"),
        ([link(".", "a")], "the root"),
        ([folder("etc"), link("etc/hosts", "/a/x")], "a file is mounted there"),
        ([folder("sbin"), folder("sbin/docker-init")], "a file is mounted there"),
        ([link("inputs", "a")], "must be a folder"),
        ([link("k", "")], "leads nowhere"),
        ([link("k", "\udcff")], "no path in UTF-8"),
        ([put("k\udcff", b"1")], "not UTF-8"),
        ([put("n" * 256, b"1")], "over 255 bytes"),
    ],
)
def test_what_daemons_lay_over_each_other_differently_is_refused(second: list[Member], why: str) -> None:
    with pytest.raises(ImageRefused, match=re.escape(why)) as refused:
        check(BASE, make_tar(*second, form=tarfile.GNU_FORMAT))
    assert "layer 'layer1.tar'" in str(refused.value)


def test_a_path_that_is_too_deep_is_refused() -> None:
    with pytest.raises(ImageRefused, match="deeper than 256"):
        check(make_tar(*(folder("d/" * depth) for depth in range(1, 258))))


@pytest.mark.parametrize(
    "name",
    [
        "SCHILY.xattr.security.capability", "SCHILY.xattr.trusted.overlay.redirect", "SCHILY.xattr.user.mime",
        "LIBARCHIVE.xattr.user.mime", "SCHILY.acl.access", "RHT.security.selinux",
    ],
)  # fmt: skip
def test_extended_attributes_are_refused(name: str) -> None:
    with pytest.raises(ImageRefused, match=rf"member 2 of the tar, after 'a': it has the extended attribute '{name}'"):
        check(make_tar(put("a", b"1"), put("x", b"1", pax_headers={name: "value"})))


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"hdrcharset": "BINARY"}, "says 'hdrcharset'"),
        ({"mtime": "-1"}, "'mtime' twice, or in a way"),
        ({"mtime": "1e9"}, "'mtime' twice, or in a way"),
        ({"uid": "+1"}, "'uid' twice, or in a way"),
        ({"gname": "a\0b"}, "'gname' twice, or in a way"),
        ({"uname": ""}, "or an empty one"),
        ({"uid": "99999999999"}, "the owner 99999999999:0"),
    ],
)
def test_what_a_header_says_has_one_form(headers: dict[str, str], why: str) -> None:
    with pytest.raises(ImageRefused, match=why):
        check(make_tar(put("x", b"1", pax_headers=headers)))


def test_headers_that_readers_take_differently_are_refused() -> None:
    plain = make_tar(put("x", b"1"))
    gnu = make_tar(put("x", b"1"), form=tarfile.GNU_FORMAT)
    long_name = tarfile.TarInfo("n" * 120).tobuf(tarfile.GNU_FORMAT)[:1024]
    extended = tarfile.TarInfo("x")
    extended.pax_headers = {"uname": "u"}
    for tar, why in (
        (alter(plain, 508, b"tar\0"), "old form"),  # a prefix of 131 bytes there, and of 155 here
        (alter(gnu, 345, b"../escape"), "old form"),  # a prefix to Go's reader, if it is no number
        (alter(plain, 257, b"\0" * 8), "old form"),
        (alter(plain, 0, b"x/\0", b"\0"), "old form"),  # a folder by its slash
        (alter(plain, 0, b"x/\0"), "named like a folder"),
        (alter(plain, 100, b"0040755\0"), "the mode 40755"),  # a folder by its mode
        (alter(plain, 108, b"0000x\0"), "its owner is not a number"),
        (alter(plain, 136, b"\x80"), "its time is not a number"),
        (alter(plain, 0, b"BZh9"), "compressed"),
        (alter(plain, 0, b"P*M\x18"), "compressed"),
        (extended.tobuf(tarfile.PAX_FORMAT)[:1024] + long_name + plain, "two headers"),
        (long_name + extended.tobuf(tarfile.PAX_FORMAT)[:1024] + plain, "two headers"),
    ):
        with pytest.raises(ImageRefused, match=why):
            check(tar)


def test_records_of_a_header_are_said_once_and_plainly() -> None:
    info = tarfile.TarInfo("x")
    info.pax_headers = {"path": "y"}
    head = info.tobuf(tarfile.PAX_FORMAT)[:512]
    for records in (b"8 uid=1\n8 uid=2\n", b"008 uid=1\n", b"+7 uid=\n"):
        size = b"%011o" % len(records)
        with pytest.raises(ImageRefused, match=r"twice, or in a way|malformed"):
            check(alter(head, 124, size) + records.ljust(512, b"\0") + make_tar(put("x", b"1")))


def test_a_damaged_layer_is_told_with_its_place() -> None:
    broken = bytearray(make_tar(put("first", b"1"), put("second", b"2"), put("third", b"3")))
    broken[1024 + 5] ^= 1
    with pytest.raises(ImageRefused, match=r"layer 'layer0.tar' of the image: member 2 of the tar, after 'first'"):
        check(bytes(broken))


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("work", "not absolute"),
        ("/a/../a", "shortest form"),
        ("//a", "shortest form"),
        ("/a/", "shortest form"),
        ("/inputs/x", "something is mounted"),
        ("/outputs/x", "something is mounted"),
        ("/tmp/x", "something is mounted"),
        ("/proc/self/fd/8", "something is mounted"),
        ("/dev", "something is mounted"),
        ("/l", "no folder in the image"),  # a link, to wherever
        ("/l/sub", "no folder in the image"),
        ("/a/x", "no folder in the image"),
        ("/absent", "no folder in the image"),
    ],
)
def test_a_working_directory_that_differs_from_daemon_to_daemon_is_refused(path: str, why: str) -> None:
    with pytest.raises(ImageRefused, match=why):
        check(BASE, WorkingDir=path)


def test_working_directories_that_are_there_for_sure() -> None:
    for path in ("", "/", "/a", "/a/sub", "/outputs", "/inputs", "/tmp"):
        assert check(BASE, WorkingDir=path).working_dir == (path or "/")


def test_an_archive_that_is_another_to_newer_daemons_is_refused() -> None:
    """They look for an index of OCI first, and read the rest of it from members that are layers here."""
    for names in (("index.json", "layer{}.tar"), ("c.json", "oci-layout"), ("repositories", "layer{}.tar")):
        with pytest.raises(ImageRefused, match="know another form; `docker save`"):
            check(BASE, names=names)


@pytest.mark.parametrize(
    ("env", "why"), [(["A"], "not 'A'"), (["=x"], "not '=x'"), (["A=1", "A=2"], "not 'A=2'"), (["A=\0"], "array")]
)
def test_variables_of_an_image_have_one_reading(env: list[str], why: str) -> None:
    with pytest.raises(ImageRefused, match=why):
        check(BASE, Env=env)


@pytest.mark.parametrize("program", ["/proc/self/exe", "//proc/self/exe", "/a/../proc/1/exe", "proc/self/exe"])
def test_a_program_of_the_host_is_none_of_the_image(program: str) -> None:
    with pytest.raises(ImageRefused, match="but the host's"):
        check(BASE).compute_command((program,), ())
    with pytest.raises(DataError, match="but the host's"):
        check(BASE, Entrypoint=[program]).compute_command(None, ())


def find_controls(text: str) -> list[str]:
    return [letter for letter in text if not letter.isprintable()]


@pytest.mark.parametrize(
    "make",
    [
        lambda bad: check(make_tar(folder("../" + bad))),
        lambda bad: check(make_tar(put(f"{bad}/x", b"1"))),
        lambda bad: check(BASE, make_tar(put(f".wh.{bad}"))),
        lambda bad: check(BASE, names=("c.json", f"{bad}{{}}")) and check(b"", names=("c.json", f"{bad}{{}}")),
        lambda bad: check(BASE, WorkingDir=f"/{bad}"),
        lambda bad: check(BASE, Env=[bad]),
    ],
)
def test_names_that_steer_a_terminal_are_escaped(make: Callable[[str], Any]) -> None:
    with pytest.raises(ImageRefused) as refused:
        make("\x1b[2J\u202e")
    assert find_controls(str(refused.value)) == []
    assert "\\x1b[2J" in str(refused.value)
