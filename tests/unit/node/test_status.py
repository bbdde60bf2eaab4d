"""What a node's status says of an operator that gets no work."""

from __future__ import annotations

from tests.unit.node.simulation import DISPUTES, MARKET, Network0

from quorate.protocol.params import LOCAL
from quorate.protocol.types import FineKind, OperatorId
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
