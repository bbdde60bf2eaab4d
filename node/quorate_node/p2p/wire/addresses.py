"""Multiaddrs in settings and records: what one looks like, and which of strangers may be dialled."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from quorate.protocol.errors import ConfigurationError

PLACE = r"/(ip4/[0-9.]{7,15}|ip6/[0-9a-f:.]{2,45})/tcp/[0-9]{1,5}"
_BOOTSTRAP = re.compile(r"/(ip4|ip6|dns|dns4|dns6)/[0-9A-Za-z.:-]+/tcp/[0-9]{1,5}/p2p/[1-9A-HJ-NP-Za-km-z]{8,64}\Z")
_PLACE = re.compile(PLACE + r"\Z")


def check_bootstrap(addresses: Iterable[str]) -> tuple[str, ...]:
    """The addresses. Raises ConfigurationError naming one that is none."""
    checked = tuple(addresses)
    for each in checked:
        if not _BOOTSTRAP.match(each):
            like = "/ip4/192.0.2.1/tcp/4001/p2p/IDENTITY"
            raise ConfigurationError(f"bootstrap: {each[:200]!r} does not look like {like}")
    return checked


def check_place(address: str, setting: str) -> str:
    """An address without an identity. Raises ConfigurationError naming the setting."""
    if not _PLACE.match(address):
        raise ConfigurationError(f"{setting}: {address[:200]!r} does not look like /ip4/192.0.2.1/tcp/4001")
    return address


def is_dialable(address: str, *, is_local: bool) -> bool:
    """Whether an address that a stranger names may be dialled: a public one, or loopback on a local chain."""
    _, _, host, *_ = address.split("/")
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return bool(mapped.is_loopback if is_local else mapped.is_global and not mapped.is_multicast)
