"""The client against a devnet of real nodes: from a file to verified bytes, and each way to be refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.network import run_quorate

from quorate.chain.account import SigningAccount
from quorate.chain.types import to_hex
from quorate.config import Config, load_config
from quorate.delivery import CollatorAway, OrderRefused
from quorate.devnet import Devnet, DevnetOptions
from quorate.orders import OrderWishes
from quorate.progress import JobStage
from quorate.protocol.encoding import compute_job_id
from quorate.protocol.errors import ProtocolViolation, ValidationError
from quorate.protocol.params import ETHER
from quorate.protocol.result import TaskStatus
from quorate.protocol.spec import Limits
from quorate.sdk import QuorateClient

pytestmark = [pytest.mark.anvil, pytest.mark.slow]

# (module (memory (export "memory") 1) (func (export "_start")))
MODULE = bytes.fromhex(
    "0061736d01000000010401600000030201000503010001071302066d656d6f72790200065f737461727400000a040102000b"
)
LIMITS = Limits(fuel=1_000_000)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def devnet(home: Path) -> Iterator[Devnet]:
    with Devnet(DevnetOptions(home=home / "devnet", nodes=6, ready_s=120)) as devnet:
        yield devnet


@pytest.fixture(scope="module")
def module(home: Path) -> str:
    path = home / "empty.wasm"
    path.write_bytes(MODULE)
    return str(path)


@pytest.fixture
def config(devnet: Devnet, home: Path) -> Config:
    return load_config(home)


@pytest.fixture
def client(config: Config) -> Iterator[QuorateClient]:
    with QuorateClient.open(config) as client:
        yield client


def test_a_job_from_a_file_to_verified_bytes(client: QuorateClient, module: str, tmp_path: Path) -> None:
    before = client.balance()
    prepared = client.prepare(module, limits=LIMITS)
    with client.serving() as url:
        job = client.submit(prepared, OrderWishes(seats=3, rounds=0), providers=[url])
        steps = list(client.watch(job, timeout_s=90))
    stages = [step.stage for step in steps]
    assert stages == [
        JobStage.POSTED, JobStage.ASSIGNED, JobStage.COMMITTED, JobStage.REVEALED, JobStage.ACCEPTED,
    ]  # fmt: skip
    assert all(step.timestamp > 0 and len(step.transaction) == 32 for step in steps)
    assert client.describe(job)["result_cid"], "known before anything was downloaded"
    fetched = client.fetch_result(job, tmp_path / "out")
    assert (fetched.results[0].status, fetched.refused) == (TaskStatus.OK, ())
    assert (tmp_path / "out" / "stdout").read_bytes() == b""
    receipt = client.describe(job)
    assert (receipt["job_id"], receipt["verdict"]) == (to_hex(job.job_id), "accepted")
    assert receipt["result_cid"] == fetched.results[0].cid
    assert len({seat["operator"] for seat in receipt["seats"]}) == 3
    assert {seat["vote"] for seat in receipt["seats"]} == set(receipt["votes"])
    assert set(receipt["transactions"]) == {"post", "assign", "commit", "reveal", "accept"} == set(receipt["seconds"])
    assert sum(receipt["seconds"].values()) == pytest.approx(client.job(to_hex(job.job_id)).seen["accepted"], abs=0.01)
    assert receipt["slash"] is None
    after = client.balance()
    assert after.escrow == before.escrow == 0
    audit_fee = 10**7  # a hundredth of a seat
    assert after.free == before.free - 3 * 10**9 - audit_fee  # three seats, a milli-unit of fuel each, no fee
    json.dumps(receipt)


def test_a_job_whose_content_was_pushed_goes_on_without_us(config: Config, module: str) -> None:
    with QuorateClient.open(config) as client:
        prepared = client.prepare(module, args=["pushed"], limits=LIMITS)
        job = client.submit(prepared, OrderWishes(seats=2))
    with QuorateClient.open(config) as client:
        assert client.wait(client.job(job.job_id.hex()[:16]), timeout_s=90).stage is JobStage.ACCEPTED


def test_a_program_that_is_refused_or_never_ends_has_a_result(
    client: QuorateClient, home: Path, tmp_path: Path
) -> None:
    # (module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))
    looping = MODULE[:-6] + bytes.fromhex("0a0901070003400c000b0b")
    path = home / "loop.wasm"
    path.write_bytes(looping)
    with client.serving() as url:
        prepared = client.prepare(str(path), limits=LIMITS)
        job = client.submit(prepared, OrderWishes(seats=2), providers=[url])
        assert client.wait(job, timeout_s=90).stage is JobStage.ACCEPTED
    assert client.fetch_result(job, tmp_path / "out").results[0].status is TaskStatus.OUT_OF_FUEL


def test_the_exit_code_tells_a_program_that_failed_whether_or_not_its_output_is_fetched(
    home: Path, devnet: Devnet, module: str, tmp_path: Path
) -> None:
    # (module (memory (export "memory") 1) (func (export "_start") unreachable))
    trapping = home / "trap.wasm"
    trapping.write_bytes(MODULE[:-6] + bytes.fromhex("0a05010300000b"))
    fine = run_quorate("wasm", "run", module, "--seats", "2", "--arg", "fine", "--wait", "-o", "json", home=home)
    assert (fine.returncode, json.loads(fine.stdout)["status"]) == (0, ["OK"]), fine.stderr
    failed = run_quorate("wasm", "run", str(trapping), "--seats", "2", "--wait", "-o", "json", home=home)
    receipt = json.loads(failed.stdout)
    assert (failed.returncode, receipt["verdict"], receipt["status"]) == (5, "accepted", ["FAILED"]), failed.stderr
    assert "task 0 ended as FAILED: it trapped" in failed.stderr
    again = run_quorate("job", "wait", receipt["job_id"], home=home)
    assert (again.returncode, "status  FAILED" in again.stdout) == (5, True), again.stderr
    fetched = run_quorate("job", "get", receipt["job_id"], "--to", str(tmp_path / "out"), home=home)
    assert fetched.returncode == 5
    shown = run_quorate("job", "describe", receipt["job_id"], home=home)
    assert shown.returncode == 0
    for words in (
        f"job {receipt['job_id']}",
        "accepted",
        "2 seats",
        "tasks that failed",
        "FAILED",
        " UTC",
        "committed",
    ):
        assert words in shown.stdout, words
    assert "{" not in shown.stdout, "tables, not JSON"
    described = json.loads(run_quorate("job", "describe", receipt["job_id"], "-o", "json", home=home).stdout)
    assert described == {key: value for key, value in receipt.items() if key != "status"} | {
        "final": described["final"], "final_at": described["final_at"], "seconds": described["seconds"],
        "steps": described["steps"],
    }  # fmt: skip


def test_wishes_that_post_would_skip_are_refused_before_signing(client: QuorateClient, module: str) -> None:
    prepared = client.prepare(module, limits=LIMITS)
    for wishes, words in (
        (OrderWishes(seats=4), "4 seats are out of range: the class has 6 members, so 1 to 3: choose by --seats 3"),
        (OrderWishes(rounds=3), "rounds 3 is out of range"),
        (OrderWishes(max_price=1), "above --max-price 1"),
        (OrderWishes(seats=2, confidence=0.9), "either seats or a confidence"),
        (OrderWishes(confidence=1.5), "between 0 and 1"),
        (OrderWishes(confidence=0.999999), "out of range"),
        (OrderWishes(commit_period=61), "commit period"),
    ):
        with pytest.raises(ValidationError, match=words):
            client.submit(prepared, wishes, providers=["http://127.0.0.1:1"])
    heavy = client.prepare(module, limits=Limits(fuel=10**12))
    with pytest.raises(ValidationError, match="need 5001 s at the reference speed"):
        client.submit(heavy, providers=["http://127.0.0.1:1"])


def test_limits_above_the_collators_ceilings_are_refused_before_anything_is_locked(
    client: QuorateClient, module: str
) -> None:
    greedy, free = client.prepare(module, limits=replace(LIMITS, compile_seconds=61)), client.balance().free
    for providers in ([], ["http://127.0.0.1:1"]):
        with pytest.raises(ValidationError, match="compile_seconds = 61 is above this node's ceiling 60: ask for less"):
            client.submit(greedy, OrderWishes(seats=1), providers=providers)
    assert client.balance().free == free


def test_a_wallet_without_a_deposit(devnet: Devnet, config: Config, module: str) -> None:
    with QuorateClient.open(config) as client:
        client.__dict__["account"] = poor = SigningAccount.create()
        devnet.gateway.rpc.call("anvil_setBalance", to_hex(poor.address), hex(ETHER))
        with pytest.raises(ProtocolViolation, match=r"InsufficientDeposit\(0, .*quorate account deposit"):
            client.submit(client.prepare(module, limits=LIMITS), providers=["http://127.0.0.1:1"])
        client.deposit(10**17)
        assert client.balance().free == 10**17
        client.withdraw(10**17)
        assert client.balance().free == 0


def test_orders_that_were_altered_or_signed_by_another_are_refused(client: QuorateClient, module: str) -> None:
    with client.serving() as url:
        job = client.submit(client.prepare(module, args=["x"], limits=LIMITS), OrderWishes(seats=1), providers=[url])
        separator = client.gateway.domain_separator()
        altered = replace(job.order, nonce=200, max_fee=1)
        stolen = replace(job, order=altered, job_id=compute_job_id(separator, altered))
        with pytest.raises(OrderRefused):
            client.send(stolen)
        forged = replace(stolen, signature=SigningAccount.create().sign(stolen.job_id))
        with pytest.raises(OrderRefused):
            client.send(forged)
        expired = replace(job.order, nonce=201, valid_until=1)
        late_id = compute_job_id(separator, expired)
        late = replace(job, order=expired, job_id=late_id, signature=client.account.sign(late_id))
        with pytest.raises(OrderRefused):
            client.send(late)
        client.book.save(late)
        assert client.wait(late, timeout_s=10).stage is JobStage.EXPIRED
        assert client.wait(job, timeout_s=90).stage is JobStage.ACCEPTED


def test_no_collator_answers_and_the_nonce_is_not_given_again(config: Config, module: str) -> None:
    away = replace(config, collators=("http://127.0.0.1:1",))
    with QuorateClient.open(away) as client:
        prepared = client.prepare(module, args=["later"], limits=LIMITS)
        known = {record.job_id for record in client.book.load_all()}
        with pytest.raises(CollatorAway):
            client.submit(prepared, OrderWishes(seats=1), providers=["http://127.0.0.1:1"])
        (lost,) = [record for record in client.book.load_all() if record.job_id not in known]
        window = client.gateway.nonces(client.account.address)
        fresh = client.book.reserve_nonce(client.gateway.deployment, client.account.address, window)
        assert fresh == lost.order.nonce + 1
