"""What tests of whole networks share: a requester, events, and a chain that does what a test wants."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from click.testing import Result
from typer.testing import CliRunner

from quorate.chain.types import BlockHead, LoggedEvent
from quorate.cli.main import app
from quorate.devnet.devnet import Devnet
from quorate.devnet.options import DevnetOptions
from quorate.jobs import JobRecord
from quorate.orders import OrderWishes
from quorate.progress import JobStage
from quorate.protocol import events
from quorate.protocol.events import Event
from quorate.protocol.spec import Limits
from quorate.protocol.types import Address
from quorate.sdk import QuorateClient

ROOT = Path(__file__).resolve().parents[2]
# (module (func (export "_start")))
NOTHING = bytes.fromhex("0061736d01000000 010401600000 03020100 070a01065f73746172740000 0a040102000b")
OUR_PATHS = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "client", ROOT / "node")))}
"""For nodes with a program from `tests.adversarial`."""
PATIENCE_S = 120.0
"""For what takes a few seconds on a machine that does nothing else."""

E_ = TypeVar("E_", bound=Event)


class Requester:
    """A client with a program that does nothing; each job has another environment, and so another spec."""

    def __init__(self, client: QuorateClient, url: str, module: Path) -> None:
        self.client, self._url, self._module, self._count = client, url, module, 0

    def submit(
        self, commit_period: int = 10, seats: int = 3, rounds: int | None = None, providers: Sequence[str] = ()
    ) -> JobRecord:
        self._count += 1
        env = [f"JOB={self._count} of {self.client.config.home}"]
        prepared = self.client.prepare(str(self._module), env=env, limits=Limits(fuel=10**8))
        wishes = OrderWishes(seats=seats, rounds=rounds, commit_period=commit_period)
        return self.client.submit(prepared, wishes, providers=providers or [self._url])


@contextmanager
def requester(devnet: Devnet, folder: Path, program: bytes = NOTHING, class_id: int = 1) -> Iterator[Requester]:
    folder.mkdir(parents=True, exist_ok=True)
    module = folder / "program.wasm"
    module.write_bytes(program)
    config = replace(devnet.make_config(folder / "client"), class_id=class_id)
    with QuorateClient.open(config) as client, client.serving() as url:
        yield Requester(client, url, module)


def lying_farm(liars: str, strategy: str, *more: str) -> list[str]:
    """The program of a node some of whose operators lie, such as "7-9" (see tests.adversarial.farm_node)."""
    return [sys.executable, "-m", "tests.adversarial.farm_node", "--liars", liars, "--strategy", strategy, *more]


@contextmanager
def three_farms(folder: Path, operators: int, commands: Mapping[int, Sequence[str]], **more: Any) -> Iterator[Devnet]:
    """A network of three processes with so many operators each; `commands` are those of nodes with another program."""
    options = DevnetOptions(
        home=folder / "net", nodes=3, operators_per_node=operators, commands=commands, env=OUR_PATHS, **more
    )
    with Devnet(options) as devnet:
        yield devnet


def run_quorate(*words: str, home: Path, timeout_s: float = PATIENCE_S, **env: str) -> subprocess.CompletedProcess[str]:
    """A command of the requester's command line, as a person would give it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("QUORATE_")}
    settings = {"QUORATE_HOME": str(home), "NO_COLOR": "1", "COLUMNS": "300", **env}
    return _run([str(Path(sys.executable).with_name("quorate")), *words], environment | settings, timeout_s)


def call_quorate(*words: str, home: Path) -> Result:
    """The same command in this process, where a second of starting one is not the point."""
    unset = dict.fromkeys((name for name in os.environ if name.startswith("QUORATE_")), None)
    return CliRunner().invoke(app, words, env=unset | {"QUORATE_HOME": str(home), "NO_COLOR": "1", "COLUMNS": "300"})


def run_node_command(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """A command of an operator's command line on a node's home."""
    command = [sys.executable, "-m", "quorate_node.cli.main", *words, "--home", str(home)]
    return _run(command, os.environ | {"NO_COLOR": "1", "COLUMNS": "300"})


def _run(
    command: Sequence[str], env: Mapping[str, str], timeout_s: float = PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, env=env)


def wait_for(holds: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.1)
    return False


def find_logged(devnet: Devnet, kind: type[E_], first: int = 0) -> list[tuple[LoggedEvent, E_]]:
    logged = devnet.gateway.events(first, devnet.gateway.head().number)
    return [(each, each.event) for each in logged if isinstance(each.event, kind)]


def find_events(devnet: Devnet, kind: type[E_], first: int = 0) -> list[E_]:
    return [event for _, event in find_logged(devnet, kind, first)]


def expect(devnet: Devnet, kind: type[E_], first: int) -> E_:
    """The first event of a kind since block `first`, waited for."""
    assert wait_for(lambda: bool(find_events(devnet, kind, first))), f"no {kind.__name__}"
    return find_events(devnet, kind, first)[0]


def run_to_dispute(devnet: Devnet, people: Requester) -> tuple[JobRecord, int]:
    """A job in dispute, and a block before it."""
    for _ in range(30):
        start = Chain(devnet).head().number + 1
        job = people.submit(commit_period=12)
        for step in people.client.watch(job, timeout_s=PATIENCE_S):
            if step.stage is JobStage.DISPUTED:
                return job, start
    raise AssertionError("no liar was drawn")


class Chain:
    """Anvil's clockwork."""

    def __init__(self, devnet: Devnet) -> None:
        self._devnet, self._rpc = devnet, devnet.gateway.rpc

    def reorganise(self, depth: int) -> None:
        """Replace the newest blocks by empty ones; their transactions are gone, not pending."""
        self._rpc.call("anvil_reorg", depth, [])

    def shorten(self, depth: int) -> None:
        """Take the newest blocks away."""
        self._rpc.call("anvil_rollback", depth)

    @contextmanager
    def standing_still(self, period_s: int = 1) -> Iterator[None]:
        """No blocks but those that a test mines; afterwards one every `period_s`."""
        self._rpc.call("evm_setIntervalMining", 0)
        try:
            yield
        finally:
            self._rpc.call("evm_setIntervalMining", period_s)

    @contextmanager
    def stopped_clock(self, period_s: int = 1) -> Iterator[None]:
        """No blocks, and no time either: afterwards it goes on from the newest block's, however long this took."""
        with self.standing_still(period_s):
            try:
                yield
            finally:
                self._rpc.call("evm_setTime", self.head().timestamp)

    def mine(self, count: int = 1, timestamp: int | None = None) -> None:
        """Blocks at once; with a timestamp all of them have it."""
        if timestamp is None:
            self._rpc.call("anvil_mine", hex(count))
            return
        for _ in range(count):
            self._rpc.call("evm_setNextBlockTimestamp", timestamp)
            self._rpc.call("evm_mine")

    def begin_era(self, class_id: int) -> None:
        """Let the class's present era end, for what must come to its end within one."""
        end = self._devnet.gateway.class_info(class_id).era_end
        self.pass_time(max(0, end - self.head().timestamp))
        assert wait_for(lambda: self._devnet.gateway.class_info(class_id).era_end > end), "nobody ended the era"

    def pass_time(self, seconds: int) -> None:
        """The next block's time is so much later."""
        self._rpc.call("evm_increaseTime", seconds)

    def count_pending(self) -> int:
        """Transactions that wait for a block."""
        return int(self._rpc.call("txpool_status")["pending"], 16)

    def head(self) -> BlockHead:
        return self._devnet.gateway.head()


class Books:
    """The money of a devnet: whoever is known to it, and both contracts that hold any."""

    def __init__(self, devnet: Devnet) -> None:
        self._devnet, self._gateway = devnet, devnet.gateway

    def check(self) -> None:
        """To be called when nothing is under way: every wei of both contracts is somebody's."""
        gateway, deployment = self._gateway, self._gateway.deployment
        people = {self._devnet.requester.address, *(m.account.address for n in self._devnet.nodes for m in n.operators)}
        accounts = [gateway.account(address) for address in people]
        assert sum(account.escrow for account in accounts) == 0
        assert gateway.balance(deployment.market) == sum(account.free for account in accounts)
        operators = [gateway.operator(id_) for id_ in range(1, gateway.operator_count() + 1)]
        stakes, ledgers = sum(each.stake + each.unbonding for each in operators), gateway.ledgers()
        held = stakes + ledgers.pots + ledgers.class_deposits + ledgers.treasury
        assert gateway.balance(deployment.registry) == held
        assert ledgers.pots == 0

    def stake_of(self, operators: Sequence[int]) -> int:
        found = [self._gateway.operator(each) for each in operators]
        return sum(each.stake + each.unbonding for each in found)

    def free_of(self, address: Address) -> int:
        return self._gateway.account(address).free


def is_quiet(devnet: Devnet) -> bool:
    """Whether every batch and every dispute has come to its end."""
    logged = [each.event for each in devnet.gateway.events(0, devnet.gateway.head().number)]
    opened = {e.batch_id for e in logged if isinstance(e, events.BatchOpened)}
    settled = {e.batch_id for e in logged if isinstance(e, events.BatchSettled)}
    disputes = {e.dispute_id for e in logged if isinstance(e, events.DisputeOpened)}
    over = {e.dispute_id for e in logged if isinstance(e, events.DisputeSettled)}
    return opened <= settled and disputes <= over


def check_the_end(devnet: Devnet) -> None:
    """Wait until nothing is under way; then no wei may be missing."""
    assert wait_for(lambda: is_quiet(devnet))
    Books(devnet).check()
