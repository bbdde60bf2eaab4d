"""Anvil with the deployed contracts; it mines each transaction at once, and by command."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.differential.actors import COLLATORS, OUTSIDER, OWNERS, PARAMS, REQUESTERS, WALLETS, Actor

from quorate.chain.abi import Contract, load_artifact
from quorate.chain.account import SigningAccount
from quorate.chain.deploy import deploy
from quorate.chain.rpc import JsonRpc
from quorate.chain.types import Deployment, to_hex
from quorate.devnet.anvil import FLAGS, find_anvil
from quorate.devnet.ports import pick_ports
from quorate.protocol.errors import ChainUnavailable
from quorate.protocol.params import ETHER, Params

READY_S = 20.0


@contextmanager
def running_chain(
    artifacts: Mapping[Contract, dict[str, Any]] | None = None, params: Params = PARAMS
) -> Iterator[tuple[JsonRpc, Deployment]]:
    """Anvil with the contracts deployed and every actor rich; ends with the block.

    `artifacts` are those of a mutant, in place of the committed ones.
    """
    load = artifacts.__getitem__ if artifacts else load_artifact
    port = pick_ports(1)[0]
    # A fixed start makes every run the same; impersonation spares signing each transaction.
    manner = ("--timestamp", "1700000000", "--auto-impersonate", *FLAGS)
    argv = [str(find_anvil()), "--host", "127.0.0.1", "--port", str(port), *manner]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rpc = JsonRpc(f"http://127.0.0.1:{port}")
    try:
        _await(rpc)
        deployer = Actor.named("deployer")
        for actor in (deployer, OUTSIDER, *OWNERS, *REQUESTERS, *COLLATORS):
            rpc.call("anvil_setBalance", to_hex(actor.address), hex(10**6 * ETHER))
        for wallet in WALLETS:
            rpc.call("anvil_setCode", to_hex(wallet.address), to_hex(wallet.code))
        deployment = deploy(rpc.url, SigningAccount.from_key(deployer.key), params, load=load)
        for address in (deployment.challenges, deployment.disputes):  # they send, too: see duties.py
            rpc.call("anvil_setBalance", to_hex(address), hex(10**6 * ETHER))
        yield rpc, deployment
    finally:
        rpc.close()
        process.terminate()
        process.wait(timeout=10)


def _await(rpc: JsonRpc) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            rpc.call("eth_chainId")
            return
        except ChainUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
