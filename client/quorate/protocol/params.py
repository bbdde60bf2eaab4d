"""Parameters of a deployment; the contracts hold them for good, and everybody reads them from the chain.

Field names, widths and units are those of section 2 of contracts/README.md.
"""

from dataclasses import dataclass, fields

from quorate.protocol.errors import ProtocolViolation

MAX_BUNDLES = 4096
MAX_PAGE_BUNDLES = 1024
MAX_PAGE_SEATS = 16_384
BUNDLE_TASKS = 256
MAX_TASKS = 1 << 20
MAX_MEMBERS = 1024
MAX_UNITS = 10_240
MAX_CLASSES = 4
FUEL_UNIT = 10**9
MAX_DRAW_ATTEMPTS = 32
MAX_VOTERS = 255
TASK_ALL = 0xFFFFFFFF
BPS = 10_000
VOTE_GAS = 100_000
MAX_VOTE_WINDOWS = 7
UNIT_PERCENT = 8
CLASS_VOTES = 3
BEACON_REACH_BLOCKS = 256
WALLET_GAS = 50_000
ETHER = 10**18


@dataclass(frozen=True, slots=True)
class Params:
    """One deployment's parameters, in the order of the Solidity struct `Params`."""

    era_period: int
    unbonding_period: int
    challenge_period: int
    post_period: int
    max_commit_period: int
    direct_period: int
    settle_period: int
    publish_period: int
    vote_commit_period: int
    vote_reveal_period: int
    audit_period: int
    fault_memory: int
    beacon_delay: int
    block_period: int
    min_blocks: int
    audit_bps: int
    jail_eras: int
    max_rounds: int
    vote_windows: int
    reference_fuel_rate: int
    reference_byte_rate: int
    max_task_fuel: int
    max_price: int
    max_gas_price: int
    batch_bond: int
    challenge_bond: int
    class_deposit: int
    least_unit_wei: int

    def as_tuple(self) -> tuple[int, ...]:
        """Values in the order of the Solidity struct."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    def round_life(self) -> int:
        """Longest life of a round, in seconds: its beacon is late, and then all its windows run."""
        reach = BEACON_REACH_BLOCKS * self.block_period
        return reach + self.max_commit_period + 2 * self.direct_period + self.settle_period

    @property
    def batch_life(self) -> int:
        """Longest undisputed life of a batch that is extended as often as it can be, in seconds."""
        extensions = 1 + self.max_rounds
        return self.post_period + 2 * extensions * self.round_life + extensions * self.challenge_period

    @property
    def longest_dispute(self) -> int:
        """Seconds until a class vote ends in its last window."""
        return self.publish_period + self.vote_windows * (self.vote_commit_period + 2 * self.vote_reveal_period)

    @property
    def dearest_vote_wei(self) -> int:
        """The most that one class vote costs a member: a task, and gas."""
        return -(-self.max_task_fuel * self.max_price // FUEL_UNIT) + VOTE_GAS * self.max_gas_price

    def check(self) -> None:
        """Raise ProtocolViolation where the registry's constructor would revert with UnsafeParameters."""
        positive = ("era_period", "beacon_delay", "block_period", "min_blocks")
        for name in positive:
            _require(getattr(self, name) > 0, name, "it must be above 0")
        _require(self.audit_bps <= BPS, "audit_bps", f"it is above {BPS}")
        _require(0 < self.vote_windows <= MAX_VOTE_WINDOWS, "vote_windows", f"it must be 1 to {MAX_VOTE_WINDOWS}")
        for name in ("reference_fuel_rate", "reference_byte_rate"):
            _require(getattr(self, name) > 0, name, "it must be above 0")
        exposed = self.era_period + self.batch_life + self.challenge_period + self.longest_dispute
        _require(self.unbonding_period >= 2 * exposed, "unbonding_period", f"it is below 2 × {exposed} s of exposure")
        audit = self.beacon_delay * self.block_period + 2 * self.audit_period
        _require(self.challenge_period >= audit, "challenge_period", f"it is below the {audit} s of an audit")
        votes = CLASS_VOTES * self.dearest_vote_wei
        share = f"{UNIT_PERCENT} % of it are below the {votes} wei of {CLASS_VOTES} class votes"
        _require(UNIT_PERCENT * self.least_unit_wei >= 100 * votes, "least_unit_wei", share)


def _require(holds: bool, name: str, hint: str) -> None:
    if not holds:
        first, *rest = name.split("_")
        raise ProtocolViolation("UnsafeParameters", first + "".join(map(str.capitalize, rest)), hint=hint)


PARAM_TYPES = (
    "uint32", "uint32", "uint32", "uint32", "uint32", "uint32", "uint32", "uint32", "uint32", "uint32", "uint32",
    "uint32", "uint16", "uint16", "uint16", "uint16", "uint16", "uint8", "uint8", "uint64", "uint64", "uint64",
    "uint64", "uint64", "uint128", "uint128", "uint128", "uint128",
)  # fmt: skip

LOCAL = Params(
    era_period=60,
    unbonding_period=5400,
    challenge_period=30,
    post_period=10,
    max_commit_period=60,
    direct_period=4,
    settle_period=10,
    publish_period=8,
    vote_commit_period=20,
    vote_reveal_period=10,
    audit_period=12,
    fault_memory=600,
    beacon_delay=1,
    block_period=1,
    min_blocks=2,
    audit_bps=100,
    jail_eras=2,
    max_rounds=2,
    vote_windows=3,
    reference_fuel_rate=200_000_000,
    reference_byte_rate=2_000_000,
    max_task_fuel=12 * 10**9,
    max_price=10**13,
    max_gas_price=10**9,
    batch_bond=ETHER // 100,
    challenge_bond=ETHER // 100,
    class_deposit=ETHER // 10,
    least_unit_wei=ETHER // 50,
)
"""Seconds instead of days, for tests and the devnet: the same code."""

PRODUCTION = Params(
    era_period=4 * 3600,
    unbonding_period=7 * 86400,
    challenge_period=600,
    post_period=60,
    max_commit_period=3600,
    direct_period=60,
    settle_period=60,
    publish_period=120,
    vote_commit_period=3600,
    vote_reveal_period=300,
    audit_period=200,
    fault_memory=30 * 86400,
    beacon_delay=64,
    block_period=2,
    min_blocks=8,
    audit_bps=100,
    jail_eras=6,
    max_rounds=2,
    vote_windows=3,
    reference_fuel_rate=200_000_000,
    reference_byte_rate=2_000_000,
    max_task_fuel=720 * 10**9,
    max_price=10**12,
    max_gas_price=10**11,
    batch_bond=ETHER // 10,
    challenge_bond=ETHER // 10,
    class_deposit=10 * ETHER,
    least_unit_wei=6 * ETHER // 10,
)
"""For a chain with blocks of about two seconds."""

PRESETS = {"local": LOCAL, "production": PRODUCTION}
