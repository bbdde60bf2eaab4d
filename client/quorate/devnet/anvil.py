"""Anvil, the local chain: where its program is, how it is started, and when it is ready."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from quorate.chain.rpc import JsonRpc, check_chain_id
from quorate.devnet.ports import is_port_free, pick_ports
from quorate.devnet.process import ProcessGroup, Running
from quorate.protocol.errors import Busy, ChainUnavailable, ConfigurationError

ENVIRONMENT = "QUORATE_ANVIL"
READY_S = 20.0
FLAGS = (
    # Why each of them: with the default hard fork blocks get slower as the chain grows; pages of batches are larger
    # than usual limits; state of old blocks would spill into the home folder; order of arrival keeps setup simple.
    "--hardfork", "cancun", "--gas-limit", "30000000000", "--prune-history", "64", "--order", "fifo",
    "--no-request-size-limit", "--block-base-fee-per-gas", "1", "--accounts", "1", "--quiet",
)  # fmt: skip


def find_anvil() -> Path:
    """$QUORATE_ANVIL, the project's own .tools/bin/anvil, or PATH, in that order. Raises ConfigurationError."""
    if named := os.environ.get(ENVIRONMENT):
        path = Path(named)
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise ConfigurationError(f"{ENVIRONMENT}={named} is no program: name Anvil's executable, or unset it")
        return path
    for folder in Path(__file__).resolve().parents:
        if (own := folder / ".tools" / "bin" / "anvil").is_file():
            return own
        if (folder / "pyproject.toml").exists():
            break
    if found := shutil.which("anvil"):
        return Path(found)
    raise ConfigurationError(
        f"Anvil was not found: run scripts/setup, put `anvil` of Foundry on PATH, or name it with {ENVIRONMENT}"
    )


def start_anvil(
    group: ProcessGroup, *, port: int, chain_id: int, block_time_s: float, host: str = "127.0.0.1"
) -> tuple[Running, JsonRpc]:
    """Start Anvil on a port of loopback, or of another address of this host (0: any free one), and wait until it
    answers for `chain_id`.

    Raises ConfigurationError without Anvil, Busy when the port is in use, ChainUnavailable when it does not get ready.
    """
    program = find_anvil()
    if port and not is_port_free(port):
        raise Busy(f"port {port} is in use: end what listens there, or choose another one (0 takes any free one)")
    port = port or pick_ports(1)[0]
    argv = [str(program), "--host", host, "--port", str(port), "--chain-id", str(chain_id)]
    running = group.start("anvil", [*argv, "--block-time", f"{block_time_s:g}", *FLAGS])
    rpc = JsonRpc(f"http://{host}:{port}", pauses_s=())
    deadline = time.monotonic() + READY_S
    while True:
        try:
            check_chain_id(rpc, chain_id)
            if (reason := running.exit_reason()) is not None:  # somebody else answers on that port
                raise Busy(reason)
            break
        except ChainUnavailable:
            if (reason := running.exit_reason()) is not None:
                raise Busy(f"{reason}\nAnvil did not start: is port {port} in use?") from None
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    rpc.close()
    return running, JsonRpc(rpc.url)
