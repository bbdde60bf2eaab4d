"""Is this message good? Checked before the core sees it, by the state of now; recovering signers is handed in.

A refusal has a code, for the sender's program, and words for its operator. `NOT_YET` and `GONE` are not faults: the
receiver may see other blocks than the sender, who sends again until the chain shows what it sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from quorate.protocol.commitment import compute_commitment, compute_statement
from quorate.protocol.context import Recover
from quorate.protocol.dispute_pages import compute_vote_items_hash
from quorate.protocol.encoding import compute_list_digest, encode_items
from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.types import CommitList, Opening
from quorate_node.core.rounds import get_committee
from quorate_node.core.state import State
from quorate_node.core.stimuli import CommitListReceived, OpeningsReceived, VoteOpeningReceived, VoteReceived
from quorate_node.core.views import Batch, Dispute, Round, SeatKey


class MessageRefused(ValidationError):
    """A message cannot be taken; `code` is one word for programs."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def _find_round(state: State, batch_id: int, round_: int) -> tuple[Batch, Round, bytes]:
    batch = state.chain.batches.get(batch_id)
    current = batch.round if batch else None
    if batch is None or current is None or current.domain is None or current.number < round_:
        raise MessageRefused("NOT_YET", f"round {round_} of batch {batch_id} is not known here yet: send again")
    if current.number > round_:
        raise MessageRefused("GONE", f"batch {batch_id} is in round {current.number} already")
    return batch, current, current.domain


def check_extent(state: State, batch_id: int, round_: int, size: int, head: int, each: int) -> None:
    """Raise MessageRefused for a page of more bytes than all seats of a batch need: reading it costs us far more than
    sending it costs a stranger. `head` bytes stand before the seats' `each`."""
    batch, _, _ = _find_round(state, batch_id, round_)
    most = head + each * len(batch.bundles) * batch.terms.seats
    if size > most:
        raise MessageRefused("SIZE", f"a page of {size} bytes: all seats of batch {batch_id} need {most} at most")


def check_commit_list(
    state: State, batch_id: int, round_: int, commit_list: CommitList, recover: Recover
) -> CommitListReceived:
    """A list of commitments that the chain would not skip. Raises MessageRefused."""
    batch, _, domain = _find_round(state, batch_id, round_)
    if batch.collator != state.identity.account:
        raise MessageRefused("COLLATOR", f"batch {batch_id} has another collator: 0x{batch.collator.hex()}")
    if commit_list.member >= len(batch.table.members):
        raise MessageRefused("MEMBER", f"the table has no member {commit_list.member}")
    keys = [(item.bundle, item.seat) for item in commit_list.items]
    if any(a >= b for a, b in pairwise(keys)):
        raise MessageRefused("ORDER", "items must ascend by bundle and seat")
    for bundle, seat in keys:
        _check_seat(batch, bundle, seat, commit_list.member)
    member = batch.table.members[commit_list.member]
    items_hash = keccak(encode_items(commit_list.items))
    digest = compute_list_digest(state.network.separator, domain, member.operator_id, items_hash)
    if recover(digest, commit_list.signature) != member.key:
        raise MessageRefused("SIGNATURE", f"not signed by the key of member {commit_list.member}")
    seats = frozenset(keys)
    for other in state.mail.lists.get(domain, ()):
        overlaps = other.member == commit_list.member and any((item.bundle, item.seat) in seats for item in other.items)
        if overlaps and other.items != commit_list.items:
            raise MessageRefused("DUPLICATE", "another list of yours has a seat of this one: send that one again")
    return CommitListReceived(batch_id, round_, commit_list)


def _check_seat(batch: Batch, bundle: int, seat: int, member: int) -> None:
    if bundle not in batch.bundles or seat >= batch.terms.seats:
        raise MessageRefused("RANGE", f"batch {batch.id} has no seat {seat} of bundle {bundle}")
    if bundle not in batch.pending:
        raise MessageRefused("NOT_PENDING", f"bundle {bundle} is settled")
    if get_committee(batch, bundle)[seat] != member:
        raise MessageRefused("NOT_DRAWN", f"seat {seat} of bundle {bundle} was drawn for another")


def check_openings(
    state: State, batch_id: int, round_: int, openings: Sequence[tuple[SeatKey, Opening]]
) -> OpeningsReceived:
    """Openings of commitments that stand on chain; those already settled are left out. Raises MessageRefused."""
    batch, current, domain = _find_round(state, batch_id, round_)
    good: dict[SeatKey, Opening] = {}
    for (bundle, seat), opening in openings:
        if bundle not in batch.pending:
            continue
        if (bundle, seat) not in current.committed:
            raise MessageRefused("NOT_YET", f"no commitment of seat {seat} of bundle {bundle} is on chain: send again")
        operator_id = batch.table.members[get_committee(batch, bundle)[seat]].operator_id
        statement = compute_statement(domain, bundle)
        if current.committed[bundle, seat] != compute_commitment(statement, operator_id, opening.vote, opening.salt):
            raise MessageRefused("OPENING", f"this does not open the commitment of seat {seat} of bundle {bundle}")
        good[bundle, seat] = opening
    return OpeningsReceived(batch_id, round_, good)


def _find_dispute(state: State, dispute_id: int, member: int) -> Dispute:
    dispute = state.chain.disputes.get(dispute_id)
    if dispute is None or dispute.question is None:
        raise MessageRefused("NOT_YET", f"dispute {dispute_id} is not known here, or over")
    if member >= len(dispute.table.members):
        raise MessageRefused("MEMBER", f"the table has no member {member}")
    return dispute


def check_vote(state: State, dispute_id: int, vote: tuple[int, bytes, bytes], recover: Recover) -> VoteReceived:
    """A class vote's commitment that the chain would not skip. Raises MessageRefused."""
    member, signature, commitment = vote
    dispute = _find_dispute(state, dispute_id, member)
    known = dispute.committed.get(member)
    if (known is not None and known != commitment) or member in dispute.voted:
        raise MessageRefused("DUPLICATE", f"member {member} has committed to another vote")
    row = dispute.table.members[member]
    items_hash = compute_vote_items_hash(commitment)
    digest = compute_list_digest(state.network.separator, dispute.statement, row.operator_id, items_hash)
    if recover(digest, signature) != row.key:
        raise MessageRefused("SIGNATURE", f"not signed by the key of member {member}")
    return VoteReceived(dispute_id, vote)


def check_vote_opening(state: State, dispute_id: int, member: int, opening: Opening) -> VoteOpeningReceived:
    """Opening of a class vote that stands on chain. Raises MessageRefused."""
    dispute = _find_dispute(state, dispute_id, member)
    commitment = dispute.committed.get(member)
    if commitment is None:
        raise MessageRefused("NOT_YET", f"no class vote of member {member} is on chain: send again")
    operator_id = dispute.table.members[member].operator_id
    if commitment != compute_commitment(dispute.statement, operator_id, opening.vote, opening.salt):
        raise MessageRefused("OPENING", f"this does not open the class vote of member {member}")
    return VoteOpeningReceived(dispute_id, member, opening)
