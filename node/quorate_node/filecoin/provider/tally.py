"""What a provider counts, and its page for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNTERS = {
    "requests": ("Requests answered, by first part of the path and status.", ("resource", "status")),
    "payments": ("Payments, by what came of them.", ("outcome",)),
    "redemptions": ("Vouchers sent to the chain, by outcome.", ("outcome",)),
    "sent_bytes": ("Bytes of content sent.", ()),
}


class Tally:
    """Counters of one process; any thread may count."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._lock = Lock()

    def count(self, name: str, *labels: str, number: int = 1) -> None:
        """So many more; names and labels are those of COUNTERS."""
        with self._lock:
            self._counts[(name, *labels)] += number

    def get(self, name: str, *labels: str) -> int:
        """How many so far."""
        with self._lock:
            return self._counts[(name, *labels)]

    def render(self, gauges: Mapping[str, tuple[str, float]]) -> bytes:
        """The page; `gauges` are name → (what it is, value)."""
        from prometheus_client import CollectorRegistry, generate_latest

        with self._lock:
            counts = dict(self._counts)
        registry = CollectorRegistry()
        registry.register(_Collected(counts, gauges))
        return generate_latest(registry)


class _Collected:
    """What prometheus_client calls a collector."""

    def __init__(self, counts: Mapping[tuple[str, ...], int], gauges: Mapping[str, tuple[str, float]]) -> None:
        self._counts, self._gauges = counts, gauges

    def collect(self) -> Iterator[Metric]:
        """Every metric with its present value."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for name, (text, labels) in COUNTERS.items():
            family = CounterMetricFamily(f"quorate_provider_{name}", text, labels=labels)
            for (counted, *values), number in self._counts.items():
                if counted == name:
                    family.add_metric(values, number)
            yield family
        for name, (text, value) in self._gauges.items():
            yield GaugeMetricFamily(f"quorate_provider_{name}", text, value=value)
