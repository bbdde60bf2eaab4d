"""What a devnet shall look like, and where its files are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quorate.chain.types import write_atomically
from quorate.protocol.container import DOCKER_PROFILE
from quorate.protocol.errors import ConfigurationError
from quorate.protocol.params import ETHER, LOCAL, Params
from quorate.protocol.profiles import GPU_PROFILE, Description
from quorate.protocol.spec import WASM_PROFILE

CLASS_ID = 1
LOOPBACK = "127.0.0.1"
MARKER_FILE = ".quorate-devnet"
STATE_FILE = "devnet.json"
CONFIG_FILE = "config.json"
DEPLOYMENT_FILE = "deployment.json"
KEYSTORE_FILE = "keystore.json"
PASSPHRASE_FILE = "passphrase"


@dataclass(frozen=True, slots=True)
class DevnetOptions:
    """Amounts in wei, `price` and `ask` in wei for a FUEL_UNIT, `capacity` in fuel a second an operator.

    `commands` replaces the program of single nodes (index → argv, to which `run --home DIR` is added), which is how
    adversarial tests run a node with another core; `settings` stand in every node's config.json besides. Each node runs
    `operators_per_node`, numbered through all nodes: operator i is run by node i // operators_per_node; `units` is the
    stake of single operators, in units of `unit_wei` (0: registered, but in no class). Beside class 1, for WebAssembly,
    there is one for each of `profiles`, which all are in as well. With `detach` the processes outlive the one that
    started them, once all are ready. Nodes listen on `ports`, else on any free ones; `fronts` are URLs under which
    others reach a node where something stands before it. On networks of their own they listen on `addresses`
    (index → IPv4), and reach the chain at `chain_address`.
    """

    home: Path
    nodes: int = 10
    operators_per_node: int = 1
    share_executions: bool = True
    block_time_s: float = 0.25
    chain_id: int = 31337
    rpc_port: int = 0
    params: Params = LOCAL
    collators: frozenset[int] = frozenset({0})
    commands: Mapping[int, Sequence[str]] = field(default_factory=dict)
    units: Mapping[int, int] = field(default_factory=dict)
    default_units: int = 10
    unit_wei: int = ETHER // 10
    spare_stake_wei: int = ETHER
    price: int = 10**12
    capacity: int = 10**10
    workers: int = 1
    deposit_wei: int = 100 * ETHER
    balance_wei: int = 10_000 * ETHER
    detach: bool = False
    ready_s: float = 60.0
    env: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    fronts: Mapping[int, str] = field(default_factory=dict)
    profiles: tuple[Description, ...] = ()
    addresses: Mapping[int, str] = field(default_factory=dict)
    chain_address: str = LOOPBACK

    def __post_init__(self) -> None:
        if self.nodes < 0 or self.operators_per_node < 1 or self.block_time_s <= 0:
            raise ConfigurationError("a devnet needs 0 or more nodes and a block time above 0 seconds")
        unknown = [i for i in (*self.collators, *self.commands) if not 0 <= i < self.nodes]
        unknown += [i for i in self.units if not 0 <= i < self.operators]
        if unknown and self.nodes:
            raise ConfigurationError(f"nodes {sorted(set(unknown))} are configured, but there are only {self.nodes}")
        if self.ports and len(self.ports) != self.nodes:
            raise ConfigurationError(f"{len(self.ports)} ports are given for {self.nodes} nodes: give one for each")
        if any(each.name == GPU_PROFILE for each in self.profiles):
            raise ConfigurationError("no node runs programs on GPUs yet: leave that profile out")

    @property
    def operators(self) -> int:
        """How many there are in all."""
        return self.nodes * self.operators_per_node

    def units_of(self, index: int) -> int:
        """Units of stake of an operator."""
        return self.units.get(index, self.default_units)

    def stake_of(self, index: int) -> int:
        """Stake of an operator in wei: its units in every class, and something for fines."""
        return self.units_of(index) * self.unit_wei * len(self.classes) + self.spare_stake_wei

    @property
    def classes(self) -> dict[int, Description]:
        """Classes by their ids, in the order in which they are created."""
        return dict(enumerate((Description(WASM_PROFILE), *self.profiles), CLASS_ID))

    def address_of(self, index: int) -> str:
        """Where a node listens."""
        return self.addresses.get(index, LOOPBACK)

    def node_home(self, index: int) -> Path:
        """Home of a node."""
        return self.home / f"node-{index}"

    def command_of(self, index: int) -> list[str]:
        """Program and arguments that run a node."""
        program = self.commands.get(index) or [find_node_program()]
        return [*program, "run", "--home", str(self.node_home(index))]


def find_node_program() -> str:
    """`quorate-node` beside this Python, or on PATH. Raises ConfigurationError."""
    beside = Path(sys.executable).with_name("quorate-node")
    if beside.is_file():
        return str(beside)
    if found := shutil.which("quorate-node"):
        return found
    raise ConfigurationError("`quorate-node` was not found: install the node (pip install 'quorate[node]')")


def write_node_config(options: DevnetOptions, index: int, rpc_url: str, port: int) -> None:
    """A node's config.json; relative paths are relative to its home."""
    config = {
        "rpc_url": rpc_url,
        "deployment": str(options.home / DEPLOYMENT_FILE),
        "keystore": KEYSTORE_FILE,
        "passphrase_file": PASSPHRASE_FILE,
        "listen": f"{options.address_of(index)}:{port}",
        "collator": index in options.collators,
        "workers": options.workers,
        "operators": options.operators_per_node,
        "share_executions": options.share_executions,
        "classes": list(options.classes),
        "profiles": list(map(str, options.profiles)),
        "announce": options.fronts.get(index),
        **options.settings,
    }
    write_atomically(options.node_home(index) / CONFIG_FILE, json.dumps(config, indent=1) + "\n")


def check_host(options: DevnetOptions) -> None:
    """Raise ConfigurationError, before anything is started, where this host runs no containers and is to."""
    if not any(each.name == DOCKER_PROFILE for each in options.profiles):
        return
    command = [find_node_program(), "doctor", "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **options.env})
    if done.returncode != 0:
        raise ConfigurationError(f"this host runs no jobs: {done.stderr.strip() or done.stdout.strip()}")
    docker = json.loads(done.stdout)["docker"]
    if not docker["ok"]:
        raise ConfigurationError(f"this host runs no containers: {docker['why']}; see `scripts/setup --docker`")
