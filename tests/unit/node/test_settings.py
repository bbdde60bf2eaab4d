"""Configuration, keys, and the URLs that a node asks."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quorate.protocol.container import CONTAINER_CEILINGS as CONTAINERS
from quorate.protocol.container import ContainerLimits
from quorate.protocol.errors import ConfigurationError, DataError, ValidationError
from quorate.protocol.spec import CEILINGS, Limits
from quorate.spec import parse_limits
from quorate_node.cli.commands import _parse_ceilings, _parse_traffic
from quorate_node.config import build_config
from quorate_node.core import policy
from quorate_node.core.policy import DEFAULT_CEILINGS, DEFAULT_CONTAINER_CEILINGS, explain_excess
from quorate_node.keystore import create_key, open_key
from quorate_node.providers import check_url

MINIMAL = {"rpc_url": "http://127.0.0.1:1", "deployment": "d.json", "keystore": "k.json"}


class TestConfig:
    def test_paths_are_relative_to_the_home(self, tmp_path: Path) -> None:
        config = build_config(tmp_path, MINIMAL, "test")
        assert config.keystore == tmp_path / "k.json"
        assert config.url == "http://127.0.0.1:8200"

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            ({"listn": "x"}, "listn"),
            ({"listen": "nowhere"}, "HOST:PORT"),
            ({"workers": 0}, "workers"),
            ({"workers": "2"}, "workers"),
            ({"operators": 0}, "operators"),
            ({"operators": 2, "owner": "0x" + "11" * 20}, "owner"),
            ({"collator": 1}, "collator"),
            ({"classes": [0]}, "classes"),
            ({"rpc_url": ""}, "rpc_url"),
            ({"ceilings": 5}, "must be an object"),
            ({"ceilings": {"fuel": 5}}, "for fuel: max_fuel"),
            ({"ceilings": {"stack": 5}}, "unknown names: stack"),
            ({"ceilings": {"memory_bytes": "1"}}, "memory_bytes must be an integer"),
            ({"ceilings": {"memory_bytes": 1}}, "memory_bytes = 1 is out of range"),
            ({"ceilings": {"memory_bytes": 1 << 60}}, "out of range"),
            ({"container_ceilings": {"stack_bytes": 1 << 20}}, "container_ceilings has unknown names: stack_bytes"),
            ({"docker_host": "tcp://127.0.0.1:1"}, "docker_host must be unix://PATH"),
            ({"kubo": "127.0.0.1:5001"}, "kubo must be the API of a Kubo daemon, like http"),
            ({"docker_registries": "ghcr.io"}, "must be a list of texts"),
            ({"profiles": ["quorate-docker-1 image=latest"]}, "profiles: an image is named by its id"),
            ({"profiles": ["quorate-gpu-1"]}, "known kinds"),
            ({"serve_bytes_s": 100}, "serve_bytes_s must be at least 4096, or 0"),
            ({"fetch_bytes_s": 4095}, "fetch_bytes_s must be at least 4096, or 0"),
            ({"fetch_bytes_day": -1}, "fetch_bytes_day must be of type int"),
            ({"serve_bytes_day": "1G"}, "serve_bytes_day must be of type int"),
        ],
    )
    def test_a_wrong_setting_is_named(self, tmp_path: Path, change: dict[str, Any], word: str) -> None:
        with pytest.raises(ConfigurationError, match=word):
            build_config(tmp_path, MINIMAL | change, "test")

    def test_ceilings_are_the_protocols_where_none_is_set(self, tmp_path: Path) -> None:
        config = build_config(tmp_path, MINIMAL | {"ceilings": {"memory_bytes": 1 << 20}}, "test")
        assert config.ceilings == replace(DEFAULT_CEILINGS, memory_bytes=1 << 20)
        assert build_config(tmp_path, MINIMAL, "test").ceilings == DEFAULT_CEILINGS
        for usual in (Limits(), ContainerLimits()):
            assert explain_excess(usual, policy.Limits()) is None, "what is asked for unless told is never too much"

    def test_those_for_containers_are_apart(self, tmp_path: Path) -> None:
        settings = {"container_ceilings": {"memory_bytes": 8 << 20}, "docker_registries": ["ghcr.io"]}
        config = build_config(tmp_path, MINIMAL | settings | {"docker_host": "unix:///run/d", "workers": 3}, "test")
        assert config.ceilings == DEFAULT_CEILINGS
        assert config.container_ceilings == replace(DEFAULT_CONTAINER_CEILINGS, memory_bytes=8 << 20)
        docker = config.docker
        assert (docker.host, docker.registries, docker.workers) == ("unix:///run/d", ("ghcr.io",), 3)
        assert docker.scratch.parent == tmp_path

    def test_a_daemon_is_looked_for_where_docker_does(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = build_config(tmp_path, MINIMAL, "test")
        monkeypatch.delenv("DOCKER_HOST", raising=False)
        assert config.docker.host == "unix:///var/run/docker.sock"
        monkeypatch.setenv("DOCKER_HOST", "unix:///run/other")
        assert config.docker.host == "unix:///run/other"
        monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
        with pytest.raises(ConfigurationError, match="DOCKER_HOST must be unix://PATH"):
            _ = config.docker


@pytest.mark.parametrize(("table", "kind"), [(CEILINGS, Limits), (CONTAINERS, ContainerLimits)])
def test_a_spec_is_within_a_ceiling_or_above_it(
    table: dict[str, tuple[int, int]], kind: type[Limits | ContainerLimits]
) -> None:
    least = {name: bounds[0] for name, bounds in table.items()}
    field = "ceilings" if kind is Limits else "container_ceilings"
    within = kind(**least)
    for name in least.keys() - {"fuel"}:
        limits = replace(policy.Limits(), **{field: replace(getattr(policy.Limits(), field), **{name: least[name]})})
        assert explain_excess(within, limits) is None
        excess = explain_excess(replace(within, **{name: least[name] + 1}), limits)
        assert excess == f"limits.{name} = {least[name] + 1} is above this node's ceiling {least[name]}"


class TestKeystore:
    def test_a_key_comes_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        account = create_key(tmp_path / "key", b"secret", 4096)
        assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
        monkeypatch.setenv("QUORATE_PASSPHRASE", "secret")
        assert open_key(tmp_path / "key", None).key == account.key

    def test_a_wrong_passphrase_is_a_clear_error_without_it(self, tmp_path: Path) -> None:
        create_key(tmp_path / "key", b"secret", 4096)
        (tmp_path / "pass").write_text("hunter2\n")
        with pytest.raises(DataError, match="passphrase") as caught:
            open_key(tmp_path / "key", tmp_path / "pass")
        assert "hunter2" not in str(caught.value)

    def test_a_key_that_others_can_read_is_refused(self, tmp_path: Path) -> None:
        create_key(tmp_path / "key", b"secret", 4096)
        (tmp_path / "key").chmod(0o644)
        with pytest.raises(ConfigurationError, match="chmod 600"):
            open_key(tmp_path / "key", None)

    def test_a_key_is_never_overwritten(self, tmp_path: Path) -> None:
        create_key(tmp_path / "key", b"secret", 4096)
        with pytest.raises(ConfigurationError, match="exists"):
            create_key(tmp_path / "key", b"secret", 4096)


class TestProviders:
    @pytest.mark.parametrize(
        "url",
        [
            "http://10.0.0.1/", "http://192.168.1.1", "http://169.254.169.254/latest", "http://[::1]:80", "ftp://8.8.8.8",
            "http://user:pass@8.8.8.8", "file:///etc/passwd", "http://127.0.0.1:8545", "http://0.0.0.0", "http://",
            "http://[::ffff:127.0.0.1]/", "http://[fd00::1]/",
        ],
    )  # fmt: skip
    def test_private_addresses_are_refused(self, url: str) -> None:
        with pytest.raises(DataError):
            check_url(url, is_local=False)

    def test_loopback_is_allowed_on_a_local_chain_alone(self) -> None:
        assert check_url("http://127.0.0.1:8545/", is_local=True) == "http://127.0.0.1:8545"
        with pytest.raises(DataError):
            check_url("http://10.0.0.1/", is_local=True)

    def test_public_addresses_are_asked(self) -> None:
        assert check_url("https://8.8.8.8", is_local=False) == "https://8.8.8.8"


class TestCommandLine:
    def run(self, *words: object) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "quorate_node.cli.main", *map(str, words)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def test_the_doctor_tells_a_nodes_ceilings(self, tmp_path: Path) -> None:
        settings = MINIMAL | {"max_fuel": 77, "ceilings": {"memory_bytes": 1 << 20}}
        (tmp_path / "config.json").write_text(json.dumps(settings))
        code, told, _ = self.run("doctor", "--home", tmp_path, "--output", "json")
        ceilings = json.loads(told)["ceilings"]
        assert code == 0
        assert (ceilings["fuel"], ceilings["memory_bytes"], ceilings["compile_seconds"]) == (77, 1 << 20, 60)
        assert set(ceilings) == set(CEILINGS)
        (tmp_path / "config.json").write_text(json.dumps(MINIMAL | {"ceilings": {"memory": 1}}))
        code, told, why = self.run("doctor", "--home", tmp_path)
        assert (code, told) == (2, "")
        assert "unknown names: memory" in why

    def test_limits_of_a_job_are_given_by_name(self) -> None:
        base = Limits(fuel=5)
        assert parse_limits(base, ["path_bytes=7", "stack_bytes=65536"]) == replace(
            base, path_bytes=7, stack_bytes=65536
        )
        for wrong in ("path_bytes", "path_bytes=-1", "path_bytes=x", "fuel=1", "paths=1", "path_bytes=0", "=1"):
            with pytest.raises(ValidationError, match="limit"):
                parse_limits(base, [wrong])

    def test_bounds_on_traffic_are_given_by_name(self) -> None:
        bounds = ["serve_bytes_s=65536", "fetch_bytes_day=9"]
        assert _parse_traffic(bounds) == {"serve_bytes_s": 65536, "fetch_bytes_day": 9}
        for wrong in ("serve_bytes_s", "serve_bytes_s=x", "serve_bytes_s=-1", "store_bytes=5", "serve_bytes_s=\u00b2"):
            with pytest.raises(ConfigurationError, match="bound on traffic"):
                _parse_traffic([wrong])

    def test_ceilings_are_given_by_name(self) -> None:
        assert _parse_ceilings(["memory_bytes=5", "open_files=9"]) == {"memory_bytes": 5, "open_files": 9}
        assert _parse_ceilings([]) is None
        for wrong in ("memory_bytes", "memory_bytes=x", "memory_bytes=-1"):
            with pytest.raises(ConfigurationError, match="NAME=NUMBER"):
                _parse_ceilings([wrong])
