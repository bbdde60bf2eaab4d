"""A Docker daemon for tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


class Daemon:
    """A private daemon, and its processes."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "quorate_node.executor.dockerd", str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.host, pid = self.process.stdout.readline().split()
        self.pid = int(pid)

    def stop(self) -> None:
        """As when whoever started it ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0
