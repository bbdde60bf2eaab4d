"""Whether a Docker daemon runs containers as jobs need them, found out by running one."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import struct
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from quorate.images.build import ImageRecipe, build_image
from quorate.protocol.container import DOCKER_PROFILE, ContainerSpec, Image
from quorate.protocol.errors import ConfigurationError, QuorateError
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate_node.executor.base import ContainerTask, DockerSettings, LocalFailure
from quorate_node.executor.docker_cgroup import describe_watch
from quorate_node.executor.docker_client import DAEMON_ERRORS, connect
from quorate_node.executor.docker_executor import DockerExecutor

SAID = b"probe\n"
PROBE_S, ANSWER_S = 60.0, 10.0
LOADED_AT, HEADERS = 0x400000, 64 + 56

# write(1, SAID, 6), then exit(0): number of the machine in ELF, and its code. SAID follows, on arm64 28 bytes from the
# second instruction.
CODE = {
    "x86_64": (
        62,
        bytes.fromhex("b801000000 bf01000000 be") + struct.pack("<I", LOADED_AT + HEADERS + 31)
        + bytes.fromhex("ba06000000 0f05 b83c000000 31ff 0f05"),
    ),
    "aarch64": (
        183,
        bytes.fromhex("200080d2 e1000010 c20080d2 080880d2 010000d4 000080d2 a80b80d2 010000d4"),
    ),
}  # fmt: skip


def make_program(machine: str) -> bytes:
    """The least program for Linux that says something; `machine` is a key of CODE."""
    number, code = CODE[machine]
    size = HEADERS + len(code) + len(SAID)
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, number, 1, LOADED_AT + HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, LOADED_AT, LOADED_AT, size, size, 0x1000)
    return head + segment + code + SAID


def try_docker(settings: DockerSettings) -> dict[str, Any]:
    """What the daemon says of itself, and whether a container runs there under exactly the profile of jobs."""
    found: dict[str, Any] = {"ok": False, "profile": DOCKER_PROFILE, "host": settings.host}
    try:
        api = connect(settings.host, ANSWER_S)
        with contextlib.closing(api):
            version, info = api.version()["Version"], api.info()
    except DAEMON_ERRORS as error:
        return found | {"why": f"no Docker daemon that can be used answers at {settings.host} ({error})"}
    runtimes = sorted(info.get("Runtimes") or {})
    found |= {"version": version, "runtimes": runtimes, "gvisor": "runsc" in runtimes, "runtime": settings.runtime}
    if settings.runtime is not None and settings.runtime not in runtimes:
        return found | {"why": f"the daemon has no runtime {settings.runtime}, which docker_runtime asks for"}
    try:
        found["memory"] = describe_watch(str(info.get("CgroupDriver")))
    except ConfigurationError as error:
        return found | {"why": str(error)}
    if platform.machine() not in CODE:
        return found | {"ok": True, "warning": "not tried, for want of a program for this machine"}
    why = _run_probe(settings)
    return found | ({"ok": True} if why is None else {"why": why})


def _run_probe(settings: DockerSettings) -> str | None:
    """Why it failed."""
    with tempfile.TemporaryDirectory(prefix="quorate-probe-") as name:
        folder = Path(name)
        (folder / "probe").write_bytes(make_program(platform.machine()))
        store = EmbeddedStore(folder / "store")
        try:
            config = build_image(ImageRecipe(binary=folder / "probe"), folder / "image.tar")
            image = Image(str(store.add_path(folder / "image.tar").to_v1()), config.id)
            executor = DockerExecutor(replace(settings, scratch=folder / "scratch"), store)
            outcome = asyncio.run(executor.execute(ContainerTask(ContainerSpec(image)), timeout_s=PROBE_S))
            executor.forget_images()
            if isinstance(outcome, LocalFailure):
                return f"{outcome.reason}: {outcome.detail}"
            said = store.read(Cid.parse(outcome.result.stdout_cid))
        except (QuorateError, *DAEMON_ERRORS) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            store.close()
    return None if (outcome.result.exit_code, said) == (0, SAID) else f"the probe ended otherwise: {outcome}"
