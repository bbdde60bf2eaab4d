"""What an index answers, and what is made of a CID that a reader names."""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.retrieval.asking import Market, find_candidates
from quorate.filecoin.retrieval.book import ProvidersBook
from quorate.filecoin.retrieval.discovery import GATEWAY_HTTP, PIECE_HTTP, parse_providers, to_url
from quorate.filecoin.retrieval.wanted import parse_wanted
from quorate.protocol.errors import DataError
from quorate.storage import varint
from quorate.storage.cid import Cid
from quorate.storage.urls import normalize_url

V2 = "bafkzcibcaaces3nobte6ezpp4wqan2age2s5yxcatzotcvobhgcmv5wi2xh5mbi"
V1 = "baga6ea4seaqes3nobte6ezpp4wqan2age2s5yxcatzotcvobhgcmv5wi2xh5mbi"


def metadata(code: int) -> str:
    return base64.b64encode(varint.encode(code) + b"more").decode()


@pytest.mark.parametrize(
    ("multiaddr", "url"),
    [
        ("/dns4/a.example/tcp/443/https", "https://a.example"),
        ("/dns/a.example/tcp/8443/tls/http", "https://a.example:8443"),
        ("/dns6/a.example/tcp/80/http", "http://a.example"),
        ("/ip4/203.0.113.9/tcp/1234/http", "http://203.0.113.9:1234"),
        ("/ip6/2001:db8::1/tcp/80/http", "http://[2001:db8::1]"),
        ("/ip4/203.0.113.9/tcp/4001", None),
        ("/ip4/203.0.113.9/udp/4001/quic-v1", None),
        ("/ip4/999.0.113.9/tcp/80/http", None),
        ("/dns4/a.example@b/tcp/80/http", None),
        ("/dns4/a.example/tcp/0/http", None),
        ("/dns4/a.example/tcp/99999/http", None),
        ("/dns4/a.example/tcp/80/http/p2p/x", None),
        (7, None),
        ("", None),
    ],
)
def test_multiaddrs(multiaddr: object, url: str | None) -> None:
    assert to_url(multiaddr) == url


def test_both_kinds_of_answers_are_read() -> None:
    routing = {
        "Providers": [
            {"Schema": "peer", "Protocols": ["transport-piece-http"], "Addrs": ["/dns4/a.example/tcp/443/https"]},
            {"Schema": "peer", "Protocols": ["transport-bitswap"], "Addrs": ["/dns4/b.example/tcp/443/https"]},
        ]
    }
    find = {
        "MultihashResults": [
            {
                "ProviderResults": [
                    {"Metadata": metadata(PIECE_HTTP), "Provider": {"Addrs": ["/dns4/c.example/tcp/443/https"]}},
                    {"Metadata": metadata(GATEWAY_HTTP), "Provider": {"Addrs": ["/dns4/d.example/tcp/80/http"]}},
                    {"Metadata": "!", "Provider": {"Addrs": ["/dns4/e.example/tcp/80/http"]}},
                ]
            }
        ]
    }
    assert parse_providers(json.dumps(routing).encode(), PIECE_HTTP) == ["https://a.example"]
    assert parse_providers(json.dumps(find).encode(), PIECE_HTTP) == ["https://c.example"]
    assert parse_providers(json.dumps(find).encode(), GATEWAY_HTTP) == ["http://d.example"]


@given(st.binary(max_size=200))
def test_any_answer_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(DataError):
        assert parse_providers(body, PIECE_HTTP) == []


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["Providers", "Addrs", "Protocols", "MultihashResults", "ProviderResults", "Metadata", "Provider"]),
    inner,
)))  # fmt: skip
def test_any_json_is_read_or_refused(value: object) -> None:
    try:
        assert parse_providers(json.dumps(value).encode(), GATEWAY_HTTP) == []
    except DataError:
        assert not isinstance(value, dict)


def test_what_may_be_asked_for() -> None:
    piece = PieceCid.parse(V2)
    assert parse_wanted(V2).piece == piece
    assert parse_wanted(f" {V2} ").path == f"/piece/{V2}"
    assert parse_wanted(V1, piece.padded_bytes).piece == PieceCid.from_v1(V1, piece.padded_bytes)
    root = Cid.of(b"x")
    assert parse_wanted(str(root)).path == f"/ipfs/{root}?format=car"
    with pytest.raises(DataError, match="--padded-bytes"):
        parse_wanted(V1)
    with pytest.raises(DataError, match="no padded size"):
        parse_wanted(V2, 512)
    with pytest.raises(DataError, match="not a CID"):
        parse_wanted("tiles.car")


@pytest.mark.parametrize(
    "url",
    ["http://liar.example/", "HTTP://Liar.Example", "http://liar.example:80", "http://liar.example.", "http://LIAR.example.:80//",
     "http://\uff2c\uff29\uff21\uff32.example"],
)  # fmt: skip
def test_a_ban_holds_however_the_liar_is_spelled(tmp_path: Path, url: str) -> None:
    market = Market(ProvidersBook(tmp_path))
    market.book.ban("http://liar.example", reason="lied")
    good, rejected = find_candidates(market, parse_wanted(V2), [url, "http://liar.example:81"])
    assert [each.url for each in good] == ["http://liar.example:81"]
    assert rejected == [("http://liar.example", "is banned: lied")]


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://2130706433:8080/a/B/", "http://127.0.0.1:8080/a/B"),
        ("http://127.1", "http://127.0.0.1"),
        ("http://0x7f.1:80", "http://127.0.0.1"),
        ("https://[::FFFF:1]:443", "https://[::ffff:1]"),
        ("http://a.example:http", "http://a.example:http"),
        ("http://me@A.example/", "http://me@A.example"),
        ("ftp://A.example/", "ftp://A.example"),
        ("/ip4/1.2.3.4", "/ip4/1.2.3.4"),
    ],
)
def test_urls_have_one_spelling(url: str, normal: str) -> None:
    assert normalize_url(url) == normalize_url(normal) == normal
