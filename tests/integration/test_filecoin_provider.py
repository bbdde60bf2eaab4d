"""The shipped provider, as a process with real files on a real chain: what it gives, takes, refuses and redeems."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import libipld
import pytest
from tests.integration.providing import PRICE, Buyer, Provider, find, run_command, url_of

from quorate.chain.account import SigningAccount
from quorate.devnet.filecoin import FilecoinDevnet
from quorate.filecoin import x402
from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.piecetree import CHUNK_BYTES, ChunkVerifier
from quorate.storage.cid import Cid
from quorate.storage.fetch import fetch_dag
from quorate.storage.memory import MemoryStore

# free data ------------------------------------------------------------------------------------------------------------


def test_free_data_is_an_ipfs_gateways_and_a_piece_gateways(tmp_path: Path, tiles: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with Provider(tmp_path / "home") as provider:
        found = provider.add(tiles)
        provider.add(tmp_path / "empty", 7, is_piece=True)
        provider.start()
        root, piece = Cid.parse(found["root"]), PieceCid.parse(found["piece"])
        with httpx.Client(base_url=provider.url) as client:
            whole = client.get(f"/piece/{piece.v2}")
            assert whole.status_code == 200
            assert whole.content == client.get(f"/ipfs/{root}?format=car").content
            assert whole.headers["content-type"] == "application/vnd.ipld.car; version=1"
            assert whole.headers["etag"] == f'"{piece.v2}"'
            assert "immutable" in whole.headers["cache-control"]
            for name in (piece.v1, libipld.encode_multibase("🚀", piece.v2.to_bytes())):
                assert client.get(f"/piece/{name}").content == whole.content
            head = client.head(f"/piece/{piece.v2}")
            assert (head.status_code, head.headers["content-length"]) == (200, str(piece.size_bytes))
            same = client.get(f"/piece/{piece.v2}", headers={"If-None-Match": whole.headers["etag"]})
            assert (same.status_code, same.content) == (304, b"")
            ChunkVerifier(piece, client.get(f"/piece/{piece.v2}/nodes").content).verify(0, whole.content[:CHUNK_BYTES])
            empty = next(each for each in provider.describe()["datasets"] if each["path"].endswith("empty"))
            assert client.get(f"/piece/{empty['piece']}").content == b""
        store = MemoryStore()
        fetch_dag(store, root, [provider.url])
        assert store.read(store.resolve(root, "two")) == (tiles / "two").read_bytes()
        assert provider.stop() == 0


SPANS = {
    "0-0": (0, 1),
    "5-1000000": (5, 1_000_001),
    f"{CHUNK_BYTES - 1}-{CHUNK_BYTES}": (CHUNK_BYTES - 1, CHUNK_BYTES + 1),
    "2080768-": (2080768, None),
    "-7": (-7, None),
    "1040000-99999999": (1040000, None),
}


def test_curl_gets_ranges(tmp_path: Path, raw: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl on PATH")
    data = raw.read_bytes()
    with Provider(tmp_path / "home") as provider:
        found = provider.add(raw, is_piece=True)
        provider.start()
        for span, (start, end) in SPANS.items():
            command = [curl, "-s", "-S", "--fail", "-i", "-r", span, f"{provider.url}/piece/{found['piece_v1']}"]
            got = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
            head, _, body = got.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 206")
            assert body == data[start:end]
            at = start if start >= 0 else len(data) + start
            assert f"bytes {at}-{at + len(body) - 1}/{len(data)}".encode() in head


def test_what_is_no_piece_or_lies_outside(provider: Provider, tiles: Path) -> None:
    piece = find(provider, tiles / "far")["piece"]
    other = PieceCid(bytes(32), 20, 1000)
    wanted = {
        f"/piece/{other.v2}": 404,
        f"/piece/{other.v1}": 404,
        f"/piece/{other.v2}/nodes": 404,
        "/piece/bafkqaaa": 400,
        "/piece/nothing": 400,
        "/piece/%2e%2e%2f%2e%2e%2fetc%2fpasswd": 404,
        "/piece/..%00": 400,
        "/ipfs/bafkqaaa?format=raw": 404,
        f"/ipfs/{other.v2}?format=raw": 400,
        "/cid/nothing": 400,
        f"/cid/{other.v2}": 404,
        "/multihash/!": 400,
        "/nothing": 404,
    }
    with httpx.Client(base_url=provider.url) as client:
        assert {path: client.get(path).status_code for path in wanted} == wanted
        outside = client.get(f"/piece/{piece}", headers={"Range": "bytes=9999999-"})
        assert outside.status_code == 416
        several = client.get(f"/piece/{piece}", headers={"Range": "bytes=0-1,3-4"})
        assert several.status_code == 200
        assert client.post(f"/piece/{piece}").status_code == 405


def test_an_index_of_what_is_here(provider: Provider, tiles: Path) -> None:
    found = find(provider, tiles)
    leaf = Cid.of((tiles / "far" / "small.txt").read_bytes())
    with httpx.Client(base_url=provider.url) as client:
        for prefix in ("", "/ipni"):
            for cid, metadata in ((found["root"], "oBIA"), (str(leaf), "oBIA"), (found["piece"], "sBIA")):
                (result,) = client.get(f"{prefix}/cid/{cid}").json()["MultihashResults"]
                (entry,) = result["ProviderResults"]
                assert entry["Metadata"] == metadata
                assert entry["Provider"]["Addrs"] == [
                    provider.url.replace("http://", "/ip4/").replace(":", "/tcp/") + "/http"
                ]
        by_hash = client.get(f"/multihash/{Cid.parse(found['root']).multihash.hex()}").json()
        assert by_hash == client.get(f"/cid/{found['root']}").json()
        answer = client.get(f"/routing/v1/providers/{found['root']}", headers={"Accept": "application/x-ndjson"})
        record = json.loads(answer.text)
        assert record["Protocols"] == ["transport-ipfs-gateway-http"]
        assert record["ID"] == entry["Provider"]["ID"]
        assert record["ID"].startswith("12D3KooW")


def test_a_car_stays_where_it_is_and_is_its_own_piece(tmp_path: Path, tiles: Path) -> None:
    with Provider(tmp_path / "home") as provider:
        provider.add(tiles)
        provider.start()
        root = find(provider, tiles)["root"]
        car = tmp_path / "tiles.car"
        car.write_bytes(httpx.get(f"{provider.url}/ipfs/{root}?format=car").content)
        with Provider(tmp_path / "other") as other:
            added = other.add(car, 5)
            assert (added["root"], added["piece"]) == (root, find(provider, tiles)["piece"])
            assert sum(each.stat().st_size for each in (tmp_path / "other" / "store").rglob("*")) < 500_000
            cut = tmp_path / "cut.car"
            cut.write_bytes(car.read_bytes()[:-100])
            done = run_command("add", str(cut), "--home", str(tmp_path / "other"))
            assert (done.returncode, "tail is missing" in done.stderr) == (2, True)


def test_a_file_that_has_changed_is_neither_sent_nor_sold(
    tmp_path: Path, devnet: FilecoinDevnet, key: SigningAccount, buyer: Buyer, raw: Path
) -> None:
    path = tmp_path / "copy"
    path.write_bytes(raw.read_bytes())
    with Provider(tmp_path / "home", devnet.network_file, key) as provider:
        piece = provider.add(path, PRICE, is_piece=True)["piece"]
        url = f"{provider.start().url}/piece/{piece}"
        rail = buyer.open_rail(key, 5000)
        offer = buyer.get_voucher_offer(url)
        path.write_bytes(path.read_bytes()[::-1])
        answer = buyer.get_chunk(url, buyer.sign(offer, rail, 993), 0, offer.size)
        assert (answer.status_code, "has changed" in answer.text) == (503, True)
        assert provider.describe()["rails"] == []


# floods and faults ----------------------------------------------------------------------------------------------------


def read_rss_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", text)
    assert found
    return int(found[1])


def test_a_flood_of_unpaid_requests_leaves_no_trace(
    provider: Provider, buyer: Buyer, key: SigningAccount, raw: Path
) -> None:
    """And readers who pay are served meanwhile."""
    url = url_of(provider, raw)
    offer, rail = buyer.get_voucher_offer(url), buyer.open_rail(key, 5000)
    before, kib = provider.describe(), read_rss_kib(provider.pid)

    def flood(number: int) -> set[int]:
        with httpx.Client(timeout=60) as client:
            one, found = replace(buyer, client=client), set[int]()
            for turn in range(50):
                header = one.sign(offer, 10**12 + 100 * number + turn, 993)  # rails that nobody has opened
                found.add(one.get_chunk(url, header, 0, offer.size).status_code)
                found.add(client.get(url, headers={x402.SIGNATURE: "A" * 40_000}).status_code)
                found.add(client.get(url).status_code)
            return found

    with ThreadPoolExecutor(8) as pool:
        floods = [pool.submit(flood, number) for number in range(8)]
        paid = buyer.get_chunk(url, buyer.sign(offer, rail, 993), 0, offer.size)
        statuses = set().union(*(each.result() for each in floods))
    assert paid.status_code == 206 or paid.status_code == 503
    assert statuses <= {402, 503}
    retried = buyer.get_chunk(url, buyer.sign(offer, rail, 993), 0, offer.size)
    while retried.status_code == 503:
        time.sleep(0.2)
        retried = buyer.get_chunk(url, buyer.sign(offer, rail, 993), 0, offer.size)
    assert retried.status_code == 206
    after = provider.describe()
    assert len(after["rails"]) == len(before["rails"]) + 1
    assert after["single_payments"] == before["single_payments"]
    assert read_rss_kib(provider.pid) - kib < 64 * 1024


def test_without_a_chain_nothing_is_sold_and_free_data_is_given(
    tmp_path: Path, devnet: FilecoinDevnet, key: SigningAccount, buyer: Buyer, raw: Path, tiles: Path
) -> None:
    with Provider(tmp_path / "home") as provider:
        sold, given = provider.add(raw, PRICE, is_piece=True)["piece"], provider.add(tiles)["piece"]
        provider.start()
        answer = buyer.client.get(f"{provider.url}/piece/{sold}")
        assert (answer.status_code, "takes no payments" in answer.text) == (503, True)
        assert buyer.client.head(f"{provider.url}/piece/{given}").status_code == 200
        assert provider.stop() == 0
        assert any("without --network" in line for line in provider.lines)


def test_what_is_denied_is_not_in_a_piece_either(tmp_path: Path, tiles: Path, raw: Path) -> None:
    listed = tmp_path / "deny.txt"
    listed.write_text("")
    with Provider(tmp_path / "home") as provider:
        piece, other = provider.add(tiles)["piece"], provider.add(raw, is_piece=True)["piece"]
        provider.start("--deny", str(listed))
        urls = [f"{provider.url}/piece/{piece}", f"{provider.url}/piece/{piece}/nodes"]
        assert [httpx.get(url).status_code for url in urls] == [200, 200]
        listed.write_text(f"{Cid.of(b'a small tile')}\n")
        assert [httpx.get(url).status_code for url in urls] == [410, 410]
        assert b"a small tile" not in httpx.get(urls[0], headers={"Range": "bytes=0-"}).content
        assert httpx.head(f"{provider.url}/piece/{other}").status_code == 200
        provider.set_price(piece, PRICE)
        assert httpx.get(urls[0]).status_code == 410, "nor is it offered for money"
        listed.write_text("")
        assert httpx.get(urls[1]).status_code == 200


def test_one_provider_a_home(provider: Provider) -> None:
    done = run_command("run", "--home", str(provider.home), "--listen", "127.0.0.1:0")
    assert (done.returncode, "a provider runs in" in done.stderr) == (3, True)
