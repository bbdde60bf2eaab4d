"""EIP-1559 transactions, signed by coincurve: twenty times faster than eth_account, and nothing heavy to import."""

from __future__ import annotations

from dataclasses import dataclass

from quorate.chain import rlp
from quorate.chain.account import Signer
from quorate.protocol.hashing import keccak
from quorate.protocol.types import Address

DYNAMIC_FEE = b"\x02"


@dataclass(frozen=True, slots=True)
class Transaction:
    """An unsigned transaction; fees in wei for a gas. `to` is None for the creation of a contract."""

    chain_id: int
    nonce: int
    to: Address | None
    data: bytes
    gas: int
    max_fee: int
    tip: int
    value: int = 0

    def sign(self, key: Signer) -> bytes:
        """Bytes for eth_sendRawTransaction."""
        access_list: tuple[bytes, ...] = ()
        body = (
            self.chain_id, self.nonce, self.tip, self.max_fee, self.gas, self.to or b"", self.value, self.data,
            access_list,
        )  # fmt: skip
        signature = key.sign(keccak(DYNAMIC_FEE + rlp.encode(body)))
        parts = (signature[64] - 27, int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"))
        return DYNAMIC_FEE + rlp.encode((*body, *parts))


def compute_hash(raw: bytes) -> bytes:
    """Hash under which a signed transaction is known."""
    return keccak(raw)


def compute_create_address(sender: Address, nonce: int) -> Address:
    """Address of the contract that `sender` creates with its transaction number `nonce`."""
    return Address(keccak(rlp.encode((sender, nonce)))[12:])
