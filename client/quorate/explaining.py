"""What is said to people of a job that got no result, or of a program that failed."""

from __future__ import annotations

from collections import Counter

from quorate.progress import TrackedBundle
from quorate.protocol.result import EXIT_OUT_OF_FUEL, EXIT_OVER_LIMIT, EXIT_REFUSED, EXIT_TRAP
from quorate.protocol.types import AbstainReason, OrderSkip

REASON_MEANINGS = {
    "NO_DATA": "nobody could give them the program or the input",
    "RESOURCES": "more memory or stack than they have, as by recursion without end, or than their operators allow",
    "TIME": "it was not compiled or not done in time",
    "DATA_MISMATCH": "the data is not what its order says",
    "POLICY": "their operators do not take such work (a list, a policy, a registry), or not pay so much for its data",
    "OTHER": "it could not be started: the program is not in its image, or for another machine, or no daemon is there",
}

SKIP_HINTS = {
    OrderSkip.EMPTY: "it has no task or no fuel",
    OrderSkip.UNSUPPORTED: "it asks for a strategy that the contracts do not know",
    OrderSkip.EXPIRED: "its valid_until had passed",
    OrderSkip.UNITS: "the class has fewer units than min_units",
    OrderSkip.FEE: "the collator's fee is above max_fee",
    OrderSkip.PRICE: "the class's price is above max_price",
    OrderSkip.PERIOD: "its fuel and input need more time than the commit period",
    OrderSkip.FULL: "the batch was full",
    OrderSkip.CAPACITY: "the class has no capacity left in this era",
    OrderSkip.SIGNATURE: "its signature is not the requester's",
    OrderSkip.NONCE: "its nonce was used before",
    OrderSkip.DEPOSIT: "the free deposit is below the escrow; deposit more",
}

ENDINGS = {
    EXIT_TRAP: "it trapped",
    EXIT_OVER_LIMIT: "it ran into a limit of its order (standard output, bytes or files, paths in /outputs)",
    EXIT_REFUSED: "the module is not one that operators run: no WebAssembly, an unknown import, or no _start",
    EXIT_OUT_OF_FUEL: "it used up its fuel; ask for more with --fuel",
}


def name_reason(number: int) -> str:
    """An abstention's reason by its name, or by the number that nobody named."""
    return AbstainReason(number).name if number in list(AbstainReason) else f"reason {number}"


def list_reasons(reasons: Counter[str]) -> str:
    """Reasons with how often each was given."""
    return ", ".join(f"{name} x {count}" if count > 1 else name for name, count in sorted(reasons.items()))


def explain_abstentions(reasons: Counter[str]) -> str:
    """What the seats that abstained said."""
    said = "; ".join(REASON_MEANINGS[name] for name in sorted(reasons) if name in REASON_MEANINGS)
    return f"the seats abstained ({list_reasons(reasons)}){f': {said}' if said else ''}"


def explain_void(bundle: TrackedBundle, is_abandoned: bool) -> str:
    """Why a bundle has no result, where the money is, and what to do."""
    if bundle.is_reversed:
        return "the class found the accepted result wrong; the refund comes out of what the liars lost"
    if bundle.dispute_id is not None:
        return "the class vote found no result; the deposit is back"
    more = "; `quorate job extend` buys more rounds, in which the votes stand" if bundle.voters else ""
    if is_abandoned:
        return f"the batch was abandoned: nobody closed it or drew its committees in time; the deposit is back{more}"
    if bundle.voters:
        return f"seats stayed silent in every round; what was not spent is back{more}"
    if bundle.opened:  # a row without voters, though votes were seen
        return (
            "the seats' results differ, and in this class nobody is asked which is right; what was not spent is back. "
            "Let the program leave out times, chance and the order of threads"
        )
    if bundle.reasons:
        return f"{explain_abstentions(bundle.reasons)}; what was not spent is back"
    return "seats stayed silent in every round; the deposit is back"


def explain_exit(exit_code: int) -> str:
    """Why a task failed."""
    return ENDINGS.get(exit_code, f"exit code {exit_code}")
