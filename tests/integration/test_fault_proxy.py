"""The proxy that tests of faults put before nodes does what it is told, and knows who connects."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from tests.faults.owners import ANYBODY, Owners
from tests.faults.proxy import OPEN, REFUSED, SILENT, FaultProxy, Faults
from tests.integration.network import wait_for

from quorate.devnet.ports import pick_ports

BODY = bytes(range(256)) * 4096


class Echo(BaseHTTPRequestHandler):
    """Gives a body back, over connections that stay."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def target() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as started:
        yield started


def ask(url: str, timeout_s: float = 5.0) -> bool:
    """Whether an answer comes, and is the right one."""
    try:
        return httpx.post(url, content=BODY, timeout=timeout_s, trust_env=False).content == BODY
    except httpx.TransportError:
        return False


def test_messages_go_through_unchanged_and_are_counted(proxy: FaultProxy, target: int) -> None:
    url = proxy.front("node", target, pick_ports(1)[0])
    with httpx.Client(trust_env=False) as client:
        assert all(client.post(url, content=BODY).content == BODY for _ in range(5))
    counts = proxy.count()
    assert (counts["connections"], counts["messages"]) == (1, 10)


@pytest.mark.parametrize("kind", ["drop", "swallow", "delay"])
def test_a_share_of_the_messages_is_lost_or_late(proxy: FaultProxy, target: int, kind: str) -> None:
    url = proxy.front("node", target, pick_ports(1)[0])
    proxy.set(Faults(**{kind: 0.5}, delay_s=(0.01, 0.02)))
    with ThreadPoolExecutor(12) as threads:  # at once: who was swallowed has to wait for nothing, for long enough
        answers = list(threads.map(lambda _: ask(url, 3.0 if kind == "swallow" else 30.0), range(12)))
    counts, name = proxy.count(), {"drop": "dropped", "swallow": "swallowed", "delay": "delayed"}[kind]
    assert 0 < counts[name] < counts["messages"]
    assert answers.count(False) == (0 if kind == "delay" else counts[name])


def test_a_link_that_is_silent_goes_on_where_it_stopped(proxy: FaultProxy, target: int) -> None:
    url = proxy.front("node", target, pick_ports(1)[0])
    with httpx.Client(trust_env=False, timeout=10) as client:
        assert client.post(url, content=b"before").content == b"before"
        proxy.set(Faults(state=SILENT))
        answers: list[bytes] = []
        asking = threading.Thread(target=lambda: answers.append(client.post(url, content=BODY).content))
        asking.start()
        asking.join(0.3)
        assert not answers
        proxy.set(Faults(state=OPEN))
        asking.join(5)
        assert answers == [BODY]


def test_a_link_that_is_refused_resets_what_is_open(proxy: FaultProxy, target: int) -> None:
    listen = pick_ports(1)[0]
    url = proxy.front("node", target, listen)
    with socket.create_connection(("127.0.0.1", listen)) as standing:
        assert wait_for(lambda: proxy.count().get("connections") == 1, 5)
        proxy.set(Faults(state=REFUSED), target="node")
        standing.settimeout(5)
        with pytest.raises(ConnectionResetError):
            standing.recv(1)
    assert not ask(url)
    proxy.heal()
    assert ask(url)


def test_who_connects_is_known_by_its_process(proxy: FaultProxy, target: int) -> None:
    """Two sides of a split: each reaches its own, and strangers reach everybody."""
    ports = pick_ports(2)
    urls = [proxy.front(name, target, port) for name, port in zip("ab", ports, strict=True)]
    ask_all = "for url in sys.stdin: print(len(u.urlopen(url.strip(), b'x').read()), flush=True)"
    program = f"import sys, urllib.request as u\n{ask_all}"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True,
        )
        for _ in "ab"
    ]  # fmt: skip
    try:
        for name, child in zip("ab", children, strict=True):
            proxy.know(name, child.pid)
        proxy.split(["a", "b"], REFUSED)
        first = children[0]
        assert first.stdin is not None
        assert first.stdout is not None
        first.stdin.write(urls[0] + "\n")
        first.stdin.flush()
        assert first.stdout.readline() == "1\n"
        first.stdin.write(urls[1] + "\n")
        first.stdin.flush()
        assert first.stdout.readline() == "", "it cannot, and ends"
        assert all(map(ask, urls))
        assert set(proxy.count_links()) == {"a>a", "*>a", "*>b"}
    finally:
        for child in children:
            child.kill()
            child.communicate()


@pytest.mark.parametrize("is_diagnosed", [True, False])
def test_the_owner_of_a_connection_is_found_among_those_that_it_used_before(is_diagnosed: bool) -> None:
    """By the kernel's diagnostics where it gives them, or by its table; and descriptors that changed hands are not
    taken for what they were."""
    owners = Owners()
    if not is_diagnosed:
        owners.distrust_diagnostics()
    owners.know("we", os.getpgid(0))
    with socket.create_server(("127.0.0.1", 0)) as server:
        own_port = server.getsockname()[1]
        for _ in range(3):
            with socket.create_connection(server.getsockname()) as near, server.accept()[0]:
                port = near.getsockname()[1]
                assert owners.find(port, own_port) == "we"
                assert owners.find(own_port, port) == "we", "the other end is ours, too, by another descriptor"
                owners.know("we", 1 << 30)
                assert owners.find(port, own_port) == ANYBODY, "the group is of no name any more"
                owners.know("we", os.getpgid(0))
            assert owners.find(port, own_port) == ANYBODY, "it is closed"
