"""Telling the chain where the operators of a process answer over HTTP, where that has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from quorate.chain import calls
from quorate.chain.account import SigningAccount
from quorate.chain.gateway import JsonRpcGateway
from quorate.protocol.errors import QuorateError
from quorate_node.core.views import ChainView
from quorate_node.logs import get_logger

ANNOUNCE_S = 15.0


async def announce_endpoints(
    gateway: JsonRpcGateway, view: ChainView, operators: Sequence[tuple[int, SigningAccount]], url: str
) -> None:
    """Announce `url` for operators whose endpoint is another, each with its key; what does not work is logged."""
    await asyncio.gather(*(_announce(gateway, view, operator_id, key, url) for operator_id, key in operators))


async def _announce(gateway: JsonRpcGateway, chain: ChainView, operator_id: int, key: SigningAccount, url: str) -> None:
    view, log = chain.operators.get(operator_id), get_logger()
    if view is None or view.url == url:
        return
    if view.owner != key.address:
        log.warning("endpoint not announced", url=url, reason="only the owner's key can: announceEndpoint")
        return
    try:
        async with asyncio.timeout(ANNOUNCE_S):
            await asyncio.to_thread(_send, gateway, key, calls.announce_endpoint(url))
    except (QuorateError, TimeoutError) as error:
        log.warning("endpoint not announced", url=url, error=str(error))


def _send(gateway: JsonRpcGateway, key: SigningAccount, call: calls.Call) -> None:
    gateway.wait(gateway.send(key, call), ANNOUNCE_S)
