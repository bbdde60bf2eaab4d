"""A Kubo daemon's RPC, through `ipfshttpclient`: the one module that knows that library.

Nothing that comes out of here was checked against a CID; `kubo` does that. All requests are offline: a block is here or
it is not, and no look-up waits for the network. Errors: DaemonGone, DaemonRefused, ConfigurationError.
"""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import ipfshttpclient
import requests
import urllib3
from ipfshttpclient.exceptions import AddressError, CommunicationError, EncoderError, ErrorResponse, StatusError

from quorate.protocol.errors import ConfigurationError, ContentUnavailable, RecoverableError
from quorate.storage.cid import Cid

OLDEST = (0, 40)
CONNECT_S = 5.0
SILENCE_S = 60.0  # of the daemon, while it owes us bytes
WORK_S = 600.0  # while it walks a DAG to pin it, which it does in silence
_PIECE_BYTES = 64 * 1024
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BROKEN = (
    CommunicationError, EncoderError, requests.RequestException, urllib3.exceptions.HTTPError,
    http.client.HTTPException, OSError,
)  # fmt: skip


class DaemonGone(ContentUnavailable):
    """The Kubo daemon does not answer, or broke off in the middle."""


class DaemonRefused(RecoverableError):
    """The Kubo daemon says that it cannot do it."""


class KuboRpc:
    """The commands that a store needs. `address` is the URL or the multiaddr of the daemon's API.

    Any number of threads may use it: each request has a connection of its own while it lasts. The daemon is met at the
    first request, not before.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._multiaddr, self._is_loopback = parse_address(address)
        self._idle: list[ipfshttpclient.Client] = []
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._is_checked = False

    def has(self, cid: Cid) -> bool:
        """Whether the daemon says that it has this block."""
        with self._talk() as client:
            try:
                client.block.stat(str(cid), offline=True)
            except ErrorResponse as error:
                if _is_missing(error):
                    return False
                raise
            return True

    def get(self, cid: Cid, max_bytes: int) -> bytes | None:
        """What the daemon says that this block is, None when it has none; a longer one is cut after `max_bytes`."""
        received = bytearray()
        with self._talk() as client:
            try:
                pieces = _receive(client, "/block/get", cid)
                with closing(pieces):
                    for piece in pieces:
                        received += piece
                        if len(received) >= max_bytes:
                            break
            except ErrorResponse as error:
                if _is_missing(error):
                    return None
                raise
        return bytes(received[:max_bytes])

    def export(self, root: Cid) -> Iterator[bytes]:
        """The pieces of a CAR of a DAG; it ends early where a block is missing."""
        with self._talk() as client, closing(_receive(client, "/dag/export", root)) as pieces:
            yield from pieces

    def put(self, car: bytes) -> int:
        """Import the blocks of a CAR without pinning them; how many the daemon says it took."""
        options = {"pin-roots": "false", "stats": "true"}
        with self._talk() as client:
            # The first limit is for sending, too: a daemon that waits for its disk reads nothing meanwhile.
            answer = client.dag.imprt(BytesIO(car), opts=options, offline=True, timeout=(SILENCE_S, SILENCE_S))
            return int(answer["Stats"]["BlockCount"])

    def pin(self, root: Cid) -> None:
        """Pin a DAG that is here whole: for what is missing the daemon goes to the network, offline or not."""
        with self._talk() as client:
            client.pin.add(str(root), offline=True, timeout=(CONNECT_S, WORK_S))

    def unpin(self, root: Cid) -> None:
        """Remove a pin, if there is one."""
        with self._talk() as client:
            try:
                client.pin.rm(str(root))
            except ErrorResponse as error:
                if "not pinned" not in str(error):
                    raise

    def pins(self) -> list[Cid]:
        """Roots of all DAGs that are pinned whole, whoever pinned them."""
        with self._talk() as client:
            return [Cid.parse(str(text)) for text in client.pin.ls(type="recursive").get("Keys", ())]

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()

    @contextmanager
    def _talk(self) -> Iterator[ipfshttpclient.Client]:
        """A client for one request; it is kept for another one unless its connection is in doubt."""
        client = self._take()
        is_sound = False
        try:
            if not self._is_checked:
                self._check(client)
            yield client
            is_sound = True
        except ErrorResponse as error:
            raise DaemonRefused(f"the Kubo daemon at {self.address} refuses: {error}") from error
        except StatusError as error:
            raise ConfigurationError(
                f"{self.address} is no API of a Kubo daemon ({error}); `ipfs config Addresses.API` shows where one is"
            ) from error
        except (KeyError, TypeError, ValueError, AssertionError) as error:  # of the library, too
            raise DaemonRefused(f"{self.address} answers as no Kubo daemon does ({error!r})") from error
        except _BROKEN as error:
            raise DaemonGone(
                f"the Kubo daemon at {self.address} does not answer or broke off ({_explain(error)}); "
                "start it (`ipfs daemon`), then try again"
            ) from error
        finally:
            if is_sound:
                with self._lock:
                    self._idle.append(client)
            else:
                client.close()

    def _take(self) -> ipfshttpclient.Client:
        with self._lock:
            if self._owner != os.getpid():  # after a fork these connections are somebody else's
                self._idle, self._owner = [], os.getpid()
            if self._idle:
                return self._idle.pop()
        # Not `connect`, which warns of every daemon that is newer than the library.
        client = ipfshttpclient.Client(self._multiaddr, timeout=(CONNECT_S, SILENCE_S))
        client.__enter__()  # keeps its connection from one request to the next
        session: requests.Session = client._client._session
        session.trust_env = not self._is_loopback  # a proxy from the environment must not see loopback
        session.max_redirects = 0
        session.headers["Accept-Encoding"] = "identity"
        for adapter in session.adapters.values():
            assert isinstance(adapter, requests.adapters.HTTPAdapter)
            adapter.poolmanager.connection_pool_kw.pop("strict", None)  # urllib3 warns of it at every request
        return client

    def _check(self, client: ipfshttpclient.Client) -> None:
        shown = str(client.version()["Version"])
        try:
            version = tuple(map(int, shown.split("-")[0].split(".")))
        except ValueError:
            raise ConfigurationError(f"{self.address} is a daemon of version {shown[:40]!r}, not a Kubo") from None
        if version < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise ConfigurationError(f"the daemon at {self.address} is Kubo {shown}; {oldest} or newer is needed")
        self._is_checked = True


def parse_address(address: str) -> tuple[str, bool]:
    """A daemon's multiaddr, and whether it is on this machine; ConfigurationError."""
    text = address
    if not address.startswith("/"):
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 5001)
        except ValueError:
            host, port = None, 0
        if not host or parts.scheme not in ("http", "https") or parts.path.strip("/") or parts.query or parts.username:
            raise ConfigurationError(f"{address!r} is no address of a Kubo daemon; write http://127.0.0.1:5001")
        kind = "ip6" if ":" in host else "ip4" if host.replace(".", "").isdigit() else "dns"
        text = f"/{kind}/{host}/tcp/{port}/{parts.scheme}"
    try:
        ipfshttpclient.Client(text)
    except (AddressError, ValueError) as error:
        raise ConfigurationError(f"{address!r} is no address of a Kubo daemon: {error}") from None
    return text, text.startswith("/unix/") or text.split("/")[2] in _LOOPBACK


def _receive(client: ipfshttpclient.Client, path: str, cid: Cid) -> Generator[bytes, None, None]:
    """An answer in pieces of bounded size: the library's own stream reads one with a Content-Length as a whole."""
    parameters = [("offline", "true"), ("arg", str(cid))]
    closables, pieces = client._client._request(
        "POST", path, parameters, auth=None, data=None, headers=None, timeout=None, chunk_size=_PIECE_BYTES
    )
    try:
        yield from pieces
    finally:
        for each in closables:
            each.close()


def _is_missing(error: ErrorResponse) -> bool:
    return "not found" in str(error) or "could not find" in str(error)


def _explain(error: Exception) -> str:
    cause: Any = getattr(error, "original", None) or error
    return f"{type(cause).__name__}: {str(cause)[:200]}" if not isinstance(cause, json.JSONDecodeError) else "no JSON"
