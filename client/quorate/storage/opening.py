"""Which store a setting names."""

from __future__ import annotations

from pathlib import Path

from quorate.storage.base import BlobStore

_MULTIADDRS = ("/ip4/", "/ip6/", "/dns/", "/dns4/", "/dns6/", "/unix/")


def is_address(setting: str) -> bool:
    """Whether a setting is meant to name a daemon rather than a folder."""
    return "://" in setting or setting.startswith(_MULTIADDRS)


def open_store(setting: Path | str) -> BlobStore:
    """The embedded store in a folder, or that of the Kubo daemon whose API is at a URL or a multiaddr.

    The daemon is met when it is first needed. Raises DataError for a folder that cannot hold a store, StoreDamaged, and
    ConfigurationError for what is no address.
    """
    if isinstance(setting, str) and is_address(setting):
        from quorate.storage.kubo import KuboStore  # what it needs takes a moment to import

        return KuboStore(setting)
    from quorate.storage.embedded import EmbeddedStore

    return EmbeddedStore(Path(setting))
