"""Statuses, confidence, partition, prices: the small rules."""

from __future__ import annotations

import itertools

import pytest

from quorate.protocol.classes import Membership, compute_median_ask, compute_median_capacity, compute_next_price
from quorate.protocol.confidence import compute_least_seats, compute_least_seats_in_network
from quorate.protocol.errors import InvalidTransition, ValidationError
from quorate.protocol.job import (
    BATCH_TRANSITIONS,
    BUNDLE_TRANSITIONS,
    JOB_TRANSITIONS,
    BatchStatus,
    BundleStatus,
    JobStatus,
    apply_transition,
    compute_job_status,
)
from quorate.protocol.market import NonceWindow
from quorate.protocol.partition import (
    compute_page_bundles,
    count_bundle_tasks,
    count_bundles,
    partition,
    tasks_of_bundle,
)


@pytest.mark.parametrize("table", [BATCH_TRANSITIONS, BUNDLE_TRANSITIONS, JOB_TRANSITIONS])
def test_every_unlisted_pair_is_refused_with_its_history(table: dict) -> None:  # type: ignore[type-arg]
    for current, wanted in itertools.product(table, table):
        if wanted in table[current]:
            assert apply_transition(table, "it", current, wanted) is wanted
        else:
            with pytest.raises(InvalidTransition, match="it went"):
                apply_transition(table, "it", current, wanted, [current])


def test_terminal_statuses_stay() -> None:
    assert not JOB_TRANSITIONS[JobStatus.FINAL]


def test_only_an_extension_leaves_what_is_settled() -> None:
    assert BATCH_TRANSITIONS[BatchStatus.SETTLED] == {BatchStatus.AWAITING}
    assert BUNDLE_TRANSITIONS[BundleStatus.VOID] == {BundleStatus.CARRIED}
    assert BUNDLE_TRANSITIONS[BundleStatus.ACCEPTED] == {BundleStatus.CARRIED, BundleStatus.VOID}


@pytest.mark.parametrize(
    ("bundles", "assigned", "is_final", "wanted"),
    [
        ([BundleStatus.PENDING], False, False, JobStatus.POSTED),
        ([BundleStatus.PENDING, BundleStatus.ACCEPTED], True, False, JobStatus.ASSIGNED),
        ([BundleStatus.CARRIED], False, False, JobStatus.POSTED),
        ([BundleStatus.DISPUTED, BundleStatus.ACCEPTED], True, False, JobStatus.DISPUTED),
        ([BundleStatus.ACCEPTED, BundleStatus.VOID], True, True, JobStatus.VOID),
        ([BundleStatus.ACCEPTED], True, False, JobStatus.ACCEPTED),
        ([BundleStatus.ACCEPTED], True, True, JobStatus.FINAL),
    ],
)
def test_a_job_is_what_its_bundles_are(
    bundles: list[BundleStatus], assigned: bool, is_final: bool, wanted: JobStatus
) -> None:
    assert compute_job_status(assigned, bundles, is_final) is wanted


@pytest.mark.parametrize(
    ("error", "seats"),
    [(1e-2, (2, 3, 5, 6, 7, 8)), (1e-3, (3, 4, 6, 8, 9, 12)), (1e-6, (5, 7, 11, 14, 17, 21))],
)
def test_least_seats_are_those_of_the_design(error: float, seats: tuple[int, ...]) -> None:
    shares = (0.05, 0.10, 0.25, 0.33, 0.40, 0.49)
    assert tuple(compute_least_seats(share, error) for share in shares) == seats


def test_the_adversary_may_sit_in_one_class() -> None:
    assert compute_least_seats_in_network(0.1, 1e-3, 2, 1000, 500) == compute_least_seats(0.2, 1e-3)
    with pytest.raises(ValidationError, match="no committee"):
        compute_least_seats_in_network(0.1, 1e-3, 2, 1000, 200)


def test_partition_takes_matching_paths_in_byte_order() -> None:
    tasks = partition(["b/2.tif", "a/1.tif", "c.txt", "Z.tif"], "*.tif", 2)
    assert [task.paths for task in tasks] == [("Z.tif", "a/1.tif"), ("b/2.tif",)]
    assert [task.index for task in tasks] == [0, 1]


@pytest.mark.parametrize(("entries", "pattern", "size"), [(["a"], "*.b", 1), (["a", "a"], "*", 1), (["a"], "*", 0)])
def test_partition_refuses(entries: list[str], pattern: str, size: int) -> None:
    with pytest.raises(ValidationError):
        partition(entries, pattern, size)


@pytest.mark.parametrize(
    ("seats", "rounds", "most"), [(1, 0, 1024), (3, 2, 1024), (5, 2, 1024), (7, 2, 780), (85, 2, 64)]
)
def test_a_page_takes_fewer_bundles_the_more_places_each_has(seats: int, rounds: int, most: int) -> None:
    assert compute_page_bundles(seats, rounds) == most


@pytest.mark.parametrize(("tasks", "bundles"), [(1, 1), (256, 1), (257, 2), (1 << 20, 4096)])
def test_bundles_hold_all_tasks_once(tasks: int, bundles: int) -> None:
    assert count_bundles(tasks) == bundles
    assert sum(count_bundle_tasks(tasks, b) for b in range(bundles)) == tasks
    assert tasks_of_bundle(tasks, bundles - 1).stop == tasks


def test_the_median_counts_units() -> None:
    assert compute_median_ask([Membership(1, 10, 1), Membership(1, 20, 1)]) == 10
    assert compute_median_ask([Membership(1, 10, 1), Membership(3, 30, 1), Membership(1, 20, 1)]) == 30
    assert compute_median_ask([]) == 0


def test_the_median_capacity_is_that_of_a_unit() -> None:
    boaster = Membership(1, 10, (1 << 64) - 1)
    assert compute_median_capacity([boaster, Membership(2, 10, 9)]) == 4
    assert compute_median_capacity([]) == 0


@pytest.mark.parametrize(
    ("price", "median", "wanted"), [(100, 200, 110), (100, 105, 105), (5, 1, 4), (1, 9, 2), (7, 7, 7)]
)
def test_prices_move_by_a_tenth_at_most(price: int, median: int, wanted: int) -> None:
    assert compute_next_price(price, median) == wanted


def test_a_nonce_window_moves_and_forgets_nothing_above_its_base() -> None:
    window = NonceWindow()
    for nonce in (0, 3, 191):
        window.use(nonce)
    window.use(194)
    assert window.base == 3
    assert [n for n in range(196) if not window.is_used(n)] == [*range(4, 191), 192, 193, 195]
    window.use(10_000)
    assert window.is_used(9_808)
    assert not window.is_used(9_999)
