"""What requesters and nodes say to each other over HTTP: JSON bodies, versioned and limited in size.

Bytes are 0x-hex, amounts integers in wei. Pages of commitments travel in the binary layout of contracts/README.md,
in hex: there is one encoding of them, and the contracts read it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints, model_validator

from quorate.protocol.dispute_pages import decode_vote_lists, encode_vote_lists
from quorate.protocol.encoding import decode_commit_lists, encode_commit_lists
from quorate.protocol.errors import ValidationError
from quorate.protocol.types import (
    ORDER_WIDTHS,
    Address,
    CommitList,
    JobOrder,
    Opening,
    SignatureKind,
    SignedOrder,
    Vote,
)

MAX_URL = 256
MAX_PROVIDERS = 8
MAX_EXTENDED = 4096
SIGNATURE_BYTES = 65
MAX_SIGNATURE = 4096
"""Bytes; a contract wallet's may be long, and the collator pays for posting it."""
MAX_PAGE_BYTES = 256 * 1024
MAX_BODY_BYTES = 2 * MAX_PAGE_BYTES + 4096
MAX_LETTERS = 256
MAX_MAIL_BYTES = 1 << 20
MAX_CID_CHARS = 128
MAX_ROOT_CHANGES = 2_000
MAX_LOG_LINES = 200
OPENING_BYTES = 2 + 1 + 32 + 16


def _from_hex(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value.startswith("0x"):
        raise ValueError("must be a string of 0x and hex digits")
    return bytes.fromhex(value[2:])


def _to_hex(value: bytes) -> str:
    return f"0x{value.hex()}"


_Hex = (BeforeValidator(_from_hex), PlainSerializer(_to_hex))
Hex20 = Annotated[bytes, *_Hex, Field(min_length=20, max_length=20)]
Hex16 = Annotated[bytes, *_Hex, Field(min_length=16, max_length=16)]
Hex32 = Annotated[bytes, *_Hex, Field(min_length=32, max_length=32)]
Signature = Annotated[bytes, *_Hex, Field(max_length=MAX_SIGNATURE)]
Page = Annotated[bytes, *_Hex, Field(min_length=1, max_length=MAX_PAGE_BYTES)]
Uint8 = Annotated[int, Field(ge=0, lt=1 << 8)]
Uint16 = Annotated[int, Field(ge=0, lt=1 << 16)]
Uint32 = Annotated[int, Field(ge=0, lt=1 << 32)]
Uint40 = Annotated[int, Field(ge=0, lt=1 << 40)]
Uint64 = Annotated[int, Field(ge=0, lt=1 << 64)]
Url = Annotated[str, StringConstraints(max_length=MAX_URL, pattern=r"^https?://[^\s]+$")]


class Message(BaseModel):
    """Unknown fields are refused: a typo must not pass for a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Literal[1] = 1


class OrderBody(BaseModel):
    """A JobOrder."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    requester: Hex20
    nonce: Uint64
    class_id: Uint32
    spec_hash: Hex32
    task_count: Uint32
    fuel_limit: Uint64
    input_bytes: Uint64
    seats: Uint8
    rounds: Uint8
    commit_period: Uint32
    min_units: Uint32
    max_price: Uint64
    max_fee: Uint64
    valid_until: Uint40
    strategy: Uint8 = 0
    flags: Uint8 = 0

    def to_order(self) -> JobOrder:
        """The protocol's value."""
        numbers = {name: getattr(self, name) for name in ORDER_WIDTHS}
        return JobOrder(requester=Address(self.requester), spec_hash=self.spec_hash, **numbers)

    @classmethod
    def from_order(cls, order: JobOrder) -> Self:
        """The message of an order."""
        numbers = {name: getattr(order, name) for name in ORDER_WIDTHS}
        return cls(requester=order.requester, spec_hash=order.spec_hash, **numbers)


class OrderMessage(Message):
    """`POST /quorate/v1/orders`: an order with its requester's signature, and who has spec, module and input."""

    order: OrderBody
    signature: Signature
    kind: SignatureKind = SignatureKind.ECDSA
    providers: Annotated[list[Url], Field(max_length=MAX_PROVIDERS)] = []

    @model_validator(mode="after")
    def _check_signature(self) -> Self:
        if self.kind is SignatureKind.ECDSA and len(self.signature) != SIGNATURE_BYTES:
            raise ValueError(f"a signature of kind 0 has {SIGNATURE_BYTES} bytes")
        return self

    def to_signed(self) -> SignedOrder:
        """The protocol's value."""
        return SignedOrder(self.order.to_order(), self.signature, self.kind)

    @classmethod
    def from_signed(cls, signed: SignedOrder, providers: Sequence[str] = ()) -> Self:
        """The message of a signed order."""
        body = OrderBody.from_order(signed.order)
        return cls(order=body, signature=signed.signature, kind=signed.kind, providers=list(providers))


class ExtensionMessage(Message):
    """`POST /quorate/v1/extensions`: a requester buys more rounds for bundles of a batch that stands in `round`."""

    batch_id: Uint64
    bundles: Annotated[list[Uint16], Field(min_length=1, max_length=MAX_EXTENDED)]
    round: Uint8
    rounds: Annotated[Uint8, Field(ge=1)]
    signature: Signature


class OrderAccepted(BaseModel):
    """202 on an order: it will be posted. `job_id` is its EIP-712 digest in hex."""

    job_id: str


class HintsMessage(BaseModel):
    """`GET /quorate/v1/hints/{job_id}`: URLs of gateways that may have the job's input.

    Few, as in an order: one that does not answer costs whoever asks it seconds.
    """

    providers: Annotated[list[Url], Field(max_length=MAX_PROVIDERS)]


class RootChange(BaseModel):
    """A root that is whole at the node now, with the bytes of its content; without them it is not any more."""

    cid: Annotated[str, Field(max_length=MAX_CID_CHARS)]
    size: Uint64 | None = None


class RootsMessage(BaseModel):
    """`GET /quorate/v1/roots?epoch=…&since=…`: what is whole at the node, as changes; see `quorate_node.roots`."""

    epoch: Annotated[str, Field(max_length=64)]
    next: Uint64
    is_whole: bool
    changes: Annotated[list[RootChange], Field(max_length=MAX_ROOT_CHANGES)]


class LeavesMessage(BaseModel):
    """`GET /quorate/v1/leaves/{root}`: leaves under a Merkle root, in hex; each is the CID digest of a TaskResult."""

    leaves: list[str]


class StatusQuery(Message):
    """`POST /quorate/v1/status`: what does a node know and do?"""


class StatusAnswer(Message):
    """The document of `GET /quorate/v1/status`."""

    status: dict[str, Any]


class LogsQuery(Message):
    """`POST /quorate/v1/logs`: what did a node do for a job?"""

    job_id: Hex32


class LogLine(BaseModel):
    """One thing that happened: `at` in unix seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    at: Annotated[float, Field(ge=0)]
    event: Annotated[str, Field(max_length=64)]
    detail: Annotated[str, Field(max_length=400)] = ""


class LogsAnswer(Message):
    """The newest lines, in their order."""

    lines: Annotated[list[LogLine], Field(max_length=MAX_LOG_LINES)]


class SeatLog(BaseModel):
    """What an operator's node did for a job, or why it does not say so."""

    operator: int
    lines: list[LogLine] = []
    problem: str | None = None


class JobLogs(BaseModel):
    """`GET /quorate/v1/logs/{job_id}`: of all seats that were drawn for a job, as far as the node knows them."""

    seats: list[SeatLog]


class CommitmentsMessage(Message):
    """`POST /quorate/v1/commitments`: one list of commitments for a batch's round, in the layout of `commit`."""

    batch_id: Uint64
    round: Uint8
    page: Page

    def to_list(self) -> CommitList:
        """The list. Raises ValidationError unless the page is exactly one."""
        lists = decode_commit_lists(self.page)
        if len(lists) != 1:
            raise ValidationError(f"a message carries one list of commitments, not {len(lists)}")
        return lists[0]

    @classmethod
    def from_list(cls, batch_id: int, round_: int, commit_list: CommitList) -> Self:
        """The message of a list."""
        return cls(batch_id=batch_id, round=round_, page=encode_commit_lists([commit_list]))


class OpeningsMessage(Message):
    """`POST /quorate/v1/openings`: `page` is (bundle u16 ‖ seat u8 ‖ vote 32 ‖ salt 16)*."""

    batch_id: Uint64
    round: Uint8
    page: Page

    def to_openings(self) -> list[tuple[tuple[int, int], Opening]]:
        """((bundle, seat), opening) each. Raises ValidationError when the page is cut off."""
        if len(self.page) % OPENING_BYTES:
            raise ValidationError(f"a page of openings has {OPENING_BYTES} bytes for each")
        rows = (self.page[at : at + OPENING_BYTES] for at in range(0, len(self.page), OPENING_BYTES))
        return [((int.from_bytes(r[:2], "big"), r[2]), Opening(Vote(r[3:35]), r[35:])) for r in rows]

    @classmethod
    def from_openings(cls, batch_id: int, round_: int, openings: Sequence[tuple[tuple[int, int], Opening]]) -> Self:
        """The message of openings."""
        rows = (b.to_bytes(2, "big") + bytes((s,)) + each.vote + each.salt for (b, s), each in openings)
        return cls(batch_id=batch_id, round=round_, page=b"".join(rows))


class VoteMessage(Message):
    """`POST /quorate/v1/votes`: one class vote's commitment, in the layout of `commitVotes`."""

    dispute_id: Uint64
    page: Annotated[bytes, *_Hex, Field(min_length=99, max_length=99)]

    def to_vote(self) -> tuple[int, bytes, bytes]:
        """(member, signature, commitment)."""
        return decode_vote_lists(self.page)[0]

    @classmethod
    def from_vote(cls, dispute_id: int, vote: tuple[int, bytes, bytes]) -> Self:
        """The message of a vote."""
        return cls(dispute_id=dispute_id, page=encode_vote_lists([vote]))


class VoteOpeningMessage(Message):
    """`POST /quorate/v1/vote-openings`."""

    dispute_id: Uint64
    member: Uint16
    vote: Hex32
    salt: Hex16

    def to_opening(self) -> Opening:
        """The protocol's value."""
        return Opening(Vote(self.vote), self.salt)


class Letter(Message):
    """One message within others: the last word of its path, and its body as it would stand alone."""

    kind: str
    body: Annotated[str, Field(max_length=MAX_BODY_BYTES)]


class MailMessage(Message):
    """`POST /quorate/v1/mail`: messages of many operators, which wait for one host, in one request."""

    letters: Annotated[list[Letter], Field(min_length=1, max_length=MAX_LETTERS)]


class ErrorDetail(BaseModel):
    """`type` is one word for programs: the skip reason of an order, or the name of an error."""

    type: str
    message: str


class ErrorMessage(BaseModel):
    """Body of every answer from 400 on."""

    error: ErrorDetail


class MailAnswer(BaseModel):
    """200 on mail: for each letter why it was refused, or nothing where it was taken."""

    refused: list[ErrorDetail | None]
