"""A chain, a provider and a reader on one computer, each a process of its own: the paid side of the benchmark."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from _reading import PASSPHRASE, read_kib
from tests.integration.providing import Provider

from quorate.chain.account import DEVNET_SCRYPT_N, SigningAccount, save_keystore
from quorate.devnet.filecoin import FilecoinDevnet
from quorate.filecoin import rails, wallet
from quorate.filecoin.ledger import Ledger
from quorate.filecoin.pay import PayChain
from quorate.filecoin.retrieval.book import ProvidersBook
from quorate.filecoin.spending import Scope, ScopeKind

PRICE = 1000
MONEY = 10**12
READER = Path(__file__).with_name("_reading.py")


def read_cpu_s(pid: int) -> float:
    """Seconds of the processor that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Trade:
    """A piece on sale and a reader with money; `provider` runs."""

    def __init__(self, folder: Path, provider: Provider, chain: PayChain, piece: str) -> None:
        self.folder, self.provider, self.chain, self.piece = folder, provider, chain, piece
        self._count = 0

    def read(self, dest: str, die_after: int = 0) -> dict[str, Any] | None:
        """Retrieve the piece; what the reader says of it, None when it was killed."""
        command = [sys.executable, str(READER), str(self.folder), self.piece, str(self.folder / dest), str(die_after)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == -signal.SIGKILL:
            return None
        if done.returncode:
            raise RuntimeError(f"the reader failed: {done.stderr[-3000:]}")
        row: dict[str, Any] = json.loads(done.stdout)
        return row

    def measure(self) -> dict[str, Any]:
        """One retrieval, with the growth of both processes."""
        before, cpu = read_kib("VmRSS", self.provider.pid), read_cpu_s(self.provider.pid)
        row = self.read(f"piece-{self._count}")
        assert row is not None, "nobody killed it"
        (self.folder / f"piece-{self._count}").unlink()
        self._count += 1
        row |= {"provider_cpu_seconds": read_cpu_s(self.provider.pid) - cpu}
        return row | {"provider_growth_kib": read_kib("VmHWM", self.provider.pid) - before}

    def cut_and_resume(self, size: int, port: int) -> dict[str, Any]:
        """The reader is killed at a third, the provider at two thirds; then all is added up."""
        before = self.sum_up()
        assert self.read("resumed", size // 3) is None, "the reader was to be killed"
        self.provider.kill()
        self.provider.start(port=port)
        assert self.read("resumed", size // 3) is None, "the reader was to be killed"
        row = self.read("resumed")
        assert row is not None, "nobody killed it"
        after = self.sum_up()
        return row | {name: after[name] - before[name] for name in after}

    def sum_up(self) -> dict[str, int]:
        """Base units: what the provider has taken and delivered, and what the reader's ledger says was spent."""
        sums = self.provider.describe().get("sums", {})
        with closing(Ledger(self.folder / "ledger.db")) as ledger:
            usage = ledger.list_usage().get(Scope(ScopeKind.TOTAL))
        spent = usage.used if usage is not None else 0
        return {"taken": int(sums.get("taken", 0)), "delivered": int(sums.get("delivered", 0)), "spent": spent}


@contextmanager
def trading(folder: Path, file: Path) -> Iterator[Trade]:
    """Everything that it takes to sell a file as a piece."""
    reader, seller = SigningAccount.create(), SigningAccount.create()
    with (
        FilecoinDevnet(folder / "devnet", block_time_s=0.2) as devnet,
        Provider(folder / "home", devnet.network_file, seller) as provider,
        closing(devnet.connect()) as chain,
    ):
        devnet.endow(seller.address, 0)
        devnet.endow(reader.address, MONEY)
        rails.fund(chain, reader, MONEY)
        rails.allow(chain, reader, MONEY)
        piece = provider.add(file, PRICE, is_piece=True)["piece"]
        provider.start()
        save_keystore(folder / "key", reader, PASSPHRASE, DEVNET_SCRYPT_N)
        place = folder / "filecoin"
        wallet.attach(place, folder / "key", lambda is_new: PASSPHRASE)
        devnet.settings.save(place / "network.json")
        Ledger.create(place / "ledger.db", chain.contracts.currency)
        with closing(Ledger(place / "ledger.db")) as ledger:
            ledger.set_cap(Scope(ScopeKind.TOTAL), MONEY)
        ProvidersBook(place).add(provider.url)
        yield Trade(place, provider, chain, piece)
        if provider.stop():
            raise RuntimeError(f"the provider failed: {''.join(provider.lines)}")
