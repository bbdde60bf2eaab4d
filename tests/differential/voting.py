"""Random actions on disputes: leaves, questions, class votes over several windows, punishment; honest and spoiled."""

from __future__ import annotations

from random import Random

from tests.differential.actors import (
    LEAVES,
    OUTSIDER,
    REQUESTERS,
    ROOTLESS,
    KnownDispute,
    make_class_vote,
    make_vote,
    sign_class_vote,
)
from tests.differential.orders import spoil
from tests.differential.rounds import Rounds

from quorate.chain.abi import Contract
from quorate.protocol.context import ZERO_ADDRESS
from quorate.protocol.dispute_pages import decode_cast, decode_question, encode_dispute_record, encode_vote_lists
from quorate.protocol.disputes import DisputeStatus
from quorate.protocol.hashing import keccak
from quorate.protocol.market import SLOT_BITS
from quorate.protocol.questions import compute_answer
from quorate.protocol.types import ZERO32, BatchId, DisputeKind, DisputeRecord, Opening, Vote
from quorate.protocol.vote_planning import plan_reveal_votes, plan_vote_settlement

BOND = 10**9


class Voting(Rounds):
    """Disputes from their opening to their end."""

    def dissent(self, rng: Random) -> None:
        """Open a challenge or an audit of a bundle, accepted or not, from the address of Challenges."""
        batches = [batch for batch in self.world.market.slots if batch.bundles]
        if not batches or len(self.disputes) > 3:
            return
        batch = rng.choice(batches)
        rows, tasks = self.world.market.table_of(batch).members, rng.choice((1, 3, 40, 256))
        kind, bundle = rng.choice((DisputeKind.CHALLENGE, DisputeKind.AUDIT)), rng.randrange(batch.bundles)
        flavour = rng.choice((0, 0, 1, ROOTLESS))
        root, task = make_vote(batch.post_hash, bundle, flavour, tasks), rng.randrange(tasks)
        members = rng.sample(range(len(rows)), k=min(3, len(rows)))
        votes = tuple((member, root) for member in members)
        bond, claim, challenger = 0, ZERO32, ZERO_ADDRESS
        if kind is DisputeKind.CHALLENGE:
            bond, challenger = BOND, REQUESTERS[1].address
            made = make_vote(batch.post_hash, bundle, rng.choice((0, 0, 1, 2)), tasks)
            claim = LEAVES[made][task]
            self.act(
                self.backend.deployment.challenges, Contract.REGISTRY, "depositPot", (),
                self.world.registry.apply_deposit_pot, BOND,
            )  # fmt: skip
        else:
            task = 0
            votes = (*votes[:-1], (members[-1], make_vote(batch.post_hash, bundle, 1 - min(1, flavour), tasks)))
        record = encode_dispute_record(DisputeRecord(
            kind, BatchId(batch.batch_id), bundle, tasks, REQUESTERS[0].address, rng.choice((1, 10**9)), bond,
            rng.choice((0, 10**10)), 0, 0, ZERO_ADDRESS, batch.terms.class_id, batch.table, challenger, task, claim,
            rng.choice((0, 0, 1)), votes,
        ))  # fmt: skip
        sender = self.backend.deployment.challenges if bond or rng.random() < 0.95 else OUTSIDER.address
        self.act(sender, Contract.DISPUTES, "open", (record,), lambda c: self.world.disputes.apply_open(c, record))

    def publish(self, rng: Random) -> None:
        """Publish the leaves of a root, now and then twice or false ones."""
        dispute_id = self._pick(rng, DisputeStatus.PUBLISHING)
        if dispute_id is None:
            return
        known = self.disputes[dispute_id]
        wanted = [root for root in known.decoded.roots if root not in known.published and root in LEAVES]
        if not wanted and rng.random() < 0.9:
            return
        root = rng.choice(wanted or known.decoded.roots)
        leaves = b"".join(LEAVES.get(root, (ZERO32,)))
        if rng.random() < 0.07:
            leaves = spoil(leaves, rng)
        record = self._record(known, rng)
        # The same slot, under the number of the dispute that it had before or will have.
        where = dispute_id if rng.random() < 0.97 else dispute_id ^ 1 << SLOT_BITS
        self.act(
            OUTSIDER.address, Contract.DISPUTES, "publish", (where, record, leaves),
            lambda c: self.world.disputes.apply_publish(c, where, record, leaves),
        )  # fmt: skip

    def ask(self, rng: Random) -> None:
        """Ask the class, often too early."""
        dispute_id = self._pick(rng, DisputeStatus.PUBLISHING)
        if dispute_id is None:
            return
        known, dispute = self.disputes[dispute_id], self.world.disputes.get_dispute(dispute_id)
        is_whole = len(known.published) == len(known.decoded.roots)
        if not is_whole:
            is_hasty = any(root in LEAVES and root not in known.published for root in known.decoded.roots)
            if is_hasty and rng.random() < 0.8:
                return
            if rng.random() < 0.8:
                self.wait(3, max(3, dispute.start_time + 4 - self.backend.timestamp))
        leaves = b"".join(known.published[root] for root in known.decoded.roots) if is_whole else b""
        if rng.random() < 0.05:
            leaves = spoil(leaves, rng)
        record = self._record(known, rng)
        self.act(
            OUTSIDER.address, Contract.DISPUTES, "ask", (dispute_id, record, leaves),
            lambda c: self.world.disputes.apply_ask(c, dispute_id, record, leaves),
        )  # fmt: skip

    def commit_votes(self, rng: Random) -> None:
        """Class votes of some members: mostly honest, some lie or abstain, some lists are bad."""
        dispute_id = self._pick(rng, DisputeStatus.VOTING)
        if dispute_id is None:
            return
        known, disputes = self.disputes[dispute_id], self.world.disputes
        dispute = disputes.get_dispute(dispute_id)
        if self.now >= dispute.start_time + 10 and rng.random() < 0.9:
            return
        rows, statement = disputes.table_of(known.decoded).members, disputes.statement(dispute)
        is_split, absent = rng.random() < 0.3, rng.choice((0.0, 0.0, 0.3, 0.6))
        stubborn = self._seat_answers(known, rng, len(rows)) if rng.random() < 0.3 else {}
        reason = rng.choice((0, 1, 1, 1, 5)).to_bytes(32, "big")
        abstention = rng.choice((0.0, 0.0, 0.2, 0.9))
        lists = []
        for member in rng.sample(range(len(rows)), k=len(rows)):
            if rng.random() < absent:
                continue
            flavour = rng.choice((0, 1, 3, ROOTLESS)) if is_split or rng.random() < 0.1 else 0
            answer = stubborn.get(member) or self._answer(known, flavour)
            commitment, opening = make_class_vote(statement, rows[member], answer)
            if rng.random() < abstention:
                commitment = reason
            else:
                known.openings[commitment] = opening
            signed = sign_class_vote(self.world.market.separator, statement, member, rows[member], commitment)
            if rng.random() < 0.04:
                signed = rng.choice(((member, bytes(65), commitment), (77, signed[1], commitment)))
            lists.append(signed)
        page = encode_vote_lists(lists)
        if rng.random() < 0.05:
            page = spoil(page, rng)
        record, question = self._record(known, rng), self._question(known, rng)
        self.act(
            OUTSIDER.address, Contract.DISPUTES, "commitVotes", (dispute_id, record, question, page),
            lambda c: self.world.disputes.apply_commit_votes(c, dispute_id, record, question, page),
        )  # fmt: skip

    def _seat_answers(self, known: KnownDispute, rng: Random, members: int) -> dict[int, Vote]:
        """Answers of seats that repeat themselves, and of one member that repeats a seat."""
        question, record = decode_question(known.question or b"\0\0"), known.decoded
        answers = dict(zip(record.roots, question.answers, strict=False))
        _, echoed = rng.choice(record.votes)
        roots = {rng.randrange(members): echoed, **dict(record.votes)}
        return {member: answers[root] for member, root in roots.items() if root in answers}

    def _answer(self, known: KnownDispute, flavour: int) -> Vote:
        """What a member of that flavour answers; who has no leaves makes something up."""
        record = known.decoded
        batch = self.world.market.get_batch(record.batch_id)
        root = make_vote(batch.post_hash, record.bundle, flavour, record.tasks)
        question = decode_question(known.question or b"\0\0")
        if question.tasks and flavour == ROOTLESS:
            return Vote(keccak(b"made up" + root))
        return compute_answer(question, root, LEAVES.get(root, ()))

    def reveal_votes(self, rng: Random) -> None:
        """Tell the chain openings between the windows."""
        dispute_id = self._pick(rng, DisputeStatus.VOTING)
        if dispute_id is None or not self.disputes[dispute_id].pages:
            return
        known, dispute = self.disputes[dispute_id], self.world.disputes.get_dispute(dispute_id)
        if rng.random() < 0.5:
            self.wait(2, max(2, dispute.start_time + 10 - self.backend.timestamp))
        plan = plan_reveal_votes(known.pages, self._shown(known, rng, rng.choice((0.3, 1.0))))
        if plan is None:
            return
        record, question, pages = self._record(known, rng), self._question(known, rng), plan.commit_pages
        votes, openings = self._spoil_openings(rng, plan.votes, plan.openings)
        self.act(
            OUTSIDER.address, Contract.DISPUTES, "revealVotes", (dispute_id, record, question, pages, votes, openings),
            lambda c: self.world.disputes.apply_reveal_votes(c, dispute_id, record, question, pages, votes, openings),
        )  # fmt: skip

    def _shown(self, known: KnownDispute, rng: Random, share: float) -> dict[int, Opening]:
        """Openings by member of a share of those that were committed in the present window."""
        return {
            member: known.openings[commitment]
            for page in known.pages
            for member, _, commitment in page
            if commitment in known.openings and rng.random() < share
        }

    def _spoil_openings(self, rng: Random, votes: bytes, openings: bytes) -> tuple[bytes, bytes]:
        fault = rng.random()
        return spoil(votes, rng) if fault < 0.03 else votes, spoil(openings, rng) if fault > 0.95 else openings

    def settle_votes(self, rng: Random) -> None:
        """End a window, now and then too early or with openings kept back."""
        dispute_id = self._pick(rng, DisputeStatus.VOTING)
        if dispute_id is None:
            return
        known, dispute = self.disputes[dispute_id], self.world.disputes.get_dispute(dispute_id)
        if rng.random() < (0.4 if known.pages else 0.1):
            self.wait(6, max(6, dispute.start_time + rng.choice((10, 15, 20)) - self.backend.timestamp))
        shown = self._shown(known, rng, rng.choice((1.0, 1.0, 1.0, 0.7, 0.0)))
        rows = len(self.world.disputes.table_of(known.decoded).members)
        cast = decode_cast(known.cast, rows) if known.cast else None
        plan = plan_vote_settlement(
            decode_question(known.question or b"\0\0"), cast, known.pages, shown, rng.choice((0, 2, rows, 2 * rows))
        )
        votes, openings = self._spoil_openings(rng, plan.votes, plan.openings)
        pages, raw = plan.commit_pages, plan.cast
        fault = rng.random()
        if fault < 0.02:
            pages = (*pages, keccak(b"made up"))
        elif fault < 0.04:
            raw = spoil(raw, rng)
        record, question, values = self._record(known, rng), self._question(known, rng), (raw, pages, votes, openings)
        self.act(
            OUTSIDER.address, Contract.DISPUTES, "settleVotes", (dispute_id, record, question, values, plan.rows),
            lambda c: self.world.disputes.apply_settle_votes(c, dispute_id, record, question, *values, plan.rows),
        )  # fmt: skip

    def punish(self, rng: Random) -> None:
        """Go on with the rows of a tally."""
        dispute_id = self._pick(rng, DisputeStatus.PUNISHING)
        if dispute_id is None:
            return
        known, dispute = self.disputes[dispute_id], self.world.disputes.get_dispute(dispute_id)
        up_to = rng.choice((dispute.row, dispute.row + 1, dispute.row + 3, len(known.tally), 999))
        tally = spoil(known.tally, rng) if rng.random() < 0.05 else known.tally
        record = self._record(known, rng)
        self.act(
            OUTSIDER.address, Contract.DISPUTES, "punish", (dispute_id, record, tally, up_to),
            lambda c: self.world.disputes.apply_punish(c, dispute_id, record, tally, up_to),
        )  # fmt: skip

    def _record(self, known: KnownDispute, rng: Random) -> bytes:
        return spoil(known.record, rng) if rng.random() < 0.015 else known.record

    def _question(self, known: KnownDispute, rng: Random) -> bytes:
        return spoil(known.question, rng) if rng.random() < 0.015 else known.question

    def _pick(self, rng: Random, status: DisputeStatus) -> int | None:
        """A dispute in that status, now and then in another."""
        found = [i for i in sorted(self.disputes) if self.world.disputes.get_dispute(i).status is status]
        if rng.random() < 0.02:
            found = sorted(self.disputes)
        return rng.choice(found) if found else None
