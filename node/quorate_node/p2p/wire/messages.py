"""Schemas of everything that nodes say over libp2p: JSON, versioned, limited in size, of one network.

The bodies are those of HTTP (quorate.messages), for there is one meaning of an order or a commitment. Around each stand
version, chain and network, so that what belongs elsewhere is refused by name before its body is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic import ValidationError as SchemaError

from quorate.messages import (
    MAX_BODY_BYTES,
    MAX_MAIL_BYTES,
    MAX_PROVIDERS,
    CommitmentsMessage,
    ErrorDetail,
    ExtensionMessage,
    Hex16,
    Hex20,
    LogsAnswer,
    LogsQuery,
    MailAnswer,
    MailMessage,
    Message,
    OpeningsMessage,
    OrderAccepted,
    OrderMessage,
    StatusAnswer,
    StatusQuery,
    Uint64,
    Url,
    VoteMessage,
    VoteOpeningMessage,
)
from quorate.protocol.jsontext import load_json
from quorate_node.p2p.wire.network import VERSION, NetworkName, WireError
from quorate_node.p2p.wire.records import RecordBody

MAX_ENVELOPE_BYTES = 1024
MAX_PAGE = 32
"""Records in one answer."""
MAX_ANNOUNCED = 32
"""Orders in one announcement, as far as its bytes allow."""
MAX_REQUEST_BYTES = 2 * MAX_MAIL_BYTES + MAX_ENVELOPE_BYTES
MAX_ANSWER_BYTES = 1 << 20
MAX_STATUS_BYTES = 256 * 1024


class OrdersMessage(Message):
    """Announcement: a collator has taken these orders. Others bring them to the chain if it does not, in good time."""

    orders: Annotated[list[OrderMessage], Field(min_length=1, max_length=MAX_ANNOUNCED)]


class BatchMessage(Message):
    """Announcement: a collator has posted a batch; `providers` are gateways with its inputs. The chain decides."""

    batch_id: Uint64
    providers: Annotated[list[Url], Field(max_length=MAX_PROVIDERS)] = Field(default_factory=list)


class RecordMessage(Message):
    """Announcement: an operator's node is reached like this."""

    record: RecordBody


class RecordsQuery(Message):
    """Request: records of operators above the address `after`; `own` are records of whoever asks."""

    after: Hex20 = bytes(20)
    own: Annotated[list[RecordBody], Field(max_length=MAX_PAGE)] = Field(default_factory=list)


class RecordsAnswer(Message):
    """A page of records in the order of operators; fewer than MAX_PAGE: the last one."""

    records: Annotated[list[RecordBody], Field(max_length=MAX_PAGE)]


class Taken(Message):
    """A message was taken; nothing else is to be said."""


@dataclass(frozen=True, slots=True)
class RequestKind:
    """Schemas of a request and its answer, and the most bytes of the first, with its envelope."""

    request: type[Message]
    answer: type[BaseModel]
    max_bytes: int = MAX_BODY_BYTES + MAX_ENVELOPE_BYTES


ANNOUNCEMENTS: Mapping[str, type[Message]] = {
    "orders": OrdersMessage,
    "batches": BatchMessage,
    "records": RecordMessage,
}
"""Kind of an announcement → its schema; each is a gossip topic."""
REQUESTS: Mapping[str, RequestKind] = {
    "orders": RequestKind(OrderMessage, OrderAccepted, 16 * 1024),
    "extensions": RequestKind(ExtensionMessage, Taken, 64 * 1024),
    "commitments": RequestKind(CommitmentsMessage, Taken),
    "openings": RequestKind(OpeningsMessage, Taken),
    "votes": RequestKind(VoteMessage, Taken, 4 * 1024),
    "vote-openings": RequestKind(VoteOpeningMessage, Taken, 4 * 1024),
    "mail": RequestKind(MailMessage, MailAnswer, MAX_REQUEST_BYTES),
    "records": RequestKind(RecordsQuery, RecordsAnswer, 64 * 1024),
    "status": RequestKind(StatusQuery, StatusAnswer, 1024),
    "logs": RequestKind(LogsQuery, LogsAnswer, 1024),
}
"""Kind of a request → its schemas; each is a libp2p protocol."""


class Envelope(BaseModel):
    """Around every body. An answer has either a body or an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Annotated[int, Field(ge=0, lt=1 << 16, strict=True)]
    chain_id: Uint64
    network: Hex16
    body: dict[str, Any] | None = None
    error: ErrorDetail | None = None


def seal(network: NetworkName, body: BaseModel | None, error: ErrorDetail | None = None) -> bytes:
    """A message with its envelope."""
    envelope = Envelope(
        version=VERSION,
        chain_id=network.chain_id,
        network=network.network_id,
        body=body.model_dump(mode="json") if body is not None else None,
        error=error,
    )
    return envelope.model_dump_json(exclude_none=True).encode()


def open_announcement(network: NetworkName, kind: str, data: bytes, max_bytes: int) -> Message:
    """The body of an announcement. Raises WireError."""
    schema = ANNOUNCEMENTS.get(kind)
    if schema is None:
        raise WireError("KIND", f"no announcement is called {kind!r}")
    message = _open_body(network, data, schema, max_bytes)
    assert isinstance(message, Message)
    return message


def open_request(network: NetworkName, kind: str, data: bytes) -> Message:
    """The body of a request. Raises WireError."""
    schemas = REQUESTS.get(kind)
    if schemas is None:
        raise WireError("KIND", f"no request is called {kind!r}")
    message = _open_body(network, data, schemas.request, schemas.max_bytes)
    assert isinstance(message, Message)
    return message


def open_answer(network: NetworkName, kind: str, data: bytes) -> BaseModel | ErrorDetail:
    """The body of an answer, or why there is none. Raises WireError."""
    schemas = REQUESTS.get(kind)
    if schemas is None:
        raise WireError("KIND", f"no request is called {kind!r}")
    envelope = _open_envelope(network, data, MAX_ANSWER_BYTES)
    if envelope.error is not None:
        return envelope.error
    return _read_body(envelope, schemas.answer)


def _open_body(network: NetworkName, data: bytes, schema: type[BaseModel], max_bytes: int) -> BaseModel:
    return _read_body(_open_envelope(network, data, max_bytes), schema)


def _open_envelope(network: NetworkName, data: bytes, max_bytes: int) -> Envelope:
    if len(data) > max_bytes:
        raise WireError("SIZE", f"a message of {len(data)} bytes, and at most {max_bytes} are taken")
    try:
        envelope = Envelope.model_validate(load_json(data))
    except (ValueError, RecursionError) as error:
        raise WireError("SCHEMA", f"not a message: {_shorten(error)}") from error
    if envelope.version != VERSION:
        raise WireError("VERSION", f"a message of version {envelope.version}, and this node speaks version {VERSION}")
    if envelope.chain_id != network.chain_id:
        raise WireError("CHAIN", f"a message of chain {envelope.chain_id}, and this is chain {network.chain_id}")
    if envelope.network != network.network_id:
        raise WireError(
            "NETWORK", f"a message of network {envelope.network.hex()}, and this is {network.network_id.hex()}"
        )
    return envelope


def _read_body(envelope: Envelope, schema: type[BaseModel]) -> BaseModel:
    if envelope.body is None:
        raise WireError("SCHEMA", "a message without a body")
    try:
        return schema.model_validate(envelope.body)
    except ValueError as error:
        raise WireError("SCHEMA", f"not a {schema.__name__}: {_shorten(error)}") from error


def _shorten(error: Exception) -> str:
    if isinstance(error, SchemaError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return f"{'.'.join(map(str, first['loc']))[:80]}: {first['msg'][:120]}"
    return str(error)[:200]
