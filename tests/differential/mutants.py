"""Contracts with one fault planted, to see whether the differential run finds it.

A mutant is a change of one place in one source, compiled in a folder of its own. The place must be found exactly once,
so a mutant that the sources have outgrown says so instead of changing nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.chain.abi import Contract
from quorate.protocol.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Mutant:
    """Replace `old` by `new` in contracts/src/`source`."""

    source: str
    old: str
    new: str
    what: str


MUTANTS = {
    "half_fine": Mutant(
        "market/Settling.sol", "& 0xffff, 2 * d.price", "& 0xffff, d.price", "a silent seat pays one price, not two"
    ),
    "half_decides": Mutant(
        "libraries/VoteCounts.sol",
        "if (2 * c.unitsFor[number] > c.table.unitCount)",
        "if (2 * c.unitsFor[number] >= c.table.unitCount)",
        "half of the units decide a class vote",
    ),
    "duplicate_seat": Mutant(
        "market/Committing.sol",
        "if eq(holder, or(member, COMMITTED)) { reason := 7 }",
        "if eq(holder, or(member, COMMITTED)) { reason := 0 }",
        "a seat may commit twice",
    ),
    "stale_commits": Mutant(
        "market/MarketStorage.sol",
        "return b.hasCommits ? b.commitHash : bytes32(0);",
        "return b.commitHash;",
        "a batch goes on with the commitments of the one before it in its slot",
    ),
    "lower_quorum": Mutant(
        "market/Settler.sol", "20 * d.opened >= 9 * drawn", "20 * d.opened >= 8 * drawn", "two fifths of all seats do"
    ),
    "used_nonce": Mutant(
        "market/Posting.sol",
        "if (Nonces.isUsed(c.nonces, o.nonce)) return Skip.NONCE;",
        "",
        "an order may be posted again",
    ),
    "valid_no_longer": Mutant(
        "market/Posting.sol",
        "if (block.timestamp > o.validUntil)",
        "if (block.timestamp >= o.validUntil)",
        "an order expires a second early",
    ),
    "three_failures": Mutant(
        "registry/Faults.sol", "f.failed > TOLERATED &&", "f.failed >= TOLERATED &&", "three failed seats jail already"
    ),
    "jail_is_open": Mutant(
        "registry/Classes.sol", "if (o.jailedUntil != 0) continue;", "", "tables have who is in jail, too"
    ),
    "seats_forgotten": Mutant(
        "registry/Funds.sol",
        "if (waiting != 0) _keepSeats(uint24(id), waiting);",
        "",
        "who works on in the next era is judged as one that filled no seat",
    ),
    "unbonding_is_safe": Mutant(
        "registry/Faults.sol",
        "return _stakeOf(operatorId) + _operators[operatorId].unbonding;",
        "return _stakeOf(operatorId);",
        "slashes leave what unbonds",
    ),
    "refunded_again": Mutant(
        "ComputeMarket.sol",
        "first = round >= _struckBelow(b, bundle);",
        "first = true;",
        "an outcome that was reversed, or undone by an extension, is reversed and refunded again",
    ),
    "dragged_along": Mutant(
        "libraries/VoteCounts.sol",
        "if (c.voteOf[m] == number || c.voteOf[m] == winner) isSeated[m] = true;",
        "if (c.voteOf[m] == winner) isSeated[m] = true;",
        "a lone seat that repeats itself is together with whoever repeats it",
    ),
    "punished_again": Mutant(
        "libraries/VoteCounts.sol",
        "bool isAgain = i < c.convicted && number == seats[0];",
        "bool isAgain = false;",
        "each challenge of one mistake takes stake anew",
    ),
    "auditor_drags": Mutant(
        "libraries/DisputeRecords.sol",
        "if (r.kind == CHALLENGE && count > 1 && (count - 1) * r.price >= r.escrow) --count;",
        "",
        "an auditor that agrees makes a lone seat wrong together with it",
    ),
    "high_median": Mutant(
        "registry/Classes.sol", "return 2 * t.below < total && ", "return ", "any ask above the median passes for it"
    ),
}


def plant(mutant: Mutant, text: str) -> str:
    """The source with the fault. Raises ConfigurationError unless there is exactly one place for it."""
    if text.count(mutant.old) != 1:
        raise ConfigurationError(f"{mutant.source} has {text.count(mutant.old)} places like: {mutant.old}")
    return text.replace(mutant.old, mutant.new)


def build_mutant(mutant: Mutant, folder: Path) -> dict[Contract, dict[str, Any]]:
    """Artifacts of all contracts with the fault planted. Raises ConfigurationError when it finds no place."""
    contracts = folder / "contracts"
    shutil.copytree(ROOT / "contracts" / "src", contracts / "src")
    shutil.copy(ROOT / "contracts" / "foundry.toml", contracts)
    (folder / "scripts").symlink_to(ROOT / "scripts")
    (folder / ".tools").symlink_to(ROOT / ".tools")
    path = contracts / "src" / mutant.source
    path.write_text(plant(mutant, path.read_text()))
    folders = ["--out", str(folder / "out"), "--cache-path", str(folder / "cache")]
    forge = shutil.which("forge") or str(ROOT / ".tools" / "bin" / "forge")
    subprocess.run([forge, "build", "src", "--quiet", *folders], cwd=contracts, check=True)
    return {contract: _read_artifact(folder / "out", contract) for contract in Contract}


def _read_artifact(out: Path, contract: Contract) -> dict[str, Any]:
    found = json.loads((out / f"{contract.value}.sol" / f"{contract.value}.json").read_text())
    return {"abi": found["abi"], "bytecode": found["bytecode"]["object"]}


def make_mutant(name: str) -> Mapping[Contract, dict[str, Any]]:
    """Artifacts of a mutant of MUTANTS."""
    with tempfile.TemporaryDirectory(prefix="quorate-mutant-") as folder:
        return build_mutant(MUTANTS[name], Path(folder))
