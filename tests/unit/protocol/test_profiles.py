"""What a class says that it is for, and which jobs fit it."""

from __future__ import annotations

import hashlib

import pytest

from quorate.protocol.container import DOCKER_PROFILE, ContainerSpec, Image
from quorate.protocol.hashing import keccak
from quorate.protocol.profiles import (
    BUILT_IN,
    GPU_PROFILE,
    Description,
    UnknownProfile,
    WrongClass,
    check_fits,
    find_description,
    fits,
    list_fitting,
)
from quorate.protocol.spec import WASM_PROFILE, JobSpec, compute_raw_cid

CID = compute_raw_cid(hashlib.sha256(b"module").digest())
IMAGE, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
WASM, CONTAINER = JobSpec(CID), ContainerSpec(Image(archive=CID, id=IMAGE))


def test_descriptions_survive_their_own_text() -> None:
    narrow = Description(DOCKER_PROFILE, image=IMAGE, dataset=CID)
    for each in (*BUILT_IN, Description(DOCKER_PROFILE, image=IMAGE), Description(WASM_PROFILE, dataset=CID), narrow):
        assert Description.parse(str(each)) == each
    assert len({each.digest for each in BUILT_IN}) == len(BUILT_IN)


def test_the_class_of_webassembly_is_the_hash_of_its_name() -> None:
    assert Description(WASM_PROFILE).digest == keccak(b"quorate-wasm-1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown"),
        ("quorate-wasm-2", "unknown"),
        (f"{WASM_PROFILE} image={IMAGE}", "leave it out"),
        (f"{WASM_PROFILE} ", "describes no profile"),
        (f"{DOCKER_PROFILE}  image={IMAGE}", "describes no profile"),
        (f"{DOCKER_PROFILE} image={IMAGE} image={IMAGE}", "describes no profile"),
        (f"{DOCKER_PROFILE} image={IMAGE.upper()}", "64 hex digits"),
        (f"{DOCKER_PROFILE} name=x", "describes no profile"),
        (GPU_PROFILE, "needs gpu=KIND"),
        (f"{GPU_PROFILE} gpu=abacus", "needs gpu=KIND"),
        (f"{DOCKER_PROFILE} dataset={CID} image={IMAGE}", "one order"),
        (f"{WASM_PROFILE} dataset=QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG", "CIDv1 in base32"),
        (f"{WASM_PROFILE} dataset={CID} dataset={CID}", "describes no profile"),
    ],
)
def test_one_description_has_one_spelling(text: str, message: str) -> None:
    with pytest.raises(UnknownProfile, match=message):
        Description.parse(text)


def test_a_container_fits_classes_of_its_image_and_of_all_images() -> None:
    assert fits(CONTAINER, Description(DOCKER_PROFILE).digest)
    assert fits(CONTAINER, Description(DOCKER_PROFILE, image=IMAGE).digest)
    assert not fits(CONTAINER, Description(DOCKER_PROFILE, image=OTHER).digest)
    assert fits(WASM, Description(WASM_PROFILE).digest)
    assert not fits(WASM, Description(DOCKER_PROFILE).digest)


def test_the_wrong_class_is_named_before_anything_is_signed() -> None:
    check_fits(WASM, 1, Description(WASM_PROFILE).digest)
    with pytest.raises(WrongClass, match=r"is for quorate-wasm-1, and this job for .*image=.* or quorate-docker"):
        check_fits(CONTAINER, 1, Description(WASM_PROFILE).digest)
    with pytest.raises(WrongClass, match="no node runs yet"):
        check_fits(WASM, 2, Description(GPU_PROFILE, gpu="nvidia-l4").digest)
    with pytest.raises(WrongClass, match="such as that of another image"):
        check_fits(CONTAINER, 3, Description(DOCKER_PROFILE, image=OTHER).digest)


def test_only_what_cannot_differ_may_be_judged() -> None:
    """A coin-tossing container in a judged class takes the stake of honest members."""
    plain, narrow = Description(DOCKER_PROFILE), Description(DOCKER_PROFILE, image=IMAGE)
    assert "may toss coins" in str(plain.find_objection(judged=True))
    assert "GPUs differ" in str(Description(GPU_PROFILE, gpu="nvidia-l4").find_objection(judged=True))
    assert [each.find_objection(judged=False) for each in (plain, narrow, Description(WASM_PROFILE))] == [None] * 3
    assert [each.find_objection(judged=True) for each in (narrow, Description(WASM_PROFILE))] == [None, None]


def test_single_images_are_known_to_who_was_told() -> None:
    narrow = Description(DOCKER_PROFILE, image=IMAGE)
    assert find_description(narrow.digest) is None
    assert find_description(narrow.digest, [narrow]) == narrow


def test_a_job_over_a_dataset_fits_the_classes_for_it_and_no_other_does() -> None:
    over = JobSpec(CID, input=CID)
    assert [str(each) for each in list_fitting(over)] == [f"{WASM_PROFILE} dataset={CID}", WASM_PROFILE]
    assert not fits(WASM, Description(WASM_PROFILE, dataset=CID).digest)
    both = list_fitting(ContainerSpec(Image(archive=CID, id=IMAGE), input=CID))
    assert [(each.image, each.dataset) for each in both] == [(IMAGE, CID), (IMAGE, None), (None, CID), (None, None)]
    assert Description(WASM_PROFILE, dataset=CID).find_objection(judged=True) is None
    assert Description(DOCKER_PROFILE, dataset=CID).find_objection(judged=True)


def test_another_program_of_an_image_is_not_what_its_class_has_judged() -> None:
    other = ContainerSpec(Image(archive=CID, id=IMAGE), entrypoint=("/bin/other",))
    assert list_fitting(other) == (Description(DOCKER_PROFILE),)
    assert not fits(other, Description(DOCKER_PROFILE, image=IMAGE).digest)
