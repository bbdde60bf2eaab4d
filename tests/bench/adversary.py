"""What colluding liars achieve and what it costs them: wrong results, delay, stake.

With --model the pure model decides every draw, verdict, fine and slash; without it a real chain and real nodes do.
Every figure is computed from the rows in out/bench/adversary-*.jsonl.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from _bench import ROOT, Bench, share, whole
from tests.adversarial.batch_play import Plan, Row
from tests.adversarial.chance import compute_interval
from tests.adversarial.economy import Economy
from tests.adversarial.onchain import Attack
from tests.adversarial.population import split_equally, split_liars
from tests.adversarial.strategies import STRATEGIES

from quorate.protocol.params import LOCAL, MAX_MEMBERS, MAX_UNITS, MAX_VOTERS

PICTURE = ROOT / "out" / "adversary.png"
LEAST_SPLIT_SHARE = 0.001
"""A smaller share of the stake is less than a unit for each of the liars."""
UNANIMOUS = ("lie_if_unanimous", "split_liars", "always_lie")
"""Strategies whose wrong results are exactly the committees that were wholly theirs."""
ARGUMENTS: dict[str, dict[str, Any]] = {
    "--nodes": {"type": whole(2, MAX_MEMBERS), "default": 100, "help": "operators of the class (default: 100)"},
    "--share": {"type": share, "default": 0.25, "help": "the liars' share of its stake (default: 0.25)"},
    "--k": {"type": whole(1), "default": None, "help": "seats of a committee (default: 21, or half the operators)"},
    "--rounds": {"type": whole(0), "default": 2, "help": "fresh rounds after the first (default: 2)"},
    "--strategy": {"choices": sorted(STRATEGIES), "default": "lie_if_unanimous", "help": "what the liars do"},
    "--bundles": {"type": whole(1), "default": 1000, "help": "bundles posted (default: 1000)"},
    "--model": {"action": "store_true", "help": "let the pure model play all parties: no chain, no nodes"},
    "--deplete": {"action": "store_true", "help": "do not replace liars that were ejected or slashed"},
}


def percentile(values: Sequence[int], percent: int) -> int:
    """Nearest-rank percentile."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def compute_figures(bundles: Sequence[dict[str, Any]], eras: Sequence[dict[str, Any]], plan: Plan) -> dict[str, Any]:
    """All figures, from rows alone."""
    count, last = len(bundles), eras[-1]
    wrong = sum(row["wrong_accepted"] for row in bundles)
    captured = sum(era["all_theirs"] * era["count"] for era in eras) / count
    interval = compute_interval(count, captured)
    is_exact = plan.strategy in UNANIMOUS
    rounds = [row["rounds"] for row in bundles]
    return {
        **compare_with_model(bundles, eras),
        "strategy": plan.strategy,
        "nodes": plan.nodes,
        "k": plan.seats,
        "bundles": count,
        "bundles_attacked": sum(row["attacked"] for row in bundles),
        "share_mean": round(sum(row["share"] for row in bundles) / count, 4),
        "wrong_accepted": wrong,
        "wrong_final": sum(row["wrong_final"] for row in bundles),
        "wrong_bound": min(1.0, round((plan.rounds + 1) * plan.share**plan.seats, 12)),
        "wrong_predicted": round(captured * count, 3) if is_exact else None,
        "wrong_interval_99": list(interval) if is_exact else None,
        "wrong_is_within": interval[0] <= wrong <= interval[1] if is_exact else None,
        "void": sum(row["verdict"] == "VOID" for row in bundles),
        "void_by_era": [round(era["void_share"], 3) for era in eras],
        "void_before_extension_by_era": [round(era["void_first_share"], 3) for era in eras],
        "extended": sum(row["extended"] for row in bundles),
        "audited": sum(row["audited"] for row in bundles),
        "disputes": sum(row["disputed"] for row in bundles),
        "overhead": round(sum(row["executions"] for row in bundles) / count, 3),
        "class_votes_per_bundle": round(sum(row["class_votes"] for row in bundles) / count, 3),
        "rounds_p50": percentile(rounds, 50),
        "rounds_p99": percentile(rounds, 99),
        "honest_slashed": last["honest_slashed"],
        "honest_stake_left": round(last["honest_stake"], 6),
        "liar_stake_left": round(last["liar_stake"], 6),
    }


def compare_with_model(bundles: Sequence[dict[str, Any]], eras: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What only a run on a chain has."""
    if "agrees" not in bundles[0]:
        return {}
    return {
        "model_agrees": sum(row["agrees"] for row in bundles),
        "model_agrees_in_all": sum(row["agrees_in_all"] for row in bundles),
        "model_ejects_the_same": all(era["model_ejects_the_same"] for era in eras),
        "batches": sum(era["batches"] for era in eras),
        "liars_ejected": sum(era["liars_ejected"] for era in eras),
        "honest_jailed": eras[-1]["honest_jailed"],
        "seconds": round(sum(era["seconds"] for era in eras), 1),
    }


def draw_picture(eras: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Stakes of both sides over time, and under them what share of the bundles came to nothing."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (top, low) = pyplot.subplots(2, 1, sharex=True, figsize=(9, 6), height_ratios=(2, 1))
    at = [era["bundles"] for era in eras]
    top.plot(at, [era["honest_stake"] for era in eras], label="honest: stake left and earned", color="tab:green")
    top.plot(at, [era["liar_stake"] for era in eras], label="liars: left of all that they put in", color="tab:red")
    top.set_ylabel("stake, 1 = put in")
    top.set_ylim(bottom=0)
    low.step(at, [era["void_share"] for era in eras], where="mid", label="VOID, after an extension", color="tab:gray")
    low.step(at, [era["void_first_share"] for era in eras], where="mid", label="VOID at first", color="tab:blue")
    low.step(at, [era["share"] for era in eras], where="mid", label="liars' share of the table", color="tab:orange")
    low.set_xlabel("bundles posted")
    low.set_ylim(0, 1.02)
    for axes in (top, low):
        axes.legend(loc="best")
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def keep(bench: Bench, rows: Iterable[Row]) -> None:
    """Record a row for each bundle and era, as they come."""
    for row in rows:
        kind = row.pop("kind")
        bench.record(kind, row)
        if kind == "era":
            bench.say(f"era {row['era']}: {row['bundles']} bundles, void {row['void_share']:.0%}")


def find_problem(a: argparse.Namespace) -> str | None:
    """What is wrong with the arguments together, by the limits that the contracts have."""
    seats = choose_seats(a)
    if 2 * seats > a.nodes:
        return f"argument --k: {seats} seats are more than half of the {a.nodes} --nodes"
    if (voters := seats * (1 + a.rounds)) > MAX_VOTERS:
        return f"argument --k: {seats} seats in {1 + a.rounds} rounds are {voters} votes, above {MAX_VOTERS}"
    if not a.model and a.rounds > LOCAL.max_rounds:
        return f"argument --rounds: contracts allow {LOCAL.max_rounds}"
    if a.strategy == "split_liars" and (a.nodes < 3 or a.share < LEAST_SPLIT_SHARE):
        return f"argument --strategy: split_liars needs 3 or more --nodes and a --share from {LEAST_SPLIT_SHARE} on"
    split = (split_liars if a.strategy == "split_liars" else split_equally)(a.nodes, a.share)
    if (units := sum(split.honest) + sum(split.liars)) > MAX_UNITS:
        return f"argument --share: {units} units would split the stake so, and a class has {MAX_UNITS}"
    return None


def choose_seats(a: argparse.Namespace) -> int:
    """Seats of a committee."""
    return a.k if a.k is not None else min(21, a.nodes // 2)


def main() -> None:
    """Run it."""
    bench = Bench("adversary", __doc__ or "", ARGUMENTS, find_problem)
    a = bench.args
    seats = choose_seats(a)
    plan = Plan(a.nodes, a.share, seats, a.strategy, a.bundles, a.rounds, a.deplete, a.seed)
    how = "model" if a.model else "chain"
    bench.keep_as(f"{how}-{a.strategy}-n{a.nodes}-p{a.share:g}-k{seats}{'-deplete' if a.deplete else ''}")
    if a.model:
        keep(bench, Economy(plan).run())
    else:
        keep(bench, Attack(plan, bench.say).run())
    eras = bench.rows("era")
    figures = compute_figures(bench.rows("bundle"), eras, plan)
    if not a.json:
        draw_picture(eras, f"{a.strategy}, {a.nodes} operators, p = {a.share:g}, k = {seats}", PICTURE)
        bench.say(f"picture: {PICTURE.relative_to(ROOT)}; rows: {bench.path('*').relative_to(ROOT)}")
    bench.finish(figures)


if __name__ == "__main__":
    main()
