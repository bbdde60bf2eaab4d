"""The lottery of audits in the model of an attack: who is drawn, what auditors say, what follows from it."""

from __future__ import annotations

from tests.adversarial.batch_play import BatchPlay

from quorate.protocol.challenges import find_auditors, is_selected
from quorate.protocol.classes import Earning
from quorate.protocol.types import CarryRecord, DisputeKind, FineKind, Verdict, Vote


def audit_batch(play: BatchPlay, audit_domain: bytes, rounds: range | None = None) -> None:
    """Draw auditors for every bundle that its seats accepted (in one of `rounds`), and judge what they dissent from."""
    for bundle, record in sorted(play.ended.items()):
        tally = play.tallies[bundle]
        is_accepted = tally.verdict is Verdict.ACCEPTED and (rounds is None or tally.rounds - 1 in rounds)
        if is_accepted and is_selected(audit_domain, bundle, play.plan.params.audit_bps):
            _audit(play, audit_domain, record)


def _audit(play: BatchPlay, audit_domain: bytes, record: CarryRecord) -> None:
    auditors = find_auditors(audit_domain, record.bundle, record.voters, play.table)
    accepted = play.tallies[record.bundle].vote
    assert accepted is not None
    for number, member in enumerate(auditors):
        vote = _ask(play, record.bundle, member, accepted)
        if vote is None:
            continue
        if number:
            _fine_absent(play, auditors[0], 2 * record.price)
        play.tallies[record.bundle].audited = True
        if vote == accepted:
            _reward(play, member, record.price)
        else:
            votes = (*((voter, accepted) for voter in record.voters), (member, vote))
            refundable = record.price * len(record.voters)
            dispute = play.make_dispute(record, DisputeKind.AUDIT, votes, pot=0, escrow=refundable)
            play.judge(dispute)
        return


def _ask(play: BatchPlay, bundle: int, member: int, accepted: Vote) -> Vote | None:
    honest = play.feed.honest(bundle)
    is_liar = play.table.members[member].operator_id in play.liars
    return play.strategy.audit(honest, accepted) if is_liar else honest


def _fine_absent(play: BatchPlay, member: int, amount: int) -> None:
    registry = play.people.registry
    before = registry.pots
    operator = play.table.members[member].operator_id
    play.people.note(registry.apply_fine(play.as_disputes, operator, amount, FineKind.SILENT))
    registry.apply_release_pot(play.as_disputes, registry.pots - before)


def _reward(play: BatchPlay, member: int, price: int) -> None:
    registry = play.people.registry
    before = registry.pots
    registry.apply_draw_treasury(play.as_disputes, price)
    paid = registry.pots - before
    registry.apply_credit(play.as_disputes, [Earning(play.table.members[member].operator_id, paid, 1)], paid)
