"""What the `filecoin-provider` commands do, apart from reading options and printing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from quorate.filecoin.spending import parse_amount
from quorate.filecoin.terms import check_price
from quorate.protocol.errors import ConfigurationError, DataError, ValidationError
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate_node.cli.storing import progress, size_of
from quorate_node.filecoin.provider.about import describe_dataset, describe_till
from quorate_node.filecoin.provider.adding import Home, Importer
from quorate_node.filecoin.provider.catalog import Catalog
from quorate_node.filecoin.provider.till import Till


def add(home: Path, content: str, price: str, source: str | None, *, is_piece: bool) -> dict[str, Any]:
    """Put a path or a CID on sale. Raises DataError, ValidationError."""
    price_per_mib = parse_amount("the price", price)
    check_price(price_per_mib, 1)
    path = Path(content).expanduser()
    cid = None if path.exists() or path.is_symlink() else _parse_cid(content)
    if source is not None and cid is None:
        raise ValidationError("--from is where a CID's blocks are; a path has its bytes itself: leave it out")
    with _opened(Home(home)) as importer:
        if cid is not None:
            return describe_dataset(importer.add_cid(cid, price_per_mib, source, is_piece=is_piece))
        with progress(content, size_of(path)) as tell:
            return describe_dataset(importer.add_path(path, price_per_mib, is_piece=is_piece, on_bytes=tell))


def set_price(home: Path, cid: str, price: str) -> dict[str, Any]:
    """Change the price of what has a root or piece CID. Raises DataError when nothing has."""
    with closing(Catalog(_existing(Home(home)).catalog)) as catalog:
        found = catalog.set_price(Cid.parse(cid), parse_amount("the price", price))
        return {"datasets": [describe_dataset(each) for each in found]}


def describe(home: Path) -> dict[str, Any]:
    """Datasets, and what the till holds."""
    with ExitStack() as stack:
        catalog = stack.enter_context(closing(Catalog(_existing(Home(home)).catalog)))
        found: dict[str, Any] = {"datasets": [describe_dataset(each) for each in catalog.list_all()]}
        if Home(home).till.exists():
            found |= describe_till(stack.enter_context(closing(Till(Home(home).till))))
        return found


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port. Raises ConfigurationError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"{text!r} is no HOST:PORT, like 127.0.0.1:8300")
    return host, int(port)


def _parse_cid(content: str) -> Cid:
    try:
        return Cid.parse(content)
    except DataError as error:
        raise DataError(f"{content} is neither a path that is here nor a CID ({error})") from error


def _existing(home: Home) -> Home:
    if not home.catalog.exists():
        raise ConfigurationError(f"no provider in {home.path}: `quorate-node filecoin-provider add` makes one")
    return home


@contextmanager
def _opened(home: Home) -> Iterator[Importer]:
    with closing(EmbeddedStore(home.store)) as store, closing(Catalog(home.catalog)) as catalog:
        yield Importer(home, store, catalog)
