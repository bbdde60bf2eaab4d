"""The file that remembers a devnet's processes, so that another command ends these and no others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.chain.account import SigningAccount
from quorate.chain.types import to_hex, write_atomically
from quorate.devnet.enroll import Member
from quorate.devnet.guard import stop_groups
from quorate.devnet.options import CONFIG_FILE, DEPLOYMENT_FILE, MARKER_FILE, STATE_FILE
from quorate.devnet.process import ProcessId, Running
from quorate.protocol.errors import Busy, ConfigurationError


@dataclass(frozen=True, slots=True)
class DevnetNode:
    """A node's process with its operators, of which there is at least one."""

    index: int
    operators: tuple[Member, ...]
    home: Path
    running: Running

    @property
    def operator_id(self) -> int:
        """Id of its first operator, the one that collates."""
        return self.operators[0].operator_id

    @property
    def account(self) -> SigningAccount:
        """Key of its first operator."""
        return self.operators[0].account

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.operators[0].url


@dataclass(frozen=True, slots=True)
class DevnetState:
    """What stands in the file: addresses for people, processes by pid and start time."""

    rpc_url: str
    requester: str
    nodes: tuple[dict[str, Any], ...]
    processes: tuple[tuple[str, ProcessId], ...]

    def describe(self) -> dict[str, Any]:
        """For `quorate devnet status`."""
        alive = {name: process.is_alive for name, process in self.processes}
        nodes = [{**node, "running": alive.get(f"node-{node['index']}", False)} for node in self.nodes]
        anvil = {"rpc_url": self.rpc_url, "running": alive.get("anvil", False)}
        return {"anvil": anvil, "requester": self.requester, "nodes": nodes}


def save_state(
    home: Path, rpc_url: str, requester: SigningAccount, nodes: Sequence[DevnetNode], running: Sequence[Running]
) -> None:
    """Write the file."""
    rows = [
        {
            "index": n.index,
            "operator_id": n.operator_id,
            "operators": len(n.operators),
            "address": to_hex(n.account.address),
            "url": n.url,
            "home": str(n.home),
        }
        for n in nodes
    ]
    processes = [{"name": r.name, "pid": r.id.pid, "start": r.id.start} for r in running]
    state = {"rpc_url": rpc_url, "requester": to_hex(requester.address), "nodes": rows, "processes": processes}
    write_atomically(home / STATE_FILE, json.dumps(state, indent=1) + "\n")


def load_state(home: Path) -> DevnetState | None:
    """Read the file; None when there is none. Raises ConfigurationError when it is broken."""
    path = home / STATE_FILE
    try:
        values = json.loads(path.read_text())
        processes = tuple((p["name"], ProcessId(int(p["pid"]), str(p["start"]))) for p in values["processes"])
        return DevnetState(values["rpc_url"], values["requester"], tuple(values["nodes"]), processes)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} is broken ({error!r}): end its processes by hand and remove it") from error


def check_nothing_runs(home: Path) -> None:
    """Raise Busy when a devnet runs in this home."""
    state = load_state(home)
    if state and any(process.is_alive for _, process in state.processes):
        raise Busy(f"a devnet runs in {home} already: end it with `quorate devnet down`, or use another --home")


def clear_home(home: Path) -> None:
    """Make room for a fresh devnet: remove what an earlier one left, and nothing else.

    Raises ConfigurationError for a folder with other things in it.
    """
    home.mkdir(parents=True, exist_ok=True)
    if any(home.iterdir()) and not (home / MARKER_FILE).exists():
        raise ConfigurationError(f"{home} has other files in it: give the devnet a folder of its own")
    (home / MARKER_FILE).write_text("A devnet of Quorate; `quorate devnet up` removes and makes it anew.\n")
    for folder in [*home.glob("node-*"), home / "requester", home / "logs"]:
        shutil.rmtree(folder, ignore_errors=True)
    for name in (STATE_FILE, CONFIG_FILE, DEPLOYMENT_FILE):
        (home / name).unlink(missing_ok=True)


def stop_devnet(home: Path) -> int:
    """End the processes that the file names, if they are still the same; returns how many were ended."""
    state = load_state(home)
    if state is None:
        return 0
    alive = [(process.pid, process.start) for _, process in state.processes if process.is_alive]
    stop_groups(alive)
    (home / STATE_FILE).unlink(missing_ok=True)
    return len(alive)
