"""Who is asked for Filecoin data, and who is not: HOME/filecoin/providers.json, shared by all processes of a home.

A provider that broke its word is banned, by its URL and by the account that it was paid to, so that another name for
the same does not help it. A ban ends by itself where it was for a failure, and else only by `providers unban`.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from quorate.chain.types import write_atomically
from quorate.protocol.errors import ConfigurationError, DataError, ValidationError
from quorate.storage.urls import normalize_url

FILE = "providers.json"
FAILURE_BAN_S = 24 * 3600
MAX_BANNED = 10_000


@dataclass(frozen=True, slots=True)
class Provider:
    """One that the operator named. With a `payee` (0x…, lower-case) it is paid at no other account."""

    url: str
    payee: str | None = None


@dataclass(frozen=True, slots=True)
class Ban:
    """`name` is a URL or an account; `until` in unix seconds, 0 for ever; `at` when it was banned.

    `by_stranger`: nobody named who lied and was paid there. It may be an honest provider's account, so whom the
    operator named is asked all the same.
    """

    name: str
    reason: str
    at: int
    until: int = 0
    by_stranger: bool = False


class ProvidersBook:
    """The file. Methods read it anew, so that processes see each other's bans. Raises ConfigurationError, DataError."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = folder / FILE, clock

    def named(self) -> list[Provider]:
        """Providers in the order in which they were added."""
        return self._read()[0]

    def bans(self) -> list[Ban]:
        """Who is banned now."""
        now = self._clock()
        return [ban for ban in self._read()[1].values() if not ban.until or ban.until > now]

    def find_ban(self, *names: str | None, is_named: bool = False) -> Ban | None:
        """Whether one of these, URL or account, is banned for a provider that the operator named, or for strangers."""
        wanted = {_normalize(name) for name in names if name}
        return next((b for b in self.bans() if b.name in wanted and not (is_named and b.by_stranger)), None)

    def add(self, url: str, payee: str | None = None) -> None:
        """Ask one more, or pay it at another account than so far."""
        name = check_provider(url)
        with self._changing() as (providers, _):
            named = Provider(name, payee)
            at = next((i for i, each in enumerate(providers) if _normalize(each.url) == name), None)
            if at is None:
                providers.append(named)
            else:
                providers[at] = replace(named, payee=payee or providers[at].payee)

    def remove(self, url: str) -> None:
        """Ask it no more. Raises ValidationError when it is not asked."""
        name = _normalize(url)
        with self._changing() as (providers, _):
            if all(_normalize(each.url) != name for each in providers):
                raise ValidationError(f"{name} is not among the providers: see `filecoin providers list`")
            providers[:] = [each for each in providers if _normalize(each.url) != name]

    def ban(self, *names: str | None, reason: str, seconds: int = 0, by_stranger: bool = False) -> None:
        """Ask none of these any more, for so long; 0: for ever. See `Ban` for `by_stranger`."""
        now = int(self._clock())
        with self._changing() as (_, bans):
            for name in filter(None, names):
                key = _normalize(name)
                before = bans.get(key)
                if before is None or before.until or before.by_stranger:  # none is shortened
                    is_hearsay = by_stranger and _is_account(key)
                    bans[key] = Ban(key, reason[:500], now, now + seconds if seconds else 0, is_hearsay)
            while len(bans) > MAX_BANNED:
                del bans[min(bans, key=lambda each: bans[each].at)]

    def unban(self, name: str) -> None:
        """Ask it again. Raises ValidationError when it is not banned."""
        key = _normalize(name)
        with self._changing() as (_, bans):
            if bans.pop(key, None) is None:
                raise ValidationError(f"{key} is not banned: see `filecoin providers list`")

    def _read(self) -> tuple[list[Provider], dict[str, Ban]]:
        try:
            values = json.loads(self._path.read_text())
        except FileNotFoundError:
            return [], {}
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{self._path} cannot be read ({error}): repair or remove it") from None
        try:
            providers = [Provider(**each) for each in values["providers"]]
            bans = {each["name"]: Ban(**each) for each in values["bans"]}
        except (TypeError, KeyError) as error:
            raise ConfigurationError(f"{self._path} is not a list of providers ({error!r}): remove it") from None
        return providers, bans

    @contextmanager
    def _changing(self) -> Iterator[tuple[list[Provider], dict[str, Ban]]]:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            providers, bans = self._read()
            yield providers, bans
            values: Mapping[str, Any] = {
                "providers": [asdict(each) for each in providers], "bans": [asdict(each) for each in bans.values()],
            }  # fmt: skip
            write_atomically(self._path, json.dumps(values, indent=1) + "\n")
        finally:
            os.close(descriptor)


def check_provider(url: str) -> str:
    """A provider's URL in its one spelling. Raises DataError."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.username is not None or parts.query or parts.fragment:
        raise DataError(f"{url[:100]!r} is no provider: give an http or https URL without credentials and query")
    return _normalize(url)


def _normalize(name: str) -> str:
    return name.lower() if _is_account(name) else normalize_url(name)


def _is_account(name: str) -> bool:
    return name[:2] in ("0x", "0X")
