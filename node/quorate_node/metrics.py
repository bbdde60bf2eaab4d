"""Prometheus metrics of a node; few, each with a use. prometheus_client is loaded when somebody first asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from quorate.storage.traffic import Meter
from quorate_node.core.collation import count_queued
from quorate_node.core.state import State, WorkStatus
from quorate_node.room import RoomFigures

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNTERS = {
    "executions": ("Bundles executed, by outcome.", ("outcome",)),
    "transactions": ("Transactions sent, by instruction and outcome.", ("call", "outcome")),
    "messages": ("Messages sent, by kind and outcome.", ("kind", "outcome")),
    "orders": ("Orders received, by outcome.", ("outcome",)),
    "peer_requests": ("Requests to other nodes, by what was asked.", ("kind",)),
    "chain_calls": ("Calls of the chain's endpoint, by method.", ("method",)),
    "chain_answer_bytes": ("Bytes of its answers, by the first method of a request.", ("method",)),
}


class Metrics:
    """Counters of one process, and gauges read from its state."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._followed: dict[str, Counter[str]] = {}

    def follow(self, **counts: Counter[str]) -> None:
        """What others count by one label; names are those of COUNTERS."""
        self._followed |= counts

    def count(self, name: str, *labels: str) -> None:
        """One more; names and labels are those of COUNTERS."""
        self._counts[name, *labels] += 1

    def render(
        self, states: Sequence[State], received_bytes: int, store: RoomFigures, meters: Sequence[Meter] = ()
    ) -> bytes:
        """The page of metrics; `store` as it was measured last."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        counts = Counter(self._counts)
        for name, followed in self._followed.items():
            counts.update({(name, label): number for label, number in followed.copy().items()})
        registry.register(_Collected(counts, states, received_bytes, store, meters))
        return generate_latest(registry)


class _Collected:
    """What prometheus_client calls a collector."""

    def __init__(
        self, counts: Counter[tuple[str, ...]], states: Sequence[State], received_bytes: int, store: RoomFigures,
        meters: Sequence[Meter],
    ) -> None:  # fmt: skip
        self._counts, self._states, self._received_bytes, self._store = counts, states, received_bytes, store
        self._meters = meters

    def collect(self) -> Iterator[Metric]:
        """Every metric with its present value."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for name, (text, labels) in COUNTERS.items():
            family = CounterMetricFamily(f"quorate_{name}", text, labels=labels)
            for (counted, *values), number in self._counts.items():
                if counted == name:
                    family.add_metric(values, number)
            yield family
        yield from self._collect_store()
        yield from self._collect_traffic()
        state = self._states[0]
        works = (work for each in self._states for work in each.own.work.values())
        running = sum(1 for work in works if work.status is WorkStatus.RUNNING)
        gauges = {
            "head_block": ("Newest block that was handled.", state.chain.head.number),
            "batches": ("Batches that are followed.", len(state.chain.batches)),
            "disputes": ("Class votes that run.", len(state.chain.disputes)),
            "executions_running": ("Bundles waiting or running.", running),
            "host_failures_in_row": (
                "Executions that failed for the host's own fault since the last one that did not.",
                max(each.guard.failures for each in self._states),
            ),
            "orders_queued": ("Orders not on chain yet.", count_queued(state)),
            "received_bytes": ("Content received from providers.", self._received_bytes),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"quorate_{name}", text, value=value)

    def _collect_store(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        store = self._store
        yield GaugeMetricFamily("quorate_store_bytes", "What the store takes up on its disk.", store.used_bytes)
        yield GaugeMetricFamily("quorate_store_most_bytes", "What it may take up; 0: all there is.", store.most_bytes)
        yield GaugeMetricFamily("quorate_disk_free_bytes", "What is free on its disk.", store.free_disk_bytes)
        yield CounterMetricFamily("quorate_store_evicted_bytes", "What went to make room.", store.evicted_bytes)
        yield CounterMetricFamily("quorate_store_refusals", "Times that content found no room.", store.refusals)

    def _collect_traffic(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        rows = [(meter, meter.figures) for meter in self._meters]
        total = CounterMetricFamily("quorate_traffic_bytes", "Content, by direction.", labels=("direction",))
        today = GaugeMetricFamily("quorate_traffic_day_bytes", "The same, this day of UTC.", labels=("direction",))
        most = GaugeMetricFamily("quorate_traffic_most_day_bytes", "Its bound; 0: none.", labels=("direction",))
        refused = CounterMetricFamily(
            "quorate_traffic_refusals", "Times that a day's bytes were used up.", labels=("direction",)
        )
        for meter, figures in rows:
            total.add_metric([meter.name], figures.total_bytes)
            today.add_metric([meter.name], figures.day_bytes)
            most.add_metric([meter.name], meter.limits.bytes_day)
            refused.add_metric([meter.name], figures.refusals)
        yield from (total, today, most, refused)
