"""From an order to leaves: find spec, module and input, run the bundle's tasks, make their Merkle root.

Where content comes from is in `finding`. A spec that contradicts its order, or is of another profile than the class, is
not a local failure: everybody sees the same bytes, so it is an agreed, refused result.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from functools import partial

from quorate.protocol.errors import ContentUnavailable, DataError
from quorate.protocol.partition import tasks_of_bundle
from quorate.protocol.result import EXIT_REFUSED, TaskResult, TaskStatus, compute_merkle_root
from quorate.protocol.spec import compute_raw_cid
from quorate.protocol.types import AbstainReason, JobOrder, Vote
from quorate_node.admission import NotAdmitted
from quorate_node.core.instructions import Execute
from quorate_node.core.stimuli import BundleExecuted, BundleFailed
from quorate_node.executor.base import LocalFailure, make_task
from quorate_node.failures import FAILURES, HOST_FAULTS
from quorate_node.filecoin.reading import NotPaid
from quorate_node.finding import AboveCeilings, Content, ContentFinder, most_bytes
from quorate_node.keeping import keep_results

MAX_DONE = 2_000
MAX_KEPT = 64  # bundles with a task that failed here, whose other results wait for the next try


@dataclass(slots=True)
class ExecutionService(ContentFinder):
    """Runs Execute instructions; see `ContentFinder` for what it is given. `beside` gets the results, too.

    With `is_shared` operators of this process that are drawn for the same bundle share its execution.
    """

    running: dict[Hashable, asyncio.Task[BundleExecuted | BundleFailed]] = field(default_factory=dict)
    done: OrderedDict[Hashable, BundleExecuted] = field(default_factory=OrderedDict)
    kept: OrderedDict[Hashable, dict[int, TaskResult]] = field(default_factory=OrderedDict)

    async def run(self, instruction: Execute) -> BundleExecuted | BundleFailed:
        """Execute a bundle, or learn what another operator of this process got; a BundleFailed is this host's fault."""
        if not self.is_shared:
            return await self._run(instruction)
        subject = instruction.job_id, instruction.job_bundle, instruction.tasks
        if (found := self.done.get(subject)) is not None:
            return replace(found, key=instruction.key)
        task = self.running.get(subject)
        if task is None:
            task = asyncio.create_task(self._run(instruction))
            self.running[subject] = task
            task.add_done_callback(lambda _: self.running.pop(subject, None))
        outcome = await asyncio.shield(task)
        if isinstance(outcome, BundleExecuted):
            self.done[subject] = outcome
            if len(self.done) > MAX_DONE:
                self.done.popitem(last=False)
        return replace(outcome, key=instruction.key)

    async def _run(self, instruction: Execute) -> BundleExecuted | BundleFailed:
        order, began = instruction.order, time.monotonic()
        try:
            content = await self.find_content(instruction)
        except AboveCeilings as error:
            return BundleFailed(instruction.key, str(error), False, AbstainReason.RESOURCES)
        except NotAdmitted as error:
            return BundleFailed(instruction.key, str(error), False, AbstainReason.POLICY)
        except NotPaid as error:
            return BundleFailed(instruction.key, str(error), error.may_help, error.reason)
        except ContentUnavailable as error:
            return BundleFailed(instruction.key, f"content is not to be had: {error}", True, AbstainReason.NO_DATA)
        except DataError as error:
            # Others may serve what this provider did not.
            text = f"content is not what it should be: {error}"
            return BundleFailed(instruction.key, text, True, AbstainReason.DATA_MISMATCH)
        found, bundle = time.monotonic(), tasks_of_bundle(order.task_count, instruction.job_bundle)
        indices = [index for at, index in enumerate(bundle) if not instruction.tasks or at in instruction.tasks]
        results = await self._run_tasks(instruction, content, indices)
        if isinstance(results, BundleFailed):
            return results
        done = [results[index] for index in indices]
        await asyncio.to_thread(keep_results, self.store, done, is_whole=len(indices) == len(bundle))
        if self.beside is not None:  # nobody waits for it
            asyncio.get_running_loop().run_in_executor(self.fetchers, self.beside.offer, done)
        leaves = tuple(results[index].leaf if index in results else b"" for index in bundle)
        root = None if instruction.tasks else Vote(compute_merkle_root(leaves))
        spent = round(found - began, 4), round(time.monotonic() - found, 4)
        return BundleExecuted(instruction.key, root, leaves, *spent)

    async def _run_tasks(
        self, instruction: Execute, content: Content | None, indices: list[int]
    ) -> dict[int, TaskResult] | BundleFailed:
        """Results by task; those that there are when one fails here are kept, so that only the others run again."""
        if content is None:
            refuse = partial(self._refuse, instruction.order)
            return dict(zip(indices, await asyncio.to_thread(lambda: list(map(refuse, indices))), strict=True))
        subject = instruction.job_id, instruction.job_bundle
        results = self.kept.pop(subject, {})
        left = [index for index in indices if index not in results]
        inputs = await asyncio.to_thread(self._add_inputs, content, left)
        failures: list[LocalFailure] = []

        async def run(index: int) -> None:
            if any(not FAILURES[failure.reason][1] for failure in failures):
                return  # the bundle is lost
            task = make_task(content.spec, index, inputs.get(index), most_bytes(instruction.order))
            outcome = await self.executor.execute(task, timeout_s=float(instruction.period_s))
            if isinstance(outcome, LocalFailure):
                failures.append(outcome)
            else:
                results[index] = outcome.result

        # The executor takes as many at once as it has workers.
        await asyncio.gather(*map(run, left))
        if not failures:
            return results
        self.kept[subject] = results
        if len(self.kept) > MAX_KEPT:
            self.kept.popitem(last=False)
        worst = min(failures, key=lambda failure: FAILURES[failure.reason][1])
        reason, may_help = FAILURES[worst.reason]
        text = f"{worst.reason}: {worst.detail}"
        return BundleFailed(instruction.key, text, may_help, reason, worst.reason in HOST_FAULTS)

    def _add_inputs(self, content: Content, indices: list[int]) -> dict[int, str]:
        """The directory that each task of a partitioned job sees, or what a piece stands for."""
        if (root := content.piece_root) is not None:
            return dict.fromkeys(indices, str(root))
        if (tasks := content.tasks) is None:
            return {}
        with self.store.adding(is_durable=False) as additions:
            found = {index: tasks.add_input(additions, index) for index in indices}
            additions.hold(found.values())
        return {index: str(cid.to_v1()) for index, cid in found.items()}

    def _refuse(self, order: JobOrder, index: int) -> TaskResult:
        empty, nothing = str(self.store.add_bytes(b"")), str(self.store.add_tree({}))
        spec = compute_raw_cid(order.spec_hash)
        return TaskResult(spec, index, TaskStatus.FAILED, EXIT_REFUSED, empty, nothing)
