"""`class create | join | ask | leave | list`: what is refused before money moves, what the node is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.node.registry_chain import FEE, UNIT, RegistryChain

from quorate.chain import calls
from quorate.chain.account import SigningAccount
from quorate.protocol.errors import ValidationError
from quorate.protocol.params import ETHER, LOCAL
from quorate.protocol.profiles import Description
from quorate_node.cli import commands
from quorate_node.cli.main import app, report
from quorate_node.config import load_config

IMAGE = f"image=sha256:{'a' * 64}"
DOCKER = "quorate-docker-1"
SETTINGS = {"rpc_url": "http://127.0.0.1:1", "deployment": "d.json", "keystore": "k.json"}


@pytest.fixture
def keys() -> list[SigningAccount]:
    return [SigningAccount.from_key(bytes(31) + bytes((i,))) for i in (1, 2)]


@pytest.fixture
def obstacles() -> dict[str, str]:
    """Profiles that this host cannot run, and why."""
    return {}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(SETTINGS))
    return tmp_path


@pytest.fixture
def chain(
    monkeypatch: pytest.MonkeyPatch, keys: list[SigningAccount], home: Path, obstacles: dict[str, str]
) -> RegistryChain:
    """A chain, and a home with these keys on a host that runs everything but its obstacles."""
    found = RegistryChain()
    found.balances[keys[0].address] = 100 * ETHER
    monkeypatch.setattr(commands, "_open", lambda home, operators=None: (load_config(home), found))
    monkeypatch.setattr(commands, "_open_owners", lambda home, operators=None: (load_config(home), found, keys))
    monkeypatch.setattr(commands, "open_key", lambda keystore, passphrase: keys[0])
    monkeypatch.setattr(commands, "_read_owners", lambda config: [key.address for key in keys])
    monkeypatch.setattr(commands, "_find_obstacle", lambda config, description: obstacles.get(description.name))
    return found


def _create(home: Path, *words: str, **more: Any) -> dict[str, Any]:
    return commands.create_class(home, words, more.get("unit"), more.get("price", 10**9), more.get("judged"))


def _join(home: Path, class_id: int, *words: str, units: int = 5, ask: int | None = None) -> dict[str, Any]:
    return commands.join_class(home, class_id, words, units, ask, 10**9)


def test_a_class_says_what_it_is_for(chain: RegistryChain, keys: list[SigningAccount], home: Path) -> None:
    made = [_create(home, DOCKER, IMAGE), _create(home, DOCKER), _create(home, "quorate-gpu-1", "gpu=nvidia-l4")]
    assert [each["class"] for each in made] == [2, 3, 4]
    assert [each["judged"] for each in made] == [True, False, False], "as its programs can be"
    assert chain.class_info(2).profile == Description(DOCKER, image=IMAGE[6:]).digest
    assert chain.balance(keys[0].address) == 100 * ETHER - 3 * (LOCAL.class_deposit + FEE)
    assert load_config(home).profiles == (f"{DOCKER} {IMAGE}", DOCKER, "quorate-gpu-1 gpu=nvidia-l4")
    assert load_config(home).classes == (1,), "nobody is in it until they join"


@pytest.mark.parametrize(
    ("words", "wish", "why"),
    [
        (["quorate-docker-2"], {}, "unknown"),
        ([DOCKER, "image=latest"], {}, "by its id"),
        (["quorate-gpu-1", "gpu=voodoo"], {}, "known kinds"),
        ([DOCKER], {"judged": True}, "toss coins"),
        ([DOCKER], {"unit": LOCAL.least_unit_wei - 1}, "--unit"),
        ([DOCKER], {"price": LOCAL.max_price + 1}, "--price"),
    ],
)
def test_what_makes_no_class_moves_no_money(
    chain: RegistryChain, home: Path, words: list[str], wish: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        _create(home, *words, **wish)
    assert (chain.sent, load_config(home).profiles) == ([], ())


def test_a_deposit_that_is_not_there_is_told(chain: RegistryChain, keys: list[SigningAccount], home: Path) -> None:
    chain.balances[keys[0].address] = LOCAL.class_deposit
    with pytest.raises(ValidationError, match=r"locks a deposit of .* send it that and gas first"):
        _create(home, DOCKER)
    assert chain.sent == []


def test_all_of_a_farm_join_and_leave(chain: RegistryChain, keys: list[SigningAccount], home: Path) -> None:
    _create(home, DOCKER, IMAGE)
    (home / "config.json").write_text(json.dumps(SETTINGS))  # as on another host
    for key in keys:
        chain.enroll(key, ETHER)
    with pytest.raises(ValidationError, match=r"not known here.*class join 2 PROFILE"):
        _join(home, 2)
    joined = _join(home, 2, DOCKER, IMAGE)
    assert [each["units"] for each in joined["operators"]] == [5, 5]
    assert [each["ask"] for each in joined["operators"]] == [10**9, 10**9], "the class's price"
    assert sorted(chain.class_members(2)) == [chain.operator_of(key.address) for key in keys]
    assert (load_config(home).classes, load_config(home).profiles) == ((1, 2), (f"{DOCKER} {IMAGE}",))
    with pytest.raises(ValidationError, match="it is in the class"):
        _join(home, 2)
    sent = len(chain.sent)
    for ask in (0, LOCAL.max_price + 1):
        with pytest.raises(ValidationError, match=f"1 to {LOCAL.max_price} wei"):
            commands.set_ask(home, 2, ask)
    with pytest.raises(ValidationError, match=r"not in this class"):
        commands.set_ask(home, 1, 7)
    assert len(chain.sent) == sent
    asked = commands.set_ask(home, 2, 7)
    assert [each["ask"] for each in asked["operators"]] == [7, 7]
    assert {member.ask for member in chain.class_members(2).values()} == {7}
    commands.leave_class(home, 2)
    assert chain.class_members(2) == {}
    config = load_config(home)
    assert (config.classes, config.profiles) == ((1,), (f"{DOCKER} {IMAGE}",)), "the present table still draws them"


@pytest.mark.parametrize(
    ("class_id", "words", "more", "why"),
    [
        (5, [], {}, "there is no class 5"),
        (2, [DOCKER], {}, "class 2 is not for quorate-docker-1"),
        (2, [DOCKER, f"image=sha256:{'b' * 64}"], {}, "class 2 is not for"),
        (2, [], {"ask": LOCAL.max_price + 1}, "--ask"),
        (2, [], {"units": 1000}, "stake more"),
        (3, [], {}, "which this host cannot run: no daemon"),
        (4, [], {}, "judged, and for quorate-docker-1"),
    ],
)
def test_what_cannot_be_joined_changes_nothing(
    chain: RegistryChain, keys: list[SigningAccount], home: Path, obstacles: dict[str, str],
    class_id: int, words: list[str], more: dict[str, Any], why: str,
) -> None:  # fmt: skip
    del keys[1:]
    _create(home, DOCKER, IMAGE)
    _create(home, "quorate-gpu-1", "gpu=nvidia-l4")
    # A client of its own may create what ours refuses.
    chain.send(keys[0], calls.create_class(Description(DOCKER).digest, UNIT, 10**9, True), value=LOCAL.class_deposit)
    obstacles["quorate-gpu-1"] = "no daemon"
    chain.enroll(keys[0], ETHER)
    before, sent = load_config(home), len(chain.sent)
    with pytest.raises(ValidationError, match=why):
        _join(home, class_id, *words, **more)
    assert (load_config(home), len(chain.sent)) == (before, sent)


def test_a_plain_stake_joins_nothing_that_the_host_cannot_run(
    chain: RegistryChain, keys: list[SigningAccount], home: Path, obstacles: dict[str, str]
) -> None:
    obstacles["quorate-wasm-1"] = "wasmtime is broken"
    with pytest.raises(ValidationError, match="wasmtime is broken"):
        commands.stake(home, ETHER, 1, 5, 10**9, 10**9)
    assert chain.sent == []
    commands.stake(home, ETHER, 1, 0, 10**9, 10**9)  # a stake alone promises nothing


def test_the_list_says_what_keeps_this_host_out(
    chain: RegistryChain, keys: list[SigningAccount], home: Path, obstacles: dict[str, str]
) -> None:
    _create(home, DOCKER, IMAGE)
    (home / "config.json").write_text(json.dumps(SETTINGS))
    _create(home, DOCKER)
    chain.enroll(keys[0], ETHER, 3)
    obstacles[DOCKER] = "no daemon"
    wasm, unknown, plain = commands.list_classes(home)
    assert (wasm["description"], wasm["mine"], wasm["members"], wasm["can_run"]) == ("quorate-wasm-1", 3, 1, True)
    assert (unknown["description"], unknown["can_run"]) == (None, False)
    assert "ask who created it" in unknown["why"]
    assert (plain["description"], plain["judged"], plain["can_run"]) == (DOCKER, False, False)
    assert "no daemon" in plain["why"]


def test_in_text_the_list_cuts_nothing(
    chain: RegistryChain, keys: list[SigningAccount], home: Path, obstacles: dict[str, str], capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Descriptions are copied from there, by those who shall join: on any terminal they are whole, on one line."""
    _create(home, DOCKER, IMAGE)
    obstacles[DOCKER] = "no daemon"
    chain.send(keys[0], calls.create_class(bytes(31) + b"\1", UNIT, 10**9, False), value=LOCAL.class_deposit)
    monkeypatch.setenv("COLUMNS", "60")
    assert report(lambda: app(["class", "list", "--home", str(home)], standalone_mode=False)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"class 2  {DOCKER} {IMAGE}" in lines
    assert [line for line in lines if line.endswith(f"0x{'00' * 31}01")]
    assert [line for line in lines if "class 2 is for" in line and line.endswith("no daemon")]


def test_a_stake_with_units_is_remembered_like_a_join(chain: RegistryChain, home: Path) -> None:
    _create(home, DOCKER, IMAGE)
    commands.stake(home, ETHER, 2, 5, 10**9, 10**9)
    assert load_config(home).classes == (1, 2)
