"""Bytes of pages, records and EIP-712 structs (sections 4 and 5 of contracts/README.md).

Encoders are exact inverses of the parsers in Solidity; decoders raise ValidationError where a contract reverts
with MalformedPage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from eth_abi.abi import encode

from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.types import (
    Address,
    CarryRecord,
    CommitItem,
    CommitList,
    JobId,
    JobOrder,
    ListSkip,
    Member,
    Opening,
    OperatorId,
    OrderSkip,
    OutcomeRow,
    PostRecord,
    SignatureKind,
    SignedOrder,
    Table,
    Terms,
    Verdict,
    Vote,
)

ORDER_TYPE = (
    "JobOrder(address requester,uint64 nonce,uint32 classId,bytes32 specHash,uint32 taskCount,uint64 fuelLimit,"
    "uint64 inputBytes,uint8 seats,uint8 rounds,uint32 commitPeriod,uint32 minUnits,uint64 maxPrice,uint64 maxFee,"
    "uint40 validUntil,uint8 strategy,uint8 flags)"
)
ORDER_TYPEHASH = keccak(ORDER_TYPE.encode())
COMMIT_LIST_TYPEHASH = keccak(b"CommitList(bytes32 roundDomain,uint32 operatorId,bytes32 itemsHash)")
DOMAIN_TYPEHASH = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
NOT_OPENED = 0xFF
LEAVE = 0xFF
SALT_BYTES = 16


class Reader:
    """Walks over a page; running past its end is a ValidationError."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        """Next `size` bytes."""
        if self._at + size > len(self._data):
            raise ValidationError(f"page ends at byte {len(self._data)}, needed {self._at + size}")
        self._at += size
        return self._data[self._at - size : self._at]

    def uint(self, size: int) -> int:
        """Next big-endian integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    @property
    def done(self) -> bool:
        """Whether every byte was read."""
        return self._at == len(self._data)


def _uints(*pairs: tuple[int, int]) -> bytes:
    try:
        return b"".join(value.to_bytes(size, "big") for value, size in pairs)
    except OverflowError as error:
        raise ValidationError(f"a number does not fit its field: {pairs}") from error


# EIP-712 ------------------------------------------------------------------------------------------------------------


def compute_domain_separator(chain_id: int, market: Address) -> bytes:
    """EIP-712 domain of a deployment."""
    values = [DOMAIN_TYPEHASH, keccak(b"Quorate"), keccak(b"1"), chain_id, market]
    return keccak(encode(["bytes32", "bytes32", "bytes32", "uint256", "address"], values))


def compute_typed_digest(separator: bytes, struct_hash: bytes) -> bytes:
    """EIP-712 digest of a struct."""
    return keccak(b"\x19\x01" + separator + struct_hash)


def compute_job_id(separator: bytes, order: JobOrder) -> JobId:
    """EIP-712 digest of an order: what the requester signs, and the job's name."""
    words = b"".join(
        value.to_bytes(32, "big")
        for value in (
            order.nonce, order.class_id, int.from_bytes(order.spec_hash, "big"), order.task_count, order.fuel_limit,
            order.input_bytes, order.seats, order.rounds, order.commit_period, order.min_units, order.max_price,
            order.max_fee, order.valid_until, order.strategy, order.flags,
        )
    )  # fmt: skip
    return JobId(compute_typed_digest(separator, keccak(ORDER_TYPEHASH + bytes(12) + order.requester + words)))


def compute_list_digest(separator: bytes, round_domain: bytes, operator_id: int, items_hash: bytes) -> bytes:
    """EIP-712 digest that a member signs over its commitments of one page."""
    struct = COMMIT_LIST_TYPEHASH + round_domain + operator_id.to_bytes(32, "big") + items_hash
    return compute_typed_digest(separator, keccak(struct))


# post ---------------------------------------------------------------------------------------------------------------


def encode_post_page(orders: Sequence[SignedOrder]) -> bytes:
    """Orders grouped by requester (neighbours with one requester and kind of signature share a group)."""
    groups: list[list[SignedOrder]] = []
    for signed in orders:
        if groups and _group_key(groups[-1][0]) == _group_key(signed) and len(groups[-1]) < 0xFFFF:
            groups[-1].append(signed)
        else:
            groups.append([signed])
    return b"".join(
        group[0].order.requester + _uints((group[0].kind, 1), (len(group), 2)) + b"".join(map(_encode_order, group))
        for group in groups
    )


def _group_key(signed: SignedOrder) -> tuple[Address, SignatureKind]:
    return signed.order.requester, signed.kind


def _encode_order(signed: SignedOrder) -> bytes:
    o = signed.order
    head = _uints((o.nonce, 8)) + o.spec_hash
    tail = _uints(
        (o.task_count, 4), (o.fuel_limit, 8), (o.input_bytes, 8), (o.commit_period, 4), (o.min_units, 4),
        (o.max_price, 8), (o.max_fee, 8), (o.valid_until, 5), (o.strategy, 1), (o.flags, 1),
    )  # fmt: skip
    length = _uints((len(signed.signature), 2)) if signed.kind is SignatureKind.WALLET else b""
    return head + tail + length + signed.signature


def decode_post_page(page: bytes, terms: Terms) -> list[list[SignedOrder]]:
    """Groups of a page, each the orders of one requester; terms not in the page are the batch's."""
    reader, groups = Reader(page), []
    while not reader.done:
        requester, kind, count = Address(reader.take(20)), reader.uint(1), reader.uint(2)
        if count == 0 or kind > max(SignatureKind):
            raise ValidationError("a group of a post page has no order, or an unknown kind of signature")
        groups.append([_decode_order(reader, requester, SignatureKind(kind), terms) for _ in range(count)])
    return groups


def _decode_order(reader: Reader, requester: Address, kind: SignatureKind, terms: Terms) -> SignedOrder:
    nonce, spec_hash = reader.uint(8), reader.take(32)
    sizes = (4, 8, 8, 4, 4, 8, 8, 5, 1, 1)
    tasks, fuel, input_bytes, period, units, price, fee, until, strategy, flags = map(reader.uint, sizes)
    order = JobOrder(
        requester, nonce, terms.class_id, spec_hash, tasks, fuel, input_bytes, terms.seats, terms.rounds, period,
        units, price, fee, until, strategy, flags,
    )  # fmt: skip
    return SignedOrder(order, reader.take(65 if kind is SignatureKind.ECDSA else reader.uint(2)), kind)


def encode_record_page(page_hash: bytes, first_bundle: int, groups: Sequence[Sequence[PostRecord]]) -> bytes:
    """What is hashed of a post page: accepted orders in the groups that they were posted in, empty groups left out."""
    return page_hash + _uints((first_bundle, 2)) + b"".join(_encode_record_group(g) for g in groups if g)


def _encode_record_group(group: Sequence[PostRecord]) -> bytes:
    rows = (_uints((r.task_price, 8), (r.task_count, 3), (r.flags, 1)) for r in group)
    return group[0].requester + _uints((len(group), 2)) + b"".join(rows)


def decode_record_page(page: bytes) -> tuple[bytes, int, list[PostRecord]]:
    """Hash of the post page, first bundle, records."""
    reader = Reader(page)
    page_hash, first, records = reader.take(32), reader.uint(2), []
    while not reader.done:
        requester, count = Address(reader.take(20)), reader.uint(2)
        records += [PostRecord(requester, reader.uint(8), reader.uint(3), reader.uint(1)) for _ in range(count)]
    return page_hash, first, records


# hash chains --------------------------------------------------------------------------------------------------------


def fold(start: bytes, hashes: Iterable[bytes]) -> bytes:
    """Append page hashes to a hash chain."""
    for value in hashes:
        start = keccak(start + value)
    return start


# commit -------------------------------------------------------------------------------------------------------------


def encode_items(items: Sequence[CommitItem]) -> bytes:
    """Items as signed, sent and hashed."""
    return b"".join(_uints((i.bundle, 2), (i.seat, 1)) + i.commitment for i in items)


def encode_commit_lists(lists: Sequence[CommitList]) -> bytes:
    """A page of `commit`."""
    return b"".join(_uints((c.member, 2), (len(c.items), 2)) + c.signature + encode_items(c.items) for c in lists)


def decode_commit_lists(page: bytes) -> list[CommitList]:
    """Inverse of encode_commit_lists."""
    reader, lists = Reader(page), []
    while not reader.done:
        member, count, signature = reader.uint(2), reader.uint(2), reader.take(65)
        items = tuple(CommitItem(reader.uint(2), reader.uint(1), reader.take(32)) for _ in range(count))
        if not items:
            raise ValidationError("a list of commitments is empty")
        lists.append(CommitList(member, items, signature))
    if not lists:
        raise ValidationError("a commit page has no list")
    return lists


def compute_list_leaf(commit_list: CommitList) -> bytes:
    """What a commit page keeps of a list."""
    return keccak(commit_list.member.to_bytes(2, "big") + keccak(encode_items(commit_list.items)))


def compute_commit_page_hash(lists: Sequence[CommitList]) -> bytes:
    """Hash of the lists of one page that were not skipped."""
    return keccak(b"".join(map(compute_list_leaf, lists)))


# settle -------------------------------------------------------------------------------------------------------------


def encode_votes(votes: Sequence[Sequence[Vote] | None]) -> bytes:
    """Distinct votes of each bundle of a page, ascending; None leaves a bundle for a later call."""
    return b"".join(bytes((LEAVE,)) if v is None else bytes((len(v),)) + b"".join(sorted(set(v))) for v in votes)


def decode_votes(data: bytes, bundles: int) -> list[list[Vote] | None]:
    """Inverse of encode_votes for a page of so many bundles."""
    reader = Reader(data)
    found: list[list[Vote] | None] = []
    for _ in range(bundles):
        count = reader.uint(1)
        votes = None if count == LEAVE else [Vote(reader.take(32)) for _ in range(count)]
        if votes is not None and any(a >= b for a, b in pairwise(votes)):
            raise ValidationError("votes of a bundle do not ascend")
        found.append(votes)
    if not reader.done:
        raise ValidationError("bytes behind the last vote")
    return found


OpenedItem = tuple[CommitItem, Opening | None]
"""A committed item with its opening, or None when it stays closed."""

OpenedList = tuple[int, Sequence[OpenedItem] | bytes]
"""Member of a list with its items, or with the list's leaf where they do not matter."""


def encode_openings(
    pages: Sequence[tuple[int, Sequence[OpenedList]]], votes: Mapping[int, Sequence[Vote]] | Sequence[Vote]
) -> bytes:
    """Commit pages with what is opened in them: [(page index, lists)].

    `votes` maps each bundle settled now to its votes, ascending, as sent beside; in `reveal` all have one list.
    """
    return b"".join(
        _uints((index, 2), (len(lists), 2)) + b"".join(_encode_opened_list(m, items, votes) for m, items in lists)
        for index, lists in pages
    )


def _encode_opened_list(
    member: int, items: Sequence[OpenedItem] | bytes, votes: Mapping[int, Sequence[Vote]] | Sequence[Vote]
) -> bytes:
    if isinstance(items, bytes):
        return _uints((member, 2), (0, 2)) + items
    out = _uints((member, 2), (len(items), 2))
    for item, opening in items:
        out += _uints((item.bundle, 2), (item.seat, 1))
        if opening is None:
            out += bytes((NOT_OPENED,)) + item.commitment
        else:
            listed = votes[item.bundle] if isinstance(votes, Mapping) else votes
            out += bytes((list(listed).index(opening.vote),)) + opening.salt
    return out


def decode_revealed(votes: bytes, openings: bytes) -> dict[tuple[int, int], Opening]:
    """What an event OpeningsRevealed shows: openings by (bundle, seat)."""
    listed = decode_votes(votes, 1)[0] or []
    return decode_opened(openings, lambda _: listed)


def decode_opened(openings: bytes, votes_of: Callable[[int], Sequence[Vote]]) -> dict[tuple[int, int], Opening]:
    """Openings by (bundle, seat), as they are sent; `votes_of` are those that are listed for a bundle."""
    reader, found = Reader(openings), dict[tuple[int, int], Opening]()
    while not reader.done:
        _, lists = reader.uint(2), reader.uint(2)
        for _ in range(lists):
            _, count = reader.uint(2), reader.uint(2)
            if count == 0:
                reader.take(32)
            for _ in range(count):
                bundle, seat, tag = reader.uint(2), reader.uint(1), reader.uint(1)
                if tag == NOT_OPENED:
                    reader.take(32)
                    continue
                votes = votes_of(bundle)
                if tag >= len(votes):
                    raise ValidationError(f"vote {tag} of bundle {bundle} is not listed")
                found[bundle, seat] = Opening(votes[tag], reader.take(SALT_BYTES))
    return found


def encode_carry_page(records: Sequence[CarryRecord]) -> bytes:
    """Bundles that go on to a fresh round."""
    return b"".join(
        _uints((r.bundle, 2)) + r.requester
        + _uints((r.price, 12), (r.tasks, 2), (r.flags, 1), (r.shares, 2), (r.pot, 16), (r.opened, 2))
        + _uints((len(r.voters), 1)) + (r.vote or b"") + _members(r.voters)
        + _uints((len(r.abstainers), 1)) + _members(r.abstainers)
        for r in records
    )  # fmt: skip


def _members(members: Sequence[int]) -> bytes:
    return b"".join(_uints((m, 2)) for m in members)


def _read_members(reader: Reader, count: int) -> tuple[int, ...]:
    return tuple(reader.uint(2) for _ in range(count))


def decode_carry_page(page: bytes) -> list[CarryRecord]:
    """Inverse of encode_carry_page."""
    reader, records = Reader(page), []
    while not reader.done:
        bundle, requester = reader.uint(2), Address(reader.take(20))
        price, tasks, flags, shares, pot, opened, count = map(reader.uint, (12, 2, 1, 2, 16, 2, 1))
        vote = Vote(reader.take(32)) if count else None
        voters = _read_members(reader, count)
        abstainers = _read_members(reader, reader.uint(1))
        records.append(
            CarryRecord(bundle, requester, price, tasks, flags, shares, pot, opened, vote, voters, abstainers)
        )
    return records


def encode_outcomes(rows: Sequence[OutcomeRow]) -> bytes:
    """Body of BundlesSettled."""
    return b"".join(
        _uints((r.bundle, 2), (r.verdict, 1)) + r.vote + _uints((r.opened, 2), (len(r.voters), 1)) + _members(r.voters)
        for r in rows
    )


def decode_outcomes(data: bytes) -> list[OutcomeRow]:
    """Inverse of encode_outcomes."""
    reader, found = Reader(data), []
    while not reader.done:
        bundle, verdict, vote, opened = reader.uint(2), Verdict(reader.uint(1)), Vote(reader.take(32)), reader.uint(2)
        found.append(OutcomeRow(bundle, verdict, vote, opened, _read_members(reader, reader.uint(1))))
    return found


def decode_order_skips(data: bytes) -> dict[int, OrderSkip]:
    """Body of `skips` in PagePosted: order index → reason."""
    return {int.from_bytes(data[i : i + 2], "big"): OrderSkip(data[i + 2]) for i in range(0, len(data), 3)}


def decode_list_skips(data: bytes) -> dict[int, ListSkip]:
    """Body of `skips` in CommitPage and VotesCommitted: list index → reason."""
    return {int.from_bytes(data[i : i + 2], "big"): ListSkip(data[i + 2]) for i in range(0, len(data), 3)}


# tables -------------------------------------------------------------------------------------------------------------


def decode_table(units: bytes, members: bytes) -> Table:
    """Table of a class from its two data contracts' bytes, without the leading STOP."""
    rows = (members[i : i + 23] for i in range(0, len(members), 23))
    return Table(
        members=tuple(Member(Address(row[:20]), OperatorId(int.from_bytes(row[20:], "big"))) for row in rows),
        units=tuple(int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)),
    )
