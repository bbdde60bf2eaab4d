"""URLs that strangers name: of inputs in orders, of nodes in announcements, of providers in an index. A process must
not be talked into asking its own network for something (SSRF), so only public addresses are asked, except on a local
chain.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from quorate.protocol.errors import DataError

LOCAL_CHAIN_IDS = frozenset({1337, 31337})
_NAT64, _LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


def normalize_url(url: str) -> str:
    """The one spelling of an http or https URL: scheme and host in lower case, an IP address as it is written most,
    neither the port that goes without saying nor dots and slashes at an end. Anything else stays as it is, but for such
    slashes."""
    bare = url.rstrip("/")
    try:
        parts = urlsplit(bare)
        host, port = parts.hostname, parts.port
    except ValueError:
        return bare
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        return bare
    name = _normalize_host(host.rstrip("."))
    is_default = port is None or port == (443 if parts.scheme == "https" else 80)
    return parts._replace(netloc=name if is_default else f"{name}:{port}").geturl()


def _normalize_host(host: str) -> str:
    try:
        if ":" in host:
            return f"[{ipaddress.ip_address(host)}]"
        if host[-1:].isdigit() or "0x" in host:
            return socket.inet_ntoa(socket.inet_aton(host))  # as resolvers read 127.1, or one large number
        return host.encode("idna").decode("ascii").lower()
    except (OSError, ValueError):
        return host


def check_url(url: str, *, is_local: bool) -> str:
    """The URL, if it may be asked. Blocks for the resolver. Raises DataError with the reason.

    On a local chain loopback is allowed, and nothing else that is private.
    """
    for address in resolve(url):
        check_address(url, address, is_local=is_local)
    return url.rstrip("/")


def resolve(url: str) -> list[str]:
    """IP addresses of a URL's host. Blocks. Raises DataError for what is no http or https URL, or has none."""
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
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def check_address(url: str, text: str, *, is_local: bool) -> None:
    """Raise DataError unless a stranger may make us ask this IP address."""
    address = ipaddress.ip_address(text)
    reached = _unwrap(address)
    if is_local and reached.is_loopback:
        return
    is_inner = address in _LOCAL_NAT64 or getattr(address, "is_site_local", False)
    if is_inner or not reached.is_global or reached.is_multicast:
        raise DataError(f"{url[:100]!r} is refused: {address} is not a public address")


def _unwrap(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Where a gateway or tunnel carries what is sent to an address of IPv6 with one of IPv4 in it; else the address."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if (carried := address.ipv4_mapped or address.sixtofour) is not None:
        return carried
    is_compatible = address in _COMPATIBLE and int(address) > 1  # neither :: nor ::1
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if is_compatible or address in _NAT64 else address
