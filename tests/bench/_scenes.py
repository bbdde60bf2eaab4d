"""The 10 MB cloud mask that benchmarks run, and what they compare with: native WASI, over folders of this host."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import wasmtime
from _bench import ROOT

EXAMPLES = ROOT / "client" / "examples"
EXAMPLE = EXAMPLES / "cloud-detection"
MODULE = EXAMPLE / "cloud-detection.wasm"


def make_scene(folder: Path, seed: int) -> Path:
    """A synthetic scene of about 10 MB."""
    maker = [sys.executable, str(EXAMPLE / "make_scene.py"), str(folder), "--seed", str(seed)]
    subprocess.run(maker, check=True, stdout=subprocess.DEVNULL)
    return folder


class NativeWasi:
    """The module with wasmtime's own WASI, compiled and its imports defined beforehand, as ours are.

    With the engine as it comes, or with a given one; `fuel` is for one that meters.
    """

    def __init__(self, module: Path, engine: wasmtime.Engine | None = None, fuel: int | None = None) -> None:
        self._engine = engine or wasmtime.Engine()
        self._fuel = fuel
        self._module = wasmtime.Module.from_file(self._engine, str(module))
        self._linker = wasmtime.Linker(self._engine)
        self._linker.define_wasi()

    def time(self, scene: Path, outputs: Path) -> float:
        """Seconds of one run, from the store's making to its end: giving a guest's memory back costs time, too."""
        began = time.perf_counter()
        store, wasi = wasmtime.Store(self._engine), wasmtime.WasiConfig()
        if self._fuel is not None:
            store.set_fuel(self._fuel)
            store.set_epoch_deadline(1 << 30)
        wasi.argv = ("cloud-detection",)
        wasi.preopen_dir(str(scene), "/inputs")
        wasi.preopen_dir(str(outputs), "/outputs")
        wasi.stdout_file = str(outputs / "stdout")
        store.set_wasi(wasi)
        start = self._linker.instantiate(store, self._module).exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        try:
            start(store)
        except wasmtime.ExitTrap as trap:
            if trap.code != 0:
                raise
        store.close()
        return time.perf_counter() - began
