"""What the command line refuses before anything is signed, and how it says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from quorate.cli.job import check_folder
from quorate.cli.output import guarded
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
