"""Who acts in the random runs, and what each knows: keys, orders, commitments, openings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from quorate.chain.signing import compute_address, sign
from quorate.protocol.commitment import compute_commitment, compute_salt, compute_statement
from quorate.protocol.dispute_pages import compute_vote_items_hash
from quorate.protocol.encoding import (
    compute_job_id,
    compute_list_digest,
    encode_items,
)
from quorate.protocol.hashing import keccak
from quorate.protocol.params import ETHER, Params
from quorate.protocol.result import compute_merkle_root
from quorate.protocol.types import (
    Address,
    CommitItem,
    CommitList,
    DisputeRecord,
    JobOrder,
    Member,
    Opening,
    SignedOrder,
    Vote,
    VoteCommit,
)

PARAMS = Params(
    era_period=40,
    unbonding_period=100000,
    challenge_period=15,
    post_period=20,
    max_commit_period=20,
    direct_period=4,
    settle_period=5,
    publish_period=4,
    vote_commit_period=10,
    vote_reveal_period=5,
    audit_period=7,
    fault_memory=200,
    beacon_delay=1,
    block_period=1,
    min_blocks=2,
    audit_bps=6000,
    jail_eras=2,
    max_rounds=2,
    vote_windows=3,
    reference_fuel_rate=200_000_000,
    reference_byte_rate=2_000_000,
    max_task_fuel=10**7,
    max_price=12 * 10**9,
    max_gas_price=0,
    batch_bond=ETHER // 100,
    challenge_bond=10**9,
    class_deposit=ETHER // 10,
    least_unit_wei=4_500_000_000,
)
UNIT_WEI = PARAMS.least_unit_wei
PRICE = 10**10
"""Wei for a FUEL_UNIT: a bundle of 256 tasks of 1e6 fuel costs more than half a unit, so that fines bite."""
STAKE = 40 * UNIT_WEI


@dataclass(frozen=True, slots=True)
class Actor:
    """A key with its address."""

    key: bytes
    address: Address

    @classmethod
    def named(cls, name: str) -> Actor:
        """The actor of that name, the same in every run."""
        key = keccak(f"quorate test actor {name}".encode())
        return cls(key, compute_address(key))


OWNERS = tuple(Actor.named(f"owner {i}") for i in range(8))
SIGNERS = tuple(Actor.named(f"signer {i}") for i in range(16))
REQUESTERS = tuple(Actor.named(f"requester {i}") for i in range(3))
COLLATORS = tuple(Actor.named(f"collator {i}") for i in range(2))
OUTSIDER = Actor.named("outsider")
KEYS = {actor.address: actor.key for actor in SIGNERS}


@dataclass(slots=True)
class KnownBatch:
    """What everybody can know of a batch from events, with the openings that only their makers know at first."""

    pages: list[bytes] = field(default_factory=list)
    next_pages: list[bytes] = field(default_factory=list)
    record_pages: list[bytes] = field(default_factory=list)  # of all rounds, like the next
    outcome_pages: list[bytes] = field(default_factory=list)
    commit_pages: list[tuple[CommitList, ...]] = field(default_factory=list)
    openings: dict[bytes, Opening] = field(default_factory=dict)  # by commitment
    withheld: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class KnownDispute:
    """What everybody can know of a dispute, and the class votes' openings."""

    record: bytes
    decoded: DisputeRecord
    published: dict[Vote, bytes] = field(default_factory=dict)
    question: bytes = b""
    cast: bytes = b""
    pages: list[tuple[VoteCommit, ...]] = field(default_factory=list)  # of the present window
    tally: bytes = b""
    openings: dict[bytes, Opening] = field(default_factory=dict)  # by commitment


def _code(text: str) -> bytes:
    return bytes.fromhex(text.replace("magic", "631626ba7e60e01b").replace("word", "5f5260205ff3").replace(" ", ""))


@dataclass(frozen=True, slots=True)
class Wallet:
    """A requester that is a contract: what code it has, and what it says of (digest, signature) in a block."""

    address: Address
    code: bytes
    says: Callable[[bytes, bytes, int], bool]


WALLETS = tuple(
    Wallet(Address(keccak(f"quorate test wallet {name}".encode())[:20]), _code(code), says)
    for name, code, says in (
        # A signature is the digest itself.
        (
            "honest",
            "600435 606435 14 magic 02 word",
            lambda digest, signature, _: signature[:32].ljust(32, b"\0") == digest,
        ),
        ("burns gas", "5b5f56", lambda *_: False),
        ("reverts", "5f5ffd", lambda *_: False),
        ("says rubbish", "5f19 word", lambda *_: False),
        ("is cut short", "magic 5f52 601f5ff3", lambda *_: False),
        ("talks much", "magic 5f52 6120005ff3", lambda *_: True),
        ("flips", "43600116 15 magic 02 word", lambda _digest, _signature, number: number % 2 == 0),
        ("writes", "60015f55 magic word", lambda *_: False),
    )
)


def sign_order(separator: bytes, order: JobOrder, actor: Actor) -> SignedOrder:
    """An order signed by whoever is named, which need not be its requester."""
    return SignedOrder(order, sign(compute_job_id(separator, order), actor.key))


LEAVES: dict[Vote, tuple[bytes, ...]] = {}
"""What the roots stand for that were made so far; who made one can publish it."""
ROOTLESS = 4
"""Votes of this flavour are random: nobody has leaves for them."""


@cache
def make_vote(bundle_domain: bytes, bundle: int, flavour: int, tasks: int) -> Vote:
    """A vote on so many tasks; members with one flavour vote alike, 0 is the honest one, others lie on some tasks."""
    seed = keccak(b"leaf" + bundle_domain + bundle.to_bytes(2, "big"))
    lies = {flavour * 7 % tasks, flavour * flavour % tasks} if flavour else set()
    leaves = tuple(
        keccak(seed + task.to_bytes(2, "big") + bytes((flavour if task in lies else 0,))) for task in range(tasks)
    )
    root = Vote(keccak(seed)) if flavour == ROOTLESS else Vote(compute_merkle_root(leaves))
    if flavour != ROOTLESS:
        LEAVES[root] = leaves
    return root


def make_commitment(domain: bytes, bundle: int, member: Member, vote: Vote) -> tuple[bytes, Opening]:
    """A member's commitment with what opens it."""
    statement = compute_statement(domain, bundle)
    salt = compute_salt(KEYS[member.key], statement)
    return compute_commitment(statement, member.operator_id, vote, salt), Opening(vote, salt)


def sign_list(separator: bytes, domain: bytes, row: int, member: Member, items: tuple[CommitItem, ...]) -> CommitList:
    """A list of commitments signed by its member."""
    digest = compute_list_digest(separator, domain, member.operator_id, keccak(encode_items(items)))
    return CommitList(row, items, sign(digest, KEYS[member.key]))


def make_class_vote(statement: bytes, member: Member, answer: Vote) -> tuple[bytes, Opening]:
    """A member's commitment in a class vote with what opens it."""
    salt = compute_salt(KEYS[member.key], statement)
    return compute_commitment(statement, member.operator_id, answer, salt), Opening(answer, salt)


def sign_class_vote(separator: bytes, statement: bytes, row: int, member: Member, commitment: bytes) -> VoteCommit:
    """A class vote's commitment signed by its member."""
    digest = compute_list_digest(separator, statement, member.operator_id, compute_vote_items_hash(commitment))
    return row, sign(digest, KEYS[member.key]), commitment
