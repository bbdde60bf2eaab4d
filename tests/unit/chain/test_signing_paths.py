"""Our own encodings against eth_account's: transactions, EIP-712 orders and lists, keystores."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from eth_utils.address import to_checksum_address

from quorate.chain import rlp
from quorate.chain.account import SigningAccount, encrypt_keystore, load_keystore, save_keystore
from quorate.chain.transactions import Transaction, compute_create_address, compute_hash
from quorate.protocol.encoding import compute_domain_separator, compute_job_id, compute_list_digest
from quorate.protocol.errors import ConfigurationError, DataError, ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.types import Address, JobOrder

KEY = SigningAccount.from_key(bytes(range(1, 33)))
MARKET = Address(bytes(range(20)))
ORDER = JobOrder(KEY.address, 7, 1, keccak(b"spec"), 1, 10**9, 12345, 3, 2, 60, 5, 10**12, 10**15, 2_000_000_000)
DOMAIN = {"name": "Quorate", "version": "1", "chainId": 31337, "verifyingContract": to_checksum_address(MARKET)}
ORDER_FIELDS = {
    "requester": "address", "nonce": "uint64", "classId": "uint32", "specHash": "bytes32", "taskCount": "uint32",
    "fuelLimit": "uint64", "inputBytes": "uint64", "seats": "uint8", "rounds": "uint8", "commitPeriod": "uint32",
    "minUnits": "uint32", "maxPrice": "uint64", "maxFee": "uint64", "validUntil": "uint40", "strategy": "uint8",
    "flags": "uint8",
}  # fmt: skip


def test_an_order_has_the_digest_and_signature_of_sign_typed_data() -> None:
    types = {"JobOrder": [{"name": name, "type": type_} for name, type_ in ORDER_FIELDS.items()]}
    values = [getattr(ORDER, field) for field in ORDER.__dataclass_fields__]
    message = dict(zip(ORDER_FIELDS, values, strict=True)) | {"requester": to_checksum_address(KEY.address)}
    digest = _hash_eip191_message(encode_typed_data(DOMAIN, types, message))
    job_id = compute_job_id(compute_domain_separator(31337, MARKET), ORDER)
    assert job_id == digest
    assert KEY.sign(job_id) == Account.sign_typed_data(KEY.key, DOMAIN, types, message).signature


def test_a_list_of_commitments_has_the_digest_of_typed_data() -> None:
    fields = {"roundDomain": "bytes32", "operatorId": "uint32", "itemsHash": "bytes32"}
    types = {"CommitList": [{"name": name, "type": type_} for name, type_ in fields.items()]}
    message = {"roundDomain": keccak(b"domain"), "operatorId": 9, "itemsHash": keccak(b"items")}
    separator = compute_domain_separator(31337, MARKET)
    ours = compute_list_digest(separator, keccak(b"domain"), 9, keccak(b"items"))
    assert ours == _hash_eip191_message(encode_typed_data(DOMAIN, types, message))


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x7f", b"\x80", bytes(55), bytes(56), bytes(70_000)])
@pytest.mark.parametrize("value", [0, 1, 127, 128, 10**18])
def test_transactions_are_those_of_eth_account(data: bytes, value: int) -> None:
    ours = Transaction(31337, 3, MARKET, data, 21_000, 2_000, 1, value).sign(KEY)
    theirs = Account.sign_transaction(
        {
            "chainId": 31337, "nonce": 3, "to": to_checksum_address(MARKET), "data": data, "gas": 21_000,
            "maxFeePerGas": 2_000, "maxPriorityFeePerGas": 1, "value": value, "type": 2,
        },
        KEY.key,
    )  # fmt: skip
    assert ours == theirs.raw_transaction
    assert compute_hash(ours) == theirs.hash


def test_addresses_of_created_contracts() -> None:
    # The example that answers to how contract addresses are computed have passed around since 2016.
    sender = Address(bytes.fromhex("6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0"))
    wanted = [
        "cd234a471b72ba2f1ccf0a70fcaba648a5eecd8d",
        "343c43a37d37dff08ae8c4a11544c718abb4fcf8",
        "f778b86fa74e846c4f0a1fbd1335fe81c00a0c91",
    ]
    assert [compute_create_address(sender, nonce).hex() for nonce in range(3)] == wanted


def test_rlp_of_nested_lists() -> None:
    assert rlp.encode([[], [[]], [[], [[]]]]).hex() == "c7c0c1c0c3c0c1c0"
    assert rlp.encode([b"cat", b"dog"]).hex() == "c88363617483646f67"
    assert rlp.encode(b"Lorem ipsum dolor sit amet, consectetur adipisicing elit")[:2].hex() == "b838"


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
def test_keystores_of_eth_account_open_here(tmp_path: Path, kdf: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(Account.encrypt(KEY.key, "open sesame", kdf=kdf, iterations=2)))
    assert load_keystore(path, b"open sesame") == KEY


def test_our_keystores_open_in_eth_account() -> None:
    assert Account.decrypt(encrypt_keystore(KEY, b"open sesame", 2), "open sesame") == KEY.key


def test_a_keystore_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key.json"
    save_keystore(path, KEY, b"x", 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ConfigurationError, match="never overwritten"):
        save_keystore(path, SigningAccount.create(), b"x", 2)
    assert load_keystore(path, b"x") == KEY
    with pytest.raises(DataError, match="passphrase does not open"):
        load_keystore(path, b"y")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"crypto": {}}', '{"crypto": {"cipher": "rot13"}}'])
def test_what_is_no_keystore(tmp_path: Path, content: str) -> None:
    (tmp_path / "key.json").write_text(content)
    with pytest.raises(DataError):
        load_keystore(tmp_path / "key.json", b"x")
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_keystore(tmp_path / "none.json", b"x")


def test_a_keystore_cannot_ask_for_all_memory(tmp_path: Path) -> None:
    content = encrypt_keystore(KEY, b"x", 2)
    content["crypto"]["kdfparams"]["n"] = 1 << 30
    (tmp_path / "key.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="bytes to open"):
        load_keystore(tmp_path / "key.json", b"x")


def test_keys_are_not_shown_and_checked() -> None:
    assert KEY.key.hex() not in repr(KEY)
    assert repr(KEY.key) not in repr(KEY)
    with pytest.raises(ValidationError):
        SigningAccount.from_key(bytes(32))
