"""Images from the store to the daemon: checked before they are loaded, and run by exactly what was checked."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import docker.errors

from quorate.images.archive import ImageConfig, ImageRefused, make_config, verify_archive
from quorate.protocol.container import Image
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate_node.executor.content import StoredFile

REPOSITORY = "quorate.invalid"
KEPT_IMAGES = 8
LOADED = re.compile(r"Loaded image ID: (sha256:[0-9a-f]{64})")


class ImageNotAllowed(ImageRefused):
    """An image of a registry that this operator does not pull from."""


class ImageShelf:
    """The images of one daemon. `registries` are those that may be pulled from; at most KEPT_IMAGES stay.

    They have tags of this node's own (by its folder `scratch`), so that nodes which share a daemon keep one another's.
    """

    def __init__(self, store: BlobStore, scratch: Path, registries: tuple[str, ...] = ()) -> None:
        self._store, self._scratch, self._registries = store, scratch, registries
        self._repository = f"{REPOSITORY}/{hashlib.sha256(bytes(scratch)).hexdigest()[:16]}"
        self._known: dict[Image, tuple[str, ImageConfig]] = {}
        self._lock = threading.Lock()

    def get(self, api: docker.APIClient, image: Image, max_bytes: int) -> tuple[str, ImageConfig]:
        """The daemon's name of an image and what it says of itself.

        Raises ImageRefused, errors of the store, and those of the daemon.
        """
        with self._lock:
            found = self._known.get(image)
            if found is None or not _is_there(api, found[0]):
                found = self._pull(api, image) if image.reference else self._load(api, image, max_bytes)
                self._known[image] = found
                self._prune(api, found[0])
            return found

    def _load(self, api: docker.APIClient, image: Image, max_bytes: int) -> tuple[str, ImageConfig]:
        cid = Cid.parse(str(image.archive))
        if (size := StoredFile(self._store, cid).size()) > max_bytes:
            raise ImageRefused(f"the image's archive has {size} bytes, over image_bytes = {max_bytes}")
        home = self._scratch / uuid4().hex
        home.mkdir(mode=0o700)
        path = home / "image.tar"
        try:
            self._store.export(cid, path, max_bytes=max_bytes)
            with path.open("rb") as file:
                config = verify_archive(file, size, image.id, max_bytes)
                file.seek(0)
                name = _find_loaded(api.load_image(file, quiet=True))
            _check_loaded(api.inspect_image(name), config)
            return name, config
        finally:
            path.unlink(missing_ok=True)
            home.rmdir()

    def _pull(self, api: docker.APIClient, image: Image) -> tuple[str, ImageConfig]:
        reference = str(image.reference)
        registry = reference.split("/", 1)[0]
        if registry not in self._registries:
            raise ImageNotAllowed(f"this node does not pull from {registry!r}: see docker_registries in its config")
        try:
            api.pull(reference)
            info = api.inspect_image(reference)
        except docker.errors.APIError as error:
            raise docker.errors.DockerException(f"{reference} cannot be pulled: {error.explanation}") from error
        layers = tuple(info["RootFS"].get("Layers") or ())
        return info["Id"], make_config(info["Id"], info["Architecture"], layers, info.get("Config") or {})

    def forget(self, api: docker.APIClient) -> None:
        """Leave none of this node's images with the daemon, but those in use."""
        with self._lock:
            self._known.clear()
            self._remove_others(api, ())

    def _prune(self, api: docker.APIClient, newest: str) -> None:
        """Forget the oldest of those that were loaded for jobs; those in use stay."""
        api.tag(newest, self._repository, newest.removeprefix("sha256:"), force=True)
        kept = [name for name, _ in list(self._known.values())[-KEPT_IMAGES:]]
        self._remove_others(api, kept)
        self._known = {image: found for image, found in self._known.items() if found[0] in kept}

    def _remove_others(self, api: docker.APIClient, kept: Sequence[str]) -> None:
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
