"""What a node makes of the others: who takes orders, who has a batch's inputs; and all of it without libp2p."""

from __future__ import annotations

from pathlib import Path

from tests.unit.node.p2p.test_membership import NAME, SETTINGS, add_operator
from tests.unit.node.simulation import Network0

from quorate.chain.account import SigningAccount
from quorate.chain.types import Deployment
from quorate.protocol.types import ZERO32, Address
from quorate_node.config import build_config
from quorate_node.core.views import ChainView
from quorate_node.messaging import Route
from quorate_node.neighbours import Neighbours
from quorate_node.p2p.wire.records import NodeRecord, sign_record

REGISTRY, *OTHERS = (Address(bytes((each,)) * 20) for each in range(0x22, 0x26))
DEPLOYMENT = Deployment(NAME.chain_id, REGISTRY, NAME.market, *OTHERS)
OWNER, KEY, OTHER = (SigningAccount.from_key(bytes((each,)) * 32) for each in (1, 2, 3))


def make(home: Path, view: ChainView, **changes: object) -> Neighbours:
    config = build_config(home, {**SETTINGS, "listen": "127.0.0.1:8001", **changes}, "here")
    return Neighbours(config, DEPLOYMENT, view, [OTHER], is_local=True, is_dry=False)


def add_record(known: Neighbours, owner: SigningAccount, peer: str, *, is_collator: bool) -> None:
    assert known.membership is not None
    record = NodeRecord(
        NAME, owner.address, 10**15, peer, ("/ip4/127.0.0.1/tcp/1",), f"http://{peer}", ZERO32, is_collator
    )
    known.membership._book._rows[owner.address] = sign_record(record, owner.sign)


def test_orders_go_to_who_says_so_and_to_who_has_posted_lately(tmp_path: Path) -> None:
    net = Network0(8)
    net.submit(net.order())
    view = net.nodes[0].core.state.chain
    assert net.run(until=lambda: any(each.bundles for each in view.batches.values()))
    (batch,) = view.batches.values()
    poster = view.operators[view.operator_by_address[batch.collator]]
    poster.url = "http://poster"
    alone = make(tmp_path / "alone", view, p2p_listen=None)
    assert alone.find_collators() == [Route("http://poster")]
    known = make(tmp_path, view)
    add_operator(view, 90, OWNER.address, OWNER.address)
    add_operator(view, 91, KEY.address, KEY.address)
    add_record(known, OWNER, "Collating", is_collator=True)
    add_record(known, KEY, "Working", is_collator=False)
    assert known.find_collators() == [Route("http://Collating", "Collating"), Route("http://poster")]
    poster.url = "http://127.0.0.1:8001"
    assert alone.find_collators() == [], "never to itself"


def test_a_batchs_inputs_are_where_its_collator_says(tmp_path: Path) -> None:
    net = Network0(8)
    net.submit(net.order())
    view = net.nodes[0].core.state.chain
    assert net.run(until=lambda: any(each.bundles for each in view.batches.values()))
    (batch,) = view.batches.values()
    (bundle,) = batch.bundles.values()
    operator = view.operators[view.operator_by_address[batch.collator]]
    operator.owner = OWNER.address  # cold: its node has another key, and records are by owner
    known = make(tmp_path, view)
    known._batch_hints.put(batch.id, OWNER.address, ["http://one", "http://two"])
    known._batch_hints.put(batch.id, KEY.address, ["http://liar"])
    assert list(known.find_providers(bundle.job_id)) == ["http://one", "http://two"]
    assert list(known.find_providers(bytes(32))) == []
    assert list(make(tmp_path / "alone", view, p2p_listen=None).find_providers(bundle.job_id)) == []


async def test_without_libp2p_there_is_nothing_to_run(tmp_path: Path) -> None:
    alone = make(tmp_path, ChainView(), p2p_listen=None)
    await alone.run(lambda url: None)
    assert alone.describe() is None
    assert alone.guess_holders("bafy") == ()
    alone.tell_order(Network0(8).order(), [])


def test_one_way_alone_is_as_its_operator_says(tmp_path: Path) -> None:
    view = ChainView()
    add_operator(view, 1, OWNER.address, OWNER.address)
    for ways, peer, count in ((["http"], None, 1), (["p2p"], "Somebody", 1), (["p2p", "http"], "Somebody", 2)):
        known = make(tmp_path, view, message_ways=ways)
        add_record(known, OWNER, "Somebody", is_collator=True)
        assert known.messenger.find_route(1) == Route("http://Somebody", peer)
        assert len(known.messenger._outbox._carriers) == count
