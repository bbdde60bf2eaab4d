"""What only an operator's key can make: salts, commitments, and signatures over them."""

from __future__ import annotations

from dataclasses import dataclass

from quorate.chain.account import SigningAccount
from quorate.protocol.commitment import compute_commitment, compute_salt, compute_statement
from quorate.protocol.dispute_pages import compute_vote_items_hash
from quorate.protocol.encoding import compute_list_digest, encode_items
from quorate.protocol.hashing import keccak
from quorate.protocol.outcomes import compute_audit_digest
from quorate.protocol.types import ZERO32, CommitItem, CommitList, Stage, Vote, VoteCommit
from quorate_node.core.instructions import DraftVote, JournalCommit
from quorate_node.core.state import Secret, SecretGroup


@dataclass(frozen=True, slots=True)
class Signer:
    """The signing key of one operator on one deployment."""

    key: SigningAccount
    operator_id: int
    separator: bytes

    def seal(self, draft: JournalCommit) -> SecretGroup:
        """Salts and commitments of votes; the same ones whenever it is asked."""
        secrets = tuple(self._seal(draft, vote) for vote in draft.votes)
        return SecretGroup(draft.stage, draft.subject, draft.round, draft.domain, draft.member, secrets)

    def _seal(self, draft: JournalCommit, vote: DraftVote) -> Secret:
        is_class_vote = draft.stage is Stage.CLASS_VOTE
        statement = draft.domain if is_class_vote else compute_statement(draft.domain, vote.bundle)
        if vote.vote is None:
            reason = int(vote.reason).to_bytes(32, "big")
            return Secret(vote.bundle, vote.seat, statement, Vote(ZERO32), b"", reason)
        salt = compute_salt(self.key.key, statement)
        commitment = compute_commitment(statement, self.operator_id, vote.vote, salt)
        return Secret(vote.bundle, vote.seat, statement, vote.vote, salt, commitment, vote.leaves)

    def sign_list(self, group: SecretGroup) -> CommitList:
        """A group's commitments, under one signature."""
        items = tuple(CommitItem(s.bundle, s.seat, s.commitment) for s in group.secrets)
        return CommitList(group.member, items, self._sign(group.domain, keccak(encode_items(items))))

    def sign_vote(self, group: SecretGroup) -> VoteCommit:
        """The commitment of a class vote."""
        commitment = group.secrets[0].commitment
        return group.member, self._sign(group.domain, compute_vote_items_hash(commitment)), commitment

    def sign_audit(self, domain: bytes, bundle: int, vote: Vote) -> bytes:
        """An auditor's vote."""
        return self.key.sign(compute_audit_digest(self.separator, domain, self.operator_id, bundle, vote))

    def _sign(self, domain: bytes, items_hash: bytes) -> bytes:
        return self.key.sign(compute_list_digest(self.separator, domain, self.operator_id, items_hash))
