"""Bodies of requests, each within its limits."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from quorate.protocol.errors import ValidationError

GRACE_S = 10.0
LEAST_BYTES_S = 32 * 1024  # senders that are slower for longer make room for others


class BodyTooLarge(ValidationError):
    """A request's body is over its limit."""


class BodyTooSlow(ValidationError):
    """A request's body does not come in."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises BodyTooLarge as soon as it is over `limit` bytes, BodyTooSlow for a sender that drips."""
    check_length(request, limit)
    began, parts, size = asyncio.get_running_loop().time(), [], 0
    try:
        async with asyncio.timeout(GRACE_S) as patience:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise BodyTooLarge(f"the body is over {limit} bytes")
                parts.append(chunk)
                patience.reschedule(began + GRACE_S + size / LEAST_BYTES_S)
    except TimeoutError:
        raise BodyTooSlow(f"the body comes in at less than {LEAST_BYTES_S} bytes a second; send it again") from None
    return b"".join(parts)


def check_length(request: Request, limit: int) -> None:
    """Raises BodyTooLarge where the sender announces more than `limit` bytes."""
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise BodyTooLarge(f"the body has {announced} bytes, over {limit}")
