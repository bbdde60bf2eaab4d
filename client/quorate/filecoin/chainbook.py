"""What a chain says about one payer's payments, at one block: redemptions of its rails with their fees, and its used
EIP-3009 nonces. `reconciling` compares it with the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from quorate.chain.abi import Contract
from quorate.chain.types import to_hex
from quorate.filecoin.pay import PayChain, PayEvent, RailState, topic_of
from quorate.protocol.types import Address


@dataclass(frozen=True, slots=True)
class Payment:
    """One redemption: `gross` left the payer; of it Filecoin Pay kept `fee`, an operator may have got `commission`."""

    gross: int
    net: int
    commission: int
    fee: int
    transaction: bytes


@dataclass(frozen=True, slots=True)
class RailFacts:
    """A rail, and all that was ever paid on it, oldest first."""

    state: RailState
    payments: tuple[Payment, ...] = ()

    @property
    def gross(self) -> int:
        """What left the payer, by Filecoin Pay's events."""
        return sum(each.gross for each in self.payments)

    @property
    def fee(self) -> int:
        """What Filecoin Pay kept."""
        return sum(each.fee for each in self.payments)

    @property
    def net(self) -> int:
        """What the payee got."""
        return sum(each.net for each in self.payments)


@dataclass(frozen=True, slots=True)
class ChainFacts:
    """All of it, at the end of block `block_number`, whose time is `time` (unix seconds).

    `rails` are this payer's rails of the operator contract `operator` (0x…), by number; `used` gives the transaction of
    each nonce that was used, and `values` what it moved.
    """

    block_number: int
    time: int
    operator: str
    rails: Mapping[int, RailFacts]
    used: Mapping[bytes, bytes]
    values: Mapping[bytes, int]


def read_facts(chain: PayChain, payer: Address) -> ChainFacts:
    """Read them at the newest block that is deep enough. Raises ChainUnavailable, and RpcError where the endpoint has
    not kept the state of that block."""
    head = chain.settled_head()
    first, last = min(chain.contracts.block, head.number), head.number
    opened = chain.events(first, last, [topic_of(Contract.OPERATOR, "RailOpened"), None, _topic(payer)])
    ids = [int(event.fields["railId"]) for event in opened if event.contract is Contract.OPERATOR]
    payments = _read_payments(chain, ids, first, last)
    rails = {rail_id: RailFacts(chain.rail(rail_id, last), tuple(payments[rail_id])) for rail_id in ids}
    operator = to_hex(chain.contracts.operator)
    return ChainFacts(last, head.timestamp, operator, rails, *_read_nonces(chain, payer, first, last))


def _read_payments(chain: PayChain, ids: list[int], first: int, last: int) -> defaultdict[int, list[Payment]]:
    found: defaultdict[int, list[Payment]] = defaultdict(list)
    if not ids:
        return found
    name = "RailOneTimePaymentProcessed"
    for event in chain.events(first, last, [topic_of(Contract.PAY, name), [_topic(each) for each in ids]]):
        if event.contract is Contract.PAY:
            net, commission, fee = (
                event.fields[name] for name in ("netPayeeAmount", "operatorCommission", "networkFee")
            )
            payment = Payment(net + commission + fee, net, commission, fee, event.transaction)
            found[event.fields["railId"]].append(payment)
    return found


def _read_nonces(chain: PayChain, payer: Address, first: int, last: int) -> tuple[dict[bytes, bytes], dict[bytes, int]]:
    """Nonce → transaction, and nonce → tokens moved."""
    events = chain.events(first, last, [topic_of(Contract.TOKEN, "AuthorizationUsed"), _topic(payer)])
    used = {bytes(event.fields["nonce"]): event for event in events if event.contract is Contract.TOKEN}
    moves: list[PayEvent] = []
    if used:
        moves = chain.events(first, last, [topic_of(Contract.TOKEN, "Transfer"), _topic(payer)])
    values = {nonce: _find_value(event, moves) for nonce, event in used.items()}
    return {nonce: event.transaction for nonce, event in used.items()}, values


def _find_value(used: PayEvent, moves: Iterable[PayEvent]) -> int:
    """A token tells of the transfer in the same transaction as of the nonce, right behind or before it."""
    near = [move for move in moves if move.transaction == used.transaction]
    found = min(near, key=lambda move: (abs(move.log_index - used.log_index), -move.log_index), default=None)
    return 0 if found is None else int(found.fields["value"])


def _topic(value: Address | int) -> str:
    data = value.to_bytes(32, "big") if isinstance(value, int) else bytes(value).rjust(32, b"\0")
    return to_hex(data)
