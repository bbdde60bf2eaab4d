"""Write tests/vectors/ours/*.json from the pure model; the Solidity tests replay them.

Run `python -m tests.vectors.make_vectors` after a rule changed; test_ours.py fails while the files are stale. Every
file is one object of parallel arrays: row i of each array belongs to case i. Numbers are decimal strings, bytes hex
strings; lists inside a case are packed big-endian into one hex string, as the function that makes them says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

from tests.vectors.rows import CHAIN_ID, MARKET, Columns, Rows, key_of, pack
from tests.vectors.vote_vectors import make_class_votes, make_dispute, make_questions

from quorate.chain.signing import SECP256K1_ORDER, compute_address, recover, sign
from quorate.protocol.classes import Membership, compute_median_ask, compute_next_price
from quorate.protocol.commitment import compute_commitment, compute_round_domain, compute_salt, compute_statement
from quorate.protocol.committee import compute_committee
from quorate.protocol.dispute_pages import (
    encode_dispute_record,
)
from quorate.protocol.encoding import (
    compute_commit_page_hash,
    compute_domain_separator,
    compute_job_id,
    compute_list_digest,
    compute_list_leaf,
    encode_carry_page,
    encode_commit_lists,
    encode_items,
    encode_outcomes,
    encode_post_page,
    encode_record_page,
    fold,
)
from quorate.protocol.hashing import keccak
from quorate.protocol.market import NonceWindow
from quorate.protocol.params import FUEL_UNIT
from quorate.protocol.settlement import (
    Ballot,
    RoundTerms,
    compute_fines,
    compute_needed_period,
    compute_order_escrow,
    compute_task_price,
    decide_bundle,
    outcome_row,
    void_bundle,
)
from quorate.protocol.types import (
    ORDER_WIDTHS,
    ZERO32,
    Address,
    CarryRecord,
    CommitItem,
    CommitList,
    JobOrder,
    PostRecord,
    SignatureKind,
    SignedOrder,
    Stage,
    Vote,
)

OURS = Path(__file__).parent / "ours"


def make_orders() -> Columns:
    """EIP-712: separator and job id of orders, with the widest values too."""
    rng, rows = Random(1), Rows()
    for i in range(12):
        numbers = {name: (1 << bits) - 1 if i == 1 else rng.getrandbits(bits) for name, bits in ORDER_WIDTHS.items()}
        if i == 0:
            numbers = dict.fromkeys(ORDER_WIDTHS, 0)
        market = Address(rng.randbytes(20)) if i > 2 else MARKET
        chain_id = CHAIN_ID if i < 8 else rng.getrandbits(40)
        order = JobOrder(requester=compute_address(key_of(i)), spec_hash=rng.randbytes(32), **numbers)
        separator = compute_domain_separator(chain_id, market)
        job_id = compute_job_id(separator, order)
        signed = SignedOrder(order, sign(job_id, key_of(i)))
        by_wallet = SignedOrder(order, (job_id * 12)[: (0, 1, 65, 384)[i % 4]], SignatureKind.WALLET)
        rows.add(
            chainId=chain_id, market=market, separator=separator, requester=order.requester, specHash=order.spec_hash,
            **{_camel(name): value for name, value in numbers.items()}, jobId=job_id, signature=signed.signature,
            postPage=encode_post_page([signed]), walletSignature=by_wallet.signature,
            walletPage=encode_post_page([by_wallet]),
        )  # fmt: skip
    return rows.columns


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(map(str.capitalize, tail))


def make_signatures() -> Columns:
    """Valid signatures and ones that must not count; `signer` is zero for those."""
    rng, rows = Random(2), Rows()
    for i in range(16):
        digest = rng.randbytes(32)
        good = sign(digest, key_of(i))
        s = int.from_bytes(good[32:64], "big")
        high = (SECP256K1_ORDER - s).to_bytes(32, "big")
        bad = {
            8: good[:64] + bytes((good[64] - 27,)),
            9: good[:32] + high + bytes((55 - good[64],)),
            10: good[:32] + bytes(32) + good[64:],
            11: bytes(32) + good[32:],
            12: bytes(65),
            13: good[:64] + b"\x1d",
        }
        signature = bad.get(i, good)
        rows.add(digest=digest, signature=signature, signer=recover(digest, signature) or bytes(20))
    return rows.columns


def make_statements() -> Columns:
    """Round domains, statements, salts, commitments, digests and leaves of lists."""
    rng, rows = Random(3), Rows()
    separator = compute_domain_separator(CHAIN_ID, MARKET)
    for i in range(12):
        batch_id, post_hash, beacon = rng.getrandbits(64), rng.randbytes(32), rng.randbytes(32)
        stage, round_ = Stage(i % 2), rng.randrange(3)
        bundle, operator_id, member = rng.getrandbits(12), rng.getrandbits(24), rng.randrange(1024)
        domain = compute_round_domain(CHAIN_ID, MARKET, batch_id, post_hash, stage, round_, beacon)
        statement = compute_statement(domain, bundle)
        vote, salt = Vote(rng.randbytes(32)), compute_salt(key_of(i), statement)
        commitment = compute_commitment(statement, operator_id, vote, salt)
        items = [CommitItem(bundle + n, n % 3, keccak(commitment + bytes((n,)))) for n in range(i + 1)]
        items_hash = keccak(encode_items(items))
        digest = compute_list_digest(separator, domain, operator_id, items_hash)
        lists = [CommitList(member, tuple(items), sign(digest, key_of(i)))] * 2
        rows.add(
            chainId=CHAIN_ID, market=MARKET, batchId=batch_id, postHash=post_hash, stage=stage, round=round_,
            beacon=beacon, roundDomain=domain, bundle=bundle, statement=statement, operatorId=operator_id, vote=vote,
            signingKey=key_of(i), salt=salt, commitment=commitment, member=member, itemsHash=items_hash,
            listDigest=digest, leaf=compute_list_leaf(lists[0]), commitPage=encode_commit_lists(lists),
            commitPageHash=compute_commit_page_hash(lists),
        )  # fmt: skip
    return rows.columns


def make_draws() -> Columns:
    """Committees from even, uneven and absurd tables; `units` and `committee` are u16 each."""
    rng, rows = Random(4), Rows()
    even = [m for m in range(20) for _ in range(5)]
    ladder = [m for m in range(13) for _ in range(m + 1)]
    # One member holds nearly all: attempts run out, and the next free row is taken.
    whale = [0] * 2000 + list(range(1, 8))
    last = [9] * 1500 + list(range(9))
    for units, seats in ((even, 3), (even, 10), (ladder, 6), (whale, 4), (last, 5), ([0, 1], 1), (whale, 3)):
        for bundle in (0, 1, 4095):
            domain, count = rng.randbytes(32), max(units) + 1
            drawn = compute_committee(domain, bundle, seats, units, count)
            rows.add(
                units=pack(((u, 2),) for u in units), memberCount=count, roundDomain=domain, bundle=bundle, seats=seats,
                committee=pack(((m, 2),) for m in drawn),
            )  # fmt: skip
    return rows.columns


def make_pages() -> Columns:
    """Record pages, carry pages, dispute records, and their hash chains; columns of one row do not belong together."""
    rng, rows = Random(5), Rows()
    for i in range(8):
        requesters = [Address(rng.randbytes(20)) for _ in range(3)]
        page_hash, first = rng.randbytes(32), rng.randrange(4000)
        groups = [
            [PostRecord(r, rng.getrandbits(64), rng.randrange(1, 1 << 20)) for _ in range(rng.randrange(i + 1))]
            for r in requesters
        ]
        record_page = encode_record_page(page_hash, first, groups)
        carried = [_make_carry(rng, bundle) for bundle in sorted(rng.sample(range(4096), i + 1))]
        dispute = make_dispute(rng, i)
        rows.add(
            postPageHash=page_hash, firstBundle=first,
            records=pack(
                ((int.from_bytes(r.requester, "big"), 20), (r.task_price, 8), (r.task_count, 4))
                for group in groups for r in group
            ),
            recordPage=record_page, postHash=fold(ZERO32, [keccak(record_page)]),
            carryPage=encode_carry_page(carried), carryBundles=pack(((c.bundle, 2),) for c in carried),
            carryPots=pack(((c.pot, 16),) for c in carried), carryVoters=pack(((len(c.voters), 1),) for c in carried),
            disputeRecord=encode_dispute_record(dispute), disputeEscrow=dispute.escrow, disputeFee=dispute.fee,
            disputePrice=dispute.price, disputePot=dispute.pot, disputeVotes=len(dispute.votes),
        )  # fmt: skip
    return rows.columns


def _make_carry(rng: Random, bundle: int) -> CarryRecord:
    voters = tuple(rng.sample(range(1024), rng.choice((0, 1, 3))))
    vote = Vote(rng.randbytes(32)) if voters else None
    return CarryRecord(
        bundle, Address(rng.randbytes(20)), rng.getrandbits(72), rng.randint(1, 256), rng.randrange(2),
        rng.randrange(256), rng.getrandbits(80), rng.randrange(256), vote, voters,
        tuple(rng.choices(range(1024), k=rng.choice((0, 0, 2)))),
    )  # fmt: skip


def make_settlements() -> Columns:
    """Money of one bundle. Packed: `standing` member u16; `committee` member u16 by seat; `opened` seat u8 ‖ vote u8
    (0 is the standing vote); `abstained` and `committed` seat u8; `abstainers` member u16; `fines` member u16 ‖
    wei u128 ‖ kind u8; `payments` member u16 ‖ wei u128; `row` is the bundle's outcome row."""
    rng, rows = Random(6), Rows()
    for i in range(160):
        ballot, terms = _make_ballot(rng, i)
        record, is_void = ballot.record, bool(ballot.record.opened) and i % 10 == 9
        fines = () if is_void else compute_fines(ballot, terms)
        taken = rng.randint(0, sum(fine.amount for fine in fines))
        out = void_bundle(record, terms) if is_void else decide_bundle(ballot, terms, True, taken)
        rows.add(
            seats=terms.seats, round=terms.round, rounds=terms.rounds, fee=terms.fee, auditBps=terms.audit_bps,
            judged=terms.judged, price=record.price, shares=record.shares, flags=record.flags, potBefore=record.pot,
            openedBefore=record.opened, isVoided=is_void, standing=_members(record.voters),
            abstainers=_members(record.abstainers), committee=_members(ballot.committee),
            opened=pack(((s, 1), (vote[0] - 1, 1)) for s, vote in sorted(ballot.opened.items())),
            abstained=bytes(sorted(ballot.abstained)), committed=bytes(sorted(ballot.committed)),
            escrow=terms.compute_escrow(record), verdict=out.verdict,
            fines=pack(((f.member, 2), (f.amount, 16), (f.kind, 1)) for f in fines), taken=taken,
            payments=pack(((m, 2), (amount, 16)) for m, amount in sorted(out.payments.items())),
            fresh=_members(out.fresh), fromPot=out.from_pot, fromEscrow=out.from_escrow, feePaid=out.fee,
            auditFee=out.audit_fee, refund=out.refund, locked=out.locked, toTreasury=out.to_treasury, potAfter=out.pot,
            row=encode_outcomes([outcome_row(record, out)]),
        )  # fmt: skip
    return rows.columns


def _members(members: Iterable[int]) -> bytes:
    return pack(((m, 2),) for m in members)


def _make_ballot(rng: Random, case: int) -> tuple[Ballot, RoundTerms]:
    seats, rounds = rng.choice((1, 2, 3, 5)), rng.randrange(3)
    round_ = rng.randint(0, rounds)
    terms = RoundTerms(seats, round_, rounds, rng.randrange(10**6), rng.choice((0, 100, 333)), case % 7 != 0)
    price, votes = rng.randrange(1, 10**12), [Vote(bytes((n + 1,)) * 32) for n in range(2)]
    standing = tuple(rng.sample(range(12), rng.randrange(min(4, seats * round_ + 1))))
    others = seats * round_ - len(standing)
    abstainers = tuple(rng.choices(range(12), k=rng.choice((0, rng.randint(0, others), others))))
    record = CarryRecord(
        case, Address(bytes(20)), price, rng.randint(1, 256), rng.randrange(2), seats * (1 + rounds),
        rng.randrange(4 * price) if round_ else 0, len(standing), votes[0] if standing else None, standing, abstainers,
    )  # fmt: skip
    committee = tuple(rng.sample(range(12), seats))
    lie, open_, shy = 0.15 if case % 3 else 0.0, rng.choice((0.0, 0.5, 1.0)), rng.choice((0.0, 0.5, 1.0))
    opened = {s: votes[rng.random() < lie] for s in range(seats) if rng.random() < open_}
    abstained = frozenset(s for s in range(seats) if s not in opened and rng.random() < shy)
    silent = {s for s in range(seats) if rng.random() < 0.5}
    return Ballot(record, committee, opened, abstained, frozenset({*opened, *abstained, *silent})), terms


def make_prices() -> Columns:
    """Medians and price steps; `asks` is units u16 ‖ ask u64 for each member."""
    rng, rows = Random(8), Rows()
    for _ in range(30):
        rows_of = [Membership(rng.randrange(1, 50), rng.randrange(1, 10**6), 1) for _ in range(rng.randrange(1, 9))]
        price, median = rng.choice((1, 5, 9, 10**4, rng.randrange(1, 10**6))), compute_median_ask(rows_of)
        rows.add(
            asks=pack(((m.units, 2), (m.ask, 8)) for m in rows_of), median=median, price=price,
            next=compute_next_price(price, median),
        )  # fmt: skip
    return rows.columns


def make_escrows() -> Columns:
    """Task price, needed commit period, and escrow of an order."""
    rng, rows = Random(9), Rows()
    for _ in range(20):
        fuel, price, tasks = rng.randrange(1, 10**12), rng.randrange(1, 10**10), rng.randrange(1, 1 << 20)
        seats, rounds, fee, data = rng.randrange(1, 20), rng.randrange(3), rng.randrange(10**9), rng.randrange(10**9)
        task_price = compute_task_price(fuel, price, FUEL_UNIT)
        rows.add(
            fuelLimit=fuel, price=price, taskCount=tasks, seats=seats, rounds=rounds, feeWei=fee, inputBytes=data,
            taskPrice=task_price, period=compute_needed_period(tasks, fuel, data, 200_000_000, 2_000_000),
            auditBps=100, escrow=compute_order_escrow(task_price, tasks, seats, rounds, fee, 100),
        )  # fmt: skip
    return rows.columns


def make_nonces() -> Columns:
    """One requester's nonces, in order: whether each was used, and the window after it was used."""
    rng, rows, window = Random(10), Rows(), NonceWindow()
    for _ in range(80):
        nonce = max(0, window.base + rng.choice((-1, 0, 1, rng.randrange(192), 191, 192, 193, rng.randrange(700))))
        is_used = window.is_used(nonce)
        if not is_used:
            window.use(nonce)
        rows.add(nonce=nonce, isUsed=is_used, base=window.base, used=window.used.to_bytes(32, "big"))
    return rows.columns


MAKERS: dict[str, Callable[[], Columns]] = {
    "orders": make_orders,
    "signatures": make_signatures,
    "statements": make_statements,
    "draws": make_draws,
    "pages": make_pages,
    "settlements": make_settlements,
    "questions": make_questions,
    "class_votes": make_class_votes,
    "prices": make_prices,
    "escrows": make_escrows,
    "nonces": make_nonces,
}


def render(name: str) -> str:
    """Content of one file."""
    columns: dict[str, Any] = MAKERS[name]()
    return json.dumps(columns, indent=1) + "\n"


def main() -> int:
    """Write all files."""
    OURS.mkdir(exist_ok=True)
    for name in MAKERS:
        (OURS / f"{name}.json").write_text(render(name))
    print(f"wrote {len(MAKERS)} files to {OURS.relative_to(Path.cwd()) if OURS.is_relative_to(Path.cwd()) else OURS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
