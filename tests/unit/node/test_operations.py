"""Backup, restore, drain and the systemd unit, without a chain."""

from __future__ import annotations

import io
import json
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.node.test_journal import write as write_journal
from typer.testing import CliRunner

from quorate.chain.account import SigningAccount, load_keystore, save_keystore
from quorate.protocol.errors import DataError, QuorateError, RecoverableError, ValidationError
from quorate_node.backup import restore_backup, write_backup
from quorate_node.cli.main import app
from quorate_node.cli.operations import quote_for_systemd, wait_until_free
from quorate_node.config import NodeConfig, load_config
from quorate_node.journal import Journal

PASSPHRASE = b"of a test"


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    """A node of two operators whose deployment, keystore and passphrase lie elsewhere."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    save_keystore(elsewhere / "key.json", SigningAccount.from_key(bytes(31) + b"\x07"), PASSPHRASE, 2**12)
    (elsewhere / "passphrase").write_bytes(PASSPHRASE)
    (elsewhere / "contracts.json").write_text('{"chain_id": 31337}')
    settings = {
        "rpc_url": "http://127.0.0.1:8545",
        "deployment": str(elsewhere / "contracts.json"),
        "keystore": str(elsewhere / "key.json"),
        "passphrase_file": str(elsewhere / "passphrase"),
        "operators": 2,
        "max_fuel": 10**9,
    }
    (home / "config.json").write_text(json.dumps(settings))
    (home / "deny.txt").write_text("# nothing yet\n")
    write_journal(home / "journal", 5)
    write_journal(home / "journal-1", 2)
    (home / "store").mkdir()
    (home / "store" / "segment").write_bytes(bytes(1000))
    return load_config(home)


def test_a_node_is_the_same_elsewhere(config: NodeConfig, tmp_path: Path) -> None:
    names = write_backup(config, tmp_path / "node.tar")
    assert names == ["config.json", "deny.txt", "deployment.json", "journal", "journal-1", "keystore.json"]
    assert stat.S_IMODE((tmp_path / "node.tar").stat().st_mode) == 0o600
    assert PASSPHRASE not in (tmp_path / "node.tar").read_bytes()
    kept = {name: (config.home / name).read_bytes() for name in ("journal", "journal-1", "deny.txt")}
    shutil.rmtree(config.home)
    shutil.rmtree(tmp_path / "elsewhere")  # another machine has neither
    restored = restore_backup(tmp_path / "node.tar", tmp_path / "deep" / "new")
    assert restored.home == tmp_path / "deep" / "new"
    assert (restored.max_fuel, restored.operators, restored.passphrase_file) == (10**9, 2, None)
    assert restored.deployment.read_text() == '{"chain_id": 31337}'
    assert load_keystore(restored.keystore, PASSPHRASE).key == bytes(31) + b"\x07"
    assert {name: (restored.home / name).read_bytes() for name in kept} == kept
    assert stat.S_IMODE(restored.home.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in restored.home.iterdir()} == {0o600}


def test_a_node_that_runs_is_copied_as_it_was_at_some_moment(config: NodeConfig, tmp_path: Path) -> None:
    journal = Journal(config.journal(0))  # held, as a running node holds it
    try:
        with config.journal(0).open("ab") as file:
            file.write(b"\x00\x00\x01")  # the beginning of a frame that is being written
        write_backup(config, tmp_path / "node.tar")
    finally:
        journal.close()
    restored = restore_backup(tmp_path / "node.tar", tmp_path / "new")
    opened = Journal(restored.journal(0))
    opened.close()
    assert (len(opened.groups), opened.torn_bytes) == (5, 3)


def test_nothing_is_written_over(config: NodeConfig, tmp_path: Path) -> None:
    write_backup(config, tmp_path / "node.tar")
    before = (tmp_path / "node.tar").read_bytes()
    with pytest.raises(ValidationError, match="never written over"):
        write_backup(config, tmp_path / "node.tar")
    assert (tmp_path / "node.tar").read_bytes() == before
    with pytest.raises(ValidationError, match="is not empty"):
        restore_backup(tmp_path / "node.tar", config.home)
    with pytest.raises(ValidationError, match="is not empty"):
        restore_backup(tmp_path / "node.tar", tmp_path / "node.tar")
    with pytest.raises(DataError, match="cannot be written"):
        write_backup(config, tmp_path / "nowhere" / "node.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "home", "node.tar"]


def entry(
    name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data) if kind == tarfile.REGTYPE else 0, kind, target
    return info, data


@pytest.mark.parametrize(
    "added",
    [
        entry("../evil"),
        entry("/tmp/evil"),
        entry("config.json/../../evil"),
        entry("journal", kind=tarfile.SYMTYPE, target="/etc/passwd"),
        entry("journal-2", kind=tarfile.LNKTYPE, target="config.json"),
        entry("journal-3", kind=tarfile.FIFOTYPE),
        entry("store", kind=tarfile.DIRTYPE),
        entry("passphrase"),
        entry("config.json"),
        entry("journal-12345678"),
    ],
    ids=lambda added: f"{added[0].name} {added[0].type.decode()}",
)
def test_an_archive_with_anything_else_leaves_nothing(
    config: NodeConfig, tmp_path: Path, added: tuple[tarfile.TarInfo, bytes]
) -> None:
    write_backup(config, tmp_path / "node.tar")
    with tarfile.open(tmp_path / "node.tar", "a") as archive:
        archive.addfile(added[0], io.BytesIO(added[1]))
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match=r"no plain file of a backup|damaged"):
        restore_backup(tmp_path / "node.tar", tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_backup_is_written_where_nobody_waits_for_it(config: NodeConfig, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".node.tar.part").symlink_to(tmp_path / "precious")
    write_backup(config, tmp_path / "node.tar")
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "node.tar").lstat().st_nlink == 1


def test_an_archive_that_unpacks_to_more_than_it_is_leaves_nothing(config: NodeConfig, tmp_path: Path) -> None:
    write_backup(config, tmp_path / "node.tar")
    hole = tarfile.TarInfo("hole")
    hole.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "journal-7",
        "GNU.sparse.realsize": str(64 << 20),
    }
    where = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
    hole.size = len(where)
    with tarfile.open(tmp_path / "node.tar", "a", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(hole, io.BytesIO(where))
    with pytest.raises(DataError, match="'journal-7', which is no plain file"):
        restore_backup(tmp_path / "node.tar", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"1000000000", b"9000000000"),
        lambda data: data.replace(b"quorate-journal-1", b"quorate-journal-2"),
        lambda data: data[: len(data) // 2],
        lambda _: b"",
        lambda _: bytes(4096),
        lambda _: b"no tar" * 999,
    ],
    ids=["settings", "votes", "half", "empty", "zeros", "text"],
)
def test_a_damaged_one_is_refused_whole(config: NodeConfig, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    write_backup(config, tmp_path / "node.tar")
    whole = (tmp_path / "node.tar").read_bytes()
    assert change(whole) != whole
    (tmp_path / "bad.tar").write_bytes(change(whole))
    with pytest.raises(QuorateError, match=r"bad\.tar"):
        restore_backup(tmp_path / "bad.tar", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_commands_do_the_same(config: NodeConfig, tmp_path: Path) -> None:
    run = CliRunner()
    made = run.invoke(app, ["backup", str(tmp_path / "node.tar"), "--home", str(config.home), "-o", "json"])
    assert json.loads(made.stdout)["bytes"] == (tmp_path / "node.tar").stat().st_size
    restored = run.invoke(app, ["restore", str(tmp_path / "node.tar"), "--home", str(tmp_path / "new"), "-o", "json"])
    assert json.loads(restored.stdout)["operators"] == 2
    assert (tmp_path / "new" / "journal").exists()


def print_unit(home: Path) -> str:
    found = CliRunner().invoke(app, ["systemd-unit", "--home", str(home), "--user", "root"])
    assert found.exit_code == 0, found.output
    return found.stdout


def list_complaints(unit: Path, text: str) -> list[str]:
    """What systemd says of a unit."""
    unit.write_text(text)
    checked = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    return [line for line in checked.stderr.splitlines() if unit.name in line]


def change_settings(home: Path, **settings: object) -> None:
    values = json.loads((home / "config.json").read_text())
    (home / "config.json").write_text(json.dumps(values | settings))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd-analyze")
@pytest.mark.parametrize("name", ["plain", "with space", "per%cent", "dol$lar", 'quo"te', "back\\slash"])
def test_the_unit_is_one_that_systemd_takes(config: NodeConfig, tmp_path: Path, name: str) -> None:
    home = config.home.rename(tmp_path / name)
    unit = tmp_path / "quorate-node.service"
    text = print_unit(home)
    assert list_complaints(unit, text) == []
    assert list_complaints(unit, text.replace("UMask=0077", "UMask=of mine")), "a positive control"
    assert list_complaints(unit, text.replace("ReadWritePaths=", "ReadWritePaths=not/absolute ")), "another"


def test_the_unit_has_the_passphrase_loaded_where_no_file_is_named(config: NodeConfig) -> None:
    assert "LoadCredential" not in print_unit(config.home), "its settings name a passphrase file"
    change_settings(config.home, passphrase_file=None)
    assert "QUORATE_PASSPHRASE_FILE=%d/passphrase" in print_unit(config.home)


def test_the_unit_of_a_node_with_containers_keeps_the_hosts_mounts(config: NodeConfig) -> None:
    """A daemon would not see what the node mounts, and no container could write its outputs."""
    private = ("PrivateTmp", "ProtectSystem", "ProtectHome", "ReadWritePaths")
    assert all(each in print_unit(config.home) for each in private)
    change_settings(config.home, profiles=["quorate-docker-1"])
    assert not any(each in print_unit(config.home) for each in private)


def test_a_home_that_no_unit_can_hold_is_refused() -> None:
    with pytest.raises(ValidationError, match="cannot stand in a systemd unit"):
        quote_for_systemd("/srv/a\nExecStart=/bin/evil")


def test_draining_waits_for_all_that_can_be_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("quorate_node.cli.operations.POLL_S", 0.0)
    left = iter([{"tables": tables, "batches": batches} for tables, batches in ((2, 1), (0, 1), (0, 1), (0, 0))])
    wait_until_free(lambda: next(left), None)
    assert next(left, None) is None
    assert capsys.readouterr().err.splitlines() == ["waiting for: tables 2, batches 1", "waiting for: batches 1"]
    with pytest.raises(RecoverableError, match="still waiting after 0 s for: batches 3"):
        wait_until_free(lambda: {"batches": 3}, 0)
