"""Devnets of real processes: what is missing, taken, killed or broken, and that nothing is left behind."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from tests.integration.network import run_quorate

from quorate.chain import calls
from quorate.chain.account import DEVNET_SCRYPT_N, SigningAccount, save_keystore
from quorate.chain.gateway import JsonRpcGateway
from quorate.chain.rpc import JsonRpc
from quorate.chain.types import Deployment
from quorate.devnet import Devnet, DevnetOptions, NodeFailed, load_state, stop_devnet
from quorate.devnet import anvil as anvil_module
from quorate.devnet.anvil import find_anvil, start_anvil
from quorate.devnet.enroll import set_balances
from quorate.devnet.guard import is_alive, read_start
from quorate.devnet.ports import pick_ports
from quorate.devnet.process import ProcessGroup
from quorate.protocol.errors import Busy, ChainUnavailable, ConfigurationError
from quorate.protocol.params import ETHER, PRODUCTION

pytestmark = pytest.mark.anvil

HEALTHY_NODE = """
import json, pathlib, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
home = pathlib.Path(sys.argv[sys.argv.index("--home") + 1])
port = int(json.loads((home / "config.json").read_text())["listen"].split(":")[1])
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def node(tmp_path: Path) -> list[str]:
    """A program in a node's place that is healthy at once."""
    path = tmp_path / "healthy_node.py"
    path.write_text(HEALTHY_NODE)
    return [sys.executable, str(path)]


def wait_gone(pids: list[tuple[int, str]], seconds: float = 60.0) -> list[int]:
    """Those that are still alive after a while."""
    deadline = time.monotonic() + seconds
    while (left := [pid for pid, start in pids if is_alive(pid, start)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def pids_of(home: Path) -> list[tuple[int, str]]:
    state = load_state(home)
    assert state is not None
    return [(process.pid, process.start) for _, process in state.processes]


def test_a_devnet_starts_enrolled_and_stops_whole(tmp_path: Path, node: list[str]) -> None:
    options = DevnetOptions(home=tmp_path / "net", nodes=4, commands=dict.fromkeys(range(4), node), units={3: 25})
    with Devnet(options) as devnet:
        pids = pids_of(options.home)
        assert len(pids) == 5
        gateway = devnet.gateway
        table = gateway.table(1, gateway.class_info(1).table)
        assert [m.operator_id for m in table.members] == [1, 2, 3, 4]
        assert [table.units_of(i) for i in range(4)] == [10, 10, 10, 25]
        assert [m.key for m in table.members] == [n.account.address for n in devnet.nodes]
        assert gateway.endpoints() == {n.operator_id: n.url for n in devnet.nodes}
        assert gateway.account(devnet.requester.address).free == options.deposit_wei
        config = json.loads((options.node_home(0) / "config.json").read_text())
        assert (config["collator"], config["classes"], config["rpc_url"]) == (True, [1], devnet.rpc_url)
        assert (options.node_home(1) / "passphrase").stat().st_mode & 0o077 == 0
        with pytest.raises(Busy, match="devnet down"):
            Devnet(options).start()
        devnet.check_alive()
        devnet.kill_node(2)
        with pytest.raises(NodeFailed, match="node-2 was ended by SIGKILL"):
            devnet.check_alive()
        devnet.restart_node(2)
        pids += pids_of(options.home)
    assert wait_gone(pids) == []
    assert load_state(options.home) is None


def test_a_second_start_removes_what_the_first_left_but_no_other_files(tmp_path: Path) -> None:
    home = tmp_path / "net"
    for _ in range(2):
        with Devnet(DevnetOptions(home=home, nodes=0, collators=frozenset())):
            pass
    strange = tmp_path / "documents"
    strange.mkdir()
    (strange / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match="folder of its own"):
        Devnet(DevnetOptions(home=strange, nodes=0, collators=frozenset())).start()
    assert (strange / "thesis.txt").exists()


def test_anvil_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUORATE_ANVIL", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="is no program"):
        find_anvil()
    monkeypatch.delenv("QUORATE_ANVIL")
    monkeypatch.setattr(anvil_module, "__file__", str(tmp_path / "a" / "b.py"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="run scripts/setup"):
        find_anvil()


def test_an_anvil_that_dies_at_once_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "anvil"
    program.write_text("#!/bin/sh\necho 'error: no such flag' >&2\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("QUORATE_ANVIL", str(program))
    with pytest.raises(Busy, match=r"exit code 9(.|\n)*no such flag"):
        Devnet(DevnetOptions(home=tmp_path / "net", nodes=0, collators=frozenset())).start()


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken, ProcessGroup(tmp_path) as group:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Busy, match=f"port {port} is in use"):
            start_anvil(group, port=port, chain_id=31337, block_time_s=1)
        assert group.running == ()


def test_a_node_program_that_is_missing_or_fails_leaves_nothing(tmp_path: Path, node: list[str]) -> None:
    broken = [sys.executable, "-c", "import sys; sys.exit('stake is missing')"]
    for command, error, words in (
        ([str(tmp_path / "none")], ConfigurationError, "cannot start node-1"),
        (broken, NodeFailed, "stake is missing"),
    ):
        options = DevnetOptions(home=tmp_path / "net", nodes=2, commands={0: node, 1: command})
        devnet = Devnet(options)
        with pytest.raises(error, match=words):
            devnet.start()
        assert load_state(options.home) is None
        with pytest.raises(ChainUnavailable):
            JsonRpc(devnet.rpc_url, pauses_s=()).call("eth_chainId")


PARENT = """
import sys, time
from pathlib import Path
from quorate.devnet import Devnet, DevnetOptions
node = [sys.executable, sys.argv[2]]
with Devnet(DevnetOptions(home=Path(sys.argv[1]), nodes=2, commands={0: node, 1: node})):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_outlives_its_owner(tmp_path: Path, node: list[str], number: signal.Signals) -> None:
    home = tmp_path / "net"
    argv = [sys.executable, "-c", textwrap.dedent(PARENT), str(home), node[1]]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        pids = pids_of(home)
        assert len(pids) == 3
        parent.send_signal(number)
        parent.wait(60)
    assert wait_gone(pids) == []


def test_a_killed_owner_takes_down_what_it_has_only_begun(tmp_path: Path) -> None:
    """SIGKILL while Anvil runs and the contracts are still on their way."""
    home = tmp_path / "net"
    argv = [sys.executable, "-c", textwrap.dedent(PARENT), str(home), "none"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        children: list[int] = []
        while not children:
            time.sleep(0.02)
            listed = subprocess.run(
                ["ps", "-o", "pid=,args=", "--ppid", str(parent.pid)], capture_output=True, text=True
            )
            children = [int(line.split()[0]) for line in listed.stdout.splitlines() if "anvil" in line]
        pids = [(pid, read_start(pid)) for pid in children]
        time.sleep(0.1)
        parent.kill()
        parent.wait(60)
    assert wait_gone(pids) == []


def test_down_ends_only_the_very_processes_that_were_started(tmp_path: Path) -> None:
    home = tmp_path / "net"
    devnet = Devnet(DevnetOptions(home=home, nodes=0, collators=frozenset(), detach=True)).start()
    with subprocess.Popen(["sleep", "60"]) as bystander:
        path = home / "devnet.json"
        state = json.loads(path.read_text())
        # The number of a process that is gone, now another's.
        state["processes"].append({"name": "node-0", "pid": bystander.pid, "start": "12345"})
        path.write_text(json.dumps(state))
        assert stop_devnet(home) == 1
        assert bystander.poll() is None
        bystander.kill()
    assert stop_devnet(home) == 0
    devnet.stop()


def test_the_command_line_of_a_devnet(tmp_path: Path) -> None:
    assert run_quorate("devnet", "status", home=tmp_path).returncode == 2
    up = run_quorate("devnet", "up", "--nodes", "0", "--output", "json", home=tmp_path)
    try:
        assert up.returncode == 0, up.stderr
        found = json.loads(up.stdout)
        pids = pids_of(tmp_path / "devnet")
        status = json.loads(run_quorate("devnet", "status", "-o", "json", home=tmp_path).stdout)
        assert status["anvil"] == {"rpc_url": found["rpc_url"], "running": True}
        again = run_quorate("devnet", "up", "--nodes", "0", home=tmp_path)
        assert (again.returncode, again.stdout) == (3, "")
        assert again.stderr.startswith("quorate: a devnet runs in")
        money = json.loads(run_quorate("account", "balance", "-o", "json", home=tmp_path).stdout)
        assert money["address"] == found["requester"]
        less = run_quorate("account", "withdraw", str(10**18), home=tmp_path)
        assert "free    99 ether" in less.stdout
        too_much = run_quorate("account", "withdraw", str(10**21), home=tmp_path)
        assert too_much.returncode == 2
        assert too_much.stderr.count("\n") == 1
        assert "InsufficientDeposit" in too_much.stderr
        other = tmp_path / "other.json"
        deployment = json.loads((tmp_path / "devnet" / "deployment.json").read_text())
        other.write_text(json.dumps(deployment | {"chain_id": 1}))
        elsewhere = run_quorate("account", "balance", home=tmp_path, QUORATE_DEPLOYMENT=str(other))
        assert elsewhere.returncode == 3
        assert "is chain 31337, but this deployment is on chain 1" in elsewhere.stderr
    finally:
        down = run_quorate("devnet", "down", home=tmp_path)
    assert down.stdout == "1 processes ended\n"
    assert wait_gone(pids) == []
    gone = run_quorate("account", "balance", home=tmp_path)
    assert gone.returncode == 3
    assert gone.stderr.count("\n") == 1
    assert "`quorate devnet up`" in gone.stderr
    shutil.rmtree(tmp_path / "devnet")


def test_contracts_on_a_chain_that_runs_already(tmp_path: Path) -> None:
    """Deployed with a preset by a keystore's key; an operator can register, and a second run overwrites nothing."""
    options = DevnetOptions(home=tmp_path / "net", nodes=0, collators=frozenset(), block_time_s=0.1)
    with Devnet(options) as devnet:
        wallet = {"QUORATE_RPC_URL": devnet.rpc_url, "QUORATE_PASSPHRASE": "open"}
        account = SigningAccount.create()
        save_keystore(tmp_path / "key.json", account, b"open", DEVNET_SCRYPT_N)
        set_balances(devnet.gateway.rpc, [account], 100 * ETHER)
        wallet["QUORATE_KEYSTORE"] = str(tmp_path / "key.json")
        cheap = run_quorate("deploy", "--preset", "production", "--unit", "0.5ether", home=tmp_path, **wallet)
        assert (cheap.returncode, "below 0.6 ether" in cheap.stderr) == (2, True)
        done = run_quorate("deploy", "--preset", "production", "--output", "json", home=tmp_path, **wallet)
        assert done.returncode == 0, done.stderr
        gateway = JsonRpcGateway(devnet.rpc_url, Deployment.load(tmp_path / "deployment.json"))
        gateway.check()
        assert gateway.params() == PRODUCTION
        info = gateway.class_info(1)
        assert (info.unit_wei, info.price, info.judged) == (ETHER, 10**9, True)
        gateway.wait(gateway.send(account, calls.register(account.address), value=ETHER))
        gateway.wait(gateway.send(account, calls.join(1, 1, 10**9, 10**9)))
        again = run_quorate("deploy", "--preset", "local", home=tmp_path, **wallet)
        assert (again.returncode, "exists" in again.stderr) == (2, True)
        gateway.close()


def test_every_command_has_help_with_an_example(tmp_path: Path) -> None:
    commands = ["devnet up", "devnet down", "devnet status", "wasm run", "job list", "job describe", "job get"]
    for command in [*commands, "job wait", "account deposit", "account withdraw", "account balance", "deploy"]:
        shown = run_quorate(*command.split(), "--help", home=tmp_path)
        assert re.search(f"Example: quorate (--rpc-url [^ ]+ )?{command}", " ".join(shown.stdout.split())), command
        assert "--output" in shown.stdout


def test_ports_are_free_and_different() -> None:
    assert len(set(pick_ports(20))) == 20
