"""Messages, and what the collator, the HTTP side and the command line refuse."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError as SchemaError
from tests.unit.node.simulation import Network0

from quorate.chain.types import AccountInfo, NonceWindow
from quorate.messages import CommitmentsMessage, OpeningsMessage, OrderMessage
from quorate.protocol.encoding import compute_job_id
from quorate.protocol.errors import ValidationError
from quorate.protocol.params import LOCAL
from quorate.protocol.spec import JobSpec, Limits
from quorate.protocol.types import CommitItem, CommitList, Opening, SignatureKind, SignedOrder, Vote
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.memory import MemoryStore
from quorate_node.cli.commands import parse_amount
from quorate_node.collator import Collator
from quorate_node.core.collation import count_queued
from quorate_node.core.intake import OrderRefused
from quorate_node.gateway import app
from quorate_node.gateway.app import Services, build_app
from quorate_node.hints import Hints
from quorate_node.mailbox import Mailbox
from quorate_node.roots import OwnRoots


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
        self.net, self.reads = net, 0

    def account(self, owner: Any) -> AccountInfo:
        self.reads += 1
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
        assert gateway.reads == 1
        assert net.run(60, lambda: bool(net.world.market.bonds))
        assert len(net.nodes[0].core.state.chain.batches) == 1

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

    def test_providers_are_known_after_a_restart(self, tmp_path: Path) -> None:
        net = Network0(8)
        collator, _ = make_collator(net, tmp_path)
        signed = altered(net, valid_until=2_000_000_000)
        job_id = asyncio.run(collator.accept(signed, ["http://127.0.0.1:1"]))
        assert Hints(tmp_path / "hints").get(job_id) == ["http://127.0.0.1:1"]


def make_client(net: Network0, tmp_path: Path, collator: Collator | None) -> httpx.AsyncClient:
    core = net.nodes[0].core
    services = Services(
        store=EmbeddedStore(tmp_path / "store"),
        get_states=lambda: [core.state],
        mailbox=Mailbox(lambda: core.state, core.handle),
        get_leaves={b"r" * 32: (b"l" * 32,)}.get,
        render_metrics=lambda: (b"", "text/plain"),
        count_order=lambda _: None,
        is_ready=lambda: True,
        collator=collator,
        hints=Hints(tmp_path / "hints") if collator is None else collator._hints,
        roots=OwnRoots(),
        import_quota_bytes=100_000,
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(build_app(services)), base_url="http://node")


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

    async def test_a_node_that_is_no_collator_says_so(self, tmp_path: Path) -> None:
        async with make_client(Network0(), tmp_path, None) as client:
            answer = await client.post("/quorate/v1/orders", content=b"{}")
            assert (answer.status_code, answer.json()["error"]["type"]) == (404, "NOT_A_COLLATOR")

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
            assert (await client.get("/quorate/v1/status")).json()["operator_id"] == 1

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

    async def test_an_import_that_drips_makes_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(app, "IMPORT_GRACE_S", 0.2)

        async def drip() -> AsyncIterator[bytes]:
            while True:
                yield b"\x3a"
                await asyncio.sleep(0.02)

        root = EmbeddedStore(tmp_path / "source").add_bytes(b"s" * 1000)
        async with make_client(Network0(), tmp_path, None) as client:
            answer = await asyncio.wait_for(client.post(f"/quorate/v1/import?root={root}", content=drip()), 5)
            assert (answer.status_code, answer.json()["error"]["type"]) == (503, "BUSY")


@pytest.mark.parametrize(("text", "wei"), [("5", 5), ("1.5ether", 15 * 10**17), ("0.000000000000000001ether", 1)])
def test_amounts(text: str, wei: int) -> None:
    assert parse_amount(text) == wei


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "1.5", "nan", "infinity", "0.0000000000000000001ether"])
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(ValidationError):
        parse_amount(text)
