"""A Kubo daemon of our own: loopback only, private, with a repository that is thrown away."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx

BINARY = shutil.which("ipfs")
WHY_NOT = "there is no ipfs on PATH: scripts/setup --kubo takes or builds one"
START_S = 60.0


def _drain(output: IO[str]) -> None:
    with output:
        output.read()


def _isolate(config: dict[str, Any]) -> None:
    config["Addresses"] |= {
        "Swarm": ["/ip4/127.0.0.1/tcp/0"], "API": "/ip4/127.0.0.1/tcp/0", "Gateway": "/ip4/127.0.0.1/tcp/0",
    }  # fmt: skip
    config["Bootstrap"] = []
    config["Routing"] = {"Type": "none"}
    config["AutoConf"] = {"Enabled": False}
    config["Discovery"]["MDNS"]["Enabled"] = False
    config["Swarm"] |= {"AddrFilters": [], "DisableNatPortMap": True}
    config["Gateway"]["NoFetch"] = True


class Kubo:
    """`url` is its API, `gateway` its gateway; both change with each start. Killed at the end of a `with`.

    `profiles` are Kubo's, beside those of a private daemon without a disk's patience.
    """

    def __init__(self, folder: Path, *profiles: str) -> None:
        folder.mkdir(exist_ok=True)
        self.repository = folder / "repository"
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "IPFS_PATH": str(self.repository),
            "IPFS_TELEMETRY": "off",
        }
        self._process: subprocess.Popen[str] | None = None
        self.url = self.gateway = ""
        self.run("init", f"--profile={','.join(('test', 'server', *profiles))}")
        self._change(_isolate)

    def run(self, *words: str, stdin: bytes | None = None) -> bytes:
        """What `ipfs` says; with a daemon at work it asks that one."""
        assert BINARY is not None
        done = subprocess.run(
            [BINARY, *words], env=self._environment, input=stdin, capture_output=True, check=False, timeout=100
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def start(self) -> None:
        assert BINARY is not None
        self._process = subprocess.Popen(
            [BINARY, "daemon", "--migrate=false"],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output = self._process.stdout
        assert output is not None
        said: list[str] = []
        watch = threading.Timer(START_S, self._process.kill)
        watch.start()
        for line in output:
            said.append(line)
            if "Daemon is ready" in line:
                break
        watch.cancel()
        found = {
            name: re.search(pattern, "".join(said))
            for name, pattern in {
                "url": r"RPC API server listening on /ip4/127\.0\.0\.1/tcp/(\d+)",
                "gateway": r"Gateway server listening on /ip4/127\.0\.0\.1/tcp/(\d+)",
            }.items()
        }
        assert all(found.values()), "".join(said)
        for name, match in found.items():
            assert match is not None
            setattr(self, name, f"http://127.0.0.1:{match[1]}")
        self._reader = threading.Thread(target=_drain, args=(output,), daemon=True)  # a full pipe would stop it
        self._reader.start()

    def kill(self) -> None:
        """As a power cut would."""
        if self._process is None:
            return
        # Taken before it is waited for: threads of a proxy may call this while another daemon is started.
        process, reader, self._process = self._process, self._reader, None
        if process is not None:
            process.kill()
            process.wait()
            reader.join()

    def empty(self) -> None:
        """Forget all content."""
        with httpx.Client(base_url=f"{self.url}/api/v0/", timeout=60, trust_env=False) as client:
            pinned = client.post("pin/ls", params={"type": "recursive"}).raise_for_status().json().get("Keys", {})
            for cid in pinned:
                client.post("pin/rm", params={"arg": cid}).raise_for_status()
            client.post("repo/gc", params={"quiet": "true"}).raise_for_status()

    def _change(self, change: Callable[[dict[str, Any]], None]) -> None:
        path = self.repository / "config"
        config: dict[str, Any] = json.loads(path.read_text())
        change(config)
        path.write_text(json.dumps(config))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
