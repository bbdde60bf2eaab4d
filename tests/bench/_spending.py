"""Many processes that spend from one ledger and are killed at every step, and the sums of what left them."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench._redeeming import Market, Purse, split

from quorate.filecoin.ledger import Ledger, LedgerDamaged, Reservation
from quorate.filecoin.payments import PaymentSigner, SignedVoucher, Voucher, VoucherRefused, check_voucher
from quorate.filecoin.spending import (
    Entry,
    Purpose,
    RailBusy,
    Scope,
    ScopeKind,
    SpendingLimitExceeded,
    Usage,
)
from quorate.protocol.errors import QuorateError

TERMS = b"\x07" * 32
CAPS = {ScopeKind.TOTAL: 600, ScopeKind.DAY: 590, ScopeKind.JOB: 300, ScopeKind.DATASET: 250, ScopeKind.PROVIDER: 200}
PROVIDERS, RAILS = 5, 4
MOST = 40
STEPS = ("reserved", "authorized", "signed", "delivered", "charged", "resumed")
DEATH = 0.04
"""Chance of a process to kill itself at each step."""
TURNS = 50
MOST_KILLS = 60
"""In a round; without the lock it may never come to an end."""
REFUSALS = 12
"""So many in a row, and a process takes the budget for spent."""


class UnlockedLedger(Ledger):
    """The mutant: each statement stands for itself, as if nobody else were there."""

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:  # what one has written comes in the way of another
            raise LedgerDamaged(str(error)) from error


@dataclass(slots=True)
class Sums:
    """Over all rounds, in base units; `broken` says what was found."""

    signed: int = 0
    redeemed: int = 0
    fees: int = 0
    cap: int = 0
    kills: int = 0
    rounds: int = 0
    refused: int = 0
    deaths: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*STEPS, "anywhere"), 0))
    broken: list[str] = field(default_factory=list)


class Spender:
    """One process: reserves, signs, delivers and charges, until all is refused or it dies."""

    def __init__(self, folder: Path, seed: int, kind: type[Ledger], purse: Purse) -> None:
        self.ledger, self.random = kind(folder / "ledger.db"), random.Random(seed)
        self.signer, self.targets = PaymentSigner(purse.account), purse.targets
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.out, self.dead = (os.open(folder / name, flags, 0o600) for name in ("delivered", "dead"))

    def run(self) -> None:
        refusals, action = 0, self.spend
        for _ in range(TURNS):
            if refusals == REFUSALS:
                return
            try:
                action()
                refusals, action = 0, self.spend
            except SpendingLimitExceeded:
                refusals, action = refusals + 1, self.spend
            except RailBusy:
                action = self.take_over
            except QuorateError:
                action = self.spend  # another process was faster

    def spend(self) -> None:
        chance = self.random
        provider, rail = chance.randrange(PROVIDERS), chance.randrange(RAILS)
        purpose = Purpose(f"job{chance.randrange(3)}", f"data{chance.randrange(3)}", f"provider{provider}")
        target = self.targets[provider * RAILS + rail]
        held = self.ledger.reserve(purpose, target, chance.randint(1, MOST))
        self.step("reserved")
        self.pay(held)

    def take_over(self) -> None:
        if orphans := self.ledger.list_open():
            held = self.ledger.resume(self.random.choice(orphans).id)
            self.step("resumed")
            self.pay(held)

    def pay(self, held: Reservation) -> None:
        entry, up_to = held.entry, held.entry.base + held.signed
        for _ in range(self.random.randint(1, 3)):
            up_to = min(entry.base + entry.amount, up_to + self.random.randint(1, MOST))
            leave = held.authorize(up_to)
            self.step("authorized")
            signed = self.signer.sign_voucher(leave, TERMS)
            self.step("signed")
            os.write(self.out, (json.dumps([entry.id, up_to, signed.signature.hex()]) + "\n").encode())
            self.step("delivered")
        held.charge()
        self.step("charged")

    def step(self, name: str) -> None:
        if self.random.random() < DEATH:
            os.write(self.dead, f"{name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)


def _be_spender(folder: Path, seed: int, kind: type[Ledger], purse: Purse) -> None:
    Spender(folder, seed, kind, purse).run()


def run_rounds(
    market: Market, processes: int, seconds: float, seed: int, *, is_locked: bool, rounds: int = 1 << 30
) -> Sums:
    """Spend fresh budgets until the time is over or the rounds are done; at least one.

    With a locked ledger rails could pay more than any cap allows, so that it alone holds; without the lock, what is
    allowed on the chain is the total's cap, so that the chain holds what the ledger does not.
    """
    sums, chance, until = Sums(), random.Random(seed), time.monotonic() + seconds
    while sums.rounds == 0 or (time.monotonic() < until and sums.rounds < rounds):
        with tempfile.TemporaryDirectory(prefix="quorate-spending-") as folder:
            lockup = CAPS[ScopeKind.TOTAL] // (1 if is_locked else PROVIDERS * RAILS)
            purse = market.open_purse(PROVIDERS, RAILS, lockup)
            kind = Ledger if is_locked else UnlockedWithoutCheck
            _run_round(Path(folder), processes, chance, kind, sums, purse)
            _judge(Path(folder), sums, market, purse)
    return sums


def _run_round(
    folder: Path, processes: int, chance: random.Random, kind: type[Ledger], sums: Sums, purse: Purse
) -> None:
    path = folder / "ledger.db"
    Ledger.create(path, purse.targets[0].currency)
    with closing(Ledger(path)) as ledger:
        for scope_kind, cap in CAPS.items():
            ledger.set_cap(Scope(scope_kind), cap)
    context = multiprocessing.get_context("fork")

    def start() -> Any:
        worker = context.Process(target=_be_spender, args=(folder, chance.getrandbits(32), kind, purse))
        worker.start()
        return worker

    workers, kills = [start() for _ in range(processes)], sums.kills
    while workers:
        time.sleep(0.02)
        if chance.random() < 0.1:
            workers[chance.randrange(len(workers))].kill()
        for worker in [each for each in workers if not each.is_alive()]:
            worker.join()
            workers.remove(worker)
            if worker.exitcode == -signal.SIGKILL:
                sums.kills += 1
                if sums.kills - kills < MOST_KILLS:
                    workers.append(start())
            elif worker.exitcode:
                sums.broken.append(f"a process ended with {worker.exitcode}")
    sums.rounds += 1


def _judge(folder: Path, sums: Sums, market: Market, purse: Purse) -> None:
    """Redeem what left the processes, and compare it and the chain with the caps and with the ledger."""
    for name in (folder / "dead").read_text().split() if (folder / "dead").exists() else ():
        sums.deaths[name] += 1
    sums.deaths["anywhere"] = sums.kills - sum(sums.deaths[name] for name in STEPS)
    sums.cap += CAPS[ScopeKind.TOTAL]
    with closing(UnlockedWithoutCheck(folder / "ledger.db")) as ledger:
        usage = ledger.list_usage()
        delivered = [json.loads(line) for line in (folder / "delivered").read_text().splitlines()]
        entries = {name: ledger.get_entry(name) for name in {row[0] for row in delivered}}
    signed = _sum_up(delivered, entries, purse)
    market.redeem(_read_voucher(entries[name], up_to, signature) for name, up_to, signature in delivered)
    by_rail, fees = market.read_redeemed(purse)
    redeemed = split(by_rail, entries.values())
    sums.signed += signed[Scope(ScopeKind.TOTAL)]
    sums.redeemed, sums.fees = sums.redeemed + sum(by_rail.values()), sums.fees + fees
    for what, amounts in (("signed", signed), ("redeemed", redeemed)):
        for scope, amount in amounts.items():
            if amount > CAPS[scope.kind]:
                sums.broken.append(f"{scope}: {what} {amount} of {CAPS[scope.kind]}")
            if amount > usage.get(scope, Usage()).used:
                sums.broken.append(f"{scope}: {what} {amount}, the ledger knows of {usage.get(scope, Usage()).used}")
    try:
        with closing(Ledger(folder / "ledger.db")) as ledger:
            sums.broken += market.compare(ledger, purse)
    except QuorateError as error:
        sums.broken.append(str(error))


class UnlockedWithoutCheck(UnlockedLedger):
    """Goes on with, and reads, what a mutant has left. A killed process loses nothing that the system has."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._db.execute("PRAGMA synchronous = OFF")  # each statement would wait for the disk

    def _check(self) -> None:
        return


def _read_voucher(entry: Entry, up_to: int, signature: str) -> SignedVoucher:
    return SignedVoucher(Voucher(entry.target.rail_id, up_to, TERMS), bytes.fromhex(signature))


def _sum_up(delivered: list[Any], entries: dict[str, Entry], purse: Purse) -> dict[Scope, int]:
    """What was signed, by scope; each signature is checked as a provider does."""
    most: dict[str, int] = defaultdict(int)
    best: dict[int, int] = defaultdict(int)
    for name, up_to, signature in delivered:
        entry = entries[name]
        most[name] = max(most[name], up_to - entry.base)
        rail = entry.target.rail_id
        voucher, payer = _read_voucher(entry, up_to, signature), purse.account.address
        try:
            best[rail] += check_voucher(voucher, entry.target, payer, TERMS, best[rail], 0, 1 << 200)
        except VoucherRefused:
            assert up_to <= best[rail], "only a stale voucher is worth nothing"
    signed: dict[Scope, int] = defaultdict(int)
    for name, amount in most.items():
        for scope in entries[name].scopes:
            signed[scope] += amount
    return signed
