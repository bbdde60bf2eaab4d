"""Which class is asked: one that is for the program, and where it can be one whose members hold the input already.

Anybody may make a class and be all of its members, so none is asked unnamed that an adversary could be half of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from quorate.chain.glance import OrderChain
from quorate.protocol.container import AnySpec, ContainerSpec
from quorate.protocol.errors import ValidationError
from quorate.protocol.profiles import Description, WrongClass, check_fits, list_fitting


class Locality(StrEnum):
    """How much it matters that a class's members hold the input."""

    PREFER = "prefer"
    REQUIRE = "require"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A class that a job may be ordered in, with the size of its present table."""

    class_id: int
    description: Description
    units: int
    members: int

    @property
    def is_local(self) -> bool:
        """Whether its members hold the input."""
        return self.description.dataset is not None


Objection = Callable[[Candidate], str | None]
"""Why an order's other wishes rule a class out, or None."""


def list_candidates(gateway: OrderChain, spec: AnySpec) -> list[Candidate]:
    """Classes that fit a spec and have members, the narrowest first; of several the largest."""
    fitting = {description.digest: description for description in list_fitting(spec)}
    order = list(fitting)
    found: list[Candidate] = []
    for class_id in range(1, gateway.class_count() + 1):
        info = gateway.class_info(class_id)
        if info.profile in fitting and info.table:
            table = gateway.table(class_id, info.table)
            found.append(Candidate(class_id, fitting[info.profile], len(table.units), len(table.members)))
    present = (each for each in found if each.members)
    return sorted(present, key=lambda each: (order.index(each.description.digest), -each.units, each.class_id))


def choose(candidates: Iterable[Candidate], spec: AnySpec, usual: int, locality: Locality, object_to: Objection) -> int:
    """The class for a spec where none was named. Raises WrongClass where there is none.

    WebAssembly goes to the `usual` class, a container to the best that there is for it; either to one whose members
    hold the input, where `locality` and the order's other wishes allow.
    """
    found, why = list(candidates), "there is none"
    for each in found:
        if not each.is_local or locality is Locality.IGNORE:
            continue
        if (objection := object_to(each)) is None:
            return each.class_id
        why = f"class {each.class_id}: {objection}"
    if locality is Locality.REQUIRE:
        raise WrongClass(f"no class can be asked whose members hold {spec.input or 'an input'}: {why}")
    if not isinstance(spec, ContainerSpec):
        return usual
    general = {each.class_id: object_to(each) for each in found if not each.is_local}
    if not general:
        names = ", and none for ".join(str(each) for each in list_fitting(spec) if each.dataset is None)
        raise WrongClass(
            f"no class here has members for {names}: operators make and join one with `quorate-node class`"
        )
    good = [class_id for class_id, objection in general.items() if objection is None]
    if not good:
        why = "; ".join(f"class {class_id}: {objection}" for class_id, objection in general.items())
        raise WrongClass(f"no class is asked unless it is named, with --class: {why}")
    return good[0]


def choose_class(
    gateway: OrderChain, spec: AnySpec, wanted: int | None, usual: int, locality: Locality, object_to: Objection
) -> int:
    """The class for a spec: `wanted`, else see `choose`.

    Raises WrongClass, before anything is signed, where the class is for other specs, or there is none.
    """
    class_id, count = wanted, gateway.class_count()
    if class_id is None:
        may_be_local = spec.input is not None and locality is not Locality.IGNORE
        is_simple = not isinstance(spec, ContainerSpec) and (not may_be_local or count == 1)
        candidates = [] if is_simple else list_candidates(gateway, spec)
        class_id = choose(candidates, spec, usual, locality, object_to)
    if not 1 <= class_id <= count:
        raise ValidationError(f"there is no class {class_id} here: this deployment has {count}")
    check_fits(spec, class_id, gateway.class_info(class_id).profile)
    return class_id
