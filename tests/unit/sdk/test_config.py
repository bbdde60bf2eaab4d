"""Where settings come from, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quorate.chain.account import SigningAccount, save_keystore
from quorate.config import load_config
from quorate.protocol.errors import ConfigurationError, DataError

NAMES = ("HOME", "RPC_URL", "DEPLOYMENT", "KEYSTORE", "PASSPHRASE_FILE", "PASSPHRASE", "COLLATORS", "STORE")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"QUORATE_{name}", raising=False)
    monkeypatch.setenv("QUORATE_HOME", str(tmp_path))


def write(path: Path, **values: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values))


def test_nothing_is_configured(tmp_path: Path) -> None:
    config = load_config()
    assert (config.home, config.store, config.collators) == (tmp_path, tmp_path / "store", ())
    with pytest.raises(ConfigurationError, match="`quorate devnet up`"):
        config.connect()
    with pytest.raises(ConfigurationError, match="QUORATE_KEYSTORE"):
        config.open_account()


def test_argument_before_environment_before_file_before_devnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "devnet" / "config.json", rpc_url="http://devnet", collators=["http://c/"], class_id=2)
    assert load_config().rpc_url == "http://devnet"
    write(tmp_path / "config.json", rpc_url="http://file")
    assert load_config().rpc_url == "http://file"
    monkeypatch.setenv("QUORATE_RPC_URL", "http://environment")
    assert load_config().rpc_url == "http://environment"
    config = load_config(overrides={"rpc_url": "http://argument", "keystore": None})
    assert (config.rpc_url, config.collators, config.class_id) == ("http://argument", ("http://c",), 2)


def test_a_store_is_a_folder_or_a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "config.json", store="content")
    assert load_config().store == tmp_path / "content"
    for address in ("http://127.0.0.1:5001", "/ip4/127.0.0.1/tcp/5001"):
        monkeypatch.setenv("QUORATE_STORE", address)
        assert load_config().store == address
        assert load_config(overrides={"store": tmp_path / "named"}).store == tmp_path / "named"


def test_another_key_does_not_take_the_devnets_passphrase(tmp_path: Path) -> None:
    write(tmp_path / "devnet" / "config.json", keystore="/a", passphrase_file="/b")
    assert load_config().passphrase_file == Path("/b")
    assert load_config(overrides={"keystore": Path("/c")}).passphrase_file is None


def test_a_key_opens_by_file_or_environment_but_never_waits_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = SigningAccount.create()
    here = tmp_path / "here"  # where the command runs: what the environment names is relative to that, not to its home
    here.mkdir()
    monkeypatch.chdir(here)
    save_keystore(here / "key.json", key, b"open sesame", 2)
    monkeypatch.setenv("QUORATE_KEYSTORE", "key.json")
    with pytest.raises(ConfigurationError, match="no passphrase"):
        load_config().open_account()
    monkeypatch.setenv("QUORATE_PASSPHRASE", "wrong")
    with pytest.raises(DataError, match="does not open"):
        load_config().open_account()
    (here / "word").write_text("open sesame\nsecond line")
    monkeypatch.setenv("QUORATE_PASSPHRASE_FILE", "word")
    assert load_config().open_account() == key


def test_a_passphrase_that_the_user_names_stays_with_the_key_that_the_user_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The devnet's passphrase file opens the devnet's keystore, and no other."""
    devnet, mine = SigningAccount.create(), SigningAccount.create()
    save_keystore(tmp_path / "devnet" / "key.json", devnet, b"of the devnet", 2)
    save_keystore(tmp_path / "mine.json", mine, b"of mine", 2)
    (tmp_path / "devnet" / "word").write_text("of the devnet\n")
    (tmp_path / "word").write_text("of mine\n")
    write(tmp_path / "devnet" / "config.json", keystore="devnet/key.json", passphrase_file="devnet/word")
    option = {"keystore": tmp_path / "mine.json"}
    assert load_config().open_account() == devnet
    monkeypatch.setenv("QUORATE_PASSPHRASE_FILE", str(tmp_path / "word"))
    assert load_config(overrides=option).open_account() == mine
    monkeypatch.delenv("QUORATE_PASSPHRASE_FILE")
    monkeypatch.setenv("QUORATE_PASSPHRASE", "of mine")
    assert load_config(overrides=option).open_account() == mine
    with pytest.raises(DataError, match="does not open"):
        load_config().open_account()  # named, so it is what counts
    monkeypatch.setenv("QUORATE_KEYSTORE", str(tmp_path / "mine.json"))
    assert load_config().open_account() == mine
    monkeypatch.delenv("QUORATE_PASSPHRASE")
    with pytest.raises(ConfigurationError, match="no passphrase"):
        load_config().open_account()
    monkeypatch.delenv("QUORATE_KEYSTORE")
    write(tmp_path / "config.json", keystore="mine.json", passphrase_file="word")
    assert load_config().open_account() == mine
    write(tmp_path / "config.json", keystore="mine.json")
    assert load_config().passphrase_file is None


def test_a_keystore_that_is_not_there_is_named_before_a_passphrase_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: pytest.fail("it was asked for"))
    with pytest.raises(ConfigurationError, match=r"cannot read the keystore .*gone\.json"):
        load_config(overrides={"keystore": tmp_path / "gone.json"}).open_account()


@pytest.mark.parametrize("content", ["{", "[]", '{"collators": "http://x"}', '{"collators": ["x"]}'])
def test_broken_files_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigurationError):
        load_config()


def test_environment_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUORATE_COLLATORS", "http://a/, https://b")
    assert load_config().collators == ("http://a", "https://b")


@pytest.mark.parametrize("content", [None, "{}", '{"chain_id": 1, "registry": "0x12"}', "nonsense"])
def test_a_deployment_file_that_is_missing_or_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setenv("QUORATE_RPC_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("QUORATE_DEPLOYMENT", "deployment.json")
    if content is not None:
        (tmp_path / "deployment.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"deployment"):
        load_config().connect()
