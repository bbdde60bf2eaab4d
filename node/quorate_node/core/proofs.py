"""Proofs from what a node knows of a batch."""

from __future__ import annotations

from quorate.protocol.outcomes import Proof, plan_proof
from quorate_node.core.views import Batch


def build_proof(batch: Batch, bundle: int) -> Proof | None:
    """Proof of a bundle and its newest row; None while it has none."""
    outcome = batch.outcomes.get(bundle)
    page = next((index for index, numbers in enumerate(batch.record_bundles) if bundle in numbers), None)
    if outcome is None or page is None:
        return None
    return plan_proof(batch.record_pages, page, batch.outcome_pages, outcome.page)
