"""`quorate-node drain | rotate-key | backup | restore | systemd-unit`: keeping a node, and moving it."""

from __future__ import annotations

import getpass
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.protocol.container import DOCKER_PROFILE
from quorate.protocol.errors import RecoverableError, ValidationError
from quorate_node.cli.options import DEFAULT_HOME, HomeOption
from quorate_node.cli.printing import Output, OutputOption, show

POLL_S = 2.0

UNIT = """\
[Unit]
Description=Quorate node in {home}
Wants=network-online.target
After=network-online.target

[Service]
User={user}
ExecStart={command}
# A node that has voted must open its votes: it comes back whatever ended it, but not where it says that going on would
# risk its stake (2: settings, 70: journal or chain).
Restart=on-failure
RestartPreventExitStatus=2 70
RestartSec=2
# SIGTERM ends it; what it owes others is on disk by then.
TimeoutStopSec=30
LimitNOFILE=65536
LimitCORE=0
UMask=0077
NoNewPrivileges=yes
{more}
[Install]
WantedBy=multi-user.target
"""

ISOLATION = """\
PrivateTmp=yes
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={home}
"""
# Each of these gives a process mounts of its own, and a daemon would not see what the node mounts for a container.
NO_ISOLATION = "# Runs containers: its mounts must be the host's, so it has no file system of its own.\n"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: quorate-node drain --home node && systemctl stop quorate-node")(drain)
    app.command("rotate-key", epilog="Example: quorate-node rotate-key --home node --fund 0.1ether")(rotate_key)
    app.command(epilog="Example: quorate-node backup node.tar --home node")(backup)
    app.command(epilog="Example: quorate-node restore node.tar --home node")(restore)
    app.command("systemd-unit", epilog="Example: quorate-node systemd-unit > /etc/systemd/system/quorate-node.service")(
        systemd_unit
    )


def drain(
    home: HomeOption = DEFAULT_HOME,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait at most (an era, and until its jobs are final).")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until the node may be stopped.")] = True,
    output: OutputOption = Output.TEXT,
) -> None:
    """Leave all classes, and wait until nothing can be asked of the node any more; then it may be stopped.

    The present era still draws it, and its stake answers for its votes until they are final: let it run meanwhile.
    """
    from quorate_node.cli import commands

    left = commands.leave_all(home.expanduser())
    if wait:
        wait_until_free(lambda: commands.count_obligations(home.expanduser()), timeout)
    show({**left, "drained": wait}, output)


def wait_until_free(count: Callable[[], dict[str, int]], timeout_s: float | None) -> None:
    """Until all counts are 0. Raises RecoverableError when that takes longer."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    told: dict[str, int] = {}
    while any((left := count()).values()):
        waited_for = ", ".join(f"{name} {value}" for name, value in left.items() if value)
        if left != told:
            print(f"waiting for: {waited_for}", file=sys.stderr)
            told = left
        if deadline is not None and time.monotonic() > deadline:
            raise RecoverableError(f"still waiting after {timeout_s:g} s for: {waited_for}; drain again, it goes on")
        time.sleep(POLL_S)


def rotate_key(
    home: HomeOption = DEFAULT_HOME,
    fund: Annotated[str | None, typer.Option(help="Wei, or ether as in 0.1ether, to send the new key for gas.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Give the operator a new signing key, after `drain`; then start the node again, and join classes again.

    The stake stays with the owner's key, which the node does not need any more: commands that move the stake do
    (`owner_keystore` in config.json).
    """
    from quorate_node.cli import commands

    told = commands.rotate_key(home.expanduser(), commands.parse_amount(fund) if fund else 0)
    show(told, output)
    print("next: start the node again, then `quorate-node class join`", file=sys.stderr)


def backup(
    file: Annotated[Path, typer.Argument(help="File to write; it must not exist.", show_default=False)],
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Copy what makes this node what it is, also while it runs: settings, key (encrypted), votes with their salts.

    Keep the file secret until the node's votes are open; the passphrase is not in it.
    """
    from quorate_node.backup import write_backup
    from quorate_node.config import load_config

    names = write_backup(load_config(home.expanduser()), file.expanduser())
    show({"backup": str(file), "files": names, "bytes": file.expanduser().stat().st_size}, output)


def restore(
    file: Annotated[Path, typer.Argument(help="What `backup` wrote.", show_default=False)],
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make the same node of a backup, in a new home. Stop the old one: two nodes of one key do the same work twice."""
    from quorate_node.backup import restore_backup

    config = restore_backup(file.expanduser(), home.expanduser())
    found: dict[str, Any] = {"home": str(home), "operators": config.operators, "rpc_url": config.rpc_url}
    show(found | {"keystore": str(config.keystore), "url": config.url}, output)
    print(
        "next: look at listen and announce in config.json, then `quorate-node run` with the passphrase "
        "(passphrase_file was not in the backup)",
        file=sys.stderr,
    )


def systemd_unit(
    home: HomeOption = DEFAULT_HOME,
    user: Annotated[str | None, typer.Option(help="Who runs it (who you are).")] = None,
) -> None:
    """Print a systemd unit for this node, which may write to its home and nowhere else, unless it runs containers."""
    from quorate_node.config import load_config

    folder = home.expanduser().absolute()
    config = load_config(folder)
    words = (sys.executable, "-m", "quorate_node.cli.main", "run", "--home", str(folder))
    runs_containers = any(each.name == DOCKER_PROFILE for each in config.descriptions)
    more = NO_ISOLATION if runs_containers else ISOLATION.format(home=quote_for_systemd(str(folder)))
    if config.passphrase_file is None:
        print("note: config.json names no passphrase_file: the unit loads /etc/quorate/passphrase", file=sys.stderr)
        more += "LoadCredential=passphrase:/etc/quorate/passphrase\nEnvironment=QUORATE_PASSPHRASE_FILE=%d/passphrase\n"
    command = " ".join(quote_for_systemd(word).replace("$", "$$") for word in words)
    shown = str(folder).replace("%", "%%")
    print(UNIT.format(home=shown, user=user or getpass.getuser(), command=command, more=more), end="")


def quote_for_systemd(word: str) -> str:
    """A word as it stands in a unit. Raises ValidationError for one that no unit can hold."""
    if not word.isprintable():
        raise ValidationError(f"{word!r} cannot stand in a systemd unit: choose another folder")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if re.search(r"[^\w./=:@%+,-]", word) else escaped
