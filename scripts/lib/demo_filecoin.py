"""Paid data before your eyes: a provider sells a scene's tiles, a node buys them within its operator's limit for jobs
that name them, and refuses what would pass the limit. It ends with a picture of what was spent, against its caps."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from demo import EXAMPLE, ROOT, choose_scene
from pictures_spending import write_spending_picture
from quorate.chain.account import DEVNET_SCRYPT_N, SigningAccount, save_keystore
from quorate.cli.output import progress
from quorate.devnet.devnet import Devnet
from quorate.devnet.filecoin import FilecoinDevnet
from quorate.devnet.options import DevnetOptions
from quorate.filecoin.terms import compute_total
from quorate.orders import OrderWishes
from quorate.progress import JobStage
from quorate.protocol.errors import QuorateError, UnrecoverableError
from quorate.protocol.spec import Limits, Partition
from quorate.sdk import QuorateClient
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from scenes import load_maker, read_band

OPERATORS, SEATS = 6, 3
SIDE, STEP = 200, 110
"""Of a tile, and between tiles, in pixels."""
FUEL = 8_000_000 + 1_200 * SIDE**2
MODULE = EXAMPLE / "cloud-detection.wasm"
PRICE = 10**15  # base units a MiB: a thousandth of a token
MONEY = 10**18
JOB_TIMEOUT_S = 240.0
PASSPHRASE = "demo"

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A folder of tiles as the provider has it: its root, the piece of its CAR, and what that costs."""

    name: str
    root: str
    piece: str
    cost: int


@dataclass(slots=True)
class Run:
    """What the demo has started."""

    scratch: Path
    chain: FilecoinDevnet
    devnet: Devnet
    client: QuorateClient
    author: EmbeddedStore
    provider: Provider
    wallet: SigningAccount
    datasets: dict[str, Dataset] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """The operator's node."""
        return self.devnet.options.node_home(0)

    def operate(self, *words: str) -> dict[str, Any]:
        """`quorate-node filecoin …` on the operator's home."""
        return run_command("filecoin", *words, "--home", str(self.home), "--output", "json")

    def count_signatures(self) -> tuple[int, int, int]:
        """Transactions that the wallet sent, and what left it as vouchers and payments, by provider and by ledger."""
        sent = int(self.chain.rpc.call("eth_getTransactionCount", "0x" + self.wallet.address.hex(), "latest"), 16)
        total = next((each for each in self.operate("limit", "show")["scopes"] if each["scope"] == "total"), None)
        return sent, self.provider.count_taken(), int(total["used"]) if total else 0


class Provider:
    """`quorate-node filecoin-provider` on a folder."""

    def __init__(self, home: Path, network: Path, key: SigningAccount) -> None:
        self._home, self._network = home, network
        self.url = ""
        home.mkdir(parents=True)
        self._key, self._secret = write_key(home, key)
        self._process: subprocess.Popen[str] | None = None

    def add(self, name: str, folder: Path, price: int) -> Dataset:
        """Put a folder on sale."""
        words = ("add", str(folder), "--price-per-mib", str(price), "--home", str(self._home), "--output", "json")
        found = run_command("filecoin-provider", *words)
        cost = compute_total(int(found["car_bytes"]), price)
        return Dataset(name, str(found["root"]), str(found["piece"]), cost)

    def start(self) -> None:
        """Until it is ready."""
        command = [find_program(), "filecoin-provider", "run", "--listen", "127.0.0.1:0", "--home", str(self._home)]
        command += ["--network", str(self._network), "--key-file", str(self._key)]
        command += ["--passphrase-file", str(self._secret)]
        with (self._home / "log").open("w") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        word, _, rest = self._process.stdout.readline().partition(" ")
        if word != "ready":
            raise UnrecoverableError(f"the provider did not start: see {self._home / 'log'}")
        self.url = rest.split()[0]

    def count_taken(self) -> int:
        """Base units that readers have promised it, by its own books."""
        found = run_command("filecoin-provider", "status", "--home", str(self._home), "--output", "json")
        return sum(int(rail["taken"]) for rail in found.get("rails", []))

    def stop(self) -> None:
        """End it; it redeems what it has."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None


def find_program() -> str:
    """`quorate-node` of this environment."""
    return str(Path(sys.executable).with_name("quorate-node"))


def run_command(*words: str) -> dict[str, Any]:
    """A command of `quorate-node`, as a person gives it; what it prints as JSON. Raises UnrecoverableError."""
    done = subprocess.run([find_program(), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnrecoverableError(f"`quorate-node {' '.join(words[:3])} …` failed: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write_key(folder: Path, key: SigningAccount) -> tuple[Path, Path]:
    """A keystore and the file with its passphrase."""
    path, secret = folder / "key.json", folder / "secret"
    save_keystore(path, key, PASSPHRASE.encode(), DEVNET_SCRYPT_N)
    secret.write_text(PASSPHRASE + "\n")
    secret.chmod(0o600)
    return path, secret


def cut_tiles(scene: Path, folder: Path, groups: dict[str, int]) -> None:
    """Tiles of a scene, each one file with all bands, in a folder for each group of so many."""
    maker = load_maker()
    bands = {number: read_band(scene, f"B{number}") for number in maker.STACKED}
    metadata = next(iter(sorted(scene.glob("*_MTL.txt")))).read_bytes()
    height, width = bands[2].shape
    at = ((y, x) for y in range(0, height - SIDE, STEP) for x in range(0, width - SIDE, STEP))  # no two are the same
    for name, count in groups.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            y, x = next(at)
            square = {band: pixels[y : y + SIDE, x : x + SIDE] for band, pixels in bands.items()}
            (folder / name / f"{number:02}.tif").write_bytes(maker.encode_stack(square, metadata))


# the scene ------------------------------------------------------------------------------------------------------------


@contextmanager
def started(scratch: Path) -> Iterator[Run]:
    """A Filecoin chain, a provider, and a network of one node with six operators; all are ended at the end."""
    wallet, seller = SigningAccount.create(), SigningAccount.create()
    err.print("starting Filecoin's Ethereum side (Anvil, chain 31415926) with Filecoin Pay and our operator contract")
    with FilecoinDevnet(scratch / "filecoin", block_time_s=0.5) as chain:
        chain.endow(wallet.address, MONEY)
        chain.endow(seller.address, 0)
        provider = Provider(scratch / "provider", chain.network_file, seller)
        options = DevnetOptions(
            home=scratch / "devnet", nodes=1, operators_per_node=OPERATORS, settings={"filecoin": True}
        )
        devnet = Devnet(options, on_step=lambda text: err.print(f"devnet: {text}"))
        author = EmbeddedStore(scratch / "author")
        try:
            with devnet, QuorateClient.open(devnet.make_config(scratch / "client")) as client, closing(author):
                yield Run(scratch, chain, devnet, client, author, provider, wallet)
        finally:
            provider.stop()


def offer(run: Run, tiles: Path) -> None:
    """The provider puts the tiles on sale, and one folder for nothing."""
    for name in ("tiles", "scene", "more", "free"):
        found = run.provider.add(name, tiles / name, 0 if name == "free" else PRICE)
        run.datasets[name] = found
        out.print(f"for sale         {name}: {found.root}, as a piece {found.piece}, {found.cost} base units")
        run.author.add_path(tiles / name)
    run.provider.start()


def attach(run: Run) -> None:
    """The operator attaches a wallet, names the provider, and sets limits."""
    key, secret = write_key(run.scratch, run.wallet)
    shown = run.operate("wallet", "attach", str(key), "--passphrase-file", str(secret))
    run.operate("network", "set", "--file", str(run.chain.network_file))
    run.operate("wallet", "deposit", str(MONEY // 2))
    run.operate("wallet", "allow", str(MONEY // 2))
    costs = {name: each.cost for name, each in run.datasets.items()}
    token = "0x" + run.chain.contracts.token.hex()
    total = costs["tiles"] + costs["scene"] + costs["more"] // 2
    run.operate("limit", "set", "total", str(total), "--token", token)
    for scope, cap in (("day", 4 * total), ("job", 2 * costs["tiles"]), ("dataset", 2 * costs["tiles"])):
        run.operate("limit", "set", scope, str(cap))
    run.operate("limit", "set", f"provider={run.provider.url}", str(3 * total))
    run.operate("providers", "add", run.provider.url)
    out.print(f"wallet           {shown['ethereum']} = {shown['f410']}, may spend {total} base units in all")


def show_quotes(run: Run) -> None:
    """What the provider that the node found wants, before anything is paid."""
    for name in ("tiles", "free"):
        [quote] = run.operate("quote", run.datasets[name].root)["quotes"]
        if int(quote["amount"]) != run.datasets[name].cost:
            raise UnrecoverableError(f"{name} is quoted at {quote['amount']}, and costs {run.datasets[name].cost}")
        out.print(f"quoted           {name}: {quote['amount']} base units, {quote['scheme']}, by {quote['provider']}")


def prepare(run: Run, source: str, partition: Partition | None = None) -> Any:
    """A job over data that its requester has not: of a folder it knows the list of files alone."""
    if partition is not None:
        run.client.store.put(Cid.parse(source), run.author.get(Cid.parse(source)))
    limits = Limits(fuel=FUEL, memory_bytes=64 << 20)
    prepared = run.client.prepare(str(MODULE), source, limits=limits, partition=partition)
    assert not run.client.store.is_complete(Cid.parse(run.datasets["tiles"].root)), "the requester has no tile"
    return prepared


def run_job(run: Run, name: str, source: str, partition: Partition | None = None) -> JobStage:
    """Submit a job and follow it to its end."""
    prepared = prepare(run, source, partition)
    with run.client.serving() as url:
        wishes = OrderWishes(seats=SEATS, rounds=0, input_bytes=4 << 20, commit_period=20)
        job = run.client.submit(prepared, wishes, providers=[url])
        with progress(f"job {job.job_id.hex()[:8]} ({name})") as show:
            for step in run.client.watch(job, timeout_s=JOB_TIMEOUT_S):
                show(step)
        if step.stage is JobStage.ACCEPTED:
            folder = run.scratch / "results" / job.job_id.hex()[:8]
            results = run.client.fetch_result(job, folder).results
            good = sum(result.exit_code == 0 for result in results)
            out.print(f"accepted         job {job.job_id.hex()[:8]} over {name}: {good} of {len(results)} masks")
            if good != len(results):
                raise UnrecoverableError(f"{len(results) - good} tiles of {name} were refused by the program")
    return step.stage


def expect(stage: JobStage, wanted: Sequence[JobStage], what: str) -> None:
    """Raise UnrecoverableError unless a job ended as it should."""
    if stage not in wanted:
        raise UnrecoverableError(f"{what} ended as {stage.value}")


def read_refusal(run: Run) -> str:
    """What the node says of the seat that it left, from its log."""
    logs = [*run.home.glob("*.log"), *(run.devnet.options.home / "logs").glob("node-0*")]
    lines = [line for path in logs for line in path.read_text().splitlines() if "was not paid for" in line]
    if not lines:
        raise UnrecoverableError(f"the node did not say why it paid nothing: see {run.home}")
    text = str(json.loads(lines[-1])["reason"]) if lines[-1].startswith("{") else lines[-1]
    return text[text.index("the spending limit") :]


def show_limit(run: Run) -> None:
    """A job that would pass the limit is refused, and lets no signature out; raised, the limit lets it through."""
    more = run.datasets["more"]
    before = run.count_signatures()
    stage = run_job(run, "more", more.root, Partition("*.tif"))
    expect(stage, [each for each in JobStage if each is not JobStage.ACCEPTED], "the job above the limit")
    after = run.count_signatures()
    out.print(f"refused          {read_refusal(run)}")
    if before != after:
        raise UnrecoverableError(f"something was signed for it: {before} before, {after} after")
    out.print(f"signed           nothing: {after[0]} transactions and vouchers of {after[1]} before as after")
    raised = run.operate("limit", "top-up", "total", str(more.cost))
    caps = {each["scope"]: each["cap"] for each in raised["scopes"]}
    out.print(f"raised           the limit for total to {caps['total']}; the same order again:")
    expect(run_job(run, "more", more.root, Partition("*.tif")), [JobStage.ACCEPTED], "the job within the raised limit")


def settle(run: Run) -> list[dict[str, Any]]:
    """The provider redeems; the receipts add up to what the chain paid, with its fee."""
    run.provider.stop()
    receipts: list[dict[str, Any]] = run.operate("receipts")["receipts"]
    with closing(run.chain.connect()) as pay:
        seen = pay.events(0, pay.head().number)
    paid = [each for each in seen if each.name == "RailOneTimePaymentProcessed"]
    once = {each.transaction for each in seen if each.name == "AuthorizationUsed"}
    single = sum(int(each.fields["value"]) for each in seen if each.name == "Transfer" and each.transaction in once)
    net = sum(int(each.fields["netPayeeAmount"]) for each in paid) + single
    fees = sum(int(each.fields["networkFee"]) for each in paid)
    charged = sum(int(each["charged"]) for each in receipts)
    for each in receipts:
        out.print(
            f"receipt {each['number']:<8} {each['charged']} base units, job {each['job'][:8]}, {each['note'][:90]}"
        )
    count = f"{len(paid)} payments by rails and {len(once)} at once"
    out.print(f"on chain         {net} to the provider + {fees} of fee = {net + fees} base units in {count}")
    if net + fees != charged:
        raise UnrecoverableError(f"the receipts say {charged}, and the chain paid {net + fees}")
    told = run.operate("reconcile")
    if told["problems"] or (int(told["paid"]), int(told["fees"]), int(told["owed"])) != (net + fees, fees, 0):
        raise UnrecoverableError(f"reconcile finds something else: {told}")
    out.print(f"adds up          the receipts say {charged}, and `filecoin reconcile` the same, to the unit")
    return receipts


def show(run: Run, tiles: Path, picture: Path) -> None:
    """All that happens once everything is up."""
    offer(run, tiles)
    attach(run)
    show_quotes(run)
    bought, piece = run.datasets["tiles"], run.datasets["scene"]
    expect(run_job(run, "tiles, by their root", bought.root, Partition("*.tif")), [JobStage.ACCEPTED], "the first job")
    expect(run_job(run, "a tile, by its piece", piece.piece), [JobStage.ACCEPTED], "the job by piece CID")
    show_limit(run)
    before = run.operate("limit", "show")["scopes"]
    expect(
        run_job(run, "free tiles", run.datasets["free"].root, Partition("*.tif")), [JobStage.ACCEPTED], "the free job"
    )
    if run.operate("limit", "show")["scopes"] != before:
        raise UnrecoverableError("free data was paid for")
    out.print("free             the free tiles cost nothing")
    receipts = settle(run)
    names = {each.root: each.name for each in run.datasets.values()}
    names |= {each.piece: f"{each.name} (piece)" for each in run.datasets.values()}
    write_spending_picture(picture, run.operate("limit", "show")["scopes"], receipts, names)
    out.print(f"picture          {picture}")


def run_demo(folder: Path, wanted: Path | None) -> int:
    """Start everything, show it, stop everything."""
    began, scratch = time.monotonic(), folder / "demo-filecoin"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    scene, name = choose_scene(wanted, scratch)
    err.print(f"scene: {name}")
    tiles = scratch / "tiles"
    cut_tiles(scene, tiles, {"tiles": 4, "scene": 1, "more": 4, "free": 1})
    with started(scratch) as run:
        show(run, tiles, folder / "spending.png")
    out.print(f"done             {time.monotonic() - began:.1f} s; everything that was started is stopped")
    return 0


def main() -> int:
    """Run the demo; a failure is one line, and leaves nothing running."""
    parser = argparse.ArgumentParser(prog="scripts/demo filecoin", description=__doc__)
    parser.add_argument("--scene", type=Path, metavar="DIR", help="a Landsat 8 scene: *_B2.tif … *_B10.tif, *_MTL.txt")
    parser.add_argument("--out", type=Path, default=ROOT / "out", metavar="DIR", help="folder for the picture")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        return run_demo(arguments.out.absolute(), arguments.scene)
    except QuorateError as error:
        err.print(f"demo: {error}", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        err.print("demo: interrupted; everything that was started is stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
