"""Putting a node together and running it: the only place where all its parts meet."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from quorate.chain.account import SigningAccount
from quorate.chain.gateway import JsonRpcGateway
from quorate.chain.types import Deployment, parse_address
from quorate.protocol.container import DOCKER_PROFILE
from quorate.protocol.errors import Busy, ConfigurationError, QuorateError, RecoverableError
from quorate.protocol.hashing import keccak
from quorate.protocol.spec import WASM_PROFILE
from quorate.protocol.types import Address, OperatorId
from quorate.storage.connections import GuardedServer, configure, raise_descriptor_limit
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.opening import open_store
from quorate_node import metrics as metrics_module
from quorate_node.agent import Agent
from quorate_node.beside import Beside
from quorate_node.collator import Collator
from quorate_node.config import HINTS_FILE, NodeConfig, load_config
from quorate_node.core.core import Core
from quorate_node.core.farm import Farm
from quorate_node.core.instructions import Post
from quorate_node.core.rehearsal import RehearsingCore
from quorate_node.core.state import Identity, Network, Settings
from quorate_node.core.stimuli import GroupJournaled
from quorate_node.desk import Desk, Forwarding
from quorate_node.endpoints import announce_endpoints
from quorate_node.exchange import RootExchange
from quorate_node.execution import ExecutionService
from quorate_node.executor.dispatcher import Dispatcher
from quorate_node.filecoin.reading import open_source
from quorate_node.following import ConfigFollower, choose_classes
from quorate_node.gateway.app import Services, build_app
from quorate_node.hints import Hints
from quorate_node.inquiry import Inquirer
from quorate_node.joblog import JobLog, LogGatherer
from quorate_node.journal import Journal
from quorate_node.keystore import derive_keys, open_key
from quorate_node.logs import configure_logs, get_logger
from quorate_node.mailbox import Mailbox
from quorate_node.neighbours import Counterpart, Neighbours
from quorate_node.performer import LeafShelf, Performer, Tools
from quorate_node.providers import LOCAL_CHAIN_IDS
from quorate_node.room import Room, RoomLimits
from quorate_node.roots import Holders, OwnRoots
from quorate_node.traffic import Traffic
from quorate_node.watcher import ChainWatcher

if TYPE_CHECKING:
    from quorate_node.executor.docker_executor import DockerExecutor
    from quorate_node.executor.pool import WorkerPool

WARM_UP_S = 0.5
FOLLOW_S = 0.5
MAX_RESTORED = 50_000
THREADS = 32  # most of them wait for the chain

CoreType = Callable[[Identity, Network, Settings], Core]


def run_node(home: Path, core: CoreType = Core, operators: int | None = None, is_dry: bool = False) -> None:
    """Run a node in the foreground until SIGTERM or SIGINT. `core` makes an operator's mind; tests give some that lie.
    `operators` is how many it runs from now on; those of its configuration unless told. A dry run needs none: it
    executes what others were accepted for, and tells what would have come of it.

    Raises QuorateError when it cannot start, UnrecoverableError when it must not go on.
    """
    config = load_config(home, operators)
    raise_descriptor_limit()
    configure_logs(config.log_file)
    key = open_key(config.keystore, config.passphrase_file)
    gateway = JsonRpcGateway(config.rpc_url, Deployment.load(config.deployment))
    gateway.check()
    keys = derive_keys(key, config)
    if is_dry:
        check_unstaked(gateway, [parse_address(config.owner)] if config.owner else [each.address for each in keys])
        keys = keys[:1]
    asyncio.run(Node(config, keys, gateway, RehearsingCore if is_dry else core, is_dry=is_dry).run())


class Node:
    """One node process, with one or more operators."""

    def __init__(
        self,
        config: NodeConfig,
        keys: Sequence[SigningAccount],
        gateway: JsonRpcGateway,
        core: CoreType,
        *,
        is_dry: bool = False,
    ) -> None:
        self._config, self._keys, self._gateway, self._is_dry = config, tuple(keys), gateway, is_dry
        self._is_local = gateway.deployment.chain_id in LOCAL_CHAIN_IDS
        self._log = get_logger()
        self._metrics = metrics_module.Metrics()
        self._follower = ConfigFollower(config)
        network = self._describe_network()
        self._farm = Farm([core(self._identify(i), network, self._settings(i)) for i in range(len(keys))])
        self._neighbours = Neighbours(
            config, gateway.deployment, self._farm.chain, keys, is_local=self._is_local, is_dry=is_dry
        )
        self._messenger = self._neighbours.messenger
        self._metrics.follow(peer_requests=self._messenger.requests, **gateway.rpc.counts)
        own = [core.state.identity.operator_id for core in self._farm.cores]
        self._watcher = ChainWatcher(gateway, self._is_followed, own)
        self._agent = Agent(self._farm, self._watcher)
        self._store = EmbeddedStore(config.home / "store")
        self._beside = Beside(open_store(config.kubo), self._store) if config.kubo else None
        self._executors = Dispatcher({WASM_PROFILE: self._start_workers, DOCKER_PROFILE: self._start_containers})
        self._roots, self._holders = OwnRoots(), Holders(config.peers, self._neighbours.guess_holders)
        self._exchange = RootExchange(self._messenger, self._store, self._roots, self._holders)
        self._neighbours.get_roots = lambda: self._exchange.digest
        self._admission = config.admission
        limits = RoomLimits(config.store_bytes, config.spare_disk_bytes)
        self._room = Room(self._store, limits, self._roots, self._find_oldest_job)
        self._traffic = Traffic(config.traffic_file, config.serve_limits, config.fetch_limits)
        self._collator: Collator | None = None
        self._is_ready = False

    # parts --------------------------------------------------------------------------------------------------------

    def _identify(self, index: int) -> Identity:
        config, key = self._config, self._keys[index]
        if self._is_dry:
            return Identity(OperatorId(0), key.address)
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
        config, chosen = self._config, choose_classes(self._config)
        return Settings(
            chosen.classes, config.collator and index == 0 and not self._is_dry, config.fee_wei, config.limits,
            config.challenge_budget_wei, config.watch_bps, config.reveal_depth, chosen.profiles, config.guard,
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

        executor = DockerExecutor(self._config.docker, self._store)
        await executor.start()
        return executor

    def _is_followed(self, class_id: int) -> bool:
        """Whether orders for a class may come here, or it is kept alive from here."""
        settings = self._farm.first.state.settings
        return settings.is_collator or class_id in settings.classes

    def _find_oldest_job(self) -> float | None:
        """When the oldest job in progress was posted, by this host's clock; now where there is none."""
        if not self._is_ready:
            return None
        chain, now = self._farm.chain, time.time()
        opened = [batch.opened_at for batch in list(chain.batches.values())]
        # Chains have clocks of their own: only differences count.
        return now - max(0.0, max(now, chain.head.timestamp) - min(opened)) if opened else now

    # life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until stopped."""
        config = self._config
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "node"))
        journals: list[Journal] = []
        try:
            # The journals first: whoever has them is a node of this home, which an address in use would not tell.
            journals.extend(Journal(config.journal(index)) for index in range(len(self._keys)))
            self._traffic.load()
            listener = open_listener(config.host, config.port)
            app = build_app(self._assemble(journals))
            server = QuietServer(configure(app, log_config=None, lifespan="off", timeout_graceful_shutdown=2))
            await self._serve(server, listener)
        finally:
            await self._executors.close()
            await self._messenger.close()
            for journal in journals:
                journal.close()
            if self._beside is not None:
                self._beside.close()
            self._traffic.save()
            self._store.close()

    def _assemble(self, journals: Sequence[Journal]) -> Services:
        """Everything that runs beside the cores; afterwards they know what their journals held."""
        config, store, first, metrics, leaves = (
            self._config, self._store, self._farm.first, self._metrics, LeafShelf(),
        )  # fmt: skip
        hints = Hints(config.home / HINTS_FILE)
        collator = Collator(first, self._gateway, hints, store) if config.collator and not self._is_dry else None
        self._collator = collator
        mailbox, log = Mailbox(lambda: first.state, partial(self._agent.feed, first)), JobLog()

        def on_posted(post: Post, block: int) -> None:
            if collator is not None:
                collator.on_posted(post.orders, block)

        def find_providers(job_id: bytes) -> list[str]:
            return [*hints.get(job_id), *self._neighbours.find_providers(job_id)]

        execution = ExecutionService(
            store, self._executors, self._messenger, config.url, self._is_local, find_providers,
            config.share_executions, config.limits, self._roots, self._holders, self._beside, self._admission,
            self._room, self._traffic.fetched, open_source(config) if config.filecoin else None,
        )  # fmt: skip
        tools = Tools(
            self._gateway, self._messenger, mailbox, execution, metrics, leaves, config.url, on_posted, log
        )  # fmt: skip
        performers: dict[Core, Performer] = {}
        for core, key, journal in zip(self._farm.cores, self._keys, journals, strict=True):
            performers[core] = Performer(core, key, journal, tools, partial(self._agent.feed, core))
            self._restore(core, journal, leaves)
        self._agent.performers = performers
        states = [core.state for core in self._farm.cores]
        desk = self._open_desk(mailbox, collator)
        services = Services(
            store=store,
            get_states=lambda: states,
            desk=desk,
            get_leaves=leaves.get,
            render_metrics=lambda: (
                metrics.render(states, execution.book.received_bytes, self._room.figures, self._traffic.meters),
                metrics_module.CONTENT_TYPE,
            ),
            is_ready=lambda: self._is_ready,
            hints=hints,
            logs=LogGatherer(log, self._farm.chain, self._messenger, config.url),
            inquirer=Inquirer(self._messenger, config.url),
            roots=self._roots,
            room=self._room,
            traffic=self._traffic,
            is_dry=self._is_dry,
            describe_p2p=self._neighbours.describe,
            denied=self._admission.denied,
            import_quota_bytes=config.import_bytes,
        )
        self._neighbours.attach(
            Counterpart(
                desk, collator, hints, log, lambda: first.state, services.describe, lambda: self._watcher.spacing_s
            ),
            self._gateway.deployment,
        )
        return services

    def _open_desk(self, mailbox: Mailbox, collator: Collator | None) -> Desk:
        forwarding = Forwarding(self._messenger, self._neighbours.find_collators)
        return Desk(
            mailbox, collator, forwarding, lambda: self._is_ready,
            lambda outcome: self._metrics.count("orders", outcome), self._neighbours.tell_order,
        )  # fmt: skip

    def _restore(self, core: Core, journal: Journal, leaves: LeafShelf) -> None:
        if journal.torn_bytes:
            self._log.warning("torn journal tail cut off", bytes=journal.torn_bytes)
        groups = journal.groups[-MAX_RESTORED:]
        journal.groups = []
        for group in groups:
            leaves.put(group)
        self._agent.restore(core, [GroupJournaled(group) for group in groups])

    async def _serve(self, server: QuietServer, listener: socket.socket) -> None:
        loop, config = asyncio.get_running_loop(), self._config
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._agent.stop)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        background: list[asyncio.Task[None]] = []
        try:
            await self._agent.sync()
            deciding = asyncio.create_task(self._agent.run())
            ids = [core.state.identity.operator_id for core in self._farm.cores]
            await announce_endpoints(
                self._gateway, self._farm.chain, list(zip(ids, self._keys, strict=True)), config.url
            )
            self._is_ready = True
            background += [
                asyncio.create_task(each)
                for each in (
                    self._warm_up(),
                    self._tell_shortage(),
                    self._exchange.run(),
                    self._follow(),
                    self._traffic.run(),
                    self._neighbours.run(self._holders.meet),
                )
            ]
            ids = [core.state.identity.operator_id for core in self._farm.cores]
            which = f"operator {ids[0]}" if len(ids) == 1 else f"operators {min(ids)} to {max(ids)}, {len(ids)} in all"
            which = "dry run: nothing is committed" if self._is_dry else which
            print(f"ready {config.url} {which}", flush=True)
            await deciding
        finally:
            for task in background:
                task.cancel()
            server.should_exit = True
            await asyncio.gather(serving, *background, return_exceptions=True)

    async def _follow(self) -> None:
        """Hear of the classes that the operator joins or leaves meanwhile."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            try:
                chosen = self._follower.poll()
            except ConfigurationError as error:
                self._log.error("settings not read again", error=str(error))
                continue
            if chosen is not None:
                self._log.info("classes chosen", classes=list(chosen.classes))
                for core in self._farm.cores:
                    self._agent.feed(core, chosen)

    async def _tell_shortage(self) -> None:
        """A collator that cannot post says so at once: its operator has only just started it."""
        try:
            if self._collator is not None and (problem := await self._collator.find_shortage()) is not None:
                self._log.warning("no bond to collate with", problem=problem)
        except RecoverableError as error:
            self._log.warning("deposit not read", error=str(error))

    async def _warm_up(self) -> None:
        """Start workers before the first job, but after everything that a person waits for; and clear away what this
        node left of containers, if it ever ran any."""
        await asyncio.sleep(WARM_UP_S)
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await self._executors.find(WASM_PROFILE)
                if self._config.docker.scratch.exists():
                    await self._executors.find(DOCKER_PROFILE)
            except QuorateError as error:
                self._log.error("workers did not start", error=str(error))


def check_unstaked(gateway: JsonRpcGateway, owners: Sequence[Address]) -> None:
    """Raise ConfigurationError for an operator in a class: a dry run would leave its seats silent, and it be fined."""
    for owner in owners:
        operator_id = gateway.operator_of(owner)
        if operator_id and gateway.operator(operator_id).allocated:
            raise ConfigurationError(
                f"operator {operator_id} is in classes, and a dry run votes for nobody: it would be fined for silence. "
                "Make a home without stake with `quorate-node init --home NEW`, or `quorate-node drain` this one"
            )


class QuietServer(GuardedServer):
    """Leaves signals to the node."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing to capture."""
        yield


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
