"""A job's steps from events: posting, skips, fresh rounds, disputes, and what others try."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from quorate.chain.account import SigningAccount
from quorate.chain.gateway import ChainGateway
from quorate.chain.types import LoggedEvent
from quorate.progress import JobStage
from quorate.protocol import events
from quorate.protocol.dispute_pages import encode_dispute_record
from quorate.protocol.encoding import (
    compute_domain_separator,
    compute_job_id,
    encode_carry_page,
    encode_commit_lists,
    encode_openings,
    encode_outcomes,
    encode_post_page,
    encode_record_page,
    encode_votes,
)
from quorate.protocol.events import Event
from quorate.protocol.hashing import keccak
from quorate.protocol.openings import decode_settled
from quorate.protocol.planning import Settlement
from quorate.protocol.types import (
    ZERO32,
    AbstainReason,
    Address,
    BatchId,
    CarryRecord,
    CommitItem,
    CommitList,
    DisputeKind,
    DisputeRecord,
    JobOrder,
    Opening,
    OrderSkip,
    OutcomeRow,
    PostRecord,
    SignedOrder,
    Verdict,
    Vote,
)
from quorate.protocol.verdict import Conduct, TallyRow
from quorate.receipts import find_votes
from quorate.tracking import JobTracker

KEY = SigningAccount.from_key(bytes(range(1, 33)))
OTHER = SigningAccount.from_key(bytes(range(2, 34)))
SEPARATOR = compute_domain_separator(31337, Address(bytes(20)))
ORDER = JobOrder(KEY.address, 0, 1, bytes(32), 1, 10**9, 100, 3, 2, 60, 0, 10**12, 0, 2**32)
BATCH = DISPUTE = 65536
GOOD, BAD = Vote(keccak(b"good")), Vote(keccak(b"bad"))


def sign(order: JobOrder, key: SigningAccount = KEY) -> SignedOrder:
    return SignedOrder(order, key.sign(compute_job_id(SEPARATOR, order)))


class Story:
    """Feeds events to a tracker, one block each."""

    def __init__(self, order: JobOrder = ORDER) -> None:
        self.tracker, self.block = JobTracker(sign(order)), 0

    def tell(self, *told: Event) -> list[JobStage]:
        self.block += 1
        steps = []
        for index, event in enumerate(told):
            steps += self.tracker.apply(LoggedEvent(event, self.block, keccak(bytes([self.block])), index))
        return [step.stage for step in steps]

    def post(self, *orders: SignedOrder, skips: bytes = b"", first: int = 0, batch: int = BATCH) -> list[JobStage]:
        opened = events.BatchOpened(batch, Address(bytes(20)), 1, 1, 3, 2, 60, 0)
        return self.tell(opened, events.PagePosted(batch, first, encode_post_page(orders), skips))

    def commit(self, *places: tuple[int, int, int], round_: int = 0, skips: bytes = b"") -> list[JobStage]:
        """Places are (member, bundle, seat), one list each."""
        lists = [CommitList(m, (CommitItem(b, s, keccak(bytes([m, b, s]))),), bytes(65)) for m, b, s in places]
        return self.tell(events.CommitPage(BATCH, round_, encode_commit_lists(lists), skips))

    def settle(self, *rows: tuple[int, Verdict, Vote], round_: int = 0, voters: tuple[int, ...] = ()) -> list[JobStage]:
        body = encode_outcomes([OutcomeRow(bundle, verdict, vote, 0, voters) for bundle, verdict, vote in rows])
        return self.tell(events.BundlesSettled(BATCH, round_, body))


def skip(index: int, reason: OrderSkip) -> bytes:
    return index.to_bytes(2, "big") + bytes((reason,))


def test_the_happy_path() -> None:
    story = Story()
    assert story.post(sign(ORDER)) == [JobStage.POSTED]
    assert story.tell(events.RoundStarted(BATCH, 0, bytes(32))) == [JobStage.ASSIGNED]
    assert story.commit((5, 0, 0), (7, 0, 2)) == []
    assert story.commit((6, 0, 1)) == [JobStage.COMMITTED]
    assert story.settle((0, Verdict.ACCEPTED, GOOD), voters=(5, 6, 7)) == [JobStage.REVEALED, JobStage.ACCEPTED]
    assert story.tell(events.BatchSettled(BATCH, 99)) == []
    bundle = story.tracker.bundles[0]
    assert (bundle.vote, story.tracker.final_at) == (GOOD, 99)
    assert [(s.seat, s.member, s.vote) for s in bundle.seats] == [(0, 5, GOOD), (1, 6, GOOD), (2, 7, GOOD)]
    assert [step.block for step in story.tracker.history] == [1, 2, 4, 5, 5]


def test_bundle_numbers_count_only_what_was_accepted_before() -> None:
    story = Story()
    big = replace(ORDER, requester=OTHER.address, task_count=300)
    skipped = replace(big, nonce=1)
    story.post(sign(big, OTHER), sign(skipped, OTHER), sign(ORDER), skips=skip(1, OrderSkip.DEPOSIT), first=10)
    assert list(story.tracker.bundles) == [12]


def test_a_skip_is_told_with_its_reason() -> None:
    story = Story()
    assert story.post(sign(ORDER), skips=skip(0, OrderSkip.DEPOSIT)) == [JobStage.SKIPPED]
    assert "DEPOSIT" in story.tracker.history[-1].detail


def test_an_order_that_was_skipped_for_capacity_may_come_again() -> None:
    story = Story()
    assert story.post(sign(ORDER), skips=skip(0, OrderSkip.CAPACITY)) == [JobStage.SKIPPED]
    assert story.post(sign(ORDER), batch=BATCH + 1) == [JobStage.POSTED]


def test_a_second_collator_cannot_make_a_posted_job_look_skipped() -> None:
    story = Story()
    story.post(sign(ORDER))
    assert story.post(sign(ORDER), skips=skip(0, OrderSkip.NONCE), batch=BATCH + 1) == []
    assert story.tracker.stage is JobStage.POSTED


def test_a_page_with_a_broken_signature_says_nothing_about_our_order() -> None:
    story = Story()
    rubbish = SignedOrder(ORDER, bytes(65))
    assert story.post(rubbish, skips=skip(0, OrderSkip.SIGNATURE)) == []
    assert story.post(sign(ORDER), batch=BATCH + 1) == [JobStage.POSTED]


def test_an_altered_copy_is_another_job() -> None:
    story = Story()
    assert story.post(sign(replace(ORDER, max_price=10**13))) == []
    assert story.tracker.batch is None


def test_a_silent_seat_brings_a_fresh_round_and_votes_stand() -> None:
    story = Story()
    story.post(sign(ORDER))
    story.tell(events.RoundStarted(BATCH, 0, bytes(32)))
    assert story.commit((1, 0, 0), (2, 0, 1)) == []
    page = encode_carry_page([CarryRecord(0, KEY.address, 1, 1, 0, 9, vote=GOOD, voters=(1, 2))])
    assert story.settle((0, Verdict.CARRIED, Vote(ZERO32))) == [JobStage.CARRIED]
    assert story.tell(events.BundlesCarried(BATCH, 0, page)) == []
    assert story.tell(events.RoundAwaited(BATCH, 1, 9), events.RoundStarted(BATCH, 1, bytes(32))) == [JobStage.ASSIGNED]
    story.commit((3, 0, 0), (4, 0, 1), (5, 0, 2), round_=1)
    assert story.settle((0, Verdict.ACCEPTED, GOOD), round_=1, voters=(1, 2, 3, 4, 5))[-1] is JobStage.ACCEPTED
    assert sorted(s.member for s in story.tracker.bundles[0].seats) == [1, 2, 3, 4, 5]
    assert story.tracker.round == 1


def make_record(kind: DisputeKind, votes: tuple[tuple[int, Vote], ...]) -> DisputeRecord:
    nobody = Address(bytes(20))
    return DisputeRecord(
        kind, BatchId(BATCH), 0, 1, KEY.address, 1, 0, 9, 0, 0, OTHER.address, 1, 1, nobody, 0, ZERO32, 0, votes
    )


def decide(verdict: Verdict, root: Vote, conducts: list[Conduct]) -> events.DisputeDecided:
    tally = bytes(TallyRow(0, conduct).encode() for conduct in conducts)
    return events.DisputeDecided(DISPUTE, BATCH, 0, verdict, root, GOOD, tally)


def test_a_conflict_names_votes_liars_and_their_slashes() -> None:
    story = Story()
    story.post(sign(ORDER))
    story.tell(events.RoundStarted(BATCH, 0, bytes(32)))
    story.commit((1, 0, 0), (2, 0, 1), (3, 0, 2))
    votes = ((1, GOOD), (2, BAD), (3, GOOD))
    record = encode_dispute_record(make_record(DisputeKind.CONFLICT, votes))
    opened = events.DisputeOpened(DISPUTE, BATCH, 0, record)
    assert story.tell(opened) == []
    assert story.settle((0, Verdict.DISPUTED, Vote(ZERO32))) == [JobStage.REVEALED, JobStage.DISPUTED]
    assert [(s.seat, s.member, s.vote) for s in story.tracker.bundles[0].seats] == [
        (0, 1, GOOD),
        (1, 2, BAD),
        (2, 3, GOOD),
    ]
    story.tell(events.OperatorSlashed(9, 5, False))  # somebody else's
    decided = decide(Verdict.ACCEPTED, GOOD, [Conduct.RIGHT, Conduct.NOTHING, Conduct.WRONG, Conduct.NOTHING])
    row = encode_outcomes([OutcomeRow(0, Verdict.ACCEPTED, GOOD, 0, (1, 3))])
    steps = story.tell(decided, events.BundlesSettled(BATCH, 0, row), events.OperatorSlashed(3, 10**18, True))
    assert steps == [JobStage.ACCEPTED]
    assert [(s.operator_id, s.amount, s.ejected) for s in story.tracker.slashes] == [(3, 10**18, True)]
    assert story.tracker.bundles[0].wrong == {2}
    assert [seat.vote for seat in story.tracker.bundles[0].seats] == [GOOD, BAD, GOOD]
    story.tell(events.BatchSettled(BATCH, 99))
    assert not story.tracker.is_final(100), "a dispute of the batch is open"
    story.tell(events.DisputeSettled(DISPUTE, BATCH, 0))
    assert story.tracker.is_final(100)
    assert not story.tracker.is_final(98)


def accepted() -> Story:
    story = Story()
    story.post(sign(ORDER))
    story.tell(events.RoundStarted(BATCH, 0, bytes(32)))
    story.commit((1, 0, 0), (2, 0, 1), (3, 0, 2))
    story.settle((0, Verdict.ACCEPTED, BAD), voters=(1, 2, 3))
    story.tell(events.BatchSettled(BATCH, 99))
    record = encode_dispute_record(make_record(DisputeKind.CHALLENGE, ((1, BAD), (2, BAD), (3, BAD))))
    assert story.tell(events.DisputeOpened(DISPUTE, BATCH, 0, record)) == [JobStage.DISPUTED]
    return story


def test_an_upheld_challenge_makes_an_accepted_job_void() -> None:
    story = accepted()
    assert story.tell(decide(Verdict.VOID, Vote(ZERO32), [Conduct.RIGHT, *[Conduct.WRONG_TOGETHER] * 3])) == [
        JobStage.VOID
    ]
    assert "found the accepted result wrong" in story.tracker.history[-1].detail
    assert story.tracker.extendable == ()


def test_a_challenge_that_fails_leaves_the_job_accepted() -> None:
    story = accepted()
    assert story.tell(decide(Verdict.ACCEPTED, BAD, [Conduct.RIGHT] * 4)) == [JobStage.ACCEPTED]
    story.tell(events.DisputeSettled(DISPUTE, BATCH, 0))
    assert story.tracker.is_final(99)


def test_abstentions_are_the_reason_of_a_void_job() -> None:
    story = Story()
    story.post(sign(ORDER))
    story.tell(events.RoundStarted(BATCH, 0, bytes(32)))
    items = [CommitItem(0, seat, AbstainReason.NO_DATA.to_bytes(32, "big")) for seat in range(3)]
    lists = [CommitList(member, (item,), bytes(65)) for member, item in enumerate(items)]
    story.tell(events.CommitPage(BATCH, 0, encode_commit_lists(lists), b""))
    assert story.settle((0, Verdict.VOID, Vote(ZERO32))) == [JobStage.VOID]
    assert "NO_DATA x 3" in story.tracker.history[-1].detail


def test_a_void_job_with_standing_votes_is_extended_and_goes_on() -> None:
    story = Story()
    story.post(sign(ORDER))
    story.settle((0, Verdict.VOID, GOOD), voters=(1,))
    story.tell(events.BatchSettled(BATCH, 99))
    assert story.tracker.extendable == (0,)
    assert "quorate job extend" in story.tracker.history[-1].detail
    page = encode_carry_page([CarryRecord(0, KEY.address, 1, 1, 0, 4, vote=GOOD, voters=(1,))])
    steps = story.tell(
        events.BatchExtended(BATCH, OTHER.address, 3),
        events.BundlesCarried(BATCH, 3, page),
        events.RoundAwaited(BATCH, 3, 9),
    )
    assert steps == [JobStage.EXTENDED]
    assert story.tracker.final_at is None
    story.tell(events.RoundStarted(BATCH, 3, bytes(32)))
    story.commit((2, 0, 0), (3, 0, 1), (4, 0, 2), round_=3)
    assert story.settle((0, Verdict.ACCEPTED, GOOD), round_=3, voters=(1, 2, 3, 4))[-1] is JobStage.ACCEPTED


def test_void_says_why() -> None:
    story = Story()
    story.post(sign(ORDER))
    assert story.settle((0, Verdict.VOID, Vote(ZERO32))) == [JobStage.VOID]
    assert "deposit is back" in story.tracker.history[-1].detail


def test_an_abandoned_batch_is_called_so() -> None:
    story = Story()
    story.post(sign(ORDER))
    story.tell(events.BatchVoided(BATCH))
    story.settle((0, Verdict.VOID, Vote(ZERO32)))
    assert "abandoned" in story.tracker.history[-1].detail


def test_a_job_of_many_bundles_ends_with_its_last_one() -> None:
    order = replace(ORDER, task_count=600)
    story = Story(order)
    story.post(sign(order))
    assert list(story.tracker.bundles) == [0, 1, 2]
    assert story.settle((0, Verdict.ACCEPTED, GOOD), (2, Verdict.ACCEPTED, GOOD)) == [JobStage.REVEALED]
    assert story.settle((1, Verdict.ACCEPTED, BAD)) == [JobStage.REVEALED, JobStage.ACCEPTED]


def test_other_batches_do_not_matter() -> None:
    story = Story()
    story.post(sign(ORDER))
    other = BATCH + 1
    body = encode_outcomes([OutcomeRow(0, Verdict.ACCEPTED, GOOD, 0, ())])
    told = story.tell(
        events.RoundStarted(other, 0, bytes(32)), events.BundlesSettled(other, 0, body), events.BatchSettled(other, 1)
    )
    assert told == []
    assert not story.tracker.bundles[0].is_decided


def extended_after_conviction() -> Story:
    """A lie was accepted, its committee convicted elsewhere; a fresh one finds the truth while the lie is doubted."""
    story = accepted()
    page = encode_carry_page([CarryRecord(0, KEY.address, 1, 1, 0, 3)])
    story.tell(
        events.BatchExtended(BATCH, OTHER.address, 1),
        events.BundlesCarried(BATCH, 1, page),
        events.RoundAwaited(BATCH, 1, 9),
    )
    story.tell(events.RoundStarted(BATCH, 1, bytes(32)))
    story.commit((4, 0, 0), (5, 0, 1), (6, 0, 2), round_=1)
    story.settle((0, Verdict.ACCEPTED, GOOD), round_=1, voters=(4, 5, 6))
    story.tell(events.BatchSettled(BATCH, 99))
    return story


def test_a_failed_challenge_of_a_struck_outcome_does_not_bring_the_lie_back() -> None:
    """Its class vote was about one task, in which the lie is right."""
    story = extended_after_conviction()
    story.tell(decide(Verdict.ACCEPTED, BAD, [Conduct.RIGHT] * 7), events.DisputeSettled(DISPUTE, BATCH, 0))
    assert story.tracker.bundles[0].vote == GOOD
    assert story.tracker.is_final(99)


def test_an_upheld_challenge_of_a_struck_outcome_leaves_the_fresh_one() -> None:
    story = extended_after_conviction()
    story.tell(
        decide(Verdict.VOID, Vote(ZERO32), [Conduct.RIGHT, *[Conduct.WRONG_TOGETHER] * 3]),
        events.DisputeSettled(DISPUTE, BATCH, 0),
    )
    assert story.tracker.stage is JobStage.ACCEPTED
    assert story.tracker.bundles[0].vote == GOOD


def test_challenges_that_fail_later_do_not_undo_a_reversal() -> None:
    """A liar doubts tasks of its own result in which it was right, while another is found wrong."""
    story = accepted()
    record = encode_dispute_record(make_record(DisputeKind.CHALLENGE, ((1, BAD), (2, BAD), (3, BAD))))
    others = (DISPUTE + 1, DISPUTE + 2)
    story.tell(*(events.DisputeOpened(other, BATCH, 0, record) for other in others))
    story.tell(decide(Verdict.VOID, Vote(ZERO32), [Conduct.RIGHT, *[Conduct.WRONG_TOGETHER] * 3]))
    for other in others:
        story.tell(replace(decide(Verdict.ACCEPTED, BAD, [Conduct.RIGHT] * 4), dispute_id=other))
    story.tell(*(events.DisputeSettled(each, BATCH, 0) for each in (DISPUTE, *others)))
    assert story.tracker.stage is JobStage.VOID
    assert not story.tracker.is_final(99)
    assert story.tracker.bundles[0].vote is None


class Settled:
    """A chain that knows what a transaction gave `settle`."""

    def __init__(self, sent: Settlement | None) -> None:
        self.sent, self.asked = sent, 0

    def settlement(self, transaction: bytes) -> Settlement | None:
        assert transaction == keccak(bytes([4])), "the one that settled"
        self.asked += 1
        return self.sent


def settle_openly(*votes: Vote | None, page: bytes) -> Settlement:
    """Seats 0, 1, … of the members 5, 6, … with these votes, None for one that stays closed."""
    listed = sorted({vote for vote in votes if vote})
    lists = [
        (5 + seat, [(CommitItem(0, seat, bytes(32)), Opening(vote, bytes(16)) if vote else None)])
        for seat, vote in enumerate(votes)
    ]
    return Settlement(ZERO32, page, votes=encode_votes([listed]), openings=encode_openings([(0, lists)], {0: listed}))


RECORD_PAGE = encode_record_page(ZERO32, 0, [[PostRecord(KEY.address, 1, 1, 0)]])


def commit_all() -> Story:
    story = Story()
    story.post(sign(ORDER))
    story.tell(events.RoundStarted(BATCH, 0, bytes(32)))
    story.commit((5, 0, 0), (6, 0, 1), (7, 0, 2))
    return story


def ask(story: Story, sent: Settlement | None) -> tuple[dict[int, Vote], int]:
    chain = Settled(sent)
    find_votes(cast(ChainGateway, chain), story.tracker)
    return story.tracker.bundles[0].shown, chain.asked


def test_votes_that_no_event_tells_are_read_from_what_settled() -> None:
    story = commit_all()
    story.settle((0, Verdict.VOID, Vote(ZERO32)))
    sent = settle_openly(GOOD, BAD, None, page=RECORD_PAGE)
    assert ask(story, None) == ({}, 1), "another contract called"
    assert ask(story, replace(sent, votes=b"\x09")) == ({}, 1), "it makes no sense"
    assert ask(story, replace(sent, votes=encode_votes([[GOOD]]))) == ({}, 1), "a vote that is not listed"
    assert ask(story, sent) == ({0: GOOD, 1: BAD}, 1)
    story = commit_all()
    story.settle((0, Verdict.ACCEPTED, GOOD), voters=(5, 6, 7))
    assert ask(story, sent) == ({}, 0), "its row tells them"


def test_openings_that_were_shown_directly_are_known() -> None:
    story = commit_all()
    sent = settle_openly(GOOD, BAD, None, page=RECORD_PAGE)
    story.tell(events.OpeningsRevealed(BATCH + 1, 0, sent.votes, sent.openings))
    assert ask(story, sent) == ({}, 0), "of another batch, and nothing is settled"
    story.tell(events.OpeningsRevealed(BATCH, 0, sent.votes, sent.openings))
    assert ask(story, sent) == ({0: GOOD, 1: BAD}, 0)


def test_votes_of_a_later_round_are_found_by_its_carry_page() -> None:
    record = CarryRecord(0, KEY.address, 1, 1, 0, 9)
    sent = settle_openly(GOOD, BAD, page=encode_carry_page([record]))
    found = decode_settled(1, sent.page, sent.votes, sent.openings)
    assert {place: opening.vote for place, opening in found.items()} == {(0, 0): GOOD, (0, 1): BAD}
