"""Jobs of different kinds, each with content of its own: programs, inputs, and what has to come out."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from _bench import ROOT
from _judge import Expected, judge_cloud, judge_end, judge_life, judge_primes, judge_sort, judge_words
from _scenes import EXAMPLES, MODULE, make_scene
from _tiles import Cut

from quorate.protocol.spec import Limits, Partition

SOURCE = ROOT / "tests" / "bench" / "mixed.c"
FUEL, CLOUD_FUEL = 200_000_000, 200_000_000
MEMORY_BYTES = 32 << 20
TILES, TILE_SIDE = 12, 48
FILES = 3
WORDS = ("alder", "birch", "cedar", "elder", "hazel", "larch", "maple", "rowan", "thorn", "yew")


@dataclass(frozen=True, slots=True)
class Job:
    """What to order, and what each of its tasks has to put out; `tasks` by the file that each is about."""

    kind: str
    module: str
    limits: Limits
    tasks: dict[str, Expected]
    source: Path | None = None
    args: Sequence[str] = ()
    partition: Partition = field(default_factory=Partition)


def build(folder: Path, seed: int) -> None:
    """Compile the programs, and cut tiles for the cloud mask with what is expected of each."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O2", "-s", str(SOURCE)]
    subprocess.run([*command, "-o", str(folder / "mixed.wasm")], check=True)
    subprocess.run([sys.executable, str(EXAMPLES / "build.py"), "--native", str(folder / "bin")], check=True, stdout=2)
    cut = Cut(make_scene(folder / "scene", seed), TILES, TILE_SIDE)
    cut.write(folder / "tiles", folder / "together")


class Mix:
    """Makes jobs by their numbers, the same for the same seed; `work` is where inputs are written."""

    def __init__(self, folder: Path, work: Path, seed: int) -> None:
        self._folder, self._work, self._seed = folder, work, seed
        work.mkdir(parents=True, exist_ok=True)
        self._kinds: Sequence[Callable[[int, random.Random], Job]] = (
            self._words, self._sort, self._primes, self._life, self._end, self._cloud, self._many,
        )  # fmt: skip
        self._judge_tile = cache(self._judge_tile_once)

    def make(self, number: int) -> Job:
        """Job `number`."""
        return self._kinds[number % len(self._kinds)](number, random.Random(f"{self._seed} {number}"))

    def _small(self, kind: str, tasks: dict[str, Expected], source: Path | None = None, *args: object) -> Job:
        limits = Limits(fuel=FUEL, memory_bytes=MEMORY_BYTES)
        words = (kind, *map(str, args))
        return Job(kind, str(self._folder / "mixed.wasm"), limits, tasks, source, words)

    def _write(self, name: str, data: bytes) -> Path:
        path = self._work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def _words(self, number: int, chance: random.Random) -> Job:
        text = make_text(number, chance)
        return self._small("words", {"": judge_words(text)}, self._write(f"{number}.txt", text))

    def _sort(self, number: int, chance: random.Random) -> Job:
        data = struct.pack("<1000I", *(chance.getrandbits(32) for _ in range(1000)))
        return self._small("sort", {"": judge_sort(data)}, self._write(f"{number}.bin", data))

    def _primes(self, number: int, chance: random.Random) -> Job:
        limit = chance.randrange(2_000, 20_000)
        return self._small("primes", {"": judge_primes(limit)}, None, limit)

    def _life(self, number: int, chance: random.Random) -> Job:
        steps = chance.randrange(1, 20)
        grid = "".join("".join(chance.choice(".#") for _ in range(40)) + "\n" for _ in range(24)).encode()
        return self._small("life", {"": judge_life(grid, steps)}, self._write(f"{number}.txt", grid), steps)

    def _end(self, number: int, chance: random.Random) -> Job:
        code = chance.randrange(1, 90)
        return self._small("ends", {"": judge_end(code)}, None, code)

    def _cloud(self, number: int, chance: random.Random) -> Job:
        tile = f"{chance.randrange(TILES):05}"
        limits = Limits(fuel=CLOUD_FUEL, memory_bytes=MEMORY_BYTES)
        return Job("cloud", str(MODULE), limits, {"": self._judge_tile(tile)}, self._folder / "tiles" / tile)

    def _judge_tile_once(self, tile: str) -> Expected:
        binary, outputs = self._folder / "bin" / "cloud-detection", self._work / "native" / tile
        return judge_cloud(binary, self._folder / "tiles" / tile, outputs)

    def _many(self, number: int, chance: random.Random) -> Job:
        texts = {f"{index}.txt": make_text(number * FILES + index, chance) for index in range(FILES)}
        for name, text in texts.items():
            self._write(f"{number}/{name}", text)
        limits = Limits(fuel=FUEL, memory_bytes=MEMORY_BYTES)
        tasks = {name: judge_words(text) for name, text in texts.items()}
        module, source = str(self._folder / "mixed.wasm"), self._work / str(number)
        return Job("many", module, limits, tasks, source, ("words",), Partition("*.txt"))


def make_text(number: int, chance: random.Random) -> bytes:
    """Words, and one that no other job has."""
    words = [chance.choice(WORDS) for _ in range(300)]
    return (" ".join(words) + f"\njob{number}\n").encode()
