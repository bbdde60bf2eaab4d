"""Random actions on settled batches: more rounds, audits, challenges, honest ones and spoiled ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.differential.actors import KEYS, LEAVES, OUTSIDER, REQUESTERS, WALLETS, make_vote
from tests.differential.duties import Duties
from tests.differential.orders import spoil

from quorate.chain.abi import Contract
from quorate.chain.signing import sign
from quorate.protocol.challenges import compute_challenge_bond, find_auditors, is_selected
from quorate.protocol.extending import apply_extend, apply_prove_audit
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.market import Batch
from quorate.protocol.outcomes import (
    Extension,
    Outcome,
    Proof,
    compute_audit_digest,
    compute_extension_digest,
    plan_proof,
    read_proof,
)
from quorate.protocol.types import Address, Stage, Verdict

Shown = tuple[Proof, dict[int, Outcome]]


class Doubts(Duties):
    """What may happen after a verdict."""

    last_challenge: tuple[int, Proof, int, int, bytes, int] | None = None

    def settle(self, rng: Random) -> None:
        """Settle, and doubt at once what was settled: time is short."""
        super().settle(rng)
        if rng.random() < 0.4:
            rng.choice((self.extend, self.extend, self.prove_audit, self.challenge))(rng)

    def pick_fresh(self, rng: Random) -> Batch | None:
        """A settled batch, mostly one that is not final."""
        settled = [b for b in self.world.market.slots if b.status is BatchStatus.SETTLED and b.bundles]
        fresh = [b for b in settled if self.now < b.final_at]
        found = settled if rng.random() < 0.05 else fresh
        return rng.choice(found) if found else None

    def proofs_of(self, batch: Batch) -> list[Shown]:
        """All that can be shown of a batch: each of its record pages with each of its outcome pages."""
        known = self.batches[batch.batch_id]
        proofs = [
            plan_proof(known.record_pages, page, known.outcome_pages, outcome)
            for page in range(len(known.record_pages))
            for outcome in range(len(known.outcome_pages))
        ]
        return [(proof, dict(read_proof(proof, batch.post_hash, batch.outcome_hash))) for proof in proofs]

    def find_proof(self, rng: Random, batch: Batch, wanted: Callable[[Outcome], bool]) -> Shown | None:
        """A proof that shows an outcome as wanted, and the outcomes that are so."""
        found = [
            (proof, chosen)
            for proof, outcomes in self.proofs_of(batch)
            if (chosen := {bundle: each for bundle, each in outcomes.items() if wanted(each)})
        ]
        return rng.choice(found) if found else None

    def spoil_proof(self, rng: Random, proof: Proof) -> Proof:
        """A proof of which one part is changed."""
        match rng.randrange(4):
            case 0:
                return replace(proof, page=spoil(proof.page, rng))
            case 1:
                return replace(proof, outcomes=spoil(proof.outcomes, rng))
            case 2:
                return replace(proof, prior=keccak(proof.prior))
            case _:
                return replace(proof, outcome_tail=(*proof.outcome_tail, bytes(32)))

    # extend

    def extend(self, rng: Random) -> None:
        """More rounds for void bundles, by their requester or with its signature; some calls are spoiled."""
        batch = self.pick_fresh(rng)
        if batch is None:
            return
        is_odd = rng.random() < 0.1
        shown = self.find_proof(rng, batch, lambda each: is_odd or self._is_extendable(batch, each))
        if shown is None:
            return
        proof, outcomes = shown
        requester = rng.choice([each.record.requester for each in outcomes.values()])
        mine = [b for b, each in outcomes.items() if each.record.requester == requester or rng.random() < 0.05]
        bundles = tuple(sorted(rng.sample(mine, k=rng.randint(1, len(mine)))))
        rounds = rng.choice((1, 1, 2, 3)) if rng.random() < 0.95 else rng.choice((0, 9))
        extension = Extension(rounds, bundles, proof)
        sender, signature = self._authorize(rng, batch, extension, requester)
        extension = replace(extension, signature=signature)
        if rng.random() < 0.1:
            extension = self._spoil_extension(rng, extension)
        batch_id = batch.batch_id
        self.act(
            sender, Contract.MARKET, "extend", (batch_id, extension.as_tuple()),
            lambda c: apply_extend(self.world.market, c, batch_id, extension),
        )  # fmt: skip

    def _is_extendable(self, batch: Batch, outcome: Outcome) -> bool:
        operators, rows = self.world.registry.operators, self.world.market.table_of(batch).members
        if outcome.row.verdict is Verdict.ACCEPTED:
            return all(operators[rows[m].operator_id].ejected for m in outcome.row.voters)
        return outcome.row.verdict is Verdict.VOID and bool(outcome.row.voters)

    def _authorize(self, rng: Random, batch: Batch, e: Extension, requester: Address) -> tuple[Address, bytes]:
        digest = compute_extension_digest(
            self.world.market.separator, batch.post_hash, e.bundles, batch.round, e.rounds
        )
        if any(wallet.address == requester for wallet in WALLETS):
            return batch.collator, digest if rng.random() < 0.8 else bytes(65)
        if rng.random() < 0.5:
            return requester, b""
        signer = next((a for a in REQUESTERS if a.address == requester), OUTSIDER)
        if rng.random() < 0.15:
            digest, signer = rng.choice(((keccak(digest), signer), (digest, OUTSIDER)))
        sender = batch.collator if rng.random() < 0.95 else OUTSIDER.address
        return sender, sign(digest, signer.key) if rng.random() < 0.95 else bytes(64)

    def _spoil_extension(self, rng: Random, e: Extension) -> Extension:
        match rng.randrange(4):
            case 0:
                return replace(e, bundles=rng.choice(((), (*e.bundles, e.bundles[0]), (*e.bundles, 4000))))
            case 1:
                return replace(e, rounds=e.rounds + 1)
            case _:
                return replace(e, proof=self.spoil_proof(rng, e.proof))

    # audits

    def prove_audit(self, rng: Random) -> None:
        """Draw the auditors of a settled batch, now and then too early, again, or with another block's header."""
        batch = self.pick_fresh(rng)
        if batch is None or (not self.world.market.is_audited(batch) and rng.random() < 0.9):
            return
        fault = rng.random()
        wanted = batch.beacon_block
        if fault > 0.1 and self.backend.number < wanted:
            self.wait(wanted - self.backend.number, 1)
        header = self.backend.header(min(wanted + (fault < 0.05), self.backend.number))
        hashes = {wanted: keccak(self.backend.header(wanted))} if wanted <= self.backend.number else {}
        batch_id = batch.batch_id
        self.act(
            OUTSIDER.address, Contract.MARKET, "proveAudit", (batch_id, header),
            lambda c: apply_prove_audit(self.world.market, c, batch_id, header), hashes=hashes,
        )  # fmt: skip
        for _ in range(rng.choice((0, 1, 2))):
            self.audit(rng)

    def audit(self, rng: Random) -> None:
        """What an auditor found: mostly the truth; of the wrong one, too early, or badly signed at times."""
        drawn = [b for b in self.world.market.slots if b.status is BatchStatus.SETTLED and b.audit_drawn]
        live = [b for b in drawn if self.now < b.final_at]
        found = drawn if rng.random() < 0.05 else live
        batch = rng.choice(found) if found else None
        shown = self.find_proof(rng, batch, self._is_accepted) if batch else None
        if batch is None or shown is None:
            return
        proof, outcomes = shown
        domain, bps = self.world.market.round_domain(batch, Stage.AUDIT), self.world.params.audit_bps
        chosen = [bundle for bundle in outcomes if is_selected(domain, bundle, bps)]
        if not chosen and rng.random() < 0.8:
            return
        bundle = rng.choice(chosen if chosen and rng.random() < 0.95 else sorted(outcomes))
        table, outcome, second = self.world.market.table_of(batch), outcomes[bundle], self._second_turn(batch)
        if self.now < second and rng.random() < 0.3:
            self.wait(1, second - self.backend.timestamp)
        number = int(self.now >= second) if rng.random() < 0.95 else rng.choice((0, 1, 2))
        members = (*find_auditors(domain, bundle, outcome.row.voters, table), 0, 0, 0)
        row = table.members[members[number]]
        vote = make_vote(batch.post_hash, bundle, rng.choice((0, 0, 1)), outcome.tasks)
        digest = compute_audit_digest(self.world.market.separator, domain, row.operator_id, bundle, vote)
        signature = sign(digest, KEYS[row.key] if rng.random() < 0.95 else OUTSIDER.key)
        if rng.random() < 0.05:
            proof = self.spoil_proof(rng, proof)
        batch_id = batch.batch_id
        self.act(
            OUTSIDER.address, Contract.CHALLENGES, "audit",
            (batch_id, proof.as_tuple(), bundle, number, vote, signature),
            lambda c: self.world.challenges.apply_audit(c, batch_id, proof, bundle, number, vote, signature),
        )  # fmt: skip

    def _second_turn(self, batch: Batch) -> int:
        return batch.start_time + self.world.params.audit_period

    # challenges

    def challenge(self, rng: Random) -> None:
        """Claim a leaf of an accepted bundle, right or wrong, for the bond or nearly; now and then once more."""
        if self.last_challenge is not None and rng.random() < 0.25:
            self._send_challenge(*self.last_challenge)
            return
        batch = self.pick_fresh(rng)
        is_odd = rng.random() < 0.1
        shown = self.find_proof(rng, batch, lambda each: is_odd or self._is_accepted(each)) if batch else None
        if batch is None or shown is None:
            return
        proof, outcomes = shown
        bundle = rng.choice(sorted(outcomes)) if rng.random() < 0.95 else 4000
        tasks, price = (outcomes[bundle].tasks, outcomes[bundle].record.task_price) if bundle in outcomes else (1, 0)
        task = rng.randrange(tasks)
        made = make_vote(batch.post_hash, bundle, rng.choice((0, 0, 1, 2)), tasks)
        leaf = LEAVES[made][task] if rng.random() < 0.95 else bytes(32)
        if rng.random() < 0.05:
            task = tasks
        if rng.random() < 0.05:
            proof = self.spoil_proof(rng, proof)
        bond = compute_challenge_bond(self.world.params, price, len(self.world.market.table_of(batch).members))
        self.last_challenge = batch.batch_id, proof, bundle, task, leaf, bond - (rng.random() < 0.05)
        self._send_challenge(*self.last_challenge)

    def _send_challenge(self, batch_id: int, proof: Proof, bundle: int, task: int, leaf: bytes, value: int) -> None:
        self.act(
            REQUESTERS[1].address, Contract.CHALLENGES, "challenge",
            (batch_id, proof.as_tuple(), bundle, task, leaf),
            lambda c: self.world.challenges.apply_challenge(c, batch_id, proof, bundle, task, leaf), value,
        )  # fmt: skip

    def _is_accepted(self, outcome: Outcome) -> bool:
        return outcome.row.verdict is Verdict.ACCEPTED
