"""The operators of a home: how many is told once and remembered; who they are is known without the key."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from quorate.chain.account import DEVNET_SCRYPT_N
from quorate.chain.types import to_hex
from quorate.protocol.errors import ConfigurationError
from quorate.protocol.params import ETHER
from quorate_node.cli.tables import render_operators
from quorate_node.config import CONFIG_FILE, load_config
from quorate_node.keystore import create_key, derive_keys, read_address, read_addresses


def _write(home: Path, **more: object) -> None:
    values = {"rpc_url": "http://127.0.0.1:1", "deployment": "d.json", "keystore": "k.json", **more}
    (home / CONFIG_FILE).write_text(json.dumps(values))


def test_a_number_of_operators_is_remembered(tmp_path: Path) -> None:
    _write(tmp_path)
    assert load_config(tmp_path).operators == 1
    assert load_config(tmp_path, 20).operators == 20
    assert load_config(tmp_path).operators == 20


@pytest.mark.parametrize(("operators", "owner"), [(0, None), (2, "0x" + "11" * 20)])
def test_a_refused_number_changes_nothing(tmp_path: Path, operators: int, owner: str | None) -> None:
    _write(tmp_path, **({"owner": owner} if owner else {}))
    before = (tmp_path / CONFIG_FILE).read_bytes()
    with pytest.raises(ConfigurationError):
        load_config(tmp_path, operators)
    assert (tmp_path / CONFIG_FILE).read_bytes() == before


def test_addresses_of_a_farm_are_known_without_the_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUORATE_PASSPHRASE", raising=False)
    _write(tmp_path, operators=3)
    config = load_config(tmp_path)
    key = create_key(config.keystore, b"open", DEVNET_SCRYPT_N)
    with pytest.raises(ConfigurationError, match="no passphrase"):
        read_addresses(config)
    keys = derive_keys(key, config)
    assert len({each.address for each in keys}) == 3
    assert read_addresses(config) == [each.address for each in keys]
    assert read_address(config.keystore) == key.address == keys[0].address
    fewer = load_config(tmp_path, 2)
    assert read_addresses(fewer) == [each.address for each in keys[:2]]
    more = load_config(tmp_path, 4)
    for broken in (None, "{", json.dumps(["0x12"] * 4), json.dumps([to_hex(keys[1].address)] * 4)):
        if broken is not None:
            more.addresses.write_text(broken)
        with pytest.raises(ConfigurationError, match="no passphrase"):
            read_addresses(more)
    monkeypatch.setenv("QUORATE_PASSPHRASE", "open")
    assert read_addresses(more)[:3] == [each.address for each in keys]
    monkeypatch.delenv("QUORATE_PASSPHRASE")
    assert len(read_addresses(more)) == 4, "from now on they are noted"


def test_a_lone_operator_notes_nothing(tmp_path: Path) -> None:
    _write(tmp_path)
    config = load_config(tmp_path)
    derive_keys(create_key(config.keystore, b"open", DEVNET_SCRYPT_N), config)
    assert not config.addresses.exists()


def test_the_table_of_a_farm_says_how_each_operator_is() -> None:
    well = {
        "operator_id": 1, "owner": "0xaa", "stake_wei": 2 * ETHER, "allocated_wei": ETHER, "unbonding_wei": 0,
        "release_at": 0, "ejected": False, "failed_seats": 2,
    }  # fmt: skip
    leaving = well | {"operator_id": 2, "unbonding_wei": ETHER // 2, "release_at": 1_600_000_000, "failed_seats": 0}
    jailed = well | {"operator_id": 3, "problem": "in jail: [rejoin]"}
    ejected = jailed | {"operator_id": 4, "ejected": True}
    console = Console(width=200, color_system=None, file=io.StringIO(), record=True)
    console.print(
        render_operators([well, leaving, jailed, ejected, {"operator_id": 0, "owner": "0xbb", "problem": "no"}])
    )
    shown = " ".join(console.export_text().split())
    for words in (
        "1 │ 0xaa │ 2 ether │ 1 ether │ none │ 2 failed seats in this era",
        "0.5 ether, free from 2020-09-13 12:26:40 UTC on │ well",
        "none │ in jail: [rejoin]",
        "none │ ejected: it cannot work again",
        "none │ 0xbb │ 0 wei │ 0 wei │ none │ no",
    ):
        assert words in shown, words
