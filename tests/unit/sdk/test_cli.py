"""What the command line refuses before anything is signed, and how it says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from quorate.cli import wasm
from quorate.cli.job import check_folder
from quorate.cli.main import app
from quorate.cli.output import OutputFormat, format_ether, guarded, parse_amount, print_result
from quorate.cli.submitting import telling_that_posted
from quorate.config import load_config
from quorate.delivery import check_provider_urls
from quorate.protocol.errors import DataError, ValidationError
from quorate.sdk import QuorateClient
from quorate.storage.kubo_rpc import DaemonGone, KuboRpc


def test_a_result_folder_is_checked_before_the_job_is_paid(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "deep")
    with pytest.raises(DataError, match="exists"):
        check_folder(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="no folder"):
        check_folder(tmp_path / "file" / "below")


@pytest.mark.parametrize("url", ["ftp://host", "host:80", "http://", "http://a b", ""])
def test_providers_are_http_urls(url: str) -> None:
    check_provider_urls(["http://127.0.0.1:1", "https://host/path"])
    with pytest.raises(ValidationError, match="http"):
        check_provider_urls([url])


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    @guarded
    def command() -> None:
        (tmp_path / "nowhere" / "file").write_text("")

    with pytest.raises(typer.Exit) as end:
        command()
    assert end.value.exit_code == DataError.exit_code


def test_other_system_errors_keep_their_trace() -> None:
    @guarded
    def command() -> None:
        raise OSError(5, "broken")

    with pytest.raises(OSError, match="broken"):
        command()


@pytest.mark.parametrize(("text", "wei"), [("1", 1), ("1.5ether", 15 * 10**17), ("2 ether", 2 * 10**18)])
def test_amounts_are_wei_or_ether(text: str, wei: int) -> None:
    assert parse_amount(text) == wei
    assert parse_amount(format_ether(wei)) == wei


@pytest.mark.parametrize("text", ["", "0", "-1", "ether", "1.5", "1e-19ether", "inf", "NaN", "1 gwei", "0x10"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match=r"amount|whole number"):
        parse_amount(text)


def test_arguments_of_a_program_may_stand_behind_two_dashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for containers, and for `quorate-node exec`."""
    module, found = tmp_path / "m.wasm", []
    module.write_bytes(b"\0asm\1\0\0\0")
    client = QuorateClient.open(load_config(tmp_path))
    monkeypatch.setattr(wasm, "submit_job", lambda prepare, wishes, after: found.append(prepare(client).spec))
    words = ["wasm", "run", str(module), "--arg", "-v", "--wait", "--", "--seats", "x y"]
    done = CliRunner().invoke(app, ["--home", str(tmp_path), *words])
    client.close()
    assert done.exit_code == 0, done.output
    assert [spec.args for spec in found] == [("-v", "--seats", "x y")]


def test_what_others_wrote_does_not_steer_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    @guarded
    def command() -> None:
        print_result({"name": "a\x1b[2Jb\udcff"}, OutputFormat.TEXT)
        print_result({"name": "\udcff"}, OutputFormat.JSON)
        raise DataError("no \x1b[31m\x9b \u202e")

    with pytest.raises(typer.Exit):
        command()
    stdout, stderr = capfd.readouterr()
    assert stdout == 'name: a\\x1b[2Jb\\udcff\n{\n  "name": "\\udcff"\n}\n'
    assert stderr == "quorate: no \\x1b[31m\\x9b \\u202e\n"


def test_a_daemon_that_dies_under_a_job_makes_nobody_pay_twice() -> None:
    rpc = KuboRpc("http://127.0.0.1:9")  # nobody listens there
    told = r"then try again by `quorate job get abababab`.*posted already"
    with pytest.raises(DaemonGone, match=told), telling_that_posted(b"\xab" * 32):
        rpc.pins()
    rpc.close()
