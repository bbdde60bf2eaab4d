"""Putting a node together and running it: the only place where all its parts meet."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from quorate.chain import calls
from quorate.chain.account import SigningAccount
from quorate.chain.gateway import JsonRpcGateway
from quorate.chain.types import Deployment, parse_address
from quorate.protocol.errors import Busy, ConfigurationError, QuorateError
from quorate.protocol.hashing import keccak
from quorate.protocol.types import OperatorId
from quorate.storage.embedded import EmbeddedStore
from quorate_node import metrics as metrics_module
from quorate_node.agent import Agent
from quorate_node.collator import Collator
from quorate_node.config import JOURNAL_FILE, NodeConfig, load_config
from quorate_node.core.core import Core
from quorate_node.core.instructions import Post
from quorate_node.core.policy import Limits
from quorate_node.core.state import Identity, Network, Settings
from quorate_node.core.stimuli import GroupJournaled
from quorate_node.execution import ExecutionService
from quorate_node.executor.base import Executor
from quorate_node.gateway.app import Services, build_app
from quorate_node.journal import Journal
from quorate_node.keystore import open_key
from quorate_node.logs import configure_logs, get_logger
from quorate_node.messaging import HttpMessenger
from quorate_node.performer import Performer
from quorate_node.providers import LOCAL_CHAIN_IDS
from quorate_node.watcher import ChainWatcher

if TYPE_CHECKING:
    from quorate_node.executor.pool import WorkerPool

ANNOUNCE_S = 15.0
WARM_UP_S = 0.5
MAX_RESTORED = 50_000
BACKLOG = 512

CoreType = Callable[[Identity, Network, Settings], Core]


def run_node(home: Path, core: CoreType = Core) -> None:
    """Run a node in the foreground until SIGTERM or SIGINT. `core` makes its mind; tests give one that lies.

    Raises QuorateError when it cannot start, UnrecoverableError when it must not go on.
    """
    config = load_config(home)
    configure_logs(config.log_file)
    key = open_key(config.keystore, config.passphrase_file)
    gateway = JsonRpcGateway(config.rpc_url, Deployment.load(config.deployment))
    gateway.check()
    asyncio.run(Node(config, key, gateway, core).run())


class Node:
    """One node process."""

    def __init__(self, config: NodeConfig, key: SigningAccount, gateway: JsonRpcGateway, core: CoreType) -> None:
        self._config, self._key, self._gateway = config, key, gateway
        self._owner = parse_address(config.owner) if config.owner else key.address
        self._is_local = gateway.deployment.chain_id in LOCAL_CHAIN_IDS
        self._log = get_logger()
        self._metrics = metrics_module.Metrics()
        self._core = core(self._identify(), self._describe_network(), self._settings())
        self._messenger = HttpMessenger(is_local=self._is_local)
        self._agent = Agent(self._core, ChainWatcher(gateway), self._on_chain)
        self._pool: WorkerPool | None = None
        self._pool_lock = asyncio.Lock()
        self._is_ready = False

    # parts --------------------------------------------------------------------------------------------------------

    def _identify(self) -> Identity:
        operator_id = self._gateway.operator_of(self._owner)
        if not operator_id and not self._config.collator:
            owner = self._owner.hex()
            raise ConfigurationError(f"0x{owner} owns no operator here: `quorate-node stake` first, or set its owner")
        if operator_id and self._gateway.operator(operator_id).signing_key != self._key.address:
            raise ConfigurationError(
                f"operator {operator_id} signs with another key than {self._config.keystore}: use that keystore"
            )
        return Identity(OperatorId(operator_id), self._key.address)

    def _describe_network(self) -> Network:
        deployment = self._gateway.deployment
        return Network(deployment.chain_id, deployment.market, self._gateway.domain_separator(), self._gateway.params())

    def _settings(self) -> Settings:
        config = self._config
        limits = Limits(max_fuel=config.max_fuel, max_input_bytes=config.max_input_bytes)
        return Settings(config.classes, config.collator, config.fee_wei, limits)

    def _on_chain(self) -> None:
        self._messenger.view = self._core.state.chain

    async def _get_executor(self) -> Executor:
        from quorate_node.executor.pool import WorkerPool  # it knows wasmtime: not before we are ready

        async with self._pool_lock:
            if self._pool is None:
                home = self._config.home
                # Machine code in the cache is believed only with our key's mark.
                secret = keccak(b"quorate-code-cache" + self._key.key)
                pool = WorkerPool(self._config.workers, home / "store", home / "code", secret=secret)
                await pool.start()
                self._pool = pool
        return self._pool

    # life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until stopped."""
        config, core = self._config, self._core
        listener = open_listener(config.host, config.port)
        journal = Journal(config.home / JOURNAL_FILE)
        store = EmbeddedStore(config.home / "store")
        collator = Collator(core, self._gateway, config.home / "hints.jsonl") if config.collator else None
        hints: Callable[[bytes], list[str]] = collator.hints if collator else lambda _: []
        execution = ExecutionService(store, self._get_executor, self._messenger, config.url, self._is_local, hints)

        def on_posted(post: Post, block: int) -> None:
            if collator is not None:
                collator.on_posted(post.orders, block)

        performer = Performer(
            core, self._key, self._gateway, journal, self._messenger, execution, self._metrics, self._agent.feed,
            on_posted,
        )  # fmt: skip
        self._agent.performer = performer
        self._restore(journal, performer)
        server = QuietServer(
            uvicorn.Config(
                build_app(self._services(store, performer, collator)),
                log_config=None, lifespan="off", access_log=False, backlog=BACKLOG, timeout_graceful_shutdown=2,
            )
        )  # fmt: skip
        try:
            await self._serve(server, listener)
        finally:
            if self._pool is not None:
                await self._pool.close()
            await self._messenger.close()
            journal.close()
            store.close()

    def _restore(self, journal: Journal, performer: Performer) -> None:
        if journal.torn_bytes:
            self._log.warning("torn journal tail cut off", bytes=journal.torn_bytes)
        groups = journal.groups[-MAX_RESTORED:]
        journal.groups = []
        for group in groups:
            performer.remember_leaves(group)
        self._agent.restore([GroupJournaled(group) for group in groups])

    def _services(self, store: EmbeddedStore, performer: Performer, collator: Collator | None) -> Services:
        core, metrics = self._core, self._metrics
        return Services(
            store=store,
            get_state=lambda: core.state,
            feed=self._agent.feed,
            get_leaves=performer.leaves.get,
            render_metrics=lambda: (metrics.render(core.state), metrics_module.CONTENT_TYPE),
            count_order=lambda outcome: metrics.count("orders", outcome),
            is_ready=lambda: self._is_ready,
            collator=collator,
            import_quota_bytes=self._config.import_bytes,
        )

    async def _serve(self, server: QuietServer, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._agent.stop)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        background: list[asyncio.Task[None]] = []
        try:
            await self._agent.sync()
            deciding = asyncio.create_task(self._agent.run())
            await self._announce()
            self._is_ready = True
            background.append(asyncio.create_task(self._warm_up()))
            print(f"ready {self._config.url} operator {self._core.state.identity.operator_id}", flush=True)
            await deciding
        finally:
            for task in background:
                task.cancel()
            server.should_exit = True
            await asyncio.gather(serving, *background, return_exceptions=True)

    async def _announce(self) -> None:
        """Tell the chain where this node answers, if that has changed."""
        operator_id = self._core.state.identity.operator_id
        view = self._core.state.chain.operators.get(operator_id)
        url = self._config.url
        if view is None or view.url == url:
            return
        if self._owner != self._key.address:
            self._log.warning("endpoint not announced", url=url, reason="only the owner's key can: announceEndpoint")
            return
        try:
            async with asyncio.timeout(ANNOUNCE_S):
                await asyncio.to_thread(_send, self._gateway, self._key, calls.announce_endpoint(url))
        except (QuorateError, TimeoutError) as error:
            self._log.warning("endpoint not announced", url=url, error=str(error))

    async def _warm_up(self) -> None:
        """Start workers before the first job, but after everything that a person waits for."""
        await asyncio.sleep(WARM_UP_S)
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await self._get_executor()
            except QuorateError as error:
                self._log.error("workers did not start", error=str(error))


class QuietServer(uvicorn.Server):
    """Leaves signals to the node."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing to capture."""
        yield


def _send(gateway: JsonRpcGateway, key: SigningAccount, call: calls.Call) -> None:
    gateway.wait(gateway.send(key, call), ANNOUNCE_S)


def open_listener(host: str, port: int) -> socket.socket:
    """A bound socket. Raises Busy when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
    except OSError as error:
        listener.close()
        raise Busy(f"cannot listen on {host}:{port} ({error.strerror}): choose another port with `listen`") from error
    return listener
