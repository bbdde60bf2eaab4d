"""What chance alone may do: intervals of binomial counts, exactly."""

from __future__ import annotations

import math

CONFIDENCE = 0.99


def compute_interval(trials: int, probability: float, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """Central interval of a binomial: each tail beyond it has at most half of what the confidence leaves."""
    if probability <= 0.0:
        return 0, 0
    if probability >= 1.0:
        return trials, trials
    tail, below, low, total = (1 - confidence) / 2, 0.0, None, math.lgamma(trials + 1)
    for count in range(trials + 1):
        ways = total - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
        below += math.exp(ways + count * math.log(probability) + (trials - count) * math.log1p(-probability))
        if low is None and below > tail:
            low = count
        if below >= 1 - tail:
            return low or 0, count
    return low or 0, trials
