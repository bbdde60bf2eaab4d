"""Money of a decided dispute: the bundle's at once, the members' row by row (section 5 of contracts/README.md)."""

from __future__ import annotations

from dataclasses import dataclass, field

from quorate.protocol import events as ev
from quorate.protocol.classes import Earning
from quorate.protocol.context import Call
from quorate.protocol.encoding import encode_outcomes
from quorate.protocol.market import Market
from quorate.protocol.registry import Registry
from quorate.protocol.types import DisputeKind, DisputeRecord, FineKind, OutcomeRow, Table, Verdict
from quorate.protocol.verdict import (
    Aftermath,
    Conduct,
    Ending,
    TallyRow,
    compute_silence_fine,
    decode_tally,
    share_out,
)


def move_bundle_money(
    market: Market, call: Call, record: DisputeRecord, table: Table, ending: Ending
) -> tuple[Aftermath, list[ev.Event]]:
    """Money and outcome of the bundle itself, when its class vote has ended; `call` is the disputes contract's."""
    if record.kind is DisputeKind.CONFLICT:
        found = _resolve(market, call, record, table, ending)
        return ending.aftermath, [*found, *_release(market.registry, call, record.pot)]
    aftermath, found = ending.aftermath, list[ev.Event]()
    if aftermath is Aftermath.UPHELD:
        is_first = market.apply_reverse(call, record.batch_id, record.bundle, record.round)
        aftermath = Aftermath.REVERSED if is_first else Aftermath.UPHELD
    if record.pot and aftermath is not Aftermath.DISMISSED:
        found += market.registry.apply_pay_out(call, record.challenger, record.pot)
    return aftermath, found


def _resolve(market: Market, call: Call, record: DisputeRecord, table: Table, ending: Ending) -> list[ev.Event]:
    r = record
    if ending.root is None:
        return market.apply_resolve(call, r.batch_id, r.requester, r.escrow, r.collator, 0, 0, [], b"")
    right = tuple(member for member, root in r.votes if root == ending.root)
    entries = [Earning(table.members[member].operator_id, r.price, 1) for member in right]
    row = encode_outcomes([OutcomeRow(r.bundle, Verdict.ACCEPTED, ending.root, 0, right)])
    return market.apply_resolve(
        call, r.batch_id, r.requester, r.escrow, r.collator, r.fee, r.audit_fee, entries, row
    )  # fmt: skip


def _release(registry: Registry, call: Call, amount: int) -> list[ev.Event]:
    return registry.apply_release_pot(call, amount) if amount else []


@dataclass(slots=True)
class Punishment:
    """Goes through the rows of a tally; `call` is the disputes contract's."""

    registry: Registry
    call: Call
    record: DisputeRecord
    table: Table
    tally: bytes
    events: list[ev.Event] = field(default_factory=list)

    def punish_row(self, number: int) -> int:
        """Fine and slash one member; what was taken, in wei."""
        row, before = TallyRow.decode(self.tally[number]), self.registry.pots
        operator_id = self.table.members[number].operator_id
        if row.is_unknowable:
            self.events += self.registry.apply_fine(self.call, operator_id, self.record.price, FineKind.ABSTAINED)
        if row.conduct in (Conduct.WRONG, Conduct.WRONG_TOGETHER):
            together = row.conduct is Conduct.WRONG_TOGETHER
            self.events += self.registry.apply_slash(self.call, operator_id, together)
        if row.silent:
            unit_wei = self.registry.get_class(self.record.class_id).unit_wei
            asked = compute_silence_fine(self.table.units_of(number), unit_wei, row.silent)
            self.events += self.registry.apply_fine(self.call, operator_id, asked, FineKind.ABSENT)
        return self.registry.pots - before

    def share_out(self, aftermath: Aftermath, taken: int) -> None:
        """Pay voters, challenger and requester; the rest goes to the treasury."""
        right = [m for m, row in enumerate(decode_tally(self.tally)) if row.conduct is Conduct.RIGHT]
        shares = share_out(self.record, aftermath, len(right), taken)
        if shares.voter:
            entries = [Earning(self.table.members[member].operator_id, shares.voter) for member in right]
            self.events += self.registry.apply_credit(self.call, entries, shares.voter * len(right))
        for account, amount in ((self.record.challenger, shares.challenger), (self.record.requester, shares.requester)):
            if amount:
                self.events += self.registry.apply_pay_out(self.call, account, amount)
        self.events += _release(self.registry, self.call, shares.treasury)
