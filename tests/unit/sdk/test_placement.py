"""Which of several classes is asked."""

from __future__ import annotations

import hashlib

import pytest

from quorate.placement import Candidate, Locality, choose
from quorate.protocol.container import ContainerSpec, Image
from quorate.protocol.profiles import Description, WrongClass, list_fitting
from quorate.protocol.spec import JobSpec, compute_raw_cid

CID = compute_raw_cid(hashlib.sha256(b"data").digest())
WASM = JobSpec(CID, input=CID)
CONTAINER = ContainerSpec(Image(archive=CID, id=f"sha256:{'a' * 64}"), input=CID)
USUAL = 1


def candidates(*descriptions: Description) -> list[Candidate]:
    """Classes 10, 11, … of ten members each."""
    return [Candidate(10 + number, each, 100, 10) for number, each in enumerate(descriptions)]


def nothing(candidate: Candidate) -> str | None:
    return None


def all_of_it(candidate: Candidate) -> str | None:
    return "too small"


LOCAL_WASM, PLAIN_WASM = candidates(*list_fitting(WASM))
CONTAINERS = candidates(*list_fitting(CONTAINER))  # image and dataset, image, dataset, neither


def test_webassembly_goes_to_its_usual_class_unless_another_holds_the_input() -> None:
    assert choose([], WASM, USUAL, Locality.PREFER, nothing) == USUAL
    assert choose([PLAIN_WASM], WASM, USUAL, Locality.PREFER, nothing) == USUAL, "the requester's, not the largest"
    assert choose([LOCAL_WASM, PLAIN_WASM], WASM, USUAL, Locality.PREFER, nothing) == 10
    assert choose([LOCAL_WASM, PLAIN_WASM], WASM, USUAL, Locality.IGNORE, nothing) == USUAL
    assert choose([LOCAL_WASM], WASM, USUAL, Locality.PREFER, all_of_it) == USUAL, "unless it is too small"


def test_a_container_goes_where_its_vote_is_worth_most() -> None:
    assert choose(CONTAINERS, CONTAINER, USUAL, Locality.PREFER, nothing) == 10
    assert choose(CONTAINERS, CONTAINER, USUAL, Locality.IGNORE, nothing) == 11
    assert (
        choose(CONTAINERS, CONTAINER, USUAL, Locality.PREFER, lambda each: None if each.class_id > 11 else "no") == 12
    )
    with pytest.raises(WrongClass, match="unless it is named, with --class: class 11: too small; class 13"):
        choose(CONTAINERS, CONTAINER, USUAL, Locality.PREFER, all_of_it)
    assert choose(CONTAINERS[3:], CONTAINER, USUAL, Locality.PREFER, nothing) == 13
    with pytest.raises(WrongClass, match="make and join one"):
        choose([], CONTAINER, USUAL, Locality.PREFER, nothing)


@pytest.mark.parametrize("spec", [WASM, CONTAINER])
def test_required_means_required(spec: JobSpec | ContainerSpec) -> None:
    local = [each for each in (LOCAL_WASM, *CONTAINERS) if each.description in list_fitting(spec)]
    assert choose(local, spec, USUAL, Locality.REQUIRE, nothing) == 10
    with pytest.raises(WrongClass, match=r"class 1\d: too small"):
        choose(local, spec, USUAL, Locality.REQUIRE, all_of_it)
    with pytest.raises(WrongClass, match=f"hold {CID}: there is none"):
        choose([], spec, USUAL, Locality.REQUIRE, nothing)
