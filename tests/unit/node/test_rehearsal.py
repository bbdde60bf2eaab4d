"""A dry run: no stake, nothing sent; what came of it is told by comparing with what was accepted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.node.registry_chain import RegistryChain
from tests.unit.node.simulation import Network0, Node, make_key
from tests.unit.node.test_core import is_settled

from quorate.protocol.errors import ConfigurationError
from quorate.protocol.params import ETHER
from quorate.protocol.types import AbstainReason, OperatorId
from quorate_node.core import instructions as ins
from quorate_node.core import stimuli as st
from quorate_node.core.core import Core
from quorate_node.core.instructions import Instruction
from quorate_node.core.rehearsal import RehearsingCore
from quorate_node.core.state import Identity, Network, Settings
from quorate_node.node import check_unstaked

LAST = 6
ALLOWED = (ins.Execute, ins.AskLeaves, ins.Note)


class Rehearsing(RehearsingCore):
    """Without an operator, as `run --dry-run` makes it."""

    def __init__(self, identity: Identity, network: Network, settings: Settings) -> None:
        super().__init__(Identity(OperatorId(0), identity.account), network, settings)


class WrongRehearsing(Rehearsing):
    """On a host that computes something else."""

    def handle(self, stimulus: st.Stimulus) -> list[Instruction]:
        if isinstance(stimulus, st.BundleExecuted):
            stimulus = replace(stimulus, root=bytes(32), leaves=tuple(bytes(32) for _ in stimulus.leaves))
        return super().handle(stimulus)


def rehearse(
    core: type[Core], jobs: int = 3, failure: AbstainReason | None = None, **settings: object
) -> tuple[Network0, Node]:
    """A network whose last node rehearses: its operator is silent wherever it is drawn."""
    net = Network0(LAST + 1, {LAST: core}, settings=replace(Settings(), **settings))  # type: ignore[arg-type]
    net.nodes[LAST].failure = failure
    for done in range(1, jobs + 1):
        net.submit(net.order(2, seats=1))
        assert net.run(400, lambda n=done: is_settled(net, n))  # type: ignore[misc]
    net.run(40)
    return net, net.nodes[LAST]


def test_it_agrees_and_sends_nothing() -> None:
    _, node = rehearse(Rehearsing)
    assert node.core.state.rehearsal.differed == 0
    assert node.core.state.rehearsal.agreed >= 1
    assert {type(each) for each in node.instructions} <= set(ALLOWED)
    assert not node.journal
    assert not any("dry run" in note for note in node.core.state.notes)


def test_it_tells_that_it_would_have_been_slashed_and_of_which_task() -> None:
    _, node = rehearse(WrongRehearsing)
    rehearsal = node.core.state.rehearsal
    assert rehearsal.agreed == 0
    assert rehearsal.differed >= 1
    told = [note for note in node.core.state.notes if "would have been slashed" in note]
    assert len(told) == rehearsal.differed, "each once"
    assert "task 0 of the bundle" in told[0]
    assert {type(each) for each in node.instructions} <= set(ALLOWED)


def test_it_tells_why_it_would_have_abstained() -> None:
    _, node = rehearse(Rehearsing, failure=AbstainReason.RESOURCES)
    assert node.core.state.rehearsal.abstained >= 1
    assert any("would have abstained with RESOURCES" in note for note in node.core.state.notes)


@pytest.mark.parametrize("classes", [(), (2,)])
def test_it_looks_at_its_own_classes_alone(classes: tuple[int, ...]) -> None:
    _, node = rehearse(Rehearsing, classes=classes)
    assert not any(isinstance(each, ins.Execute) for each in node.instructions)


def test_an_operator_that_is_in_a_class_is_not_left_silent() -> None:
    """It would be drawn, say nothing, and be fined."""
    chain, nobody, staked, member = RegistryChain(), make_key(1), make_key(2), make_key(3)
    chain.enroll(staked, ETHER)
    operator_id = chain.enroll(member, ETHER, units=5)
    check_unstaked(chain, [nobody.address, staked.address])  # type: ignore[arg-type]  # the pure registry
    with pytest.raises(ConfigurationError, match=f"operator {operator_id} is in classes.*fined for silence"):
        check_unstaked(chain, [nobody.address, member.address])  # type: ignore[arg-type]
