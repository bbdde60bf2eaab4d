"""What every test shares: where the project lies, and the settings of hypothesis."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests import kubo as daemons

from quorate.storage.kubo import KuboStore

ROOT = Path(__file__).resolve().parents[1]

# Chains and two busy cores make single examples slow now and then; that is no failure.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Tests that start processes may take longer than the common limit in pyproject.toml.
TIMEOUTS_SECONDS = {"differential": 300, "integration": 300, "e2e": 600, "browser": 600}


def pytest_configure() -> None:
    # A shell starts background jobs with SIGINT ignored, and children inherit that; with a handler of ours they do not,
    # so that tests which interrupt a child hold however they were started.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        if folder in TIMEOUTS_SECONDS and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUTS_SECONDS[folder]))


@pytest.fixture(scope="session")
def kubo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[daemons.Kubo]:
    """One daemon for all tests of this process."""
    if daemons.BINARY is None:
        pytest.skip(daemons.WHY_NOT)
    with daemons.Kubo(tmp_path_factory.mktemp("kubo")) as daemon:
        yield daemon


@pytest.fixture
def in_kubo(kubo: daemons.Kubo) -> Iterator[KuboStore]:
    """A store in that daemon, which is empty at the beginning."""
    store = KuboStore(kubo.url)
    yield store
    store.close()
    kubo.empty()
