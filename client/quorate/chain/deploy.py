"""Deployment of the contracts. Here, where nothing is hot, web3 does the work; it is imported on use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quorate.chain.abi import Contract, load_artifact
from quorate.chain.account import SigningAccount
from quorate.chain.rpc import HOW_TO_START
from quorate.chain.transactions import compute_create_address
from quorate.chain.types import Deployment, parse_address, to_hex
from quorate.protocol.context import ZERO_ADDRESS
from quorate.protocol.errors import ChainUnavailable, ProtocolViolation
from quorate.protocol.params import Params
from quorate.protocol.types import Address

if TYPE_CHECKING:
    from web3 import Web3

ORDER = (
    Contract.BEACON, Contract.REGISTRY, Contract.MARKET, Contract.DISPUTES, Contract.CHALLENGES, Contract.EXTENDER
)  # fmt: skip
CREATION_GAS = 12_000_000
"""Above what each creation needs; unused gas is not paid."""


def connect(rpc_url: str, deployer: SigningAccount) -> Web3:
    """web3 that signs locally with the deployer's key. Raises ChainUnavailable when nothing answers."""
    from web3 import Web3
    from web3.middleware import SignAndSendRawMiddlewareBuilder

    web3 = Web3(Web3.HTTPProvider(rpc_url, request_kwargs={"timeout": 20}))
    if not web3.is_connected():
        raise ChainUnavailable(f"no chain answers at {rpc_url}: {HOW_TO_START}")
    account = web3.eth.account.from_key(deployer.key)
    web3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(account), layer=0)
    web3.eth.default_account = account.address
    return web3


def predict(chain_id: int, deployer: Address, nonce: int, block: int) -> Deployment:
    """Addresses that `deploy` will give when the deployer's next transaction has number `nonce`."""
    found = predict_addresses(deployer, nonce)
    fields = {contract.name.lower(): found[contract] for contract in ORDER if contract is not Contract.EXTENDER}
    return Deployment(chain_id, **fields, block=block)


def predict_addresses(deployer: Address, nonce: int) -> dict[Contract, Address]:
    """Address of each contract, when the deployer's next transaction has number `nonce`."""
    return {contract: compute_create_address(deployer, nonce + i) for i, contract in enumerate(ORDER)}


def build_arguments(
    params: Params, deployment: Deployment, extender_address: Address = ZERO_ADDRESS
) -> dict[Contract, tuple[Any, ...]]:
    """Constructor arguments. The contracts know each other from birth, so their addresses are predicted."""
    values, d = params.as_tuple(), deployment
    registry, market, disputes, challenges, beacon, extender = map(
        to_checksum, (d.registry, d.market, d.disputes, d.challenges, d.beacon, extender_address)
    )
    return {
        Contract.BEACON: (),
        Contract.REGISTRY: (values, market, disputes, challenges),
        Contract.MARKET: (values, registry, disputes, beacon, extender),
        Contract.CHALLENGES: (values, registry, market, disputes),
        Contract.EXTENDER: (values, registry, disputes, beacon),
        Contract.DISPUTES: (values, registry, market, challenges),
    }


def to_checksum(address: Address) -> str:
    """EIP-55 form, which web3 insists on."""
    from eth_utils.address import to_checksum_address

    return str(to_checksum_address(to_hex(address)))


def deploy(
    rpc_url: str,
    deployer: SigningAccount,
    params: Params,
    *,
    timeout_s: float = 60.0,
    load: Callable[[Contract], dict[str, Any]] = load_artifact,
) -> Deployment:
    """Create the contracts, all in flight together; `load` gives their artifacts.

    The deployer's key must not be used elsewhere meanwhile. Raises ValidationError for unsafe parameters and
    ProtocolViolation when a constructor reverts.
    """
    params.check()
    web3 = connect(rpc_url, deployer)
    sender = web3.eth.account.from_key(deployer.key).address
    nonce = web3.eth.get_transaction_count(sender)
    found = predict(web3.eth.chain_id, deployer.address, nonce, web3.eth.block_number)
    addresses = predict_addresses(deployer.address, nonce)
    arguments = build_arguments(params, found, addresses[Contract.EXTENDER])
    hashes = []
    for offset, contract in enumerate(ORDER):
        artifact = load(contract)
        factory = web3.eth.contract(abi=artifact["abi"], bytecode=artifact["bytecode"])
        overrides: Any = {"nonce": nonce + offset, "gas": CREATION_GAS}
        hashes.append(factory.constructor(*arguments[contract]).transact(overrides))
    for contract, transaction in zip(ORDER, hashes, strict=True):
        receipt = web3.eth.wait_for_transaction_receipt(transaction, timeout=timeout_s, poll_latency=0.05)
        created = receipt["contractAddress"]
        if receipt["status"] != 1 or created is None or parse_address(created) != addresses[contract]:
            raise ProtocolViolation("CreationFailed", contract.value, hint="its constructor reverted; check Params")
    return found
