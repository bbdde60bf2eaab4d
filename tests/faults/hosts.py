"""Hosts on one switch, each a network namespace of its own, that can be cut off from all others or from each other.

All of it lives in the namespace of the process that makes it, which must not be the machine's own: start it by
`unshare --net`. Nothing leads out of there, and nothing of it is left when the process is gone. Addresses are such as
nodes ask: public ones, which mean nothing here.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from types import TracebackType

SWITCH = "switch"
OWN_ADDRESS = "11.77.0.1"
DISABLED, FORWARDING = "0", "3"
PROGRAMS = ("unshare", "nsenter", "ip", "bridge")


def find_obstacle() -> str | None:
    """Why this machine has no hosts of that kind; None where it has."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"{', '.join(missing)} cannot be found (iproute2, util-linux)"
    making = ["unshare", "--net", "ip", "link", "add", SWITCH, "type", "bridge"]
    done = subprocess.run(making, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"no network namespaces here: {done.stderr.strip()}"


class Hosts:
    """So many hosts, and this process itself as one more, which is never cut off."""

    def __init__(self, count: int) -> None:
        if _run("ip", "-oneline", "link", "show", "up"):
            raise RuntimeError("this is the machine's own network: start it by `unshare --net`")
        self._holders: list[subprocess.Popen[bytes]] = []
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", SWITCH, "type", "bridge")
        _run("ip", "address", "add", f"{OWN_ADDRESS}/24", "dev", SWITCH)
        _run("ip", "link", "set", SWITCH, "up")
        for index in range(count):
            self._plug(index)

    def _plug(self, index: int) -> None:
        # The line says that the namespace is there.
        argv = ["unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"]
        holder = subprocess.Popen(argv, stdout=subprocess.PIPE)
        self._holders.append(holder)
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            raise RuntimeError("a namespace was not made; its reason is on standard error")
        _run("ip", "link", "add", f"port{index}", "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        _run("ip", "link", "set", f"port{index}", "master", SWITCH, "up")
        for words in (("link", "set", "lo", "up"), ("address", "add", f"{self.address(index)}/24", "dev", "eth0"),
                      ("link", "set", "eth0", "up")):  # fmt: skip
            _run(*self.command(index, ["ip", *words]))

    def address(self, index: int) -> str:
        """Of a host."""
        return f"11.77.0.{10 + index}"

    def command(self, index: int, words: Sequence[str]) -> list[str]:
        """What runs a program on a host."""
        return ["nsenter", f"--net=/proc/{self._holders[index].pid}/ns/net", *words]

    def cut(self, *indices: int) -> None:
        """From now on nothing comes from these hosts, and nothing gets there: as if the switch lost their frames."""
        for index in indices:
            _run("bridge", "link", "set", "dev", f"port{index}", "state", DISABLED)

    def heal(self, *indices: int) -> None:
        """As before."""
        for index in indices:
            _run("bridge", "link", "set", "dev", f"port{index}", "state", FORWARDING)

    def part(self, is_parted: bool = True) -> None:
        """Whether hosts hear each other; this process, and so the chain, they hear all the same."""
        for index in range(len(self._holders)):
            _run("bridge", "link", "set", "dev", f"port{index}", "isolated", "on" if is_parted else "off")

    def __enter__(self) -> Hosts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for holder in self._holders:
            holder.kill()
            holder.wait()


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
