"""What the command line refuses before anything is signed, and how it says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from quorate.cli.job import check_folder
from quorate.cli.output import format_ether, guarded, parse_amount
from quorate.delivery import check_provider_urls
from quorate.protocol.errors import DataError, ValidationError


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
