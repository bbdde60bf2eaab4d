"""A whole network in memory: cores of several nodes against the pure model of the contracts, block by block.

No sockets, no clock, no disk: a test decides who crashes, who is silent and what is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from quorate.chain import rlp
from quorate.chain.account import SigningAccount
from quorate.chain.signing import recover
from quorate.protocol import events as ev
from quorate.protocol.committing import apply_commit, apply_reveal
from quorate.protocol.context import Block, Call
from quorate.protocol.dispute_pages import encode_vote_lists
from quorate.protocol.encoding import compute_job_id, encode_commit_lists, encode_post_page
from quorate.protocol.errors import ProtocolViolation
from quorate.protocol.extending import apply_extend, apply_prove_audit
from quorate.protocol.hashing import keccak
from quorate.protocol.outcomes import Extension
from quorate.protocol.params import ETHER, LOCAL, Params
from quorate.protocol.partition import tasks_of_bundle
from quorate.protocol.posting import apply_post
from quorate.protocol.result import compute_merkle_root
from quorate.protocol.settling import apply_settle
from quorate.protocol.spec import WASM_PROFILE
from quorate.protocol.types import AbstainReason, Address, JobOrder, OperatorId, SignedOrder, Vote
from quorate.protocol.world import World
from quorate_node.core import instructions as ins
from quorate_node.core import mailroom
from quorate_node.core import stimuli as st
from quorate_node.core.core import TROUBLE, Core
from quorate_node.core.farm import Farm
from quorate_node.core.mailroom import MessageRefused
from quorate_node.core.state import Identity, Network, SecretGroup, Settings
from quorate_node.core.views import Head
from quorate_node.signer import Signer
from quorate_node.watcher import find_tables

BLOCKS_A_SECOND = 4
DEFAULT_SETTINGS = Settings()
START = 1_700_000_000
PROFILE = keccak(WASM_PROFILE.encode())
REGISTRY, MARKET, DISPUTES, CHALLENGES = (Address(bytes(19) + bytes((i,))) for i in range(1, 5))
CoreType = Callable[[Identity, Network, Settings], Core]
Check = Callable[[Any], Any]


def make_key(number: int) -> SigningAccount:
    """A key that is the same in every run."""
    return SigningAccount.from_key(keccak(b"test key" + bytes((number,))))


def make_header(number: int, fork: int) -> bytes:
    """A made-up header."""
    mix_hash = keccak(b"mix" + number.to_bytes(8, "big") + bytes((fork,)))
    return bytes(rlp.encode([b""] * 12 + [number, mix_hash, bytes(8)]))


@dataclass
class Node:
    """One simulated node. Messages to a deaf and from a mute one are lost, a full one cannot write its journal. With a
    `failure` it has no result of any execution, and for RESOURCES does not try again."""

    index: int
    key: SigningAccount
    core: Core
    farm: Farm
    signer: Signer
    journal: list[SecretGroup] = field(default_factory=list)
    is_up: bool = True
    is_mute: bool = False
    is_deaf: bool = False
    is_full: bool = False
    failure: AbstainReason | None = None
    refusals: list[str] = field(default_factory=list)
    pending: list[st.Stimulus] = field(default_factory=list)
    instructions: list[ins.Instruction] = field(default_factory=list)


class Network0:
    """Operators 1 to `count` of class 1, of which some collate; `farm_size` of them live in one process."""

    def __init__(
        self,
        count: int = 6,
        cores: dict[int, CoreType] | None = None,
        params: Params = LOCAL,
        farm_size: int = 1,
        collators: frozenset[int] = frozenset({0}),
        settings: Settings = DEFAULT_SETTINGS,
    ) -> None:
        self.world = World(params, 31337, REGISTRY, MARKET, DISPUTES, CHALLENGES, recover)
        self.cores, self.collators, self.settings = cores or {}, collators, settings
        self.number, self.fork = 10, 0
        self.unix = 0.0  # the hosts' clock; 0: they know none
        self.events: list[tuple[int, ev.Event]] = []
        self.queue: list[tuple[Node, Any]] = []
        self.keys = [make_key(i) for i in range(count)]
        self.requester, self.nonce = make_key(99), 0
        self._enroll()
        self.nodes: list[Node] = []
        self.fed: dict[int, int] = {}
        for start in range(0, count, farm_size):
            indexes = range(start, min(start + farm_size, count))
            farm = Farm([self._make_core(i) for i in indexes])
            self.nodes += [
                Node(i, self.keys[i], core, farm, Signer(self.keys[i], i + 1, self.world.market.separator))
                for i, core in zip(indexes, farm.cores, strict=True)
            ]
        self.failures: list[str] = []

    # chain

    @property
    def now(self) -> int:
        return START + self.number // BLOCKS_A_SECOND

    def call(self, sender: Address, value: int = 0) -> Call:
        hashes = {n: keccak(make_header(n, self.fork)) for n in range(max(0, self.number - 256), self.number)}
        return Call(sender, Block(self.number, self.now, hashes), value)

    def log(self, found: list[ev.Event]) -> None:
        self.events += [(self.number, event) for event in found]

    def _enroll(self) -> None:
        registry, market = self.world.registry, self.world.market
        creation = self.call(self.requester.address, LOCAL.class_deposit)
        self.log(registry.apply_create_class(creation, PROFILE, ETHER, 10**9, True))
        for key in self.keys:
            self.log(registry.apply_register(self.call(key.address, 20 * ETHER), key.address))
            self.log(registry.apply_join(self.call(key.address), 1, 10, 10**9, 10**12))
        self._advance_era()
        self.log(market.apply_deposit(self.call(self.requester.address, 1000 * ETHER)))
        for index in sorted(self.collators):
            self.log(market.apply_deposit(self.call(self.keys[index].address, 10 * ETHER)))

    def _advance_era(self) -> list[ev.Event]:
        registry = self.world.registry
        found = registry.apply_advance_era(self.call(self.requester.address), 1, *registry.medians(1))
        self.log(found)
        return found

    def _make_core(self, index: int) -> Core:
        network = Network(31337, MARKET, self.world.market.separator, self.world.params, DISPUTES)
        identity = Identity(OperatorId(index + 1), self.keys[index].address)
        return self.cores.get(index, Core)(
            identity, network, replace(self.settings, is_collator=index in self.collators)
        )

    # orders

    def order(self, tasks: int = 1, seats: int = 3, rounds: int = 2, commit_period: int = 8) -> SignedOrder:
        order = JobOrder(
            self.requester.address, self.nonce, 1, keccak(b"spec" + bytes((self.nonce % 256,))), tasks, 10**6, 1000,
            seats, rounds, commit_period, 0, 10**12, 10**18, self.now + 1000,
        )  # fmt: skip
        self.nonce += 1
        return SignedOrder(order, self.requester.sign(compute_job_id(self.world.market.separator, order)))

    def submit(self, *orders: SignedOrder, to: int = 0) -> None:
        self.nodes[to].core.handle(st.OrdersQueued(orders))

    # life

    def crash(self, index: int) -> None:
        """Everything but the journal is gone."""
        self.nodes[index].is_up = False

    def restart(self, index: int) -> None:
        node = self.nodes[index]
        assert len(node.farm.cores) == 1, "who shares a process comes back with all others"
        node.core, node.is_up, node.pending = self._make_core(index), True, []
        node.farm = Farm([node.core])
        for group in node.journal:
            node.core.handle(st.GroupJournaled(group))

    def add_twin(self, index: int) -> Node:
        """Another machine with the key of a node, and a journal and a mind of its own."""
        core = self._make_core(index)
        self.nodes.append(Node(index, self.keys[index], core, Farm([core]), self.nodes[index].signer))
        return self.nodes[-1]

    def reorganise(self, to_event: int) -> None:
        """Nodes are told that the past has changed and read what events are there again."""
        for farm in self.farms:
            farm.handle(st.ChainReorganised())
            self.fed[id(farm)] = 0

    @property
    def farms(self) -> list[Farm]:
        """Processes that are up."""
        return list({id(node.farm): node.farm for node in self.nodes if node.is_up}.values())

    def run(self, blocks: int = 400, until: Callable[[], bool] | None = None) -> bool:
        """Mine blocks; True as soon as `until` holds."""
        for _ in range(blocks):
            self.step()
            if until is not None and until():
                return True
        return until is None

    def step(self) -> None:
        self.number += 1
        queue, self.queue = self.queue, []
        for node, instruction in queue:
            self._mine(node, instruction)
        self.world.check_invariants()
        for node in self.nodes:
            if node.is_up:
                for stimulus in node.pending:
                    node.core.handle(stimulus)
                node.pending = []
        for farm in self.farms:
            self._feed(farm)
        for node in self.nodes:
            if node.is_up:
                decided = node.core.handle(st.Tick(self.number / BLOCKS_A_SECOND, self.unix))
                node.instructions += decided
                trouble = [each for each in decided if isinstance(each, ins.Note) and each.text.startswith(TROUBLE)]
                assert not trouble, trouble
                for instruction in decided:
                    self._perform(node, instruction)

    def _feed(self, farm: Farm) -> None:
        fresh = self.events[self.fed.get(id(farm), 0) :]
        self.fed[id(farm)] = len(self.events)
        logged = tuple(st.Logged(event, block, START + block // BLOCKS_A_SECOND) for block, event in fresh)
        tables = {
            (c, n): self.world.registry.classes[c].tables[n].table for c, n in find_tables(event for _, event in fresh)
        }
        farm.handle(st.ChainAdvanced(Head(self.number, self.now), logged, tables))

    def _mine(self, node: Node, instruction: Any) -> None:
        try:
            found = self._apply(self.call(node.key.address), instruction)
        except ProtocolViolation as error:
            self.failures.append(f"{type(instruction).__name__} of {node.index}: {error}")
            node.pending.append(st.CallEnded(instruction.key, str(error)))
            return
        self.log(found)
        node.pending.append(st.CallEnded(instruction.key))

    def _apply(self, call: Call, instruction: Any) -> list[ev.Event]:
        world = self.world
        match instruction:
            case ins.Post(_, terms, orders):
                return apply_post(world.market, call, 0, terms, encode_post_page(orders), True)[1]
            case ins.ProveBeacon(_, batch_id, header):
                return world.market.apply_prove_beacon(call, batch_id, header)
            case ins.Expire(_, batch_id):
                return world.market.apply_expire(call, batch_id)
            case ins.AdvanceEra(_, class_id):
                return world.registry.apply_advance_era(call, class_id, *world.registry.medians(class_id))
            case ins.Judge(_, operator_id):
                return world.registry.apply_judge(call, OperatorId(operator_id))
            case ins.Rejoin():
                return world.registry.apply_rejoin(call)
            case ins.Commit(_, batch_id, first, end, lists):
                return apply_commit(world.market, call, batch_id, first, end, lists)
            case ins.CommitOwn(_, batch_id, end, group):
                lists = encode_commit_lists([self._signer(call).sign_list(group)])
                return apply_commit(world.market, call, batch_id, 0, end, lists)
            case ins.Reveal(_, batch_id, plan):
                return apply_reveal(world.market, call, batch_id, plan.commit_pages, plan.votes, plan.openings)
            case ins.Settle(_, batch_id, settlement):
                return apply_settle(world.market, call, batch_id, settlement)
            case ins.Extend(_, signed, proof):
                extension = Extension(signed.rounds, signed.bundles, proof, signed.signature)
                return apply_extend(world.market, call, signed.batch_id, extension)
            case ins.ProveAudit(_, batch_id, header):
                return apply_prove_audit(world.market, call, batch_id, header)
            case ins.Audit(_, batch_id, bundle, auditor, vote, domain, proof):
                signature = self._signer(call).sign_audit(domain, bundle, vote)
                return world.challenges.apply_audit(call, batch_id, proof, bundle, auditor, vote, signature)
            case ins.Challenge(_, batch_id, proof, bundle, task, leaf, bond):
                paid = replace(call, value=bond)
                return world.challenges.apply_challenge(paid, batch_id, proof, bundle, task, leaf)
        return self._apply_to_disputes(call, instruction)

    def _apply_to_disputes(self, call: Call, instruction: Any) -> list[ev.Event]:
        disputes = self.world.disputes
        match instruction:
            case ins.Publish(_, dispute_id, record, leaves):
                return disputes.apply_publish(call, dispute_id, record, b"".join(leaves))
            case ins.Ask(_, dispute_id, record, joined):
                return disputes.apply_ask(call, dispute_id, record, joined)
            case ins.CommitVotes(_, dispute_id, record, question, lists):
                return disputes.apply_commit_votes(call, dispute_id, record, question, lists)
            case ins.CommitOwnVote(_, group, record, question):
                lists = encode_vote_lists([self._signer(call).sign_vote(group)])
                return disputes.apply_commit_votes(call, group.subject, record, question, lists)
            case ins.RevealVotes(_, dispute_id, record, question, plan):
                return disputes.apply_reveal_votes(
                    call, dispute_id, record, question, plan.commit_pages, plan.votes, plan.openings
                )
            case ins.SettleVotes(_, dispute_id, record, question, plan):
                return disputes.apply_settle_votes(
                    call, dispute_id, record, question, plan.cast, plan.commit_pages, plan.votes, plan.openings,
                    plan.rows,
                )  # fmt: skip
            case ins.Punish(_, dispute_id, record, tally, up_to):
                return disputes.apply_punish(call, dispute_id, record, tally, up_to)
        raise AssertionError(instruction)

    # nodes

    def leaves_of(self, execute: ins.Execute) -> tuple[bytes, ...]:
        """What an honest execution of the whole bundle gives."""
        tasks = tasks_of_bundle(execute.order.task_count, execute.job_bundle)
        return tuple(keccak(execute.order.spec_hash + task.to_bytes(4, "big")) for task in tasks)

    def _perform(self, node: Node, instruction: Any) -> None:
        if isinstance(instruction, ins.Transaction):
            self.queue.append((node, instruction))
            return
        match instruction:
            case ins.ReadAuditHeader(batch_id, block):
                node.pending.append(st.AuditHeaderRead(batch_id, make_header(block, self.fork)))
            case ins.ReadHeader(batch_id, round_, block):
                node.pending.append(st.HeaderRead(batch_id, round_, make_header(block, self.fork)))
            case ins.Execute():
                node.pending.append(self._execute(node, instruction))
            case ins.AskLeaves(root, operators):
                self._find_leaves(node, root, operators)
            case ins.JournalCommit():
                self._journal(node, instruction)
            case ins.SendCommitments(group, collator):
                commit_list = node.signer.sign_list(group)
                self._deliver(
                    node, collator, (),
                    lambda s: mailroom.check_commit_list(s, group.subject, group.round, commit_list, recover),
                )  # fmt: skip
            case ins.SendOpenings(batch_id, round_, domain, openings, collator, operators):
                taken = self._deliver(
                    node, collator, operators, lambda s: mailroom.check_openings(s, batch_id, round_, openings)
                )
                if collator in taken:
                    node.pending.append(st.OpeningsAcknowledged(domain, tuple(seat for seat, _ in openings)))
            case ins.SendVote(group, collator, operators):
                vote = node.signer.sign_vote(group)
                node.pending.append(st.VoteReceived(group.subject, vote))
                self._deliver(node, collator, operators, lambda s: mailroom.check_vote(s, group.subject, vote, recover))
            case ins.SendVoteOpening(dispute_id, member, opening, collator, operators):
                self._deliver(
                    node, collator, operators,
                    lambda s: mailroom.check_vote_opening(s, dispute_id, member, opening),
                )  # fmt: skip

    def _execute(self, node: Node, execute: ins.Execute) -> st.Stimulus:
        if node.failure is not None:
            may_help = node.failure is not AbstainReason.RESOURCES
            return st.BundleFailed(execute.key, "this host cannot", may_help, node.failure)
        leaves = self.leaves_of(execute)
        if execute.tasks:
            asked = tuple(leaf if i in execute.tasks else b"" for i, leaf in enumerate(leaves))
            return st.BundleExecuted(execute.key, None, asked)
        return st.BundleExecuted(execute.key, Vote(compute_merkle_root(leaves)), leaves)

    def _find_leaves(self, node: Node, root: Vote, operators: tuple[int, ...]) -> None:
        for other in (self.nodes[operator_id - 1] for operator_id in operators):
            for secret in (s for group in other.journal for s in group.secrets):
                if secret.vote == root and compute_merkle_root(secret.leaves) == root and other.is_up:
                    node.pending.append(st.LeavesFound(root, secret.leaves))
                    return

    def _journal(self, node: Node, draft: ins.JournalCommit) -> None:
        if node.is_full:
            node.pending.append(st.JournalFailed(draft.domain, "no room for the journal"))
            return
        group = node.signer.seal(draft)
        known = {s.statement: s for g in node.journal for s in g.secrets}
        assert all(s.vote == known.get(s.statement, s).vote for s in group.secrets), "two votes on one statement"
        node.journal.append(group)
        node.pending.append(st.GroupJournaled(group))

    def _signer(self, call: Call) -> Signer:
        return next(node.signer for node in self.nodes if node.key.address == call.sender)

    def _deliver(self, node: Node, to: Address, operators: tuple[int, ...], check: Check) -> set[Address]:
        """Who took it."""
        targets = {n.index for n in self.nodes if n.key.address == to} | {each - 1 for each in operators}
        taken = set()
        for index in targets:
            receiver = self.nodes[index]
            if node.is_mute or receiver.is_deaf or not receiver.is_up:
                continue
            try:
                receiver.pending.append(check(receiver.core.state))
                taken.add(receiver.key.address)
            except MessageRefused as error:
                node.refusals.append(error.code)
        return taken

    def found(self, kind: type[ev.Event]) -> list[Any]:
        return [event for _, event in self.events if isinstance(event, kind)]
