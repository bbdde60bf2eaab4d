"""`filecoin retrieve | quote`: data from Filecoin's providers, and what they ask for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.cli.filecoin.places import HomeOption, PassphraseOption
from quorate.cli.showing import LongOutputOption, Output, OutputOption, show
from quorate.filecoin.retrieval.wanted import parse_wanted
from quorate.filecoin.spending import ScopeKind, check_name, name_job

BY_HAND = "by-hand"
CidArgument = Annotated[str, typer.Argument(metavar="CID", help="Root of a DAG, or a piece CID.")]
PaddedOption = Annotated[
    int | None,
    typer.Option(
        "--padded-bytes", help="Of a piece CID of version 1: the padded size of its deal.", show_default=False
    ),
]
IndexOption = Annotated[
    list[str] | None,
    typer.Option("--index", help="Also ask providers that this IPNI instance knows; may be repeated.", metavar="URL"),
]
CeilingOption = Annotated[
    str | None,
    typer.Option(
        "--max-per-mib", help="Pay no more than so many base units a MiB; 10^18 are 1 USDFC.", show_default=False
    ),
]


def quote(
    cid: CidArgument,
    padded_bytes: PaddedOption = None,
    index: IndexOption = None,
    max_per_mib: CeilingOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Ask providers what they want for some data; nothing is paid, and no wallet is opened."""
    from quorate.cli.filecoin import reading_work as work

    wanted = parse_wanted(cid, padded_bytes)
    with work.reading(home, None, index, max_per_mib) as reader:
        wanted = reader.measure(wanted)
        _show_quotes(work.describe_quotes(wanted, reader.quote(wanted)), output)


def retrieve(
    cid: CidArgument,
    quote_only: Annotated[bool, typer.Option("--quote-only", help="Only tell what it would cost.")] = False,
    to: Annotated[
        Path | None,
        typer.Option("--to", "-o", help="A piece's file, or where a DAG is written out.", show_default=False),
    ] = None,
    job: Annotated[str, typer.Option(help="Whose limit for `job` pays.")] = BY_HAND,
    padded_bytes: PaddedOption = None,
    index: IndexOption = None,
    max_per_mib: CeilingOption = None,
    passphrase_file: PassphraseOption = None,
    home: HomeOption = None,
    output: LongOutputOption = Output.TEXT,
) -> None:
    """Retrieve data within the limits: verified chunk by chunk, and paid for chunk by chunk. What was cut off goes on
    where it stopped. Without -o it goes into the store, a piece as the DAG of its CAR or as a file."""
    from quorate.cli.filecoin import reading_work as work

    wanted = parse_wanted(cid, padded_bytes)
    job = name_job(check_name(ScopeKind.JOB, job))
    with work.reading(home, passphrase_file, index, max_per_mib) as reader:
        wanted = reader.measure(wanted)
        if quote_only:
            _show_quotes(work.describe_quotes(wanted, reader.quote(wanted)), output)
        else:
            show(work.describe_report(work.retrieve(reader, wanted, to, job, home)), output)


def _show_quotes(told: dict[str, Any], output: Output) -> None:
    if not told["quotes"] and not told["rejected"]:
        print("nobody was asked: `filecoin providers add URL`, or --index URL, tells whom to ask", file=sys.stderr)
    show(told, output)
