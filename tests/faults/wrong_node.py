"""A node whose every result is wrong, and the same as that of all others of its kind: with the bytes to show for it.

Run it in place of `quorate-node`: `python -m tests.faults.wrong_node run --home DIR`. Where such nodes are most of a
class they get wrong results accepted, which is what a benchmark that counts them has to notice.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from quorate.protocol.result import TaskResult
from quorate_node import node
from quorate_node.cli.main import report
from quorate_node.core.stimuli import BundleFailed
from quorate_node.execution import ExecutionService


class WrongExecution(ExecutionService):
    """Says that every program has put out a lie."""

    async def _run_tasks(self, *given: Any) -> dict[int, TaskResult] | BundleFailed:
        results = await super()._run_tasks(*given)
        if isinstance(results, BundleFailed):
            return results
        lie = str(self.store.add_bytes(b"a lie\n"))
        return {index: replace(result, stdout_cid=lie) for index, result in results.items()}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--home", type=Path, required=True)
    home = parser.parse_args().home
    node.ExecutionService = WrongExecution  # type: ignore[misc]
    sys.exit(report(lambda: node.run_node(home)))


if __name__ == "__main__":
    main()
