"""What an operator denies by CID or by a program of its own is neither fetched nor run: its seat abstains."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tracemalloc
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.node.simulation import Network0

from quorate.protocol.encoding import compute_job_id
from quorate.protocol.errors import DataError
from quorate.protocol.profiles import Description
from quorate.protocol.spec import WASM_PROFILE, JobSpec, Limits
from quorate.protocol.types import AbstainReason
from quorate.storage.cid import DAG_PB, RAW, Cid
from quorate.storage.denylist import DenyList
from quorate.storage.embedded import EmbeddedStore
from quorate_node.admission import Admission, NotAdmitted
from quorate_node.core.instructions import Execute
from quorate_node.core.stimuli import BundleFailed
from quorate_node.core.views import ChainView
from quorate_node.execution import ExecutionService
from quorate_node.executor.dispatcher import Dispatcher
from quorate_node.http_messaging import HttpMessenger

PROFILE = Description(WASM_PROFILE).digest
ONE, TWO = Cid.of(b"one", RAW), Cid.of(b"two", RAW)


# the list ------------------------------------------------------------------------------------------------------------


def test_a_list_goes_by_the_bytes_and_not_by_their_name(tmp_path: Path) -> None:
    path = tmp_path / "deny.txt"
    path.write_text(f"# mine\n\n  {ONE}  # and why\n")
    denied = DenyList(path)
    assert ONE in denied
    assert Cid(1, DAG_PB, ONE.multihash) in denied
    assert Cid(0, DAG_PB, ONE.multihash) in denied
    assert TWO not in denied
    assert len(denied) == 1


def test_a_list_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "deny.txt"
    denied = DenyList(path, is_optional=True)
    assert ONE not in denied
    path.write_text(f"{ONE}\n")
    assert ONE in denied
    path.write_text(f"{ONE}\n{TWO}\n")
    assert TWO in denied
    path.unlink()
    assert ONE not in denied


def test_a_list_that_breaks_while_it_is_used_still_denies_what_it_did(tmp_path: Path) -> None:
    path = tmp_path / "deny.txt"
    path.write_text(f"{ONE}\n")
    denied = DenyList(path)
    path.write_text(f"{TWO}\nno cid at all\n")
    assert ONE in denied
    assert TWO not in denied
    assert denied.problem is not None
    assert "line 2" in denied.problem
    path.write_text(f"{TWO}\n")
    assert TWO in denied
    assert denied.problem is None


@pytest.mark.parametrize("content", [b"bafy-no\n", b"\xff\xfe", None])
def test_a_node_does_not_start_with_a_list_that_it_cannot_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "deny.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"deny\.txt"):
        DenyList(path)


# the program ---------------------------------------------------------------------------------------------------------


def program(tmp_path: Path, text: str, timeout_s: float = 20.0) -> Admission:
    """An admission that asks a Python program."""
    path = tmp_path / "policy.py"
    path.write_text(text)
    return Admission(command=(sys.executable, "-S", str(path)), timeout_s=timeout_s)


def ask(admission: Admission, times: int = 1) -> str | None:
    """The reason of a refusal, or None."""
    order = Network0().order().order
    spec = JobSpec(str(ONE), str(TWO), limits=Limits(fuel=order.fuel_limit))

    async def all_of_them() -> str | None:
        asking = (admission.ask(bytes(32), order, spec) for _ in range(times))
        answers = await asyncio.gather(*asking, return_exceptions=True)
        refused = [answer for answer in answers if answer is not None]
        assert len(refused) in (0, times)
        assert all(isinstance(answer, NotAdmitted) for answer in refused), refused
        return str(refused[0]) if refused else None

    return asyncio.run(all_of_them())


def test_a_program_is_asked_once_a_job_and_reads_all_about_it(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    admission = program(tmp_path, f"import sys; open({str(asked)!r}, 'a').write(sys.stdin.read() + '\\n')")
    assert ask(admission, times=5) is None
    lines = asked.read_text().splitlines()
    assert len(lines) == 1
    told = json.loads(lines[0])
    assert told["spec"]["module"] == str(ONE)
    assert told["spec"]["input"] == str(TWO)
    assert told["job_id"] == "0x" + "00" * 32
    assert told["requester"].startswith("0x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("print('no games'); print('more'); raise SystemExit(1)", "refused by this operator's policy: no games"),
        ("raise SystemExit(1)", "no reason given"),
        ("print('x' * 9000); raise SystemExit(1)", "x" * 200),
        ("raise SystemExit(7)", "ended with 7, neither 0 (yes) nor 1 (no)"),
        ("import os; os.kill(os.getpid(), 9)", "ended with -9"),
    ],
)
def test_only_a_clear_yes_is_one(tmp_path: Path, text: str, says: str) -> None:
    reason = ask(program(tmp_path, text))
    assert reason is not None
    assert says in reason
    assert len(reason) < 300


def test_a_program_that_sleeps_is_ended_with_what_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    text = f"""import os, subprocess, sys
child = subprocess.Popen(["sleep", "600"])
open({str(pid)!r}, "w").write(str(child.pid))
child.wait()"""
    reason = ask(program(tmp_path, text, timeout_s=2.0))
    assert reason is not None
    assert "gave no answer in 2 s" in reason
    state = Path(f"/proc/{pid.read_text()}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_program_that_babbles_takes_no_memory(tmp_path: Path) -> None:
    text = "import os, sys\nfor _ in range(32): os.write(1, bytes([111]) * (1 << 20))\nsys.exit(1)"
    tracemalloc.start()
    try:
        refused = ask(program(tmp_path, text))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused is not None
    assert refused.endswith("o" * 200)
    assert len(refused) < 300
    assert peak < 8 << 20


def test_a_program_that_reads_nothing_is_heard(tmp_path: Path) -> None:
    assert ask(program(tmp_path, "import os; os.close(0); print('no'); os._exit(1)")) is not None
    assert ask(program(tmp_path, "import os; os.close(0); os._exit(0)")) is None


def test_a_program_that_is_not_there_admits_nothing() -> None:
    reason = ask(Admission(command=("/nowhere/policy",)))
    assert reason is not None
    assert "cannot be run" in reason


def test_a_program_does_not_see_the_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUORATE_PASSPHRASE", "open sesame")
    seen = tmp_path / "seen"
    ask(program(tmp_path, f"import os; open({str(seen)!r}, 'w').write(repr(dict(os.environ)))"))
    assert "sesame" not in seen.read_text()
    assert "PATH" in seen.read_text()
    assert os.environ["QUORATE_PASSPHRASE"] == "open sesame"


# both in an execution ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("denied", ["spec", "module", "input", "policy"])
def test_a_seat_abstains_before_anything_is_fetched(tmp_path: Path, denied: str) -> None:
    asked: list[str] = []

    def hints(_: bytes) -> list[str]:
        asked.append("providers")
        return []

    async def run() -> object:
        order = Network0().order().order
        with closing(EmbeddedStore(tmp_path / "store")) as store:
            spec = JobSpec(str(ONE), str(TWO), limits=Limits(fuel=order.fuel_limit))
            spec_cid = store.put_raw(spec.to_bytes())
            order = replace(order, spec_hash=spec.digest)
            cids = {"spec": spec_cid, "module": ONE, "input": TWO}
            admission = program(tmp_path, "raise SystemExit(1)") if denied == "policy" else Admission()
            if denied in cids:
                admission.denied = DenyList.of([cids[denied]])
            messenger = HttpMessenger(ChainView(), is_local=True)
            service = ExecutionService(
                store, Dispatcher({}), messenger, "http://127.0.0.1:1", True, hints, admission=admission
            )
            try:
                job_id = compute_job_id(bytes(32), order)
                return await service.run(Execute((1, 0), job_id, order, 0, (), (), 5, PROFILE))
            finally:
                service.fetchers.shutdown()
                await messenger.close()

    outcome = asyncio.run(run())
    assert isinstance(outcome, BundleFailed)
    assert outcome.abstention is AbstainReason.POLICY
    assert not outcome.retry
    assert not outcome.is_host_fault
    assert asked == []
