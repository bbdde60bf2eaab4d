"""Messages, and what the collator, the HTTP side and the command line refuse."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError as SchemaError
from tests.unit.node.simulation import Network0

from quorate.chain.account import SigningAccount
from quorate.chain.types import AccountInfo, NonceWindow
from quorate.messages import CommitmentsMessage, OpeningsMessage, OrderMessage
from quorate.protocol.encoding import compute_job_id
from quorate.protocol.errors import ValidationError
from quorate.protocol.params import LOCAL
from quorate.protocol.spec import JobSpec, Limits
from quorate.protocol.types import Address, CommitItem, CommitList, Opening, SignatureKind, SignedOrder, Vote
from quorate.storage.cid import Cid
from quorate.storage.denylist import DenyList
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.memory import MemoryStore
from quorate.storage.serve import LoopbackServer
from quorate.storage.traffic import TrafficLimits
from quorate_node import collator as collator_module
from quorate_node.cli.commands import parse_amount
from quorate_node.collator import Collator, NoBond
from quorate_node.core.collation import count_queued
from quorate_node.core.intake import OrderRefused
from quorate_node.core.views import ChainView
from quorate_node.desk import Desk, Forwarding
from quorate_node.gateway import bodies, pushes
from quorate_node.gateway.app import Services, build_app
from quorate_node.hints import Hints
from quorate_node.http_messaging import HttpMessenger
from quorate_node.inquiry import Inquirer
from quorate_node.joblog import JobLog, LogGatherer
from quorate_node.mailbox import Mailbox
from quorate_node.messaging import Route
from quorate_node.room import Room, RoomLimits
from quorate_node.roots import OwnRoots
from quorate_node.traffic import Traffic


class TestMessages:
    def test_an_order_survives_the_journey(self) -> None:
        signed = Network0().order()
        message = OrderMessage.from_signed(signed, ["http://127.0.0.1:1"])
        assert OrderMessage.model_validate_json(message.model_dump_json()).to_signed() == signed

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("version",), 2),
            (("extra",), 1),
            (("signature",), "0x00"),
            (("signature",), "zz"),
            (("signature",), "0x" + "00" * 4097),
            (("kind",), 2),
            (("order", "requester"), "0x" + "00" * 21),
            (("order", "nonce"), 1 << 64),
            (("order", "seats"), 256),
            (("order", "task_count"), -1),
            (("providers",), ["http://a"] * 9),
            (("providers",), ["javascript:alert(1)"]),
            (("providers",), ["http://" + "a" * 300]),
        ],
    )
    def test_anything_else_is_refused(self, path: tuple[str, ...], value: object) -> None:
        body = json.loads(OrderMessage.from_signed(Network0().order()).model_dump_json())
        target = body
        for name in path[:-1]:
            target = target[name]
        target[path[-1]] = value
        with pytest.raises(SchemaError):
            OrderMessage.model_validate(body)

    def test_a_wallets_order_survives_the_journey(self) -> None:
        signed = SignedOrder(Network0().order().order, b"any length", SignatureKind.WALLET)
        message = OrderMessage.from_signed(signed)
        assert OrderMessage.model_validate_json(message.model_dump_json()).to_signed() == signed

    def test_lists_and_openings_survive_the_journey(self) -> None:
        commit_list = CommitList(3, (CommitItem(0, 1, b"c" * 32), CommitItem(2, 0, b"d" * 32)), bytes(65))
        sent = CommitmentsMessage.from_list(9, 1, commit_list)
        assert CommitmentsMessage.model_validate_json(sent.model_dump_json()).to_list() == commit_list
        openings = [((4, 2), Opening(Vote(b"v" * 32), b"s" * 16)), ((5, 0), Opening(Vote(b"w" * 32), b"t" * 16))]
        message = OpeningsMessage.from_openings(9, 1, openings)
        assert OpeningsMessage.model_validate_json(message.model_dump_json()).to_openings() == openings

    def test_a_page_that_is_cut_off_is_refused(self) -> None:
        with pytest.raises(ValidationError):
            OpeningsMessage(batch_id=1, round=0, page=bytes(50)).to_openings()
        with pytest.raises(ValidationError):
            CommitmentsMessage(batch_id=1, round=0, page=bytes(50)).to_list()


class FakeGateway:
    """Accounts of the model, with a count of how often they were read."""

    def __init__(self, net: Network0) -> None:
        self.net, self.reads, self.own_reads = net, 0, 0

    def account(self, owner: Any) -> AccountInfo:
        is_own = owner == self.net.nodes[0].core.state.identity.account
        self.reads, self.own_reads = self.reads + (not is_own), self.own_reads + is_own
        market = self.net.world.market
        return AccountInfo(market.free[owner], market.escrow[owner])

    def nonces(self, owner: Any) -> NonceWindow:
        window = self.net.world.market.nonces[owner]
        return NonceWindow(window.base, window.used)

    def is_wallet_signed(self, account: Any, digest: bytes, signature: bytes) -> bool:
        return self.net.world.market.ask_wallet(account, digest, signature)


def make_collator(net: Network0, tmp_path: Path) -> tuple[Collator, FakeGateway]:
    net.step()
    gateway = FakeGateway(net)
    hints = Hints(tmp_path / "hints")
    return Collator(net.nodes[0].core, gateway, hints, MemoryStore()), gateway  # type: ignore[arg-type] (it has what a collator asks for)


def altered(net: Network0, **changes: Any) -> SignedOrder:
    """An order that is signed after its change."""
    order = replace(net.order().order, **changes)
    return SignedOrder(order, net.requester.sign(compute_job_id(net.world.market.separator, order)))


class TestCollator:
    def test_what_its_operator_would_not_run_is_refused_where_the_spec_is_known(self, tmp_path: Path) -> None:
        net = Network0(8)
        collator, _ = make_collator(net, tmp_path)
        module = str(Cid.of(b"module"))
        heavy = JobSpec(module, limits=Limits(compile_seconds=61))
        collator._store.put_raw(heavy.to_bytes())
        collator._store.put_raw(JobSpec(module).to_bytes())

        def order_of(spec: JobSpec, nonce: int) -> SignedOrder:
            return altered(net, spec_hash=spec.digest, nonce=nonce, valid_until=2_000_000_000)

        with pytest.raises(OrderRefused, match="compile_seconds = 61 is above this node's ceiling 60") as caught:
            asyncio.run(collator.accept(order_of(heavy, 0), []))
        assert caught.value.code == "CEILING"
        asyncio.run(collator.accept(order_of(JobSpec(module), 1), []))
        unseen = JobSpec(module, limits=Limits(compile_seconds=62))
        asyncio.run(collator.accept(order_of(unseen, 2), []))

    def test_hundreds_of_orders_are_judged_with_one_reading(self, tmp_path: Path) -> None:
        net = Network0(8)
        collator, gateway = make_collator(net, tmp_path)

        async def accept_all() -> None:
            net.world.market.nonces[net.requester.address].used = 0
            orders = [altered(net, valid_until=2_000_000_000) for _ in range(200)]
            await asyncio.gather(*(collator.accept(order, []) for order in orders))

        asyncio.run(accept_all())
        assert (gateway.reads, gateway.own_reads) == (1, 1), "of the collator's own its bonds come"
        assert net.run(60, lambda: bool(net.world.market.bonds))
        assert len(net.nodes[0].core.state.chain.batches) == 1

    async def test_without_a_bond_no_order_is_taken_until_there_is_one(self, tmp_path: Path) -> None:
        net = Network0(8)
        collator, gateway = make_collator(net, tmp_path)
        own, order = net.nodes[0].core.state.identity.account, altered(net, valid_until=2_000_000_000)
        free, net.world.market.free[own] = net.world.market.free[own], LOCAL.batch_bond - 1
        with pytest.raises(NoBond, match=r"0\.01 ether .*quorate-node deposit AMOUNT"):
            await collator.accept(order, [])
        assert not net.nodes[0].core.state.mail.queue
        body = OrderMessage.from_signed(order).model_dump_json()
        async with make_client(net, tmp_path, collator) as client:
            for query in ("", "?passed_on=1"):
                answer = await client.post(f"/quorate/v1/orders{query}", content=body)
                assert (answer.status_code, answer.json()["error"]["type"]) == (503, "NO_BOND"), "another may take it"
            assert "bond" in (await client.get("/quorate/v1/status")).json()["collator"]["problem"]
            net.world.market.free[own] = free
            net.step()
            assert (await client.post("/quorate/v1/orders", content=body)).status_code == 202
            assert gateway.own_reads == 2, "too little is read again, once a block"
            assert "problem" not in (await client.get("/quorate/v1/status")).json()["collator"]

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"task_count": 0}, "EMPTY"),
            ({"flags": 2}, "UNSUPPORTED"),
            ({"fuel_limit": LOCAL.max_task_fuel + 1}, "UNSUPPORTED"),
            ({"valid_until": 1}, "EXPIRED"),
            ({"class_id": 9}, "CLASS"),
            ({"seats": 5}, "SEATS"),
            ({"rounds": 3}, "TERMS"),
            ({"min_units": 10**6}, "UNITS"),
            ({"max_price": 1}, "PRICE"),
            ({"fuel_limit": LOCAL.max_task_fuel}, "PERIOD"),
            ({"task_count": 1 << 20, "fuel_limit": 1}, "FULL"),
            ({"task_count": 1 << 20, "fuel_limit": 10**6, "max_price": 10**18}, "DEPOSIT"),
        ],
    )
    def test_refusals_have_the_reason_of_post(self, tmp_path: Path, changes: dict[str, Any], code: str) -> None:
        net = Network0(8)
        collator, _ = make_collator(net, tmp_path)
        if code == "DEPOSIT":
            net.world.market.free[net.requester.address] = 1
            changes = {}
        signed = altered(net, **({"valid_until": 2_000_000_000} | changes))
        with pytest.raises(OrderRefused) as caught:
            asyncio.run(collator.accept(signed, []))
        assert caught.value.code == code

    def test_a_contract_wallet_is_asked(self, tmp_path: Path) -> None:
        net = Network0(8)
        net.world.market.ask_wallet = lambda _, digest, signature: signature == digest
        collator, _ = make_collator(net, tmp_path)
        order = altered(net, valid_until=2_000_000_000).order
        with pytest.raises(OrderRefused) as caught:
            asyncio.run(collator.accept(SignedOrder(order, b"forged", SignatureKind.WALLET), []))
        assert caught.value.code == "SIGNATURE"
        signature = compute_job_id(net.world.market.separator, order)
        asyncio.run(collator.accept(SignedOrder(order, signature, SignatureKind.WALLET), []))
        assert net.run(60, lambda: bool(net.world.market.bonds))
        assert net.world.market.escrow[order.requester]

    def test_a_nonce_is_taken_once_but_the_same_order_again(self, tmp_path: Path) -> None:
        net = Network0(8)
        collator, _ = make_collator(net, tmp_path)
        signed = altered(net, valid_until=2_000_000_000)
        rival = altered(net, valid_until=2_000_000_001, nonce=signed.order.nonce)

        async def run() -> None:
            first = await collator.accept(signed, [])
            assert await collator.accept(signed, []) == first
            with pytest.raises(OrderRefused, match="nonce"):
                await collator.accept(rival, [])

        asyncio.run(run())

    def test_an_order_that_a_reorganisation_undid_can_be_sent_again(self, tmp_path: Path) -> None:
        net = Network0(8)
        collator, _ = make_collator(net, tmp_path)
        signed = altered(net, valid_until=2_000_000_000)
        state = net.nodes[0].core.state
        counts = []

        async def send() -> None:
            await collator.accept(signed, [])
            counts.append(count_queued(state))
            state.mail.queue.clear()  # posted, and undone

        asyncio.run(send())
        asyncio.run(send())
        state.chain.head = replace(state.chain.head, number=state.chain.head.number + 21)
        asyncio.run(send())
        net.world.market.nonces[signed.order.requester].use(signed.order.nonce)
        state.chain.head = replace(state.chain.head, number=state.chain.head.number + 21)
        asyncio.run(send())
        assert counts == [1, 0, 1, 0]

    def test_a_forged_order_is_refused(self, tmp_path: Path) -> None:
        net = Network0(8)
        collator, _ = make_collator(net, tmp_path)
        good = altered(net, valid_until=2_000_000_000)
        forged = SignedOrder(good.order, net.keys[3].sign(bytes(32)))
        with pytest.raises(OrderRefused) as caught:
            asyncio.run(collator.accept(forged, []))
        assert caught.value.code == "SIGNATURE"

    def test_the_chain_is_asked_nothing_for_what_nobody_signed(self, tmp_path: Path) -> None:
        net = Network0(8)
        net.world.market.ask_wallet = lambda *_: False
        collator, gateway = make_collator(net, tmp_path)
        good = altered(net, valid_until=2_000_000_000)

        async def flood() -> set[str]:
            codes = set()
            for number in range(100):
                stranger = replace(good.order, requester=Address(number.to_bytes(20, "big")))
                for kind in SignatureKind:
                    with pytest.raises(OrderRefused) as caught:
                        await collator.accept(SignedOrder(stranger, good.signature, kind), [])
                    codes.add(caught.value.code)
            return codes

        assert asyncio.run(flood()) == {"SIGNATURE"}
        assert gateway.reads == 0

    def test_strangers_accounts_are_not_remembered_without_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(collator_module, "MAX_ACCOUNTS", 5)
        net = Network0(8)
        collator, gateway = make_collator(net, tmp_path)
        good = altered(net, valid_until=2_000_000_000)

        async def flood() -> None:
            await collator.accept(good, [])
            for number in range(1, 20):
                key = SigningAccount.from_key(number.to_bytes(32, "big"))
                order = replace(good.order, requester=key.address)
                signature = key.sign(compute_job_id(net.world.market.separator, order))
                with pytest.raises(OrderRefused, match="deposit"):
                    await collator.accept(SignedOrder(order, signature), [])
                assert len(collator._accounts) <= 6

        asyncio.run(flood())
        assert gateway.reads == 20
        assert collator._accounts[good.order.requester].reserved, "what waits here keeps its claim"

    def test_providers_are_known_after_a_restart(self, tmp_path: Path) -> None:
        net = Network0(8)
        collator, _ = make_collator(net, tmp_path)
        signed = altered(net, valid_until=2_000_000_000)
        job_id = asyncio.run(collator.accept(signed, ["http://127.0.0.1:1"]))
        assert Hints(tmp_path / "hints").get(job_id) == ["http://127.0.0.1:1"]


def make_client(
    net: Network0,
    tmp_path: Path,
    collator: Collator | None,
    limits: RoomLimits | None = None,
    traffic: TrafficLimits | None = None,
    forwarding: Forwarding | None = None,
    inquirer: Inquirer | None = None,
    denied: DenyList | None = None,
) -> httpx.AsyncClient:
    core, alone = net.nodes[0].core, Forwarding(HttpMessenger(ChainView(), is_local=True), list)
    store, roots = EmbeddedStore(tmp_path / "store"), OwnRoots()
    services = Services(
        store=store,
        get_states=lambda: [core.state],
        desk=Desk(
            Mailbox(lambda: core.state, core.handle),
            collator,
            forwarding or alone,
        ),
        get_leaves={b"r" * 32: (b"l" * 32,)}.get,
        render_metrics=lambda: (b"", "text/plain"),
        is_ready=lambda: True,
        hints=Hints(tmp_path / "hints") if collator is None else collator._hints,
        roots=roots,
        room=Room(store, limits or RoomLimits(), roots, lambda: None),
        traffic=Traffic(tmp_path / "traffic.json", traffic or TrafficLimits(), traffic or TrafficLimits()),
        logs=LogGatherer(JobLog(), core.state.chain, alone.messenger, "http://node"),
        inquirer=inquirer or Inquirer(alone.messenger, "http://node"),
        import_quota_bytes=100_000,
        denied=denied,
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(build_app(services)), base_url="http://node")


def find_unnamed(folder: Path) -> list[int]:
    """Sizes of files in a folder that this process has open and nobody can see."""
    sizes = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(each)  # noqa: PTH115  (no path: the file has no name)
            if target.endswith(" (deleted)") and Path(target).parent == folder:
                sizes.append(each.stat().st_size)
    return sizes


class TestHttp:
    async def test_an_order_is_accepted_or_refused_in_one_shape(self, tmp_path: Path) -> None:
        net = Network0(8)
        collator, _ = make_collator(net, tmp_path)
        signed = altered(net, valid_until=2_000_000_000)
        async with make_client(net, tmp_path, collator) as client:
            body = OrderMessage.from_signed(signed, ["http://127.0.0.1:1"]).model_dump_json()
            accepted = await client.post("/quorate/v1/orders", content=body)
            assert accepted.status_code == 202
            assert (await client.post("/quorate/v1/hints", content=body)).status_code == 202
            hints = await client.get(f"/quorate/v1/hints/{accepted.json()['job_id']}")
            assert hints.json() == {"providers": ["http://127.0.0.1:1"]}
            forged = body.replace('"nonce":0', '"nonce":7')
            assert (await client.post("/quorate/v1/hints", content=forged)).status_code == 403
            unpaid = altered(net, nonce=9, valid_until=2_000_000_000)
            spam = OrderMessage.from_signed(unpaid, ["http://127.0.0.1:1"]).model_dump_json()
            told = await client.post("/quorate/v1/hints", content=spam)
            assert told.json()["error"]["type"] == "UNKNOWN_JOB", "signatures are free: only posted orders count"
            refused = await client.post("/quorate/v1/orders", content=b"{}")
            assert refused.status_code == 422
            assert refused.json()["error"]["type"] == "MALFORMED"
            large = await client.post("/quorate/v1/orders", content=b"x" * 20_000)
            assert large.status_code == 413
            poor = altered(net, valid_until=2_000_000_000, max_price=1)
            answer = await client.post("/quorate/v1/orders", content=OrderMessage.from_signed(poor).model_dump_json())
            assert answer.json()["error"]["type"] == "PRICE"

    async def test_a_deny_list_that_broke_is_told(self, tmp_path: Path) -> None:
        file = tmp_path / "deny.txt"
        async with make_client(Network0(8), tmp_path, None, denied=DenyList(file, is_optional=True)) as client:
            assert (await client.get("/quorate/v1/status")).json()["denied"] == {"cids": 0, "problem": None}
            file.write_text(f"{Cid.of(b'x')}\n")
            assert (await client.get("/quorate/v1/status")).json()["denied"] == {"cids": 1, "problem": None}
            file.write_text(f"{Cid.of(b'x')}\n{Cid.of(b'y')}\nnonsense\n")
            told = (await client.get("/quorate/v1/status")).json()["denied"]
            assert (told["cids"], "line 3" in told["problem"]) == (1, True)

    async def test_a_node_that_is_no_collator_says_so(self, tmp_path: Path) -> None:
        net = Network0(8)
        body = OrderMessage.from_signed(altered(net, valid_until=2_000_000_000)).model_dump_json()
        async with make_client(net, tmp_path, None) as client:
            alone = await client.post("/quorate/v1/orders", content=body)
            assert (alone.status_code, alone.json()["error"]["type"]) == (503, "NoCollator")
            assert "it knows of none" in alone.json()["error"]["message"]
            # What another node hands on is not handed on again: two of them could go on for ever.
            passed_on = await client.post("/quorate/v1/orders?passed_on=1", content=body)
            assert (passed_on.status_code, passed_on.json()["error"]["type"]) == (404, "NOT_A_COLLATOR")

    def test_a_node_that_is_no_collator_hands_orders_on_to_one(self, tmp_path: Path) -> None:
        net = Network0(8)
        (collator, _), core = make_collator(net, tmp_path), net.nodes[0].core
        good, poor = altered(net, valid_until=2_000_000_000), altered(net, valid_until=2_000_000_000, max_price=1)

        async def bring(url: str) -> list[httpx.Response]:
            messenger = HttpMessenger(ChainView(), is_local=True)
            forwarding = Forwarding(messenger, lambda: [Route("http://127.0.0.1:9"), Route(url)])
            try:
                async with make_client(net, tmp_path / "other", None, forwarding=forwarding) as client:
                    bodies = [OrderMessage.from_signed(each).model_dump_json() for each in (good, poor)]
                    return [await client.post("/quorate/v1/orders", content=body) for body in bodies]
            finally:
                await messenger.close()

        with LoopbackServer(make_client(net, tmp_path, collator)._transport.app) as server:  # type: ignore[attr-defined]
            taken, refused = asyncio.run(bring(server.url))
        assert taken.status_code == 202
        assert taken.json() == {"job_id": f"0x{compute_job_id(core.state.network.separator, good.order).hex()}"}
        assert [signed for each in core.state.mail.queue.values() for signed in each.orders] == [good]
        assert refused.json()["error"]["type"] == "PRICE", "the collator's word comes back"

    def test_a_node_asks_another_how_it_is(self, tmp_path: Path) -> None:
        net = Network0(8)

        async def ask(url: str, *operators: object) -> list[httpx.Response]:
            messenger = HttpMessenger(ChainView(), is_local=True)
            known = {7: Route(url), 8: Route("http://127.0.0.1:9"), 9: Route("http://node")}
            messenger.find_route = lambda operator: known.get(operator)  # type: ignore[method-assign]
            inquirer = Inquirer(messenger, "http://node")
            try:
                async with make_client(net, tmp_path / "other", None, inquirer=inquirer) as client:
                    return [await client.get(f"/quorate/v1/status/{operator}") for operator in operators]
            finally:
                await messenger.close()

        with LoopbackServer(make_client(net, tmp_path, None)._transport.app) as server:  # type: ignore[attr-defined]
            there, dead, own, unknown, *odd = asyncio.run(ask(server.url, 7, 8, 9, 10, 0, -1, "x", 1 << 40))
        assert there.status_code == own.status_code == 200
        assert there.json().keys() == own.json().keys() >= {"ready", "store", "traffic", "p2p"}
        assert dead.status_code == unknown.status_code == 503
        assert "does not answer" in dead.json()["error"]["message"]
        assert "operator 10" in unknown.json()["error"]["message"]
        assert [answer.status_code for answer in odd] == [422] * 4

    async def test_messages_about_the_unknown_are_to_be_sent_again(self, tmp_path: Path) -> None:
        message = OpeningsMessage(batch_id=77, round=0, page=bytes(51)).model_dump_json()
        async with make_client(Network0(), tmp_path, None) as client:
            answer = await client.post("/quorate/v1/openings", content=message)
            assert (answer.status_code, answer.json()["error"]["type"]) == (409, "NOT_YET")

    async def test_leaves_status_health(self, tmp_path: Path) -> None:
        async with make_client(Network0(), tmp_path, None) as client:
            leaves = await client.get(f"/quorate/v1/leaves/{(b'r' * 32).hex()}")
            assert leaves.json() == {"leaves": [(b"l" * 32).hex()]}
            assert (await client.get(f"/quorate/v1/leaves/{'00' * 32}")).status_code == 404
            assert (await client.get("/quorate/v1/leaves/zz")).status_code == 422
            assert (await client.get("/healthz")).status_code == 200
            roots = (await client.get("/quorate/v1/roots?epoch=x&since=0")).json()
            assert (roots["next"], roots["is_whole"], roots["changes"]) == (0, True, [])
            assert (await client.get("/quorate/v1/roots?since=-1")).status_code == 422
            status = (await client.get("/quorate/v1/status")).json()
            assert status["operator_id"] == 1
            assert status["store"]["used_bytes"] > 0
            assert status["store"]["free_disk_bytes"] > status["store"]["used_bytes"]

    async def test_content_is_imported_up_to_the_quota(self, tmp_path: Path) -> None:
        source = EmbeddedStore(tmp_path / "source")
        small, large = source.add_bytes(b"s" * 1000), source.add_bytes(b"l" * 200_000)
        async with make_client(Network0(), tmp_path, None) as client:
            body = b"".join(source.export_car(small))
            assert (await client.post(f"/quorate/v1/import?root={small}", content=body)).status_code == 200
            assert (await client.get(f"/ipfs/{small}?format=raw")).content == b"s" * 1000
            body = b"".join(source.export_car(large))
            assert (await client.post(f"/quorate/v1/import?root={large}", content=body)).status_code == 413
            assert (await client.post("/quorate/v1/import?root=nonsense", content=b"")).status_code == 422

    async def test_content_that_the_store_has_no_room_for_is_refused(self, tmp_path: Path) -> None:
        source = EmbeddedStore(tmp_path / "source")
        root = source.add_bytes(b"s" * 90_000)
        body = b"".join(source.export_car(root))
        async with make_client(Network0(), tmp_path, None, RoomLimits(80_000)) as client:
            answer = await client.post(f"/quorate/v1/import?root={root}", content=body)
            assert (answer.status_code, answer.json()["error"]["type"]) == (507, "QUOTA")
            assert "store_bytes" in answer.json()["error"]["message"]
            assert (await client.get(f"/ipfs/{root}?format=raw")).status_code == 404
            store = (await client.get("/quorate/v1/status")).json()["store"]
            assert (store["most_bytes"], store["refusals"]) == (80_000, 1)

    async def test_what_is_pushed_counts_towards_the_days_bytes_and_status_tells(self, tmp_path: Path) -> None:
        source = EmbeddedStore(tmp_path / "source")
        first, second = (source.add_bytes(bytes([n]) * 6000) for n in range(2))
        body, other = (b"".join(source.export_car(root)) for root in (first, second))
        async with make_client(Network0(), tmp_path, None, traffic=TrafficLimits(bytes_day=8000)) as client:
            assert (await client.post(f"/quorate/v1/import?root={first}", content=body)).status_code == 200
            told = (await client.get("/quorate/v1/status")).json()["traffic"]
            assert told["fetch"]["day_bytes"] == len(body)
            assert "problem" not in told["fetch"]
            answer = await client.post(f"/quorate/v1/import?root={second}", content=other)
            assert (answer.status_code, answer.json()["error"]["type"]) == (507, "QUOTA")
            assert "fetch_bytes_day" in answer.json()["error"]["message"]
            for _ in range(2):
                await client.get(f"/ipfs/{first}?format=raw")
            told = (await client.get("/quorate/v1/status")).json()["traffic"]
            assert told["serve"] | {"refusals": 1, "day_bytes": 6000} == told["serve"]

    async def test_pushes_that_lack_their_end_leave_nothing_and_cost_no_quota(self, tmp_path: Path) -> None:
        source, kept = EmbeddedStore(tmp_path / "source"), EmbeddedStore(tmp_path / "store")
        roots = [source.add_tree({"a": os.urandom(30_000), "b": os.urandom(30_000)}) for _ in range(6)]
        bodies = [b"".join(source.export_car(root)) for root in roots]
        async with make_client(Network0(), tmp_path, None) as client:
            for root, body in zip(roots, bodies, strict=True):
                answer = await client.post(f"/quorate/v1/import?root={root}", content=body[:-10_000])
                assert (answer.status_code, answer.json()["error"]["type"]) == (422, "CarCut")
            assert kept.stats().blocks == 0
            wrong = await client.post(f"/quorate/v1/import?root={roots[0]}", content=bodies[1])
            assert (wrong.status_code, kept.stats().blocks) == (422, 0)
            assert (await client.post(f"/quorate/v1/import?root={roots[0]}", content=bodies[0])).status_code == 200
            assert (await client.post(f"/quorate/v1/import?root={roots[1]}", content=bodies[1])).status_code == 413
            again = await client.post(f"/quorate/v1/import?root={roots[0]}", content=bodies[0][:90_000])
            assert again.status_code == 413, "what was kept counts"
        assert kept.is_complete(roots[0])

    async def test_pushes_at_once_get_no_more_than_the_quota(self, tmp_path: Path) -> None:
        source, kept = EmbeddedStore(tmp_path / "source"), EmbeddedStore(tmp_path / "store")

        async def halves(body: bytes) -> AsyncIterator[bytes]:
            yield body[: len(body) // 2]
            await asyncio.sleep(0.05)
            yield body[len(body) // 2 :]

        async with make_client(Network0(), tmp_path, None) as client:
            roots = [source.add_bytes(os.urandom(30_000)) for _ in range(12)]
            bodies = [b"".join(source.export_car(root)) for root in roots]
            asked = zip(roots, bodies, strict=True)
            answers = await asyncio.gather(
                *(client.post(f"/quorate/v1/import?root={root}", content=halves(body)) for root, body in asked)
            )
            codes = Counter(each.status_code for each in answers)
            assert set(codes) <= {200, 413, 507}
            assert 1 <= codes[200] <= 3
            assert kept.stats().bytes == 30_000 * codes[200]
            for root, body in zip(roots, bodies, strict=True):  # what the refused had claimed is free again
                await client.post(f"/quorate/v1/import?root={root}", content=body)
            assert kept.stats().bytes == 90_000

    async def test_what_is_being_pushed_lies_on_the_stores_disk_and_is_seen(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pushes, "BATCH_BYTES", 10_000)
        source, seen = EmbeddedStore(tmp_path / "source"), []
        root = source.add_bytes(os.urandom(50_000))
        body = b"".join(source.export_car(root))
        async with make_client(Network0(), tmp_path, None) as client:

            async def look() -> int:
                status = (await client.get("/quorate/v1/status")).json()
                return int(status["store"]["spooled_bytes"])

            async def watched() -> AsyncIterator[bytes]:
                yield body[:40_000]
                seen.append(await look())
                seen.extend(find_unnamed(tmp_path / "store"))
                yield body[40_000:]

            answer = await client.post(f"/quorate/v1/import?root={root}", content=watched())
            assert answer.status_code == 200
            assert seen == [40_000, 40_000]
            assert await look() == 0
        assert find_unnamed(tmp_path / "store") == []

    async def test_an_import_that_drips_makes_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pushes, "GRACE_S", 0.2)

        async def drip() -> AsyncIterator[bytes]:
            while True:
                yield b"\x3a"
                await asyncio.sleep(0.02)

        root = EmbeddedStore(tmp_path / "source").add_bytes(b"s" * 1000)
        async with make_client(Network0(), tmp_path, None) as client:
            answer = await asyncio.wait_for(client.post(f"/quorate/v1/import?root={root}", content=drip()), 5)
            assert (answer.status_code, answer.json()["error"]["type"]) == (503, "BUSY")

    @pytest.mark.parametrize("route", ["orders", "commitments", "mail"])
    async def test_a_body_that_drips_is_not_waited_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str
    ) -> None:
        monkeypatch.setattr(bodies, "GRACE_S", 0.2)

        async def drip() -> AsyncIterator[bytes]:
            while True:
                yield b" "
                await asyncio.sleep(0.02)

        async with make_client(Network0(), tmp_path, None) as client:
            answer = await asyncio.wait_for(client.post(f"/quorate/v1/{route}", content=drip()), 5)
            assert (answer.status_code, answer.json()["error"]["type"]) == (408, "TOO_SLOW")


@pytest.mark.parametrize(("text", "wei"), [("5", 5), ("1.5ether", 15 * 10**17), ("0.000000000000000001ether", 1)])
def test_amounts(text: str, wei: int) -> None:
    assert parse_amount(text) == wei


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "1.5", "nan", "infinity", "0.0000000000000000001ether"])
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(ValidationError):
        parse_amount(text)
