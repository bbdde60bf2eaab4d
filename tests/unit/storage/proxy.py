"""A relay between a store and its daemon that may change, count or cut what passes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

Hook = Callable[[bytes], bytes]


def _pass(data: bytes) -> bytes:
    return data


class Proxy:
    """Listens at `url` and relays to `target`, a URL that may be changed; `to_daemon` and `to_client` see all bytes."""

    def __init__(self, target: str, *, to_daemon: Hook = _pass, to_client: Hook = _pass) -> None:
        self.target, self.to_daemon, self.to_client = target, to_daemon, to_client
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            parts = urlsplit(self.target)
            try:
                daemon = socket.create_connection((parts.hostname, parts.port))
            except OSError:
                client.close()
                continue
            for source, sink, name in ((client, daemon, "to_daemon"), (daemon, client, "to_client")):
                threading.Thread(target=self._relay, args=(source, sink, name), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(getattr(self, name)(data))
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()  # with bytes unread this tells the sender at once, as the end of a process does

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
