"""Images from the store to the daemon: checked before they are loaded, and run by exactly what was checked."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import docker.errors

from quorate.images.archive import ImageConfig, ImageRefused, make_config, verify_archive
from quorate.protocol.container import Image
from quorate.protocol.errors import ContentUnavailable
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate_node.executor.content import StoredFile
from quorate_node.executor.docker_client import DAEMON_ERRORS, DockerClient, answering_within
from quorate_node.executor.docker_clock import Allowance, open_paced, write_paced
from quorate_node.executor.docker_folders import SPARE_BYTES, HostFull

REPOSITORY = "quorate.invalid"
KEPT_IMAGES = 8
TURN_S = 0.5  # how often a task that waits looks whether it is still wanted
Found = tuple[str, ImageConfig]
LOADED = re.compile(r"Loaded image ID: (sha256:[0-9a-f]{64})")


class ImageNotAllowed(ImageRefused):
    """An image of a registry that this operator does not pull from."""


@dataclass(slots=True)
class _State:
    """What is with the daemon. `used` counts tasks, `loading` images on their way; both keep an image from going."""

    known: dict[Image, Found] = field(default_factory=dict)
    used: Counter[str] = field(default_factory=Counter)
    turns: dict[Image, threading.Lock] = field(default_factory=dict)
    loading: int = 0
    is_pruning: bool = False


class ImageShelf:
    """The images of one daemon. `registries` are those that may be pulled from; at most KEPT_IMAGES stay.

    They have tags of this node's own (by its folder `scratch`), so that nodes which share a daemon keep one another's.
    Whoever waits for an image waits for that image alone; none goes while it is used, or while any is on its way.
    """

    def __init__(self, store: BlobStore, scratch: Path, registries: tuple[str, ...] = ()) -> None:
        self._store, self._scratch, self._registries = store, scratch, registries
        self._repository = f"{REPOSITORY}/{hashlib.sha256(bytes(scratch)).hexdigest()[:16]}"
        self._state = _State()
        self._change = threading.Condition()

    @contextmanager
    def using(self, api: DockerClient, image: Image, max_bytes: int, allowance: Allowance) -> Iterator[Found]:
        """The daemon's name of an image and what it says of itself; it stays while it is used.

        Raises ImageRefused, TaskOver, errors of the store, and those of the daemon.
        """
        found = self._take(api, image, max_bytes, allowance)
        try:
            yield found
        finally:
            with self._change:
                self._state.used[found[0]] -= 1

    def _take(self, api: DockerClient, image: Image, max_bytes: int, allowance: Allowance) -> Found:
        with self._change:
            turn = self._state.turns.setdefault(image, threading.Lock())
        while not turn.acquire(timeout=min(TURN_S, allowance.left())):
            pass
        try:
            if (known := self._take_known(api, image)) is not None:
                return known
            with self._loading(allowance):
                name, config = self._bring(api, image, max_bytes, allowance)
                api.tag(name, self._repository, name.removeprefix("sha256:"), force=True)
                with self._change:
                    self._state.known[image] = name, config
                    self._state.used[name] += 1
        finally:
            turn.release()
        with contextlib.suppress(*DAEMON_ERRORS):  # another time
            self._prune(api)
        return name, config

    def _take_known(self, api: DockerClient, image: Image) -> Found | None:
        with self._change:
            if (found := self._state.known.get(image)) is None:
                return None
            self._state.used[found[0]] += 1
        if _is_there(api, found[0]):
            return found
        with self._change:  # somebody else removed it
            self._state.used[found[0]] -= 1
        return None

    @contextmanager
    def _loading(self, allowance: Allowance) -> Iterator[None]:
        with self._change:
            while self._state.is_pruning:
                self._change.wait(min(TURN_S, allowance.left()))
            self._state.loading += 1
        try:
            yield
        finally:
            with self._change:
                self._state.loading -= 1

    def _bring(self, api: DockerClient, image: Image, max_bytes: int, allowance: Allowance) -> Found:
        if image.reference:
            return self._pull(api, image.reference, max_bytes, allowance)
        return self._load(api, image, max_bytes, allowance)

    def _load(self, api: DockerClient, image: Image, max_bytes: int, allowance: Allowance) -> Found:
        cid = Cid.parse(str(image.archive))
        if (size := StoredFile(self._store, cid).size()) > max_bytes:
            raise ImageRefused(f"the image's archive has {size} bytes, over image_bytes = {max_bytes}")
        if 2 * size + SPARE_BYTES > (free := shutil.disk_usage(self._scratch).free):  # the daemon unpacks it beside
            raise HostFull(f"the image's archive has {size} bytes, and {free} are free for it: make room")
        home = self._scratch / uuid4().hex
        home.mkdir(mode=0o700)
        path = home / "image.tar"
        try:
            write_paced(self._store.stream(cid), path, allowance)
            with open_paced(path, allowance) as file:
                config = verify_archive(file, size, image.id, max_bytes)
                file.seek(0)
                try:
                    with answering_within(api, allowance.left()):
                        name = _find_loaded(api.load_image(file, quiet=True))
                except DAEMON_ERRORS:
                    allowance.left()  # it is not the daemon that fails, if the time is up
                    raise
            allowance.left()
            _check_loaded(api.inspect_image(name), config)
            return name, config
        finally:
            path.unlink(missing_ok=True)
            home.rmdir()

    def _pull(self, api: DockerClient, reference: str, max_bytes: int, allowance: Allowance) -> Found:
        registry = reference.split("/", 1)[0]
        if registry not in self._registries:
            raise ImageNotAllowed(f"this node does not pull from {registry!r}: see docker_registries in its config")
        try:
            api.pull_within(reference, max_bytes, allowance)
            info = api.inspect_image(reference)
        except docker.errors.APIError as error:
            raise ContentUnavailable(f"{reference} cannot be pulled: {error.explanation}") from error
        if (size := int(info.get("Size") or 0)) > max_bytes:
            with contextlib.suppress(docker.errors.APIError):  # in use by somebody else
                api.remove_image(reference)
            raise ImageRefused(f"the image has {size} bytes, over image_bytes = {max_bytes}")
        layers = tuple(info["RootFS"].get("Layers") or ())
        return info["Id"], make_config(info["Id"], info["Architecture"], layers, info.get("Config") or {})

    def forget(self, api: docker.APIClient) -> None:
        """Leave none of this node's images with the daemon, but those in use."""
        self._prune(api, 0)

    def _prune(self, api: docker.APIClient, most: int = KEPT_IMAGES) -> None:
        """Forget the oldest of those that were loaded for jobs, unless some image is on its way: then that one's task
        does it."""
        with self._change:
            state = self._state
            if state.loading or state.is_pruning:
                return
            idle = [image for image, found in state.known.items() if not state.used[found[0]]]
            for image in idle[: max(0, len(state.known) - most)]:
                del state.known[image]
            state.turns = {image: turn for image, turn in state.turns.items() if turn.locked() or image in state.known}
            kept = {found[0] for found in state.known.values()}
            state.is_pruning = True
        try:
            self._remove_others(api, kept)
        finally:
            with self._change:
                state.is_pruning = False
                self._change.notify_all()

    def _remove_others(self, api: docker.APIClient, kept: Set[str]) -> None:
        for tag in [tag for each in api.images(self._repository) for tag in each["RepoTags"] or ()]:
            is_ours = tag.rpartition(":")[0] == self._repository
            if is_ours and f"sha256:{tag.rpartition(':')[2]}" not in kept:
                with contextlib.suppress(docker.errors.APIError):
                    api.remove_image(tag)


def _is_there(api: docker.APIClient, name: str) -> bool:
    try:
        api.inspect_image(name)
    except docker.errors.ImageNotFound:
        return False
    return True


def _find_loaded(messages: Any) -> str:
    said = []
    for message in messages:
        if "error" in message:
            raise ImageRefused(f"the daemon does not load the image: {message['error']}")
        said.append(str(message.get("stream", "")))
    if (found := LOADED.search("".join(said))) is None:
        raise ImageRefused(f"the daemon does not say what it loaded: {''.join(said)[:200]}")
    return found[1]


def _check_loaded(info: Any, config: ImageConfig) -> None:
    """Daemons count ids differently; the layers are what decides."""
    if tuple(info["RootFS"].get("Layers") or ()) != config.diff_ids or (info.get("Config") or {}).get("Volumes"):
        raise ImageRefused("what the daemon loaded is not what the archive holds")
