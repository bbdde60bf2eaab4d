"""Filecoin Pay, the token and the RetrievalOperator, read and written: `PayChain`, over the project's own JSON-RPC.

    chain = PayChain(settings.rpc_url, settings.contracts)
    chain.check()                                     # right chain, contracts there; else ChainUnavailable
    chain.balances(owner) -> Balances                 # wei for gas, tokens, what is in Filecoin Pay, locked, allowed
    chain.rail(rail_id) -> RailState                  # payer, payee, redeemed, locked, whether and when it ends
    chain.transact(signer, call) -> PayReceipt        # estimates gas, sends, waits

What payers and payees do with it is in `rails`. All amounts are base units of the token, all epochs blocks. Methods
block, may be called from any thread, and besides what they name raise ChainUnavailable when no endpoint answers,
RpcError when it answers with an error, ProtocolViolation (name, arguments, what to do) when a contract refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quorate.chain.abi import Contract, load_interface
from quorate.chain.account import Signer
from quorate.chain.calls import Call
from quorate.chain.errors import translate
from quorate.chain.headers import parse_head
from quorate.chain.rpc import JsonRpc, RpcCall, RpcError, check_chain_id
from quorate.chain.sender import Pace, Sender
from quorate.chain.types import BlockHead, parse_hex, to_hex
from quorate.filecoin.networks import HOW_TO_SET, PaymentContracts
from quorate.protocol.errors import ChainUnavailable, ProtocolViolation
from quorate.protocol.types import Address

LOG_BLOCKS = 2_000
"""Blocks asked for in one eth_getLogs: public endpoints refuse more."""
PUBLIC_PACE = Pace(poll_s=2.0, lost_s=300.0)
"""An epoch of Filecoin takes 30 s."""
LOCAL_TIMEOUT_S, PUBLIC_TIMEOUT_S = 120.0, 900.0
NOBODY = bytes(20)
CONTRACTS = (Contract.TOKEN, Contract.PAY, Contract.OPERATOR)
Read = tuple[Contract, str, Sequence[Any]]
"""A view function and its arguments."""


@dataclass(frozen=True, slots=True)
class PayEvent:
    """A log of one of the three contracts; `fields` by the names in the ABI, addresses as 20 bytes."""

    contract: Contract
    name: str
    fields: Mapping[str, Any] = field(compare=False)
    block_number: int
    transaction: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class PayReceipt:
    """A mined transaction that did not revert."""

    transaction: bytes
    block_number: int
    gas_used: int
    events: tuple[PayEvent, ...]

    def find(self, name: str) -> PayEvent:
        """Its event of that name. Raises KeyError when there is none."""
        for event in self.events:
            if event.name == name:
                return event
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Balances:
    """What an account has: `gas_wei` for transactions, `tokens` in its own hands, the rest in Filecoin Pay.

    `lockup_allowance` less `lockup_usage` is what the operator may still lock of `free` for rails.
    """

    gas_wei: int
    tokens: int
    deposited: int
    locked: int
    is_approved: bool
    lockup_allowance: int
    lockup_usage: int
    max_lockup_period: int

    @property
    def free(self) -> int:
        """Deposited and not locked: it can be withdrawn, or locked for a new rail."""
        return self.deposited - self.locked

    @property
    def lockable(self) -> int:
        """The most that a new rail can lock."""
        allowed = max(0, self.lockup_allowance - self.lockup_usage)
        return min(self.free, allowed) if self.is_approved else 0


@dataclass(frozen=True, slots=True)
class RailState:
    """A rail of the operator, at the end of block `block_number`.

    `redeemed` is what was paid in all, before the fee; `locked` what can still be; `end_epoch` 0 while it is open. A
    rail is `is_settled` when Filecoin Pay has forgotten it.
    """

    rail_id: int
    payer: Address
    payee: Address
    token: Address
    redeemed: int
    locked: int
    lockup_period: int
    end_epoch: int
    is_settled: bool
    block_number: int

    @property
    def ceiling(self) -> int:
        """The highest cumulative sum that can be redeemed now: what a provider may take a voucher for."""
        return self.redeemed + (0 if self.has_ended else self.locked)

    @property
    def is_open(self) -> bool:
        """Nobody has closed it: a voucher for it can be relied on until its payer does, and `lockup_period` longer."""
        return not self.is_settled and self.end_epoch == 0

    @property
    def has_ended(self) -> bool:
        """Nothing is ever paid on it any more, whatever was signed."""
        if self.is_settled:
            return True
        return self.end_epoch > 0 and (self.block_number >= self.end_epoch or self.locked == 0)


class PayChain:
    """One endpoint, and the payment contracts of its chain."""

    def __init__(self, rpc_url: str, contracts: PaymentContracts, *, timeout_s: float = 20.0) -> None:
        self.contracts = contracts
        self.rpc = JsonRpc(rpc_url, timeout_s=timeout_s)
        is_local = not contracts.confirmations
        self._sender = Sender(self.rpc, contracts, Pace() if is_local else PUBLIC_PACE)
        self._timeout_s = LOCAL_TIMEOUT_S if is_local else PUBLIC_TIMEOUT_S

    def close(self) -> None:
        """Give the connections back."""
        self.rpc.close()

    def check(self) -> None:
        """Raise ChainUnavailable unless the endpoint has the chain, the contracts, and an operator of that Pay."""
        check_chain_id(self.rpc, self.contracts.chain_id)
        places = {contract: to_hex(self.contracts.address_of(contract)) for contract in CONTRACTS}
        codes = self.rpc.batch_strict([("eth_getCode", [place, "latest"]) for place in places.values()])
        for (contract, place), code in zip(places.items(), codes, strict=True):
            if code in ("0x", None):
                raise ChainUnavailable(
                    f"{self.rpc.url} has no {contract.name.lower()} contract at {place}: {HOW_TO_SET}"
                )
        pay = self.read(Contract.OPERATOR, "PAY")[0]
        if parse_hex(pay) != self.contracts.pay:
            raise ChainUnavailable(f"the operator contract {places[Contract.OPERATOR]} pays by {pay}: {HOW_TO_SET}")

    # what is there ------------------------------------------------------------------------------------------------

    def head(self) -> BlockHead:
        """The newest block."""
        return parse_head(self.rpc.call("eth_getBlockByNumber", "latest", False))

    def settled_head(self) -> BlockHead:
        """The newest block that is `confirmations` deep: what it shows is believed when money is freed by it."""
        head = self.head()
        if not self.contracts.confirmations:
            return head
        number = max(0, head.number - self.contracts.confirmations)
        return parse_head(self.rpc.call("eth_getBlockByNumber", hex(number), False))

    def balances(self, owner: Address) -> Balances:
        """What an account has and has allowed."""
        token = self.contracts.token
        gas = int(self.rpc.call("eth_getBalance", to_hex(owner), "latest"), 16)
        held, account, approval = self.read_many(
            [
                (Contract.TOKEN, "balanceOf", (owner,)),
                (Contract.PAY, "getAccountInfoIfSettled", (token, owner)),
                (Contract.PAY, "operatorApprovals", (token, owner, self.contracts.operator)),
            ]
        )
        approved, _, allowance, _, usage, period = approval
        _, funds, free, _ = account
        return Balances(gas, held[0], funds, funds - free, approved, allowance, usage, period)

    def rail(self, rail_id: int, block: int | None = None) -> RailState:
        """A rail at the end of a block, the newest by default. Raises ProtocolViolation RailUnknown."""
        number = self.head().number if block is None else block
        payer, payee, token, redeemed = self.read(Contract.OPERATOR, "rails", rail_id, block=number)
        if parse_hex(payer) == NOBODY:
            raise ProtocolViolation("RailUnknown", rail_id, hint="no such rail of this operator contract")
        payer, payee, token = (Address(parse_hex(each)) for each in (payer, payee, token))
        try:
            (view,) = self.read(Contract.PAY, "getRail", rail_id, block=number)
        except ProtocolViolation as error:
            if error.name != "RailInactiveOrSettled":
                raise
            return RailState(rail_id, payer, payee, token, redeemed, 0, 0, 0, True, number)
        locked, period, end = view[7], view[6], view[9]
        return RailState(rail_id, payer, payee, token, redeemed, locked, period, end, False, number)

    def list_rails(self, payer: Address) -> list[int]:
        """Rails of this operator that a payer has and that are not settled, oldest first."""
        found = self.read(Contract.PAY, "getRailsForPayerAndToken", payer, self.contracts.token, 0, 0)[0]
        ids = [int(rail_id) for rail_id, _, _ in found]
        parties = self.read_many([(Contract.OPERATOR, "rails", (rail_id,)) for rail_id in ids])
        return [rail_id for rail_id, row in zip(ids, parties, strict=True) if parse_hex(row[0]) == payer]

    def is_authorization_used(self, authorizer: Address, nonce: bytes, block: int | None = None) -> bool:
        """Whether an EIP-3009 nonce was used, or cancelled."""
        return bool(self.read(Contract.TOKEN, "authorizationState", authorizer, nonce, block=block)[0])

    def events(self, first: int, last: int, topics: Sequence[str | list[str] | None] = ()) -> list[PayEvent]:
        """Events of the three contracts in blocks first to last, both included, in the chain's order."""
        places = [to_hex(self.contracts.address_of(contract)) for contract in CONTRACTS]
        wanted = {"address": places, "topics": list(topics)}
        calls: list[RpcCall] = []
        for start in range(first, last + 1, LOG_BLOCKS):
            end = min(start + LOG_BLOCKS - 1, last)
            calls.append(("eth_getLogs", [wanted | {"fromBlock": hex(start), "toBlock": hex(end)}]))
        logs = (log for page in self.rpc.batch_strict(calls) for log in page)
        found = [event for log in logs if (event := self._decode(log)) is not None]
        return sorted(found, key=lambda event: (event.block_number, event.log_index))

    def read(self, contract: Contract, name: str, *args: Any, block: int | None = None) -> tuple[Any, ...]:
        """What a view function answers."""
        (values,) = self.read_many([(contract, name, args)], block)
        return values

    def read_many(self, reads: Sequence[Read], block: int | None = None) -> list[tuple[Any, ...]]:
        """What view functions answer at the end of one block, in one round trip."""
        calls: list[RpcCall] = []
        tag = "latest" if block is None else hex(block)
        for contract, name, args in reads:
            data = load_interface(contract).encode_call(name, *args)
            target = to_hex(self.contracts.address_of(contract))
            calls.append(("eth_call", [{"to": target, "data": to_hex(data)}, tag]))
        found = []
        for (contract, name, _), answer in zip(reads, self.rpc.batch(calls), strict=True):
            if isinstance(answer, RpcError):
                raise translate(answer)
            if answer == "0x":
                raise ChainUnavailable(f"{self.rpc.url} has no {contract} where it should be: {HOW_TO_SET}")
            found.append(load_interface(contract).decode_result(name, parse_hex(answer)))
        return found

    # transactions -------------------------------------------------------------------------------------------------

    def send(self, signer: Signer, call: Call) -> bytes:
        """Estimate, sign and send; the transaction's hash. Raises ProtocolViolation for what would revert."""
        return self._sender.send(signer, call)

    def wait(self, transaction: bytes, timeout_s: float | None = None) -> PayReceipt:
        """Until it is mined. Raises ProtocolViolation when it reverted, ChainUnavailable after `timeout_s` (2 minutes,
        on a public network 15)."""
        found = self._sender.wait(transaction, self._timeout_s if timeout_s is None else timeout_s)
        events = tuple(event for log in found["logs"] if (event := self._decode(log)) is not None)
        return PayReceipt(transaction, int(found["blockNumber"], 16), int(found["gasUsed"], 16), events)

    def transact(self, signer: Signer, call: Call, timeout_s: float | None = None) -> PayReceipt:
        """Send, and wait until it is mined."""
        return self.wait(self.send(signer, call), timeout_s)

    def _decode(self, log: Mapping[str, Any]) -> PayEvent | None:
        """A log; None when it is another contract's or an event that is not known here."""
        address, topics = parse_hex(log["address"]), [parse_hex(topic) for topic in log["topics"]]
        contract = next((each for each in CONTRACTS if self.contracts.address_of(each) == address), None)
        entry = load_interface(contract).events.get(topics[0]) if contract and topics else None
        if contract is None or entry is None:
            return None
        values = entry.decode(topics, parse_hex(log["data"]))
        for name, type_, _ in entry.fields:
            if type_ == "address":
                values[name] = Address(parse_hex(values[name]))
        block, index = int(log["blockNumber"], 16), int(log["logIndex"], 16)
        return PayEvent(contract, entry.name, values, block, parse_hex(log["transactionHash"]), index)


def topic_of(contract: Contract, name: str) -> str:
    """First topic of an event's logs, in hex."""
    entries = load_interface(contract).events.values()
    return next(to_hex(entry.topic) for entry in entries if entry.name == name)
