"""One provider process: its records, its chain, its routes, and its end, at which all vouchers are redeemed."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn

from quorate.chain.abi import Contract
from quorate.chain.account import SigningAccount
from quorate.chain.types import parse_address, to_hex
from quorate.filecoin.networks import DEVNET_CHAIN_ID, Settings
from quorate.filecoin.pay import PayChain
from quorate.filecoin.payments import TokenDomain
from quorate.filecoin.secrecy import forbid_dumps
from quorate.protocol.errors import Busy, ChainUnavailable, ConfigurationError, ProtocolViolation
from quorate.storage.connections import GuardedServer, configure, raise_descriptor_limit
from quorate.storage.denylist import DenyList
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.serve import bind
from quorate_node.filecoin.provider.adding import Home
from quorate_node.filecoin.provider.app import Services, build_app
from quorate_node.filecoin.provider.catalog import Catalog
from quorate_node.filecoin.provider.desk import Desk, Shop
from quorate_node.filecoin.provider.indexing import load_identity, to_multiaddr
from quorate_node.filecoin.provider.offers import DEVNET_TIMEOUT_S, MAX_TIMEOUT_S, Seller
from quorate_node.filecoin.provider.pieces import PieceReader
from quorate_node.filecoin.provider.railbook import MIN_LOCKUP_PERIOD, RailBook
from quorate_node.filecoin.provider.redeeming import EVERY_S, WATCH_S, Redeemer
from quorate_node.filecoin.provider.sending import Outlet
from quorate_node.filecoin.provider.tally import Tally
from quorate_node.filecoin.provider.till import Till
from quorate_node.keystore import open_key

CHAIN_TIMEOUT_S = 15.0
MAX_CONNECTIONS = 1024
STOP_S = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What `run` was told. `network` is a file with an endpoint and contracts; without one only free data is given."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 8300
    announce: str | None = None
    network: Path | None = None
    rpc_url: str | None = None
    payee: str | None = None
    key_file: Path | None = None
    passphrase_file: Path | None = None
    deny_file: Path | None = None
    redeem_every_s: float = EVERY_S
    watch_s: float = WATCH_S
    min_lockup_period: int = MIN_LOCKUP_PERIOD


@dataclass(frozen=True, slots=True)
class Business:
    """The paid side of a provider."""

    seller: Seller
    desk: Desk
    redeemer: Redeemer


def run_provider(options: Options) -> None:
    """Until SIGTERM or SIGINT. Raises Busy when home or port is in use, ConfigurationError, ChainUnavailable."""
    forbid_dumps()
    raise_descriptor_limit()
    home = Home(options.home)
    with ExitStack() as stack:
        stack.enter_context(_locked(home))
        store = stack.enter_context(closing(EmbeddedStore(home.store)))
        catalog = stack.enter_context(closing(Catalog(home.catalog)))
        listener = stack.enter_context(closing(bind(options.port, options.host.strip("[]"))))
        port = listener.getsockname()[1]
        url = (options.announce or f"http://{options.host}:{port}").rstrip("/")
        to_multiaddr(url)
        tally = Tally()
        outlet = Outlet(lambda count: tally.count("sent_bytes", number=count))
        stack.callback(outlet.close)
        business = _open_business(home, options, tally, stack)
        services = Services(
            home, catalog, store, PieceReader(store, catalog), outlet, tally, url, load_identity(home.identity),
            business.desk if business else None, business.seller if business else None,
            DenyList(options.deny_file) if options.deny_file else DenyList(),
        )  # fmt: skip
        if business is None and any(not each.is_free for each in catalog.list_all()):
            print("note: without --network what has a price is not given", file=sys.stderr)
        try:
            with asyncio.Runner(loop_factory=_make_loop) as runner:
                runner.run(_serve(services, listener, business))
        finally:
            if business is not None and (owed := business.redeemer.stop()):
                print(f"note: vouchers of {owed} base units are kept, and not redeemed yet", file=sys.stderr)


def _open_business(home: Home, options: Options, tally: Tally, stack: ExitStack) -> Business | None:
    settings = _load_settings(home, options)
    if settings is None:
        return None
    key = _open_key(options)
    till = stack.enter_context(closing(Till(home.till)))
    chain = stack.enter_context(closing(PayChain(settings.rpc_url, settings.contracts, timeout_s=CHAIN_TIMEOUT_S)))
    chain.check()
    settings.save(home.network)
    payee = parse_address(options.payee) if options.payee else key.address
    contracts = settings.contracts
    timeout_s = DEVNET_TIMEOUT_S if contracts.chain_id == DEVNET_CHAIN_ID else MAX_TIMEOUT_S
    places = (to_hex(payee), to_hex(contracts.pay), to_hex(contracts.operator))
    seller = Seller(contracts.currency, *places, read_domain(chain), timeout_s)
    book = RailBook(chain, payee, options.min_lockup_period)
    desk = Desk(Shop(till, chain, book, seller, key))
    desk.finish_pending()
    every_s, watch_s = options.redeem_every_s, options.watch_s
    return Business(seller, desk, Redeemer(till, chain, key, tally, every_s=every_s, watch_s=watch_s))


def _load_settings(home: Home, options: Options) -> Settings | None:
    path = options.network or (home.network if home.network.exists() else None)
    if path is None:
        if options.rpc_url or options.key_file or options.payee:
            raise ConfigurationError("which contracts? --network FILE names the chain's endpoint and contracts")
        return None
    settings = Settings.load(path.expanduser())
    return replace(settings, rpc_url=options.rpc_url) if options.rpc_url else settings


def _open_key(options: Options) -> SigningAccount:
    """The key that sends transactions, and pays their gas."""
    if options.key_file is None:
        raise ConfigurationError(
            "to be paid a key is needed that sends transactions: --key-file KEYSTORE, and --payee ADDRESS if another"
            " account is to get the money"
        )
    return open_key(options.key_file.expanduser(), options.passphrase_file)


def read_domain(chain: PayChain) -> TokenDomain | None:
    """The token's EIP-712 domain, None where it does not know EIP-3009. Raises ChainUnavailable."""
    nobody, token = bytes(20), Contract.TOKEN
    reads = [(token, "name", ()), (token, "version", ()), (token, "authorizationState", (nobody, bytes(32)))]
    try:
        (name,), (version,), _ = chain.read_many(reads)
    except (ProtocolViolation, ChainUnavailable):
        chain.head()  # no answer at all is something else
        return None
    return TokenDomain(str(name), str(version))


def _make_loop() -> asyncio.AbstractEventLoop:
    """The faster one where it is installed: the standard one copies what it sends several times."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class _Server(GuardedServer):
    """Leaves signals to `_serve`, and tells when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(services: Services, listener: socket.socket, business: Business | None) -> None:
    config = configure(
        build_app(services),
        log_config=None,
        lifespan="off",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=STOP_S,
    )

    def be_ready() -> None:
        if business is not None:
            business.redeemer.start()
        payee = f"payee {business.seller.payee}" if business else "free data only"
        print(f"ready {services.base_url} {payee}", flush=True)

    server, loop = _Server(config, be_ready), asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await server.serve(sockets=[listener])


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    """One provider a home: two would each deliver what was paid once."""
    try:
        home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(home.lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{home.path} cannot be used: {error.strerror}; give another --home") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"a provider runs in {home.path}: stop it, or give another --home") from None
        yield
    finally:
        os.close(descriptor)
