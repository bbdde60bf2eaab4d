"""Cores of several nodes against the model of the contracts: what they do by themselves, whoever fails."""

from __future__ import annotations

from functools import partial

import pytest
from tests.adversarial.lying_node import LyingCore, stand_by
from tests.unit.node.simulation import BLOCKS_A_SECOND, Network0

from quorate.protocol import events as ev
from quorate.protocol.encoding import decode_outcomes
from quorate.protocol.params import LOCAL
from quorate.protocol.types import AbstainReason, FineKind, Stage, Verdict, Vote
from quorate_node.core import instructions as ins
from quorate_node.core import stimuli as st
from quorate_node.core.core import Core
from quorate_node.core.mind import Answer
from quorate_node.core.policy import Limits
from quorate_node.core.state import Settings, Work, WorkStatus
from quorate_node.core.views import BundleKey, Dispute


def verdicts(net: Network0) -> list[Verdict]:
    return [row.verdict for event in net.found(ev.BundlesSettled) for row in decode_outcomes(event.outcomes)]


def is_settled(net: Network0, batches: int = 1) -> bool:
    return len(net.found(ev.BatchSettled)) >= batches


def seated(net: Network0) -> set[int]:
    """Indices of nodes that hold a seat in the batch that runs."""
    (batch,) = net.nodes[0].core.state.chain.batches.values()
    assert batch.round is not None
    return {batch.table.members[m].operator_id - 1 for b in batch.pending for m in batch.round.committees[b]}


def start_without_collator_seated() -> Network0:
    """A batch in its first round whose committee does not have the collator in it."""
    for nonce in range(50):
        net = Network0(8)
        net.nonce = nonce
        net.submit(net.order(commit_period=3))
        run_to_round(net)
        if 0 not in seated(net):
            return net
    raise AssertionError("unlikely")


def run_to_round(net: Network0) -> None:
    assert net.run(100, lambda: bool(net.found(ev.RoundStarted)))


def crash_between_commitment_and_opening(net: Network0) -> int:
    """A node whose commitment the collator has, and brings to the chain, and which dies at once."""

    def find_sender() -> int | None:
        given = ((node.index, each) for node in net.nodes[1:] for each in node.instructions)
        return next((index for index, each in given if isinstance(each, ins.SendCommitments)), None)

    net.submit(net.order(commit_period=8))
    assert net.run(60, lambda: find_sender() is not None)
    index = find_sender()
    assert index is not None
    net.crash(index)
    assert net.run(60, lambda: bool(net.found(ev.CommitPage)))
    return index


class TestHappyPath:
    def test_an_order_is_accepted_without_anybody_asking(self) -> None:
        net = Network0()
        net.submit(net.order())
        assert net.run(60, lambda: is_settled(net))
        assert verdicts(net) == [Verdict.ACCEPTED]
        assert not net.failures

    def test_three_transactions_and_a_beacon_serve_a_whole_batch(self) -> None:
        net = Network0()
        net.submit(*(net.order() for _ in range(40)))
        assert net.run(60, lambda: is_settled(net))
        assert verdicts(net) == [Verdict.ACCEPTED] * 40
        counts = [len(net.found(kind)) for kind in (ev.PagePosted, ev.RoundStarted, ev.CommitPage, ev.BundlesSettled)]
        assert counts == [1, 1, 1, 1]

    def test_orders_that_come_while_a_batch_is_posted_share_the_next(self) -> None:
        net = Network0()
        net.submit(net.order())
        assert net.run(60, lambda: bool(net.nodes[0].core.state.mail.posting))
        for _ in range(6):
            net.submit(net.order())
            net.nodes[0].core.handle(st.Tick(net.nodes[0].core.state.now + 0.4))
        assert [len(each.orders) for each in net.nodes[0].core.state.mail.queue.values()] == [6]
        assert net.run(100, lambda: is_settled(net, 2))
        assert verdicts(net) == [Verdict.ACCEPTED] * 7

    def test_only_drawn_nodes_execute(self) -> None:
        net = Network0(8)
        net.submit(net.order())
        run_to_round(net)
        net.run(10)
        executed = {node.index for node in net.nodes if any(isinstance(i, ins.Execute) for i in node.instructions)}
        assert len(executed) == 3

    def test_a_job_of_many_bundles(self) -> None:
        net = Network0()
        net.submit(net.order(tasks=600))
        assert net.run(60, lambda: is_settled(net))
        assert verdicts(net) == [Verdict.ACCEPTED] * 3

    def test_votes_are_journalled_before_they_are_sent(self) -> None:
        net = Network0()
        net.submit(net.order())
        net.run(60, lambda: is_settled(net))
        for node in net.nodes:
            sent = [i.group for i in node.instructions if isinstance(i, ins.SendCommitments)]
            assert all(group in node.journal for group in sent)

    def test_state_is_forgotten_after_the_challenge_period(self) -> None:
        net = Network0()
        net.submit(net.order())
        net.run(60, lambda: is_settled(net))
        net.run(4 * net.world.params.challenge_period + 8)
        for node in net.nodes:
            state = node.core.state
            assert not state.chain.batches
            assert not state.own.work
            assert not state.own.groups
            assert not [key for key in state.asked if key[0] not in ("era",)]


class TestSilence:
    def test_a_silent_seat_is_replaced_and_votes_stand(self) -> None:
        net = Network0(14)
        net.submit(net.order(commit_period=3))
        run_to_round(net)
        silent = (seated(net) - {0}).pop()
        net.crash(silent)
        assert net.run(400, lambda: is_settled(net))
        assert verdicts(net)[0] is Verdict.CARRIED
        assert verdicts(net)[-1] is Verdict.ACCEPTED
        assert {event.operator_id for event in net.found(ev.OperatorFined)} == {silent + 1}

    def test_a_standing_voter_commits_nothing_in_a_fresh_round(self) -> None:
        net = Network0(6)
        net.submit(net.order(commit_period=3))
        run_to_round(net)
        net.crash((seated(net) - {0}).pop())
        net.run(400, lambda: is_settled(net))
        for node in net.nodes:
            bundles = [s.bundle for group in node.journal for s in group.secrets]
            assert len(bundles) == len(set(bundles)), "somebody voted twice on one bundle"

    def test_a_collator_that_dies_after_posting_is_not_missed_for_ever(self) -> None:
        net = Network0(8)
        net.submit(net.order(commit_period=3))
        assert net.run(60, lambda: bool(net.found(ev.BatchClosed)))
        net.crash(0)
        assert net.run(600, lambda: is_settled(net))
        # Its own seat may have gone with it; the others brought their votes to the chain themselves.
        assert verdicts(net)[-1] is Verdict.ACCEPTED
        assert {event.operator_id for event in net.found(ev.OperatorFined)} <= {1}
        assert net.found(ev.RoundStarted), "another node proved the beacon"

    def test_a_collator_that_dies_before_settling_is_replaced_by_another_node(self) -> None:
        net = start_without_collator_seated()
        assert net.run(60, lambda: bool(net.found(ev.CommitPage)))
        net.crash(0)
        assert net.run(200, lambda: is_settled(net))
        assert verdicts(net) == [Verdict.ACCEPTED]
        assert not net.found(ev.OperatorFined)

    def test_eras_are_advanced_by_somebody(self) -> None:
        net = Network0(4)
        net.crash(0)
        before = len(net.found(ev.EraAdvanced))
        net.run(4 * net.world.params.era_period + 100)
        assert len(net.found(ev.EraAdvanced)) > before


class TestCrash:
    def test_a_crash_between_commit_and_reveal_costs_nothing(self) -> None:
        net = Network0(8)
        net.submit(net.order(commit_period=8))
        assert net.run(60, lambda: bool(net.found(ev.CommitPage)))
        crashed = [node.index for node in net.nodes if node.journal and node.index != 0]
        for index in crashed:
            net.crash(index)
        net.run(12)
        for index in crashed:
            net.restart(index)
        assert net.run(200, lambda: is_settled(net))
        assert verdicts(net) == [Verdict.ACCEPTED]
        assert not net.found(ev.OperatorFined)

    def test_a_restart_sends_the_same_list_again(self) -> None:
        net = Network0(8)
        net.submit(*(net.order() for _ in range(5)))
        run_to_round(net)
        for node in net.nodes[1:]:
            node.is_mute = True
        net.run(6)
        index = next(node.index for node in net.nodes if node.journal and node.index)
        before = list(net.nodes[index].journal)
        net.crash(index)
        net.restart(index)
        for node in net.nodes:
            node.is_mute = False
        assert net.run(200, lambda: is_settled(net))
        assert net.nodes[index].journal[: len(before)] == before
        assert set(verdicts(net)) == {Verdict.ACCEPTED}

    @pytest.mark.parametrize("is_late", [False, True])
    def test_a_vote_that_the_journal_lost_is_found_again(self, is_late: bool) -> None:
        """The disk has lost an acknowledged end: who executes again has the salt, also when no commitment counts."""
        net = Network0(8)
        index = crash_between_commitment_and_opening(net)
        if is_late:
            net.run(BLOCKS_A_SECOND * (8 + LOCAL.direct_period + 2))
            assert not is_settled(net), "the others wait for its opening"
        before, net.nodes[index].journal = net.nodes[index].journal, []
        net.restart(index)
        assert net.run(200, lambda: is_settled(net))
        assert verdicts(net) == [Verdict.ACCEPTED]
        assert not net.found(ev.OperatorFined)
        assert net.nodes[index].journal == before, "the same vote with the same salt"

    def test_who_cannot_execute_again_says_nothing_else(self) -> None:
        """Its vote stands: an abstention would be a second word, and open nothing."""
        net = Network0(8)
        node = net.nodes[crash_between_commitment_and_opening(net)]
        node.journal, node.failure = [], AbstainReason.NO_DATA
        net.restart(node.index)
        assert net.run(300, lambda: is_settled(net))
        assert not node.journal
        assert {event.kind for event in net.found(ev.OperatorFined)} == {FineKind.UNREVEALED}

    def test_a_class_vote_that_the_journal_lost_is_found_again(self) -> None:
        net = Network0(8, {3: LyingCore})
        for _ in range(20):
            net.submit(net.order())
            net.run(300, lambda: bool(net.found(ev.DisputeOpened)) or not net.nodes[0].core.state.chain.batches)
            if net.found(ev.DisputeOpened):
                break
        assert net.run(100, lambda: bool(net.found(ev.VotesCommitted)))
        voters = [node for node in net.nodes if any(g.stage is Stage.CLASS_VOTE for g in node.journal)]
        node = next(node for node in voters if node.index not in (0, 3))
        net.crash(node.index)
        net.run(BLOCKS_A_SECOND * (LOCAL.vote_commit_period + 1))
        node.journal = []
        net.restart(node.index)
        assert net.run(400, lambda: bool(net.found(ev.DisputeSettled)))
        assert {event.operator_id for event in net.found(ev.OperatorSlashed)} == {4}
        assert not [event for event in net.found(ev.OperatorFined) if event.operator_id == node.index + 1]

    def test_a_journal_that_fails_is_tried_again(self) -> None:
        net = Network0(8)
        for node in net.nodes:
            node.is_full = True
        net.submit(net.order(commit_period=12))
        run_to_round(net)
        net.run(12)
        assert not any(isinstance(i, ins.SendCommitments) for node in net.nodes for i in node.instructions)
        assert any("no room" in note for node in net.nodes for note in node.core.state.notes)
        for node in net.nodes:
            node.is_full = False
        assert net.run(200, lambda: is_settled(net))
        assert verdicts(net) == [Verdict.ACCEPTED]
        assert not net.found(ev.OperatorFined)

    def test_a_collator_that_restarts_gathers_again(self) -> None:
        net = Network0(8)
        net.submit(net.order(commit_period=12))
        run_to_round(net)
        net.crash(0)
        net.run(4)
        net.restart(0)
        assert net.run(200, lambda: is_settled(net))
        assert verdicts(net) == [Verdict.ACCEPTED]


def run_through_a_dispute(net: Network0) -> None:
    """Orders until a liar was drawn, and then on to the end of the class vote."""
    for _ in range(20):
        settled = len(net.found(ev.BatchSettled))
        net.submit(net.order())
        assert net.run(300, partial(is_settled, net, settled + 1))
        if net.found(ev.DisputeOpened):
            break
    assert net.run(300, lambda: bool(net.found(ev.DisputeSettled)))


class TestDispute:
    def test_a_liar_is_found_and_slashed_by_the_class(self) -> None:
        net = Network0(8, {3: LyingCore})
        run_through_a_dispute(net)
        (decided,) = net.found(ev.DisputeDecided)
        assert decided.verdict == Verdict.ACCEPTED
        assert {event.operator_id for event in net.found(ev.OperatorSlashed)} == {4}

    def test_two_liars_against_six_lose_all(self) -> None:
        class BoldLiar(Core):
            def choose_vote(self, key: BundleKey, work: Work, stage: Stage) -> Answer:
                return Vote(b"x" * 32)

            def choose_answer(self, dispute: Dispute, honest: Vote) -> Answer:
                return stand_by(dispute, self.state.identity.operator_id, honest)

        net = Network0(8, {2: BoldLiar, 5: BoldLiar})
        run_through_a_dispute(net)
        slashed = {event.operator_id: event.ejected for event in net.found(ev.OperatorSlashed)}
        assert slashed.keys() <= {3, 6}
        assert slashed, "who lied in a seat loses; who did not sit had nothing to lie about"

    def test_a_vote_goes_on_chain_without_the_collator(self) -> None:
        net = Network0(8, {3: LyingCore})
        for _ in range(20):
            net.submit(net.order())
            net.run(300, lambda: bool(net.found(ev.DisputeOpened)) or not net.nodes[0].core.state.chain.batches)
            if net.found(ev.DisputeOpened):
                break
        net.crash(0)
        assert net.run(300, lambda: bool(net.found(ev.DisputeSettled)))
        assert {event.operator_id for event in net.found(ev.OperatorSlashed)} == {4}


class TestReorganisation:
    def test_the_view_is_rebuilt_and_the_job_goes_on(self) -> None:
        net = Network0(8)
        net.submit(net.order())
        run_to_round(net)
        net.run(1)
        net.reorganise(0)
        assert net.run(200, lambda: is_settled(net))
        assert verdicts(net) == [Verdict.ACCEPTED]

    def test_feeding_all_events_again_gives_the_same_view(self) -> None:
        net = Network0(8)
        net.submit(net.order(), net.order(tasks=300))
        run_to_round(net)
        net.run(3)
        before = repr(net.nodes[1].core.state.chain.batches)
        net.nodes[1].core.state.own.seats.clear()
        net.crash(1)
        net.restart(1)
        net._feed(net.nodes[1].farm)
        batches, again = net.nodes[2].core.state.chain.batches, net.nodes[1].core.state.chain.batches
        assert before
        assert again.keys() == batches.keys()
        for batch_id, batch in again.items():
            assert batch.post_hash == batches[batch_id].post_hash
            assert batch.round is not None
            assert batch.round.domain == batches[batch_id].round.domain  # type: ignore[union-attr]


class TestPolicy:
    def test_work_above_the_limits_is_refused_with_a_reason(self) -> None:
        net = Network0(8)
        for node in net.nodes:
            node.core.state.settings = Settings(limits=Limits(max_fuel=1), is_collator=node.index == 0)
        net.submit(net.order())
        run_to_round(net)
        net.run(4)
        works = [work for node in net.nodes for work in node.core.state.own.work.values()]
        assert {work.status for work in works} == {WorkStatus.REFUSED}
        assert any("max_fuel" in note for node in net.nodes for note in node.core.state.notes)


class TestFarm:
    def test_operators_of_one_process_do_all_that_single_ones_do(self) -> None:
        net = Network0(12, {7: LyingCore}, farm_size=6)
        assert net.nodes[0].core.state.chain is net.nodes[5].core.state.chain
        for _ in range(20):
            settled = len(net.found(ev.BatchSettled))
            net.submit(net.order(), net.order(tasks=300))
            assert net.run(300, partial(is_settled, net, settled + 1))
            if net.found(ev.DisputeOpened):
                break
        net.reorganise(0)
        assert net.run(300, lambda: bool(net.found(ev.DisputeSettled)))
        assert {event.operator_id for event in net.found(ev.OperatorSlashed)} == {8}
        assert not net.found(ev.OperatorFined)

    def test_a_header_is_read_once_for_all(self) -> None:
        net = Network0(8, farm_size=8)
        net.submit(net.order())
        run_to_round(net)
        reads = [each for node in net.nodes for each in node.instructions if isinstance(each, ins.ReadHeader)]
        assert len(reads) == 1
