"""Frames between a node and its libp2p child: u32 length ‖ u16 header's length ‖ header, JSON ‖ payload, bytes.

Big-endian. Both ends are ours, but the payloads are strangers', so a payload never stands in the JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from quorate.protocol.jsontext import load_json
from quorate_node.p2p.wire.network import WireError

LENGTH_BYTES = 4
HEADER_LENGTH_BYTES = 2
MAX_HEADER_BYTES = (1 << 16) - 1
MAX_FRAME_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Frame:
    """One word of the conversation: what it is, its values, and bytes that nobody looks into on the way."""

    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""

    def encode(self) -> bytes:
        """With its length. Raises WireError (SIZE) when it is too large to be read again."""
        header = json.dumps({"kind": self.kind, **self.values}, separators=(",", ":")).encode()
        size = HEADER_LENGTH_BYTES + len(header) + len(self.payload)
        if len(header) > MAX_HEADER_BYTES or size > MAX_FRAME_BYTES:
            raise WireError("SIZE", f"a frame of {size} bytes is larger than {MAX_FRAME_BYTES}")
        lengths = size.to_bytes(LENGTH_BYTES, "big") + len(header).to_bytes(HEADER_LENGTH_BYTES, "big")
        return lengths + header + self.payload


def check_length(prefix: bytes) -> int:
    """Bytes of the frame behind its 4-byte length. Raises WireError (SIZE)."""
    size = int.from_bytes(prefix, "big")
    if not HEADER_LENGTH_BYTES <= size <= MAX_FRAME_BYTES:
        raise WireError("SIZE", f"a frame cannot have {size} bytes")
    return size


def decode_frame(data: bytes) -> Frame:
    """A frame without its length. Raises WireError (SCHEMA) for bytes that are none."""
    size = int.from_bytes(data[:HEADER_LENGTH_BYTES], "big")
    end = HEADER_LENGTH_BYTES + size
    if len(data) < end:
        raise WireError("SCHEMA", "a frame ends within its header")
    try:
        values = load_json(data[HEADER_LENGTH_BYTES:end])
    except ValueError as error:
        raise WireError("SCHEMA", f"a frame's header is not JSON: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("kind"), str):
        raise WireError("SCHEMA", "a frame's header has no kind")
    kind = values.pop("kind")
    return Frame(kind, values, data[end:])
