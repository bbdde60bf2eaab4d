"""What a running node says, of itself and of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quorate.protocol.errors import RecoverableError
from quorate_node.config import load_config

OWN_S, OTHER_S = 5.0, 30.0
"""Patience for what our node knows, and for what it has to ask another for."""


def ask_node(listen: str) -> dict[str, Any] | None:
    """The status of the node that serves at HOST:PORT; None where no node answers."""
    import httpx

    try:
        response = httpx.get(f"http://{listen}/quorate/v1/status", timeout=OWN_S, trust_env=False)
        found: Any = response.json()
    except (httpx.HTTPError, ValueError):
        return None
    return found if isinstance(found, dict) and "obligations" in found else None  # else it is no node that answers


def ask_operator(home: Path, operator: int) -> dict[str, Any]:
    """How another operator's node is doing, as it says itself to ours; needs no chain. Raises RecoverableError."""
    import httpx

    listen = load_config(home).listen
    try:
        response = httpx.get(f"http://{listen}/quorate/v1/status/{operator}", timeout=OTHER_S, trust_env=False)
        found: Any = response.json()
    except (httpx.HTTPError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise RecoverableError(f"no node answers at {listen}: `quorate-node run` starts it")
    if response.status_code != httpx.codes.OK:
        problem = found.get("error")
        reason = problem.get("message") if isinstance(problem, dict) else f"HTTP {response.status_code}"
        raise RecoverableError(str(reason)[:400])
    return found
