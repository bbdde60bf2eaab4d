"""Chunks of a piece, one after the other: each verified before the next is asked for, and before it is paid for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus

from quorate.filecoin.piececid import NODE_BYTES, QUAD_BYTES, PieceCid, compute_capacity
from quorate.filecoin.piecetree import (
    CHUNK_BYTES,
    CHUNK_HEIGHT,
    ChunkVerifier,
    ComputeNode,
    count_chunks,
    get_chunk_height,
    join,
)
from quorate.filecoin.retrieval.transport import Answer, Channel, ProviderFailed, ProviderLied
from quorate.protocol.errors import DataError

PART_HEIGHT = 12
"""Chunks are hashed in eighths while the rest of them comes in."""
PART_BYTES = QUAD_BYTES << (PART_HEIGHT - 2)
MAX_ERROR_BYTES = 64 << 10
MAX_NODES_BYTES = 64 << 20
"""Those of 2 TiB, 32 times the largest sector. They are in memory, and it may be a provider that names the piece."""


class PaymentRefused(ProviderFailed):
    """A provider does not take the payment (402) that it asked for; `body` is its answer."""

    def __init__(self, reason: str, headers: Mapping[str, str]) -> None:
        self.headers = headers
        super().__init__(f"does not take the payment: {reason}")


class ChunkHasher:
    """Computes the node over a chunk while its bytes come in, on a few threads. Close it."""

    def __init__(self, compute: ComputeNode, threads: int = 2) -> None:
        self._compute = compute
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="chunk")

    def hash(self, chunk: memoryview, height: int, filled: Iterable[int]) -> bytes:
        """The node of a height; `filled` tells how much of the chunk is there, until all is."""
        if height < CHUNK_HEIGHT:
            for _ in filled:
                pass
            return self._compute(chunk, height)
        parts: list[Future[bytes]] = []

        def start(up_to: int) -> None:
            while (end := min((len(parts) + 1) * PART_BYTES, len(chunk))) <= up_to and len(parts) * PART_BYTES < end:
                parts.append(self._pool.submit(self._compute, chunk[len(parts) * PART_BYTES : end], PART_HEIGHT))

        try:
            for count in filled:
                start(count - count % PART_BYTES if count < len(chunk) else count)
        finally:
            nodes = [part.result() for part in parts]  # none reads the buffer when this returns
        return join(nodes, PART_HEIGHT, height)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def fetch_nodes(channel: Channel, piece: PieceCid, compute: ComputeNode) -> ChunkVerifier | None:
    """The checked nodes of a piece; None from a provider that does not serve them (404).

    Raises ProviderLied for nodes that are not the piece's, ProviderFailed.
    """
    if piece.height <= CHUNK_HEIGHT:  # one chunk, whose node is the root
        return ChunkVerifier(piece, piece.root, compute)
    wanted = count_chunks(piece.size_bytes) * NODE_BYTES
    if wanted > MAX_NODES_BYTES:
        raise ProviderFailed(f"has a piece of {piece.size_bytes} bytes, which no sector of Filecoin's holds")
    with channel.ask("GET", f"/piece/{piece.v2}/nodes", {}) as answer:
        if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED):
            return None
        if answer.status != HTTPStatus.OK:
            raise ProviderFailed(f"answered {answer.status} when it was asked for the piece's nodes")
        nodes = answer.read(wanted + 1)
    try:
        return ChunkVerifier(piece, nodes, compute)
    except DataError as error:
        raise ProviderLied(f"sent wrong nodes: {error}") from None


def fetch_chunk(
    channel: Channel, verifier: ChunkVerifier, index: int, headers: Mapping[str, str], hasher: ChunkHasher,
    buffer: memoryview,
) -> memoryview:  # fmt: skip
    """A verified chunk, in the buffer. `headers` pay for it; without any it is free.

    Raises ProviderLied where it is not what it was paid for, PaymentRefused, and ProviderFailed for a cut or a stall.
    """
    length = verifier.get_length(index)
    chunk, node = receive_chunk(channel, verifier.piece, index, length, headers, hasher, buffer)
    try:
        verifier.expect(index, node)
    except DataError as error:
        raise ProviderLied(str(error)) from None
    return chunk


def receive_chunk(
    channel: Channel, piece: PieceCid, index: int, length: int, headers: Mapping[str, str], hasher: ChunkHasher,
    buffer: memoryview,
) -> tuple[memoryview, bytes]:  # fmt: skip
    """A chunk as it came, in the buffer, and the node over it. Raises as `fetch_chunk`."""
    chunk, first, height = buffer[:length], index * CHUNK_BYTES, get_chunk_height(piece.height)
    if not length:
        return chunk, hasher.hash(chunk, height, ())
    span = {"Range": f"bytes={first}-{first + length - 1}"}
    with channel.ask("GET", f"/piece/{piece.v2}", {**span, **headers}, is_paid=bool(headers)) as answer:
        _check_status(answer, first, length, piece.size_bytes, is_paid=bool(headers))
        return chunk, hasher.hash(chunk, height, answer.fill(chunk))


def _check_status(answer: Answer, first: int, length: int, size: int, *, is_paid: bool) -> None:
    if answer.status == HTTPStatus.PAYMENT_REQUIRED:
        raise PaymentRefused(read_reason(answer), answer.headers)
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        wanted = f"bytes {first}-{first + length - 1}/{size}"
        if answer.headers.get("content-range", wanted).strip() != wanted:
            raise _broken(is_paid, f"sent {answer.headers['content-range'][:80]!r} instead of {wanted!r}")
    elif answer.status != HTTPStatus.OK or length != size:
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise ProviderFailed(f"answered {answer.status}")
        raise _broken(is_paid, f"answered {answer.status}")
    if answer.length is not None and answer.length != length:
        raise _broken(is_paid, f"announces {answer.length} bytes instead of {length}")


def _broken(is_paid: bool, what: str) -> ProviderLied | ProviderFailed:
    return ProviderLied(f"took the payment and {what}") if is_paid else ProviderFailed(what)


def read_reason(answer: Answer) -> str:
    """What a 402 says of itself, as text for people."""
    try:
        reason = json.loads(answer.read(MAX_ERROR_BYTES)).get("error")
    except (ValueError, AttributeError, RecursionError):
        return "402 without a reason"
    return reason[:200] if isinstance(reason, str) and reason else "402 without a reason"


assert compute_capacity(PART_HEIGHT) == PART_BYTES
