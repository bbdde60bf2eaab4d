"""`quorate-node filecoin limit` and `receipts`, called in the tests' own process."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from quorate.cli.filecoin.limits import get_path
from quorate.filecoin.ledger import Ledger
from quorate.filecoin.networks import PaymentContracts, Settings
from quorate.filecoin.spending import Currency, Purpose, Target
from quorate.protocol.types import Address
from quorate_node.cli.main import app, report

TOKEN = "0x" + "11" * 20
FIL = Currency(31415926, TOKEN)
SELLER = "https://seller.example"


class Commands:
    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.capsys = home, capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        argv = ["filecoin", *words, "--home", str(self.home), "--output", "json"]
        code = report(lambda: app(argv, standalone_mode=False))
        out, err = self.capsys.readouterr()
        return code, out, err

    def get(self, *words: str) -> dict[str, Any]:
        code, out, err = self.run(*words)
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    def refuse(self, *words: str) -> str:
        code, out, err = self.run(*words)
        assert code != 0
        assert out == ""
        return err


@pytest.fixture
def commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(tmp_path / "home", capsys)


def spend(home: Path, amount: int) -> None:
    with closing(Ledger(get_path(home))) as ledger:
        target = Target(FIL, "0x" + "33" * 20, "0x" + "22" * 20, 7)
        held = ledger.reserve(Purpose("job", "data", SELLER), target, 2 * amount)
        held.authorize(held.entry.base + amount)
        held.charge("piece")


def test_set_show_top_up_and_revoke(commands: Commands) -> None:
    commands.get("limit", "set", "total", "100", "--token", TOKEN.upper().replace("X", "x"))
    commands.get("limit", "set", f"provider={SELLER}", "60")
    spend(commands.home, 20)
    shown = commands.get("limit", "show")
    assert (shown["chain_id"], shown["token"], shown["open"]) == (31415926, TOKEN, 0)
    scopes = {row["scope"]: row for row in shown["scopes"]}
    assert scopes["total"] == {
        "scope": "total", "cap": "100", "reserved": "0", "charged": "20", "used": "20", "remaining": "80",
    }  # fmt: skip
    assert scopes[f"provider {SELLER}"]["remaining"] == "40"
    assert scopes["job job"]["cap"] is None
    raised = commands.get("limit", "top-up", "total", "50")
    assert {row["scope"]: row["cap"] for row in raised["scopes"]}["total"] == "150"
    commands.get("limit", "revoke")
    with closing(Ledger(get_path(commands.home))) as ledger, pytest.raises(Exception, match="cap 0"):
        ledger.reserve(Purpose("job", "data", SELLER), Target(FIL, "0x" + "33" * 20), 1, expires_at=2**40)


def test_text_has_a_line_for_each_scope(commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    commands.get("limit", "set", "total", "100", "--token", TOKEN)
    spend(commands.home, 20)
    assert report(lambda: app(["filecoin", "limit", "show", "--home", str(commands.home)], standalone_mode=False)) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["scope", "cap", "reserved", "charged", "used", "remaining"] in rows
    assert ["total", "100", "0", "20", "20", "80"] in rows
    assert ["job", "job", "-", "0", "20", "20", "-"] in rows


OTHER_TOKEN = "0x" + "12" * 20


@pytest.mark.parametrize(
    "words",
    [("--network", "mainnet"), ("--network", "calibration"), ("--token", OTHER_TOKEN)],
    ids=lambda each: each[1],
)
def test_a_limit_for_another_chain_or_token_is_not_set(commands: Commands, words: tuple[str, ...]) -> None:
    commands.get("limit", "set", "total", "100", "--token", TOKEN)
    assert f"is about token {TOKEN} of chain 31415926" in commands.refuse("limit", "set", "total", "5", *words)
    assert "no network" in commands.refuse("limit", "set", "total", "5", "--network", "moon")
    assert commands.get("limit", "show")["scopes"][0]["cap"] == "100"
    assert commands.get("limit", "set", "total", "7", "--network", "devnet")["scopes"][0]["cap"] == "7"
    assert commands.get("limit", "set", "total", "8", "--token", TOKEN)["scopes"][0]["cap"] == "8"


def test_the_first_limit_is_in_the_token_of_the_network_that_is_set(commands: Commands) -> None:
    contracts = PaymentContracts(31415926, *(Address(bytes.fromhex(TOKEN[2:])) for _ in range(3)))
    get_path(commands.home).parent.mkdir(parents=True)
    Settings("http://127.0.0.1:1", contracts).save(get_path(commands.home).with_name("network.json"))
    assert "is about token" in commands.refuse("limit", "set", "total", "5", "--network", "calibration")
    assert "is about token" in commands.refuse("limit", "set", "total", "5", "--token", OTHER_TOKEN)
    assert not get_path(commands.home).exists()
    assert commands.get("limit", "set", "total", "5")["token"] == TOKEN


def test_receipts_are_numbered(commands: Commands) -> None:
    commands.get("limit", "set", "total", "100", "--token", TOKEN)
    spend(commands.home, 20)
    spend(commands.home, 3)
    rows = commands.get("receipts")["receipts"]
    assert [(row["number"], row["charged"], row["note"]) for row in rows] == [(1, "20", "piece"), (2, "3", "piece")]
    assert [row["number"] for row in commands.get("receipts", "--after", "1")["receipts"]] == [2]


@pytest.mark.parametrize("network", ["calibration", "mainnet"])
def test_public_networks_need_no_token(commands: Commands, network: str) -> None:
    shown = commands.get("limit", "set", "total", str(10**30), "--network", network)
    assert shown["chain_id"] == {"calibration": 314159, "mainnet": 314}[network]
    assert shown["scopes"][0]["cap"] == str(10**30)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("limit", "show"), "limit set"),
        (("receipts",), "limit set"),
        (("limit", "set", "total", "5"), "which token"),
        (("limit", "set", "total", "1.5", "--token", TOKEN), "whole number"),
        (("limit", "set", "total", "9" * 78, "--token", TOKEN), "2^256"),
        (("limit", "set", "year", "5", "--token", TOKEN), "no scope"),
        (("limit", "set", "total", "5", "--token", "0x12"), "40 lower-case"),
        (("limit", "set", "total", "5", "--network", "moon"), "no network"),
        (("limit", "set", "total", "5", "--network", "mainnet", "--token", TOKEN), "no --token"),
    ],
)
def test_what_is_wrong_makes_no_ledger(commands: Commands, words: tuple[str, ...], message: str) -> None:
    assert message in commands.refuse(*words)
    assert not get_path(commands.home).exists()


def test_a_lost_ledger_is_not_made_anew(commands: Commands) -> None:
    commands.get("limit", "set", "total", "100", "--token", TOKEN)
    get_path(commands.home).unlink()
    assert "lost" in commands.refuse("limit", "set", "total", "100", "--token", TOKEN)
    assert "lost" in commands.refuse("limit", "show")
