"""TLS contexts that clients share: to make one takes 2 ms, and 20 ms with the CA bundle, as much as many a request."""

from __future__ import annotations

import os
import ssl
from functools import cache

import httpx


def find_context(url: str, *, trust_env: bool) -> ssl.SSLContext:
    """What httpx would make for a client of `url`; for http one that is never used, and verifies nothing."""
    if not url.lower().startswith("https:"):
        return _make(is_verifying=False)
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR") if trust_env else ()
    return _make(is_verifying=True, env=tuple((name, os.environ.get(name)) for name in names))


@cache
def _make(*, is_verifying: bool, env: tuple[tuple[str, str | None], ...] = ()) -> ssl.SSLContext:
    """Named by all that it is made of."""
    return httpx.create_ssl_context(verify=is_verifying, trust_env=bool(env))
