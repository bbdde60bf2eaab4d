"""Putting a node together and running it: the only place where all its parts meet."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from quorate.chain import calls
from quorate.chain.account import SigningAccount
from quorate.chain.gateway import JsonRpcGateway
from quorate.chain.types import Deployment, parse_address
from quorate.protocol.container import DOCKER_PROFILE
from quorate.protocol.errors import Busy, ConfigurationError, QuorateError
from quorate.protocol.hashing import keccak
from quorate.protocol.spec import WASM_PROFILE
from quorate.protocol.types import OperatorId
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.opening import open_store
from quorate_node import metrics as metrics_module
from quorate_node.agent import Agent
from quorate_node.beside import Beside
from quorate_node.collator import Collator
from quorate_node.config import NodeConfig, load_config
from quorate_node.core.core import Core
from quorate_node.core.farm import Farm
from quorate_node.core.instructions import Post
from quorate_node.core.state import Identity, Network, Settings
from quorate_node.core.stimuli import GroupJournaled
from quorate_node.exchange import RootExchange
from quorate_node.execution import ExecutionService
from quorate_node.executor.dispatcher import Dispatcher
from quorate_node.gateway.app import Services, build_app
from quorate_node.hints import Hints
from quorate_node.journal import Journal
from quorate_node.keystore import derive_keys, open_key
from quorate_node.logs import configure_logs, get_logger
from quorate_node.mailbox import Mailbox
from quorate_node.messaging import HttpMessenger
from quorate_node.performer import LeafShelf, Performer, Tools
from quorate_node.providers import LOCAL_CHAIN_IDS
from quorate_node.roots import Holders, OwnRoots
from quorate_node.watcher import ChainWatcher

if TYPE_CHECKING:
    from quorate_node.executor.docker_executor import DockerExecutor
    from quorate_node.executor.pool import WorkerPool

ANNOUNCE_S = 15.0
WARM_UP_S = 0.5
MAX_RESTORED = 50_000
BACKLOG = 512
THREADS = 32  # most of them wait for the chain

CoreType = Callable[[Identity, Network, Settings], Core]


def run_node(home: Path, core: CoreType = Core, operators: int | None = None) -> None:
    """Run a node in the foreground until SIGTERM or SIGINT. `core` makes an operator's mind; tests give some that lie.
    `operators` is how many it runs from now on; those of its configuration unless told.

    Raises QuorateError when it cannot start, UnrecoverableError when it must not go on.
    """
    config = load_config(home, operators)
    configure_logs(config.log_file)
    key = open_key(config.keystore, config.passphrase_file)
    gateway = JsonRpcGateway(config.rpc_url, Deployment.load(config.deployment))
    gateway.check()
    asyncio.run(Node(config, derive_keys(key, config), gateway, core).run())


class Node:
    """One node process, with one or more operators."""

    def __init__(
        self, config: NodeConfig, keys: Sequence[SigningAccount], gateway: JsonRpcGateway, core: CoreType
    ) -> None:
        self._config, self._keys, self._gateway = config, tuple(keys), gateway
        self._is_local = gateway.deployment.chain_id in LOCAL_CHAIN_IDS
        self._log = get_logger()
        self._metrics = metrics_module.Metrics()
        network = self._describe_network()
        self._farm = Farm([core(self._identify(i), network, self._settings(i)) for i in range(len(keys))])
        self._messenger = HttpMessenger(self._farm.chain, is_local=self._is_local)
        self._agent = Agent(self._farm, ChainWatcher(gateway))
        self._store = EmbeddedStore(config.home / "store")
        self._beside = Beside(open_store(config.kubo), self._store) if config.kubo else None
        self._executors = Dispatcher({WASM_PROFILE: self._start_workers, DOCKER_PROFILE: self._start_containers})
        self._roots, self._holders = OwnRoots(), Holders(config.peers)
        self._exchange = RootExchange(self._messenger, self._store, self._roots, self._holders)
        self._is_ready = False

    # parts --------------------------------------------------------------------------------------------------------

    def _identify(self, index: int) -> Identity:
        config, key = self._config, self._keys[index]
        owner = parse_address(config.owner) if config.owner else key.address
        operator_id = self._gateway.operator_of(owner)
        if not operator_id and (index or not config.collator):
            raise ConfigurationError(
                f"0x{owner.hex()} owns no operator here: `quorate-node stake` first, or set its owner"
            )
        if operator_id and self._gateway.operator(operator_id).signing_key != key.address:
            raise ConfigurationError(
                f"operator {operator_id} signs with another key than {config.keystore}: use that keystore"
            )
        return Identity(OperatorId(operator_id), key.address)

    def _describe_network(self) -> Network:
        deployment = self._gateway.deployment
        separator, params = self._gateway.domain_separator(), self._gateway.params()
        return Network(deployment.chain_id, deployment.market, separator, params, deployment.disputes)

    def _settings(self, index: int) -> Settings:
        config = self._config
        return Settings(
            config.classes, config.collator and index == 0, config.fee_wei, config.limits,
            config.challenge_budget_wei, config.watch_bps, config.reveal_depth,
            Settings().profiles | {each.digest for each in config.descriptions},
        )  # fmt: skip

    async def _start_workers(self) -> WorkerPool:
        from quorate_node.executor.pool import WorkerPool  # it knows wasmtime: not before we are ready

        home = self._config.home
        # Machine code in the cache is believed only with our key's mark.
        secret = keccak(b"quorate-code-cache" + self._keys[0].key)
        most = float(self._config.ceilings.compile_seconds)
        pool = WorkerPool(self._config.workers, home / "store", home / "code", secret=secret, compile_s=most)
        await pool.start()
        return pool

    async def _start_containers(self) -> DockerExecutor:
        from quorate_node.executor.docker_executor import DockerExecutor  # it takes a while to import

        return DockerExecutor(self._config.docker, self._store)

    # life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until stopped."""
        config = self._config
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "node"))
        journals: list[Journal] = []
        try:
            listener = open_listener(config.host, config.port)
            journals.extend(Journal(config.journal(index)) for index in range(len(self._keys)))
            server = QuietServer(
                uvicorn.Config(
                    build_app(self._assemble(journals)),
                    log_config=None, lifespan="off", access_log=False, backlog=BACKLOG, timeout_graceful_shutdown=2,
                )
            )  # fmt: skip
            await self._serve(server, listener)
        finally:
            await self._executors.close()
            await self._messenger.close()
            for journal in journals:
                journal.close()
            if self._beside is not None:
                self._beside.close()
            self._store.close()

    def _assemble(self, journals: Sequence[Journal]) -> Services:
        """Everything that runs beside the cores; afterwards they know what their journals held."""
        config, store, first, metrics, leaves = (
            self._config, self._store, self._farm.first, self._metrics, LeafShelf(),
        )  # fmt: skip
        hints = Hints(config.home / "hints.jsonl")
        collator = Collator(first, self._gateway, hints, store) if config.collator else None
        mailbox = Mailbox(lambda: first.state, partial(self._agent.feed, first))

        def on_posted(post: Post, block: int) -> None:
            if collator is not None:
                collator.on_posted(post.orders, block)

        execution = ExecutionService(
            store, self._executors, self._messenger, config.url, self._is_local, hints.get, config.share_executions,
            config.limits, self._roots, self._holders, self._beside,
        )  # fmt: skip
        tools = Tools(
            self._gateway, self._messenger, mailbox, execution, metrics, leaves, config.url, on_posted
        )  # fmt: skip
        performers: dict[Core, Performer] = {}
        for core, key, journal in zip(self._farm.cores, self._keys, journals, strict=True):
            performers[core] = Performer(core, key, journal, tools, partial(self._agent.feed, core))
            self._restore(core, journal, leaves)
        self._agent.performers = performers
        states = [core.state for core in self._farm.cores]
        return Services(
            store=store,
            get_states=lambda: states,
            mailbox=mailbox,
            get_leaves=leaves.get,
            render_metrics=lambda: (metrics.render(states), metrics_module.CONTENT_TYPE),
            count_order=lambda outcome: metrics.count("orders", outcome),
            is_ready=lambda: self._is_ready,
            collator=collator,
            hints=hints,
            roots=self._roots,
            import_quota_bytes=config.import_bytes,
        )

    def _restore(self, core: Core, journal: Journal, leaves: LeafShelf) -> None:
        if journal.torn_bytes:
            self._log.warning("torn journal tail cut off", bytes=journal.torn_bytes)
        groups = journal.groups[-MAX_RESTORED:]
        journal.groups = []
        for group in groups:
            leaves.put(group)
        self._agent.restore(core, [GroupJournaled(group) for group in groups])

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
            background += [asyncio.create_task(self._warm_up()), asyncio.create_task(self._exchange.run())]
            ids = [core.state.identity.operator_id for core in self._farm.cores]
            which = f"operator {ids[0]}" if len(ids) == 1 else f"operators {min(ids)} to {max(ids)}, {len(ids)} in all"
            print(f"ready {self._config.url} {which}", flush=True)
            await deciding
        finally:
            for task in background:
                task.cancel()
            server.should_exit = True
            await asyncio.gather(serving, *background, return_exceptions=True)

    async def _announce(self) -> None:
        """Tell the chain where the operators answer, if that has changed."""
        pairs = zip(self._farm.cores, self._keys, strict=True)
        await asyncio.gather(*(self._announce_one(core.state.identity.operator_id, key) for core, key in pairs))

    async def _announce_one(self, operator_id: int, key: SigningAccount) -> None:
        view, url = self._farm.chain.operators.get(operator_id), self._config.url
        if view is None or view.url == url:
            return
        if view.owner != key.address:
            self._log.warning("endpoint not announced", url=url, reason="only the owner's key can: announceEndpoint")
            return
        try:
            async with asyncio.timeout(ANNOUNCE_S):
                await asyncio.to_thread(_send, self._gateway, key, calls.announce_endpoint(url))
        except (QuorateError, TimeoutError) as error:
            self._log.warning("endpoint not announced", url=url, error=str(error))

    async def _warm_up(self) -> None:
        """Start workers before the first job, but after everything that a person waits for."""
        await asyncio.sleep(WARM_UP_S)
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await self._executors.find(WASM_PROFILE)
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
