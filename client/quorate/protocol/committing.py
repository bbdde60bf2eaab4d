"""`commit` and `reveal`: which lists of commitments count, and what must not be left out (sections 4.5 and 4.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from quorate.protocol import events as ev
from quorate.protocol.context import Call, refuse, require
from quorate.protocol.encoding import (
    compute_commit_page_hash,
    compute_list_digest,
    decode_commit_lists,
    decode_votes,
    encode_items,
    fold,
)
from quorate.protocol.errors import ProtocolViolation, ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.market import Batch, Market
from quorate.protocol.openings import OpeningsReader
from quorate.protocol.types import ZERO32, CommitItem, CommitList, ListSkip, Table


def apply_commit(market: Market, call: Call, batch_id: int, start: int, end: int, lists: bytes) -> list[ev.Event]:
    """`commit(batchId, from, to, lists)`: every list's signature and every seat's draw are checked."""
    batch = market.get_batch(batch_id)
    require(batch.status is BatchStatus.ASSIGNED, "WrongStatus", batch_id, batch.status)
    is_direct = batch.is_past(1, call.block, market.params)
    require(is_direct or call.sender == batch.collator, "NotCollator", batch.collator)
    require(not batch.is_past(2, call.block, market.params), "WindowPast", "commit")
    require(start < end <= batch.bundles, "MalformedPage")
    try:
        decoded = decode_commit_lists(lists)
    except ValidationError:
        refuse("MalformedPage")
    judge = ListJudge(market, batch, start, end)
    kept, skips = [], b""
    for index, commit_list in enumerate(decoded):
        reason = judge.judge(commit_list)
        if reason is None:
            kept.append(commit_list)
            batch.committed |= {(item.bundle, item.seat) for item in commit_list.items}
        else:
            skips += index.to_bytes(2, "big") + bytes((reason,))
    if kept:
        batch.commit_hash = fold(batch.commit_hash, [compute_commit_page_hash(kept)])
    return [ev.CommitPage(batch.batch_id, batch.round, lists, skips)]


def apply_reveal(
    market: Market, call: Call, batch_id: int, commit_pages: Sequence[bytes], votes: bytes, openings: bytes
) -> list[ev.Event]:
    """`reveal(batchId, commitPages, votes, openings)`: anyone shows openings that the collator left out."""
    batch = market.get_batch(batch_id)
    require(batch.status is BatchStatus.ASSIGNED, "WrongStatus", batch_id, batch.status)
    require(batch.is_past(3, call.block, market.params), "WindowOpen", "settle")
    require(not batch.is_past(4, call.block, market.params), "WindowPast", "reveal")
    require(fold(ZERO32, commit_pages) == batch.commit_hash, "HashMismatch", "commitPages")
    try:
        listed = decode_votes(votes, 1)[0]
        if listed is None:
            raise ValidationError("no votes stand where votes must")
        reader = OpeningsReader(
            market.round_domain(batch),
            market.table_of(batch),
            batch.terms.seats,
            lambda bundle: listed if bundle in batch.pending else None,
        )
        opened = {place for place, seat in reader.read(openings, commit_pages).items() if seat.vote is not None}
        if not opened:
            raise ValidationError("nothing is opened")
    except ProtocolViolation:
        raise
    except ValidationError:
        refuse("MalformedPage")
    batch.revealed |= opened
    return [ev.OpeningsRevealed(batch.batch_id, batch.round, votes, openings)]


@dataclass(slots=True)
class ListJudge:
    """Judges the lists of one page; committees are drawn once a bundle."""

    market: Market
    batch: Batch
    start: int
    end: int
    _committees: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def judge(self, commit_list: CommitList) -> ListSkip | None:
        """Why a list would be skipped; of its items, the first with a reason decides."""
        table = self.market.table_of(self.batch)
        if commit_list.member >= len(table.members):
            return ListSkip.MEMBER
        if not self._is_signed(table, commit_list):
            return ListSkip.SIGNATURE
        last = (-1, -1)
        for item in commit_list.items:
            reason = self._judge_item(commit_list.member, item, last)
            if reason is not None:
                return reason
            last = (item.bundle, item.seat)
        return None

    def _is_signed(self, table: Table, commit_list: CommitList) -> bool:
        member = table.members[commit_list.member]
        digest = compute_list_digest(
            self.market.separator,
            self.market.round_domain(self.batch),
            member.operator_id,
            keccak(encode_items(commit_list.items)),
        )
        return self.market.recover(digest, commit_list.signature) == member.key

    def _judge_item(self, member: int, item: CommitItem, last: tuple[int, int]) -> ListSkip | None:
        place = (item.bundle, item.seat)
        if place <= last:
            return ListSkip.ORDER
        if not self.start <= item.bundle < self.end or item.seat >= self.batch.terms.seats:
            return ListSkip.RANGE
        if item.bundle not in self.batch.pending:
            return ListSkip.NOT_PENDING
        if self._committee(item.bundle)[item.seat] != member:
            return ListSkip.NOT_DRAWN
        return ListSkip.DUPLICATE if place in self.batch.committed else None

    def _committee(self, bundle: int) -> tuple[int, ...]:
        if bundle not in self._committees:
            self._committees[bundle] = self.market.committee(self.batch, bundle)
        return self._committees[bundle]
