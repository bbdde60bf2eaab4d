"""Random actions on batches, honest ones and spoiled ones."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from tests.differential.actors import (
    OUTSIDER,
    make_commitment,
    make_vote,
    sign_list,
)
from tests.differential.orders import Orders, spoil

from quorate.chain.abi import Contract
from quorate.protocol.committing import apply_commit, apply_reveal
from quorate.protocol.encoding import (
    decode_carry_page,
    decode_record_page,
    encode_commit_lists,
)
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.market import Batch
from quorate.protocol.params import BEACON_REACH_BLOCKS
from quorate.protocol.planning import RoundView, Settlement, plan_reveals, plan_settlement, plan_void_settlement
from quorate.protocol.settlement import expand_record_page
from quorate.protocol.settling import apply_settle
from quorate.protocol.types import (
    REASONS,
    Address,
    CarryRecord,
    CommitItem,
    CommitList,
)

LIST_FAULTS = ("signature", "order", "range", "seat", "not drawn", "twice", "member")


class Rounds(Orders):
    """Beacons, commitments, settlement."""

    # beacons

    def prove_beacon(self, rng: Random) -> None:
        """Prove a beacon, now and then too early, with another block's header, or with a wrong one."""
        batch = self.pick_batch(rng, BatchStatus.AWAITING)
        if batch is None:
            return
        fault = rng.random()
        if fault > 0.1 and self.backend.number < batch.beacon_block:
            self.wait(batch.beacon_block - self.backend.number, 1)
        self._prove(batch, rng.choice((-1, 1)) if fault < 0.05 else 0)

    def _prove(self, batch: Batch, shift: int = 0) -> None:
        wanted = batch.beacon_block
        known = min(wanted + shift, self.backend.number)
        header = self.backend.header(known)
        hashes = {wanted: keccak(self.backend.header(wanted))} if wanted <= self.backend.number else {}
        batch_id = batch.batch_id
        self.act(
            OUTSIDER.address, Contract.MARKET, "proveBeacon", (batch_id, header),
            lambda c: self.world.market.apply_prove_beacon(c, batch_id, header), hashes=hashes,
        )  # fmt: skip

    def expire(self, rng: Random) -> None:
        """Expire a batch, often too early."""
        statuses = list(BatchStatus) if rng.random() < 0.2 else [BatchStatus.POSTING, BatchStatus.AWAITING]
        batch = self.pick_batch(rng, *statuses)
        if batch is None:
            return
        if rng.random() < 0.3:
            if batch.status is BatchStatus.AWAITING:
                self.wait(BEACON_REACH_BLOCKS + 2, 30)
            else:
                self.wait(1, 20)
        batch_id = batch.batch_id if rng.random() < 0.9 else batch.batch_id ^ 1 << 32
        self.act(
            OUTSIDER.address, Contract.MARKET, "expire", (batch_id,),
            lambda c: self.world.market.apply_expire(c, batch_id),
        )  # fmt: skip

    # commit

    def commit(self, rng: Random) -> None:
        """Commit for most of the seats drawn; liars alone and together; some lists are bad."""
        batch = self.pick_batch(rng, BatchStatus.ASSIGNED)
        if batch is None or (batch.is_past(2, self.block, self.world.params) and rng.random() < 0.95):
            return
        if rng.random() < 0.1:
            self._wait_for_window(batch, 1)
        is_direct = batch.is_past(1, self.block, self.world.params)
        start, end = 0, batch.bundles
        if rng.random() < 0.2:
            start, end = sorted(rng.choices(range(batch.bundles + 2), k=2))
        rows = self._choose_items(rng, batch, range(start, min(end, batch.bundles)))
        if is_direct and rows and rng.random() < 0.5:
            # One operator brings what its collator left out.
            rows = dict([rng.choice(sorted(rows.items()))])
        lists = [self._make_list(batch, member, items) for member, items in sorted(rows.items())]
        if not lists and rng.random() < 0.95:
            return
        if lists and rng.random() < 0.2:
            lists = self._spoil_lists(rng, batch, lists, rng.choice(LIST_FAULTS))
        page = encode_commit_lists(lists)
        if rng.random() < 0.05:
            page = spoil(page, rng)
        sender = OUTSIDER.address if rng.random() < (0.7 if is_direct else 0.05) else batch.collator
        batch_id = batch.batch_id
        self.act(
            sender, Contract.MARKET, "commit", (batch_id, start, end, page),
            lambda c: apply_commit(self.world.market, c, batch_id, start, end, page),
        )  # fmt: skip

    def _choose_items(self, rng: Random, batch: Batch, bundles: range) -> dict[int, list[CommitItem]]:
        market, known = self.world.market, self.batches[batch.batch_id]
        domain, rows = market.round_domain(batch), market.table_of(batch).members
        found: dict[int, list[CommitItem]] = {}
        silence = rng.choice((0.0, 0.0, 0.2, 0.5))
        tasks = {record.bundle: record.tasks for page in known.pages for record in self.bundles_of(batch, page)}
        for bundle in bundles:
            committee = market.committee(batch, bundle)
            is_attacked = rng.random() < 0.4
            abstention = rng.choice((0.0, 0.0, 0.2, 1.0))
            for seat, member in enumerate(committee):
                if (bundle, seat) in batch.committed or rng.random() < silence:
                    continue
                if rng.random() < abstention:
                    reason = rng.choice((0, 1, 5, REASONS - 1)).to_bytes(32, "big")
                    found.setdefault(member, []).append(CommitItem(bundle, seat, reason))
                    continue
                flavour = rng.choice((0, 1, 1, 2 + member)) if is_attacked else 0
                # A vote is the same in every round, or standing votes could not meet later ones.
                vote = make_vote(batch.post_hash, bundle, flavour, tasks.get(bundle, 1))
                commitment, opening = make_commitment(domain, bundle, rows[member], vote)
                found.setdefault(member, []).append(CommitItem(bundle, seat, commitment))
                known.openings[commitment] = opening
                if rng.random() < silence / 2:
                    known.withheld.add(commitment)
        return found

    def _make_list(self, batch: Batch, member: int, items: list[CommitItem]) -> CommitList:
        market = self.world.market
        row = market.table_of(batch).members[member]
        return sign_list(market.separator, market.round_domain(batch), member, row, tuple(items))

    def _spoil_lists(self, rng: Random, batch: Batch, lists: list[CommitList], fault: str) -> list[CommitList]:
        bad = rng.choice(lists)
        items = list(bad.items)
        first = items[0]
        if fault == "signature":
            made = replace(bad, signature=bad.signature[:40] + b"\1" + bad.signature[41:])
        elif fault == "order":
            made = self._make_list(batch, bad.member, [*items, first])
        elif fault == "range":
            made = self._make_list(batch, bad.member, [*items, replace(items[-1], bundle=batch.bundles + 3)])
        elif fault == "seat":
            made = self._make_list(batch, bad.member, [*items[:-1], replace(items[-1], seat=batch.terms.seats)])
        elif fault == "not drawn":
            made = self._make_list(batch, bad.member, [replace(first, seat=(first.seat + 1) % batch.terms.seats)])
        elif fault == "member":
            made = replace(bad, member=99)
        else:
            return [*lists, self._make_list(batch, bad.member, items[:1])]
        return [made if each is bad else each for each in lists]

    # reveal

    def reveal(self, rng: Random) -> None:
        """Show openings that the collator does not have, or has and hides; some calls are spoiled."""
        batch = self.pick_batch(rng, BatchStatus.ASSIGNED)
        if batch is None or not batch.committed or (self._is_late(batch) and rng.random() < 0.9):
            return
        if rng.random() < 0.9:
            self._wait_for_window(batch, 3)
        view = self.view(batch, share_all=True)
        seats = sorted(view.openings)
        seats = rng.sample(seats, k=rng.randint(0, len(seats)))
        fault, batch_id = rng.random(), batch.batch_id
        if fault < 0.1:
            view = replace(view, pending=frozenset(range(batch.bundles)))
        for planned in plan_reveals(view, seats):
            pages, votes, openings = planned.commit_pages, planned.votes, planned.openings
            if 0.1 < fault < 0.15:
                openings = spoil(openings, rng)
            elif 0.15 < fault < 0.2:
                votes = spoil(votes, rng)
            elif 0.2 < fault < 0.25:
                pages = (*pages, keccak(b"made up"))
            self.act(
                OUTSIDER.address, Contract.MARKET, "reveal", (batch_id, pages, votes, openings),
                lambda c, p=pages, v=votes, o=openings: apply_reveal(self.world.market, c, batch_id, p, v, o),
            )  # fmt: skip

    # settle

    def view(self, batch: Batch, share_all: bool = False) -> RoundView:
        """What a collator knows of the present round."""
        known = self.batches[batch.batch_id]
        items = (item for page in known.commit_pages for each in page for item in each.items)
        openings = {
            (item.bundle, item.seat): known.openings[item.commitment]
            for item in items
            if item.commitment in known.openings and (share_all or item.commitment not in known.withheld)
        }
        return RoundView(
            terms=batch.compute_round_terms(self.world.params),
            pending=frozenset(batch.pending),
            pages=tuple(known.pages),
            commit_pages=tuple(known.commit_pages),
            openings=openings,
            committee=lambda bundle: self.world.market.committee(batch, bundle),
        )

    def bundles_of(self, batch: Batch, page: bytes) -> list[CarryRecord]:
        """Bundles of a record or carry page."""
        if batch.round:
            return decode_carry_page(page)
        _, first, records = decode_record_page(page)
        return expand_record_page(first, records, batch.terms.seats * (1 + batch.terms.rounds))

    def settle(self, rng: Random) -> None:
        """Settle a page as a collator or, late, as anybody; some calls are spoiled."""
        batch = self.pick_batch(rng, BatchStatus.ASSIGNED, BatchStatus.VOIDED)
        if batch is None:
            return
        is_void = batch.status is BatchStatus.VOIDED
        if not is_void and batch.committed and rng.random() < 0.3:
            self._wait_for_window(batch, rng.choice((1, 2, 4, 4)))
        known = self.batches[batch.batch_id]
        index = rng.randrange(len(known.pages))
        settlement = self._plan(rng, batch, index, is_void)
        if settlement is None:
            return
        if rng.random() < 0.12:
            settlement = self._spoil_settlement(rng, settlement)
        is_open = is_void or self._is_late(batch) or rng.random() < 0.05
        sender = OUTSIDER.address if is_open and rng.random() < 0.5 else batch.collator
        self._send_settle(sender, batch.batch_id, settlement)

    def _wait_for_window(self, batch: Batch, window: int) -> None:
        time, number = batch.window_end(window, self.world.params)
        blocks, seconds = number - self.backend.number - 1, time - self.backend.timestamp - 1
        if blocks > 0 or seconds > 0:
            self.wait(max(1, blocks), max(1, seconds))

    def _is_late(self, batch: Batch) -> bool:
        return batch.is_past(4, self.block, self.world.params)

    def _plan(self, rng: Random, batch: Batch, index: int, is_void: bool) -> Settlement | None:
        known = self.batches[batch.batch_id]
        if is_void:
            return plan_void_settlement(known.pages, index)
        is_late = self._is_late(batch) or rng.random() < 0.05
        limit = None if rng.random() < 0.8 else 1
        bundles = self.bundles_of(batch, known.pages[index])
        view = self.view(batch, rng.random() < 0.3)
        if rng.random() < 0.1:
            view = self._hide(rng, view)
        planned = plan_settlement(view, index, bundles, is_late, limit)
        return planned.settlement if planned else None

    def _hide(self, rng: Random, view: RoundView) -> RoundView:
        """What a collator would like to know less of: a seat's opening, or that a list was committed at all."""
        if view.openings and rng.random() < 0.5:
            hidden = rng.choice(sorted(view.openings))
            return replace(view, openings={k: v for k, v in view.openings.items() if k != hidden})
        hashes, pages = view.get_commit_hashes(), list(view.commit_pages)
        if pages:
            pages[rng.randrange(len(pages))] = ()
        return replace(view, commit_hashes=hashes, commit_pages=tuple(pages))

    def _spoil_settlement(self, rng: Random, s: Settlement) -> Settlement:
        spoiled: dict[str, Any] = {
            "prior": keccak(s.prior),
            "page": spoil(s.page, rng),
            "votes": spoil(s.votes, rng),
            "openings": spoil(s.openings, rng),
            "tail": (*s.tail, keccak(b"made up")),
            "commit_pages": (*s.commit_pages, keccak(b"made up")),
        }
        field = rng.choice(sorted(spoiled))
        return replace(s, **{field: spoiled[field]})

    def _send_settle(self, sender: Address, batch_id: int, s: Settlement) -> None:
        self.act(
            sender, Contract.MARKET, "settle", (batch_id, s.as_tuple()),
            lambda c: apply_settle(self.world.market, c, batch_id, s),
        )  # fmt: skip
