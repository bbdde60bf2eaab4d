"""What nodes do without anybody's help: past a collator that censors, for a reason that a host has, in every window."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.adversarial.lying_node import LyingCore
from tests.unit.node.simulation import Network0
from tests.unit.node.test_core import is_settled, run_to_round, seated, verdicts

from quorate.chain.signing import recover
from quorate.protocol import events as ev
from quorate.protocol.encoding import decode_commit_lists, decode_outcomes
from quorate.protocol.hashing import keccak
from quorate.protocol.outcomes import compute_extension_digest
from quorate.protocol.params import ETHER, LOCAL
from quorate.protocol.result import compute_merkle_root
from quorate.protocol.types import AbstainReason, FineKind, OperatorId, Verdict, Vote
from quorate_node.core import instructions as ins
from quorate_node.core import stimuli as st
from quorate_node.core.core import Core
from quorate_node.core.instructions import Instruction
from quorate_node.core.intake import OrderRefused, judge_extension
from quorate_node.core.state import Settings, SignedExtension, WorkKey


class DroppingCore(Core):
    """A collator that says it has the openings which it is sent, and has not."""

    def handle(self, stimulus: st.Stimulus) -> list[Instruction]:
        return [] if isinstance(stimulus, st.OpeningsReceived) else super().handle(stimulus)


class FalsifyingCore(Core):
    """Finds another result for the last task of every bundle that it has a seat for, and believes it."""

    def handle(self, stimulus: st.Stimulus) -> list[Instruction]:
        if isinstance(stimulus, st.BundleExecuted) and self._sits(stimulus.key):
            leaves = (*stimulus.leaves[:-1], keccak(b"another " + stimulus.leaves[-1]))
            root = Vote(compute_merkle_root(leaves)) if stimulus.root else None
            stimulus = st.BundleExecuted(stimulus.key, root, leaves)
        return super().handle(stimulus)

    def _sits(self, key: WorkKey) -> bool:
        batch = self.state.chain.batches.get(key[0])
        domain = batch.round.domain if batch and batch.round else None
        return any(bundle == key[1] for bundle, _ in self.state.own.seats.get(domain or b"", ()))


def run_to_dispute(net: Network0, tasks: int = 1) -> None:
    for _ in range(30):
        settled = len(net.found(ev.BatchSettled))
        net.submit(net.order(tasks))
        assert net.run(400, lambda n=settled: is_settled(net, n + 1) or bool(net.found(ev.DisputeOpened)))  # type: ignore[misc]
        if net.found(ev.DisputeOpened):
            return
    raise AssertionError("the liar was never drawn")


def count(net: Network0, kind: type[Instruction]) -> int:
    return sum(1 for node in net.nodes for each in node.instructions if isinstance(each, kind))


def free_of(net: Network0) -> int:
    """What the requester can take out."""
    return net.world.market.free[net.requester.address]


def stakes_of(net: Network0) -> list[int]:
    """By operator, what can be taken from each."""
    return [net.world.registry.holdings(OperatorId(i + 1)) for i in range(len(net.keys))]


class TestCensoring:
    def test_lists_and_openings_go_past_a_collator_that_hears_nothing(self) -> None:
        net = Network0(8)
        net.nodes[0].is_deaf = True
        net.submit(net.order(commit_period=6))
        assert net.run(400, lambda: is_settled(net))
        assert verdicts(net) == [Verdict.ACCEPTED]
        assert not net.found(ev.OperatorFined)
        assert count(net, ins.CommitOwn) >= 2
        assert net.found(ev.OpeningsRevealed)

    def test_nobody_reveals_what_an_honest_collator_has(self) -> None:
        net = Network0(14)
        net.submit(net.order(commit_period=3))
        run_to_round(net)
        net.crash((seated(net) - {0}).pop())
        assert net.run(400, lambda: is_settled(net))
        assert not net.found(ev.OpeningsRevealed)

    def test_a_collator_that_hides_openings_does_so_once(self) -> None:
        net = Network0(6, {0: DroppingCore})
        fined: set[int] = set()
        for number in range(6):
            before = len(net.found(ev.OperatorFined))
            net.submit(net.order(commit_period=4))
            assert net.run(600, lambda n=number: is_settled(net, n + 1))  # type: ignore[misc]
            again = {event.operator_id for event in net.found(ev.OperatorFined)[before:]}
            assert not again & fined, "whoever was left out once tells the chain"
            fined |= again
        assert net.found(ev.OpeningsRevealed)

    def test_a_list_that_its_seat_signs_again_and_again_is_paid_for_once(self) -> None:
        net = Network0(8)
        net.submit(net.order(commit_period=6))
        run_to_round(net)
        net.nodes[(seated(net) - {0}).pop()].is_mute = True  # the collator waits for it
        state = net.nodes[0].core.state
        assert net.run(400, lambda: any(state.mail.lists.values()))
        ((batch,), (found, *_)) = state.chain.batches, next(iter(state.mail.lists.values()))
        for number in range(50):  # one key makes as many signatures as it likes
            again = replace(found, signature=number.to_bytes(65, "big"))
            net.nodes[0].core.handle(st.CommitListReceived(batch, 0, again))
        assert net.run(400, lambda: is_settled(net))
        pages = [each for each in net.nodes[0].instructions if isinstance(each, ins.Commit)]
        lists = [each for page in pages for each in decode_commit_lists(page.lists)]
        assert len({each.items for each in lists}) == len(lists) > 0

    def test_another_collator_takes_the_order_when_one_is_dead(self) -> None:
        net = Network0(8, collators=frozenset({0, 3}))
        net.crash(0)
        net.submit(net.order(), to=3)
        assert net.run(200, lambda: is_settled(net))
        assert net.found(ev.BatchOpened)[0].collator == net.keys[3].address

    def test_an_order_that_two_collators_have_is_posted_once(self) -> None:
        net = Network0(8, collators=frozenset({0, 3}))
        order = net.order()
        net.submit(order, to=0)
        net.submit(order, to=3)
        assert net.run(200, lambda: is_settled(net, 2))
        assert verdicts(net) == [Verdict.ACCEPTED]


class TestAbstention:
    def test_a_seat_without_data_says_so_and_is_replaced(self) -> None:
        probe, net = Network0(14), Network0(14)
        probe.submit(probe.order(commit_period=8))
        run_to_round(probe)
        broken = (seated(probe) - {0}).pop()
        net.nodes[broken].failure = AbstainReason.NO_DATA
        net.submit(net.order(commit_period=8))
        assert net.run(400, lambda: is_settled(net))
        assert (verdicts(net)[0], verdicts(net)[-1]) == (Verdict.CARRIED, Verdict.ACCEPTED)
        assert {(e.operator_id, e.kind) for e in net.found(ev.OperatorFined)} == {(broken + 1, FineKind.ABSTAINED)}

    @pytest.mark.parametrize("reason", [AbstainReason.NO_DATA, AbstainReason.RESOURCES, AbstainReason.TIME])
    def test_what_nobody_can_run_is_void_for_a_fifth_and_fines_nobody(self, reason: AbstainReason) -> None:
        """Data that nobody serves, endless recursion, a module that takes too long to compile."""
        net = Network0(10)
        for node in net.nodes:
            node.failure = reason
        free, stakes = free_of(net), stakes_of(net)
        net.submit(net.order(commit_period=3))
        assert net.run(600, lambda: is_settled(net))
        assert verdicts(net)[-1] is Verdict.VOID
        assert not net.found(ev.OperatorFined)
        fifth = 10**6 * net.world.registry.get_class(1).price // 10**9 // 5
        assert free - free_of(net) == 9 * fifth > 0, "three seats in each of three rounds"
        assert sum(stakes_of(net)) - sum(stakes) == 9 * fifth

    def test_rounds_in_which_all_abstain_end_at_once(self) -> None:
        """They look alike to a collator, which settles each as soon as all have spoken all the same."""
        net = Network0(12)
        for node in net.nodes:
            node.failure = AbstainReason.RESOURCES
        net.submit(net.order(commit_period=4))
        assert net.run(80, lambda: is_settled(net)), "in 20 seconds, while one round may take 22"
        assert verdicts(net) == [Verdict.CARRIED, Verdict.CARRIED, Verdict.VOID]

    def test_a_host_that_recovers_in_time_votes(self) -> None:
        net = Network0(8)
        for node in net.nodes:
            node.failure = AbstainReason.NO_DATA
        net.submit(net.order(commit_period=20))
        run_to_round(net)
        net.run(16)
        for node in net.nodes:
            node.failure = None
        assert net.run(200, lambda: is_settled(net))
        assert verdicts(net) == [Verdict.ACCEPTED]
        assert not net.found(ev.OperatorFined)


class TestExtension:
    def test_a_void_job_with_a_vote_is_extended_and_accepted(self) -> None:
        net = Network0(8)
        net.submit(net.order(commit_period=2, rounds=0))
        run_to_round(net)
        away = sorted(seated(net) - {0})[:2]
        for index in away:
            net.crash(index)
        assert net.run(400, lambda: is_settled(net))
        assert verdicts(net) == [Verdict.VOID]
        for index in away:
            net.restart(index)
        (batch,) = net.nodes[0].core.state.chain.batches.values()
        digest = compute_extension_digest(net.world.market.separator, batch.post_hash, (0,), 0, 1)
        extension = SignedExtension(batch.id, (0,), 0, 1, net.requester.sign(digest))
        judge_extension(net.nodes[0].core.state, extension, recover)
        net.nodes[0].core.handle(st.ExtensionQueued(extension))
        assert net.run(400, lambda: is_settled(net, 2))
        assert net.found(ev.BatchExtended)
        assert verdicts(net)[-1] is Verdict.ACCEPTED

    def test_an_extension_that_the_chain_would_refuse_is_not_taken(self) -> None:
        net = Network0(8)
        net.submit(net.order())
        assert net.run(200, lambda: is_settled(net))
        (batch,) = net.nodes[0].core.state.chain.batches.values()
        with pytest.raises(OrderRefused, match="not void"):
            judge_extension(net.nodes[0].core.state, SignedExtension(batch.id, (0,), 0, 1, bytes(65)), recover)
        with pytest.raises(OrderRefused, match="stands in round"):
            judge_extension(net.nodes[0].core.state, SignedExtension(batch.id, (0,), 2, 1, bytes(65)), recover)


class TestClassVote:
    def test_the_class_executes_the_tasks_in_question_alone(self) -> None:
        net = Network0(8, {3: FalsifyingCore})
        run_to_dispute(net, tasks=40)
        assert net.run(400, lambda: bool(net.found(ev.DisputeSettled)))
        assert len(net.found(ev.LeavesPublished)) == 2
        asked = [e for node in net.nodes for e in node.instructions if isinstance(e, ins.Execute) and e.tasks]
        assert {each.tasks for each in asked} == {(39,)}
        assert {event.operator_id for event in net.found(ev.OperatorSlashed)} == {4}

    def test_a_node_that_was_away_comes_back_and_votes_in_a_later_window(self) -> None:
        net = Network0(6, {3: LyingCore})
        run_to_dispute(net)
        away = [4, 5]
        for index in away:
            net.crash(index)
        assert net.run(1000, lambda: bool(net.found(ev.VoteWindowOpened)))
        net.restart(4)
        assert net.run(1000, lambda: bool(net.found(ev.DisputeSettled)))
        assert {event.operator_id for event in net.found(ev.OperatorSlashed)} == {4}
        (decided,) = net.found(ev.DisputeDecided)
        assert decided.verdict == Verdict.ACCEPTED
        absent = {e.operator_id for e in net.found(ev.OperatorFined) if e.kind == FineKind.ABSENT}
        assert absent == {5, 6}

    def test_three_windows_without_a_majority_are_void_and_slash_nobody(self) -> None:
        net = Network0(6, {3: LyingCore})
        run_to_dispute(net)
        for index in (2, 4, 5):
            net.crash(index)
        assert net.run(2000, lambda: bool(net.found(ev.DisputeSettled)))
        assert len(net.found(ev.VoteWindowOpened)) == 2
        assert not net.found(ev.OperatorSlashed)
        (decided,) = net.found(ev.DisputeDecided)
        assert decided.verdict == Verdict.VOID

    def test_members_without_data_are_not_silent(self) -> None:
        net = Network0(8, {3: LyingCore})
        run_to_dispute(net)
        fined = len(net.found(ev.OperatorFined))
        executed = {n.index for n in net.nodes if any(isinstance(i, ins.JournalCommit) for i in n.instructions)}
        without = [node for node in net.nodes if node.index not in executed][:2]
        for node in without:
            node.failure = AbstainReason.RESOURCES
        assert net.run(600, lambda: bool(net.found(ev.DisputeSettled)))
        assert not [e for e in net.found(ev.OperatorFined)[fined:] if e.kind == FineKind.ABSENT]


def run_to_lie(net: Network0, liar: int, tasks: int = 1) -> None:
    """Jobs with one seat each until the liar has one to itself, and its root is accepted."""
    for _ in range(40):
        settled = len(net.found(ev.BatchSettled))
        net.submit(net.order(tasks, seats=1))
        assert net.run(400, lambda n=settled: is_settled(net, n + 1))  # type: ignore[misc]
        (row,) = decode_outcomes(net.found(ev.BundlesSettled)[-1].outcomes)
        if row.voters == (liar,):
            return
    raise AssertionError("the liar was never drawn")


class TestDoubt:
    def test_every_bundle_that_the_lot_selects_is_audited(self) -> None:
        net = Network0(8, params=replace(LOCAL, audit_bps=10_000))
        net.submit(net.order(tasks=300))
        assert net.run(400, lambda: len(net.found(ev.BundleAudited)) == 2)
        assert {event.dispute_id for event in net.found(ev.BundleAudited)} == {0}

    def test_no_transaction_is_spent_on_a_lot_that_selects_nothing(self) -> None:
        net = Network0(8, params=replace(LOCAL, audit_bps=0))
        net.submit(net.order())
        assert net.run(400, lambda: is_settled(net))
        net.run(120)
        assert not net.found(ev.AuditDrawn)

    def test_a_second_auditor_steps_in_for_the_first(self) -> None:
        net = Network0(8, params=replace(LOCAL, audit_bps=10_000))
        net.submit(net.order())
        assert net.run(400, lambda: is_settled(net))
        for node in net.nodes:
            node.failure = AbstainReason.NO_DATA  # whoever is drawn first has nothing to say
        assert net.run(100, lambda: bool(net.found(ev.AuditDrawn)))
        net.run(4 * LOCAL.audit_period)
        assert not net.found(ev.BundleAudited)
        for node in net.nodes:
            node.failure = None
        assert net.run(100, lambda: bool(net.found(ev.BundleAudited)))
        (audited,) = net.found(ev.BundleAudited)
        silent = [event for event in net.found(ev.OperatorFined) if event.kind == FineKind.SILENT]
        assert [event.operator_id == audited.operator_id for event in silent] == [False]

    def test_an_audit_reverses_a_lie_that_was_accepted(self) -> None:
        net = Network0(8, {3: FalsifyingCore}, replace(LOCAL, audit_bps=10_000))
        run_to_lie(net, 3, tasks=3)
        assert net.run(800, lambda: bool(net.found(ev.DisputeSettled)))
        (decided,) = net.found(ev.DisputeDecided)
        assert decided.verdict == Verdict.VOID
        assert {event.operator_id for event in net.found(ev.OperatorSlashed)} == {4}

    def test_a_watcher_challenges_a_lie_at_the_task_that_differs(self) -> None:
        settings = Settings(challenge_budget_wei=ETHER, watch_bps=10_000)
        net = Network0(8, {3: FalsifyingCore}, replace(LOCAL, audit_bps=0), settings=settings)
        run_to_lie(net, 3, tasks=3)
        assert net.run(800, lambda: bool(net.found(ev.DisputeSettled)))
        assert {event.task for event in net.found(ev.ResultChallenged)} == {2}
        assert {event.verdict for event in net.found(ev.DisputeDecided)} == {Verdict.VOID}
        assert {event.operator_id for event in net.found(ev.OperatorSlashed)} == {4}

    def test_nobody_challenges_without_a_budget(self) -> None:
        settings = Settings(challenge_budget_wei=0, watch_bps=10_000)
        net = Network0(8, {3: FalsifyingCore}, replace(LOCAL, audit_bps=0), settings=settings)
        run_to_lie(net, 3)
        net.run(4 * LOCAL.challenge_period)
        assert not net.found(ev.ResultChallenged)


class TestTwins:
    """Two machines run with one key, and neither knows of the other."""

    @pytest.mark.parametrize("is_deaf", [False, True])
    def test_say_the_same_and_are_one_seat(self, is_deaf: bool) -> None:
        """To a collator that hears, and on the direct path."""
        net = Network0(8)
        twins = [net.add_twin(index) for index in range(1, 8)]
        net.nodes[0].is_deaf = is_deaf
        free, stakes = free_of(net), stakes_of(net)
        net.submit(net.order(commit_period=6))
        run_to_round(net)
        seats = seated(net) - {0}
        assert net.run(400, lambda: is_settled(net))
        assert verdicts(net) == [Verdict.ACCEPTED]
        assert not net.found(ev.OperatorFined)
        for twin in (each for each in twins if each.index in seats):
            assert twin.journal == net.nodes[twin.index].journal != [], "the same salts, and so the same commitments"
        price = 10**6 * net.world.registry.get_class(1).price // 10**9
        gains = [new - old for old, new in zip(stakes, stakes_of(net), strict=True)]
        assert sorted(gains) == [0] * 5 + [price] * 3, "paid once"
        assert free - free_of(net) >= 3 * price

    def test_are_one_member_of_a_class_vote(self) -> None:
        net = Network0(8, {3: LyingCore})
        for index in (1, 2, 5):
            net.add_twin(index)
        run_to_dispute(net)
        before = stakes_of(net)
        assert net.run(600, lambda: bool(net.found(ev.DisputeSettled)))
        (slash,) = net.found(ev.OperatorSlashed)
        assert (slash.operator_id, slash.ejected) == (4, False)
        assert not [event for event in net.found(ev.OperatorFined) if event.kind == FineKind.ABSENT]
        after = stakes_of(net)
        assert after[3] == before[3] * 4 // 5
        assert all(new >= old for number, (old, new) in enumerate(zip(before, after, strict=True)) if number != 3)


class TestFaults:
    def test_who_fails_too_often_is_jailed_without_anybody_asking(self) -> None:
        net = Network0(8)
        net.submit(net.order(commit_period=2, rounds=0))
        run_to_round(net)
        lazy = 5
        net.crash(lazy)
        for number in range(1, 40):
            net.submit(*(net.order(commit_period=2, rounds=0) for _ in range(4)))
            net.run(100, lambda n=number: is_settled(net, n + 1))  # type: ignore[misc]
            if net.found(ev.OperatorJailed):
                break
        assert net.run(600, lambda: bool(net.found(ev.OperatorJailed)))
        assert {event.operator_id for event in net.found(ev.OperatorJailed)} == {lazy + 1}
        net.restart(lazy)
        assert net.run(2000, lambda: bool(net.found(ev.OperatorReleased)))


@pytest.mark.parametrize("size", [4, 12])
def test_a_farm_does_all_of_it(size: int) -> None:
    net = Network0(12, {7: LyingCore}, farm_size=size)
    net.nodes[0].is_deaf = True
    run_to_dispute(net)
    assert net.run(600, lambda: bool(net.found(ev.DisputeSettled)))
    assert {event.operator_id for event in net.found(ev.OperatorSlashed)} == {8}
