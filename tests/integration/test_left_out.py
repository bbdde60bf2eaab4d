"""Who is left out by a collator, and who is away while its class votes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.network import (
    PATIENCE_S,
    Books,
    Chain,
    check_the_end,
    expect,
    find_events,
    find_logged,
    lying_farm,
    requester,
    run_to_dispute,
    three_farms,
    wait_for,
)

from quorate.devnet.devnet import Devnet
from quorate.jobs import JobRecord
from quorate.progress import JobStage
from quorate.protocol import events
from quorate.protocol.params import LOCAL
from quorate.protocol.types import FineKind

pytestmark = [pytest.mark.anvil, pytest.mark.slow]


def test_lists_go_past_a_collator_that_loses_them(tmp_path: Path) -> None:
    victims = set(range(4, 7))
    censor = [sys.executable, "-m", "tests.adversarial.censoring_node", "--victims", "4-6"]
    params = replace(LOCAL, direct_period=12)  # of the usual 4 s a busy machine leaves them 3, or none
    with three_farms(tmp_path, 3, {0: censor}, params=params) as devnet, requester(devnet, tmp_path) as people:
        stakes = [Books(devnet).stake_of([operator]) for operator in range(1, 10)]
        for _ in range(20):
            job = people.submit(commit_period=4)
            assert people.client.wait(job, timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
            described = people.client.describe(job)
            if left_out := victims & {seat["operator"] for seat in described["seats"]}:
                break
        assert left_out
        senders = find_senders(devnet, job)
        accounts = {m.account.address: m.operator_id for node in devnet.nodes for m in node.operators}
        assert left_out <= {accounts[sender] for sender in senders}, "each brought its own list to the chain"
        check_the_end(devnet)
        assert not find_events(devnet, events.OperatorFined)
        after = [Books(devnet).stake_of([operator]) for operator in range(1, 10)]
        assert all(new >= old for old, new in zip(stakes, after, strict=True))


def find_senders(devnet: Devnet, job: JobRecord) -> list[bytes]:
    """Who sent the commit pages since a job was signed."""
    pages = find_logged(devnet, events.CommitPage, job.from_block)
    sent = [devnet.gateway.rpc.call("eth_getTransactionByHash", f"0x{each.transaction.hex()}") for each, _ in pages]
    return [bytes.fromhex(each["from"][2:]) for each in sent]


def test_who_was_away_votes_in_a_later_window(tmp_path: Path) -> None:
    """A third of the class lies, a third dies when it is asked: no majority before that third is back."""
    # Who is there has half of the reveal period to bring its opening to the chain, if nobody settles with it.
    params = replace(LOCAL, publish_period=4, vote_commit_period=8, vote_reveal_period=8, audit_bps=0)
    dying = [sys.executable, "-m", "tests.adversarial.crashing_node", "--before", "class-vote"]
    commands = {1: dying, 2: lying_farm("7-9", "always_lie")}
    with three_farms(tmp_path, 3, commands, params=params) as devnet, requester(devnet, tmp_path) as people:
        job, start = run_to_dispute(devnet, people)
        expect(devnet, events.QuestionAsked, start)
        assert wait_for(lambda: devnet.nodes[1].running.exit_reason() is not None), "it was asked, too"
        asked = devnet.gateway.block(find_logged(devnet, events.QuestionAsked, start)[0][0].block_number).timestamp
        assert wait_for(lambda: Chain(devnet).head().timestamp >= asked + params.vote_commit_period)
        devnet.restart_node(1)
        expect(devnet, events.VoteWindowOpened, start)
        assert people.client.wait(job, timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED, "the honest result stands"
        expect(devnet, events.DisputeSettled, start)
        assert {event.operator_id for event in find_events(devnet, events.OperatorSlashed, start)} <= {7, 8, 9}
        assert people.client.describe(job)["slashes"]
        absent = {event.operator_id for event in find_events(devnet, events.OperatorFined, start)}
        assert absent == {4, 5, 6}
        assert {event.kind for event in find_events(devnet, events.OperatorFined, start)} == {FineKind.ABSENT}
        assert people.client.fetch_result(job, tmp_path / "out").results[0].exit_code == 0
        check_the_end(devnet)
