"""Classes as anybody sees them, and which of them is asked where a requester names none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from quorate.chain.gateway import ChainGateway
from quorate.chain.types import to_hex
from quorate.orders import OrderWishes, choose_rounds, make_objection
from quorate.placement import Candidate, Objection
from quorate.protocol.container import AnySpec
from quorate.protocol.profiles import BUILT_IN, NAMES, Description, find_description, list_fitting


def describe_class(gateway: ChainGateway, class_id: int, known: Sequence[Description]) -> dict[str, Any]:
    """A class as JSON values. Its description is None where neither everybody nor `known` has it: on chain is its hash.

    `members` and `units` are of who has joined; `drawn_members`, `drawn_units` and `stake_wei` of the present table,
    from which committees are drawn in this era.
    """
    info, members = gateway.class_info(class_id), gateway.class_members(class_id)
    description = find_description(info.profile, known)
    table = gateway.table(class_id, info.table) if info.table else None
    drawn = (len(table.members), len(table.units)) if table else (0, 0)
    return {
        "class": class_id,
        "description": str(description) if description else None,
        "name": description and description.name,
        **{name: description and getattr(description, name) for name in NAMES},
        "profile": to_hex(info.profile),
        "judged": info.judged,
        "unit_wei": info.unit_wei,
        "price": info.price,
        "era": info.era,
        "era_end": info.era_end,
        "members": len(members),
        "units": sum(member.units for member in members.values()),
        "drawn_members": drawn[0],
        "drawn_units": drawn[1],
        "stake_wei": drawn[1] * info.unit_wei,
    }


def list_classes(
    gateway: ChainGateway, known: Sequence[Description], usual: int, wishes: OrderWishes
) -> list[dict[str, Any]]:
    """Every class as JSON values, with `unnamed` and `why` as `add_choice` says."""
    object_to = make_objection(gateway, wishes, choose_rounds(gateway.params(), wishes))
    rows = [describe_class(gateway, class_id, known) for class_id in range(1, gateway.class_count() + 1)]
    return add_choice(rows, usual, object_to)


def add_choice(rows: Sequence[dict[str, Any]], usual: int, object_to: Objection) -> list[dict[str, Any]]:
    """Descriptions of classes with `unnamed`: whether an order that fits goes there without a class's name; else `why`.

    As `quorate.placement` decides; `usual` is where WebAssembly goes, `object_to` what the order's wishes rule out.
    """
    objections = {row["class"]: _find_objection(row, usual, object_to) for row in rows}
    found = []
    for row in rows:
        why = objections[row["class"]]
        alike = [each for each in rows if each["profile"] == row["profile"] and objections[each["class"]] is None]
        best = min(alike, key=lambda each: (-each["drawn_units"], each["class"]), default=row)
        if why is None and best is not row:
            why = f"class {best['class']}, for the same, comes first"
        found.append(row | {"unnamed": why is None, "why": why})
    return found


def _find_objection(row: dict[str, Any], usual: int, object_to: Objection) -> str | None:
    description = Description.parse(row["description"]) if row["description"] else None
    if description is not None and description.gpu is not None:
        return "no node runs programs on GPUs yet"
    if description is not None and description.is_wasm and description.dataset is None and row["class"] != usual:
        return f"WebAssembly goes to class {usual}"
    if not row["drawn_members"]:
        return "nobody is drawn for it in this era"
    if description is not None and description.is_wasm and description.dataset is None:
        return None  # however small: it is what our config says
    stand_in = description or BUILT_IN[0]  # what it is for does not matter to the wishes
    return object_to(Candidate(row["class"], stand_in, row["drawn_units"], row["drawn_members"]))


def collect_descriptions(specs: Iterable[AnySpec]) -> tuple[Description, ...]:
    """Of all classes that jobs with these specs may be ordered in."""
    return tuple({str(each): each for spec in specs for each in list_fitting(spec)}.values())
