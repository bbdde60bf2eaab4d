"""`Disputes` as a pure model: one class vote for each conflict, challenge or dissenting audit (section 5).

Every method checks all its requirements before its first effect, so a refused call leaves no trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from quorate.protocol import events as ev
from quorate.protocol.context import Call, refuse, require
from quorate.protocol.dispute_pages import (
    compute_question_hash,
    compute_reason,
    compute_vote_items_hash,
    compute_vote_page_hash,
    compute_vote_statement,
    decode_cast,
    decode_dispute_record,
    decode_question,
    decode_vote_lists,
    encode_cast,
    encode_question,
)
from quorate.protocol.encoding import compute_list_digest, fold
from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.market import SLOT_BITS, Market
from quorate.protocol.params import Params
from quorate.protocol.punishing import Punishment, move_bundle_money
from quorate.protocol.questions import compute_question, is_publishable
from quorate.protocol.result import compute_merkle_root
from quorate.protocol.types import (
    ZERO32,
    Address,
    BatchId,
    CastVotes,
    DisputeId,
    DisputeRecord,
    ListSkip,
    Question,
    Table,
    Vote,
    VoteCommit,
)
from quorate.protocol.verdict import (
    Aftermath,
    Ending,
    WindowVotes,
    dismiss_at_once,
    end_vote,
    find_winner,
    go_on,
)
from quorate.protocol.vote_openings import read_answers, read_vote_openings

LEAF_BYTES = 32


class DisputeStatus(IntEnum):
    """Status of a dispute, numbered as in Solidity."""

    NONE = 0
    PUBLISHING = 1
    VOTING = 2
    PUNISHING = 3


@dataclass(slots=True)
class Dispute:
    """One class vote. Of record, question, cast votes and tally the chain keeps the hashes."""

    dispute_id: DisputeId
    record_hash: bytes
    start_time: int
    start_block: int
    status: DisputeStatus = DisputeStatus.PUBLISHING
    published: set[int] = field(default_factory=set)  # numbers of roots
    question_hash: bytes = ZERO32
    window: int = 0
    commit_hash: bytes = ZERO32
    cast_hash: bytes = ZERO32
    committed: set[int] = field(default_factory=set)  # in this window
    voted: set[int] = field(default_factory=set)  # in earlier windows
    revealed: set[int] = field(default_factory=set)
    tally_hash: bytes = ZERO32
    aftermath: Aftermath = Aftermath.NOTHING
    row: int = 0
    taken: int = 0


class Disputes:
    """Model of Disputes: holds no money, has registry and market move it."""

    def __init__(self, params: Params, address: Address, market: Market, challenges: Address) -> None:
        self.params, self.address, self.market, self.registry = params, address, market, market.registry
        self.challenges = challenges
        self.open: dict[int, Dispute] = {}  # by slot
        self.free_slots: list[int] = []  # last freed first
        self.slot_count = self.sequence = 0
        # By batch, bundle and round: entries of the outcome's disputes, the first ones, that were found wrong.
        self.convicted: dict[tuple[int, int, int], int] = {}
        # What is locked by open disputes, for the money invariants; the chain finds it in the records.
        self.records: dict[DisputeId, DisputeRecord] = {}

    # reading

    def get_dispute(self, dispute_id: int) -> Dispute:
        """State of an open dispute; DisputeUnknown otherwise."""
        dispute = self.open.get(dispute_id & ((1 << SLOT_BITS) - 1))
        if dispute is None or dispute.dispute_id != dispute_id:
            refuse("DisputeUnknown", dispute_id)
        return dispute

    def is_past(self, dispute: Dispute, call: Call, window: int) -> bool:
        """Whether commit (1) or reveal window (2), or as long again (3), is past in the present window of the vote."""
        time = dispute.start_time + self.params.vote_commit_period + (window - 1) * self.params.vote_reveal_period
        return call.now >= time and call.block.number >= dispute.start_block + window * self.params.min_blocks

    def table_of(self, record: DisputeRecord) -> Table:
        """The table that a dispute's class votes by."""
        return self.registry.get_class(record.class_id).tables[record.table].table

    def statement(self, dispute: Dispute) -> bytes:
        """What commitments of the present window are about."""
        ids = (dispute.dispute_id, dispute.window, dispute.question_hash)
        return compute_vote_statement(self.market.chain_id, self.address, *ids)

    def _require(self, dispute_id: int, status: DisputeStatus, record: bytes) -> tuple[Dispute, DisputeRecord, Table]:
        dispute = self.get_dispute(dispute_id)
        require(dispute.status is status, "WrongStatus", dispute_id, dispute.status)
        require(keccak(record) == dispute.record_hash, "HashMismatch", "record")
        decoded = decode_dispute_record(record)
        return dispute, decoded, self.table_of(decoded)

    def _require_question(
        self, dispute_id: int, record: bytes, question: bytes
    ) -> tuple[Dispute, DisputeRecord, Table, Question]:
        dispute, decoded, table = self._require(dispute_id, DisputeStatus.VOTING, record)
        require(compute_question_hash(record, question) == dispute.question_hash, "HashMismatch", "question")
        return dispute, decoded, table, decode_question(question)

    # open, publish, ask

    def apply_open(self, call: Call, record: bytes) -> list[ev.Event]:
        """`open(record)`: market and challenges only."""
        require(call.sender in (self.market.address, self.challenges), "Unauthorized")
        if self.free_slots:
            slot = self.free_slots.pop()
        else:
            slot, self.slot_count = self.slot_count, self.slot_count + 1
        self.sequence += 1
        dispute_id = DisputeId(self.sequence << SLOT_BITS | slot)
        self.open[slot] = Dispute(dispute_id, keccak(record), call.now, call.block.number)
        decoded = decode_dispute_record(record)
        self.records[dispute_id] = decoded
        self.market.count_dispute(self._as_self(call), decoded.batch_id, 1)
        return [ev.DisputeOpened(dispute_id, decoded.batch_id, decoded.bundle, record)]

    def apply_publish(self, call: Call, dispute_id: int, record: bytes, leaves: bytes) -> list[ev.Event]:
        """`publish(disputeId, record, leaves)`: anyone shows what a root stands for."""
        dispute, decoded, _ = self._require(dispute_id, DisputeStatus.PUBLISHING, record)
        is_sound = is_publishable(decoded) and len(leaves) == LEAF_BYTES * decoded.tasks
        require(is_sound, "MalformedPage")
        root = Vote(compute_merkle_root(_split_leaves(leaves)))
        require(root in decoded.roots, "UnknownRoot", root)
        number = decoded.roots.index(root)
        require(number not in dispute.published, "AlreadyPublished", root)
        dispute.published.add(number)
        return [ev.LeavesPublished(dispute.dispute_id, root, leaves)]

    def apply_ask(self, call: Call, dispute_id: int, record: bytes, leaves: bytes) -> list[ev.Event]:
        """`ask(disputeId, record, leaves)`: the question stands, the first window starts."""
        dispute, decoded, table = self._require(dispute_id, DisputeStatus.PUBLISHING, record)
        is_whole = len(dispute.published) == len(decoded.roots)
        is_late = call.now >= dispute.start_time + self.params.publish_period
        is_late = is_late and call.block.number >= dispute.start_block + self.params.min_blocks
        require(is_whole or is_late or not is_publishable(decoded), "TooEarly")
        question = self._read_question(decoded, leaves, is_whole)
        raw = encode_question(question)
        told: list[ev.Event] = [ev.QuestionAsked(dispute.dispute_id, raw)]
        ending = dismiss_at_once(decoded, question, table)
        if ending is not None:
            mine = self._as_self(call)
            money = self.registry.apply_release_pot(mine, decoded.pot) if decoded.pot else []
            return [*told, self._decided(dispute, decoded, ending), *money, *self._close(call, dispute, decoded)]
        dispute.status, dispute.question_hash = DisputeStatus.VOTING, compute_question_hash(record, raw)
        dispute.cast_hash = keccak(b"")
        self._start_window(call, dispute)
        return told

    def _read_question(self, record: DisputeRecord, data: bytes, is_whole: bool) -> Question:
        """Question from the leaves of all roots; none may be sent where not all were published."""
        size, published = LEAF_BYTES * record.tasks, dict[Vote, list[bytes]]()
        require(len(data) == (size * len(record.roots) if is_whole else 0), "HashMismatch", "leaves")
        for number, root in enumerate(record.roots if is_whole else ()):
            published[root] = _split_leaves(data[number * size : (number + 1) * size])
            require(compute_merkle_root(published[root]) == root, "HashMismatch", "leaves")
        return compute_question(record, published)

    def _start_window(self, call: Call, dispute: Dispute) -> None:
        dispute.start_time, dispute.start_block = call.now, call.block.number
        dispute.commit_hash, dispute.committed, dispute.revealed = ZERO32, set(), set()

    # the vote

    def apply_commit_votes(
        self, call: Call, dispute_id: int, record: bytes, question: bytes, lists: bytes
    ) -> list[ev.Event]:
        """`commitVotes(disputeId, record, question, lists)`: anyone, with votes of many members."""
        dispute, _, table, _ = self._require_question(dispute_id, record, question)
        require(not self.is_past(dispute, call, 1), "WindowPast", "commit")
        try:
            votes = decode_vote_lists(lists)
        except ValidationError:
            refuse("MalformedPage")
        require(bool(votes), "MalformedPage")
        statement = self.statement(dispute)
        kept, skips = [], b""
        for index, vote in enumerate(votes):
            reason = self._judge(dispute, statement, table, vote)
            if reason is None:
                kept.append(vote)
                dispute.committed.add(vote[0])
            else:
                skips += index.to_bytes(2, "big") + bytes((reason,))
        if kept:
            dispute.commit_hash = fold(dispute.commit_hash, [compute_vote_page_hash(kept)])
        return [ev.VotesCommitted(dispute.dispute_id, dispute.window, lists, skips)]

    def _judge(self, dispute: Dispute, statement: bytes, table: Table, vote: VoteCommit) -> ListSkip | None:
        member, signature, commitment = vote
        if member >= len(table.members):
            return ListSkip.MEMBER
        row = table.members[member]
        items_hash = compute_vote_items_hash(commitment)
        digest = compute_list_digest(self.market.separator, statement, row.operator_id, items_hash)
        if self.market.recover(digest, signature) != row.key:
            return ListSkip.SIGNATURE
        return ListSkip.DUPLICATE if member in dispute.committed | dispute.voted else None

    def apply_reveal_votes(
        self,
        call: Call,
        dispute_id: int,
        record: bytes,
        question: bytes,
        commit_pages: Sequence[bytes],
        votes: bytes,
        openings: bytes,
    ) -> list[ev.Event]:
        """`revealVotes(…)`: anyone, with openings that nobody can leave out afterwards."""
        dispute, _, table, _ = self._require_question(dispute_id, record, question)
        require(self.is_past(dispute, call, 1), "WindowOpen", "commit")
        require(not self.is_past(dispute, call, 2), "WindowPast", "reveal")
        require(fold(ZERO32, commit_pages) == dispute.commit_hash, "HashMismatch", "commitPages")
        answers = read_answers(votes)
        read = read_vote_openings(self.statement(dispute), table, commit_pages, answers, openings, is_whole=False)
        require(bool(read.opened), "MalformedPage")
        dispute.revealed |= read.opened.keys()
        return [ev.VotesRevealed(dispute.dispute_id, dispute.window, votes, openings)]

    def apply_settle_votes(
        self,
        call: Call,
        dispute_id: int,
        record: bytes,
        question: bytes,
        cast: bytes,
        commit_pages: Sequence[bytes],
        votes: bytes,
        openings: bytes,
        rows: int,
    ) -> list[ev.Event]:
        """`settleVotes(…)`: anyone ends a window, once everybody has spoken or its time is past."""
        dispute, decoded, table, asked = self._require_question(dispute_id, record, question)
        require(keccak(cast) == dispute.cast_hash, "HashMismatch", "cast")
        require(fold(ZERO32, commit_pages) == dispute.commit_hash, "HashMismatch", "commitPages")
        stands = decode_cast(cast, len(table.members))
        window = self._read_window(dispute, table, asked, stands, commit_pages, votes, openings)
        won = find_winner(table, window.votes)
        self._require_time(call, dispute, table, window, won)
        if won is None:
            for member in sorted(window.closed & dispute.revealed):
                refuse("SeatOmitted", 0, member)
        if won is None and dispute.window + 1 < self.params.vote_windows:
            dispute.voted = set(window.votes)
            page = encode_cast(go_on(window))
            dispute.window, dispute.cast_hash = dispute.window + 1, keccak(page)
            self._start_window(call, dispute)
            return [ev.VoteWindowOpened(dispute.dispute_id, dispute.window, page)]
        outcome = decoded.batch_id, decoded.bundle, decoded.round
        before = self.convicted.get(outcome, 0)
        ending = end_vote(decoded, asked, table, window, before)
        if ending.aftermath is Aftermath.UPHELD:
            self.convicted[outcome] = max(before, sum(root == decoded.accepted for _, root in decoded.votes))
        return self._end(call, dispute, decoded, table, ending, rows)

    def _read_window(
        self,
        dispute: Dispute,
        table: Table,
        asked: Question,
        stands: CastVotes,
        pages: Sequence[bytes],
        votes: bytes,
        openings: bytes,
    ) -> WindowVotes:
        answers = read_answers(votes, {*asked.answers, *stands.votes.values()})
        read = read_vote_openings(self.statement(dispute), table, pages, answers, openings, is_whole=True)
        abstained = {m: reason for m, c in read.closed.items() if (reason := compute_reason(c)) is not None}
        shut = frozenset(read.closed.keys() - abstained.keys())
        return WindowVotes({**stands.votes, **read.opened}, abstained, shut, stands.silent)

    def _require_time(self, call: Call, dispute: Dispute, table: Table, window: WindowVotes, won: Vote | None) -> None:
        spoken = len(dispute.committed) + len(dispute.voted)
        everybody = spoken == len(table.members) or self.is_past(dispute, call, 1)
        # Callers choose what they open: who shows no majority waits for those who can, or a liar would be first.
        is_time = self.is_past(dispute, call, 2 if won is not None else 3)
        require((everybody and not window.closed) or is_time, "TooEarly")

    # the end

    def _end(
        self, call: Call, dispute: Dispute, record: DisputeRecord, table: Table, ending: Ending, rows: int
    ) -> list[ev.Event]:
        told: list[ev.Event] = [self._decided(dispute, record, ending)]
        dispute.status, dispute.tally_hash = DisputeStatus.PUNISHING, keccak(ending.encoded_tally)
        mine = self._as_self(call)
        dispute.aftermath, moved = move_bundle_money(self.market, mine, record, table, ending)
        held = record.pot if dispute.aftermath is Aftermath.DISMISSED else 0
        self.records[dispute.dispute_id] = replace(record, pot=held, escrow=0)
        return [*told, *moved, *self._punish(call, dispute, record, table, ending.encoded_tally, rows)]

    def _decided(self, dispute: Dispute, record: DisputeRecord, ending: Ending) -> ev.Event:
        root, answer = ending.root or Vote(ZERO32), ending.answer or Vote(ZERO32)
        batch_id, tally = BatchId(record.batch_id), ending.encoded_tally
        return ev.DisputeDecided(dispute.dispute_id, batch_id, record.bundle, ending.verdict, root, answer, tally)

    def apply_punish(self, call: Call, dispute_id: int, record: bytes, tally: bytes, up_to: int) -> list[ev.Event]:
        """`punish(disputeId, record, tally, upTo)`: anyone goes on with the rows of the tally."""
        dispute, decoded, table = self._require(dispute_id, DisputeStatus.PUNISHING, record)
        require(keccak(tally) == dispute.tally_hash, "HashMismatch", "tally")
        return self._punish(call, dispute, decoded, table, tally, up_to)

    def _punish(
        self, call: Call, dispute: Dispute, record: DisputeRecord, table: Table, tally: bytes, up_to: int
    ) -> list[ev.Event]:
        work = Punishment(self.registry, self._as_self(call), record, table, tally)
        end = min(up_to, len(tally))
        for row in range(dispute.row, end):
            dispute.taken += work.punish_row(row)
        if dispute.row < end:
            dispute.row = end
            work.events.append(ev.RowsPunished(dispute.dispute_id, end, dispute.taken))
        if dispute.row < len(tally):
            return work.events
        work.share_out(dispute.aftermath, dispute.taken)
        return [*work.events, *self._close(call, dispute, record)]

    def _close(self, call: Call, dispute: Dispute, record: DisputeRecord) -> list[ev.Event]:
        slot = dispute.dispute_id & ((1 << SLOT_BITS) - 1)
        del self.open[slot], self.records[dispute.dispute_id]
        self.free_slots.append(slot)
        self.market.count_dispute(self._as_self(call), record.batch_id, -1)
        return [ev.DisputeSettled(dispute.dispute_id, BatchId(record.batch_id), record.bundle)]

    def _as_self(self, call: Call) -> Call:
        return replace(call, sender=self.address, value=0)


def _split_leaves(data: bytes) -> list[bytes]:
    return [data[i : i + LEAF_BYTES] for i in range(0, len(data), LEAF_BYTES)]
