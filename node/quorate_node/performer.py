"""Doing what the core says: transactions, messages, executions, journal. Each answer goes back as a stimulus.

Failures of the network are the core's business (it asks again); only what must never happen leaves as an
UnrecoverableError and stops the node.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from quorate.chain import calls
from quorate.chain.account import SigningAccount
from quorate.chain.gateway import ChainGateway
from quorate.messages import CommitmentsMessage, Message, OpeningsMessage, VoteMessage, VoteOpeningMessage
from quorate.protocol.dispute_pages import encode_vote_lists
from quorate.protocol.encoding import encode_commit_lists, encode_post_page
from quorate.protocol.errors import Busy, QuorateError, UnrecoverableError
from quorate.protocol.outcomes import Extension
from quorate.protocol.result import compute_merkle_root
from quorate.protocol.types import AbstainReason, Address
from quorate_node.core import instructions as ins
from quorate_node.core import stimuli as st
from quorate_node.core.core import Core
from quorate_node.core.mailroom import MessageRefused
from quorate_node.core.state import SecretGroup
from quorate_node.execution import ExecutionService
from quorate_node.joblog import JobLog
from quorate_node.journal import Journal, JournalFull
from quorate_node.logs import get_logger
from quorate_node.mailbox import Mailbox
from quorate_node.messaging import Messenger, Route, Undelivered
from quorate_node.metrics import Metrics
from quorate_node.signer import Signer

MINED_S = 60.0
MAX_LEAVES = 200_000
NOT_YET_PAUSES_S = (0.1, 0.2, 0.3, 0.5, 0.8)
EXPECTED_CODES = frozenset({"NOT_YET", "GONE", "NOT_PENDING"})

Feed = Callable[[st.Stimulus], None]
OnPosted = Callable[[ins.Post, int], None]


class LeafShelf:
    """Leaves by their root, of what the operators of this process voted for: served to whoever fetches a result."""

    def __init__(self) -> None:
        self._rows: OrderedDict[bytes, tuple[bytes, ...]] = OrderedDict()

    def get(self, root: bytes) -> tuple[bytes, ...] | None:
        """Leaves under a root."""
        return self._rows.get(root)

    def put(self, group: SecretGroup) -> None:
        """Keep the leaves of a group's votes. A class vote may name a root too, but has no leaves of it."""
        for secret in group.secrets:
            if secret.leaves:
                self._rows[secret.vote] = secret.leaves
        while len(self._rows) > MAX_LEAVES:
            self._rows.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Tools:
    """What the operators of one process share. `own_url` is where their `mailbox` is for others."""

    gateway: ChainGateway
    messenger: Messenger
    mailbox: Mailbox
    execution: ExecutionService
    metrics: Metrics
    leaves: LeafShelf
    own_url: str
    on_posted: OnPosted
    job_log: JobLog = field(default_factory=JobLog)


class Performer:
    """Performs instructions for one core with one key."""

    def __init__(self, core: Core, key: SigningAccount, journal: Journal, tools: Tools, feed: Feed) -> None:
        self._core, self._key, self._journal, self._tools, self._feed = core, key, journal, tools, feed
        self._gateway, self._messenger, self._metrics = tools.gateway, tools.messenger, tools.metrics
        state = core.state
        self._signer = Signer(key, state.identity.operator_id, state.network.separator)
        self._log = get_logger()

    async def perform(self, instruction: ins.Instruction) -> None:
        """Perform one instruction to its end. Raises UnrecoverableError alone."""
        try:
            handler: Callable[[Performer, Any], Awaitable[None]] | None = _HANDLERS.get(type(instruction))
            if handler is not None:
                await handler(self, instruction)
            elif isinstance(instruction, ins.Transaction):
                await self._transact(instruction)
        except UnrecoverableError:
            raise
        except QuorateError as error:
            self._log.warning("failed", instruction=type(instruction).__name__, error=str(error))

    # own work -----------------------------------------------------------------------------------------------------

    async def _note(self, note: ins.Note) -> None:
        self._log.warning("note", text=note.text, job=note.job_id.hex() if note.job_id else None)

    async def _read_header(self, wanted: ins.ReadHeader) -> None:
        header = await asyncio.to_thread(self._gateway.header_rlp, wanted.block)
        self._feed(st.HeaderRead(wanted.batch_id, wanted.round, header))

    async def _execute(self, instruction: ins.Execute) -> None:
        job = instruction.job_id.hex()
        self._log.info("executing", job=job, batch=instruction.key[0], bundle=instruction.key[1])
        self._tools.job_log.note(instruction.job_id, "executing", f"bundle {instruction.job_bundle}")
        try:
            outcome = await self._tools.execution.run(instruction)
        except UnrecoverableError:
            raise
        except Exception as error:  # the core must hear of it, be it a stranger's trick: else it waits for ever
            if not isinstance(error, QuorateError):
                self._log.error("execution broke", job=job, error=repr(error), exc_info=True)
            reason = f"{type(error).__name__}: {error}"
            is_busy = isinstance(error, Busy)  # our store, or its disk
            why = AbstainReason.RESOURCES if is_busy else AbstainReason.OTHER
            is_ours = is_busy or not isinstance(error, QuorateError)
            outcome = st.BundleFailed(instruction.key, reason, True, why, is_ours)
        if isinstance(outcome, st.BundleFailed):
            self._metrics.count("executions", "failed")
            self._log.warning("no result", job=job, reason=outcome.reason, retry=outcome.retry)
            # A fault of this host is told by its name alone: the rest is its operator's business.
            told = outcome.abstention.name + ("" if outcome.is_host_fault else f": {outcome.reason}")
            self._tools.job_log.note(instruction.job_id, "no result", told)
        else:
            self._metrics.count("executions", "done")
            spent = {"content_s": outcome.content_s, "execute_s": outcome.execute_s}
            vote = outcome.root.hex() if outcome.root else f"tasks {instruction.tasks}"
            # Never the vote: whoever read it before all have committed could copy it.
            told = f"bundle {instruction.job_bundle}: {len(outcome.leaves)} tasks"
            self._tools.job_log.note(instruction.job_id, "executed", told)
            self._log.info("executed", job=job, vote=vote, tasks=sum(map(bool, outcome.leaves)), **spent)
        self._feed(outcome)

    async def _journal_commit(self, draft: ins.JournalCommit) -> None:
        group = self._signer.seal(draft)
        try:
            await asyncio.to_thread(self._journal.append, group)
        except JournalFull as error:
            self._log.error("vote not journalled", error=str(error))
            self._feed(st.JournalFailed(draft.domain, str(error)))
            return
        self._tools.leaves.put(group)
        self._feed(st.GroupJournaled(group))

    async def _ask_leaves(self, wanted: ins.AskLeaves) -> None:
        urls = [self._messenger.locate_operator(each) for each in wanted.operators]
        for url in dict.fromkeys(filter(None, urls)):
            leaves = await self._messenger.ask_leaves(url, wanted.root)
            if leaves and compute_merkle_root(leaves) == wanted.root:
                self._feed(st.LeavesFound(wanted.root, tuple(leaves)))
                return

    async def _read_audit_header(self, wanted: ins.ReadAuditHeader) -> None:
        header = await asyncio.to_thread(self._gateway.header_rlp, wanted.block)
        self._feed(st.AuditHeaderRead(wanted.batch_id, header))

    # messages -----------------------------------------------------------------------------------------------------

    async def _send_commitments(self, instruction: ins.SendCommitments) -> None:
        group = instruction.group
        commit_list = self._signer.sign_list(group)
        message = CommitmentsMessage.from_list(group.subject, group.round, commit_list)
        if self._is_own(instruction.collator):
            self._feed(st.CommitListReceived(group.subject, group.round, commit_list))
        else:
            await self._send(instruction.collator, (), "commitments", message)

    async def _send_openings(self, instruction: ins.SendOpenings) -> None:
        message = OpeningsMessage.from_openings(instruction.batch_id, instruction.round, instruction.openings)
        route = self._messenger.find_route_to(instruction.collator)
        taken = await self._send(instruction.collator, instruction.operators, "openings", message)
        if route in taken:
            seats = tuple(seat for seat, _ in instruction.openings)
            self._feed(st.OpeningsAcknowledged(instruction.domain, seats))

    async def _send_vote(self, instruction: ins.SendVote) -> None:
        vote, subject = self._signer.sign_vote(instruction.group), instruction.group.subject
        self._feed(st.VoteReceived(subject, vote))
        message = VoteMessage.from_vote(subject, vote)
        if await self._send_to_all(instruction.collator, instruction.operators, "votes", message):
            self._feed(st.VoteTaken(instruction.group.domain, is_opening=False))

    async def _send_vote_opening(self, instruction: ins.SendVoteOpening) -> None:
        opening = instruction.opening
        message = VoteOpeningMessage(
            dispute_id=instruction.dispute_id, member=instruction.member, vote=opening.vote, salt=opening.salt
        )
        if await self._send_to_all(instruction.collator, instruction.operators, "vote-openings", message):
            self._feed(st.VoteTaken(instruction.statement, is_opening=True))

    def _is_own(self, address: Address) -> bool:
        return address == self._key.address

    async def _send(self, collator: Address, operators: tuple[int, ...], kind: str, message: Message) -> set[Route]:
        """To the collator and to other operators; the routes that took it. The core knows its own openings already."""
        routes = self._locate(collator, operators)
        taken = await asyncio.gather(*(self._deliver(route, kind, message) for route in routes))
        return {route for route, is_taken in zip(routes, taken, strict=True) if is_taken}

    async def _send_to_all(self, collator: Address, operators: tuple[int, ...], kind: str, message: Message) -> bool:
        """Whether all of them took it."""
        taken = await self._send(collator, operators, kind, message)
        return taken.issuperset(self._locate(collator, operators))

    def _locate(self, collator: Address, operators: tuple[int, ...]) -> list[Route]:
        found = [self._messenger.find_route(each) for each in operators]
        if not self._is_own(collator):
            found.append(self._messenger.find_route_to(collator))
        return list(dict.fromkeys(filter(None, found)))

    async def _deliver(self, route: Route, kind: str, message: Message) -> bool:
        """Whether it was taken.

        A receiver that is a block behind says NOT_YET: worth a moment's patience, since the core's is seconds.
        """
        for pause_s in (*NOT_YET_PAUSES_S, None):
            try:
                if route.url == self._tools.own_url:
                    self._take(kind, message)
                else:
                    await self._messenger.send(route, kind, message)
                self._metrics.count("messages", kind, "sent")
                return True
            except Undelivered as error:
                if error.code == "NOT_YET" and pause_s is not None:
                    await asyncio.sleep(pause_s)
                    continue
                self._metrics.count("messages", kind, error.code)
                if error.code not in EXPECTED_CODES:
                    self._log.warning("undelivered", kind=kind, error=str(error))
                return False
        raise AssertionError("the last turn of the loop returns")

    def _take(self, kind: str, message: Message) -> None:
        """The receiver lives in this process."""
        try:
            self._tools.mailbox.take(message)
        except MessageRefused as error:
            raise Undelivered(f"refused {kind}: {error}", error.code) from error

    # transactions -------------------------------------------------------------------------------------------------

    async def _transact(self, instruction: ins.Transaction) -> None:
        name, error = type(instruction).__name__, None
        try:
            block = await asyncio.to_thread(self._send_and_wait, instruction)
            if isinstance(instruction, ins.Post):
                self._tools.on_posted(instruction, block)
            self._log.info("mined", call=name, key=str(instruction.key[1]), block=block)
        except UnrecoverableError:
            raise
        except QuorateError as failure:
            error = str(failure)
            # Others may have been faster: that is how duties are shared.
            self._log.info("not mined", call=name, key=str(instruction.key[1]), error=error)
        finally:
            self._metrics.count("transactions", name, "mined" if error is None else "refused")
            self._feed(st.CallEnded(instruction.key, error))

    def _send_and_wait(self, instruction: ins.Transaction) -> int:
        value = instruction.bond if isinstance(instruction, ins.Challenge) else 0
        transaction = self._gateway.send(self._key, self._build(instruction), value=value)
        return self._gateway.wait(transaction, MINED_S).block_number

    def _build(self, instruction: ins.Transaction) -> calls.Call:
        for build in (self._build_round, self._build_duty, self._build_doubt, self._build_dispute):
            call = build(instruction)
            if call is not None:
                return call
        raise AssertionError(f"{type(instruction).__name__} is no call")

    def _build_round(self, instruction: ins.Transaction) -> calls.Call | None:
        match instruction:
            case ins.Post(_, terms, orders):
                return calls.post(0, terms, encode_post_page(orders), last=True)
            case ins.ProveBeacon(_, batch_id, header):
                return calls.prove_beacon(batch_id, header)
            case ins.Commit(_, batch_id, first, end, lists):
                return calls.commit(batch_id, first, end, lists)
            case ins.CommitOwn(_, batch_id, end, group):
                return calls.commit(batch_id, 0, end, encode_commit_lists([self._signer.sign_list(group)]))
            case ins.Reveal(_, batch_id, reveal):
                return calls.reveal(batch_id, reveal)
            case ins.Settle(_, batch_id, settlement):
                return calls.settle(batch_id, settlement)
        return None

    def _build_duty(self, instruction: ins.Transaction) -> calls.Call | None:
        match instruction:
            case ins.Expire(_, batch_id):
                return calls.expire(batch_id)
            case ins.AdvanceEra(_, class_id):
                return calls.advance_era(class_id, self._gateway.drawable_members(class_id))
            case ins.Judge(_, operator_id):
                return calls.judge(operator_id)
            case ins.Rejoin():
                return calls.rejoin()
        return None

    def _build_doubt(self, instruction: ins.Transaction) -> calls.Call | None:
        match instruction:
            case ins.ProveAudit(_, batch_id, header):
                return calls.prove_audit(batch_id, header)
            case ins.Audit(_, batch_id, bundle, auditor, vote, domain, proof):
                signature = self._signer.sign_audit(domain, bundle, vote)
                return calls.audit(batch_id, proof, bundle, auditor, vote, signature)
            case ins.Challenge(_, batch_id, proof, bundle, task, leaf, _):
                return calls.challenge(batch_id, proof, bundle, task, leaf)
            case ins.Extend(_, signed, proof):
                extension = Extension(signed.rounds, signed.bundles, proof, signed.signature)
                return calls.extend(signed.batch_id, extension)
        return None

    def _build_dispute(self, instruction: ins.Transaction) -> calls.Call | None:
        match instruction:
            case ins.Publish(_, dispute_id, record, leaves):
                return calls.publish(dispute_id, record, b"".join(leaves))
            case ins.Ask(_, dispute_id, record, joined):
                return calls.ask(dispute_id, record, joined)
            case ins.CommitVotes(_, dispute_id, record, question, lists):
                return calls.commit_votes(dispute_id, record, question, lists)
            case ins.CommitOwnVote(_, group, record, question):
                lists = encode_vote_lists([self._signer.sign_vote(group)])
                return calls.commit_votes(group.subject, record, question, lists)
            case ins.RevealVotes(_, dispute_id, record, question, shown):
                return calls.reveal_votes(dispute_id, record, question, shown)
            case ins.SettleVotes(_, dispute_id, record, question, planned):
                return calls.settle_votes(dispute_id, record, question, planned)
            case ins.Punish(_, dispute_id, record, tally, up_to):
                return calls.punish(dispute_id, record, tally, up_to)
        return None


_HANDLERS: dict[type, Callable[[Performer, Any], Awaitable[None]]] = {
    ins.Note: Performer._note,
    ins.ReadHeader: Performer._read_header,
    ins.ReadAuditHeader: Performer._read_audit_header,
    ins.AskLeaves: Performer._ask_leaves,
    ins.Execute: Performer._execute,
    ins.JournalCommit: Performer._journal_commit,
    ins.SendCommitments: Performer._send_commitments,
    ins.SendOpenings: Performer._send_openings,
    ins.SendVote: Performer._send_vote,
    ins.SendVoteOpening: Performer._send_vote_opening,
}
