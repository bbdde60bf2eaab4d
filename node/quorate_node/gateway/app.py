"""A node's HTTP side: content for anybody to verify, orders and messages, and how the node is doing.

Every body has a limit and a schema; every refusal is `{"error": {"type", "message"}}`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
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
    LogsQuery,
    MailMessage,
    Message,
    OrderMessage,
    StatusAnswer,
    StatusQuery,
)
from quorate.protocol.encoding import compute_job_id
from quorate.protocol.errors import DataError, QuorateError, RecoverableError, ValidationError
from quorate.protocol.types import SignatureKind
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.denylist import DenyList
from quorate.storage.gateway import gateway_routes
from quorate.storage.traffic import VolumeReached
from quorate_node.collator import Collator
from quorate_node.core.intake import OrderRefused
from quorate_node.core.state import State
from quorate_node.desk import NOT_A_COLLATOR, Desk, describe_refusal
from quorate_node.gateway.bodies import BodyTooLarge, BodyTooSlow, read_body
from quorate_node.gateway.pushes import Pushes, QuotaReached
from quorate_node.gateway.status import describe_status
from quorate_node.hints import Hints
from quorate_node.inquiry import Inquirer
from quorate_node.joblog import LogGatherer
from quorate_node.mailbox import KINDS
from quorate_node.room import Room, StoreFull
from quorate_node.roots import OwnRoots
from quorate_node.traffic import Traffic

MAX_ORDER_BYTES = 16 * 1024
STATUS_BY_CODE = {
    "NOT_YET": 409, "GONE": 410, "NONCE": 409, "DUPLICATE": 409, "DEPOSIT": 402, "SIGNATURE": 403, NOT_A_COLLATOR: 404,
}  # fmt: skip

_M = TypeVar("_M", bound=BaseModel)


@dataclass(slots=True)
class Services:
    """What the routes need of the node; `get_states` gives those of its operators, the collator's first."""

    store: BlobStore
    get_states: Callable[[], Sequence[State]]
    desk: Desk
    get_leaves: Callable[[bytes], tuple[bytes, ...] | None]
    render_metrics: Callable[[], tuple[bytes, str]]
    is_ready: Callable[[], bool]
    hints: Hints
    roots: OwnRoots
    room: Room
    traffic: Traffic
    logs: LogGatherer
    inquirer: Inquirer
    import_quota_bytes: int
    denied: DenyList | None = None
    is_dry: bool = False
    describe_p2p: Callable[[], dict[str, Any] | None] = lambda: None

    async def describe(self) -> dict[str, Any]:
        """The node's status as JSON values."""
        found = describe_status(self.get_states(), self.is_ready(), self.is_dry)
        if self.denied is not None:
            found["denied"] = {"cids": len(self.denied), "problem": self.denied.problem}
        if self.desk.collator is not None:
            found["collator"] |= await _describe_bond(self.desk.collator)
        store = await asyncio.to_thread(self.room.describe)
        return found | {"store": store, "traffic": self.traffic.describe(), "p2p": self.describe_p2p()}


async def _describe_bond(collator: Collator) -> dict[str, str]:
    """What keeps a collator from posting; nothing else."""
    try:
        problem = await collator.find_shortage()
    except RecoverableError as error:
        problem = f"its deposit is not known: {error}"
    return {"problem": problem} if problem else {}


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
            Route(f"{v1}/status", answered(api.tell_status), methods=["POST"]),
            Route(f"{v1}/status/{{operator}}", answered(api.status_of)),
            Route(f"{v1}/logs", answered(api.own_log), methods=["POST"]),
            Route(f"{v1}/logs/{{job_id}}", answered(api.logs)),
            Route("/healthz", answered(api.health)),
            Route("/metrics", answered(api.metrics)),
            *gateway_routes(services.store, services.denied, services.traffic.served),
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
        except ClientDisconnect:
            return refusal(400, "GONE", "the sender hung up")
        except BodyTooLarge as error:
            return refusal(413, "TOO_LARGE", str(error))
        except BodyTooSlow as error:
            return refusal(408, "TOO_SLOW", str(error))
        except (StoreFull, VolumeReached, QuotaReached) as error:
            return refusal(507, "QUOTA", str(error))
        except (SchemaError, QuorateError) as error:
            detail = describe_refusal(error)
            assert detail is not None
            return refusal(_find_status(error, detail.type), detail.type, detail.message)

    return answer


def _find_status(error: Exception, code: str) -> int:
    return STATUS_BY_CODE.get(code, 422 if isinstance(error, SchemaError | ValidationError) else 503)


def _is_passed_on(request: Request) -> bool:
    """Whether another node hands on what a requester brought to it."""
    return request.query_params.get("passed_on") == "1"


class Api:
    """The node's own routes."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._pushes = Pushes(services.store, services.room, services.traffic.fetched, services.import_quota_bytes)

    async def _read(self, request: Request, model: type[_M], limit: int = MAX_BODY_BYTES) -> _M:
        return model.model_validate_json(await read_body(request, limit))

    # requesters ---------------------------------------------------------------------------------------------------

    async def orders(self, request: Request) -> Response:
        """202 with the job's id, or why not. A node that takes none itself hands it on."""
        try:
            message = await self._read(request, OrderMessage, MAX_ORDER_BYTES)
        except (SchemaError, BodyTooLarge):
            self._services.desk.count_order("MALFORMED")
            raise
        accepted = await self._services.desk.take_order(message, is_passed_on=_is_passed_on(request))
        return Response(accepted.model_dump_json(), 202, media_type="application/json")

    async def extensions(self, request: Request) -> Response:
        """202 when a collator brings more rounds for a void job to the chain, or why not."""
        message = await self._read(request, ExtensionMessage, MAX_ORDER_BYTES)
        await self._services.desk.take_extension(message, is_passed_on=_is_passed_on(request))
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
        report = await self._pushes.take(request, Cid.parse(request.query_params.get("root", "")))
        return JSONResponse({"root": str(report.root), "blocks": report.blocks, "new_bytes": report.new_bytes})

    # nodes --------------------------------------------------------------------------------------------------------

    def message(self, model: type[Message]) -> Handler:
        """A handler for one kind of message between nodes."""

        async def take(request: Request) -> Response:
            self._services.desk.take(await self._read(request, model))
            return JSONResponse({"taken": True}, 202)

        return take

    async def mail(self, request: Request) -> Response:
        """Many messages between nodes, each taken or refused by itself."""
        return _json(await self._services.desk.take_mail(await self._read(request, MailMessage, MAX_MAIL_BYTES)))

    # operators ----------------------------------------------------------------------------------------------------

    async def status(self, request: Request) -> Response:
        """How the node is doing, in full."""
        return JSONResponse(await self._services.describe())

    async def tell_status(self, request: Request) -> Response:
        """The same to another node."""
        await self._read(request, StatusQuery, MAX_ORDER_BYTES)
        return _json(StatusAnswer(status=await self._services.describe()))

    async def status_of(self, request: Request) -> Response:
        """How another operator's node is doing, as it says itself."""
        text, inquirer = request.path_params["operator"], self._services.inquirer
        if not (text.isascii() and text.isdecimal() and 0 < int(text[:20]) < 1 << 32):
            raise ValidationError(f"{text[:40]!r} is not the number of an operator")
        is_own = inquirer.is_own(int(text))
        return JSONResponse(await (self._services.describe() if is_own else inquirer.ask_status(int(text))))

    async def own_log(self, request: Request) -> Response:
        """What happened to a job here."""
        return _json(self._services.logs.own.answer(await self._read(request, LogsQuery, MAX_ORDER_BYTES)))

    async def logs(self, request: Request) -> Response:
        """What a job's seats did for it, as each of them says."""
        return _json(await self._services.logs.gather(_parse_hash(request.path_params["job_id"])))

    async def health(self, request: Request) -> Response:
        """200 once the chain has been read."""
        if not self._services.is_ready():
            return refusal(503, "STARTING", "the chain is not read yet")
        return JSONResponse({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        await asyncio.to_thread(self._services.room.measure)
        body, kind = self._services.render_metrics()
        return Response(body, media_type=kind)


def is_posted(state: State, job_id: bytes) -> bool:
    """Whether a batch that is followed has a job."""
    batches = state.chain.batches.values()
    return any(bundle.job_id == job_id for batch in batches for bundle in batch.bundles.values())


def _json(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


def _parse_hash(text: str) -> bytes:
    with contextlib.suppress(ValueError):
        raw = bytes.fromhex(text.removeprefix("0x"))
        if len(raw) == 32:
            return raw
    raise DataError(f"{text[:80]!r} is not a hash: give 64 hex digits")
