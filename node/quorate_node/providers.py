"""URLs that strangers name: of inputs in orders, of nodes in announcements. A node must not be talked into asking its
own network for something (SSRF), so only public addresses are asked, except on a local chain.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from quorate.protocol.errors import DataError

LOCAL_CHAIN_IDS = frozenset({1337, 31337})


def check_url(url: str, *, is_local: bool) -> str:
    """The URL, if it may be asked. Blocks for the resolver. Raises DataError with the reason.

    On a local chain loopback is allowed, and nothing else that is private.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise DataError(f"{url[:100]!r} is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise DataError(f"{url[:100]!r} is refused: only http and https URLs without credentials are asked")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # a name that no resolver could be asked for is a UnicodeError
        raise DataError(f"{host[:100]!r} cannot be resolved: {error}") from error
    for *_, address in found:
        _check_address(url, ipaddress.ip_address(address[0]), is_local)
    return url.rstrip("/")


def _check_address(url: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address, is_local: bool) -> None:
    mapped = getattr(address, "ipv4_mapped", None) or address
    if is_local and mapped.is_loopback:
        return
    if not mapped.is_global or mapped.is_multicast:
        raise DataError(f"{url[:100]!r} is refused: {address} is not a public address")
