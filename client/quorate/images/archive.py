"""A docker-archive, checked before any daemon sees it.

The form is narrower than what `docker save` may write, so that there is one reading of it: `manifest.json` with one
image and no tags, the image's config, its layers as plain tar, and nothing else. The image's id is the sha256 of the
config's bytes, computed here, and the config names each layer by its sha256: so the id stands for all content.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from quorate.images.layers import Tree, check_working_dir_text
from quorate.images.tarformat import FILE, TarEntry, read_entries, split_path
from quorate.protocol.container import HOSTS_PLACES
from quorate.protocol.errors import DataError
from quorate.protocol.jsontext import load_json

MANIFEST = "manifest.json"
MAX_JSON_BYTES = 1 << 20
MAX_LAYERS = 125
OTHER_FORMS = frozenset({"repositories", "index.json", "oci-layout"})
"""Names by which some daemons know another form of archive, and would read that instead."""
SAVED = "`docker save` writes such archives: take `docker export`, then `quorate image build --rootfs`"
_PIECE = 1 << 20
_OUTER = 3 * MAX_LAYERS


class ImageRefused(DataError):
    """An image that is not run; everybody who has its bytes refuses it alike."""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says of itself, as far as a container depends on it.

    `id` is `sha256:` of the config's bytes, `diff_ids` those of its layers, `files` and `unpacked_bytes` what the
    layers hold.
    """

    id: str
    architecture: str
    diff_ids: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    working_dir: str = "/"
    files: int = 0
    unpacked_bytes: int = 0

    def compute_command(self, entrypoint: tuple[str, ...] | None, args: tuple[str, ...]) -> tuple[str, ...]:
        """What is executed: the image's own program and arguments where none are given. Raises ImageRefused."""
        default = self.command if entrypoint is None and not args else ()
        command = (self.entrypoint if entrypoint is None else entrypoint) + (args or default)
        if not command or not command[0]:
            raise ImageRefused("neither the image nor the job names a program: give one as entrypoint")
        path = posixpath.normpath(posixpath.join(self.working_dir, command[0])).lstrip("/")
        if f"/{path}/".startswith(HOSTS_PLACES):
            raise ImageRefused(f"the program {command[0][:80]!r} is not the image's, but the host's")
        return command


def verify_archive(file: BinaryIO, size: int, image_id: str | None, max_bytes: int) -> ImageConfig:
    """Read a whole docker-archive. Raises ImageRefused unless it is well-formed, within bounds, and the image wanted.

    `image_id` None takes whatever image it is.
    """
    if size > max_bytes:
        raise ImageRefused(f"the image's archive has {size} bytes, over image_bytes = {max_bytes}")
    try:
        return _verify(file, size, image_id, max_bytes)
    except ImageRefused:
        raise
    except DataError as error:
        raise ImageRefused(f"the image's archive is refused: {error}") from error


def _verify(file: BinaryIO, size: int, image_id: str | None, max_bytes: int) -> ImageConfig:
    members = _list_members(file, size)
    config_name, layer_names = _read_manifest(file, members)
    expected = {MANIFEST, config_name, *layer_names}
    if extra := sorted(members.keys() - expected):
        raise ImageRefused(f"the archive holds what its manifest does not name: {_list(extra)}; {SAVED}")
    raw = _read_small(file, members, config_name)
    found = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    if image_id is not None and found != image_id:
        raise ImageRefused(f"the archive holds the image {found}, not {image_id}")
    config = parse_config(raw)
    if len(config.diff_ids) != len(layer_names):
        raise ImageRefused(f"the config names {len(config.diff_ids)} layers, the manifest {len(layer_names)}")
    tree = Tree()
    for name, diff_id in zip(layer_names, config.diff_ids, strict=True):
        layer = members[name]
        if (digest := _hash(file, layer)) != diff_id:
            raise ImageRefused(f"layer {name[:80]!r} has the digest {digest}, its config says {diff_id[:80]!r}")
        try:
            tree.add_layer(file, layer.offset, layer.offset + layer.size, max_bytes)
        except DataError as error:
            raise ImageRefused(f"layer {name[:80]!r} of the image: {error}") from error
    tree.check_working_dir(config.working_dir)
    return replace(config, files=tree.files, unpacked_bytes=tree.bytes)


def _list_members(file: BinaryIO, size: int) -> dict[str, TarEntry]:
    members: dict[str, TarEntry] = {}
    for entry in read_entries(file, 0, size):
        if entry.kind != FILE:
            raise ImageRefused(f"{entry.name[:200]!r} in the archive is no regular file")
        name = "/".join(split_path(entry.name))
        if name != entry.name:
            raise ImageRefused(f"{entry.name[:200]!r} in the archive is not a plain name")
        if name in members:
            raise ImageRefused(f"the archive has {name[:200]!r} twice")
        members[name] = entry
        if len(members) > _OUTER:
            raise ImageRefused(f"the archive has more than {_OUTER} members")
    return members


def _read_small(file: BinaryIO, members: Mapping[str, TarEntry], name: str) -> bytes:
    entry = members.get(name)
    if entry is None:
        raise ImageRefused(f"the archive lacks {name[:200]!r}")
    if entry.size > MAX_JSON_BYTES:
        raise ImageRefused(f"{name[:200]!r} has {entry.size} bytes, over {MAX_JSON_BYTES}")
    file.seek(entry.offset)
    return file.read(entry.size)


def _read_manifest(file: BinaryIO, members: Mapping[str, TarEntry]) -> tuple[str, list[str]]:
    """The config's name and the layers' names."""
    value = _load(_read_small(file, members, MANIFEST), MANIFEST)
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], dict):
        raise ImageRefused("manifest.json must be an array of one image")
    image = value[0]
    if unknown := sorted(image.keys() - {"Config", "Layers", "RepoTags"}):
        raise ImageRefused(f"manifest.json has unknown fields: {_list(unknown)}")
    config, layers = image.get("Config"), image.get("Layers")
    if taken := sorted(OTHER_FORMS & {*members}):
        raise ImageRefused(f"the archive holds {_list(taken)}, by which daemons know another form; {SAVED}")
    if image.get("RepoTags"):
        raise ImageRefused(f"manifest.json names tags, which would move those of the host; {SAVED}")
    if not isinstance(config, str) or not isinstance(layers, list) or not all(isinstance(x, str) for x in layers):
        raise ImageRefused("manifest.json must name a Config and an array of Layers")
    if len(layers) > MAX_LAYERS or len({config, MANIFEST, *layers}) != len(layers) + 2:
        raise ImageRefused(f"manifest.json must name at most {MAX_LAYERS} layers, each once")
    if missing := [name for name in layers if name not in members]:
        raise ImageRefused(f"the archive lacks the layer {missing[0][:200]!r}")
    return config, layers


def _list(names: list[str]) -> str:
    return ", ".join(repr(name[:80]) for name in names[:5]) + (" and more" if len(names) > 5 else "")


def _load(data: bytes, what: str) -> Any:
    try:
        return load_json(data, object_pairs_hook=_unique)
    except ValueError as error:
        raise ImageRefused(f"{what[:80]} is not JSON that is read here: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is named twice")
    if odd := next((name for name in found if not name.isascii()), None):
        raise ValueError(f"{odd[:40]!r} may be another field to a daemon, which folds letters")
    return found


def _get(values: Any, name: str) -> Any:
    """A field as the daemon would find it: it does not mind the case of names, so two spellings are refused."""
    if not isinstance(values, dict):
        return None
    found = [key for key in values if key.lower() == name.lower()]
    if len(found) > 1:
        raise ImageRefused(f"the image's config spells {name!r} in two ways")
    return values[found[0]] if found else None


def _words(value: Any, what: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(word, str) and "\0" not in word for word in value):
        raise ImageRefused(f"{what} in the image's config must be an array of strings")
    return tuple(value)


def parse_config(raw: bytes) -> ImageConfig:
    """An image's config. Raises ImageRefused for one that asks for more than a job may have."""
    value = _load(raw, "the image's config")
    image_id = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    if _get(value, "os") != "linux" or not isinstance(_get(value, "architecture"), str):
        raise ImageRefused("the image's config must name an architecture, and the os linux")
    rootfs = _get(value, "rootfs")
    if _get(rootfs, "type") != "layers":
        raise ImageRefused("the image's config has no rootfs of layers")
    return make_config(image_id, _get(value, "architecture"), _words(_get(rootfs, "diff_ids"), "diff_ids"),
                       _get(value, "config"))  # fmt: skip


def make_config(image_id: str, architecture: str, diff_ids: tuple[str, ...], values: Any) -> ImageConfig:
    """What a daemon, or an archive, says of an image. Raises ImageRefused, for volumes too: those would fill disks."""
    if _get(values, "Volumes"):
        raise ImageRefused("the image declares volumes, which no limit would bound: build it without VOLUME")
    return ImageConfig(
        image_id, architecture, diff_ids, _words(_get(values, "Entrypoint"), "Entrypoint"),
        _words(_get(values, "Cmd"), "Cmd"), _read_env(values), _read_working_dir(values),
    )  # fmt: skip


def _read_working_dir(values: Any) -> str:
    folder = _get(values, "WorkingDir") or "/"
    if not isinstance(folder, str) or "\0" in folder:
        raise ImageRefused("WorkingDir in the image's config must be a string")
    try:
        check_working_dir_text(folder)
    except DataError as error:
        raise ImageRefused(str(error)) from error
    return folder


def _read_env(values: Any) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for item in _words(_get(values, "Env"), "Env"):
        name, sign, text = item.partition("=")
        if not sign or not name or name in found:
            raise ImageRefused(f"Env in the image's config must hold NAME=VALUE, each name once, not {item[:80]!r}")
        if name.startswith("TINI_"):
            raise ImageRefused("the image's config sets a variable of the host's init (TINI_…): leave it out")
        found[name] = text
    return tuple(found.items())


def _hash(file: BinaryIO, entry: TarEntry) -> str:
    digest, left = hashlib.sha256(), entry.size
    file.seek(entry.offset)
    while left and (piece := file.read(min(_PIECE, left))):
        digest.update(piece)
        left -= len(piece)
    return f"sha256:{digest.hexdigest()}"
