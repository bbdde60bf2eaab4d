"""What tests of payments share: a devnet's reader with a wallet, a ledger and rails, and a provider."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quorate.chain.account import SigningAccount, save_keystore
from quorate.chain.types import to_hex
from quorate.devnet.filecoin import FilecoinDevnet
from quorate.filecoin import rails, wallet
from quorate.filecoin.ledger import Ledger, Reservation
from quorate.filecoin.pay import PayChain
from quorate.filecoin.payments import PaymentSigner, SignedVoucher
from quorate.filecoin.spending import Purpose, Scope, ScopeKind, Target

PASSPHRASE = b"correct horse"
TERMS = b"\x07" * 32
CHEAP = 1 << 4


@dataclass(frozen=True, slots=True)
class Reader:
    """A wallet in `home`/filecoin with `funds` in Filecoin Pay, and its ledger; all of it may be spent."""

    home: Path
    chain: PayChain
    wallet: wallet.Wallet
    ledger: Ledger
    signer: PaymentSigner

    def target(self, payee: SigningAccount, rail_id: int = 0) -> Target:
        """A rail of the payee's, or a single payment to it."""
        contracts = self.chain.contracts
        operator = to_hex(contracts.operator) if rail_id else ""
        return Target(contracts.currency, to_hex(payee.address), operator, rail_id)

    def reserve(
        self, payee: SigningAccount, amount: int, rail_id: int = 0, *, expires_at: int = 0, job: str = "job"
    ) -> Reservation:
        """Set money aside."""
        purpose = Purpose(job, "data", f"provider {to_hex(payee.address)}")
        return self.ledger.reserve(purpose, self.target(payee, rail_id), amount, expires_at=expires_at)

    def sign(self, held: Reservation, amount: int) -> SignedVoucher:
        """A voucher over so much of a reservation."""
        return self.signer.sign_voucher(held.authorize(held.entry.base + amount), TERMS)

    def open_rail(self, payee: SigningAccount, lockup: int) -> int:
        """A rail's number."""
        return rails.open_rail(self.chain, self.wallet, payee.address, lockup)


def make_reader(devnet: FilecoinDevnet, chain: PayChain, home: Path, funds: int) -> Reader:
    """A fresh key, attached as a wallet; its total may be spent, on the chain as in the ledger."""
    home.mkdir(parents=True, exist_ok=True)
    account, folder = SigningAccount.create(), home / "filecoin"
    save_keystore(home / "key.json", account, PASSPHRASE, CHEAP)
    (home / "secret").write_bytes(PASSPHRASE)
    wallet.attach(folder, home / "key.json", lambda is_new: PASSPHRASE, passphrase_file=home / "secret")
    devnet.endow(account.address, 2 * funds)
    opened = wallet.open_wallet(folder, PASSPHRASE)
    rails.fund(chain, opened, funds)
    rails.allow(chain, opened, funds)
    Ledger.create(folder / "ledger.db", chain.contracts.currency)
    ledger = Ledger(folder / "ledger.db")
    ledger.set_cap(Scope(ScopeKind.TOTAL), funds)
    devnet.settings.save(folder / "network.json")
    return Reader(home, chain, opened, ledger, PaymentSigner(opened))


def make_provider(devnet: FilecoinDevnet) -> SigningAccount:
    """An account with gas."""
    made = SigningAccount.create()
    devnet.endow(made.address, 0)
    return made
