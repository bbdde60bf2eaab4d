"""What pays, on a real chain: a wallet's rails, opened when they are needed and only as far as there is money."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from quorate.chain.account import DEVNET_SCRYPT_N, SigningAccount, save_keystore
from quorate.chain.types import to_hex
from quorate.devnet.filecoin import FilecoinDevnet
from quorate.filecoin import rails, wallet
from quorate.filecoin.ledger import Ledger
from quorate.filecoin.networks import Settings
from quorate.filecoin.retrieval.chainrails import ChainRails
from quorate.filecoin.retrieval.opening import LEDGER, NETWORK, open_reader
from quorate.filecoin.retrieval.options import ReaderOptions
from quorate.filecoin.retrieval.paying import Purse, TooLittleMoney
from quorate.filecoin.spending import PaidMoreThanSigned, Purpose, Scope, ScopeKind, Target
from quorate.protocol.errors import ChainUnavailable, ConfigurationError

pytestmark = pytest.mark.anvil
PAYEE = "0x" + "77" * 20
OTHER = "0x" + "78" * 20
KEY = SigningAccount.from_key(b"\x09" * 32)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilecoinDevnet]:
    with FilecoinDevnet(tmp_path_factory.mktemp("filecoin"), block_time_s=0.1) as devnet:
        devnet.endow(KEY.address, 10_000)
        with closing(devnet.connect()) as pay:
            rails.fund(pay, KEY, 1_000)
            rails.allow(pay, KEY, 5_000)
        yield devnet


@pytest.fixture
def folder(chain: FilecoinDevnet, tmp_path: Path) -> Path:
    """HOME/filecoin with a wallet and a limit."""
    (tmp_path / "secret").write_text("pass\n")
    save_keystore(tmp_path / "key.json", KEY, b"pass", DEVNET_SCRYPT_N)
    (tmp_path / "key.json").chmod(0o600)
    home = tmp_path / "filecoin"
    wallet.attach(home, tmp_path / "key.json", lambda _: b"pass", passphrase_file=tmp_path / "secret")
    Ledger.create(home / LEDGER, chain.contracts.currency)
    with closing(Ledger(home / LEDGER)) as ledger:
        ledger.set_cap(Scope(ScopeKind.TOTAL), 10_000)
    chain.settings.save(home / NETWORK)
    return home


def open_purse(folder: Path, **options: int) -> Purse:
    reader = open_reader(folder, ReaderOptions(**options), lambda file: file.read_bytes().strip() if file else b"")
    assert reader.open_purse is not None
    purse = reader.open_purse()
    assert reader.open_purse() is purse, "a wallet is opened once"
    return purse


def test_a_rail_is_used_up_before_another_is_opened(chain: FilecoinDevnet, folder: Path) -> None:
    purse = open_purse(folder, least_lockup=300)
    currency, operator = chain.contracts.currency, to_hex(chain.contracts.operator)
    first = purse.rails.choose(PAYEE, 100, set())
    assert purse.rails.choose(PAYEE, 300, set()) == first, "it has locked more than was needed"
    with closing(chain.connect()) as pay:
        assert pay.rail(first).locked == 300
    held = purse.ledger.reserve(Purpose("job", "data", "p"), Target(currency, PAYEE, operator, first), 250)
    held.authorize(held.entry.base + 250)
    held.charge()
    assert purse.rails.choose(PAYEE, 50, set()) == first
    second = purse.rails.choose(PAYEE, 51, set())
    assert second != first, "what was signed for is spent, redeemed or not"
    assert purse.rails.choose(PAYEE, 50, {first}) == second
    assert purse.rails.choose(OTHER, 10, set()) not in (first, second)
    with pytest.raises(TooLittleMoney, match="not locked"):
        purse.rails.choose(PAYEE, 2_000, set())
    with closing(chain.connect()) as pay:
        rails.close_rail(pay, KEY, second)
        assert purse.rails.choose(PAYEE, 50, {first}) != second, "a closed rail is not promised anything"


def test_a_wallet_without_allowance_opens_no_rail(chain: FilecoinDevnet, folder: Path) -> None:
    purse = open_purse(folder)
    with closing(chain.connect()) as pay:
        before = pay.list_rails(KEY.address)
        rails.allow(pay, KEY, 0)
        with pytest.raises(TooLittleMoney, match="allowance"):
            purse.rails.choose(OTHER, 900, set())
        assert pay.list_rails(KEY.address) == before
        rails.allow(pay, KEY, 5_000)


def test_what_is_wrong_with_a_folder_is_told_before_anything_is_signed(chain: FilecoinDevnet, folder: Path) -> None:
    assert open_reader(folder.parent / "none", ReaderOptions(), lambda _: b"").buyer is None, "free data needs nothing"
    open_wrongly = open_reader(folder, ReaderOptions(), lambda _: b"wrong").open_purse
    assert open_wrongly is not None
    with pytest.raises(ConfigurationError, match="passphrase"):
        open_wrongly()
    Settings("http://127.0.0.1:1", chain.contracts).save(folder / NETWORK)
    with pytest.raises(ChainUnavailable):
        open_purse(folder)
    Settings(chain.rpc.url, replace(chain.contracts, token=bytes(20))).save(folder / NETWORK)
    with pytest.raises(ConfigurationError, match="another"):
        open_purse(folder)
    (folder / NETWORK).unlink()
    with pytest.raises(ConfigurationError, match="network"):
        open_purse(folder)


def test_rails_of_others_are_not_taken(chain: FilecoinDevnet, folder: Path) -> None:
    stranger = SigningAccount.create()
    chain.endow(stranger.address, 100)
    with closing(chain.connect()) as pay, closing(Ledger(folder / LEDGER)) as ledger:
        rails.fund(pay, stranger, 100)
        rails.allow(pay, stranger, 100)
        theirs = rails.open_rail(pay, stranger, bytes.fromhex(PAYEE[2:]), 100)
        assert ChainRails(pay, KEY, ledger).choose(PAYEE, 10, set()) != theirs


def test_an_older_copy_of_the_ledger_pays_nothing(chain: FilecoinDevnet, folder: Path, tmp_path: Path) -> None:
    """Which would take what was spent since for unspent. Of a rail that a ledger does not know nothing is promised."""
    purse, payee = open_purse(folder), SigningAccount.create()
    place = to_hex(payee.address)
    with closing(chain.connect()) as pay:
        rails.fund(pay, KEY, 500)
    rail = purse.rails.choose(place, 100, set())
    target = Target(chain.contracts.currency, place, to_hex(chain.contracts.operator), rail)
    purpose = Purpose("job", "data", "p")
    first = purse.ledger.reserve(purpose, target, 1)
    first.authorize(1)
    first.charge()
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(folder / LEDGER)) as there, closing(sqlite3.connect(copy)) as here:
        there.backup(here)
    held = purse.ledger.reserve(purpose, target, 60)
    signed = purse.signer.sign_voucher(held.authorize(held.entry.base + 60), bytes(32))
    with closing(chain.connect()) as pay:
        rails.redeem(pay, KEY, signed)
        assert purse.rails.choose(place, 39, set()) == rail, "it was signed, if not charged yet"
        held.charge()
        assert purse.rails.choose(place, 39, set()) == rail
        with closing(Ledger(copy)) as older, pytest.raises(PaidMoreThanSigned, match="paid 61, and 1 was signed"):
            ChainRails(pay, KEY, older).choose(place, 39, set())
        assert pay.list_rails(KEY.address)[-1] == rail, "and no other rail was opened"
        Ledger.create(tmp_path / "new.db", chain.contracts.currency)
        with closing(Ledger(tmp_path / "new.db")) as new:
            assert ChainRails(pay, KEY, new).choose(place, 10, set()) != rail
