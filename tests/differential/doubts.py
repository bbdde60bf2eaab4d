"""Random actions on settled batches: more rounds, audits, challenges, honest ones and spoiled ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.differential.actors import OUTSIDER, REQUESTERS, WALLETS
from tests.differential.duties import Duties
from tests.differential.rounds import spoil

from quorate.chain.abi import Contract
from quorate.chain.signing import sign
from quorate.protocol.extending import apply_extend, apply_prove_audit
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.market import Batch
from quorate.protocol.outcomes import Extension, Outcome, Proof, compute_extension_digest, plan_proof, read_proof
from quorate.protocol.types import Address, Verdict

Shown = tuple[Proof, dict[int, Outcome]]


class Doubts(Duties):
    """What may happen after a verdict."""

    def pick_fresh(self, rng: Random) -> Batch | None:
        """A settled batch, mostly one that is not final."""
        settled = [b for b in self.world.market.slots if b.status is BatchStatus.SETTLED and b.bundles]
        fresh = [b for b in settled if self.now < b.final_at]
        found = fresh if fresh and rng.random() < 0.95 else settled
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
        if batch is None:
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
