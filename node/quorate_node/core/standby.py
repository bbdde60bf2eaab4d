"""Orders that another collator has taken: brought to the chain here if it does not, in good time.

Which of several collators goes first is drawn for each order, so that they seldom do the same. That an order reaches
the chain twice harms nobody: its nonce lets one of them in, the other is skipped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from quorate.protocol.hashing import keccak
from quorate.protocol.types import Address, JobId, SignedOrder

LEAST_WAIT_S = 4.0
WAIT_BLOCKS = 4
STEP_S = 2.0
STEPS = 4
MAX_WAITING = 10_000
MAX_OF_AUTHOR = 2_000
MAX_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Waiting:
    """An order that may have to be brought, from `due` on; `author` is who told of it."""

    job_id: JobId
    signed: SignedOrder
    providers: tuple[str, ...]
    author: str
    due: float


class Standby:
    """Orders of other collators, in the order in which they were heard of. `own` is this collator's address."""

    def __init__(self, own: Address) -> None:
        self._own = own
        self._rows: OrderedDict[JobId, Waiting] = OrderedDict()
        self._of_author: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def hear(
        self, job_id: JobId, signed: SignedOrder, providers: tuple[str, ...], author: str, now: float, block_s: float
    ) -> bool:
        """Keep an order, unless too many wait; whether it is new. `block_s` is how far apart blocks are."""
        if job_id in self._rows or self._of_author.get(author, 0) >= MAX_OF_AUTHOR or len(self._rows) >= MAX_WAITING:
            return False
        place = keccak(job_id + self._own)[0] % STEPS
        wait = max(LEAST_WAIT_S, WAIT_BLOCKS * block_s) + place * max(STEP_S, block_s)
        self._rows[job_id] = Waiting(job_id, signed, providers, author, now + wait)
        self._of_author[author] = self._of_author.get(author, 0) + 1
        return True

    def take_due(self, now: float, unix: float, is_posted: Callable[[JobId], bool]) -> Iterator[Waiting]:
        """Orders that nobody has brought in time, a few at once; those that are posted or expired are forgotten."""
        taken = 0
        for each in list(self._rows.values()):
            if is_posted(each.job_id) or unix > each.signed.order.valid_until:
                self._forget(each)
            elif each.due <= now and taken < MAX_AT_ONCE:
                taken += 1
                self._forget(each)
                yield each

    def _forget(self, each: Waiting) -> None:
        del self._rows[each.job_id]
        left = self._of_author[each.author] - 1
        if left:
            self._of_author[each.author] = left
        else:
            del self._of_author[each.author]
