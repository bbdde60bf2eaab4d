"""The steps at which a node may die: before and after everything that it writes to its journal, signs or sends.

They are found in the code as it is: every public method of the journal, of the signer and of the messenger, and every
call of a contract, before and after; a journal write also in its middle, and before the disk has it. Steps of a new
method are seen, and walked, by themselves.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from quorate.chain.gateway import JsonRpcGateway
from quorate_node import journal as journal_module
from quorate_node.core.state import SecretGroup
from quorate_node.http_messaging import HttpMessenger
from quorate_node.journal import Journal
from quorate_node.mailbox import KINDS
from quorate_node.signer import Signer

SEEN, ARMED, DIED, TOKENS = "seen", "armed", "died", "tokens"
SIGNED = "signed.jsonl"
QUIET = {"close", "locate_operator", "locate_address", "find_route", "find_route_to", "post"}
"""Methods that write, sign and send nothing, or only for others that are steps themselves."""


class Steps:
    """What this process has passed. A step that is armed in `folder` kills it, once; tokens limit how many die at once.

    `suffix` is added to the names of steps: it tells in which situation the node is.
    """

    def __init__(self, folder: Path, home: Path, suffix: Callable[[], str] = lambda: "") -> None:
        self._folder, self._home, self._suffix = folder, home, suffix
        self._seen: set[str] = set()
        self._within = threading.local()

    def pass_by(self, name: str) -> None:
        """Note a step, and die there if it is armed."""
        if self.is_claimed(name):
            self.die()

    def is_claimed(self, name: str) -> bool:
        """Note a step; whether this process is to die at it. Armed may be the step in its situation, or in any."""
        here = name + self._suffix()
        if here not in self._seen:
            self._seen.add(here)
            with (self._folder / SEEN).open("a") as file:
                file.write(here + "\n")
        armed = next((each for each in (here, name) if (self._folder / ARMED / each).exists()), None)
        for token in sorted((self._folder / TOKENS).iterdir()) if armed else ():
            with suppress(FileNotFoundError):
                token.unlink()
                with suppress(FileNotFoundError):
                    (self._folder / ARMED / armed).rename(self._folder / DIED / f"{armed}@{self._home.name}")
                    return True
                token.touch()  # somebody else died there meanwhile
                return False
        return False

    def die(self) -> None:
        """As a power cut: nothing is closed or flushed."""
        os.kill(os.getpid(), signal.SIGKILL)

    # seams --------------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Put the steps around the code that writes, signs and sends."""
        for owner, label in ((Journal, "journal"), (Signer, "sign"), (HttpMessenger, "send")):
            for name in list_methods(owner):
                self._surround(owner, name, label)
        self._surround(JsonRpcGateway, "send", "call")
        self._surround(JsonRpcGateway, "wait", "mined")
        self._tear_writes()
        self._record_signatures()

    def _surround(self, owner: type, name: str, label: str) -> None:
        original = getattr(owner, name)

        def tell(given: tuple[Any, ...]) -> str:
            told = [label, name, *filter(None, map(describe, given))]
            return "-".join(told)

        if inspect.iscoroutinefunction(original):

            @functools.wraps(original)
            async def later(*given: Any, **named: Any) -> Any:
                step = tell(given[1:])
                self.pass_by(f"before-{step}")
                found = await original(*given, **named)
                self.pass_by(f"after-{step}")
                return found

            setattr(owner, name, later)
            return

        @functools.wraps(original)
        def at_once(*given: Any, **named: Any) -> Any:
            step = tell(given[1:])
            self.pass_by(f"before-{step}")
            self._within.step = step
            try:
                found = original(*given, **named)
            finally:
                self._within.step = None
            self.pass_by(f"after-{step}")
            return found

        setattr(owner, name, at_once)

    def _tear_writes(self) -> None:
        """A write may reach the disk in part, or not yet at all."""
        write_all = journal_module._write_all

        def torn(file: int, data: bytes) -> None:
            within = getattr(self._within, "step", None)
            if within is None:  # a journal begins, which happens once a home
                write_all(file, data)
                return
            step = f"write-{within}"
            if self.is_claimed(f"within-{step}"):
                os.write(file, data[: len(data) // 2])
                self.die()
            write_all(file, data)
            self.pass_by(f"unsynced-{step}")

        journal_module._write_all = torn

    def _record_signatures(self) -> None:
        """Everything that a signature was given for, in HOME: what the walk judges by."""
        path = self._home / SIGNED

        def record(name: str, row: dict[str, Any]) -> None:
            with path.open("a") as file:
                file.write(json.dumps({"method": name, **row}) + "\n")

        for name in ("sign_list", "sign_vote"):
            original = getattr(Signer, name)

            def signed(self: Signer, group: SecretGroup, _name: str = name, _original: Any = original) -> Any:
                secrets = [[s.bundle, s.seat, s.commitment.hex()] for s in group.secrets]
                record(_name, {"operator": self.operator_id, "domain": group.domain.hex(), "secrets": secrets})
                return _original(self, group)

            setattr(Signer, name, signed)


def list_methods(owner: type) -> list[str]:
    """What others may call, beside what does nothing that lasts."""
    found = inspect.getmembers(owner, inspect.isfunction)
    return [name for name, _ in found if not name.startswith("_") and name not in QUIET]


def describe(value: Any) -> str:
    """What tells steps of one method apart: the kind of a message, the name of a call, the stage of a vote."""
    if isinstance(value, str):
        return value if value in KINDS else ""
    if (stage := getattr(value, "stage", None)) is not None:
        return str(stage.name)
    name = getattr(value, "name", None)
    return name if isinstance(name, str) else ""
