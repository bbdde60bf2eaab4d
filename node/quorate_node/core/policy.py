"""Whether this node takes a drawn seat: every refusal has a reason that `quorate-node status` shows.

A refused seat abstains and pays a seat's price, so these limits guard the machine, not the profit: an operator that
finds itself refusing has joined a class that is too big for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from quorate.protocol.types import AbstainReason, JobOrder

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """An operator's ceilings: fuel of one task, input bytes of one bundle, executions waiting or running."""

    max_fuel: int = 10**13
    max_input_bytes: int = 4 * GIB
    max_executions: int = 4096


DEFAULT_LIMITS = Limits()


def compute_refusal(order: JobOrder, limits: Limits, executions: int) -> tuple[AbstainReason, str] | None:
    """Why a bundle of `order` is not taken, or None; `executions` counts those under way."""
    if order.fuel_limit > limits.max_fuel:
        text = f"fuel limit {order.fuel_limit} is above this node's max_fuel {limits.max_fuel}"
        return AbstainReason.POLICY, text
    if order.input_bytes > limits.max_input_bytes:
        text = f"{order.input_bytes} input bytes are above this node's max_input_bytes {limits.max_input_bytes}"
        return AbstainReason.POLICY, text
    if executions >= limits.max_executions:
        return AbstainReason.RESOURCES, f"{executions} executions are under way, the most that this node takes"
    return None
