"""`quorate-node deposit`: a collator's bonds come from it, and what cannot be is refused before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.node.registry_chain import FEE, RegistryChain

from quorate.chain.abi import Contract, load_interface
from quorate.chain.account import DEVNET_SCRYPT_N, SigningAccount
from quorate.chain.calls import Call
from quorate.chain.types import AccountInfo, Receipt
from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.params import ETHER, LOCAL
from quorate.protocol.types import Address
from quorate_node.cli import deposits
from quorate_node.config import NodeConfig, load_config
from quorate_node.keystore import create_key


class MarketChain(RegistryChain):
    """With the market's free deposits."""

    def __init__(self) -> None:
        super().__init__()
        self.free: dict[Address, int] = {}

    def account(self, owner: Address) -> AccountInfo:
        return AccountInfo(self.free.get(owner, 0), 0)

    def send(self, key: SigningAccount, call: Call, *, value: int = 0) -> bytes:
        assert call.contract is Contract.MARKET
        inputs = load_interface(Contract.MARKET).functions[call.name].inputs
        taken = int.from_bytes(call.data[4:]) if inputs else 0
        self.free[key.address] = self.free.get(key.address, 0) + value - taken
        self.balances[key.address] += taken - value - FEE
        self.sent.append(call.name)
        digest = keccak(repr(self.sent).encode())
        self.receipts[digest] = Receipt(1, 2, 100_000, ())
        return digest


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeConfig:
    values = {"rpc_url": "http://127.0.0.1:1", "deployment": "d.json", "keystore": "k.json"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    monkeypatch.setenv("QUORATE_PASSPHRASE", "open")
    return load_config(tmp_path)


def _change(chain: Any, config: NodeConfig, wei: int | None, *, is_back: bool = False) -> dict[str, Any]:
    return deposits.change_on(chain, config, wei, is_back=is_back)


def test_a_deposit_is_made_seen_and_taken_back(config: NodeConfig) -> None:
    chain, key = MarketChain(), create_key(config.keystore, b"open", DEVNET_SCRYPT_N)
    chain.balances[key.address] = ETHER
    assert _change(chain, config, None)["batches_at_once"] == 0
    made = _change(chain, config, 3 * LOCAL.batch_bond)
    assert (made["free_wei"], made["batches_at_once"]) == (3 * LOCAL.batch_bond, 3)
    assert _change(chain, config, LOCAL.batch_bond, is_back=True)["free_wei"] == 2 * LOCAL.batch_bond
    assert chain.balance(key.address) == ETHER - 2 * LOCAL.batch_bond - 2 * FEE
    with pytest.raises(ValidationError, match=r"1 ether is too much: 0\.02 ether of the deposit is free"):
        _change(chain, config, ETHER, is_back=True)
    with pytest.raises(ValidationError, match="send it more first"):
        _change(chain, config, 2 * ETHER)
    with pytest.raises(ValidationError, match="wants an amount"):
        _change(chain, config, None, is_back=True)
    assert chain.sent == ["deposit", "withdraw"]
