"""Parameters of a deployment; the contracts hold them for good, and everybody reads them from the chain.

Field names, widths and units are those of section 2 of contracts/README.md.
"""

from dataclasses import dataclass, fields

from quorate.protocol.errors import ValidationError

MAX_BUNDLES = 4096
MAX_PAGE_BUNDLES = 1024
MAX_PAGE_SEATS = 16_384
BUNDLE_TASKS = 256
MAX_TASKS = 1 << 20
MAX_MEMBERS = 1024
MAX_UNITS = 12_000
MAX_CLASSES = 4
FUEL_UNIT = 10**9
MAX_DRAW_ATTEMPTS = 32
MAX_VOTERS = 255
TASK_ALL = 0xFFFFFFFF
BPS = 10_000
BEACON_REACH_BLOCKS = 256
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
    def batch_life(self) -> int:
        """Longest undisputed life of a batch, in seconds."""
        windows = self.max_commit_period + 2 * self.direct_period + self.settle_period
        return self.post_period + (1 + self.max_rounds) * windows

    def check(self) -> None:
        """Raise ValidationError where the registry's constructor would revert with UnsafeParameters."""
        exposed = (
            self.era_period
            + self.batch_life
            + self.challenge_period
            + self.vote_commit_period
            + self.vote_reveal_period
        )
        if self.unbonding_period < 2 * exposed:
            raise ValidationError(f"unbonding_period {self.unbonding_period} s is below 2 × {exposed} s of exposure")


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
    max_task_fuel=10**13,
    max_price=10**13,
    max_gas_price=10**9,
    batch_bond=ETHER // 100,
    challenge_bond=ETHER // 100,
    class_deposit=ETHER // 10,
    least_unit_wei=1,
)

PRODUCTION = Params(
    era_period=14_400,
    unbonding_period=604_800,
    challenge_period=600,
    post_period=60,
    max_commit_period=3600,
    direct_period=60,
    settle_period=60,
    publish_period=120,
    vote_commit_period=3600,
    vote_reveal_period=300,
    audit_period=200,
    fault_memory=2_592_000,
    beacon_delay=64,
    block_period=2,
    min_blocks=8,
    audit_bps=100,
    jail_eras=6,
    max_rounds=2,
    vote_windows=3,
    reference_fuel_rate=200_000_000,
    reference_byte_rate=2_000_000,
    max_task_fuel=10**13,
    max_price=10**12,
    max_gas_price=10**11,
    batch_bond=ETHER // 10,
    challenge_bond=ETHER // 10,
    class_deposit=10 * ETHER,
    least_unit_wei=3 * ETHER // 4,
)
"""8 % of the least unit are three class votes of a task of `max_task_fuel` at `max_price`, and their gas."""
