"""Prometheus metrics of a node; few, each with a use. prometheus_client is loaded when somebody first asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from quorate_node.core.collation import count_queued
from quorate_node.core.state import State, WorkStatus

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNTERS = {
    "executions": ("Bundles executed, by outcome.", ("outcome",)),
    "transactions": ("Transactions sent, by instruction and outcome.", ("call", "outcome")),
    "messages": ("Messages sent, by kind and outcome.", ("kind", "outcome")),
    "orders": ("Orders received, by outcome.", ("outcome",)),
}


class Metrics:
    """Counters of one process, and gauges read from its state."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, ...]] = Counter()

    def count(self, name: str, *labels: str) -> None:
        """One more; names and labels are those of COUNTERS."""
        self._counts[name, *labels] += 1

    def render(self, states: Sequence[State]) -> bytes:
        """The page of metrics."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(_Collected(self._counts, states))
        return generate_latest(registry)


class _Collected:
    """What prometheus_client calls a collector."""

    def __init__(self, counts: Counter[tuple[str, ...]], states: Sequence[State]) -> None:
        self._counts, self._states = counts, states

    def collect(self) -> Iterator[Metric]:
        """Every metric with its present value."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for name, (text, labels) in COUNTERS.items():
            family = CounterMetricFamily(f"quorate_{name}", text, labels=labels)
            for (counted, *values), number in self._counts.items():
                if counted == name:
                    family.add_metric(values, number)
            yield family
        state = self._states[0]
        works = (work for each in self._states for work in each.own.work.values())
        running = sum(1 for work in works if work.status is WorkStatus.RUNNING)
        gauges = {
            "head_block": ("Newest block that was handled.", state.chain.head.number),
            "batches": ("Batches that are followed.", len(state.chain.batches)),
            "disputes": ("Class votes that run.", len(state.chain.disputes)),
            "executions_running": ("Bundles waiting or running.", running),
            "orders_queued": ("Orders not on chain yet.", count_queued(state)),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"quorate_{name}", text, value=value)
