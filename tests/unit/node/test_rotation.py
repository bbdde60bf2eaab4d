"""Another signing key: made, given to the operator and used, or nothing of it; what is interrupted goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.node.registry_chain import RegistryChain

from quorate.chain.account import SigningAccount, save_keystore
from quorate.chain.types import to_hex
from quorate.protocol.errors import ChainUnavailable, ConfigurationError, ValidationError
from quorate.protocol.params import ETHER
from quorate_node.cli import commands
from quorate_node.config import load_config
from quorate_node.keystore import open_key

OWNER = SigningAccount.from_key(bytes(31) + b"\x07")
FREE = {"tables that still draw it": 0, "batches that are not final": 0}


class Site:
    """A home whose operator is free, on a chain that is the pure registry."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.home, self.chain, self.left = home, RegistryChain(), dict(FREE)
        save_keystore(home / "keystore.json", OWNER, b"open", 2**12)
        (home / "passphrase").write_text("open\n")
        values = {
            "rpc_url": "http://127.0.0.1:1",
            "deployment": "d.json",
            "keystore": "keystore.json",
            "passphrase_file": "passphrase",
        }
        (home / "config.json").write_text(json.dumps(values | settings))
        self.operator_id = self.chain.enroll(OWNER, ETHER)

    @property
    def signing_key(self) -> bytes:
        return self.chain.operator(self.operator_id).signing_key


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    found = Site(tmp_path)
    monkeypatch.setattr(commands, "_open", lambda home, operators=None: (load_config(home), found.chain))
    monkeypatch.setattr(commands, "count_obligations", lambda home: found.left)
    return found


def test_the_node_gets_a_key_of_its_own_and_the_stake_stays(site: Site) -> None:
    told = commands.rotate_key(site.home, ETHER // 1000)
    config = load_config(site.home)
    key = open_key(config.keystore, config.passphrase_file)
    assert key.address != OWNER.address
    assert site.signing_key == key.address
    assert told["signing_key"] == to_hex(key.address)
    assert site.chain.balance(key.address) == told["funded_wei"] == ETHER // 1000
    assert config.owner == to_hex(OWNER.address)
    assert (site.home / "keystore.json").exists(), "a key is never thrown away"
    site.chain.sent.clear()
    assert commands.unstake(site.home, ETHER, leave=False)["unbonding_wei"] == ETHER, "the owner's key moves the stake"
    again = commands.rotate_key(site.home, 0)
    assert again["signing_key"] not in (told["signing_key"], to_hex(OWNER.address)), "and may give another"
    assert load_config(site.home).keystore == Path(again["keystore"])


def test_the_owners_keystore_is_found_whatever_way_the_home_was_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(site.home.parent)
    commands.rotate_key(Path(site.home.name), 0)
    for home in (Path(site.home.name), site.home):
        assert load_config(home).owner_keystore == site.home / "keystore.json"
    assert commands.unstake(Path(site.home.name), ETHER, leave=False)["unbonding_wei"] == ETHER


@pytest.mark.parametrize("name", FREE)
def test_not_while_the_old_key_may_have_to_sign(site: Site, name: str) -> None:
    site.left[name] = 1
    with pytest.raises(ValidationError, match=f"{name} 1.*drain"):
        commands.rotate_key(site.home, 0)
    assert site.chain.sent == []
    assert site.signing_key == OWNER.address
    assert len(list(site.home.glob("keystore*"))) == 1


def test_a_farms_keys_are_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path, operators=2)
    monkeypatch.setattr(commands, "_open", lambda home, operators=None: (load_config(home), site.chain))
    monkeypatch.setattr(commands, "count_obligations", lambda home: FREE)
    with pytest.raises(ConfigurationError, match="keys of a farm"):
        commands.rotate_key(site.home, 0)
    assert site.chain.sent == []


def test_what_was_interrupted_after_the_transaction_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ChainUnavailable("power is out")

    with monkeypatch.context() as broken:
        broken.setattr("quorate_node.cli.rotation.change_config", fail)
        with pytest.raises(ChainUnavailable):
            commands.rotate_key(site.home, 0)
    given = site.signing_key
    assert given != OWNER.address
    assert load_config(site.home).owner is None
    told = commands.rotate_key(site.home, 0)
    assert told["signing_key"] == to_hex(given), "the same key, with no second transaction"
    assert site.chain.sent == ["setSigningKey"]
    assert open_key(load_config(site.home).keystore, site.home / "passphrase").address == given


def test_a_key_that_is_elsewhere_is_not_replaced(site: Site) -> None:
    commands.rotate_key(site.home, 0)
    for path in site.home.glob("keystore-*.json"):
        path.unlink()
    values = json.loads((site.home / "config.json").read_text())
    (site.home / "config.json").write_text(json.dumps(values | {"keystore": "keystore.json"}))
    with pytest.raises(ConfigurationError, match="whose keystore is not here"):
        commands.rotate_key(site.home, 0)
    assert site.chain.sent == ["setSigningKey"]
