"""Anvil, the contracts and `quorate-node` processes: start, watch, stop."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import httpx

from quorate.chain.account import SigningAccount
from quorate.chain.deploy import deploy
from quorate.chain.gateway import JsonRpcGateway
from quorate.chain.types import Deployment, write_atomically
from quorate.config import Config
from quorate.devnet.anvil import start_anvil
from quorate.devnet.enroll import Member, create_members, create_wallet, enroll, set_balances
from quorate.devnet.options import (
    CLASS_ID,
    CONFIG_FILE,
    DEPLOYMENT_FILE,
    KEYSTORE_FILE,
    PASSPHRASE_FILE,
    STATE_FILE,
    DevnetOptions,
    check_host,
    write_node_config,
)
from quorate.devnet.ports import pick_ports
from quorate.devnet.process import ProcessGroup
from quorate.devnet.state import DevnetNode, check_nothing_runs, clear_home, save_state
from quorate.protocol.errors import RecoverableError

HEALTH_POLL_S = 0.05
REQUESTER = "requester"


class NodeFailed(RecoverableError):
    """A node of the devnet ended, or did not get ready in time; the message has the end of its log."""


class Devnet:
    """A devnet that this process started. As a context manager it is stopped at the end, whatever happens."""

    def __init__(self, options: DevnetOptions, on_step: Callable[[str], None] | None = None) -> None:
        self.options = options
        self.seconds: dict[str, float] = {}
        self.nodes: tuple[DevnetNode, ...] = ()
        self._say = on_step or (lambda _: None)
        self._group: ProcessGroup | None = None
        self._gateway: JsonRpcGateway | None = None
        self._requester: SigningAccount | None = None
        self._rpc_url = ""
        self._restarting = threading.Lock()

    # what callers use ---------------------------------------------------------------------------------------------

    @property
    def gateway(self) -> JsonRpcGateway:
        """The chain with the contracts."""
        assert self._gateway is not None, "the devnet was not started"
        return self._gateway

    @property
    def deployment(self) -> Deployment:
        """The contracts."""
        return self.gateway.deployment

    @property
    def requester(self) -> SigningAccount:
        """A wallet with a deposit."""
        assert self._requester is not None, "the devnet was not started"
        return self._requester

    @property
    def rpc_url(self) -> str:
        """Anvil's endpoint."""
        return self._rpc_url

    @property
    def collator_urls(self) -> list[str]:
        """Where orders can be sent."""
        fronts = self.options.fronts
        return [fronts.get(node.index, node.url) for node in self.nodes if node.index in self.options.collators]

    def start(self) -> Devnet:
        """Bring everything up, or raise and leave nothing behind.

        Raises ConfigurationError without Anvil or node program, Busy when a port or the home is in use, NodeFailed
        when a node does not get ready.
        """
        check_nothing_runs(self.options.home)
        check_host(self.options)
        clear_home(self.options.home)
        started = time.monotonic()
        self._group = ProcessGroup(self.options.home / "logs")
        try:
            self._start_all(started)
        except BaseException:
            self.stop()
            raise
        if self.options.detach:
            self._group.release()
        return self

    def stop(self) -> None:
        """End exactly what was started; may be called again."""
        if self._gateway is not None:
            self._gateway.close()
            self._gateway = None
        if self._group is not None:
            self._group.stop()
            self._group = None
            (self.options.home / STATE_FILE).unlink(missing_ok=True)

    def kill_node(self, index: int) -> None:
        """End a node as a crash would."""
        assert self._group is not None
        self._group.kill(self.nodes[index].running)

    def restart_node(self, index: int) -> None:
        """Start a node that was killed again, and wait until it is ready. Several threads may do so at once."""
        assert self._group is not None
        with self._restarting:
            running = self._group.start(f"node-{index}", self.options.command_of(index), self.options.env)
            node = replace(self.nodes[index], running=running)
            self.nodes = (*self.nodes[:index], node, *self.nodes[index + 1 :])
            self._save_state()
        self._wait_healthy([node])

    def check_alive(self) -> None:
        """Raise NodeFailed when a process of the devnet has ended."""
        for running in self._group.running if self._group else ():
            if reason := running.exit_reason():
                raise NodeFailed(reason)

    def __enter__(self) -> Devnet:
        return self if self._group is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def make_config(self, home: Path) -> Config:
        """Configuration of a client that is the devnet's requester, with jobs and content in a folder of its own."""
        wallet = self.options.home / REQUESTER
        return Config(
            home=home,
            store=home / "store",
            rpc_url=self.rpc_url,
            deployment=self.options.home / DEPLOYMENT_FILE,
            keystore=wallet / KEYSTORE_FILE,
            passphrase_file=wallet / PASSPHRASE_FILE,
            collators=tuple(self.collator_urls),
            class_id=CLASS_ID,
        )

    # start --------------------------------------------------------------------------------------------------------

    def _start_all(self, started: float) -> None:
        assert self._group is not None
        options = self.options
        # web3 takes longer to import than all that comes before the deployment; let it begin now.
        warm_up = threading.Thread(target=_import_web3, daemon=True)
        warm_up.start()
        self._say("starting Anvil")
        _, rpc = start_anvil(
            self._group, port=options.rpc_port, chain_id=options.chain_id, block_time_s=options.block_time_s,
            host=options.chain_address,
        )  # fmt: skip
        self._rpc_url = rpc.url
        self._mark("anvil", started)
        ports = list(options.ports) or pick_ports(options.nodes)
        urls = [f"http://{options.address_of(index)}:{port}" for index, port in enumerate(ports)]
        members = create_members(options, urls)
        self._requester = create_wallet(options.home / REQUESTER)
        deployer = SigningAccount.create()
        set_balances(rpc, [deployer, self._requester, *(m.account for m in members)], options.balance_wei)
        rpc.close()
        self._say("deploying the contracts")
        warm_up.join()
        deployment = deploy(self._rpc_url, deployer, options.params)
        deployment.save(options.home / DEPLOYMENT_FILE)
        self._gateway = JsonRpcGateway(self._rpc_url, deployment)
        self._mark("contracts", started)
        enroll(self._gateway, options, deployer, members, self._requester)
        self._mark("operators", started)
        self._start_nodes(members, ports)
        self._write_client_config()
        self._save_state()
        self._wait_healthy(self.nodes)
        self._mark("nodes", started)

    def _start_nodes(self, members: list[Member], ports: list[int]) -> None:
        assert self._group is not None
        if members:
            self._say(f"starting {len(ports)} nodes")
        nodes = []
        for index, port in enumerate(ports):
            write_node_config(self.options, index, self._rpc_url, port)
            running = self._group.start(f"node-{index}", self.options.command_of(index), self.options.env)
            mine = tuple(member for member in members if member.node == index)
            nodes.append(DevnetNode(index, mine, self.options.node_home(index), running))
        self.nodes = tuple(nodes)

    def _wait_healthy(self, nodes: tuple[DevnetNode, ...] | list[DevnetNode]) -> None:
        waiting, deadline = list(nodes), time.monotonic() + self.options.ready_s
        with httpx.Client(trust_env=False, timeout=2.0) as client:
            while waiting:
                waiting = [node for node in waiting if not _is_healthy(client, node)]
                for node in waiting:
                    if reason := node.running.exit_reason():
                        raise NodeFailed(reason)
                if waiting and time.monotonic() > deadline:
                    names = ", ".join(node.running.name for node in waiting)
                    logs = self.options.home / "logs"
                    raise NodeFailed(f"{names} not ready after {self.options.ready_s:g} s: look into {logs}")
                if waiting:
                    time.sleep(HEALTH_POLL_S)

    def _write_client_config(self) -> None:
        """What `quorate` reads when nothing else is configured."""
        home = self.options.home
        config = {
            "rpc_url": self._rpc_url,
            "deployment": str(home / DEPLOYMENT_FILE),
            "keystore": str(home / REQUESTER / KEYSTORE_FILE),
            "passphrase_file": str(home / REQUESTER / PASSPHRASE_FILE),
            "collators": self.collator_urls,
            "class_id": CLASS_ID,
            "profiles": list(map(str, self.options.profiles)),
        }
        write_atomically(home / CONFIG_FILE, json.dumps(config, indent=1) + "\n")

    def _save_state(self) -> None:
        assert self._group is not None
        save_state(self.options.home, self._rpc_url, self.requester, self.nodes, self._group.running)

    def _mark(self, name: str, started: float) -> None:
        self.seconds[name] = round(time.monotonic() - started, 3)


def _import_web3() -> None:
    import web3
    import web3.middleware  # noqa: F401


def _is_healthy(client: httpx.Client, node: DevnetNode) -> bool:
    try:
        return client.get(f"{node.url}/healthz").status_code == 200
    except httpx.TransportError:
        return False
