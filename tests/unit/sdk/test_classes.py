"""Which classes are told to be taken for orders that name none, and how all are shown."""

from __future__ import annotations

from typing import Any, cast

import pytest

from quorate.chain.gateway import ChainGateway
from quorate.classes import add_choice, collect_descriptions
from quorate.cli.classes import _tell, render_classes
from quorate.orders import OrderWishes, choose_seats, make_objection
from quorate.placement import Candidate, Locality, choose
from quorate.protocol.container import ContainerSpec, Image
from quorate.protocol.errors import ValidationError
from quorate.protocol.profiles import NAMES, Description, list_fitting
from quorate.protocol.spec import JobSpec, compute_raw_cid

CID = compute_raw_cid(bytes(32))
ID = f"sha256:{'a' * 64}"
CONTAINER = ContainerSpec(Image(archive=CID, id=ID), input=CID)


def make_row(class_id: int, meant: Description, units: int = 100, members: int = 10, **more: Any) -> dict[str, Any]:
    return {
        "class": class_id, "description": str(meant), "name": meant.name,
        **{name: getattr(meant, name) for name in NAMES}, "profile": "0x" + meant.digest.hex(),
        "judged": True, "unit_wei": 10**17, "price": 10**9, "era": 3, "era_end": 1_577_836_800, "members": members,
        "units": units, "drawn_members": members, "drawn_units": units, "stake_wei": units * 10**17,
    } | more  # fmt: skip


def object_to(candidate: Candidate) -> str | None:
    return f"it has {candidate.members} members" if candidate.members < 6 else None


WASM, GPU = Description("quorate-wasm-1"), Description("quorate-gpu-1", gpu="nvidia-l4")
BOTH, ONE, DATA, ANY = list_fitting(CONTAINER)  # image and dataset, image, dataset, neither


def find_reasons(*rows: dict[str, Any]) -> list[str | None]:
    found = add_choice(rows, 1, object_to)
    assert all(row["unnamed"] == (row["why"] is None) for row in found)
    return [row["why"] for row in found]


def test_each_class_says_why_it_is_not_taken() -> None:
    assert find_reasons(
        make_row(1, WASM, members=2), make_row(2, WASM, 900), make_row(3, ONE), make_row(4, ONE, 200),
        make_row(5, ANY, members=5),
        make_row(6, GPU), make_row(7, DATA, 0, 0), make_row(8, BOTH, description=None),
        make_row(9, Description("quorate-wasm-1", dataset=CID), members=5),
    ) == [
        None, "WebAssembly goes to class 1", "class 4, for the same, comes first", None, "it has 5 members",
        "no node runs programs on GPUs yet", "nobody is drawn for it in this era", None, "it has 5 members",
    ]  # fmt: skip
    assert find_reasons(make_row(1, ONE, members=1), make_row(2, ONE, 50)) == ["it has 1 members", None]


def test_what_is_said_is_what_an_order_does() -> None:
    rows = [
        make_row(1, WASM),
        make_row(2, ANY, 900),
        make_row(3, ONE, 50),
        make_row(4, ONE, 300, members=4),
        make_row(5, ONE, 80),
    ]
    told = [row["class"] for row in add_choice(rows, 1, object_to) if row["unnamed"]]
    candidates = [
        Candidate(row["class"], Description.parse(row["description"]), row["drawn_units"], row["drawn_members"])
        for row in sorted(rows, key=lambda row: -row["drawn_units"])
    ]
    narrow = [each for each in candidates if each.description == ONE]
    wide = [each for each in candidates if each.description == ANY]
    chosen = choose([*narrow, *wide], CONTAINER, 1, Locality.IGNORE, object_to)
    assert (chosen, told) == (5, [1, 2, 5])


def test_what_is_to_be_copied_is_never_cut() -> None:
    rows = add_choice(
        [make_row(1, WASM), make_row(12, BOTH, members=4), make_row(13, DATA, description=None)], 1, object_to
    )
    shown = render_classes(rows, _tell).splitlines()
    assert shown[4] == f"class 12  quorate-docker-1 image={ID} dataset={CID}"
    assert shown[0] == "class 1  quorate-wasm-1"
    assert shown[3] == "    taken where an order names no class"
    assert shown[7] == "    only if it is named, with --class 12: it has 4 members"
    assert shown[8] == f"class 13  a description whose hash is 0x{DATA.digest.hex()}"
    assert "10 members with 100 units of 0.1 ether; 10 drawn in this era, with 10 ether" in shown[1]


def test_our_jobs_tell_what_classes_are_for() -> None:
    found = collect_descriptions([CONTAINER, JobSpec(CID), CONTAINER])
    assert found == (BOTH, ONE, DATA, ANY, WASM)


@pytest.mark.parametrize(
    ("wishes", "why"),
    [
        (OrderWishes(adversary=1.0), "a share of all stake"),
        (OrderWishes(adversary=-0.1), "a share of all stake"),
        (OrderWishes(adversary=float("nan")), "a share of all stake"),
        (OrderWishes(confidence=2), "between 0 and 1"),
        (OrderWishes(confidence=float("nan")), "between 0 and 1"),
        (OrderWishes(confidence=0.9, seats=3), "either seats or"),
    ],
)
def test_wishes_that_make_no_sense_are_refused_before_any_class_is_looked_at(wishes: OrderWishes, why: str) -> None:
    gateway = cast(ChainGateway, None)
    with pytest.raises(ValidationError, match=why):
        make_objection(gateway, wishes, 2)
    with pytest.raises(ValidationError, match=why):
        choose_seats(gateway, 1, wishes, 2)
