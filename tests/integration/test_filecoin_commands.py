"""`filecoin quote | retrieve | providers` of both programs: one implementation, two homes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.adversarial.buying import CHUNK, PRICE, make_bytes
from tests.adversarial.lying_seller import Sending
from tests.adversarial.selling import CURRENCY, Item, Seller
from tests.integration.network import call_quorate

from quorate.filecoin.ledger import Ledger
from quorate.storage.embedded import EmbeddedStore
from quorate_node.cli.main import app, report

DATA = make_bytes(CHUNK + 500, 31)
PIECE = "bafkzcibcaaces3nobte6ezpp4wqan2age2s5yxcatzotcvobhgcmv5wi2xh5mbi"


class Tool:
    """One of the programs on a home."""

    def __init__(self, home: Path, call: Callable[[list[str]], tuple[int, str, str]]) -> None:
        self.home, self._call = home, call

    def run(self, *words: object) -> tuple[int, str, str]:
        return self._call(["filecoin", *map(str, words), "--home", str(self.home), "--output", "json"])

    def get(self, *words: object) -> dict[str, Any]:
        code, out, err = self.run(*words)
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    def refuse(self, *words: object) -> str:
        code, out, err = self.run(*words)
        assert code != 0
        assert out == ""
        return err


@pytest.fixture(params=["quorate-node", "quorate"])
def tool(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Tool:
    def call_node(words: list[str]) -> tuple[int, str, str]:
        code = report(lambda: app(words, standalone_mode=False))
        return code, *capsys.readouterr()

    def call_client(words: list[str]) -> tuple[int, str, str]:
        done = call_quorate(*words, home=tmp_path / "elsewhere")
        return done.exit_code, done.stdout, done.stderr

    return Tool(tmp_path / "home", call_node if request.param == "quorate-node" else call_client)


def test_providers_are_named_banned_and_forgiven(tool: Tool) -> None:
    assert tool.get("providers", "list") == {"providers": [], "bans": []}
    payee = "0x" + "AB" * 20
    told = tool.get("providers", "add", "https://a.example/", "--payee", payee.lower())
    assert told["providers"] == [{"url": "https://a.example", "payee": payee.lower()}]
    told = tool.get("providers", "ban", "https://a.example", "--reason", "slow")
    assert [(ban["name"], ban["reason"], ban["until"]) for ban in told["bans"]] == [("https://a.example", "slow", 0)]
    assert tool.get("providers", "unban", "https://a.example/")["bans"] == []
    assert "not banned" in tool.refuse("providers", "unban", "https://a.example")
    assert tool.get("providers", "remove", "https://a.example")["providers"] == []
    for wrong in ("ftp://a.example", "https://u:p@a.example", "a.example", "https://a.example/?x=1"):
        assert "no provider" in tool.refuse("providers", "add", wrong)


def test_free_data_comes_without_wallet_limit_or_chain(tool: Tool, tmp_path: Path) -> None:
    with Seller() as seller:
        piece = str(seller.add_piece(DATA, 0).v2)
        tool.get("providers", "add", seller.url)
        [quote] = tool.get("quote", piece)["quotes"]
        assert quote == {"provider": seller.url, "scheme": "free", "amount": "0", "bytes": len(DATA)}
        assert tool.get("retrieve", piece, "--quote-only")["quotes"] == [quote]
        told = tool.get("retrieve", piece, "-o", tmp_path / "piece")
        assert (told["bytes"], told["paid"], told["receipts"]) == (len(DATA), "0", [])
        assert (tmp_path / "piece").read_bytes() == DATA
        told = tool.get("retrieve", piece)
        with closing(EmbeddedStore(tool.home / "store")) as store:
            assert told["root"] == str(store.add_bytes(DATA).to_v1())
        assert not (tool.home / "filecoin" / "ledger.db").exists()


def test_nobody_to_ask_is_said(tool: Tool) -> None:
    code, out, err = tool.run("quote", PIECE)
    assert (code, json.loads(out)["quotes"]) == (0, [])
    assert "providers add" in err


def test_a_place_that_cannot_be_written_is_named(tool: Tool) -> None:
    """As root every folder can be written, but those of /proc."""
    with Seller() as seller:
        piece = str(seller.add_piece(DATA, 0).v2)
        tool.get("providers", "add", seller.url)
        code, out, err = tool.run("retrieve", piece, "-o", "/proc/none")
        assert (code, out) == (2, "")
        assert "cannot write to /proc/none" in err
        assert "Traceback" not in err


@pytest.mark.parametrize("price", [0, PRICE])
def test_a_piece_by_version_1_has_the_size_that_providers_tell(tool: Tool, tmp_path: Path, price: int) -> None:
    """The padded size of its deal bounds it; how many of the last bytes are padding a provider has to tell."""
    with Seller() as seller, Seller() as liar, Seller() as other:
        piece = seller.add_piece(DATA, price)
        for each in (seller, other):
            each.items[f"/piece/{piece.v1}"] = each.items[f"/piece/{piece.v2}"] = seller.items[f"/piece/{piece.v2}"]
            tool.get("providers", "add", each.url)
        liar.items[f"/piece/{piece.v1}"] = Item.of(DATA[:-9], 0)
        tool.get("providers", "add", liar.url)
        words = (piece.v1, "--padded-bytes", piece.padded_bytes)
        told = tool.get("quote", *words)
        assert told["cid"] == str(piece.v2)
        if price:
            assert all("not free" in each["why"] or "does not have" in each["why"] for each in told["rejected"])
            assert "no wallet with a limit" in tool.refuse("retrieve", *words, "-o", tmp_path / "piece")
        else:
            assert tool.get("retrieve", *words, "-o", tmp_path / "piece")["bytes"] == len(DATA)
            assert (tmp_path / "piece").read_bytes() == DATA
        assert not any(each.is_paid for each in (*seller.asked, *liar.asked, *other.asked))


def test_a_dag_is_written_out(tool: Tool, tmp_path: Path) -> None:
    with Seller() as seller, closing(EmbeddedStore(tmp_path / "donor")) as donor:
        root = donor.add_tree({"a": DATA, "b/c": b"text"})
        seller.add_car(str(root.to_v1()), b"".join(donor.export_car(root)), 0)
        tool.get("providers", "add", seller.url)
        told = tool.get("retrieve", root.to_v1(), "-o", tmp_path / "out")
        assert told["path"] == str(tmp_path / "out")
        assert (tmp_path / "out" / "a").read_bytes() == DATA
        assert (tmp_path / "out" / "b" / "c").read_bytes() == b"text"


def test_paid_data_is_refused_without_a_limit_and_said_so(tool: Tool, tmp_path: Path) -> None:
    with Seller() as seller:
        piece = str(seller.add_piece(DATA, PRICE).v2)
        tool.get("providers", "add", seller.url)
        assert "no wallet with a limit" in tool.refuse("retrieve", piece, "-o", tmp_path / "piece")
        [rejected] = tool.get("quote", piece)["rejected"]
        assert "not free" in rejected["why"]
        tool.get("limit", "set", "total", "100", "--token", CURRENCY.token)
        assert "network" in tool.refuse("retrieve", piece, "-o", tmp_path / "piece")
        assert not any(each.is_paid for each in seller.asked)
        with closing(Ledger(tool.home / "filecoin" / "ledger.db")) as ledger:
            assert not ledger.list_open()


def test_a_liar_is_banned_on_disk_also_where_it_was_not_paid(tool: Tool, tmp_path: Path) -> None:
    with Sending(lambda body: body[::-1]) as seller:
        piece = str(seller.add_piece(DATA, 0).v2)
        seller.items[f"/piece/{piece}"].nodes = bytes(64)
        tool.get("providers", "add", seller.url)
        assert "nodes" in tool.refuse("retrieve", piece, "-o", tmp_path / "piece")
        [ban] = tool.get("providers", "list")["bans"]
        assert ban["name"] == seller.url
        assert "is banned" in tool.refuse("retrieve", piece, "-o", tmp_path / "piece")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("retrieve", "tiles.car"), "not a CID"),
        (("quote", "bafk"), "not a CID"),
        (("retrieve", "baga6ea4seaqes3nobte6ezpp4wqan2age2s5yxcatzotcvobhgcmv5wi2xh5mbi"), "--padded-bytes"),
        (
            ("quote", "bafkzcibcaaces3nobte6ezpp4wqan2age2s5yxcatzotcvobhgcmv5wi2xh5mbi", "--max-per-mib", "1.5"),
            "whole",
        ),
        (("retrieve", "bafkzcibcaaces3nobte6ezpp4wqan2age2s5yxcatzotcvobhgcmv5wi2xh5mbi"), "no provider is known"),
    ],
)
def test_what_cannot_be_asked_for(tool: Tool, words: tuple[str, ...], message: str) -> None:
    assert message in tool.refuse(*words)


def test_both_programs_know_addresses_and_pieces(tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA)

    def call(*words: object) -> dict[str, Any]:
        code, out, err = tool._call(["filecoin", *map(str, words), "--output", "json"])
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    assert call("address", "f410f2oekwcmo2pueydmaq53eic2i62crtbeyuzx2gmy")["ethereum"].startswith("0xd388")
    with Seller() as seller:
        assert call("piece-cid", tmp_path / "data")["v2"] == str(seller.add_piece(DATA, 0).v2)
