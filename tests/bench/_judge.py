"""What the programs of tests/bench/mixed.c have to put out, found without them, and without any of our own code.

Nothing of quorate may be imported here: a mistake that both sides share would stay unseen. The cloud mask is judged by
its program as a native binary.
"""

from __future__ import annotations

import struct
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Expected:
    """Exit code, standard output (None: whatever it is) and files below /outputs of one task."""

    exit_code: int = 0
    stdout: bytes | None = b""
    files: dict[str, bytes] = field(default_factory=dict)


def judge_words(text: bytes) -> Expected:
    """Words by how often they occur."""
    words = text.split()
    found = sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))
    rows = b"".join(b"%s %d\n" % item for item in found)
    return Expected(stdout=b"%d of %d\n" % (len(found), len(words)), files={"words.txt": rows})


def judge_sort(data: bytes) -> Expected:
    """Numbers of four bytes, little end first, in order."""
    numbers = sorted(struct.unpack(f"<{len(data) // 4}I", data))
    return Expected(files={"sorted.bin": struct.pack(f"<{len(numbers)}I", *numbers)})


def judge_primes(limit: int) -> Expected:
    """How many primes there are below a limit, and their sum."""
    is_prime = bytearray([1]) * limit
    is_prime[:2] = bytes(min(2, limit))
    for number in range(2, limit):
        if is_prime[number]:
            is_prime[2 * number :: number] = bytes(len(range(2 * number, limit, number)))
    primes = [number for number in range(limit) if is_prime[number]]
    return Expected(stdout=f"{len(primes)} {sum(primes)}\n".encode())


def judge_life(grid: bytes, steps: int) -> Expected:
    """Conway's game of life on a torus."""
    rows = grid.splitlines()
    height, width = len(rows), len(rows[0])
    alive = {(y, x) for y, row in enumerate(rows) for x, cell in enumerate(row) if cell == ord("#")}
    for _ in range(steps):
        around = Counter(
            ((y + dy) % height, (x + dx) % width)
            for y, x in alive
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if dy or dx
        )
        alive = {place for place, count in around.items() if count == 3 or (count == 2 and place in alive)}
    lines = ("".join("#" if (y, x) in alive else "." for x in range(width)) for y in range(height))
    return Expected(files={"life.txt": "".join(f"{line}\n" for line in lines).encode()})


def judge_end(code: int) -> Expected:
    """A program that says how it ends."""
    return Expected(code, f"ends with {code}\n".encode())


def judge_cloud(binary: Path, scene: Path, outputs: Path) -> Expected:
    """What the native program puts out for a scene."""
    outputs.mkdir(parents=True)
    done = subprocess.run([str(binary), str(scene), str(outputs)], stdout=subprocess.PIPE, check=True)
    files = {path.name: path.read_bytes() for path in outputs.iterdir()}
    return Expected(stdout=done.stdout, files=files)


def is_same(expected: Expected, exit_code: int, stdout: bytes, outputs: Path) -> bool:
    """Whether a task has put out exactly that, and no file besides."""
    found = {str(path.relative_to(outputs)): path.read_bytes() for path in outputs.rglob("*") if path.is_file()}
    is_told = expected.stdout is None or expected.stdout == stdout
    return exit_code == expected.exit_code and is_told and found == expected.files
