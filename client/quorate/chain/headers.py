"""Block headers as RLP, for the proof of a beacon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quorate.chain import rlp
from quorate.chain.types import BlockHead, parse_hex
from quorate.protocol.errors import UnrecoverableError
from quorate.protocol.hashing import keccak

HASH_FIELDS = frozenset(
    {
        "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom", "extraData",
        "mixHash", "nonce", "withdrawalsRoot", "parentBeaconBlockRoot", "requestsHash",
    }
)  # fmt: skip
FIELDS = (
    "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom", "difficulty",
    "number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce",
)  # fmt: skip
LATER_FIELDS = (
    "baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash",
)  # fmt: skip
"""What hard forks appended, in order, up to Prague; a block has a prefix of them."""


def parse_head(block: Mapping[str, Any]) -> BlockHead:
    """Head of a block as eth_getBlockByNumber gives it."""
    return BlockHead(
        int(block["number"], 16),
        int(block["timestamp"], 16),
        parse_hex(block["hash"]),
        parse_hex(block["parentHash"]),
        parse_hex(block["mixHash"]),
    )


def encode_header(block: Mapping[str, Any]) -> bytes:
    """RLP of a block's header, checked against its hash.

    Raises UnrecoverableError when the hash differs: then the chain's headers have fields that this version lacks.
    """
    present = [name for name in LATER_FIELDS if block.get(name) is not None]
    encoded = rlp.encode([_field(name, block[name]) for name in (*FIELDS, *present)])
    if keccak(encoded) != parse_hex(block["hash"]):
        number = int(block["number"], 16)
        raise UnrecoverableError(f"header of block {number} does not hash to {block['hash']}: an unknown hard fork")
    return encoded


def _field(name: str, value: str) -> rlp.RlpItem:
    return parse_hex(value) if name in HASH_FIELDS else int(value, 16)
