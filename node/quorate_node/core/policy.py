"""Whether this node takes a drawn seat: every refusal has a reason that `quorate-node status` shows.

A refused seat abstains and pays a seat's price, so these limits guard the machine, not the profit: an operator that
finds itself refusing has joined a class that is too big for it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from quorate.protocol import container, spec
from quorate.protocol.types import AbstainReason, JobOrder

GIB = 1 << 30
AnyLimits = spec.Limits | container.ContainerLimits
# All that the protocol allows, except the time that nobody pays for.
DEFAULT_CEILINGS = spec.Limits(
    **{name: most for name, (_, most) in spec.CEILINGS.items()} | {"compile_seconds": spec.Limits().compile_seconds}
)
# Less than the protocol allows, for what a container is given lies in memory.
DEFAULT_CONTAINER_CEILINGS = container.ContainerLimits(
    **{name: most for name, (_, most) in container.CONTAINER_CEILINGS.items()}
    | {"memory_bytes": 4 * GIB, "tmp_bytes": GIB, "image_bytes": 4 * GIB}
)


@dataclass(frozen=True, slots=True)
class Limits:
    """An operator's ceilings: fuel of one task, input bytes of one bundle, executions waiting or running.

    `ceilings` are those for what a spec asks for, `container_ceilings` the same for containers; its fuel is judged by
    the order, against `max_fuel`.
    """

    max_fuel: int = 10**13
    max_input_bytes: int = 4 * GIB
    max_executions: int = 4096
    ceilings: spec.Limits = DEFAULT_CEILINGS
    container_ceilings: container.ContainerLimits = DEFAULT_CONTAINER_CEILINGS


DEFAULT_LIMITS = Limits()


def list_ceilings(limits: AnyLimits) -> dict[str, int]:
    """Limits by their names, without fuel."""
    return {each.name: getattr(limits, each.name) for each in fields(limits) if each.name != "fuel"}


def explain_excess(wanted: AnyLimits, limits: Limits) -> str | None:
    """Which limits of a spec are above an operator's ceilings, or None where none is."""
    is_container = isinstance(wanted, container.ContainerLimits)
    ceilings = list_ceilings(limits.container_ceilings if is_container else limits.ceilings)
    pairs = ((name, getattr(wanted, name), most) for name, most in ceilings.items())
    found = [
        f"limits.{name} = {value} is above this node's ceiling {most}" for name, value, most in pairs if value > most
    ]
    return "; ".join(found) or None


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
