"""A web application on loopback for as long as somebody needs it: a client's input, a test's provider."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from quorate.protocol.errors import Busy, ConfigurationError, UnrecoverableError
from quorate.storage.connections import ConnectionLimits, GuardedServer, configure

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_START_S = 15.0
_STOP_S = 5


class LoopbackServer:
    """Runs `app` by uvicorn in a thread of its own; a context manager, sync or async.

    `port` 0 takes a free one; `limits` are those of its connections. Busy when the port is taken. Only this machine
    can reach it: it binds 127.0.0.1.
    """

    def __init__(self, app: ASGIApp, port: int = 0, limits: ConnectionLimits | None = None) -> None:
        self._socket = bind(port)
        self.port: int = self._socket.getsockname()[1]
        config = configure(app, limits=limits, timeout_graceful_shutdown=_STOP_S, timeout_keep_alive=30)
        self._server = GuardedServer(config)
        self._thread = threading.Thread(target=self._run, name=f"loopback-{self.port}", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns once the server answers."""
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                raise UnrecoverableError(f"the server on {self.url} did not start; its log says why")
            time.sleep(0.002)

    def stop(self) -> None:
        """Ends open requests after a few seconds' grace and frees the port; may be called twice."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
            self._server.force_exit = True
            self._thread.join(_STOP_S)
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def __enter__(self) -> LoopbackServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> LoopbackServer:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *_: Any) -> None:
        await asyncio.to_thread(self.stop)


def bind(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A bound socket; Busy when the port is taken, ConfigurationError for a host that is not this one."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise Busy(
                f"port {port} on {host} is taken; stop what uses it, or choose another (0 takes a free one)"
            ) from None
        raise ConfigurationError(f"{host} is no address of this machine: {error.strerror}; try 127.0.0.1") from error
    return listener
