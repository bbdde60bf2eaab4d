"""Prometheus metrics of a node; few, each with a use."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from quorate_node.core.collation import count_queued
from quorate_node.core.state import State, WorkStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters and gauges of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.executions = Counter(
            "quorate_executions", "Bundles executed, by outcome.", ["outcome"], registry=self.registry
        )
        self.transactions = Counter(
            "quorate_transactions", "Transactions sent, by method and outcome.", ["method", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.messages = Counter(
            "quorate_messages", "Messages sent, by kind and outcome.", ["kind", "outcome"], registry=self.registry
        )
        self.orders = Counter("quorate_orders", "Orders received, by outcome.", ["outcome"], registry=self.registry)
        self.head = Gauge("quorate_head_block", "Newest block that was handled.", registry=self.registry)
        self.batches = Gauge("quorate_batches", "Batches that are followed.", registry=self.registry)
        self.disputes = Gauge("quorate_disputes", "Class votes that run.", registry=self.registry)
        self.running = Gauge("quorate_executions_running", "Bundles waiting or running.", registry=self.registry)
        self.queued = Gauge("quorate_orders_queued", "Orders not on chain yet.", registry=self.registry)

    def render(self, state: State) -> bytes:
        """The page of metrics."""
        self.head.set(state.chain.head.number)
        self.batches.set(len(state.chain.batches))
        self.disputes.set(len(state.chain.disputes))
        self.running.set(sum(1 for each in state.own.work.values() if each.status is WorkStatus.RUNNING))
        self.queued.set(count_queued(state))
        return generate_latest(self.registry)
