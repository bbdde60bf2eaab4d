"""The wallet: what it is made of, what is refused, and that the key is nowhere but in its file and its process."""

from __future__ import annotations

import base64
import copy
import io
import json
import logging
import os
import pickle
import resource
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from quorate.chain import signing
from quorate.chain.account import SigningAccount, save_keystore
from quorate.filecoin import signatures, wallet
from quorate.filecoin.addresses import to_checksummed
from quorate.protocol.errors import ConfigurationError, DataError, ValidationError
from quorate_node.cli.main import main

KEY = bytes.fromhex("2f38ec6445c2cbab43580c5c162bbbe88450c07928856bec54ad53fb643935f6")
BLS_KEY = base64.b64decode("LeQGu4KtIHGw1+XC54BnL6QGvCM3+aESKUQYrydwTlY=")
PASSPHRASE = b"correct horse"
CHEAP = 1 << 4
F1 = "f1drv36h2ldc4xzhjfiwicxsq6rgkl6z5vhit2roq"
SPELLINGS = [KEY.hex(), KEY.hex().upper(), base64.b64encode(KEY).decode(), str(KEY), str(int.from_bytes(KEY, "big"))]
PR_GET_DUMPABLE = 3


def export(kind: str = "secp256k1", key: bytes = KEY) -> bytes:
    """As `lotus wallet export` prints it."""
    return json.dumps({"Type": kind, "PrivateKey": base64.b64encode(key).decode()}).encode().hex().encode() + b"\n"


def write(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.touch(mode=mode)
    path.write_bytes(data)
    path.chmod(mode)
    return path


def attach(folder: Path, source: str | Path, **options: Any) -> wallet.About:
    return wallet.attach(folder, source, lambda is_new: PASSPHRASE, scrypt_n=CHEAP, **options)


def check_hidden(text: str) -> None:
    for spelling in (*SPELLINGS, export().decode().strip(), PASSPHRASE.decode()):
        assert spelling not in text


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, words)))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.fixture
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keystores that open at once, and no lasting change to the process that runs the tests."""
    made = wallet.attach
    monkeypatch.setattr(wallet, "attach", lambda *args, **options: made(*args, **options, scrypt_n=CHEAP))
    monkeypatch.setattr("quorate.cli.filecoin.wallets.forbid_dumps", lambda: None)


class TestAttach:
    def test_a_keystore_is_taken_as_it_is(self, tmp_path: Path) -> None:
        account = SigningAccount.from_key(KEY)
        save_keystore(tmp_path / "key.json", account, PASSPHRASE, CHEAP)
        about = attach(tmp_path / "home", tmp_path / "key.json")
        assert about.ethereum == to_checksummed(account.address)
        assert (about.f1, about.note) == (None, None)
        opened = wallet.open_wallet(tmp_path / "home", PASSPHRASE)
        assert signing.recover(b"d" * 32, opened.sign(b"d" * 32)) == account.address
        assert str(opened.filecoin_address) == about.f410
        assert (tmp_path / "home" / wallet.KEYSTORE).stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("data", [export(), bytes.fromhex(export().decode())])
    def test_a_lotus_key_pays_from_its_f410_address(self, tmp_path: Path, data: bytes) -> None:
        about = attach(tmp_path / "home", write(tmp_path / "export", data))
        assert about.f1 == F1
        assert "funds must move" in str(about.note)
        assert f"--from {F1} {about.f410}" in str(about.note)
        opened = wallet.open_wallet(tmp_path / "home", PASSPHRASE)
        assert opened.address == signing.compute_address(KEY)
        assert (tmp_path / "home" / wallet.KEYSTORE).stat().st_mode & 0o777 == 0o600

    def test_a_delegated_lotus_key_needs_no_move(self, tmp_path: Path) -> None:
        about = attach(tmp_path, "-", content=export("delegated"))
        assert (about.f1, about.note, about.origin) == (None, None, "lotus delegated")

    def test_bls_is_refused_with_the_reason(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"f3uwh4pjnq.* is a BLS key, which cannot pay: payments are signed as"):
            attach(tmp_path / "home", "-", content=export("bls", BLS_KEY))
        assert not (tmp_path / "home").exists()

    def test_the_same_key_again_is_no_mistake_and_another_is_refused(self, tmp_path: Path) -> None:
        about = attach(tmp_path, "-", content=export())
        before = (tmp_path / wallet.KEYSTORE).read_bytes()
        assert attach(tmp_path, "-", content=export()) == about
        with pytest.raises(ConfigurationError, match="is attached, and its limits and receipts with it"):
            attach(tmp_path, "-", content=export(key=b"k" * 32))
        assert (tmp_path / wallet.KEYSTORE).read_bytes() == before

    def test_a_wrong_passphrase_attaches_nothing(self, tmp_path: Path) -> None:
        save_keystore(tmp_path / "key.json", SigningAccount.from_key(KEY), b"another", CHEAP)
        with pytest.raises(DataError, match="the passphrase does not open"):
            attach(tmp_path / "home", tmp_path / "key.json")
        assert not (tmp_path / "home").exists()

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
    def test_files_that_others_can_read_are_refused(self, tmp_path: Path, mode: int) -> None:
        with pytest.raises(ConfigurationError, match=r"can be read by others .* chmod 600"):
            attach(tmp_path / "home", write(tmp_path / "export", export(), mode))
        attach(tmp_path / "home", write(tmp_path / "private", export()))
        (tmp_path / "home" / wallet.KEYSTORE).chmod(mode)
        with pytest.raises(ConfigurationError, match="can be read by others"):
            wallet.open_wallet(tmp_path / "home", PASSPHRASE)

    def test_a_keystore_that_was_exchanged_is_noticed(self, tmp_path: Path) -> None:
        attach(tmp_path, "-", content=export())
        (tmp_path / wallet.KEYSTORE).unlink()
        save_keystore(tmp_path / wallet.KEYSTORE, SigningAccount.from_key(b"k" * 32), PASSPHRASE, CHEAP)
        with pytest.raises(DataError, match="one of the two files was changed"):
            wallet.open_wallet(tmp_path, PASSPHRASE)

    def test_no_wallet(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, err = run(capsys, "filecoin", "wallet", "show", "--home", tmp_path)
        assert (code, out) == (2, "")
        assert "wallet attach FILE` makes one" in err


class TestTheKeyStaysHidden:
    MALFORMED = (
        export()[:-8],
        export() + b"00",
        bytes.fromhex(export().decode()) + b"}",
        KEY.hex().encode(),
        base64.b64encode(KEY),
        json.dumps({"Type": "secp256k1", "PrivateKey": KEY.hex() + "!"}).encode(),
        json.dumps({"Type": KEY.hex(), "PrivateKey": base64.b64encode(KEY).decode()}).encode(),
        json.dumps({"PrivateKey": base64.b64encode(KEY).decode()}).encode(),
        json.dumps({"Type": "secp256k1", "PrivateKey": base64.b64encode(KEY + KEY).decode()}).encode(),
        json.dumps({"Type": "secp256k1", "PrivateKey": base64.b64encode(KEY[:31]).decode()}).encode(),
        json.dumps([KEY.hex()]).encode(),
    )

    @pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
    def test_in_errors_and_all_that_hangs_on_them(self, tmp_path: Path, data: bytes) -> None:
        with pytest.raises(ValidationError) as refused:
            attach(tmp_path / "home", write(tmp_path / "export", data))
        check_hidden("".join(traceback.format_exception(refused.value)))
        error: BaseException | None = refused.value
        while error is not None:
            check_hidden(repr(error.args) + repr(vars(error)))
            error = error.__cause__ or error.__context__
        assert not (tmp_path / "home").exists()

    def test_in_reprs_copies_and_pickles(self, tmp_path: Path) -> None:
        attach(tmp_path, "-", content=export())
        opened = wallet.open_wallet(tmp_path, PASSPHRASE)
        check_hidden(f"{opened!r} {opened} {[opened]} {wallet.read_about(tmp_path)}")
        for take in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="stays in its process"):
                take(opened)

    def test_in_what_lies_on_the_disk(self, tmp_path: Path) -> None:
        attach(tmp_path, "-", content=export())
        found = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        assert [path.name for path in found] == [wallet.ABOUT, wallet.KEYSTORE]
        for path in found:
            check_hidden(path.read_text())
            assert KEY not in path.read_bytes()

    @pytest.mark.usefixtures("_cheap")
    def test_in_what_commands_print_and_log(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        secret = write(tmp_path / "secret", PASSPHRASE + b"\n")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(export())))
        words = ("filecoin", "wallet", "attach", "-", "--passphrase-file", secret, "--home", tmp_path, "-o", "json")
        code, out, err = run(capsys, *words)
        assert code == 0
        made = json.loads(out)
        assert (made["f1"], made["passphrase_file"]) == (F1, str(secret))
        assert "funds must move" in made["note"]
        code, shown, more = run(capsys, "filecoin", "wallet", "show", "--home", tmp_path, "-o", "json")
        assert (code, json.loads(shown)) == (0, made)
        check_hidden(out + err + shown + more + caplog.text)

    @pytest.mark.usefixtures("_cheap")
    @pytest.mark.parametrize("argument", [KEY.hex(), export().decode().strip(), base64.b64encode(KEY).decode()])
    def test_in_the_answer_to_a_key_that_is_given_as_an_argument(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str
    ) -> None:
        code, out, err = run(capsys, "filecoin", "wallet", "attach", argument, "--home", tmp_path)
        assert code == 2
        assert "Move what it owns to a new key" in err
        check_hidden(out + err)

    def test_in_arguments_and_in_core_dumps(self, tmp_path: Path) -> None:
        """A process that attached a wallet dies as of a crash: it leaves no dump, and its arguments hold no key."""
        secret = write(tmp_path / "secret", PASSPHRASE + b"\n")
        script = (
            "import ctypes, os, resource, signal, sys\n"
            "from quorate.cli.filecoin import wallets as cli\n"
            "made = cli.wallet.attach\n"
            f"cli.wallet.attach = lambda *args, **options: made(*args, **options, scrypt_n={CHEAP})\n"
            "from quorate_node.cli.main import app\n"
            "app(sys.argv[1:], standalone_mode=False)\n"
            f"print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl({PR_GET_DUMPABLE}, 0, 0, 0, 0))\n"
            "print(open('/proc/self/cmdline').read() if os.path.exists('/proc/self/cmdline') else '', flush=True)\n"
            "os.kill(os.getpid(), signal.SIGABRT)\n"
        )
        words = [
            "filecoin",
            "wallet",
            "attach",
            "-",
            "--passphrase-file",
            str(secret),
            "--home",
            str(tmp_path / "home"),
        ]
        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        with subprocess.Popen(
            [sys.executable, "-c", script, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (most, most)),
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(export())
            process.stdin.close()
            out = process.stdout.read().decode()
            _, status = os.waitpid(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == -signal.SIGABRT, out
        assert not os.WCOREDUMP(status)
        assert "(0, 0)" in out
        if sys.platform == "linux":
            assert "(0, 0) 0\n" in out
        check_hidden(out)
        assert {path.name for path in tmp_path.iterdir()} == {"secret", "home"}


def test_a_short_key_is_none() -> None:
    with pytest.raises(ValidationError, match="not a secp256k1 private key"):
        signatures.compute_secp256k1_address(KEY[:31])
