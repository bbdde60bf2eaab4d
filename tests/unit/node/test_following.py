"""A node that runs hears of the classes that its operator joins or leaves: no restart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.node.simulation import Network0

from quorate.protocol.errors import ConfigurationError
from quorate.protocol.profiles import Description
from quorate_node.config import change_config, load_config
from quorate_node.core.stimuli import ClassesChosen
from quorate_node.core.work import refuse_class
from quorate_node.following import ConfigFollower, choose_classes

SETTINGS = {"rpc_url": "http://127.0.0.1:1", "deployment": "d.json", "keystore": "k.json"}
DOCKER = Description("quorate-docker-1", image=f"sha256:{'a' * 64}")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(SETTINGS))
    return tmp_path


def test_what_is_joined_is_heard_of_once(home: Path) -> None:
    follower = ConfigFollower(load_config(home))
    assert follower.poll() is None
    chosen = choose_classes(change_config(home, classes=[1, 2], profiles=[str(DOCKER)]))
    assert chosen.classes == (1, 2)
    assert DOCKER.digest in chosen.profiles
    assert follower.poll() == chosen
    assert follower.poll() is None
    change_config(home, fee_wei=7)  # another setting, which waits for the next start
    assert follower.poll() is None
    change_config(home, classes=None, profiles=None)
    assert follower.poll() == choose_classes(load_config(home))


def test_a_configuration_that_is_wrong_or_gone_changes_nothing(home: Path) -> None:
    follower = ConfigFollower(load_config(home))
    (home / "config.json").write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        follower.poll()
    assert follower.poll() is None, "told once"
    (home / "config.json").unlink()
    assert follower.poll() is None
    (home / "config.json").write_text(json.dumps(SETTINGS | {"classes": [1, 3]}))
    chosen = follower.poll()
    assert chosen is not None
    assert chosen.classes == (1, 3)


def test_a_mind_takes_work_of_the_classes_chosen_meanwhile() -> None:
    net = Network0()
    net.run(2)
    core = net.nodes[2].core
    assert refuse_class(core.state, 1) is None
    kept = core.state.settings
    core.handle(ClassesChosen((), frozenset({DOCKER.digest})))
    refusal = refuse_class(core.state, 1)
    assert refusal is not None
    assert "does not run" in refusal[1]
    core.handle(ClassesChosen(kept.classes, kept.profiles))
    assert refuse_class(core.state, 1) is None
    assert core.state.settings == kept, "all else stays"
