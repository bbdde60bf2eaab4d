"""The key that pays stays in its process: it is in no file, log, receipt or error, and a crash leaves no dump of it."""

from __future__ import annotations

import base64
import copy
import ctypes
import logging
import os
import pickle
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.integration.paying import PASSPHRASE, TERMS, make_provider, make_reader

from quorate.chain.account import load_keystore
from quorate.devnet.filecoin import FilecoinDevnet
from quorate.filecoin import rails, wallet
from quorate.filecoin.ledger import Ledger
from quorate.filecoin.networks import Settings
from quorate.filecoin.pay import PayChain
from quorate.filecoin.payments import PaymentSigner, TokenDomain
from quorate.filecoin.reconciling import reconcile
from quorate.filecoin.secrecy import forbid_dumps
from quorate.filecoin.spending import Purpose, Target

pytestmark = pytest.mark.anvil
PR_GET_DUMPABLE = 3
FUNDS = 10_000


def be_payer(home: Path, payee: str) -> None:
    """Open the wallet as commands do, pay in every way, fail in many, say it all, and crash."""
    logging.basicConfig(filename=home / "log", level=logging.DEBUG)
    folder = home / "filecoin"
    settings = Settings.load(folder / "network.json")
    forbid_dumps()
    opened = wallet.open_wallet(folder, PASSPHRASE)
    signer = PaymentSigner(opened)
    with closing(Ledger(folder / "ledger.db")) as ledger, closing(PayChain(settings.rpc_url, settings.contracts)) as c:
        pay(ledger, c, opened, signer, payee)
        fail(ledger, c, opened, signer)
    print(opened, signer, [opened], {"signer": signer}, f"{opened!r} {signer!r}")
    dumpable = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) if sys.platform == "linux" else 0
    print("LIMIT", resource.getrlimit(resource.RLIMIT_CORE), dumpable, flush=True)
    os.kill(os.getpid(), signal.SIGABRT)


def pay(ledger: Ledger, chain: PayChain, opened: wallet.Wallet, signer: PaymentSigner, payee: str) -> None:
    """By vouchers and at once; then take all leave away."""
    contracts, purpose = chain.contracts, Purpose("job", "data", "provider")
    rail_id = rails.open_rail(chain, opened, bytes.fromhex(payee), 1000)
    target = Target(contracts.currency, f"0x{payee}", f"0x{contracts.operator.hex()}", rail_id)
    held = ledger.reserve(purpose, target, 500)
    redemption = rails.redeem(chain, opened, signer.sign_voucher(held.authorize(400), TERMS))
    logging.info("%s %s", redemption, held.charge("a piece"))
    once = Target(contracts.currency, f"0x{payee}")
    single = ledger.reserve(purpose, once, 10, expires_at=chain.head().timestamp + 600)
    signed = signer.sign_transfer(single.authorize(), TokenDomain("Devnet USDFC", "1"))
    logging.info("%s %s %s", signed, rails.transfer(chain, opened, signed), single.charge())
    logging.info("%s %s", reconcile(ledger, chain, opened.address), ledger.list_receipts())
    logging.info("%s", rails.revoke(chain, opened))


def fail(ledger: Ledger, chain: PayChain, opened: wallet.Wallet, signer: PaymentSigner) -> None:
    """Errors of all kinds, written down with all that hangs on them."""
    acts: list[Callable[[], object]] = [
        lambda: pickle.dumps(signer),
        lambda: copy.deepcopy(signer),
        lambda: copy.copy(opened),
        lambda: opened.sign(b"too short"),
        lambda: signer.sign_voucher("all of it", TERMS),  # type: ignore[arg-type]
        lambda: rails.open_rail(chain, opened, b"\x01" * 20, 10 * FUNDS),
        lambda: rails.close_rail(chain, opened, 10**9),
        lambda: ledger.reserve(Purpose("j", "d", "p"), Target(ledger.currency, "0x" + "12" * 20), 10**9, expires_at=1),
        lambda: load_keystore(Path(sys.argv[0]), PASSPHRASE),
    ]
    for act in acts:
        try:
            act()
        except Exception:
            logging.exception("refused")
            traceback.print_exc()
        else:
            raise AssertionError("that should have failed")


def test_the_key_is_nowhere_but_in_its_process(tmp_path: Path) -> None:
    with (
        FilecoinDevnet(tmp_path / "devnet", block_time_s=0.05) as devnet,
        closing(devnet.connect()) as chain,
    ):
        reader = make_reader(devnet, chain, tmp_path / "home", FUNDS)
        reader.ledger.close()
        account = load_keystore(tmp_path / "home" / "key.json", PASSPHRASE)
        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        payee = make_provider(devnet).address.hex()
        code = "import sys; from pathlib import Path; from tests.integration import test_filecoin_secrecy as t; "
        with subprocess.Popen(
            [sys.executable, "-c", code + "t.be_payer(Path(sys.argv[1]), sys.argv[2])", str(reader.home), payee],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (most, most)),
        ) as process:
            assert process.stdout is not None
            out = process.stdout.read()
            _, status = os.waitpid(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == -signal.SIGABRT, out.decode()
    assert b"LIMIT (0, 0) 0\n" in out
    assert not os.WCOREDUMP(status)
    key = account.key
    number = int.from_bytes(key, "big")
    spellings = [
        key, key.hex().encode(), key.hex().upper().encode(), base64.b64encode(key), base64.urlsafe_b64encode(key),
        str(number).encode(), f"{number:x}".encode(), repr(key).encode(), PASSPHRASE,
    ]  # fmt: skip
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    log = files[tmp_path / "home" / "log"]
    assert log.count(b"refused") == 9
    assert b"Redemption" in log
    assert b"a piece" in files[tmp_path / "home" / "filecoin" / "ledger.db"]
    del files[tmp_path / "home" / "secret"]  # the passphrase's own file
    for spelling in spellings:
        assert spelling not in out
        assert [path for path, content in files.items() if spelling in content] == []
