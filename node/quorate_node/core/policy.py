"""Whether this node takes a drawn seat: every refusal has a reason that `quorate-node status` shows.

A refused seat stays silent and is fined, so these limits guard the machine, not the profit: an operator that finds
itself refusing has joined a class that is too big for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from quorate.protocol.types import JobOrder

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """An operator's ceilings: fuel of one task, input bytes of one bundle, executions waiting or running."""

    max_fuel: int = 10**13
    max_input_bytes: int = 4 * GIB
    max_executions: int = 4096


DEFAULT_LIMITS = Limits()


def compute_refusal(order: JobOrder, limits: Limits, executions: int) -> str | None:
    """Why a bundle of `order` is not taken, or None; `executions` counts those under way."""
    if order.fuel_limit > limits.max_fuel:
        return f"fuel limit {order.fuel_limit} is above this node's max_fuel {limits.max_fuel}"
    if order.input_bytes > limits.max_input_bytes:
        return f"{order.input_bytes} input bytes are above this node's max_input_bytes {limits.max_input_bytes}"
    if executions >= limits.max_executions:
        return f"{executions} executions are under way, the most that this node takes"
    return None
