"""The program of an image that is being built: found as a container would find it, and looked at before it is run."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from quorate.protocol.errors import DataError

ELF = b"\x7fELF"
PT_INTERP = 3  # type of the segment that names the loader
ELF_MACHINES = {3: "386", 40: "arm", 62: "amd64", 183: "arm64", 21: "ppc64le", 22: "s390x", 243: "riscv64"}
ARCHITECTURES = frozenset({*ELF_MACHINES.values(), "loong64", "mips64le", "ppc64"})
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # what daemons set
MAX_LINKS = 40
MAX_SCRIPT_HEAD = 256


@dataclass(frozen=True, slots=True)
class Member:
    """A name in the layer; `target` of a link, `source` of a file, neither of a folder."""

    name: str
    source: Path | None = None
    target: str | None = None
    is_executable: bool = False


def find_program(members: Mapping[str, Member], program: str, working_dir: str, path: str | None) -> Path | None:
    """The file whose header tells the machine: the program, or what a script names in its first line.

    None where that cannot be told. Raises DataError for a program that could not be started in the image.
    """
    found = _look_up(members, program, working_dir, path)
    for _ in range(MAX_LINKS):
        if found is None or found.source is None:
            return None
        with found.source.open("rb") as file:
            head = file.read(MAX_SCRIPT_HEAD)
            loader = find_loader(file) if head.startswith(ELF) else None
        if loader is not None and resolve(members, loader) is None:
            raise DataError(
                f"/{found.name} needs the loader {loader!r}, which the image lacks: link it statically, or add "
                "loader and libraries"
            )
        if not head.startswith(b"#!"):
            return found.source
        words = head[2:].split(b"\n")[0].split()
        interpreter = os.fsdecode(words[0]) if words else ""
        script, found = found, resolve(members, interpreter)
        if found is None:
            raise DataError(f"/{script.name} is a script for {interpreter!r}, which the image lacks: add it")
    return None


def _look_up(members: Mapping[str, Member], program: str, working_dir: str, path: str | None) -> Member | None:
    if "/" in program:
        places = [f"{working_dir}/{program}" if not program.startswith("/") else program]
    else:
        places = [f"{folder}/{program}" for folder in (path or DEFAULT_PATH).split(":")]
    found = next((each for place in places if (each := resolve(members, place)) is not None), None)
    if found is None or (found.source is None and found.target is None):
        where = "" if "/" in program else f" on PATH ({path or DEFAULT_PATH})"
        raise DataError(f"the entrypoint {program!r} is no file in the image{where}")
    if found.source is not None and not found.is_executable:
        raise DataError(f"the entrypoint {program!r} may not be executed: chmod +x it")
    return found


def resolve(members: Mapping[str, Member], path: str) -> Member | None:
    """What is at a path in the image, behind links; a link that leads out of what is known stands for itself."""
    pending, place = path.split("/")[::-1], list[str]()
    link, behind, hops = None, 0, 0  # the last link, and how many parts lie behind what it leads to
    while pending:
        part = pending.pop()
        if len(pending) < behind:
            link = None
        if part in ("", ".", ".."):
            place = place[:-1] if part == ".." else place
            continue
        place.append(part)
        found = members.get("/".join(place))
        if found is None:
            return link
        if found.target is not None:
            link, behind, hops = found, len(pending), hops + 1
            if hops > MAX_LINKS:
                raise DataError(f"links in the image lead around in a circle: {path[:200]!r}")
            place = [] if found.target.startswith("/") else place[:-1]
            pending += found.target.split("/")[::-1]
    return members.get("/".join(place))


def find_loader(file: IO[bytes]) -> str | None:
    """The loader that an ELF program names, None for a static one: all of its segments are looked at."""
    file.seek(0)
    head = file.read(64)
    is_wide, order = head[4:5] == b"\2", "<" if head[5:6] == b"\1" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}Q", head, 32) if is_wide else struct.unpack_from(f"{order}I", head, 28)
        size, count = struct.unpack_from(f"{order}HH", head, 54 if is_wide else 42)
        length = os.fstat(file.fileno()).st_size
        for at in range(start, start + count * size, size or 1):
            if at >= length:
                break
            file.seek(at)
            segment = file.read(56)
            if struct.unpack_from(f"{order}I", segment)[0] == PT_INTERP:
                fields, place = (f"{order}4Q", 8) if is_wide else (f"{order}4I", 4)
                offset, _, _, amount = struct.unpack_from(fields, segment, place)
                file.seek(offset)
                return os.fsdecode(file.read(min(amount, 4096)).split(b"\0")[0])
    except (struct.error, OSError, OverflowError):
        pass  # cut off, or absurd: its execution says so
    return None


def find_architecture(program: Path | None, told: str | None) -> str:
    """As the program's header says. Never this machine's: the same files must give the same image everywhere."""
    head = b""
    if program is not None:
        with program.open("rb") as file:
            head = file.read(20)
    if not head.startswith(ELF):
        if told is None:
            raise DataError(
                f"{program or 'the program'} does not say what machine it is for: give --arch amd64 or arm64"
            )
        return told
    machine = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    found = ELF_MACHINES.get(machine, told)
    if found is None:
        raise DataError(f"{program} is for a machine (ELF {machine}) that is not known: give --arch")
    if told not in (None, found):
        raise DataError(f"{program} is a program for {found}, not for --arch {told}: leave --arch out")
    return found
