"""The JSON-RPC client against a real HTTP server that misbehaves in every way that we know of."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from quorate.chain.rpc import MAX_BATCH, JsonRpc, RpcError, check_chain_id
from quorate.devnet.ports import pick_ports
from quorate.protocol.errors import ChainUnavailable

Answer = Callable[[Any], Any]


@contextmanager
def serve(answer: Answer, port: int = 0) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = answer(body)
            data = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def echo(body: Any) -> Any:
    rows = body if isinstance(body, list) else [body]
    found = [{"jsonrpc": "2.0", "id": row["id"], "result": row["params"]} for row in rows]
    return list(reversed(found)) if isinstance(body, list) else found[0]


def test_batches_come_back_in_the_order_of_the_calls() -> None:
    with serve(echo) as url:
        calls = [("eth_echo", [i]) for i in range(2 * MAX_BATCH + 3)]
        assert JsonRpc(url).batch(calls) == [[i] for i in range(len(calls))]
        assert JsonRpc(url).batch([]) == []


def test_many_threads_share_one_client() -> None:
    with serve(echo) as url:
        rpc, failures = JsonRpc(url), list[int]()

        def work(number: int) -> None:
            for _ in range(20):
                if rpc.call("eth_echo", number) != [number]:
                    failures.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def test_an_error_answer_names_method_code_and_data() -> None:
    def refuse(body: Any) -> Any:
        error = {"code": 3, "message": "execution reverted", "data": "0x1234"}
        return {"jsonrpc": "2.0", "id": body["id"], "error": error}

    with serve(refuse) as url, pytest.raises(RpcError, match="eth_call failed: execution reverted") as caught:
        JsonRpc(url).call("eth_call", {})
    assert (caught.value.code, caught.value.data) == (3, "0x1234")


def test_nobody_there_says_how_to_start_a_chain() -> None:
    url = f"http://127.0.0.1:{pick_ports(1)[0]}"
    with pytest.raises(ChainUnavailable, match=r"no chain answers at .* `quorate devnet up`"):
        JsonRpc(url, pauses_s=(0.01,)).call("eth_chainId")


def test_an_endpoint_that_comes_late_is_waited_for() -> None:
    port = pick_ports(1)[0]
    found: list[Any] = []
    rpc = JsonRpc(f"http://127.0.0.1:{port}", pauses_s=(0.1, 0.2, 0.4, 0.8))
    waiter = threading.Thread(target=lambda: found.append(rpc.call("eth_echo", 7)))
    waiter.start()
    time.sleep(0.15)
    with serve(echo, port):
        waiter.join(5)
    assert found == [[7]]


@pytest.mark.parametrize("answer", [b"<html>", b'"text"', b"[]"])
def test_what_is_no_chain_is_said_to_be_none(answer: bytes) -> None:
    with serve(lambda _: answer) as url, pytest.raises(ChainUnavailable):
        JsonRpc(url).call("eth_chainId")


def test_rubbish_for_a_url() -> None:
    with pytest.raises(ChainUnavailable):
        JsonRpc("ftp://nowhere", pauses_s=()).call("eth_chainId")


def test_another_chain_id_is_refused() -> None:
    with serve(lambda body: {"id": body["id"], "result": "0x1"}) as url:
        check_chain_id(JsonRpc(url), 1)
        with pytest.raises(ChainUnavailable, match="is chain 1, but this deployment is on chain 31337"):
            check_chain_id(JsonRpc(url), 31337)


def test_a_call_may_have_less_patience_than_all_others() -> None:
    """An endpoint that takes a request and says nothing, as one does of which the network was cut."""
    silent = threading.Event()

    def answer(body: Any) -> Any:
        if body["method"] == "eth_silent":
            silent.wait(30)
        return echo(body)

    with serve(answer) as url:
        rpc = JsonRpc(url, timeout_s=30)
        try:
            with pytest.raises(ChainUnavailable, match="ReadTimeout"):
                rpc.call("eth_silent", 1, timeout_s=0.3)
            assert not silent.is_set(), "it was given up before it answered"
            assert rpc.call("eth_echo", 5) == [5]
        finally:
            silent.set()


def test_calls_are_counted_by_their_methods_and_bytes_by_the_first_of_a_request() -> None:
    with serve(echo) as url:
        rpc = JsonRpc(url)
        rpc.call("eth_one", 1)
        rpc.batch([("eth_one", [1]), ("eth_two", [2]), ("eth_two", [3])])
        assert rpc.calls == {"eth_one": 2, "eth_two": 2}
        assert set(rpc.answer_bytes) == {"eth_one"}
        assert rpc.answer_bytes["eth_one"] > 4 * len('{"jsonrpc": "2.0"}')
    assert JsonRpc(url, pauses_s=()).calls == {}
