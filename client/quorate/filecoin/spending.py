"""The words of the spending limit: amounts, scopes, who is paid for what, reservations. Pure values.

Amounts are whole base units of one token on one chain. Money is paid in one of two ways, and `Target.rail_id` tells
which: a single payment is signed once in full; a rail's vouchers are cumulative, so a reservation covers
(base, base + amount] of the rail, and only one is open at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import urlsplit

from quorate.filecoin.piececid import PieceCid, is_piece, is_v1
from quorate.protocol.errors import Busy, DataError, UnrecoverableError, ValidationError
from quorate.storage.cid import Cid
from quorate.storage.urls import normalize_url

MAX_AMOUNT = 2**256 - 1
MAX_NAME_CHARS = 256
HOW_TO_RAISE = "raise it with `filecoin limit set` or `top-up`, or ask for less"
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_JOB_ID = re.compile(r"(?:0[xX])?[0-9a-fA-F]{64}")


class ScopeKind(StrEnum):
    """What a cap can be for; in the order in which they are looked at."""

    TOTAL = "total"
    DAY = "day"
    JOB = "job"
    DATASET = "dataset"
    PROVIDER = "provider"


class State(StrEnum):
    """Where a reservation stands."""

    RESERVED = "reserved"
    CHARGED = "charged"
    RELEASED = "released"


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """One budget. The name is empty for the total; a cap without a name is one for each of its kind."""

    kind: ScopeKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else str(self.kind)

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Scope of `total`, `day`, `job`, or `provider=URL` and so on, by the name under which it is paid for.

        Raises ValidationError, also for a name under which nothing ever is.
        """
        kind, has_name, name = text.partition("=")
        if kind not in set(ScopeKind):
            raise ValidationError(f"{text!r} is no scope: give one of {', '.join(ScopeKind)}, or KIND=NAME")
        scope = cls(ScopeKind(kind), name)
        if not has_name:
            return scope
        if scope.kind is ScopeKind.TOTAL:
            raise ValidationError("there is one total: give no name for it")
        return cls(scope.kind, _NAMERS[scope.kind](check_name(kind, name)))


class SpendingLimitExceeded(ValidationError):
    """A cap would be passed. Nothing was reserved, and nothing signed. All figures in base units of the token."""

    def __init__(self, scope: Scope, cap: int, used: int, requested: int, hint: str = HOW_TO_RAISE) -> None:
        self.scope, self.cap, self.used, self.requested, self.hint = scope, cap, used, requested, hint
        super().__init__(
            f"the spending limit for {scope} does not allow this: cap {cap}, used {used}, requested {requested} base "
            f"units; {hint}"
        )


class ReservationExceeded(ValidationError):
    """A signature was asked for that its reservation does not cover."""


class ReservationEnded(ValidationError):
    """The reservation is expired, ended, or was taken over by another process."""


class RailBusy(Busy):
    """The rail has an open reservation: resume that one, or let the chain prove what came of it."""


class ProofRefused(ValidationError):
    """What the chain shows does not prove yet that the money was not spent, or cannot be about this reservation."""


class PaidMoreThanSigned(UnrecoverableError):
    """The chain paid more than was signed by the ledger: the key was used elsewhere, or this is not its ledger."""


def check_amount(name: str, value: object, least: int = 1) -> int:
    """An amount in base units, or ValidationError for anything but a whole number within 256 bits."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValidationError(f"{name} = {value!r}: give a whole number of the token's base units")
    if not least <= value <= MAX_AMOUNT:
        raise ValidationError(f"{name} = {value} is not from {least} to 2^256 − 1 base units")
    return value


def parse_amount(name: str, text: str) -> int:
    """Base units in decimal digits alone: no sign, fraction, exponent or separator. Raises ValidationError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 78):
        raise ValidationError(f"{name} = {text!r}: give a whole number of the token's base units, in digits alone")
    return check_amount(name, int(text), least=0)


def check_name(kind: str, name: str) -> str:
    """A job's, dataset's or provider's name, or ValidationError."""
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise ValidationError(f"{kind} = {name!r}: give 1 to {MAX_NAME_CHARS} printable characters")
    return name


def compute_day(now_s: int) -> str:
    """The day (UTC) of a time in unix seconds, as 2026-11-27."""
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%d")


def name_job(text: str) -> str:
    """A job's name in limits: an id in lower-case hex without 0x; any other text as it is."""
    return text.lower().removeprefix("0x") if _JOB_ID.fullmatch(text) else text


def _name_day(text: str) -> str:
    try:
        is_day = datetime.strptime(text, "%Y-%m-%d").strftime("%Y-%m-%d") == text
    except ValueError:
        is_day = False
    if not is_day:
        raise ValidationError(f"{text!r} is no day: give it as 2026-11-27, or `day` for each day (UTC)")
    return text


def _name_dataset(text: str) -> str:
    """As a reader names it: a DAG by its CID of version 1, a piece by that of version 2."""
    try:
        cid = Cid.parse(text.strip())
        if is_v1(cid):
            raise ValidationError(f"{text!r} does not say how large the piece is: give its CID of version 2")
        return str(PieceCid.parse(cid).v2 if is_piece(cid) else cid.to_v1())
    except DataError as error:
        raise ValidationError(f"{text!r} is no dataset, for which a limit could hold: give a CID ({error})") from None


def _name_provider(text: str) -> str:
    found = normalize_url(text)
    if not found.startswith(("http://", "https://")) or urlsplit(found).query or urlsplit(found).fragment:
        raise ValidationError(f"{text!r} is no provider, for which a limit could hold: give its URL")
    return found


_NAMERS: Mapping[ScopeKind, Callable[[str], str]] = {
    ScopeKind.DAY: _name_day, ScopeKind.JOB: name_job, ScopeKind.DATASET: _name_dataset,
    ScopeKind.PROVIDER: _name_provider,
}  # fmt: skip
"""The one spelling of a scope's name, by which money is reserved; a limit on another one would never hold."""


@dataclass(frozen=True, slots=True)
class Currency:
    """The one token of a ledger: EIP-155 chain id, and address as 0x and 40 lower-case digits."""

    chain_id: int
    token: str

    def __post_init__(self) -> None:
        check_amount("chain id", self.chain_id)
        _check_address("token", self.token)


@dataclass(frozen=True, slots=True)
class Target:
    """Who is paid and how: `rail_id` of the operator contract `operator`, or neither for a single payment."""

    currency: Currency
    payee: str
    operator: str = ""
    rail_id: int = 0

    def __post_init__(self) -> None:
        _check_address("payee", self.payee)
        if bool(self.operator) != bool(self.rail_id):
            raise ValidationError("a rail needs both its number and the operator contract that redeems for it")
        if self.operator:
            _check_address("operator", self.operator)
            check_amount("rail id", self.rail_id)

    @property
    def rail(self) -> str:
        """The rail's name in the ledger; empty for a single payment."""
        return f"{self.currency.chain_id}:{self.operator}:{self.rail_id}" if self.rail_id else ""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What the money is for; each name is a scope of its own."""

    job: str
    dataset: str
    provider: str

    def __post_init__(self) -> None:
        for kind in (ScopeKind.JOB, ScopeKind.DATASET, ScopeKind.PROVIDER):
            check_name(kind, getattr(self, kind))

    def scopes(self, day: str) -> tuple[Scope, ...]:
        """The five budgets that pay for it."""
        names = ("", day, self.job, self.dataset, self.provider)
        return tuple(Scope(kind, name) for kind, name in zip(ScopeKind, names, strict=True))


@dataclass(frozen=True, slots=True)
class Usage:
    """What of a budget is gone."""

    reserved: int = 0
    charged: int = 0

    @property
    def used(self) -> int:
        """What counts against the cap."""
        return self.reserved + self.charged


@dataclass(frozen=True, slots=True)
class Rail:
    """A rail's cumulative sum of what was charged, and whether the chain will pay nothing more on it."""

    total: int = 0
    is_final: bool = False
    open_id: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A reservation. `signed` bounds what of `amount` was ever signed; `generation` counts takeovers.

    `expires_at` is in unix seconds, from when on no signature is valid any more; 0 for vouchers, which do not expire.
    """

    id: str
    purpose: Purpose
    target: Target
    day: str
    amount: int
    base: int
    expires_at: int
    created_at: int
    state: State = State.RESERVED
    signed: int = 0
    charged: int = 0
    generation: int = 0

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The budgets that pay for it."""
        return self.purpose.scopes(self.day)

    @property
    def in_use(self) -> Usage:
        """What it takes of each of them."""
        return Usage(self.amount if self.state is State.RESERVED else 0, self.charged)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What came of a reservation: `entry` as it ended, at `at` unix seconds; numbers ascend and rows never change."""

    number: int
    at: int
    note: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Proof:
    """What the chain shows of a reservation.

    `spent` in base units, of this reservation alone; `chain_time` of the block that was asked, in unix seconds;
    `is_final`, for vouchers: the rail pays nothing more, whatever was signed.
    """

    spent: int
    chain_time: int
    evidence: str
    is_final: bool = False


def _check_address(name: str, text: str) -> None:
    if not _ADDRESS.fullmatch(text):
        raise ValidationError(f"{name} = {text!r}: give an address as 0x and 40 lower-case hexadecimal digits")
