"""Statements, commitments and salts (section 4.4 of contracts/README.md)."""

import hashlib
import hmac

from eth_abi.abi import encode

from quorate.protocol.hashing import keccak
from quorate.protocol.params import TASK_ALL
from quorate.protocol.types import Address, Stage, Vote

STATEMENT_TAG = keccak(b"Quorate.Statement.v1")
SALT_TAG = b"quorate-salt-v1"


def compute_round_domain(
    chain_id: int, market: Address, batch_id: int, post_hash: bytes, stage: Stage, round_: int, beacon: bytes
) -> bytes:
    """Bind everything said in one round of one batch to chain, contract, content and beacon."""
    types = ["bytes32", "uint256", "address", "uint256", "bytes32", "uint256", "uint256", "bytes32"]
    return keccak(encode(types, [STATEMENT_TAG, chain_id, market, batch_id, post_hash, int(stage), round_, beacon]))


def compute_statement(round_domain: bytes, bundle: int, task: int = TASK_ALL) -> bytes:
    """What a commitment is about: a bundle, or one of its tasks."""
    return keccak(round_domain + bundle.to_bytes(4, "big") + task.to_bytes(4, "big"))


def compute_commitment(statement: bytes, operator_id: int, vote: Vote, salt: bytes) -> bytes:
    """Hide and bind a vote; the operator's id inside makes a copied commitment worthless."""
    return keccak(statement + operator_id.to_bytes(4, "big") + vote + salt)


def compute_salt(signing_key: bytes, statement: bytes) -> bytes:
    """16 bytes that only the key's holder can tell, and tells alike after every restart."""
    return hmac.new(signing_key, SALT_TAG + statement, hashlib.sha256).digest()[:16]
