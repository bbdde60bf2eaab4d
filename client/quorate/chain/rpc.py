"""JSON-RPC 2.0 over HTTP: synchronous, safe to share between threads, many calls in one round trip.

web3 takes two seconds to import and a millisecond for a call; node processes start and run on this instead.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx

from quorate.protocol.errors import ChainUnavailable, RecoverableError

MAX_BATCH = 500
RETRY_PAUSES_S = (0.1, 0.3, 1.0)
CONNECT_S = 3.0
"""For a connection. What a network swallowed comes later and later again: to begin anew is sooner there."""
HOW_TO_START = (
    "start one with `quorate devnet up`, or name another "
    "(quorate: --rpc-url or QUORATE_RPC_URL; quorate-node: rpc_url in its config.json)"
)

RpcCall = tuple[str, Sequence[Any]]
"""A method and its parameters."""


class RpcError(RecoverableError):
    """The endpoint answered a call with an error; `data` holds revert data when there is some."""

    def __init__(self, method: str, code: int, message: str, data: object = None) -> None:
        self.method, self.code, self.reason, self.data = method, code, message, data
        super().__init__(f"{method} failed: {message} (code {code})")


class JsonRpc:
    """One endpoint. Connection failures are tried again for about a second, then raise ChainUnavailable.

    `calls` counts calls by method, `answer_bytes` the bytes of their answers (of a batch by its first method).
    """

    def __init__(self, url: str, *, timeout_s: float = 20.0, pauses_s: Sequence[float] = RETRY_PAUSES_S) -> None:
        self.url = url
        self._pauses_s = tuple(pauses_s)
        self._ids = itertools.count(1)
        self.calls, self.answer_bytes = Counter[str](), Counter[str]()
        self._lock = threading.Lock()
        # The environment's proxies are for the web; a chain endpoint is named on purpose.
        limits = httpx.Limits(max_connections=32)
        try:
            timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S))
            self._client = httpx.Client(timeout=timeout, trust_env=False, limits=limits)
            httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ChainUnavailable(f"{url!r} is not a URL: give http://HOST:PORT of a chain's endpoint") from error

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """Both, by names of metrics."""
        return {"chain_calls": self.calls, "chain_answer_bytes": self.answer_bytes}

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def call(self, method: str, *params: Any, timeout_s: float | None = None) -> Any:
        """Result of one call. Raises RpcError for an error answer, ChainUnavailable when there is none.

        `timeout_s` is this call's own patience, in seconds without a byte.
        """
        (answer,) = self.batch([(method, params)], timeout_s)
        if isinstance(answer, RpcError):
            raise answer
        return answer

    def batch(self, calls: Sequence[RpcCall], timeout_s: float | None = None) -> list[Any]:
        """Results in the order of `calls`; an error answer is returned in its place as an RpcError."""
        answers: list[Any] = []
        for start in range(0, len(calls), MAX_BATCH):
            answers += self._batch(calls[start : start + MAX_BATCH], timeout_s)
        return answers

    def batch_strict(self, calls: Sequence[RpcCall]) -> list[Any]:
        """Like `batch`, but the first error answer is raised."""
        answers = self.batch(calls)
        for answer in answers:
            if isinstance(answer, RpcError):
                raise answer
        return answers

    def _batch(self, calls: Sequence[RpcCall], timeout_s: float | None) -> list[Any]:
        ids = [next(self._ids) for _ in calls]
        requests = [
            {"jsonrpc": "2.0", "id": id_, "method": method, "params": list(params)}
            for id_, (method, params) in zip(ids, calls, strict=True)
        ]
        body, size = self._post(requests if len(requests) > 1 else requests[0], timeout_s)
        with self._lock:
            self.calls.update(method for method, _ in calls)
            self.answer_bytes[calls[0][0]] += size
        rows = body if isinstance(body, list) else [body]
        if not all(isinstance(row, dict) for row in rows):
            raise ChainUnavailable(f"{self.url} does not speak JSON-RPC: is it a chain's endpoint?")
        found = {row.get("id"): row for row in rows}
        return [_answer(method, found.get(id_), self.url) for id_, (method, _) in zip(ids, calls, strict=True)]

    def _post(self, body: object, timeout_s: float | None) -> tuple[Any, int]:
        """The answer, and its bytes."""
        patience = self._client.timeout
        if timeout_s is not None:
            patience = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S))
        for pause_s in (*self._pauses_s, None):
            try:
                response = self._client.post(self.url, json=body, timeout=patience)
                return response.json(), len(response.content)
            except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
                is_refused = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
                if pause_s is None or not is_refused:
                    problem = f"no chain answers at {self.url} ({type(error).__name__}: {error})"
                    raise ChainUnavailable(f"{problem}: {HOW_TO_START}") from error
                time.sleep(pause_s)
            except ValueError as error:
                problem = f"{self.url} answered HTTP {response.status_code} without JSON"
                raise ChainUnavailable(f"{problem}: is it a chain's endpoint?") from error
        raise AssertionError("the last turn of the loop returns or raises")


def _answer(method: str, row: dict[str, Any] | None, url: str) -> Any:
    if row is None:
        raise ChainUnavailable(f"{url} left {method} without an answer: try again")
    error = row.get("error")
    if error is None:
        return row.get("result")
    if not isinstance(error, dict):
        return RpcError(method, 0, str(error))
    return RpcError(method, int(error.get("code", 0)), str(error.get("message", "")), error.get("data"))


def check_chain_id(rpc: JsonRpc, wanted: int) -> None:
    """Raise ChainUnavailable unless the endpoint is on chain `wanted`."""
    found = int(rpc.call("eth_chainId"), 16)
    if found != wanted:
        raise ChainUnavailable(
            f"{rpc.url} is chain {found}, but this deployment is on chain {wanted}: use the deployment's own endpoint"
        )
