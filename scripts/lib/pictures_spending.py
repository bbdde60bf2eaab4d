"""The picture of `scripts/demo filecoin`: what was spent, by scope and by day, against its caps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

UNIT = 10**15
"""Base units in one of the picture's."""
CHARGED, RESERVED, CAP = "steelblue", "orange", "crimson"
MOST_NAME_CHARS = 34


def write_spending_picture(
    path: Path, scopes: Sequence[Mapping[str, Any]], receipts: Sequence[Mapping[str, Any]], names: Mapping[str, str]
) -> None:
    """`scopes` as `limit show` tells them, `receipts` as `receipts` does; `names` of datasets by their CIDs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    named = [each for each in scopes if " " in each["scope"] or each["scope"] == "total"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.5), width_ratios=(3, 2), constrained_layout=True)
    labels = [_shorten(each["scope"], names) for each in named]
    charged = [int(each["charged"]) / UNIT for each in named]
    places = range(len(named))
    left.barh(places, charged, color=CHARGED, label="charged")
    left.barh(places, [int(each["reserved"]) / UNIT for each in named], left=charged, color=RESERVED, label="reserved")
    for place, each in enumerate(named):
        if each["cap"] is not None:
            left.plot([int(each["cap"]) / UNIT] * 2, [place - 0.4, place + 0.4], color=CAP, linewidth=2.5)
    left.plot([], [], color=CAP, linewidth=2.5, label="cap")
    left.set_yticks(list(places), labels, fontsize=8)
    left.invert_yaxis()
    left.set_title("Spending by scope, against its caps")
    _draw_days(right, named, receipts, names)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    left.set_xlabel("thousandths of a token")
    right.set_ylabel("thousandths of a token")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_days(
    axes: Any, scopes: Sequence[Mapping[str, Any]], receipts: Sequence[Mapping[str, Any]], names: Mapping[str, str]
) -> None:
    """A bar for each day, with the parts of its datasets, and the day's cap."""
    by_dataset: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for each in receipts:
        by_dataset[each["dataset"]][each["day"]] += int(each["charged"])
    days = sorted({each["day"] for each in receipts})
    bottom = dict.fromkeys(days, 0.0)
    for dataset, amounts in by_dataset.items():
        heights = [amounts.get(day, 0) / UNIT for day in days]
        axes.bar(days, heights, width=0.5, bottom=[bottom[day] for day in days], label=_shorten(dataset, names))
        for day, height in zip(days, heights, strict=True):
            bottom[day] += height
    caps = {each["scope"].removeprefix("day "): each["cap"] for each in scopes if each["scope"].startswith("day ")}
    for place, day in enumerate(days):
        if caps.get(day) is not None:
            cap = int(caps[day]) / UNIT
            axes.plot([place - 0.35, place + 0.35], [cap, cap], color=CAP, linewidth=2.5)
    axes.plot([], [], color=CAP, linewidth=2.5, label="cap of the day")
    axes.set_title("Spending by day (UTC) and dataset")


def _shorten(text: str, names: Mapping[str, str]) -> str:
    kind, _, name = text.rpartition(" ")
    shown = names.get(name, name)
    if len(shown) > MOST_NAME_CHARS:
        shown = f"{shown[:12]}…{shown[-4:]}"
    return f"{kind} {shown}".strip()
