"""The contracts' public state, read in one round trip, against the model's."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from quorate.chain.abi import Contract, load_interface
from quorate.chain.rpc import JsonRpc
from quorate.chain.types import Deployment, parse_hex, to_hex
from quorate.protocol.encoding import decode_table
from quorate.protocol.job import BatchStatus
from quorate.protocol.market import Batch
from quorate.protocol.types import Address
from quorate.protocol.world import World

Expected = tuple[Any, ...]
Known = dict[tuple[Contract, str, tuple[Any, ...]], tuple[str, Expected]]


class Masked(tuple[Any, ...]):
    """A tuple in which None equals anything."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple) and all(a is None or a == b for a, b in zip(self, other, strict=True))

    __hash__ = tuple.__hash__


class Questions:
    """Calls with the answers that the model expects.

    `known` holds, for each call, an answer and the values that it was found to equal: most of the state is the same
    after each action, and decoding it again was most of the time.
    """

    def __init__(self, deployment: Deployment, known: Known) -> None:
        self.deployment, self.known = deployment, known
        self.calls: list[tuple[str, list[Any]]] = []
        self.checks: list[Callable[[str], None]] = []

    def ask(self, contract: Contract, name: str, args: tuple[Any, ...], expected: Expected) -> None:
        """A getter's values; None among the expected ones matches anything."""
        interface, question = load_interface(contract), (contract, name, args)
        data = _encode_question(*question)
        to = to_hex(self.deployment.address_of(contract))
        self.calls.append(("eth_call", [{"to": to, "data": data}, "latest"]))

        def check(answer: str) -> None:
            if self.known.get(question) == (answer, expected):
                return
            found = tuple(map(_plain, interface.decode_result(name, parse_hex(answer))))
            wanted = tuple(f if e is None else _plain(e) for e, f in zip(expected, found, strict=True))
            assert found == wanted, f"{contract}.{name}{args}: contracts {found}, model {wanted}"
            self.known[question] = answer, expected

        self.checks.append(check)

    def ask_balance(self, address: Address, expected: int) -> None:
        """A contract's wei."""
        self.calls.append(("eth_getBalance", [to_hex(address), "latest"]))

        def check(answer: str) -> None:
            assert int(answer, 16) == expected, f"balance: contract {int(answer, 16)}, model {expected}"

        self.checks.append(check)


@lru_cache(maxsize=1 << 14)
def _encode_question(contract: Contract, name: str, args: tuple[Any, ...]) -> str:
    return to_hex(load_interface(contract).encode_call(name, *args))


def _plain(value: Any) -> Any:
    if isinstance(value, Masked):
        return value
    if isinstance(value, str) and value.startswith("0x"):
        return parse_hex(value)
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def compare_state(rpc: JsonRpc, deployment: Deployment, world: World, known: Known) -> None:
    """Raise AssertionError at the first difference. `known` is empty at first, and is for this to keep."""
    questions = Questions(deployment, known)
    _ask_registry(questions, world)
    _ask_market(questions, world)
    _ask_disputes(questions, world)
    for check, answer in zip(questions.checks, rpc.batch_strict(questions.calls), strict=True):
        check(answer)


def _ask_registry(q: Questions, world: World) -> None:
    registry, where = world.registry, Contract.REGISTRY
    q.ask_balance(q.deployment.registry, registry.balance)
    q.ask(where, "ledgers", (), (registry.pots, registry.class_deposits, registry.treasury))
    q.ask(where, "operatorCount", (), (len(registry.operators),))
    q.ask(where, "classCount", (), (len(registry.classes),))
    for i, o in registry.operators.items():
        values = (
            o.owner, o.signing_key, o.stake, registry.allocated(i), o.unbonding, o.release_at, o.lone_wrong, o.ejected,
        )  # fmt: skip
        q.ask(where, "operator", (i,), values)
        f = o.faults
        faults = (
            f.era, f.failed, f.unrevealed, f.done, o.jailed_until, o.offence_era, o.offences, o.seats, o.seats_era,
        )  # fmt: skip
        q.ask(where, "faults", (i,), faults)
        q.ask(where, "operatorClasses", (i,), (tuple(o.classes),))
        q.ask(where, "operatorOf", (o.owner,), (i,))
    for class_id, c in registry.classes.items():
        state = (c.profile, c.unit_wei, c.price, c.median_ask, c.era, c.era_end, c.table_number, c.dirty, c.judged)
        q.ask(where, "class_", (class_id,), state)
        q.ask(where, "members", (class_id,), (tuple(c.order),))
        q.ask(where, "drawable", (class_id,), (tuple(registry.drawable(class_id)),))
        table = c.current.table
        # Addresses of data contracts are the chain's own; compare_tables looks into them.
        present = Masked((None, len(table.units), len(table.members), None, c.current.capacity))
        q.ask(where, "tableAt", (class_id, c.table_number), (present,))
        for i, m in c.members.items():
            q.ask(where, "member", (class_id, i), (m.units, m.ask, m.capacity))


def _ask_market(q: Questions, world: World) -> None:
    market, where = world.market, Contract.MARKET
    q.ask_balance(q.deployment.market, market.balance)
    q.ask(where, "bonds", (), (market.bonds,))
    for owner in sorted({*market.free, *market.escrow}):
        q.ask(where, "account", (owner,), (market.free[owner], market.escrow[owner]))
    for requester, window in market.nonces.items():
        q.ask(where, "nonces", (requester,), (window.base, window.used))
    for class_id, waiting in market.backlog.items():
        q.ask(where, "backlog", (class_id,), waiting)
    for batch in market.slots:
        _ask_batch(q, world, batch)


def _ask_batch(q: Questions, world: World, b: Batch) -> None:
    where, key, t = Contract.MARKET, (b.batch_id,), b.terms
    runs = b.status is BatchStatus.ASSIGNED
    values = (
        b.status, b.collator, b.round, b.bundles, len(b.pending), len(b.carried), b.table, b.beacon_block,
        b.start_time if runs else None, b.start_block if runs else None, b.final_at,
    )  # fmt: skip
    q.ask(where, "batch", key, values)
    q.ask(where, "batchTerms", key, ((t.class_id, t.seats, t.rounds, t.commit_period, t.fee_wei),))
    q.ask(
        where,
        "batchHashes",
        key,
        (b.beacon, b.post_hash, b.commit_hash, b.carry_hash, b.next_carry_hash, b.outcome_hash),
    )
    q.ask(where, "batchFlags", key, (b.judged, b.audit_drawn, b.queued, b.open_disputes, b.audit_from))
    for bundle, struck in b.struck.items():
        q.ask(where, "struckBelow", (*key, bundle), (struck,))
    if runs:
        q.ask(where, "roundDomain", key, (world.market.round_domain(b),))
    for bundle in range(min(b.bundles, 8) + 1):
        if b.status is not BatchStatus.POSTING:
            q.ask(where, "isPending", (*key, bundle), (bundle in b.pending,))
        for seat in range(t.seats if runs else 0):
            q.ask(where, "hasCommitted", (*key, bundle, seat), ((bundle, seat) in b.committed,))


def _ask_disputes(q: Questions, world: World) -> None:
    for d in world.disputes.open.values():
        published = sum(1 << number for number in d.published)
        values = (
            d.dispute_id, d.start_time, d.start_block, len(d.committed), len(d.voted), None, d.window, d.status,
            d.aftermath, d.row, d.taken, published, d.record_hash, d.question_hash, d.commit_hash, d.cast_hash,
            d.tally_hash,
        )  # fmt: skip
        q.ask(Contract.DISPUTES, "dispute", (d.dispute_id,), (Masked(values),))
        for member in range(9):
            spoken = member in d.committed | d.voted
            q.ask(Contract.DISPUTES, "hasSpoken", (d.dispute_id, member), (spoken,))
            q.ask(Contract.DISPUTES, "isRevealed", (d.dispute_id, member), (member in d.revealed,))


def compare_tables(rpc: JsonRpc, deployment: Deployment, world: World) -> None:
    """Bytes of every class's present table; done once a run, for they cost a call each."""
    interface = load_interface(Contract.REGISTRY)
    for class_id, state in world.registry.classes.items():
        data = to_hex(interface.encode_call("tableAt", class_id, state.table_number))
        answer = rpc.call("eth_call", {"to": to_hex(deployment.registry), "data": data}, "latest")
        ((units, _, count, members, _),) = interface.decode_result("tableAt", parse_hex(answer))
        if count:
            codes = (parse_hex(rpc.call("eth_getCode", where, "latest"))[1:] for where in (units, members))
            assert decode_table(*codes) == state.current.table
