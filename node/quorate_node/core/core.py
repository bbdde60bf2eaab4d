"""The core: what a node decides, from what it was told. No clock, no disk, no network, no keys.

`handle` takes one stimulus, changes the state that the core owns and returns instructions for the agent. Facts are
stored as they come; decisions are taken on `Tick` alone, so that a burst of events leads to one decision about all.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import cast

from quorate.protocol.errors import UnrecoverableError
from quorate.protocol.types import Stage, Vote
from quorate_node.core import stimuli as st
from quorate_node.core.audits import decide_audits, take_audit_header
from quorate_node.core.chainview import advance, take_header
from quorate_node.core.challenges import decide_challenges
from quorate_node.core.collation import decide_collation, end_call, queue_orders
from quorate_node.core.disputes import decide_disputes
from quorate_node.core.duties import decide_duties, doubt_header
from quorate_node.core.instructions import Instruction, Note, Transaction
from quorate_node.core.mind import Answer
from quorate_node.core.seats import decide_seats
from quorate_node.core.state import Identity, Network, Secret, Settings, State, Work, WorkStatus
from quorate_node.core.views import BundleKey, Dispute
from quorate_node.core.work import fail_work

MAX_FOUND_LEAVES = 1_000
OLD_S = 7200.0
TROUBLE_S = 30.0
JOURNAL_RETRY_S = 0.5
TROUBLE = "a decision failed"


class Core:
    """A node's mind. One object serves one operator of one deployment."""

    def __init__(self, identity: Identity, network: Network, settings: Settings) -> None:
        self.state = State(identity, network, settings)

    def choose_vote(self, key: BundleKey, work: Work, stage: Stage) -> Answer:
        """What to vote on a bundle: the root of the leaves that were computed."""
        if work.root is None:
            raise UnrecoverableError(f"bundle {key} was to be voted on in stage {stage.name} without a result")
        return work.root

    def choose_answer(self, dispute: Dispute, honest: Vote) -> Answer:
        """What to answer in a class vote: what was computed."""
        return honest

    def shows(self, secret: Secret) -> bool:
        """Whether to open what was committed: always."""
        return True

    def handle(self, stimulus: st.Stimulus) -> list[Instruction]:
        """Take in one stimulus; instructions come on Tick."""
        if isinstance(stimulus, st.Tick):
            return self._decide(stimulus)
        handler: Callable[[Core, st.Stimulus], None] = _HANDLERS[type(stimulus)]
        handler(self, stimulus)
        return []

    def _decide(self, tick: st.Tick) -> list[Instruction]:
        state = self.state
        state.now, state.unix = tick.now, tick.unix
        decided: list[Instruction] = []
        for instruction in self.decisions():
            # At once: later deciders of the same tick must see it as given.
            if isinstance(instruction, Transaction):
                state.under_way.add(instruction.key)
            decided.append(instruction)
        return decided

    def decisions(self) -> Iterator[Instruction]:
        """All that is due now."""
        state = self.state
        if state.identity.operator_id:
            yield from self._guard(decide_seats(state, self))
            yield from self._guard(decide_audits(state, self))
            yield from self._guard(decide_challenges(state))
        yield from self._guard(decide_disputes(state, self))
        yield from self._guard(decide_collation(state))
        yield from self._guard(decide_duties(state))

    def _guard(self, decisions: Iterator[Instruction]) -> Iterator[Instruction]:
        """Trouble with one thing must not keep a node from all others, for which it would be fined."""
        try:
            yield from decisions
        except UnrecoverableError:
            raise
        except Exception as error:
            if self.state.is_due(("trouble", repr(error)), TROUBLE_S):
                where = traceback.extract_tb(error.__traceback__)[-1]
                text = f"{TROUBLE}: {error!r} in {where.name}, line {where.lineno}"
                self.state.notes.append(text)
                yield Note(text)

    # facts ----------------------------------------------------------------------------------------------------------

    def _on_chain(self, stimulus: st.ChainAdvanced) -> None:
        problems, gone = advance(self.state.chain, self.state.network, stimulus)
        self.state.notes.extend(problems)
        self.forget(gone)

    def _on_reorganised(self, stimulus: st.ChainReorganised) -> None:
        self.state.chain.reset()
        self.start_over()

    def start_over(self) -> None:
        """The chain's past has changed. Own results and secrets stay: votes on a statement must stay the same."""
        state = self.state
        state.own.seats.clear()
        state.mail.lists.clear()
        state.mail.sent.clear()
        state.mail.first_at.clear()
        state.mail.planned.clear()
        state.asked.clear()
        state.notes.append("the chain was reorganised; its events are read again")

    def _on_header(self, stimulus: st.HeaderRead) -> None:
        batch = self.state.chain.batches.get(stimulus.batch_id)
        if batch is not None:
            take_header(batch, self.state.network, stimulus.round, stimulus.header)

    def _on_executed(self, stimulus: st.BundleExecuted) -> None:
        if work := self.state.own.work.get(stimulus.key):
            work.status, work.root, work.leaves = WorkStatus.DONE, stimulus.root, stimulus.leaves
        self.state.guard.note_success()

    def _on_failed(self, stimulus: st.BundleFailed) -> None:
        if work := self.state.own.work.get(stimulus.key):
            fail_work(self.state, work, stimulus.reason, stimulus.abstention, stimulus.retry)
        if stimulus.is_host_fault:
            self.state.guard.note_failure(self.state.now)

    def _on_leaves(self, stimulus: st.LeavesFound) -> None:
        found = self.state.own.found_leaves
        found[stimulus.root] = stimulus.leaves
        while len(found) > MAX_FOUND_LEAVES:
            found.popitem(last=False)

    def _on_acknowledged(self, stimulus: st.OpeningsAcknowledged) -> None:
        self.state.own.acknowledged.update((stimulus.domain, seat) for seat in stimulus.seats)

    def _on_vote_taken(self, stimulus: st.VoteTaken) -> None:
        self.state.own.taken.add((stimulus.statement, stimulus.is_opening))

    def _on_audit_header(self, stimulus: st.AuditHeaderRead) -> None:
        batch = self.state.chain.batches.get(stimulus.batch_id)
        if batch is not None:
            take_audit_header(batch, self.state.network, stimulus.header)

    def _on_journaled(self, stimulus: st.GroupJournaled) -> None:
        group = stimulus.group
        self.state.own.journaling.discard(group.domain)
        self.state.own.groups.setdefault(group.domain, []).append(group)

    def _on_journal_failed(self, stimulus: st.JournalFailed) -> None:
        state = self.state
        state.own.journaling.discard(stimulus.domain)
        state.own.journal_at = state.now + JOURNAL_RETRY_S
        if stimulus.reason not in state.notes:
            state.notes.append(stimulus.reason)

    def _on_call(self, stimulus: st.CallEnded) -> None:
        self.state.under_way.discard(stimulus.key)
        end_call(self.state, stimulus.key, stimulus.error)
        if stimulus.error is not None and stimulus.key[0] == "beacon":
            doubt_header(self.state, cast(int, stimulus.key[1]))

    def _on_orders(self, stimulus: st.OrdersQueued) -> None:
        queue_orders(self.state, stimulus.orders)

    def _on_extension(self, stimulus: st.ExtensionQueued) -> None:
        if stimulus.extension not in self.state.mail.extensions:
            self.state.mail.extensions.append(stimulus.extension)

    def _on_chosen(self, stimulus: st.ClassesChosen) -> None:
        self.state.settings = replace(self.state.settings, classes=stimulus.classes, profiles=stimulus.profiles)

    def _on_list(self, stimulus: st.CommitListReceived) -> None:
        batch, mail = self.state.chain.batches.get(stimulus.batch_id), self.state.mail
        if batch is None or batch.round is None or batch.round.domain is None:
            return
        lists = mail.lists.setdefault(batch.round.domain, [])
        found = stimulus.commit_list
        # One key makes any number of signatures of one list: the chain would take the first, and each costs gas.
        is_new = all((each.member, each.items) != (found.member, found.items) for each in lists)
        if batch.round.number == stimulus.round and is_new:
            lists.append(found)
            mail.first_at.setdefault(batch.round.domain, self.state.now)

    def _on_openings(self, stimulus: st.OpeningsReceived) -> None:
        batch = self.state.chain.batches.get(stimulus.batch_id)
        if batch is not None and batch.round is not None and batch.round.number == stimulus.round:
            batch.round.openings.update(stimulus.openings)

    def _on_vote(self, stimulus: st.VoteReceived) -> None:
        if dispute := self.state.chain.disputes.get(stimulus.dispute_id):
            dispute.mail[stimulus.vote_commit[0]] = stimulus.vote_commit

    def _on_vote_opening(self, stimulus: st.VoteOpeningReceived) -> None:
        if dispute := self.state.chain.disputes.get(stimulus.dispute_id):
            dispute.openings[stimulus.member] = stimulus.opening

    def forget(self, gone: AbstractSet[int]) -> None:
        """Drop what belongs to batches that are no longer followed."""
        if not gone:
            return
        state = self.state
        own, mail = state.own, state.mail
        for batch_id in gone:
            mail.planned.pop(batch_id, None)
        for key in [key for key in own.work if key[0] in gone]:
            del own.work[key]
        live = {batch.round.domain for batch in state.chain.batches.values() if batch.round}
        live |= {dispute.statement for dispute in state.chain.disputes.values()}
        own.acknowledged = {each for each in own.acknowledged if each[0] in live}
        own.taken = {each for each in own.taken if each[0] in live}
        for by_domain in (own.seats, own.ready_since, mail.lists, mail.sent, mail.first_at):
            for domain in [domain for domain in by_domain if domain not in live]:
                by_domain.pop(domain)
        for domain, groups in list(own.groups.items()):
            is_vote, subject = groups[0].stage is Stage.CLASS_VOTE, groups[0].subject
            is_over = subject not in state.chain.disputes if is_vote else subject in gone
            if domain not in live and is_over:
                del own.groups[domain]
        old = state.now - OLD_S
        for asked in [asked for asked, at in state.asked.items() if (len(asked) > 1 and asked[1] in gone) or at < old]:
            del state.asked[asked]


_HANDLERS: dict[type, Callable[..., None]] = {
    st.ChainAdvanced: Core._on_chain,
    st.ChainReorganised: Core._on_reorganised,
    st.HeaderRead: Core._on_header,
    st.BundleExecuted: Core._on_executed,
    st.BundleFailed: Core._on_failed,
    st.LeavesFound: Core._on_leaves,
    st.OpeningsAcknowledged: Core._on_acknowledged,
    st.VoteTaken: Core._on_vote_taken,
    st.AuditHeaderRead: Core._on_audit_header,
    st.GroupJournaled: Core._on_journaled,
    st.JournalFailed: Core._on_journal_failed,
    st.ClassesChosen: Core._on_chosen,
    st.CallEnded: Core._on_call,
    st.OrdersQueued: Core._on_orders,
    st.ExtensionQueued: Core._on_extension,
    st.CommitListReceived: Core._on_list,
    st.OpeningsReceived: Core._on_openings,
    st.VoteReceived: Core._on_vote,
    st.VoteOpeningReceived: Core._on_vote_opening,
}
