"""What `filecoin retrieve | quote` do, apart from reading options and printing: it takes a while to import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from quorate.cli.filecoin.places import find_folder, get_program
from quorate.filecoin.retrieval.asking import Quotes
from quorate.filecoin.retrieval.dags import bring
from quorate.filecoin.retrieval.opening import open_reader
from quorate.filecoin.retrieval.quoting import Quote
from quorate.filecoin.retrieval.reader import Reader
from quorate.filecoin.retrieval.report import Report
from quorate.filecoin.retrieval.wanted import Wanted
from quorate.filecoin.secrecy import forbid_dumps
from quorate.filecoin.spending import parse_amount
from quorate.filecoin.terms import ExactOffer
from quorate.storage.embedded import EmbeddedStore


def retrieve(reader: Reader, wanted: Wanted, to: Path | None, job: str, home: Path | None) -> Report:
    """Into a file, or into the store."""
    forbid_dumps()
    if wanted.piece is not None and to is not None:
        return reader.bring_piece(wanted, to.expanduser().absolute(), job)
    program = get_program()
    with closing(EmbeddedStore(program.get_store(program.find_home(home)))) as store:
        report = bring(reader, wanted, store, find_folder(home) / "spool", job)
        if to is not None:
            report.path = to.expanduser().absolute()
            store.export(wanted.cid, report.path)
    return report


@contextmanager
def reading(
    home: Path | None, passphrase_file: Path | None, index: list[str] | None, max_per_mib: str | None
) -> Iterator[Reader]:
    """A reader with the home's providers, limits and wallet."""
    program, folder = get_program(), find_folder(home)
    options = program.get_options(program.find_home(home))
    if index:
        options = replace(options, index_urls=tuple(index))
    if max_per_mib is not None:
        options = replace(options, max_per_mib=parse_amount("--max-per-mib", max_per_mib))

    def get_passphrase(named: Path | None) -> bytes:
        return program.get_passphrase(passphrase_file or named, False)

    with program.hashing() as compute:
        yield open_reader(folder, options, get_passphrase, compute)


def describe_quotes(wanted: Wanted, quotes: Quotes) -> dict[str, Any]:
    """What was offered, the cheapest first; amounts as decimal text."""
    return {
        "cid": wanted.text,
        "quotes": [_describe_quote(each) for each in quotes.found],
        "rejected": [{"provider": url, "why": why} for url, why in quotes.rejected],
    }


def _describe_quote(quote: Quote) -> dict[str, Any]:
    offer = quote.offer
    scheme = "free" if offer is None else "exact" if isinstance(offer, ExactOffer) else "voucher"
    found = {"provider": quote.url, "scheme": scheme, "amount": str(quote.amount), "bytes": quote.size}
    if offer is None:
        return found
    paid = {"chain_id": offer.currency.chain_id, "token": offer.currency.token, "payee": offer.payee}
    return found | paid | {"piece": str(quote.hint.v2) if quote.hint is not None else None}


def describe_report(report: Report) -> dict[str, Any]:
    """What came of a retrieval; amounts as decimal text."""
    return {
        "cid": report.wanted,
        "bytes": report.bytes,
        "paid": str(report.paid),
        "seconds": round(report.seconds, 3),
        "providers": report.providers,
        "receipts": [receipt.number for receipt in report.receipts],
        "rejected": [{"provider": url, "why": why} for url, why in report.rejected],
        "path": str(report.path) if report.path is not None else None,
        "root": report.root,
    }
