"""Kubo's RPC on an embedded store: by its unmodified Python client, and by requests that must be refused."""

from __future__ import annotations

import http.client
import io
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ipfshttpclient
import pytest
from starlette.applications import Starlette

from quorate.protocol.errors import DataError
from quorate.storage import rpc
from quorate.storage.cid import DAG_CBOR, DAG_PB, RAW, Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.multipart import boundary_of, read_uploads
from quorate.storage.rpc import rpc_routes
from quorate.storage.serve import LoopbackServer

pytestmark = pytest.mark.filterwarnings("ignore:The 'strict' parameter")
FORM = {"Content-Type": "multipart/form-data; boundary=b"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    made = EmbeddedStore(tmp_path_factory.mktemp("rpc"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(store: EmbeddedStore) -> Iterator[LoopbackServer]:
    app = Starlette(routes=rpc_routes(store, may_write=True, max_upload_bytes=4 << 20))
    with LoopbackServer(app) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: LoopbackServer) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The 'strict' parameter")
        warnings.simplefilter("error", ipfshttpclient.exceptions.VersionMismatch)  # it is content with our version
        with ipfshttpclient.connect(f"/ip4/127.0.0.1/tcp/{server.port}") as made:
            yield made


@pytest.fixture(scope="module")
def web(server: LoopbackServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/api/v0/", trust_env=False, timeout=60) as made:
        yield made


def part(data: bytes, name: str = "x", kind: str = "application/octet-stream") -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {kind}\r\n\r\n'
    return head.encode() + data + b"\r\n"


def test_files_and_folders_get_the_cids_that_kubo_gives(client: Any, store: EmbeddedStore, tmp_path: Path) -> None:
    assert client.add_str("Mary had a little lamb") == "QmZfF6C9j4VtoCsTp4KSrhYH47QMd3DNXVZBKaxJdhaPab"
    noise = os.urandom(600_000)
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/empty").mkdir()
    (tmp_path / "tree/odd ü%.bin").write_bytes(noise)
    (tmp_path / "tree/sub/none").write_bytes(b"")
    ours = store.add_path(tmp_path / "tree", "unixfs-v0-2015")
    rows = client.add(str(tmp_path / "tree"), recursive=True)
    assert (rows[-1]["Name"], rows[-1]["Hash"]) == ("tree", str(ours))
    assert {row["Name"] for row in rows} == {"tree", "tree/empty", "tree/sub", "tree/sub/none", "tree/odd ü%.bin"}
    assert next(row["Hash"] for row in rows if row["Name"] == "tree/empty") == (
        "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
    )
    assert client.cat(f"{ours}/odd ü%.bin") == noise
    assert client.cat(f"/ipfs/{ours}/odd ü%.bin", offset=262_140, length=10) == noise[262_140:262_150]
    listed = client.ls(str(ours))["Objects"][0]["Links"]
    assert [(link["Name"], link["Type"], link["Size"]) for link in listed] == [
        ("empty", 1, 0),
        ("odd ü%.bin", 2, 600_000),
        ("sub", 1, 0),
    ]
    client.get(str(ours), target=str(tmp_path / "out"))
    got = tmp_path / "out" / str(ours)
    assert (got / "odd ü%.bin").read_bytes() == noise
    assert sorted(found.name for found in got.rglob("*")) == ["empty", "none", "odd ü%.bin", "sub"]
    assert client.resolve(f"/ipfs/{ours}/sub")["Path"] == f"/ipfs/{store.resolve(ours, 'sub')}"
    wrapped = client.add(str(tmp_path / "tree/sub/none"), wrap_with_directory=True, cid_version=1)
    assert [row["Name"] for row in wrapped] == ["none", ""]
    assert store.read(store.resolve(Cid.parse(wrapped[-1]["Hash"]), "none")) == b""
    assert Cid.parse(wrapped[0]["Hash"]).codec == DAG_PB  # it says raw-leaves=false itself
    raw = client.add(str(tmp_path / "tree/odd ü%.bin"), cid_version=1, raw_leaves=True, chunker="size-1048576")
    assert raw["Hash"] == str(Cid.of(noise))


def test_only_hashing_keeps_nothing_and_pins_are_pins(client: Any, store: EmbeddedStore) -> None:
    before = store.stats().blocks
    hashed = client.add(io.BytesIO(b"not kept"), only_hash=True)["Hash"]
    assert store.stats().blocks == before
    loose = client.add(io.BytesIO(b"not pinned"), pin=False)["Hash"]
    kept = client.add(io.BytesIO(b"pinned"))["Hash"]
    pinned = client.pin.ls(type="recursive")["Keys"]
    assert (kept in pinned, loose in pinned) == (True, False)
    assert client.pin.ls(kept)["Keys"][kept]["Type"] == "recursive"
    for missing in (loose, hashed):
        with pytest.raises(ipfshttpclient.exceptions.ErrorResponse, match="not pinned"):
            client.pin.rm(missing)
    with pytest.raises(ipfshttpclient.exceptions.ErrorResponse, match="could not find"):
        client.pin.add(hashed)
    assert client.pin.add(loose)["Pins"] == [loose]
    assert client.pin.update(loose, kept)["Pins"] == [f"/ipfs/{loose}", f"/ipfs/{kept}"]
    assert client.pin.rm(kept)["Pins"] == [kept]
    with pytest.raises(ipfshttpclient.exceptions.ErrorResponse, match="is not pinned"):
        client.pin.ls(kept)
    tree = store.add_tree({"a": b"below"})
    store.pin(tree)
    below = str(store.resolve(tree, "a"))
    assert client.pin.ls()["Keys"][below]["Type"] == "indirect"


def test_blocks_and_dags_go_in_and_out(client: Any, store: EmbeddedStore) -> None:
    assert client.version()["Version"].startswith("0.8.0")
    assert Cid.parse(client.id()["ID"]).version == 0
    stats = client.repo.stat()
    assert (stats["NumObjects"], stats["RepoPath"]) == (store.stats().blocks, str(store.directory))
    put = client.block.put(io.BytesIO(b"block"))
    assert put == {"Key": str(Cid.of(b"block")), "Size": 5}
    assert client.block.stat(put["Key"]) == put
    assert client.block.get(put["Key"]) == b"block"
    tree = store.add_tree({"a": os.urandom(70_000), "b/c": b"x"})
    shown = client.dag.get(str(tree))
    assert [link["Name"] for link in shown["Links"]] == ["a", "b"]
    assert shown["Data"]["/"]["bytes"] == "CAE"
    document = b"\xa5\x61a\x20\x61b\x42hi\x61c\xf5\x61d\xfb\x3f\xf8\0\0\0\0\0\0\x61l\x81\xd8\x2a\x58\x25\0"
    document += tree.to_bytes()
    cbor = Cid.of(document, DAG_CBOR)
    store.put(cbor, document)
    assert client.dag.get(str(cbor)) == {
        "a": -1,
        "b": {"/": {"bytes": "aGk"}},
        "c": True,
        "d": 1.5,
        "l": [{"/": str(tree)}],
    }
    assert client.dag.resolve(f"{cbor}/l/0/b")["Cid"]["/"] == str(store.resolve(tree, "b"))
    car = client.dag.export(str(cbor))
    assert car == b"".join(store.export_car(cbor))
    with pytest.raises(ipfshttpclient.exceptions.ErrorResponse, match="could not find"):
        client.dag.export(str(Cid.of(b"absent")))
    store.unpin(cbor)
    assert client.dag.imprt(io.BytesIO(car))["Root"]["Cid"]["/"] == str(cbor)
    assert cbor in store.pins()


def test_a_car_that_is_cut_or_changed_is_not_pinned(web: httpx.Client, tmp_path: Path) -> None:
    other = EmbeddedStore(tmp_path)
    root = other.add_tree({"a": os.urandom(100_000), "b": os.urandom(50_000)})
    car = b"".join(other.export_car(root))
    other.close()
    cut = web.post("dag/import", content=part(car[:-1]) + b"--b--\r\n", headers=FORM)
    assert (cut.status_code, "tail is missing" in cut.json()["Message"]) == (500, True)
    short = car[: car.rindex(other_block(car))]
    lacks = web.post("dag/import?stats=true", content=part(short) + b"--b--\r\n", headers=FORM)
    rows = [json.loads(line) for line in lacks.text.splitlines()]
    assert "not here" in rows[0]["Root"]["PinErrorMsg"]
    assert rows[1]["Stats"]["BlockCount"] == 2
    wrong = bytearray(car)
    wrong[-1] ^= 1
    assert web.post("dag/import", content=part(bytes(wrong)) + b"--b--\r\n", headers=FORM).status_code == 500
    assert str(root) not in web.post("pin/ls?type=recursive").text


def other_block(car: bytes) -> bytes:
    """The head of the last section: its CID of a raw block."""
    return car[car.rindex(b"\x01\x55\x12\x20") - 3 :][:7]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "OWN"}, 200),
        ({"Referer": "OWN/page"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Referer": "https://evil.example/x"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"User-Agent": "Mozilla/5.0 (X11)"}, 403),
        ({"User-Agent": "Mozilla/5.0 (X11)", "Origin": "OWN"}, 200),
    ],
)
def test_web_pages_cannot_use_it(
    web: httpx.Client, server: LoopbackServer, headers: dict[str, str], status: int
) -> None:
    sent = {name: value.replace("OWN", server.url) for name, value in headers.items()}
    answer = web.post("version", headers=sent)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        ("cat", 400, "required"),
        ("cat?arg=rubbish", 400, "invalid path"),
        ("cat?arg=ABSENT", 500, "ipld: could not find"),
        ("cat?arg=TREE", 500, "is a directory"),
        ("cat?arg=TREE/none", 500, "no 'none'"),
        ("cat?arg=TREE/a&offset=x", 400, "number"),
        ("block/get?arg=TREE&arg=TREE", 400, "one argument"),
        ("get?arg=TREE&compress=true", 400, "compress"),
        ("dag/get?arg=TREE&output-codec=raw", 400, "dag-json"),
        ("pin/add?arg=TREE&recursive=false", 400, "recursive"),
        ("pin/ls?type=odd", 400, "invalid type"),
        ("pin/ls?stream=perhaps", 400, "neither"),
        ("ls?arg=BLAKE", 500, "sha2-256"),
        ("files/ls", 404, "not served"),
    ],
)
def test_bad_calls_are_refused_with_a_reason(
    web: httpx.Client, store: EmbeddedStore, command: str, status: int, reason: str
) -> None:
    blake = Cid(1, RAW, bytes.fromhex("a0e40220") + bytes(32))
    names = {"ABSENT": Cid.of(b"?"), "TREE": store.add_tree({"a": b"a"}), "BLAKE": blake}
    for name, cid in names.items():
        command = command.replace(name, str(cid))
    answer = web.post(command)
    assert answer.status_code == status
    assert reason in answer.text


@pytest.mark.parametrize(
    ("options", "body", "status", "reason"),
    [
        ("", part(b"x"), 500, "was cut"),
        ("", b"", 500, "was cut"),
        ("", b"--b--\r\n", 400, "required"),
        ("", part(b"x", "a/../b") + b"--b--\r\n", 500, "no name"),
        ("", part(b"x", "a") + part(b"y", "a/b") + b"--b--\r\n", 500, "file and a directory"),
        ("", part(b"x", "a") + part(b"y", "a") + b"--b--\r\n", 500, "twice"),
        ("", part(b"/etc/passwd", "a", "application/symlink") + b"--b--\r\n", 500, "symbolic link"),
        ("?chunker=rabin", part(b"x") + b"--b--\r\n", 400, "chunker"),
        ("?chunker=size-511&only-hash=true", part(b"x") + b"--b--\r\n", 400, "from 512 to"),
        ("?trickle=true", part(b"x") + b"--b--\r\n", 400, "trickle"),
        ("?hash=blake3", part(b"x") + b"--b--\r\n", 400, "sha2-256"),
        ("?cid-version=2", part(b"x") + b"--b--\r\n", 400, "cid-version"),
        ("", part(bytes(5 << 20)) + b"--b--\r\n", 413, "--max-upload"),
    ],
)
def test_bad_uploads_are_refused_and_leave_no_pin(
    web: httpx.Client, store: EmbeddedStore, options: str, body: bytes, status: int, reason: str
) -> None:
    before = list(store.pins())
    answer = web.post(f"add{options}", content=body, headers=FORM)
    assert answer.status_code == status
    assert reason in answer.json()["Message"]
    assert (answer.headers.get("connection") == "close") == (status == 413), "nothing can follow half a body"
    assert list(store.pins()) == before


def test_without_a_form_or_a_length_nothing_is_taken(web: httpx.Client, server: LoopbackServer) -> None:
    assert web.post("add", content=b"x").json()["Message"].startswith("send the file as multipart")
    assert "boundary" in web.post("add", headers={"Content-Type": "multipart/form-data; boundary=b!"}).text
    big = web.post("block/put", content=part(bytes((2 << 20) + 1)) + b"--b--\r\n", headers=FORM)
    assert (big.status_code, "at most" in big.json()["Message"]) == (500, True)
    lie = web.post("block/put?format=dag-pb", content=part(b"\xff") + b"--b--\r\n", headers=FORM)
    assert lie.status_code == 500
    endless = (bytes(1 << 20) for _ in range(6))  # without a Content-Length
    try:
        answer = web.post("add", content=endless, headers=FORM)
    except (httpx.WriteError, httpx.ReadError):
        return  # it hung up on us before we had sent all
    assert answer.status_code == 413


def test_other_verbs_are_not_taken(web: httpx.Client) -> None:
    for verb in ("GET", "HEAD", "PUT", "DELETE"):
        answer = web.request(verb, "version")
        assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
    assert web.options("version").status_code == 204


def test_writing_must_be_allowed(store: EmbeddedStore) -> None:
    with (
        LoopbackServer(Starlette(routes=rpc_routes(store))) as running,
        httpx.Client(base_url=f"{running.url}/api/v0/", trust_env=False, timeout=60) as reader,
    ):
        for command in ("add", "block/put", "dag/import", "pin/add?arg=x", "pin/rm?arg=x"):
            answer = reader.post(command, content=part(b"x") + b"--b--\r\n", headers=FORM)
            assert (answer.status_code, "--api" in answer.json()["Message"]) == (403, True)
        assert reader.post("version").status_code == 200


def test_a_sender_that_stalls_is_sent_away(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "STALL_S", 0.2)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest("POST", "/api/v0/add")
    for name, value in {**FORM, "Content-Length": "1000"}.items():
        connection.putheader(name, value)
    connection.endheaders(b"--b\r\n")
    answer = connection.getresponse()
    assert (answer.status, b"send it again" in answer.read()) == (503, True)
    connection.close()


@pytest.mark.parametrize("step", [1, 3, 7, 1 << 20])
def test_forms_are_read_however_they_come(step: int) -> None:
    contents = [b"", b"\r\n--", b"\r\n--c\r\n" * 50, os.urandom(5000), b"\r", b"x\r\n--B"]
    body = b"preamble" + b"".join(b"\r\n" + part(data, f"n{i}")[:-2] for i, data in enumerate(contents))
    file = _Slow(body + b"\r\n--b--\r\nepilogue", step)
    found = []
    for upload in read_uploads(file, boundary_of(FORM["Content-Type"])):  # type: ignore[arg-type]
        pieces = list(iter(lambda read=upload.read: read(step), b""))
        assert all(len(piece) <= step for piece in pieces)
        found.append((upload.path, b"".join(pieces)))
    assert found == [(f"n{i}", data) for i, data in enumerate(contents)]
    skipping = read_uploads(_Slow(body + b"\r\n--b--", step), b"b")  # type: ignore[arg-type]
    assert [upload.path for upload in skipping] == [f"n{i}" for i in range(len(contents))]
    for cut in (len(body) // 2, len(body), 3):
        with pytest.raises(DataError):
            list(read_uploads(_Slow(body[:cut], step), b"b"))  # type: ignore[arg-type]


class _Slow(io.BytesIO):
    """Gives few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self._step = step

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self._step)
