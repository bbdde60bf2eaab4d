"""Who may have content, by what an IPNI instance answers. Pure; what it says is a hint from a stranger.

Sources: IPNI's find API (`/cid/{cid}`: MultihashResults with metadata 0x0920 for trustless gateways and 0x0930 for
`/piece`), IPIP-337's delegated routing (`/routing/v1/providers/{cid}`), and the multiaddr table of protocols.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from quorate.protocol.errors import DataError
from quorate.storage import varint

GATEWAY_HTTP, PIECE_HTTP = 0x0920, 0x0930
MAX_FOUND = 64
MAX_ANSWER_BYTES = 1 << 20
_PROTOCOLS = {
    "transport-ipfs-gateway-http": GATEWAY_HTTP, "transport-piece-http": PIECE_HTTP,
    "transport-filecoin-piece-http": PIECE_HTTP,
}  # fmt: skip
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def parse_providers(body: bytes, kind: int) -> list[str]:
    """URLs of providers that serve `kind` (GATEWAY_HTTP or PIECE_HTTP), each once, as they stand in an answer.

    Raises DataError for an answer that is no JSON object; providers of which nothing can be used are left out.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the index answered no JSON: {error}") from None
    if not isinstance(answer, dict):
        raise DataError("the index answered JSON that is no object")
    found: dict[str, None] = {}
    for kinds, addresses in (*_read_routing(answer), *_read_find(answer)):
        if kind in kinds:
            for url in filter(None, map(to_url, addresses)):
                found.setdefault(url)
    return list(found)[:MAX_FOUND]


def to_url(multiaddr: object) -> str | None:
    """An http or https URL of a multiaddr like /dns4/a.example/tcp/443/https; None for any other."""
    parts = multiaddr.strip("/").split("/") if isinstance(multiaddr, str) else []
    if len(parts) < 5 or parts[0] not in ("ip4", "ip6", "dns", "dns4", "dns6") or parts[2] != "tcp":
        return None
    scheme = _read_scheme(parts[4:])
    if scheme is None or not parts[3].isascii() or not parts[3].isdigit() or not 0 < int(parts[3]) < 65536:
        return None
    if parts[0] in ("ip4", "ip6"):
        try:
            address = ipaddress.ip_address(parts[1])
        except ValueError:
            return None
        host = f"[{address}]" if address.version == 6 else str(address)
    elif _HOST.fullmatch(parts[1]):
        host = parts[1]
    else:
        return None
    port = "" if (scheme, parts[3]) in (("http", "80"), ("https", "443")) else f":{int(parts[3])}"
    return f"{scheme}://{host}{port}"


def _read_scheme(rest: list[str]) -> str | None:
    match rest:
        case ["http"]:
            return "http"
        case ["https"] | ["tls", "http"]:
            return "https"
        case ["tls", "sni", _, "http"]:
            return "https"
    return None


def _read_routing(answer: dict[str, Any]) -> Iterator[tuple[set[int], list[Any]]]:
    for each in _list(answer.get("Providers")):
        if isinstance(each, dict):
            names = [name for name in _list(each.get("Protocols")) if isinstance(name, str)]
            yield {_PROTOCOLS[name] for name in names if name in _PROTOCOLS}, _list(each.get("Addrs"))


def _read_find(answer: dict[str, Any]) -> Iterator[tuple[set[int], list[Any]]]:
    for result in _list(answer.get("MultihashResults")):
        for each in _list(result.get("ProviderResults")) if isinstance(result, dict) else ():
            provider = each.get("Provider") if isinstance(each, dict) else None
            if isinstance(provider, dict):
                yield set(_read_metadata(each.get("Metadata"))), _list(provider.get("Addrs"))


def _read_metadata(value: object) -> Iterable[int]:
    """The protocol that begins a metadata; those behind it, whose length only their readers know, are not sought."""
    try:
        return (varint.decode(base64.b64decode(value, validate=True))[0],) if isinstance(value, str) else ()
    except (DataError, binascii.Error, ValueError):
        return ()


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
