"""What `quorate-node gateway` does: a store over HTTP in the foreground."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from quorate.protocol.errors import ConfigurationError
from quorate.storage.connections import GuardedServer, configure, raise_descriptor_limit
from quorate.storage.denylist import DenyList
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import gateway_routes
from quorate.storage.rpc import rpc_routes
from quorate.storage.serve import bind

Announce = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Options:
    """`listen` is HOST:PORT; `api` allows writing by the RPC, at most `max_upload` bytes at once; `deny` a file."""

    listen: str
    api: bool
    max_upload: int
    deny: Path | None


def serve(store: EmbeddedStore, options: Options, announce: Announce) -> None:
    """Until SIGINT or SIGTERM; raises Busy when the port is taken."""
    host, port = parse_listen(options.listen)
    is_local = is_loopback(host)
    if options.api and not is_local:
        raise ConfigurationError(
            f"--api lets whoever reaches {host} write to the store; listen on 127.0.0.1, and forward what you trust"
        )
    denied = DenyList(options.deny and options.deny.expanduser())
    routes = list(gateway_routes(store, denied))
    if is_local:
        routes += rpc_routes(store, denied, may_write=options.api, max_upload_bytes=options.max_upload)
    listener = bind(port, host)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    raise_descriptor_limit()
    config = configure(Starlette(routes=routes), lifespan="off", timeout_graceful_shutdown=2, timeout_keep_alive=30)
    server = _Server(config, lambda: announce({"url": url, "store": str(store.directory), "api": options.api}))
    with listener:
        server.run(sockets=[listener])


class _Server(GuardedServer):
    """Says when it is ready, and ends by a signal as by any other reason: with 0."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def parse_listen(text: str) -> tuple[str, int]:
    """HOST and PORT; ConfigurationError for anything else."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(f"{text!r} is not HOST:PORT; write for example 127.0.0.1:8080, or [::1]:8080")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
