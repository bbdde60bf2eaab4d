"""The spending limit under fire: processes that share one ledger, many providers, SIGKILL at every step.

Each round has a fresh budget, which all spend until nothing more is allowed. `signed` sums what left the processes,
`redeemed` what left the payers by the events of a local chain, where providers redeem all vouchers, `fees` what of it
stayed with Filecoin Pay, `cap` the totals. A few more rounds have the ledger's lock removed (in the bench alone): they
must show violations, or it could not see any; there the allowance on the chain is the total's cap, and holds.
"""

from __future__ import annotations

from typing import Any

from _bench import Bench, whole
from tests.bench._redeeming import open_market
from tests.bench._spending import Sums, run_rounds

MUTANT_ROUNDS = 3


def describe(sums: Sums) -> dict[str, Any]:
    """Figures of some rounds."""
    return {
        "signed": sums.signed,
        "redeemed": sums.redeemed,
        "fees": sums.fees,
        "cap": sums.cap,
        "kills": sums.kills,
        "violations": len(sums.broken),
        "rounds": sums.rounds,
        "deaths": sums.deaths,
    }


def main() -> None:
    """Run it."""
    arguments: dict[str, dict[str, Any]] = {
        "--processes": {"type": whole(2, 64), "default": 8, "help": "processes at a time (default: 8)"},
        "--seconds": {"type": whole(1, 86_400), "default": 30, "help": "how long to go on (default: 30)"},
    }
    bench = Bench("filecoin-limit", __doc__ or "", arguments)
    args = bench.args
    with open_market(args.seed) as market:
        sums = run_rounds(market, args.processes, args.seconds, args.seed, is_locked=True)
        for each in sums.broken:
            bench.say(f"VIOLATION: {each}")
        bench.record("runs", {"locked": True} | describe(sums))
        mutant = run_rounds(market, args.processes, args.seconds, args.seed, is_locked=False, rounds=MUTANT_ROUNDS)
    bench.record("runs", {"locked": False} | describe(mutant))
    without = {f"{name}_without_lock": value for name, value in describe(mutant).items() if name != "deaths"}
    bench.finish(describe(sums) | without | {"processes": args.processes, "seconds": args.seconds})


if __name__ == "__main__":
    main()
