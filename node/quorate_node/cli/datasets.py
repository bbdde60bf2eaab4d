"""`quorate-node dataset join | leave | list`: hold a dataset whole, and be drawn for the jobs over it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.protocol.errors import ValidationError
from quorate.protocol.profiles import Description
from quorate.protocol.spec import WASM_PROFILE
from quorate.storage import dagpb
from quorate.storage.cid import DAG_PB, Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.fetch import fetch_block, fetch_dag
from quorate.storage.traffic import Meter, TrafficLimits
from quorate.storage.transfer import FetchLimits, OnProgress
from quorate_node.cli import commands
from quorate_node.cli.classes import DRAWN
from quorate_node.cli.options import DEFAULT_HOME, HomeOption, OperatorsOption
from quorate_node.cli.printing import Output, OutputOption, show
from quorate_node.config import NodeConfig, load_config
from quorate_node.exchange import measure_content
from quorate_node.room import Room, RoomLimits
from quorate_node.roots import OwnRoots

app = typer.Typer(
    help="Datasets that this node keeps whole, each with a class of its own.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

JOIN_S = 30 * 86_400.0  # one that is large takes days; a provider that stalls is left all the same
DatasetArgument = Annotated[str, typer.Argument(metavar="CID", help="Root of the dataset.", show_default=False)]
JOIN_EXAMPLE = "Example: quorate-node dataset join bafy… --provider http://127.0.0.1:8080 --units 10"


@app.command(epilog=JOIN_EXAMPLE)
def join(
    dataset: DatasetArgument,
    profile: Annotated[
        list[str] | None,
        typer.Argument(help="What runs over it: quorate-wasm-1, or quorate-docker-1 [image=sha256:…]."),
    ] = None,
    provider: Annotated[list[str] | None, typer.Option(help="URL of a gateway that has it; repeat.")] = None,
    create: Annotated[bool, typer.Option("--create", help="Create its class, where there is none yet.")] = False,
    units: Annotated[int, typer.Option(min=1, help="Units of stake to allocate to it.")] = 10,
    ask: Annotated[int | None, typer.Option(min=1, help="Wei for 1e9 fuel that you ask (the class's price).")] = None,
    capacity: Annotated[int, typer.Option(min=1, help="Fuel a second that you offer.")] = 10**9,
    operators: OperatorsOption = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Fetch a dataset, check and pin all of it, and join the class for jobs over it.

    A member that has lost a part of it abstains, and pays for that: what is pinned stays until `dataset leave`.
    """
    home, description = home.expanduser(), _describe(dataset, profile or (WASM_PROFILE,))
    words, class_id = str(description).split(" "), _find_class(home, description)
    if class_id is None and not create:
        raise ValidationError(f"there is no class for {description} yet: with --create it is made, for a deposit")
    found = hold(load_config(home, operators), Cid.parse(dataset), provider or ())
    if class_id is None:
        class_id = commands.create_class(home, words, None, 10**9, None)["class"]
    found["class"] = class_id
    show(found | commands.join_class(home, class_id, words, units, ask, capacity, operators), output)
    print(DRAWN, file=sys.stderr)


@app.command(epilog="Example: quorate-node dataset leave bafy…")
def leave(dataset: DatasetArgument, home: HomeOption = DEFAULT_HOME, output: OutputOption = Output.TEXT) -> None:
    """Leave all classes for a dataset; given again when it is not drawn for any more, unpin it."""
    show(leave_all(home.expanduser(), dataset), output)


@app.command("list", epilog="Example: quorate-node dataset list --output json")
def list_(home: HomeOption = DEFAULT_HOME, output: OutputOption = Output.TEXT) -> None:
    """Show datasets that this node knows a class for: whether they are here whole, and who is in."""
    show({"datasets": list_all(home.expanduser())}, output)


def _describe(dataset: str, profile: Sequence[str]) -> Description:
    found = Description.parse(" ".join(profile))
    return replace(found, dataset=str(Cid.parse(dataset).to_v1()))


def hold(config: NodeConfig, root: Cid, providers: Sequence[str]) -> dict[str, Any]:
    """Fetch what is missing of a dataset, and pin it.

    Raises StoreFull where it does not fit into the store as the configuration bounds it, before any of it comes but
    its root; ContentUnavailable; and DataError for a full disk.
    """
    with closing(EmbeddedStore(config.home / "store")) as store:
        was_pinned = root in store.pins()
        store.pin(root)  # before it is here: nothing of it may be thrown away meanwhile
        try:
            with _make_room(config, store, root, providers) as limits, _progress(str(root)) as tell:
                report = fetch_dag(store, root, providers, limits=limits, on_progress=tell)
        except BaseException:
            if not was_pinned:  # what an earlier command pinned, a class may rely on
                store.unpin(root)
            raise
        return {"dataset": str(root.to_v1()), "received_bytes": report.bytes} | measure(store, root)


@contextlib.contextmanager
def _make_room(config: NodeConfig, store: EmbeddedStore, root: Cid, providers: Sequence[str]) -> Iterator[FetchLimits]:
    """Room for what is missing, and how much may come. The day's bytes are not counted: an operator wishes this one."""
    meter = Meter("fetch", TrafficLimits(config.fetch_bytes_s))
    fetch_block(store, root, providers, limits=FetchLimits(meter=meter))
    # Of a node that runs beside, jobs are not known here: what they hold is left alone.
    bounds = RoomLimits(config.store_bytes, config.spare_disk_bytes)
    room = Room(store, bounds, OwnRoots(), lambda: None)
    missing = claim_missing(store, root)
    with room.taking(missing) if missing else contextlib.nullcontext():
        yield FetchLimits(room.count_left() + missing, timeout_s=JOIN_S, meter=meter)


def claim_missing(store: EmbeddedStore, root: Cid) -> int:
    """Bytes of a DAG, whose root is here, that are not, as those blocks claim that are."""
    missing, pending, seen = 0, [root], {root}
    while pending:
        cid = pending.pop()
        links = dagpb.decode(store.get(cid)).links if cid.codec == DAG_PB else ()
        for link in links:
            if link.cid in seen:
                continue
            seen.add(link.cid)
            if store.has(link.cid):
                pending.append(link.cid)
            else:
                missing += link.tsize
    return missing


def measure(store: EmbeddedStore, root: Cid) -> dict[str, Any]:
    """Whether a dataset is here whole, and its files with their bytes."""
    files, size = measure_content(store, root) or (None, None)
    return {"complete": files is not None, "files": files, "bytes": size}


@contextlib.contextmanager
def _progress(subject: str) -> Iterator[OnProgress | None]:
    """Bytes received, on a terminal."""
    from quorate.cli.output import stderr

    if not stderr.is_terminal:
        yield None
        return
    with stderr.status(f"{subject}: asking") as status:
        yield lambda count: status.update(f"{subject}: {count / 1e6:,.1f} MB")


def _find_class(home: Path, description: Description) -> int | None:
    listed = commands.list_described(home, description)
    return next((each["class"] for each in listed if each["description"] == str(description)), None)


def leave_all(home: Path, dataset: str) -> dict[str, Any]:
    """Leave a dataset's classes, or unpin it where it is in none and not drawn for any more.

    Then it is held as what a job needs: as long as one is in progress that was posted before, and for HOLD_S where
    nothing else needs the room.
    """
    root = Cid.parse(dataset)
    mine = [each for each in list_all(home) if each["dataset"] == str(root.to_v1())]
    if not mine:
        raise ValidationError(f"this node knows no class for {root}: see `quorate-node dataset list`")
    if left := [commands.leave_class(home, each["class"]) for each in mine if each["mine"]]:
        return {"dataset": str(root.to_v1()), "left": left, "pinned": True}
    if (until := max(each["drawn_until"] or 0 for each in mine)) > time.time():
        raise ValidationError(f"it may be drawn for jobs over {root} until {until} (unix seconds): keep it until then")
    with closing(EmbeddedStore(home / "store")) as store:
        # A seat that was drawn in the last era, and a vote about its job, need it until that job is over.
        store.hold([root])
        store.unpin(root)
    return {"dataset": str(root.to_v1()), "left": [], "pinned": False}


def list_all(home: Path) -> list[dict[str, Any]]:
    """A row for each class over a dataset that this home's configuration knows."""
    found = []
    with closing(EmbeddedStore(home / "store")) as store:
        pins = {str(each.to_v1()) for each in store.pins()}
        for row in commands.list_described(home):
            description = row["description"] and Description.parse(row["description"])
            if description and description.dataset:
                kept = {"dataset": description.dataset, "pinned": description.dataset in pins}
                shown = {
                    name: row[name] for name in ("class", "description", "members", "units", "mine", "drawn_until")
                }
                found.append(shown | kept | measure(store, Cid.parse(description.dataset)))
    return found
