"""Answers that are sent in parts, for readers who may stop reading."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.responses import StreamingResponse
from starlette.types import Message, Send

STALL_S = 30.0  # for a part to leave


class PatientResponse(StreamingResponse):
    """Ends when its reader stops reading, which would hold the stream for ever. Its body must be a generator."""

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(STALL_S):
                await send(message)

        try:
            with contextlib.suppress(TimeoutError):
                await super().stream_response(send_in_time)
        finally:
            await self.body_iterator.aclose()  # type: ignore[attr-defined]  # it is a generator
