"""How many operators a home holds: told once, by any command, and remembered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quorate.protocol.errors import ConfigurationError
from quorate_node.config import CONFIG_FILE, load_config


def _write(home: Path, **more: object) -> None:
    values = {"rpc_url": "http://127.0.0.1:1", "deployment": "d.json", "keystore": "k.json", **more}
    (home / CONFIG_FILE).write_text(json.dumps(values))


def test_a_number_of_operators_is_remembered(tmp_path: Path) -> None:
    _write(tmp_path)
    assert load_config(tmp_path).operators == 1
    assert load_config(tmp_path, 20).operators == 20
    assert load_config(tmp_path).operators == 20


@pytest.mark.parametrize(("operators", "owner"), [(0, None), (2, "0x" + "11" * 20)])
def test_a_refused_number_changes_nothing(tmp_path: Path, operators: int, owner: str | None) -> None:
    _write(tmp_path, **({"owner": owner} if owner else {}))
    before = (tmp_path / CONFIG_FILE).read_bytes()
    with pytest.raises(ConfigurationError):
        load_config(tmp_path, operators)
    assert (tmp_path / CONFIG_FILE).read_bytes() == before
