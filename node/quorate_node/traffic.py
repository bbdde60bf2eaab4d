"""How much content a node sends and takes: what its operator allows, and what of it this day has used.

The day's count outlives the process: a node that is restarted all the time keeps to its limit, too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from quorate.chain.types import write_atomically
from quorate.storage.traffic import Meter, TrafficFigures, TrafficLimits
from quorate_node.logs import get_logger

SAVE_S = 5.0


class Traffic:
    """Both directions of one node: `served` by its gateway, `fetched` from providers or pushed to it.

    The file `path` has the day's counts.
    """

    def __init__(self, path: Path, serve: TrafficLimits, fetch: TrafficLimits) -> None:
        self.served, self.fetched = Meter("serve", serve), Meter("fetch", fetch)
        self._path = path
        self._saved: dict[str, Any] | None = None
        self._log = get_logger()

    @property
    def meters(self) -> tuple[Meter, Meter]:
        """Both."""
        return self.served, self.fetched

    def load(self) -> None:
        """Go on from what an earlier run counted today. A damaged file is said in the log, and counts nothing."""
        try:
            told = json.loads(self._path.read_text())
            rows = [(meter, int(told[meter.name]["day"]), int(told[meter.name]["bytes"])) for meter in self.meters]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._log.warning("the day's traffic is counted anew", file=str(self._path), error=repr(error))
            return
        for meter, day, count in rows:
            meter.resume(day, max(count, 0))

    async def run(self) -> None:
        """Write the counts down now and then, until cancelled."""
        while True:
            await asyncio.sleep(SAVE_S)
            await asyncio.to_thread(self.save)

    def save(self) -> None:
        """Write the counts down if they have changed; a disk that does not take them is said in the log."""
        counts = {name: {"day": each.day, "bytes": each.day_bytes} for name, each in self._figures()}
        if counts == self._saved:
            return
        try:
            write_atomically(self._path, json.dumps(counts) + "\n")
        except OSError as error:
            self._log.warning("the day's traffic was not written down", file=str(self._path), error=str(error))
            return
        self._saved = counts

    def describe(self) -> dict[str, dict[str, Any]]:
        """For `status`: limits and counts of each direction, and what is wrong where the day's bytes are used up."""
        found: dict[str, dict[str, Any]] = {}
        for meter in self.meters:
            figures, most = meter.figures, meter.limits.bytes_day
            found[meter.name] = asdict(meter.limits) | {
                "day_bytes": figures.day_bytes,
                "total_bytes": figures.total_bytes,
                "refusals": figures.refusals,
            }
            if most and figures.day_bytes >= most:
                what = "no content is fetched" if meter is self.fetched else "no content is served"
                found[meter.name]["problem"] = (
                    f"{what} for {meter.seconds_left} s: {meter.name}_bytes_day is used up; raise it, or wait"
                )
        return found

    def _figures(self) -> Iterator[tuple[str, TrafficFigures]]:
        return ((meter.name, meter.figures) for meter in self.meters)
