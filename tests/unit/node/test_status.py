"""What a node's status says of an operator that gets no work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.node.simulation import DISPUTES, MARKET, Network0

from quorate.protocol.params import LOCAL
from quorate.protocol.types import FineKind, OperatorId
from quorate_node.cli.printing import Output, show
from quorate_node.core.stimuli import ClassesChosen
from quorate_node.gateway.status import describe_status

ID = OperatorId(3)


def problem(net: Network0) -> str | None:
    (described,) = describe_status([net.nodes[ID - 1].core.state], is_ready=True)["classes"]
    text: str | None = described.get("problem")
    return text


def advance_era(net: Network0) -> None:
    net.number = (net.world.registry.classes[1].era_end - net.now + net.number // 4 + 1) * 4
    net._advance_era()
    net.run(2)


def test_a_member_has_no_problem() -> None:
    net = Network0()
    net.run(2)
    assert problem(net) is None


def test_who_is_in_jail_reads_when_it_may_rejoin() -> None:
    net = Network0()
    registry = net.world.registry
    for _ in range(4):
        net.log(registry.apply_fine(net.call(MARKET), ID, 0, FineKind.SILENT))
    net.number += 4 * LOCAL.era_period
    net.log(registry.apply_judge(net.call(net.requester.address), ID))
    net.run(2)
    assert net.nodes[0].core.state.chain.operators[ID].jailed_until == registry.operators[ID].jailed_until
    advance_era(net)
    assert f"`quorate-node rejoin` from {registry.operators[ID].jailed_until}" in (problem(net) or "")
    net.number += 8 * LOCAL.era_period
    net.log(registry.apply_rejoin(net.call(net.keys[ID - 1].address)))
    advance_era(net)
    assert problem(net) is None


def test_who_was_ejected_reads_so() -> None:
    net = Network0()
    net.log(net.world.registry.apply_slash(net.call(DISPUTES), ID, True))
    advance_era(net)
    assert "ejected" in (problem(net) or "")


def test_who_left_reads_how_to_come_back() -> None:
    net = Network0()
    net.log(net.world.registry.apply_leave(net.call(net.keys[ID - 1].address), 1))
    advance_era(net)
    assert "join the class" in (problem(net) or "")


def test_a_class_that_is_not_joined_is_no_problem_of_who_is_in_another() -> None:
    net = Network0()
    state = net.nodes[ID - 1].core.state
    maker, member = (net.call(net.keys[place].address) for place in (0, ID - 1))
    info = net.world.registry.classes[1]
    net.log(
        net.world.registry.apply_create_class(
            replace(maker, value=LOCAL.class_deposit), bytes(32), info.unit_wei, 1, False
        )
    )
    net.run(2)
    core = net.nodes[ID - 1].core
    core.handle(ClassesChosen((1, 2), state.settings.profiles))
    first, second = describe_status([state], is_ready=True)["classes"]
    assert [(row["id"], row["joined"], "problem" in row) for row in (first, second)] == [(1, 1, False), (2, 0, False)]
    net.log(net.world.registry.apply_leave(member, 1))
    net.log(net.world.registry.apply_join(member, 2, 1, 1, 1))
    net.run(2)
    first, second = describe_status([state], is_ready=True)["classes"]
    assert (first["joined"], first["units"] > 0, "problem" in first) == (0, True, False), "drawn until its era is over"
    assert (second["joined"], second["problem"]) == (1, "joined: drawn from the class's next era on")
    core.handle(ClassesChosen((1,), state.settings.profiles))
    assert [row["id"] for row in describe_status([state], is_ready=True)["classes"]] == [1, 2], (
        "what is joined is shown"
    )
    advance_era(net)
    assert problems(net) == [None, "joined: drawn from the class's next era on"]


def problems(net: Network0) -> list[str | None]:
    return [row.get("problem") for row in describe_status([net.nodes[ID - 1].core.state], is_ready=True)["classes"]]


def test_in_text_a_class_is_named_by_its_number(capsys: Any) -> None:
    classes = [{"id": 2, "price": 5}, {"id": 7, "price": 6}]
    show({"node": {"classes": classes, "one": [{"id": 3}], "parts": [{"a": 1}, {"a": 2}]}}, Output.TEXT)
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [
        "node.classes.2.id", "node.classes.2.price", "node.classes.7.id", "node.classes.7.price",
        "node.one.3.id", "node.parts.1.a", "node.parts.2.a",
    ]  # fmt: skip
