"""Connections that say nothing, half a request, or take no answer: they are dropped, and honest ones are answered."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.h11_impl import H11Protocol

from quorate.storage import connections, serve
from quorate.storage.connections import ConnectionLimits
from quorate.storage.serve import LoopbackServer

LIMITS = ConnectionLimits(total=8, host=4, local=8, head_s=60, stall_s=60)
HALF = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: "
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = 32 << 20
PATIENCE_S = 20.0


class Host:
    """An application whose `/slow` waits until `gate` is open."""

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.app = Starlette(
            routes=[
                Route("/healthz", lambda _: PlainTextResponse("ok")),
                Route("/slow", self._wait),
                Route("/large", lambda _: Response(bytes(LARGE))),
                Route("/refused", lambda _: Response(status_code=413), methods=["POST"]),
            ]
        )

    def _wait(self, _: Request) -> Response:
        self.entered.release()
        self.gate.wait(PATIENCE_S)
        return PlainTextResponse("slow")


@pytest.fixture(
    params=[(AutoHTTPProtocol, "uvloop"), (AutoHTTPProtocol, "asyncio"), (H11Protocol, "uvloop")],
    ids=["gateway", "node", "provider"],
)
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LoopbackServer]:
    """A server as a gateway's, a node's, or a provider's."""
    protocol, loop = request.param
    monkeypatch.setattr(serve, "configure", partial(connections.configure, protocol=protocol, loop=loop))
    return lambda limits, host=None: LoopbackServer((host or Host()).app, limits=limits)


@contextlib.contextmanager
def connect(port: int, says: list[bytes], source: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """One connection for each of what they say."""
    with contextlib.ExitStack() as stack:
        opened = []
        for said in says:
            one = socket.create_connection(("127.0.0.1", port), PATIENCE_S, source_address=(source, 0))
            opened.append(stack.enter_context(one))
            with contextlib.suppress(ConnectionError):
                one.sendall(said)
        yield opened


def is_closed(one: socket.socket) -> bool:
    """Whether the server closes it; waits for that."""
    try:
        while one.recv(1000):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def is_open(one: socket.socket) -> bool:
    """Whether nothing is heard of it now."""
    one.setblocking(False)
    try:
        return one.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    finally:
        one.settimeout(PATIENCE_S)


def ask(server: LoopbackServer, path: str = "/healthz") -> int:
    return httpx.get(server.url + path, trust_env=False, timeout=PATIENCE_S).status_code


def test_who_asks_nothing_in_time_is_dropped(run: Callable[..., LoopbackServer]) -> None:
    with run(replace(LIMITS, head_s=0.1)) as server, connect(server.port, [b"", HALF, b"\r\n", b"G"]) as mute:
        assert all(map(is_closed, mute))


def test_half_a_second_request_is_not_waited_for(run: Callable[..., LoopbackServer]) -> None:
    with run(replace(LIMITS, head_s=0.1)) as server, connect(server.port, [WHOLE]) as (one,):
        heard = b""
        while not heard.endswith(b"ok"):
            heard += one.recv(1000)
        assert heard.startswith(b"HTTP/1.1 200")
        one.sendall(HALF)
        assert is_closed(one)


def test_a_crowd_that_waits_makes_room(run: Callable[..., LoopbackServer]) -> None:
    with run(LIMITS) as server, connect(server.port, [b"", HALF] * 20) as mute:
        assert ask(server) == 200
        assert all(map(is_closed, mute[:32]))
        assert sum(map(is_open, mute)) <= LIMITS.total


def test_who_is_being_answered_keeps_the_place(run: Callable[..., LoopbackServer]) -> None:
    host, slow = Host(), b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    limits = replace(LIMITS, local=2)
    with run(limits, host) as server, connect(server.port, [slow, slow]) as busy:
        try:
            assert all(host.entered.acquire(timeout=PATIENCE_S) for _ in busy)
            with connect(server.port, [WHOLE]) as (late,):
                assert is_closed(late)
        finally:
            host.gate.set()
        for one in busy:
            assert one.makefile("rb").read().endswith(b"slow")
        deadline = time.monotonic() + PATIENCE_S
        while server._server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ask(server) == 200


def test_one_address_takes_the_places_of_no_other(
    run: Callable[..., LoopbackServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_find_place", lambda client: (client[0], False))
    with (
        run(LIMITS) as server,
        connect(server.port, [b""] * 3) as honest,
        connect(server.port, [HALF] * 12, "127.0.0.2") as crowd,
    ):
        assert all(map(is_closed, crowd[:8]))
        assert ask(server) == 200
        assert all(map(is_open, honest))


def test_headers_without_end_are_not_kept(run: Callable[..., LoopbackServer]) -> None:
    with run(replace(LIMITS, head_bytes=4096)) as server, connect(server.port, [HALF]) as (one,):
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                one.sendall(b"a" * 65536)
        assert is_closed(one)
        assert ask(server) == 200


def test_the_rest_of_what_was_refused_may_come(run: Callable[..., LoopbackServer]) -> None:
    with run(replace(LIMITS, head_bytes=4096)) as server, httpx.Client(trust_env=False, base_url=server.url) as client:
        for _ in range(2):
            assert client.post("/refused", content=bytes(1 << 20)).status_code == 413


def test_who_takes_no_answer_is_dropped(run: Callable[..., LoopbackServer]) -> None:
    says = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"
    with run(replace(LIMITS, stall_s=0.2)) as server, connect(server.port, [says]) as (lazy,):
        assert lazy.recv(1) == b"H"
        deadline = time.monotonic() + PATIENCE_S
        while server._server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not server._server.server_state.connections
        taken = 0
        with contextlib.suppress(ConnectionError):
            while part := lazy.recv(1 << 20):
                taken += len(part)
        assert taken < LARGE


@pytest.mark.parametrize(
    ("client", "place"),
    [
        (("127.0.0.1", 1), ("", True)),
        (("127.9.9.9", 1), ("", True)),
        (("::1", 1), ("", True)),
        (("::ffff:127.0.0.1", 1), ("", True)),
        (None, ("", True)),
        (("192.0.2.1", 1), ("192.0.2.1", False)),
        (("::ffff:192.0.2.1", 1), ("192.0.2.1", False)),
        (("2001:db8:1:2:3::4", 1), ("20010db800010002", False)),
        (("2001:db8:1:2:ffff::5", 1), ("20010db800010002", False)),
    ],
)
def test_what_is_one_address(client: tuple[str, int] | None, place: tuple[str, bool]) -> None:
    assert connections._find_place(client) == place


@pytest.mark.parametrize("descriptors", [64, 256, 1024, 65536, 1 << 20])
def test_limits_leave_descriptors_for_files(descriptors: int) -> None:
    limits = ConnectionLimits.within(descriptors)
    assert limits.host <= limits.local < limits.total <= descriptors // 2
    assert limits.total + 2 * limits.burst < descriptors


def test_descriptors_that_run_out_are_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    monkeypatch.setattr(connections._log, "error", lambda text, *values: told.append(text % values))
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(hush := connections._Hush())
    for number in (errno.EMFILE, errno.ENFILE, errno.EMFILE):
        loop.call_exception_handler({"message": "accept", "exception": OSError(number, "too many")})
    assert told == ["connections wait: too many; allow more open files (`ulimit -n`)"]
    assert hush._told_at is not None
    hush._told_at -= connections.TELL_EVERY_S
    loop.call_exception_handler({"message": "accept", "exception": OSError(errno.EMFILE, "too many")})
    assert len(told) == 2
    other: list[str] = []
    monkeypatch.setattr(loop, "default_exception_handler", lambda context: other.append(context["message"]))
    loop.call_exception_handler({"message": "something else", "exception": OSError(errno.EIO, "disk")})
    loop.call_exception_handler({"message": "no error"})
    loop.close()
    assert other == ["something else", "no error"]


def test_the_soft_limit_is_raised() -> None:
    code = (
        "import resource as r; from quorate.storage.connections import *; hard = r.getrlimit(r.RLIMIT_NOFILE)[1];"
        "r.setrlimit(r.RLIMIT_NOFILE, (200, 300)); print(raise_descriptor_limit(), *r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["300", "300", "300"]


def test_a_gateway_of_few_descriptors_answers_in_a_crowd(tmp_path: Path) -> None:
    few = 160
    command = [sys.executable, "-m", "quorate_node.cli.main", "gateway", "--store", str(tmp_path / "store")]
    command += ["--listen", "127.0.0.1:0", "--output", "json"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (few // 2, few)),
        )  # fmt: skip
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            with connect(int(url.rpartition(":")[2]), [b"", HALF] * few) as mute:
                answer = httpx.get(f"{url}/ipfs/bafkqaaa?format=raw", trust_env=False, timeout=PATIENCE_S)
                assert answer.status_code == 200
                assert sum(map(is_open, mute)) <= ConnectionLimits.within(few).total
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)
    assert (tmp_path / "log").read_text().count("\n") <= 1
