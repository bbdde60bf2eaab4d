"""URLs that strangers name, and which of them a node asks: see quorate.storage.urls."""

from __future__ import annotations

from quorate.storage.urls import LOCAL_CHAIN_IDS, check_url

__all__ = ["LOCAL_CHAIN_IDS", "check_url"]
