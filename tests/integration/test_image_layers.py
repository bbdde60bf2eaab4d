"""What daemons make of an image's layers: one tree of what is taken, and different ones of what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import docker
import docker.errors
import pytest
from tests.integration.dockers import Daemon, needs_docker
from tests.unit.images.test_layers import folder, link, make_tar, put

from quorate.images.archive import ImageRefused, verify_archive

pytestmark = needs_docker
DRIVERS = ("overlay2", "vfs")  # layers beside each other, and one unpacked onto the other
OF_THE_DAEMON = (".dockerenv", "dev", "proc", "sys", "etc")
Tree = dict[str, tuple[Any, ...]]


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Daemon]]:
    started: list[Daemon] = []
    with pytest.MonkeyPatch.context() as patch:
        try:
            for driver in DRIVERS:
                patch.setenv("DOCKER_DRIVER", driver)
                started.append(Daemon(tmp_path_factory.mktemp(driver)))
            yield started
        finally:
            for daemon in started:
                daemon.stop()


def make_archive(*layers: bytes) -> bytes:
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {"architecture": "amd64", "config": {"Entrypoint": ["/x"]}, "os": "linux",
              "rootfs": {"diff_ids": diff_ids, "type": "layers"}}  # fmt: skip
    names = [f"{number}.tar" for number in range(len(layers))]
    manifest = [{"Config": "c.json", "Layers": names, "RepoTags": None}]
    members = [put("c.json", json.dumps(config).encode()), put("manifest.json", json.dumps(manifest).encode())]
    return make_tar(*members, *(put(name, layer) for name, layer in zip(names, layers, strict=True)))


def unpack(daemon: Daemon, archive: bytes, driver: str) -> Tree | str:
    """What a container of the image sees, as the daemon tells it; or why the daemon does not take it."""
    with closing(docker.APIClient(base_url=daemon.host, version="auto")) as api:
        assert api.info()["Driver"] == driver
        said = "".join(str(each.get("stream", each.get("error"))) for each in api.load_image(io.BytesIO(archive)))
        if "Loaded image ID: " not in said:
            return said
        image = said.split("Loaded image ID: ")[1].strip()
        container = api.create_container_from_config(api.create_container_config(image, ["/x"]))["Id"]
        try:
            with tarfile.open(fileobj=io.BytesIO(b"".join(api.export(container)))) as tar:
                return {each.name: describe(tar, each) for each in tar if not each.name.startswith(OF_THE_DAEMON)}
        finally:
            api.remove_container(container, force=True)
            api.remove_image(image)


def describe(tar: tarfile.TarFile, each: tarfile.TarInfo) -> tuple[Any, ...]:
    data = tar.extractfile(each) if each.isreg() else None
    return each.type, each.mode, each.uid, each.gid, each.mtime, each.linkname, data.read() if data else b""


BASE = make_tar(
    folder("a", mode=0o700, uid=5, mtime=111), put("a/x", b"1", mode=0o4755, uid=7), folder("a/sub", mtime=5),
    put("a/sub/y", b"2"), link("l", "a"), folder("tmp", mode=0o1777), folder("gone"), put("gone/z", b"1"),
    put("f", b"file"), put("h1", b"hh"), put("h2", kind=tarfile.LNKTYPE, target="h1"),
)  # fmt: skip


def test_of_what_is_taken_all_daemons_make_one_tree(daemons: list[Daemon]) -> None:
    second = make_tar(
        folder(".", mtime=77), folder("a", mode=0o755, mtime=222), put("a/.wh.x"), put("a/new", b"3", mtime=9),
        put(".wh.l"), put(".wh.gone"), put("f2", b"x"), put("h1", b"changed"), folder("turned"), put("turned/q", b"1"),
    )  # fmt: skip
    third = make_tar(
        folder("l", mode=0o711), put("l/z", b"4"), folder("gone", mtime=3), put("turned", b"a file"), link("f", "f2"),
        put("a2", b"1"), put("a3", kind=tarfile.LNKTYPE, target="a2"), folder("a", mode=0o750, mtime=333),
        put("a/.wh.new"),
    )  # fmt: skip
    archive = make_archive(BASE, second, third)
    verify_archive(io.BytesIO(archive), len(archive), None, 1 << 20)
    beside, onto = (unpack(daemon, archive, driver) for daemon, driver in zip(daemons, DRIVERS, strict=True))
    assert beside == onto
    assert isinstance(beside, dict)
    assert " ".join(sorted(beside)) == "a a/sub a/sub/y a2 a3 f f2 gone h1 h2 l l/z tmp turned"
    assert beside["h2"][-1] == b"hh", "of a file that two names had, only one was replaced"


@pytest.mark.parametrize(
    "second",
    [
        make_tar(put("l/z", b"4")),  # beyond a link of the layer below
        make_tar(put("a/z", b"4")),  # in a folder that the layer does not name: with which rights?
        make_tar(put("h3", kind=tarfile.LNKTYPE, target="f")),  # to a file of the layer below
        make_tar(folder("a", pax_headers={"SCHILY.xattr.trusted.overlay.opaque": "y"})),  # hides all below, or nothing
        make_tar(put(".wh..")),
        make_tar(folder("a"), put("a/x", b"4"), put("a/.wh.x")),
    ],
)
def test_of_what_is_refused_they_make_different_ones(daemons: list[Daemon], second: bytes) -> None:
    archive = make_archive(BASE, second)
    with pytest.raises(ImageRefused):
        verify_archive(io.BytesIO(archive), len(archive), None, 1 << 20)
    beside, onto = (unpack(daemon, archive, driver) for daemon, driver in zip(daemons, DRIVERS, strict=True))
    assert beside != onto
