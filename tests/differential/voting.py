"""Random actions on disputes: class votes, honest ones and spoiled ones."""

from __future__ import annotations

from random import Random

from tests.differential.actors import OUTSIDER, KnownDispute, make_commitment, make_vote, sign_class_vote
from tests.differential.rounds import Rounds, spoil

from quorate.chain.abi import Contract
from quorate.protocol.encoding import encode_vote_lists
from quorate.protocol.hashing import keccak
from quorate.protocol.planning import plan_vote_settlement


class Voting(Rounds):
    """Class votes and their end."""

    def commit_votes(self, rng: Random) -> None:
        """Class votes of some members: mostly honest, some lie, some lists are bad."""
        dispute_id = self._pick_dispute(rng)
        if dispute_id is None:
            return
        known = self.disputes[dispute_id]
        dispute = self.world.disputes.get_dispute(dispute_id)
        if self.now >= dispute.open_time + 10 and rng.random() < 0.9:
            return
        record, table = known.decoded, self.world.registry.classes[known.decoded.class_id].tables
        rows = table[record.table].table.members
        is_split = rng.random() < 0.2
        post_hash = self.batch_post_hash(known)
        lists = []
        count = len(rows) if rng.random() < 0.6 else rng.randrange(1, len(rows) + 1)
        for member in rng.sample(range(len(rows)), k=count):
            flavour = rng.choice((0, 1, 3)) if is_split or rng.random() < 0.1 else 0
            vote = make_vote(post_hash, record.bundle, flavour)
            commitment, opening = make_commitment(record.vote_domain, record.bundle, rows[member], vote)
            signed = sign_class_vote(self.world.market.separator, record, member, rows[member], commitment)
            if rng.random() < 0.05:
                signed = rng.choice(((member, bytes(65), commitment), (77, signed[1], commitment)))
            known.openings[commitment] = opening
            lists.append(signed)
        page = encode_vote_lists(lists)
        if rng.random() < 0.05:
            page = spoil(page, rng)
        raw = spoil(known.record, rng) if rng.random() < 0.03 else known.record
        self.act(
            OUTSIDER.address, Contract.DISPUTES, "commitVotes", (dispute_id, raw, page),
            lambda c: self.world.disputes.apply_commit_votes(c, dispute_id, raw, page),
        )  # fmt: skip

    def batch_post_hash(self, known: KnownDispute) -> bytes:
        """What the honest vote of the bundle is made from; kept, since the batch's slot may be reused meanwhile."""
        votes = [vote for _, vote in known.decoded.votes]
        for batch in self.world.market.slots:
            if batch.batch_id == known.decoded.batch_id:
                return batch.post_hash
        return votes[0]

    def settle_votes(self, rng: Random) -> None:
        """Settle a class vote, now and then too early or with openings kept back."""
        dispute_id = self._pick_dispute(rng)
        if dispute_id is None:
            return
        known, dispute = self.disputes[dispute_id], self.world.disputes.get_dispute(dispute_id)
        if rng.random() < (0.4 if known.pages else 0.05):
            self.wait(6, max(6, dispute.open_time + rng.choice((10, 15, 20)) - self.backend.timestamp))
        is_shy = rng.random() < 0.2
        kept = {
            member: known.openings[commitment]
            for page in known.pages
            for member, _, commitment in page
            if not is_shy or rng.random() < 0.7
        }
        plan = plan_vote_settlement(known.pages, kept)
        votes, openings, pages = plan.votes, plan.openings, plan.commit_pages
        fault = rng.random()
        if fault < 0.05:
            openings = spoil(openings, rng)
        elif fault < 0.08:
            votes = spoil(votes, rng)
        elif fault < 0.1:
            pages = (*pages, keccak(b"made up"))
        record = known.record
        self.act(
            OUTSIDER.address, Contract.DISPUTES, "settleVotes", (dispute_id, record, pages, votes, openings),
            lambda c: self.world.disputes.apply_settle_votes(c, dispute_id, record, pages, votes, openings),
        )  # fmt: skip

    def _pick_dispute(self, rng: Random) -> int | None:
        return rng.choice(sorted(self.disputes)) if self.disputes else None
