"""Profiles: how a class says on chain which jobs it is for, and whether a job's spec is one of them.

A profile is described by its name and, after it, details as `name=value`, each after a single space:

    quorate-wasm-1                               WebAssembly, deterministic for all programs
    quorate-docker-1 image=sha256:<64 digits>    containers of this one image, which its members judge deterministic
    quorate-docker-1                             containers of any image; never judged
    quorate-gpu-1 gpu=nvidia-l4                  programs on this kind of GPU; no node runs them yet

Each may end with ` dataset=<CID>`: for jobs over this input alone, which all members keep whole.

A class's 32 bytes are keccak256 of that text, so that whoever has the text can check it, and nobody else needs it: a
spec says by itself which descriptions it fits. One description has one spelling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Final

from quorate.protocol.container import DOCKER_PROFILE, AnySpec, ContainerSpec
from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.pieces import is_piece_text
from quorate.protocol.spec import WASM_PROFILE, check_cid

GPU_PROFILE: Final = "quorate-gpu-1"

GPU_KINDS: Final = (
    "amd-mi250x", "amd-mi300x", "nvidia-a100-40gb", "nvidia-a100-80gb", "nvidia-h100-80gb", "nvidia-l4", "nvidia-t4",
)  # fmt: skip
"""Results differ from kind to kind, so a class is for one of them."""

DETAILS: Final = MappingProxyType(
    {
        WASM_PROFILE: frozenset({"dataset"}),
        DOCKER_PROFILE: frozenset({"image", "dataset"}),
        GPU_PROFILE: frozenset({"gpu", "dataset"}),
    }
)
"""Details that a profile may have, by its name."""

NAMES: Final = ("image", "gpu", "dataset")
"""All of them, in the order in which they are written."""

IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")


class UnknownProfile(ValidationError):
    """A text does not describe any profile of this version."""


class WrongClass(ValidationError):
    """A job's spec is not of the profile that its class is for, so every node would refuse it."""


@dataclass(frozen=True)
class Description:
    """A profile: `name`, and its details. Raises UnknownProfile.

    `image` is an image id (sha256:…), `gpu` one of GPU_KINDS, which a GPU profile always has, `dataset` a CIDv1.
    """

    name: str
    image: str | None = None
    gpu: str | None = None
    dataset: str | None = None

    def __post_init__(self) -> None:
        if self.name not in DETAILS:
            raise UnknownProfile(f"the profile {self.name!r} is unknown: choose one of {', '.join(DETAILS)}")
        for detail in NAMES:
            if getattr(self, detail) is not None and detail not in DETAILS[self.name]:
                raise UnknownProfile(f"{self.name} has no {detail}: leave it out")
        if self.image is not None and not IMAGE_ID.fullmatch(self.image):
            raise UnknownProfile(f"an image is named by its id, sha256: and 64 hex digits, not {self.image[:80]!r}")
        if self.name == GPU_PROFILE and self.gpu not in GPU_KINDS:
            raise UnknownProfile(f"{GPU_PROFILE} needs gpu=KIND; known kinds are {', '.join(GPU_KINDS)}")
        if self.dataset is not None:
            try:
                check_cid(self.dataset, "dataset")
            except ValidationError as error:
                raise UnknownProfile(str(error)) from error

    @classmethod
    def parse(cls, text: str) -> Description:
        """Inverse of `str`. Raises UnknownProfile."""
        name, *items = text.split(" ")
        details: dict[str, str] = {}
        for item in items:
            key, sign, value = item.partition("=")
            if key not in NAMES or not sign or key in details:
                raise UnknownProfile(
                    f"{text[:120]!r} describes no profile: give its name, then image=sha256:…, gpu=KIND or dataset=CID"
                )
            details[key] = value
        found = cls(name, **details)
        if str(found) != text:
            raise UnknownProfile(f"{text[:200]!r} is spelt {str(found)!r}: its details have one order")
        return found

    def __str__(self) -> str:
        """The text that is hashed."""
        given = (f" {name}={value}" for name in NAMES if (value := getattr(self, name)) is not None)
        return self.name + "".join(given)

    @cached_property
    def digest(self) -> bytes:
        """A class's `profile` on chain, 32 bytes."""
        return keccak(str(self).encode())

    @property
    def is_wasm(self) -> bool:
        """Whether it is that of WebAssembly."""
        return self.name == WASM_PROFILE

    def find_objection(self, judged: bool) -> str | None:
        """Why a class of this profile must not be judged, if it is to be.

        In a judged class two different results cost somebody its stake, so its members must know that honest ones
        cannot differ: WebAssembly's do not, and those of one image are what its members have looked at.
        """
        if not judged or self.is_wasm or self.image is not None:
            return None
        if self.name == DOCKER_PROFILE:
            return (
                "containers of any image may toss coins, and in a judged class that would cost honest members their "
                "stake: name one image, or let the class be never judged"
            )
        return "results on GPUs differ from run to run with many programs: let the class be never judged"


BUILT_IN: Final = (
    Description(WASM_PROFILE),
    Description(DOCKER_PROFILE),
    *(Description(GPU_PROFILE, gpu=kind) for kind in GPU_KINDS),
)
"""Descriptions that everybody knows; those of single images only who was told."""


def find_description(profile: bytes, known: Iterable[Description] = ()) -> Description | None:
    """The description among the built-in and the `known` ones that a class's profile is the hash of."""
    return next((each for each in (*BUILT_IN, *known) if each.digest == profile), None)


def list_fitting(spec: AnySpec) -> tuple[Description, ...]:
    """Descriptions of the classes that a spec may be ordered in, the narrowest first.

    Which image it is comes before where the dataset is: only in a class for the image a vote is worth a stake.
    """
    found = [Description(spec.profile)]
    # Its members have judged the image by its own program: another one in it may be anything.
    if isinstance(spec, ContainerSpec) and spec.entrypoint is None:
        found.insert(0, Description(spec.profile, image=spec.image.digest))
    if spec.input is None or is_piece_text(spec.input):  # classes are for datasets by their roots
        return tuple(found)
    return tuple(each for whole in found for each in (replace(whole, dataset=spec.input), whole))


def fits(spec: AnySpec, profile: bytes) -> bool:
    """Whether a class with this profile is one for this spec: alike on every node, whatever else it knows."""
    return any(each.digest == profile for each in list_fitting(spec))


def check_fits(spec: AnySpec, class_id: int, profile: bytes) -> None:
    """Raise WrongClass, before anything is signed, where nodes would refuse the spec in this class."""
    if fits(spec, profile):
        return
    found = find_description(profile)
    if found is not None and found.gpu is not None:
        raise WrongClass(f"class {class_id} is for {found}, which no node runs yet: choose another class")
    meant = str(found) if found else f"a profile with the hash 0x{profile.hex()}, such as that of another image"
    ours = " or ".join(map(str, list_fitting(spec)))
    raise WrongClass(f"class {class_id} is for {meant}, and this job for {ours}: choose another class")
