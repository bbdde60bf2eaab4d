"""Signed node records: who answers where, bound to the address that staked.

A record says that an operator's node has this libp2p identity, these addresses and this URL. The operator's signing key
signs it under the EIP-712 domain of the market contract, so it means nothing on another chain or deployment; the chain
says which key that is. The identity in turn proves itself in every libp2p handshake, so nobody can answer in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from quorate.messages import Hex20, Hex32, Signature, Uint64, Url
from quorate.protocol.encoding import compute_typed_digest
from quorate.protocol.hashing import keccak
from quorate.protocol.types import ZERO32, Address
from quorate_node.p2p.wire.addresses import PLACE
from quorate_node.p2p.wire.network import NetworkName, WireError

MAX_ADDRESSES = 8
MAX_MULTIADDR = 128
MAX_PEER_ID = 64
MAX_AGE_MS = 24 * 3600 * 1000
MAX_AHEAD_MS = 10 * 60 * 1000
"""A record that claims to be from the future would keep all later ones out."""
RECORD_TYPEHASH = keccak(
    b"NodeRecord(address operator,uint64 sequence,string peerId,string[] addresses,string url,bytes32 roots,"
    b"bool isCollator)"
)

PeerIdText = Annotated[str, StringConstraints(pattern=r"^[1-9A-HJ-NP-Za-km-z]+$", min_length=8, max_length=MAX_PEER_ID)]
AddressText = Annotated[str, StringConstraints(pattern=f"^{PLACE}$", max_length=MAX_MULTIADDR)]
Recover = Callable[[bytes, bytes], Address | None]
"""(digest, signature) → address of the key, or None (quorate.chain.signing.recover)."""
FindKey = Callable[[Address], Address | None]
"""Address that staked → the signing key of its operator as the chain says; None when no operator has it."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What an operator says about its node.

    `operator` is the address that staked; `sequence` unix milliseconds, and larger than in all its records before;
    `addresses` multiaddrs without the peer's id; `url` its HTTP side, the data plane; `roots` a digest of which
    datasets are whole there (wire.digests), so that whoever looks for one knows whom to ask; `is_collator`
    tells that it takes orders.
    """

    network: NetworkName
    operator: Address
    sequence: int
    peer_id: str
    addresses: tuple[str, ...]
    url: str
    roots: bytes = ZERO32
    is_collator: bool = False

    def compute_digest(self) -> bytes:
        """What is signed: 32 bytes, by EIP-712."""
        texts = keccak(b"".join(keccak(each.encode()) for each in self.addresses))
        struct_hash = keccak(
            RECORD_TYPEHASH
            + self.operator.rjust(32, b"\0")
            + self.sequence.to_bytes(32, "big")
            + keccak(self.peer_id.encode())
            + texts
            + keccak(self.url.encode())
            + self.roots
            + int(self.is_collator).to_bytes(32, "big")
        )
        return compute_typed_digest(self.network.separator, struct_hash)

    def list_dialable(self) -> list[str]:
        """Its addresses with the peer's id: what can be dialled and proves itself."""
        return [f"{each}/p2p/{self.peer_id}" for each in self.addresses]


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record, and 65 bytes over it by the operator's signing key."""

    record: NodeRecord
    signature: bytes


class RecordBody(BaseModel):
    """A signed record as JSON; chain and contracts stand in it, so that a refusal can say which were meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    chain_id: Uint64
    market: Hex20
    operator: Hex20
    sequence: Uint64
    peer_id: PeerIdText
    addresses: Annotated[list[AddressText], Field(min_length=1, max_length=MAX_ADDRESSES)]
    url: Url
    roots: Hex32 = ZERO32
    is_collator: bool = False
    signature: Annotated[Signature, Field(min_length=65, max_length=65)]

    def to_signed(self) -> SignedRecord:
        """The value; nothing is checked but its form."""
        record = NodeRecord(
            NetworkName(self.chain_id, Address(self.market)), Address(self.operator), self.sequence, self.peer_id,
            tuple(self.addresses), self.url, self.roots, self.is_collator,
        )  # fmt: skip
        return SignedRecord(record, self.signature)

    @classmethod
    def from_signed(cls, signed: SignedRecord) -> Self:
        """The message of a signed record. Raises pydantic's ValidationError for one that no other node would take."""
        record = signed.record
        return cls(
            chain_id=record.network.chain_id, market=record.network.market, operator=record.operator,
            sequence=record.sequence, peer_id=record.peer_id, addresses=list(record.addresses), url=record.url,
            roots=record.roots, is_collator=record.is_collator, signature=signed.signature,
        )  # fmt: skip


def sign_record(record: NodeRecord, sign: Callable[[bytes], bytes]) -> SignedRecord:
    """Sign with an operator's key."""
    return SignedRecord(record, sign(record.compute_digest()))


def check_record(signed: SignedRecord, network: NetworkName, now_ms: int, find_key: FindKey, recover: Recover) -> None:
    """Raise WireError unless a record is of this network, of today, and signed by the key of a staked operator."""
    record = signed.record
    if record.network.chain_id != network.chain_id:
        raise WireError("CHAIN", f"a record of chain {record.network.chain_id}, and this is chain {network.chain_id}")
    if record.network.market != network.market:
        raise WireError(
            "NETWORK", f"a record for the contract 0x{record.network.market.hex()}, which is not this network's"
        )
    if record.sequence > now_ms + MAX_AHEAD_MS:
        raise WireError("FUTURE", "a record from the future: is a clock wrong, its or ours?")
    if record.sequence < now_ms - MAX_AGE_MS:
        raise WireError("OLD", "a record older than a day")
    key = find_key(record.operator)
    if key is None:
        raise WireError("UNSTAKED", f"0x{record.operator.hex()} has staked for no operator here")
    if recover(record.compute_digest(), signed.signature) != key:
        raise WireError("IMPOSTOR", f"a record of 0x{record.operator.hex()} that its operator's key did not sign")


class RecordBook:
    """The newest record of each operator: of as many as `max_records`, each checked before it comes in."""

    def __init__(self, network: NetworkName, find_key: FindKey, recover: Recover, max_records: int = 20_000) -> None:
        self.network = network
        self._find_key, self._recover, self._max_records = find_key, recover, max_records
        self._rows: dict[Address, SignedRecord] = {}
        self._by_peer: dict[str, set[Address]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, signed: SignedRecord, now_ms: int) -> bool:
        """Take a record; whether it told anything new. Raises WireError with the reason for one that is refused.

        OLD is what an operator has since replaced, FULL what a book of this size has no place for.
        """
        operator = signed.record.operator
        known = self._rows.get(operator)
        if known is not None and known.record == signed.record:
            return False
        if known is not None and signed.record.sequence <= known.record.sequence:
            raise WireError("OLD", f"0x{operator.hex()} has told something newer since")
        if known is None and len(self._rows) >= self._max_records:
            self.drop_old(now_ms)
            if len(self._rows) >= self._max_records:
                raise WireError("FULL", f"{self._max_records} records are known already")
        check_record(signed, self.network, now_ms, self._find_key, self._recover)
        self._remove(operator)
        self._rows[operator] = signed
        self._by_peer.setdefault(signed.record.peer_id, set()).add(operator)
        return True

    def _remove(self, operator: Address) -> None:
        if (known := self._rows.pop(operator, None)) is not None:
            of_peer = self._by_peer[known.record.peer_id]
            of_peer.discard(operator)
            if not of_peer:
                del self._by_peer[known.record.peer_id]

    def drop_old(self, now_ms: int) -> None:
        """Forget records that are older than a day, and those whose operator has another key by now."""
        for operator, signed in list(self._rows.items()):
            try:
                check_record(signed, self.network, now_ms, self._find_key, self._recover)
            except WireError:
                self._remove(operator)

    def get(self, operator: Address) -> NodeRecord | None:
        """What an operator says about its node."""
        signed = self._rows.get(operator)
        return signed.record if signed else None

    def find_peer(self, peer_id: str) -> NodeRecord | None:
        """A record with this libp2p identity: of several operators that the node runs that of its collator, if any."""
        records = [self._rows[each].record for each in self._by_peer.get(peer_id, ())]
        return min(records, key=lambda each: (not each.is_collator, each.operator), default=None)

    def count_peers(self) -> int:
        """Nodes behind the records: one may run many operators."""
        return len(self._by_peer)

    def list_records(self) -> list[NodeRecord]:
        """All of them, by operator."""
        return [self._rows[operator].record for operator in sorted(self._rows)]

    def list_page(self, after: bytes, size: int) -> list[SignedRecord]:
        """At most `size` records of operators above the address `after`, in order: pages of an exchange."""
        above: Sequence[Address] = sorted(operator for operator in self._rows if operator > after)
        return [self._rows[operator] for operator in above[:size]]
