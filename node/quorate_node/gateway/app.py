"""A node's HTTP side: content for anybody to verify, orders and messages, and how the node is doing.

Every body has a limit and a schema; every refusal is `{"error": {"type", "message"}}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic import ValidationError as SchemaError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from quorate.chain.signing import recover
from quorate.messages import (
    MAX_BODY_BYTES,
    MAX_MAIL_BYTES,
    MAX_PROVIDERS,
    ErrorDetail,
    ErrorMessage,
    ExtensionMessage,
    HintsMessage,
    LeavesMessage,
    Letter,
    MailAnswer,
    MailMessage,
    Message,
    OrderAccepted,
    OrderMessage,
)
from quorate.protocol.encoding import compute_job_id
from quorate.protocol.errors import Busy, DataError, QuorateError, ValidationError
from quorate.protocol.types import SignatureKind
from quorate.storage.base import BlobStore, ImportReport
from quorate.storage.cid import Cid
from quorate.storage.gateway import gateway_routes
from quorate_node.collator import Collator
from quorate_node.core.intake import OrderRefused
from quorate_node.core.mailroom import MessageRefused
from quorate_node.core.state import SignedExtension, State
from quorate_node.gateway.status import describe_status
from quorate_node.hints import Hints
from quorate_node.mailbox import KINDS, Mailbox
from quorate_node.roots import OwnRoots

MAX_ORDER_BYTES = 16 * 1024
MAX_IMPORT_BYTES = 8 << 30
MAX_IMPORTS = 16
IMPORT_GRACE_S = 10.0
IMPORT_LEAST_BYTES_S = 32 * 1024  # senders that are slower for longer make room for others
SPOOL_BYTES = 8 << 20
CHUNK_BYTES = 1 << 20
STATUS_BY_CODE = {"NOT_YET": 409, "GONE": 410, "NONCE": 409, "DUPLICATE": 409, "DEPOSIT": 402, "SIGNATURE": 403}

_M = TypeVar("_M", bound=BaseModel)


@dataclass(slots=True)
class Services:
    """What the routes need of the node; `get_states` gives those of its operators, the collator's first."""

    store: BlobStore
    get_states: Callable[[], Sequence[State]]
    mailbox: Mailbox
    get_leaves: Callable[[bytes], tuple[bytes, ...] | None]
    render_metrics: Callable[[], tuple[bytes, str]]
    count_order: Callable[[str], None]
    is_ready: Callable[[], bool]
    collator: Collator | None
    hints: Hints
    roots: OwnRoots
    import_quota_bytes: int
    imported_bytes: int = 0
    imports: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_IMPORTS))


def build_app(services: Services) -> Starlette:
    """The node's application."""
    api = Api(services)
    v1 = "/quorate/v1"
    return Starlette(
        routes=[
            Route(f"{v1}/orders", answered(api.orders), methods=["POST"]),
            Route(f"{v1}/extensions", answered(api.extensions), methods=["POST"]),
            Route(f"{v1}/import", answered(api.import_content), methods=["POST"]),
            Route(f"{v1}/hints/{{job_id}}", answered(api.hints)),
            Route(f"{v1}/hints", answered(api.tell_hints), methods=["POST"]),
            Route(f"{v1}/leaves/{{root}}", answered(api.leaves)),
            Route(f"{v1}/roots", answered(api.roots)),
            *(Route(f"{v1}/{kind}", answered(api.message(model)), methods=["POST"]) for kind, model in KINDS.items()),
            Route(f"{v1}/mail", answered(api.mail), methods=["POST"]),
            Route(f"{v1}/status", answered(api.status)),
            Route("/healthz", answered(api.health)),
            Route("/metrics", answered(api.metrics)),
            *gateway_routes(services.store),
        ]
    )


Handler = Callable[[Request], Awaitable[Response]]


def refusal(status: int, type_: str, message: str) -> Response:
    """Body of every answer from 400 on."""
    body = ErrorMessage(error=ErrorDetail(type=type_, message=message))
    return Response(body.model_dump_json(), status, media_type="application/json")


def answered(handler: Handler) -> Handler:
    """Turn what a handler raises into an answer."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except (OrderRefused, MessageRefused) as error:
            return refusal(STATUS_BY_CODE.get(error.code, 422), error.code, str(error))
        except SchemaError as error:
            return refusal(422, "MALFORMED", _describe(error))
        except ClientDisconnect:
            return refusal(400, "GONE", "the sender hung up")
        except BodyTooLarge as error:
            return refusal(413, "TOO_LARGE", str(error))
        except Busy as error:
            return refusal(503, "BUSY", str(error))
        except ValidationError as error:
            return refusal(422, type(error).__name__, str(error))
        except QuorateError as error:
            return refusal(503, type(error).__name__, str(error))

    return answer


def _describe(error: SchemaError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


class BodyTooLarge(ValidationError):
    """A request's body is over its limit."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises BodyTooLarge as soon as it is over `limit` bytes."""
    _check_length(request, limit)
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"the body is over {limit} bytes")
        parts.append(chunk)
    return b"".join(parts)


def _check_length(request: Request, limit: int) -> None:
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise BodyTooLarge(f"the body has {announced} bytes, over {limit}")


class Api:
    """The node's own routes."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def _read(self, request: Request, model: type[_M], limit: int = MAX_BODY_BYTES) -> _M:
        return model.model_validate_json(await read_body(request, limit))

    # requesters ---------------------------------------------------------------------------------------------------

    async def orders(self, request: Request) -> Response:
        """202 with the job's id, or why not."""
        services = self._services
        if services.collator is None:
            return refusal(404, "NOT_A_COLLATOR", "this node takes no orders: send them to one that does")
        if not services.is_ready():
            return refusal(503, "STARTING", "this node has not read the chain yet: try again in a moment")
        try:
            message = await self._read(request, OrderMessage, MAX_ORDER_BYTES)
            job_id = await services.collator.accept(message.to_signed(), message.providers)
        except OrderRefused as error:
            services.count_order(error.code)
            raise
        except (SchemaError, ValidationError):
            services.count_order("MALFORMED")
            raise
        services.count_order("ACCEPTED")
        accepted = OrderAccepted(job_id=f"0x{job_id.hex()}")
        return Response(accepted.model_dump_json(), 202, media_type="application/json")

    async def extensions(self, request: Request) -> Response:
        """202 when the collator brings more rounds for a void job to the chain, or why not."""
        if self._services.collator is None:
            return refusal(404, "NOT_A_COLLATOR", "this node takes no orders: send them to one that does")
        m = await self._read(request, ExtensionMessage, MAX_ORDER_BYTES)
        extension = SignedExtension(m.batch_id, tuple(m.bundles), m.round, m.rounds, m.signature)
        self._services.collator.accept_extension(extension)
        return JSONResponse({"taken": True}, 202)

    async def hints(self, request: Request) -> Response:
        """Providers of a job's input."""
        return _json(HintsMessage(providers=self._services.hints.get(_parse_hash(request.path_params["job_id"]))))

    async def tell_hints(self, request: Request) -> Response:
        """A requester tells who has its job's input: its order shows that it is the one."""
        message = await self._read(request, OrderMessage, MAX_ORDER_BYTES)
        signed, state = message.to_signed(), self._services.get_states()[0]
        job_id = compute_job_id(state.network.separator, signed.order)
        if signed.kind is SignatureKind.ECDSA and recover(job_id, signed.signature) != signed.order.requester:
            raise OrderRefused("SIGNATURE", "the order is not signed by its requester for this deployment")
        # A signature costs nothing: orders that nobody paid for could push out the hints of those that are under way.
        known = self._services.hints.get(job_id)
        if not known and not is_posted(state, job_id):
            raise OrderRefused("UNKNOWN_JOB", "hints about an order are taken once it is posted")
        # The chain shows an order and its signature to all: whoever repeats them adds, and replaces nothing.
        self._services.hints.put(job_id, list(dict.fromkeys([*known, *message.providers]))[:MAX_PROVIDERS])
        return JSONResponse({"taken": True}, 202)

    async def leaves(self, request: Request) -> Response:
        """Leaves under a root that this node voted for."""
        leaves = self._services.get_leaves(_parse_hash(request.path_params["root"]))
        if leaves is None:
            return refusal(404, "UNKNOWN_ROOT", "this node has not voted for that root: ask another seat")
        return _json(LeavesMessage(leaves=[leaf.hex() for leaf in leaves]))

    async def roots(self, request: Request) -> Response:
        """Content that is here whole, or what has changed of it since one asked before."""
        since = request.query_params.get("since", "0")
        if not since.isdecimal() or not since.isascii() or len(since) > 12:
            raise ValidationError(f"since must be a number, not {since[:40]!r}")
        return _json(self._services.roots.tell(request.query_params.get("epoch", ""), int(since)))

    async def import_content(self, request: Request) -> Response:
        """Take a CAR's DAG into the store, as far as the quota reaches."""
        services = self._services
        root = Cid.parse(request.query_params.get("root", ""))
        left = min(services.import_quota_bytes - services.imported_bytes, MAX_IMPORT_BYTES)
        _check_length(request, max(left, 0))
        if left <= 0:
            return refusal(507, "QUOTA", "this node takes no more content: use another, or serve it yourself")
        if services.imports.locked():
            raise Busy("too many imports run: try again in a moment")
        async with services.imports:
            with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
                try:
                    await _receive(request, spool, left)
                except TimeoutError:
                    raise Busy(f"the CAR comes in at less than {IMPORT_LEAST_BYTES_S} bytes a second") from None
                spool.seek(0)
                report = await asyncio.to_thread(_import, services.store, _chunks(spool), root, left)
        services.imported_bytes += report.new_bytes
        return JSONResponse({"root": str(report.root), "blocks": report.blocks, "new_bytes": report.new_bytes})

    # nodes --------------------------------------------------------------------------------------------------------

    def message(self, model: type[Message]) -> Handler:
        """A handler for one kind of message between nodes."""

        async def take(request: Request) -> Response:
            self._services.mailbox.take(await self._read(request, model))
            return JSONResponse({"taken": True}, 202)

        return take

    async def mail(self, request: Request) -> Response:
        """Many messages between nodes, each taken or refused by itself."""
        letters = (await self._read(request, MailMessage, MAX_MAIL_BYTES)).letters
        refused: list[ErrorDetail | None] = []
        for letter in letters:
            refused.append(self._take(letter))
            await asyncio.sleep(0)  # signatures are checked here: others get their turn
        return _json(MailAnswer(refused=refused))

    def _take(self, letter: Letter) -> ErrorDetail | None:
        model = KINDS.get(letter.kind)
        if model is None:
            return ErrorDetail(type="MALFORMED", message="there is no such kind of message")
        try:
            self._services.mailbox.take(model.model_validate_json(letter.body))
        except MessageRefused as error:
            return ErrorDetail(type=error.code, message=str(error))
        except SchemaError as error:
            return ErrorDetail(type="MALFORMED", message=_describe(error))
        except ValidationError as error:
            return ErrorDetail(type=type(error).__name__, message=str(error))
        return None

    # operators ----------------------------------------------------------------------------------------------------

    async def status(self, request: Request) -> Response:
        """How the node is doing, in full."""
        return JSONResponse(describe_status(self._services.get_states(), self._services.is_ready()))

    async def health(self, request: Request) -> Response:
        """200 once the chain has been read."""
        if not self._services.is_ready():
            return refusal(503, "STARTING", "the chain is not read yet")
        return JSONResponse({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        body, kind = self._services.render_metrics()
        return Response(body, media_type=kind)


def is_posted(state: State, job_id: bytes) -> bool:
    """Whether a batch that is followed has a job."""
    batches = state.chain.batches.values()
    return any(bundle.job_id == job_id for batch in batches for bundle in batch.bundles.values())


def _import(store: BlobStore, chunks: Iterator[bytes], root: Cid, left: int) -> ImportReport:
    """Take a DAG and hold it until the job that it is for is over."""
    with store.keeping():
        report = store.import_car(chunks, root, max_bytes=left)
        store.hold([root])
    return report


def _json(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


def _parse_hash(text: str) -> bytes:
    with contextlib.suppress(ValueError):
        raw = bytes.fromhex(text.removeprefix("0x"))
        if len(raw) == 32:
            return raw
    raise DataError(f"{text[:80]!r} is not a hash: give 64 hex digits")


async def _receive(request: Request, spool: Any, limit: int) -> None:
    """Write the body to `spool`. Raises BodyTooLarge, or TimeoutError for a sender that drips."""
    began, size = asyncio.get_running_loop().time(), 0
    async with asyncio.timeout(IMPORT_GRACE_S) as patience:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge(f"the CAR is over the {limit} bytes that are left of the quota")
            await _write(spool, chunk)
            patience.reschedule(began + IMPORT_GRACE_S + size / IMPORT_LEAST_BYTES_S)


async def _write(spool: Any, chunk: bytes) -> None:
    await asyncio.to_thread(spool.write, chunk)


def _chunks(spool: Any) -> Iterator[bytes]:
    while chunk := spool.read(CHUNK_BYTES):
        yield chunk
