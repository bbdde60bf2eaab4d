"""Answers of an index of one provider, as IPNI and delegated routing give them. Pure, but for the identity's file."""

from __future__ import annotations

import base64
import ipaddress
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import libipld
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from quorate.chain.types import write_atomically
from quorate.protocol.errors import ConfigurationError
from quorate.storage import varint

GATEWAY_HTTP, PIECE_HTTP = 0x0920, 0x0930
NAMES = {GATEWAY_HTTP: "transport-ipfs-gateway-http", PIECE_HTTP: "transport-filecoin-piece-http"}
_ED25519_KEY = b"\x08\x01\x12\x20"  # libp2p's protobuf of a public key: type 1, and 32 bytes
_IDENTITY = b"\x00\x24"


def load_identity(path: Path) -> str:
    """The peer id of a home, from a key that is made the first time. Raises ConfigurationError."""
    if not path.exists():
        write_atomically(path, secrets.token_hex(32) + "\n", 0o600)
    try:
        seed = bytes.fromhex(path.read_text().strip())
    except ValueError:
        seed = b""
    if len(seed) != 32:
        raise ConfigurationError(f"{path} is no identity, 32 bytes in hexadecimal digits: move it away")
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    text: str = libipld.encode_multibase("z", _IDENTITY + _ED25519_KEY + public)
    return text[1:]


def to_multiaddr(url: str) -> str:
    """A URL as a multiaddr. Raises ConfigurationError for what is no http or https URL of a host."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise ConfigurationError(f"{url!r} is no http or https URL of a host alone: others could not find it")
    try:
        address = ipaddress.ip_address(parts.hostname)
        host = f"/ip{address.version}/{address}"
    except ValueError:
        host = f"/dns/{parts.hostname}"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{host}/tcp/{port}/{parts.scheme}"


def encode_metadata(kind: int) -> bytes:
    """IPNI's metadata of a protocol that has no details: its number, and that 0 bytes follow."""
    return varint.encode(kind) + b"\0"


def answer_find(multihash: bytes, peer: str, addresses: Sequence[str], kinds: Sequence[int]) -> dict[str, Any]:
    """IPNI's answer about one multihash."""
    provider = {"ID": peer, "Addrs": list(addresses)}
    results = [
        {
            "ContextID": base64.b64encode(multihash[-32:]).decode(),
            "Metadata": base64.b64encode(encode_metadata(kind)).decode(),
            "Provider": provider,
        }
        for kind in kinds
    ]
    return {"MultihashResults": [{"Multihash": base64.b64encode(multihash).decode(), "ProviderResults": results}]}


def answer_routing(peer: str, addresses: Sequence[str], kinds: Sequence[int]) -> dict[str, Any]:
    """Delegated routing's record of this provider."""
    record: dict[str, Any] = {"Schema": "peer", "ID": peer, "Addrs": list(addresses)}
    record["Protocols"] = [NAMES[kind] for kind in kinds]
    record |= {NAMES[kind]: base64.b64encode(encode_metadata(kind)).decode() for kind in kinds}
    return record


def dump_lines(values: Sequence[dict[str, Any]]) -> str:
    """As application/x-ndjson."""
    return "".join(json.dumps(value, separators=(",", ":")) + "\n" for value in values)
