"""Images as content: built alike everywhere, and refused before a daemon sees what they should not be."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from quorate.cli.main import app
from quorate.images.archive import ImageRefused, verify_archive
from quorate.images.build import ImageRecipe, build_image
from quorate.protocol.container import ContainerSpec, Image, parse_spec
from quorate.protocol.errors import DataError, ValidationError
from quorate.protocol.spec import JobSpec, canonical_json
from quorate.spec import prepare_container
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore

CID = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
ID = f"sha256:{'0' * 64}"
STATIC = b"\x7fELF\2\1".ljust(64, b"\0")  # a header without segments


def make_tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> tuple[Any, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, target
    return info, data


def make_archive(
    layer: bytes, change: Callable[[dict[str, Any]], None] = lambda config: None, **manifest: Any
) -> bytes:
    config = {
        "architecture": "amd64", "config": {"Entrypoint": ["/x"]}, "os": "linux",
        "rootfs": {"diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"], "type": "layers"},
    }  # fmt: skip
    change(config)
    raw = json.dumps(config).encode()
    entry = {"Config": "c.json", "Layers": ["l.tar"]} | manifest
    return make_tar(
        [member("c.json", raw), member("l.tar", layer), member("manifest.json", json.dumps([entry]).encode())]
    )


def verify(archive: bytes, image_id: str | None = None, most: int = 1 << 20) -> Any:
    return verify_archive(io.BytesIO(archive), len(archive), image_id, most)


GOOD = make_tar(
    [member("bin", kind=tarfile.DIRTYPE), member("bin/sh", b"x"), member("x", kind=tarfile.SYMTYPE, target="bin/sh")]
)


def test_a_good_archive_is_taken_by_its_id_alone() -> None:
    found = verify(make_archive(GOOD))
    assert found.entrypoint == ("/x",)
    assert (found.files, found.unpacked_bytes) == (3, 1)
    assert verify(make_archive(GOOD), found.id) == found
    with pytest.raises(ImageRefused, match="not sha256:0000"):
        verify(make_archive(GOOD), ID)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ([member("../x", b"x")], "leads out"),
        ([member("/x", b"x")], "absolute"),
        ([member("a/../../x", b"x")], "leads out"),
        ([member("x", kind=tarfile.CHRTYPE)], "device"),
        ([member("x", kind=tarfile.FIFOTYPE)], "device"),
        ([member("x", b"1"), member("./x", b"2")], "twice"),
        ([member("l", kind=tarfile.SYMTYPE, target="/etc"), member("l/x", b"2")], "beyond a link"),
        ([member("l", kind=tarfile.SYMTYPE, target="../../x")], "out of the image"),
        ([member("l", kind=tarfile.LNKTYPE, target="../x")], "leads out"),
        ([member("l", kind=tarfile.LNKTYPE, target="x")], "nothing before"),
        ([member("x", kind=b"S")], "type 'S'"),
        (
            [member("outputs", kind=tarfile.DIRTYPE), member("inputs", kind=tarfile.SYMTYPE, target="/outputs")],
            "must be a folder",
        ),
        ([member("tmp", b"x")], "must be a folder"),
    ],
)
def test_a_hostile_layer_is_refused(layer: list[tuple[Any, bytes]], why: str) -> None:
    with pytest.raises(ImageRefused, match=why):
        verify(make_archive(make_tar(layer)))


def set_in(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        for name in path[:-1]:
            config = config.setdefault(name, {})
        config[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (set_in("rootfs", "diff_ids", value=[ID]), "has the digest"),
        (set_in("rootfs", "diff_ids", value=[]), "names 0 layers"),
        (set_in("config", "Volumes", value={"/data": {}}), "volumes"),
        (set_in("config", "vOLUMES", value={"/data": {}}), "volumes"),
        (set_in("Config", value={}), "two ways"),
        (set_in("os", value="windows"), "linux"),
        (set_in("config", "Entrypoint", value="/x"), "array of strings"),
    ],
)
def test_a_config_that_asks_for_too_much_is_refused(change: Callable[[dict[str, Any]], None], why: str) -> None:
    with pytest.raises(ImageRefused, match=why):
        verify(make_archive(GOOD, change))


def test_an_archive_holds_its_image_and_nothing_else() -> None:
    good = make_archive(GOOD)
    for archive, why in (
        (make_archive(GOOD, RepoTags=["debian:12"]), "tags"),
        (make_archive(GOOD, Other=1), "unknown fields"),
        (make_archive(GOOD, Layers=["l.tar", "l.tar"]), "each once"),
        (make_archive(GOOD, Layers=["m.tar"]), "lacks the layer"),
        (good[:-1024] + b"x" * 1024, "follow after the end"),
        (good[:3000], "cut off"),
        (b"\x1f\x8b" + good[2:], "checksum"),
        (b"", "cut off"),
        (make_tar([member("a", b"")]), "lacks 'manifest.json'"),
        (make_tar([member("a", b""), member("a", b"")]), "twice"),
        (make_tar([member("a", kind=tarfile.SYMTYPE, target="b")]), "no regular file"),
    ):
        with pytest.raises(ImageRefused, match=why):
            verify(archive)
    with pytest.raises(ImageRefused, match="over image_bytes"):
        verify(good, most=100)


def test_an_image_depends_on_content_alone(tmp_path: Path) -> None:
    ids = []
    for place, (mode, umask) in enumerate(((0o700, 0o077), (0o755, 0o022))):
        before = os.umask(umask)
        root = tmp_path / f"root{place}"
        (root / "bin").mkdir(parents=True)
        for name in ("b", "a") if place else ("a", "b"):
            (root / "bin" / name).write_bytes(b"#!/bin/b\n" if name == "a" else b"b")
            (root / "bin" / name).chmod(mode)
        (root / "link").symlink_to("bin/a")
        os.utime(root / "bin" / "a", (place, place))
        os.umask(before)
        out = tmp_path / f"{place}.tar"
        recipe = ImageRecipe(rootfs=root, entrypoint=("/bin/a",), architecture="arm64")
        ids.append((build_image(recipe, out).id, out.read_bytes()))
    assert ids[0] == ids[1]


def test_what_cannot_be_in_an_image_is_named(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out.tar"
    root.mkdir()
    (root / "x").write_bytes(b"x")
    (root / "script").write_bytes(b"#!/x")
    (root / "script").chmod(0o755)
    for recipe, why in (
        (ImageRecipe(rootfs=root), "needs --entrypoint"),
        (ImageRecipe(rootfs=root, entrypoint=("/y",)), "no file in the image"),
        (ImageRecipe(rootfs=root, entrypoint=("/x",)), "chmod"),
        (ImageRecipe(binary=root), "not a file"),
        (ImageRecipe(binary=root / "x"), "no program for Linux"),
        (ImageRecipe(binary=Path(shutil.which("sh") or "")), "link it statically"),
        (ImageRecipe(rootfs=root, entrypoint=("/script",)), "--arch"),
        (ImageRecipe(), "either"),
    ):
        with pytest.raises(DataError, match=why):
            build_image(recipe, out)
    linked = ImageRecipe(rootfs=root, entrypoint=("/script",), architecture="amd64")
    for target, why in ((b"\xff", "this link leads to is not valid Unicode"), (b"../../x", "leads out of the image")):
        (root / "link").symlink_to(os.fsdecode(target))
        with pytest.raises((DataError, ValidationError), match=why):
            build_image(linked, out)
        (root / "link").unlink()
    with pytest.raises(DataError, match=r"cannot read or write .*/absent/.*: No such file"):
        build_image(linked, tmp_path / "absent" / "x")
    os.mkfifo(root / "pipe")
    with pytest.raises(DataError, match="a pipe"):
        build_image(ImageRecipe(rootfs=root, entrypoint=("/x",)), out)
    assert not out.exists()


def test_a_container_spec_has_one_spelling() -> None:
    spec = ContainerSpec(Image(CID, ID), input=CID, entrypoint=("/x",), args=("a",), env={"A": "b"})
    assert parse_spec(spec.to_bytes()) == spec
    assert spec.contents == (CID, CID)
    assert isinstance(parse_spec(JobSpec(CID).to_bytes()), JobSpec)
    values = json.loads(spec.to_bytes())
    for name, value in (
        ("image", {"archive": CID, "id": None, "reference": None}),
        ("image", {"archive": CID, "id": ID, "reference": f"a@{ID}"}),
        ("image", {"archive": None, "id": None, "reference": "a:latest"}),
        ("image", {"archive": None, "id": None}),
        ("entrypoint", []),
        ("entrypoint", "/x"),
        ("args", None),
        ("limits", values["limits"] | {"pids": 1}),
        ("limits", values["limits"] | {"gpu": 1}),
        ("profile", "quorate-docker-2"),
    ):
        with pytest.raises(ValidationError):
            parse_spec(canonical_json(values | {name: value}))
    with pytest.raises(ValidationError):
        parse_spec(json.dumps(values).encode())
    with pytest.raises(ValidationError):
        parse_spec(b"\xff")


def test_commands_make_images_and_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "tool").write_bytes(b"\x7fELF\x02\x01" + bytes(12) + (183).to_bytes(2, "little"))
    runner, image = CliRunner(), tmp_path / "image.tar"
    base = ["--home", str(tmp_path / "home"), "image"]
    made = ["build", "--binary", str(tmp_path / "tool"), "--output-file", str(image), "--output", "json"]
    built = json.loads(runner.invoke(app, [*base, *made]).stdout)
    pushed = json.loads(runner.invoke(app, [*base, "push", str(image), "--output", "json"]).stdout)
    assert pushed["image_id"] == built["image_id"]
    with image.open("rb") as file:
        assert verify_archive(file, image.stat().st_size, pushed["image_id"], 1 << 20).architecture == "arm64"
    for words, why in (
        (made, "exists"),
        (["build", "--output-file", str(tmp_path / "other.tar")], "--rootfs"),
        (["push", str(tmp_path / "tool")], "is a program, no image: make one of it with `quorate image build --binary"),
        (["push", str(tmp_path / "absent")], "neither a file nor a CID"),
    ):
        refused = runner.invoke(app, [*base, *words])
        assert refused.exit_code == 2
        assert why in refused.stderr


def test_a_container_job_is_described_with_its_image(tmp_path: Path) -> None:
    (tmp_path / "tool").write_bytes(STATIC)
    config = build_image(ImageRecipe(binary=tmp_path / "tool", architecture="amd64"), tmp_path / "image.tar")
    store = EmbeddedStore(tmp_path / "store")
    prepared = prepare_container(store, str(tmp_path / "image.tar"), str(tmp_path / "tool"), args=["a"], env=["A=b"])
    spec = prepared.spec
    assert isinstance(spec, ContainerSpec)
    assert (spec.image.id, spec.input_name, spec.args) == (config.id, "tool", ("a",))
    assert prepared.input_bytes == (tmp_path / "image.tar").stat().st_size + len(STATIC)
    assert parse_spec(store.get(Cid.parse(spec.cid))) == spec
    again = prepare_container(store, str(spec.image.archive), str(tmp_path / "tool"), args=["a"], env=["A=b"])
    assert again.spec == spec
    with pytest.raises(DataError, match="not sha256:0000"):
        prepare_container(store, str(spec.image.archive), image_id=ID)
    with pytest.raises(ValidationError, match="--image-id"):
        prepare_container(store, CID)
    assert prepare_container(store, CID, image_id=ID).input_bytes is None
    store.close()


def test_a_field_that_a_daemon_would_fold_into_another_is_refused() -> None:
    with pytest.raises(ImageRefused, match="folds letters"):
        verify(make_archive(GOOD, set_in("config", "Volume\u017f", value={"/x": {}})))


def test_the_hosts_init_is_not_spoken_to() -> None:
    """What it prints differs from host to host, and would be part of the result."""
    with pytest.raises(ImageRefused, match="TINI_"):
        verify(make_archive(GOOD, set_in("config", "Env", value=["TINI_VERBOSITY=3"])))
    image = Image(archive=CID, id=ID)
    for name in ("TINI_VERBOSITY", "LD_PRELOAD", "GLIBC_TUNABLES"):
        with pytest.raises(ValidationError, match=f"env must not set {name}"):
            ContainerSpec(image, env={name: "3"})
    for place in ("/sbin/docker-init", "/proc/self/exe", "/dev/fd/3"):
        with pytest.raises(ValidationError, match="but the host's"):
            ContainerSpec(image, entrypoint=(place,))


def test_a_tar_that_readers_read_differently_is_refused() -> None:
    head = tarfile.TarInfo("x")
    head.pax_headers = {"path": "y"}
    record = head.tobuf(tarfile.PAX_FORMAT)[:1024]  # the extended header with its record
    with pytest.raises(ImageRefused, match="readers differ"):
        verify(make_archive(record + record + make_tar([member("x", b"1")])))


def test_what_an_image_cannot_say_is_refused_before_it_is_made(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out.tar"
    root.mkdir()
    (root / "tool").write_bytes(b"\x7fELF\x02\x01" + bytes(12) + (62).to_bytes(2, "little"))
    (root / "tool").chmod(0o755)
    (tmp_path / ".wh.tool").write_bytes(STATIC)
    bad = b"A=\xff".decode(errors="surrogateescape")
    base = ["build", "--output-file", str(out), "--rootfs", str(root), "--entrypoint", "/tool"]
    (root / "sub").mkdir()
    for words, why in (
        ([*base, "--arch", "nonsense"], "--arch 'nonsense' is unknown: choose one of 386, amd64, arm"),
        ([*base, "--arch", "arm64"], "a program for amd64, not for --arch arm64"),
        ([*base, "--env", bad], "the variable 'A=\\udcff' is not valid Unicode"),
        ([*base, "--arg", bad], "argument 'A=\\udcff' is not valid Unicode"),
        ([*base, "--workdir", "/sub/../x"], "shortest form"),
        ([*base, "--workdir", "/absent"], "no folder in the image"),
        ([*base[:3], "--binary", str(tmp_path / ".wh.tool"), "--arch", "amd64"], "means that it is removed: rename it"),
    ):
        refused = CliRunner().invoke(app, ["--home", str(tmp_path / "home"), "image", *words])
        assert (refused.exit_code, why in " ".join(refused.stderr.split())) == (2, True), refused.stderr
    (root / "sub" / ".wh.x\x1b[2J").write_bytes(b"")
    refused = CliRunner().invoke(app, ["--home", str(tmp_path / "home"), "image", *base])
    assert refused.exit_code == 2
    assert ".wh.x\\x1b[2J" in refused.stderr
    assert "\x1b" not in refused.stderr
    assert not out.exists()


def test_a_program_is_found_as_a_container_finds_it(tmp_path: Path) -> None:
    """Behind links, on PATH, or as what a script names; and it is missed before anything is paid."""
    root = tmp_path / "root"
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr" / "bin" / "tool").write_bytes(b"\x7fELF\x02\x01" + bytes(12) + (183).to_bytes(2, "little"))
    for name, text in (("script", b"#! /bin/tool -x\n"), ("orphan", b"#!/bin/sh\n"), ("circle", b"#!/bin/circle")):
        (root / "usr" / "bin" / name).write_bytes(text)
    shutil.copy(shutil.which("sh") or "", root / "usr" / "bin" / "dynamic")
    for path in (root / "usr" / "bin").iterdir():
        path.chmod(0o755)
    for name, target in (
        ("run", "/bin/../bin/script"),
        ("lost", "/absent"),
        ("a", "b"),
        ("b", "a"),
        ("far", "/inputs/x"),
    ):
        (root / name).symlink_to(target)

    def build(number: int, program: str, **more: Any) -> str:
        recipe = ImageRecipe(rootfs=root, entrypoint=(program,), **more)
        return build_image(recipe, tmp_path / f"{number}.tar").architecture

    good = ["/bin/tool", "tool", "script", "/run", "bin/tool", "./run"]
    assert [build(number, each) for number, each in enumerate(good)] == ["arm64"] * len(good)
    assert build(10, "tool", env={"PATH": "/sbin:/usr/bin"}) == "arm64"
    assert build(11, "tool", working_dir="/usr") == "arm64"
    assert build(12, "bin/tool", working_dir="/usr") == "arm64"
    assert build(13, "/far", architecture="amd64") == "amd64", "what is mounted there nobody knows yet"
    for program, why in (
        ("absent", "no file in the image on PATH"),
        ("/bin", "no file in the image"),
        ("/bin/absent", "no file in the image"),
        ("/orphan/x", "no file in the image"),
        ("/bin/orphan", "/usr/bin/orphan is a script for '/bin/sh', which the image lacks"),
        ("dynamic", "needs the loader '/lib.*which the image lacks"),
        ("/a", "in a circle"),
        ("/bin/circle", "give --arch"),
        ("/lost", "give --arch"),
    ):
        with pytest.raises(DataError, match=why):
            build(20, program)
    with pytest.raises(DataError, match="no file in the image on PATH"):
        build(20, "tool", env={"PATH": "/sbin"})


def test_what_is_no_archive_is_told_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with closing(EmbeddedStore(tmp_path / "store")) as store:
        for head, why in (
            (b"\x7fELF", "image build --binary"),
            (b"\0asm", "quorate wasm run"),
            (b"\x1f\x8b\x08", "is compressed"),
            (b"text", "member 1 of the tar: the tar is cut off"),
        ):
            path.write_bytes(head)
            with pytest.raises(DataError, match=why):
                prepare_container(store, str(path))


def test_a_tag_is_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    with closing(EmbeddedStore(tmp_path / "store")) as store:
        for name in ("alpine", "alpine:latest", "ghcr.io/a/b:1.0"):
            with pytest.raises(DataError, match=r"a tag of a registry.*docker export.*NAME@sha256:"):
                prepare_container(store, name)
        with pytest.raises(DataError, match=r"neither a file nor a CID: check the path$"):
            prepare_container(store, "absent.tar")
