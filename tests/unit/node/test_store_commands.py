"""`quorate-node store` and `quorate-node gateway`: what they print, what they refuse, and with which code they end."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from quorate.storage import dagpb, unixfs
from quorate.storage.cid import DAG_PB, RAW, Cid
from quorate.storage.dagpb import Link
from quorate.storage.embedded import EmbeddedStore
from quorate_node.cli.main import main

MIB = 1 << 20
Run = Callable[..., Any]
COMMAND = [sys.executable, "-m", "quorate_node.cli.main"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    (made / "sub").mkdir(parents=True)
    (made / "large").write_bytes(os.urandom(2 * MIB + 3))
    (made / "sub/small").write_bytes(b"small")
    return made


@pytest.fixture
def run(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process; gives its JSON, or its error and code."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str | Path, code: int = 0, raw: bool = False, stdin: bytes | None = None) -> Any:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        options = ["--store", "data", *([] if raw else ["--output", "json"])]
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words), *options])
        out, err = capfdbinary.readouterr()
        assert ended.value.code == code, err.decode()
        if code:
            assert out == b""
            assert err.startswith(b"error: ")
            assert err.count(b"\n") == 1
            return err.decode()
        return out if raw else json.loads(out)

    return call


def test_a_folder_goes_in_and_comes_out_alike(run: Run, tree: Path, tmp_path: Path) -> None:
    told = run("store", "add", tree, "--only-hash")
    assert not (tmp_path / "data").exists()
    added = run("store", "add", tree)
    assert (added["cid"], added["bytes"], added["pinned"]) == (told["cid"], 2 * MIB + 8, True)
    assert added["new_blocks"] == 7
    assert run("store", "add", tree)["new_blocks"] == 0
    cid = added["cid"]
    assert run("store", "ls", cid)["entries"][0] | {"cid": ""} == {
        "name": "large",
        "cid": "",
        "size": 2 * MIB + 3,
        "kind": "file",
    }
    assert [row["name"] for row in run("store", "ls", f"/ipfs/{cid}", "-r")["entries"]] == ["large", "sub", "sub/small"]
    got = run("store", "get", cid, "out")
    assert got["bytes"] == 2 * MIB + 8
    assert (tmp_path / "out/large").read_bytes() == (tree / "large").read_bytes()
    assert "exists" in run("store", "get", cid, "out", code=2)
    assert run("store", "get", f"ipfs://{cid}/sub/small")["path"] == "small"
    assert (tmp_path / "small").read_bytes() == b"small"
    assert run("store", "get", f"{cid}/sub/small", "-", raw=True) == b"small"
    assert "limit of 4" in run("store", "get", f"{cid}/sub/small", "-", "--max-bytes", "4", code=2)
    assert "no 'none'" in run("store", "get", f"{cid}/none", code=2)
    shown = run("store", "stat", f"{cid}/large")
    assert (shown["kind"], shown["bytes"], shown["complete"], shown["pinned"]) == ("file", 2 * MIB + 3, True, False)
    assert run("store", "stat")["referred_bytes"] == 2 * MIB + 3


def test_both_profiles_and_standard_input_give_known_cids(run: Run) -> None:
    old = run("store", "add", "-", "--profile", "unixfs-v0-2015", stdin=b"Mary had a little lamb")
    assert (old["cid"], old["bytes"]) == ("QmZfF6C9j4VtoCsTp4KSrhYH47QMd3DNXVZBKaxJdhaPab", 22)
    noise = os.urandom(2 * MIB)
    piped = run("store", "add", "-", stdin=noise)
    assert run("store", "add", "-", "--only-hash", stdin=noise)["cid"] == piped["cid"]
    assert run("store", "get", piped["cid"], "-", raw=True) == noise
    assert "is not known" in run("store", "add", "-", "--profile", "other", stdin=b"", code=2)


def test_copies_outlive_their_files_and_references_do_not(run: Run, tree: Path) -> None:
    cid = run("store", "add", tree)["cid"]
    content = (tree / "large").read_bytes()
    (tree / "large").write_bytes(b"other")
    assert run("store", "stat", cid)["complete"] is False
    assert "add or fetch it again" in run("store", "get", f"{cid}/large", "-", code=3)
    (tree / "large").write_bytes(content)
    assert run("store", "add", tree, "--copy")["cid"] == cid
    (tree / "large").unlink()
    assert run("store", "get", f"{cid}/large", "-", raw=True) == content


def test_what_is_no_file_is_refused(run: Run, tree: Path, tmp_path: Path) -> None:
    (tree / "link").symlink_to("large")
    assert "symbolic link" in run("store", "add", tree, code=2)
    assert "symbolic link" in run("store", "add", tree / "link", "--only-hash", code=2)
    os.mkfifo(tmp_path / "pipe")
    assert "neither a file nor a directory" in run("store", "add", "pipe", code=2)
    assert "cannot be read" in run("store", "add", "nothing", code=2)
    assert run("store", "ls")["pins"] == []


def test_cars_go_out_and_in_and_broken_ones_pin_nothing(run: Run, tree: Path, tmp_path: Path) -> None:
    cid = run("store", "add", tree)["cid"]
    done = run("store", "export", cid, "x.car")
    car = (tmp_path / "x.car").read_bytes()
    assert done["bytes"] == len(car)
    assert run("store", "export", cid, "-", raw=True) == car
    assert "exists" in run("store", "export", cid, "x.car", code=2)
    (tmp_path / "data").rename(tmp_path / "before")
    for content, reason in (
        (car[:-1], "tail is missing"),
        (car[: 2 * MIB], "tail is missing"),
        (car[:-40] + bytes(40), "not what"),
        (b"<html>", "error"),
        (b"", "tail is missing"),
    ):
        (tmp_path / "bad.car").write_bytes(content)
        assert reason in run("store", "import", "bad.car", code=2)
    assert run("store", "pin", "list")["pins"] == []
    shorter = car[: car.rindex(b"small") - 37]
    assert "--partial" in run("store", "import", "-", stdin=shorter, code=2)
    partial = run("store", "import", "-", "--partial", "--no-pin", stdin=shorter)
    assert [root["complete"] for root in partial["roots"]] == [False]
    assert "missing" in run("store", "pin", "add", cid, code=3)
    reordered = _reorder(car)
    assert reordered != car
    taken = run("store", "import", "-", stdin=reordered)
    assert taken["roots"] == [{"cid": cid, "complete": True, "pinned": True}]
    assert (taken["blocks"], taken["new_blocks"]) == (7, 1)
    run("store", "get", cid, "back")
    assert (tmp_path / "back/large").read_bytes() == (tree / "large").read_bytes()
    assert "cannot be read" in run("store", "import", "none.car", code=2)


def _reorder(car: bytes) -> bytes:
    """The same CAR with its last section first."""
    head = 1 + car[0]
    last = car.rindex(b"small") - 37
    return car[:head] + car[last:] + car[head:last]


def test_pins_hold_what_gc_would_remove(run: Run, tree: Path) -> None:
    cid = run("store", "add", tree, "--no-pin", "--copy")["cid"]
    small = run("store", "pin", "add", f"{cid}/sub/small")["cid"]
    assert run("store", "pin", "ls")["pins"] == [{"cid": small, "complete": True}]
    told = run("store", "gc", "--dry-run")
    assert (told["removed_blocks"], told["kept_blocks"], told["dry_run"]) == (6, 1, True)
    assert run("store", "gc") == told | {"dry_run": False}
    assert run("store", "gc")["removed_blocks"] == 0
    assert "does not have" in run("store", "get", cid, code=3)
    assert run("store", "get", small, "-", raw=True) == b"small"
    assert "not pinned" in run("store", "pin", "rm", cid, code=2)
    run("store", "pin", "rm", small)
    assert run("store", "gc")["removed_blocks"] == 1
    assert run("store", "stat")["blocks"] == 0


def test_bad_cids_and_missing_stores_say_what_to_do(run: Run, tmp_path: Path) -> None:
    assert "makes one" in run("store", "ls", code=2)
    assert not (tmp_path / "data").exists()
    run("store", "add", "-", stdin=b"x")
    blake = Cid(1, RAW, bytes.fromhex("a0e40220") + bytes(32))
    for text, reason in (("rubbish", "not a CID"), ("", "not a CID"), (str(blake), "only sha2-256")):
        for words in (("get",), ("ls",), ("stat",), ("pin", "add"), ("export",)):
            extra = ("y.car",) if words == ("export",) else ()
            assert reason in run("store", *words, text, *extra, code=2)
    inline = "bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa"
    assert run("store", "get", inline, "-", raw=True) == Cid.parse(inline).inline
    assert "no directory" in run("store", "ls", inline, code=2)
    (tmp_path / "data/index.sqlite3").write_bytes(b"torn" * 5000)
    assert "damaged" in run("store", "ls", code=70)
    assert "damaged" in run("store", "add", "-", stdin=b"x", code=70)


def test_a_bomb_is_described_and_never_written(run: Run, tmp_path: Path) -> None:
    with_bomb = EmbeddedStore(tmp_path / "data")
    cid, size = with_bomb.put_raw(bytes(MIB)), MIB
    while size < 1 << 50:
        message = unixfs.Message(unixfs.FILE, b"", size * 32, (size,) * 32)
        block = dagpb.encode([Link(cid, "", 1)] * 32, message.encode())
        cid, size = Cid.of(block, DAG_PB), size * 32
        with_bomb.put(cid, block)
    with_bomb.close()
    assert run("store", "stat", str(cid)) | {"block_bytes": 0} == {
        "cid": str(cid),
        "kind": "file",
        "bytes": size,
        "block_bytes": 0,
        "complete": True,
        "pinned": False,
    }
    assert "free space" in run("store", "get", str(cid), "out", code=2)
    assert "--max-bytes" in run("store", "get", str(cid), "-", code=2)
    assert run("store", "pin", "add", str(cid))["pinned"] is True
    assert run("store", "export", str(cid), "small.car")["bytes"] < 2 * MIB
    assert run("store", "gc")["removed_blocks"] == 0


def test_names_that_are_no_text_are_shown_and_come_back(run: Run, tmp_path: Path) -> None:
    made = tmp_path / "odd"
    made.mkdir()
    name = os.fsdecode(b"\xff\x1b[31m")
    (made / name).write_bytes(b"odd")
    cid = run("store", "add", made)["cid"]
    assert [row["name"] for row in run("store", "ls", cid)["entries"]] == [name]
    shown = run("store", "ls", cid, raw=True)
    assert b"\\udcff\\x1b[31m" in shown
    assert b"\x1b" not in shown
    run("store", "get", cid, "out")
    assert os.listdir(b"out") == [b"\xff\x1b[31m"]  # noqa: PTH208
    assert run("store", "get", f"{cid}/{name}", "-", raw=True) == b"odd"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--listen", "8080"), "HOST:PORT"),
        (("--listen", "127.0.0.1:70000"), "HOST:PORT"),
        (("--listen", "192.0.2.1:0"), "no address of this machine"),
        (("--listen", "0.0.0.0:0", "--api"), "lets whoever reaches"),
        (("--deny", "none.txt"), "CIDs, one a line"),
    ],
)
def test_a_gateway_that_cannot_start_says_why(run: Run, words: tuple[str, ...], reason: str) -> None:
    assert reason in run("gateway", *words, code=2)


def test_a_gateway_serves_while_others_write_and_ends_by_a_signal(tmp_path: Path, tree: Path) -> None:
    folder = tmp_path / "data"
    with closing(EmbeddedStore(folder)) as denied_in:
        denied = denied_in.put_raw(b"denied")
    (tmp_path / "deny.txt").write_text(f"# mine\n{denied}  # and why\n\n")
    words = ["gateway", "--store", folder, "--listen", "127.0.0.1:0", "--deny", tmp_path / "deny.txt", "--api", "-o"]
    process = subprocess.Popen([*COMMAND, *map(str, words), "json"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        with closing(EmbeddedStore(folder)) as store, httpx.Client(base_url=ready["url"], trust_env=False) as client:
            root = store.add_path(tree)
            answer = client.get(f"/ipfs/{root}/sub/small?format=raw")
            assert (answer.status_code, answer.content) == (200, b"small")
            assert client.get(f"/ipfs/{denied}?format=raw").status_code == 410
            assert "does not serve" in client.post(f"/api/v0/cat?arg={denied}").json()["Message"]
            added = client.post("/api/v0/add", files={"file": ("x", b"by api")}).json()
            assert store.read(Cid.parse(added["Hash"])) == b"by api"
            taken = subprocess.run(
                [*COMMAND, "gateway", "--store", str(folder), "--listen", ready["url"].removeprefix("http://")],
                capture_output=True,
                text=True,
                check=False,
            )
            assert (taken.returncode, "is taken" in taken.stderr) == (3, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_an_add_that_is_killed_or_interrupted_loses_nothing(tmp_path: Path) -> None:
    folder, source = tmp_path / "data", tmp_path / "source"
    source.mkdir()
    for number in range(60):
        (source / f"{number}.bin").write_bytes(os.urandom(MIB))
    with closing(EmbeddedStore(folder)) as store:
        before = store.add_bytes(b"before")
        store.pin(before)
    words = [*COMMAND, "store", "add", str(source), "--store", str(folder), "--copy", "-o", "json"]
    for number in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        segments, deadline = folder / "segments", time.monotonic() + 30
        while not any(found.stat().st_size > 8 * MIB for found in segments.iterdir()) and time.monotonic() < deadline:
            if process.poll() is not None:
                break
            time.sleep(0.002)
        process.send_signal(number)
        process.communicate()
        assert process.returncode in (-number, 130, 0)
        for found in segments.iterdir():
            os.utime(found, (1, 1))
        with closing(EmbeddedStore(folder)) as store:  # which removes what nobody names
            assert store.read(before) == b"before"
            with closing(sqlite3.connect(folder / "index.sqlite3")) as index:
                for (multihash,) in index.execute("SELECT multihash FROM block").fetchall():
                    store.get(Cid(1, RAW, multihash))  # which checks it
    done = subprocess.run(words, capture_output=True, check=True)
    with closing(EmbeddedStore(folder)) as store:
        root = Cid.parse(json.loads(done.stdout)["cid"])
        assert store.is_complete(root)
        assert root in store.pins()
