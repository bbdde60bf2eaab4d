"""The ledger on disk: what survives, what is refused, and that nothing is signed where it cannot be noted."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from quorate.filecoin import ledger as ledger_module
from quorate.filecoin.ledger import (
    Authorization,
    Ledger,
    LedgerBusy,
    LedgerDamaged,
    LedgerFull,
    LedgerLost,
    Reservation,
)
from quorate.filecoin.spending import (
    Currency,
    Proof,
    ProofRefused,
    Purpose,
    RailBusy,
    ReservationEnded,
    ReservationExceeded,
    Scope,
    ScopeKind,
    SpendingLimitExceeded,
    State,
    Target,
    Usage,
    parse_amount,
)
from quorate.protocol.errors import ConfigurationError, UnrecoverableError, ValidationError

FIL = Currency(31415926, "0x" + "11" * 20)
PAYEE, OPERATOR = "0x" + "33" * 20, "0x" + "22" * 20
RAIL = Target(FIL, PAYEE, OPERATOR, 7)
ONCE = Target(FIL, PAYEE)
PURPOSE = Purpose("job", "dataset", "f01234")
TOTAL = Scope(ScopeKind.TOTAL)
NOON = 1_800_000_000
ETHER = 10**18


class Clock:
    def __init__(self) -> None:
        self.now = float(NOON)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "wallet" / "ledger.db"
    Ledger.create(found, FIL)
    with closing(Ledger(found)) as made:
        made.set_cap(TOTAL, 1000)
    return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(path: Path, clock: Clock) -> Iterator[Ledger]:
    with closing(Ledger(path, clock=clock, busy_s=0.1)) as opened:
        yield opened


def used(ledger: Ledger, scope: Scope = TOTAL) -> Usage:
    return ledger.list_usage().get(scope, Usage())


class TestScopes:
    @pytest.mark.parametrize(
        ("scope", "shown"),
        [
            (Scope(ScopeKind.TOTAL), "total"),
            (Scope(ScopeKind.DAY), "day 2027-01-15"),
            (Scope(ScopeKind.JOB), "job job"),
            (Scope(ScopeKind.DATASET, "dataset"), "dataset dataset"),
            (Scope(ScopeKind.PROVIDER), "provider f01234"),
        ],
    )
    def test_each_scope_refuses_with_its_figures(self, ledger: Ledger, scope: Scope, shown: str) -> None:
        ledger.set_cap(scope, 100)
        ledger.reserve(PURPOSE, RAIL, 60)
        with pytest.raises(SpendingLimitExceeded) as refusal:
            ledger.reserve(PURPOSE, ONCE, 41, expires_at=NOON + 60)
        found = refusal.value
        assert (str(found.scope), found.cap, found.used, found.requested) == (shown, 100, 60, 41)
        assert "limit set" in found.hint
        assert "limit set" in str(found)
        assert used(ledger) == Usage(reserved=60)
        ledger.reserve(PURPOSE, ONCE, 40, expires_at=NOON + 60)
        assert used(ledger) == Usage(reserved=100)

    def test_a_day_is_over_at_midnight_utc(self, ledger: Ledger, clock: Clock) -> None:
        ledger.set_cap(Scope(ScopeKind.DAY), 100)
        clock.now = 1_800_057_599  # 23:59:59
        ledger.reserve(PURPOSE, ONCE, 100, expires_at=1_800_060_000)
        with pytest.raises(SpendingLimitExceeded, match="day 2027-01-15"):
            ledger.reserve(PURPOSE, RAIL, 1)
        clock.now += 1
        ledger.reserve(PURPOSE, RAIL, 100)

    def test_a_name_of_its_own_comes_before_that_of_its_kind(self, ledger: Ledger) -> None:
        ledger.set_cap(Scope(ScopeKind.JOB), 10)
        ledger.set_cap(Scope(ScopeKind.JOB, "job"), 500)
        ledger.reserve(PURPOSE, RAIL, 500)
        with pytest.raises(SpendingLimitExceeded, match="job other"):
            ledger.reserve(Purpose("other", "dataset", "f01234"), ONCE, 11, expires_at=NOON + 60)

    def test_without_a_total_nothing_may_be_spent(self, tmp_path: Path, clock: Clock) -> None:
        Ledger.create(tmp_path / "new.db", FIL)
        with closing(Ledger(tmp_path / "new.db", clock=clock)) as fresh:
            fresh.set_cap(Scope(ScopeKind.JOB), 10)
            with pytest.raises(SpendingLimitExceeded, match="limit set total"):
                fresh.reserve(PURPOSE, RAIL, 1)

    def test_amounts_have_256_bits(self, ledger: Ledger) -> None:
        ledger.set_cap(TOTAL, 2**256 - 1)
        ledger.reserve(PURPOSE, RAIL, 10**30 * ETHER).authorize()
        assert used(ledger).used == 10**48
        with pytest.raises(SpendingLimitExceeded):
            ledger.reserve(PURPOSE, ONCE, 2**256 - 1, expires_at=NOON + 60)


class TestBadInput:
    @pytest.mark.parametrize("amount", [0, -1, 2**256, 1.5, True, "5", None])
    def test_amounts_that_are_none_reserve_nothing(self, ledger: Ledger, amount: int) -> None:
        with pytest.raises(ValidationError, match="amount"):
            ledger.reserve(PURPOSE, RAIL, amount)
        assert ledger.list_open() == []

    @pytest.mark.parametrize("text", ["-1", "1.5", "1e3", "0x10", " 1", "1_000", "", "٣", "9" * 79, str(2**256)])
    def test_texts_that_are_no_amount(self, text: str) -> None:
        with pytest.raises(ValidationError):
            parse_amount("cap", text)

    @pytest.mark.parametrize(
        "other",
        [Currency(1, FIL.token), Currency(FIL.chain_id, "0x" + "12" * 20)],
        ids=["chain", "asset"],
    )
    def test_another_chain_or_asset_is_refused(self, ledger: Ledger, other: Currency) -> None:
        with pytest.raises(ConfigurationError, match="refused to pay"):
            ledger.reserve(PURPOSE, Target(other, PAYEE, OPERATOR, 7), 1)
        assert ledger.list_open() == []

    @pytest.mark.parametrize("payee", ["", "0x12", "0x" + "AB" * 20, "f01234"])
    def test_a_payee_is_an_address(self, payee: str) -> None:
        with pytest.raises(ValidationError, match="payee"):
            Target(FIL, payee)

    @pytest.mark.parametrize(
        "text", ["year", "total=x", "day=2026-02-30", "day=tomorrow", "job=", "job=\n", "job=" + "x" * 257]
    )
    def test_scopes_that_are_none(self, text: str) -> None:
        with pytest.raises(ValidationError):
            Scope.parse(text)

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("provider=HTTPS://Seller.Example:443/", "https://seller.example"),
            ("provider=http://[2001:DB8:0::1]:80", "http://[2001:db8::1]"),
            ("job=0x" + "AB" * 32, "ab" * 32),
            ("job=By-Hand", "By-Hand"),
            ("dataset=QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
             "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
            ("dataset=BAFYBEIHDWDCEFGH4DQKJV67UZCMW7OJEE6XEDZDETOJUZJEVTENXQUVYKU",
             "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        ],
    )  # fmt: skip
    def test_a_limit_holds_however_its_name_is_spelled(self, ledger: Ledger, text: str, name: str) -> None:
        scope = Scope.parse(text)
        assert scope.name == name
        ledger.set_cap(scope, 10)
        names = {"job": "job", "dataset": "dataset", "provider": "provider"} | {str(scope.kind): name}
        with pytest.raises(SpendingLimitExceeded, match="cap 10"):
            ledger.reserve(Purpose(**names), RAIL, 11)

    @pytest.mark.parametrize(
        "text", ["provider=f01234", "provider=ftp://a.example", "provider=http://a.example?b", "dataset=tiles",
                 "dataset=baga6ea4seaqes3nobte6ezpp4wqan2age2s5yxcatzotcvobhgcmv5wi2xh5mbi"],
    )  # fmt: skip
    def test_a_name_under_which_nothing_is_ever_paid_is_refused(self, text: str) -> None:
        with pytest.raises(ValidationError, match="give "):
            Scope.parse(text)

    def test_a_payment_needs_an_expiry_and_a_voucher_none(self, ledger: Ledger) -> None:
        for target, expires_at in ((ONCE, 0), (RAIL, NOON + 60)):
            with pytest.raises(ValidationError, match="expires"):
                ledger.reserve(PURPOSE, target, 1, expires_at=expires_at)
        with pytest.raises(ReservationEnded, match="expired"):
            ledger.reserve(PURPOSE, ONCE, 1, expires_at=NOON)
        assert ledger.list_open() == []


class TestSigning:
    def test_vouchers_go_up_to_the_amount_and_the_next_one_begins_there(self, ledger: Ledger) -> None:
        held = ledger.reserve(PURPOSE, RAIL, 100)
        assert [held.authorize(up_to).up_to for up_to in (10, 20, 70)] == [10, 20, 70]
        with pytest.raises(ReservationExceeded):
            held.authorize(101)
        receipt = held.charge("three chunks")
        assert (receipt.entry.charged, receipt.note, receipt.entry.state) == (70, "three chunks", State.CHARGED)
        assert used(ledger) == Usage(charged=70)
        following = ledger.reserve(PURPOSE, RAIL, 5)
        assert following.entry.base == 70
        with pytest.raises(ReservationExceeded):
            following.authorize(70)
        assert following.authorize().up_to == 75

    def test_a_single_payment_is_signed_in_full_and_never_after_its_expiry(self, ledger: Ledger, clock: Clock) -> None:
        held = ledger.reserve(PURPOSE, ONCE, 100, expires_at=NOON + 60)
        with pytest.raises(ReservationExceeded, match="in full"):
            held.authorize(99)
        assert held.authorize().expires_at == NOON + 60
        clock.now = NOON + 60
        with pytest.raises(ReservationEnded, match="expired"):
            held.authorize()

    def test_a_rail_has_one_open_reservation(self, ledger: Ledger) -> None:
        held = ledger.reserve(PURPOSE, RAIL, 10)
        with pytest.raises(RailBusy, match=held.entry.id):
            ledger.reserve(PURPOSE, RAIL, 10)

    def test_after_its_end_nothing_is_signed(self, ledger: Ledger) -> None:
        held = ledger.reserve(PURPOSE, RAIL, 10)
        held.authorize(4)
        held.charge()
        for action in (held.authorize, held.charge, held.release):
            with pytest.raises(ReservationEnded):
                action()
        assert used(ledger) == Usage(charged=4)

    def test_a_context_frees_what_was_never_signed_only(self, ledger: Ledger) -> None:
        with ledger.reserve(PURPOSE, RAIL, 10):
            pass
        assert used(ledger) == Usage()
        with ledger.reserve(PURPOSE, RAIL, 10) as held:
            held.authorize(3)
        assert used(ledger) == Usage(reserved=10)

    def test_a_limit_lowered_or_revoked_stops_the_next_signature(self, ledger: Ledger, path: Path) -> None:
        held = ledger.reserve(PURPOSE, RAIL, 100)
        held.authorize(10)
        with closing(Ledger(path)) as other:
            other.revoke()
        with pytest.raises(SpendingLimitExceeded) as refusal:
            held.authorize(20)
        assert (refusal.value.cap, refusal.value.used) == (0, 100)
        assert held.charge().entry.charged == 10

    def test_what_was_noted_ahead_is_not_signed_behind_its_charge(self, ledger: Ledger) -> None:
        held = ledger.reserve(PURPOSE, RAIL, 100, ahead=15)
        held.authorize(10)
        assert held.charge().entry.charged == 10
        for up_to in (10, 11, 25):
            with pytest.raises(ReservationEnded):
                held.authorize(up_to)

    def test_a_fork_signs_nothing_of_what_was_noted_ahead(self, ledger: Ledger) -> None:
        held = ledger.reserve(PURPOSE, RAIL, 100, ahead=50)
        held.authorize(10)
        if (child := os.fork()) == 0:
            try:
                held.authorize(40)
            except UnrecoverableError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert held.authorize(40).up_to == 40

    def test_noting_ahead_writes_less_and_never_too_little(self, ledger: Ledger) -> None:
        held = ledger.reserve(PURPOSE, RAIL, 100, ahead=15)
        held.authorize(10)
        assert ledger.get_entry(held.entry.id).signed == 25
        ledger.revoke()
        held.authorize(25)  # was noted before
        with pytest.raises(SpendingLimitExceeded):
            held.authorize(26)
        assert held.charge().entry.charged == 25

    def test_an_authorization_is_made_by_nobody_else(self, ledger: Ledger) -> None:
        held = ledger.reserve(PURPOSE, RAIL, 10)
        leave = held.authorize(3)
        for forge in (
            lambda: Authorization(object(), held.entry, 10),
            lambda: Reservation(None, ledger, held.entry, 0),
            lambda: copy.copy(leave),
            lambda: pickle.dumps(leave),
            lambda: copy.deepcopy(held),
        ):
            with pytest.raises(TypeError):
                forge()
        with pytest.raises(AttributeError, match="cannot be changed"):
            leave.up_to = 10
        assert leave.up_to == 3


class TestOrphans:
    def test_it_counts_until_it_is_taken_over(self, path: Path) -> None:
        with closing(Ledger(path)) as dying:
            first = dying.reserve(PURPOSE, RAIL, 100)
            first.authorize(30)
            with closing(Ledger(path)) as other:
                assert used(other) == Usage(reserved=100)
                (orphan,) = other.list_open()
                second = other.resume(orphan.id)
                assert second.signed == 30
                with pytest.raises(ReservationEnded, match="taken over"):
                    first.authorize(40)
                with pytest.raises(ReservationEnded, match="taken over"):
                    first.charge()
                second.authorize(30)  # the same voucher again: nothing more
                assert second.charge().entry.charged == 30
                assert used(other) == Usage(charged=30)

    def test_what_was_signed_is_freed_by_the_chain_alone(self, ledger: Ledger, clock: Clock) -> None:
        held = ledger.reserve(PURPOSE, ONCE, 100, expires_at=NOON + 60)
        held.authorize()
        name = held.entry.id
        clock.now = NOON + 10_000
        with pytest.raises(ProofRefused, match="only the chain"):
            ledger.release(name)
        with pytest.raises(ProofRefused, match="until"):
            ledger.prove(name, Proof(0, NOON + 59, "nonce unused"))
        assert used(ledger) == Usage(reserved=100)
        assert ledger.prove(name, Proof(0, NOON + 60, "nonce unused")).state is State.RELEASED
        assert used(ledger) == Usage()

    def test_a_used_payment_is_charged(self, ledger: Ledger) -> None:
        held = ledger.reserve(PURPOSE, ONCE, 100, expires_at=NOON + 60)
        held.authorize()
        with pytest.raises(ProofRefused, match="in full"):
            ledger.prove(held.entry.id, Proof(50, NOON, "?"))
        assert ledger.prove(held.entry.id, Proof(100, NOON, "nonce used")).charged == 100
        assert used(ledger) == Usage(charged=100)

    def test_a_rail_has_to_end_before_its_rest_is_free(self, ledger: Ledger) -> None:
        held = ledger.reserve(PURPOSE, RAIL, 100)
        held.authorize(60)
        with pytest.raises(ProofRefused, match="terminate"):
            ledger.prove(held.entry.id, Proof(40, NOON, "redeemed 40"))
        ledger.prove(held.entry.id, Proof(40, NOON, "rail finalized", is_final=True))
        assert used(ledger) == Usage(charged=40)
        with pytest.raises(ReservationEnded, match="terminated"):
            ledger.reserve(PURPOSE, RAIL, 1)

    def test_a_chain_that_paid_more_stops_everything(self, ledger: Ledger) -> None:
        held = ledger.reserve(PURPOSE, RAIL, 100)
        held.authorize(60)
        with pytest.raises(UnrecoverableError, match="used elsewhere"):
            ledger.prove(held.entry.id, Proof(61, NOON, "?", is_final=True))
        assert used(ledger) == Usage(reserved=100)


class TestClosed:
    """A ledger that cannot be relied on lets nothing be signed."""

    def test_lost(self, path: Path) -> None:
        shutil.move(path, path.with_name("elsewhere"))
        with pytest.raises(LedgerLost, match="restore"):
            Ledger(path)
        with pytest.raises(LedgerLost, match="restore"):
            Ledger.create(path, FIL)

    def test_never_made(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="limit set"):
            Ledger(tmp_path / "none.db")
        assert not (tmp_path / "none.db").exists()

    def test_another_one_in_its_place(self, path: Path, tmp_path: Path) -> None:
        Ledger.create(tmp_path / "other.db", FIL)
        shutil.copy(tmp_path / "other.db", path)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        with pytest.raises(LedgerLost, match="another ledger"):
            Ledger(path)

    def test_locked(self, ledger: Ledger, path: Path) -> None:
        held = ledger.reserve(PURPOSE, RAIL, 10)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for action in (held.authorize, lambda: ledger.reserve(PURPOSE, ONCE, 1, expires_at=NOON + 60)):
                with pytest.raises(LedgerBusy, match="nothing was signed"):
                    action()
            other.execute("ROLLBACK")
        assert ledger.get_entry(held.entry.id).signed == 0

    @pytest.mark.parametrize("where", [0, 30, 4096])
    def test_corrupt(self, path: Path, where: int) -> None:
        with path.open("r+b") as file:
            file.seek(where)
            file.write(b"\xa5" * 4096)
        with pytest.raises(LedgerDamaged, match="restore"):
            Ledger(path)

    @pytest.mark.parametrize(
        "tampering",
        [
            "UPDATE usage SET reserved = '0'",
            "UPDATE entries SET amount = 'x'",
            "DELETE FROM entries",
            "DELETE FROM usage",
        ],
    )
    def test_sums_that_are_not_those_of_the_entries(self, ledger: Ledger, path: Path, tampering: str) -> None:
        ledger.reserve(PURPOSE, RAIL, 10)
        with closing(sqlite3.connect(path)) as other:
            other.execute(tampering)
            other.commit()
        with pytest.raises(LedgerDamaged, match="restore"):
            Ledger(path)

    def test_full(self, path: Path) -> None:
        """A limit of the kernel stands in for the end of the disk."""
        script = (
            "import resource, sys\nfrom pathlib import Path\n"
            "from tests.unit.filecoin.test_ledger import PURPOSE, RAIL\n"
            "from quorate.filecoin.ledger import Ledger, LedgerFull\n"
            "ledger = Ledger(Path(sys.argv[1]))\nheld = ledger.reserve(PURPOSE, RAIL, 900)\n"
            "size = Path(sys.argv[1] + '-wal').stat().st_size\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
            "try: held.authorize(10)\nexcept LedgerFull as error: print(error)\n"
        )
        root = Path(__file__).resolve().parents[3]
        done = subprocess.run(
            [sys.executable, "-c", script, path], capture_output=True, text=True, cwd=root, check=True
        )
        assert "nothing was signed" in done.stdout
        with closing(Ledger(path)) as ledger:
            (orphan,) = ledger.list_open()
            assert (orphan.amount, orphan.signed) == (900, 0)
            ledger.release(orphan.id)

    def test_forked(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ledger_module.os, "getpid", lambda: -1)
        with pytest.raises(UnrecoverableError, match="fork"):
            ledger.reserve(PURPOSE, RAIL, 10)

    def test_unwritable(self) -> None:
        with pytest.raises(LedgerFull):
            Ledger.create(Path("/proc/none/ledger.db"), FIL)


class TestReceipts:
    def test_rows_are_only_ever_added(self, ledger: Ledger, path: Path) -> None:
        held = ledger.reserve(PURPOSE, RAIL, 10)
        held.authorize(3)
        held.charge("piece")
        with closing(sqlite3.connect(path)) as other:
            for statement in ("UPDATE receipts SET note = ''", "DELETE FROM receipts", "DELETE FROM caps"):
                with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
                    other.execute(statement)
        (receipt,) = ledger.list_receipts()
        assert (receipt.number, receipt.note, receipt.entry.charged) == (1, "piece", 3)
        assert ledger.list_receipts(after=1) == []

    def test_they_add_up_to_what_was_charged(self, ledger: Ledger) -> None:
        for amount in (5, 7, 11):
            held = ledger.reserve(PURPOSE, RAIL, 100)
            held.authorize(held.entry.base + amount)
            held.charge()
        ledger.reserve(PURPOSE, RAIL, 100).release()
        receipts = ledger.list_receipts()
        assert [each.entry.charged for each in receipts] == [5, 7, 11, 0]
        assert used(ledger) == Usage(charged=23)
        assert [each.number for each in ledger.list_receipts(after=2, count=1)] == [3]


def test_it_is_readable_by_its_owner_alone(path: Path, ledger: Ledger) -> None:
    ledger.reserve(PURPOSE, RAIL, 1)
    for each in path.parent.iterdir():
        assert each.stat().st_mode & 0o077 == 0, each


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    taken: list[int] = []

    def work(number: int) -> None:
        for turn in range(5):
            try:
                ledger.reserve(PURPOSE, Target(FIL, PAYEE, OPERATOR, 100 * number + turn + 1), 60)
            except SpendingLimitExceeded:
                continue
            taken.append(60)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(taken) == used(ledger).used == 960


def test_top_up_raises_what_is_there(ledger: Ledger) -> None:
    assert ledger.top_up(TOTAL, 500) == 1500
    assert ledger.list_caps()[TOTAL] == 1500
    for scope, amount in ((Scope(ScopeKind.DAY), 5), (TOTAL, 0)):
        with pytest.raises(ValidationError):
            ledger.top_up(scope, amount)
