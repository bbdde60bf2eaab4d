"""A node's configuration: HOME/config.json, read once into a frozen object. Relative paths are relative to HOME."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from quorate.chain.types import write_atomically
from quorate.protocol.container import ContainerLimits
from quorate.protocol.errors import ConfigurationError, ValidationError
from quorate.protocol.profiles import Description, UnknownProfile
from quorate.protocol.spec import Limits
from quorate.storage.opening import is_address
from quorate_node.core import policy
from quorate_node.core.policy import DEFAULT_CEILINGS, DEFAULT_CONTAINER_CEILINGS, AnyLimits, list_ceilings
from quorate_node.executor.base import DockerSettings

CONFIG_FILE = "config.json"
KEYSTORE_FILE = "keystore.json"
JOURNAL_FILE = "journal"
LOG_FILE = "node.log"
ADDRESSES_FILE = "addresses.json"
DEFAULT_LISTEN = "127.0.0.1:8200"
DOCKER_HOST = "unix:///var/run/docker.sock"
UNIX = "unix://"
GIB = 1 << 30
CEILINGS: dict[str, AnyLimits] = {"ceilings": DEFAULT_CEILINGS, "container_ceilings": DEFAULT_CONTAINER_CEILINGS}


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What an operator sets.

    `owner` is the address that staked, 0x-hex; None: the keystore's own. `listen` is HOST:PORT; `announce` the URL
    under which others reach it, None: http://LISTEN. `collator` takes orders, for `fee_wei` a bundle.
    `operators` is how many of them this process runs, with keys that are derived from the keystore's; the first one
    uses the keystore's own. With `share_executions` those drawn for the same bundle execute it once.
    `peers` are URLs of nodes that are asked which content is whole there: it is fetched from the nearest of them.
    `ceilings` bound what a job's spec may ask for, by the names of its limits, and `container_ceilings` what one in a
    container may; a task above them is not executed.
    `classes` are those that it keeps alive; `profiles` describes, besides WebAssembly, those of classes that it
    executes for (see quorate.protocol.profiles): `quorate-node class join` writes both.
    `max_fuel` bounds one task, `max_input_bytes` one bundle's input, `import_bytes` all content that others may push.
    `challenge_budget_wei` bounds the bonds of challenges in one run (0: none), `watch_bps` is the share of accepted
    bundles that are executed without a seat to find wrong ones, `reveal_depth` how many blocks deep a commitment must
    be before it is opened.
    Containers run on the daemon at `docker_host` (None: DOCKER_HOST, or Docker's own socket), with another OCI runtime
    such as runsc if `docker_runtime` names one; images are pulled from no registry but `docker_registries`.
    `kubo` is the API of a Kubo daemon, a URL or a multiaddr, that gives content of jobs and gets their results.
    """

    home: Path
    rpc_url: str
    deployment: Path
    keystore: Path
    passphrase_file: Path | None = None
    listen: str = DEFAULT_LISTEN
    announce: str | None = None
    collator: bool = False
    fee_wei: int = 0
    workers: int = 1
    operators: int = 1
    peers: tuple[str, ...] = ()
    share_executions: bool = True
    classes: tuple[int, ...] = (1,)
    profiles: tuple[str, ...] = ()
    owner: str | None = None
    max_fuel: int = 10**13
    max_input_bytes: int = 4 * GIB
    import_bytes: int = 64 * GIB
    challenge_budget_wei: int = 0
    watch_bps: int = 0
    reveal_depth: int = 0
    log_file: Path | None = None
    ceilings: Limits = DEFAULT_CEILINGS
    container_ceilings: ContainerLimits = DEFAULT_CONTAINER_CEILINGS
    docker_host: str | None = None
    docker_runtime: str | None = None
    docker_registries: tuple[str, ...] = ()
    kubo: str | None = None

    def journal(self, index: int) -> Path:
        """Journal of one of the operators."""
        return self.home / (f"{JOURNAL_FILE}-{index}" if index else JOURNAL_FILE)

    @property
    def addresses(self) -> Path:
        """Addresses of a farm's operators: commands that only look need no passphrase for them."""
        return self.home / ADDRESSES_FILE

    @property
    def descriptions(self) -> tuple[Description, ...]:
        """What `profiles` says."""
        return tuple(map(Description.parse, self.profiles))

    @property
    def limits(self) -> policy.Limits:
        """What it takes."""
        return policy.Limits(
            self.max_fuel, self.max_input_bytes, ceilings=self.ceilings, container_ceilings=self.container_ceilings
        )

    @property
    def docker(self) -> DockerSettings:
        """How containers are run."""
        host = self.docker_host or find_docker_host()
        return DockerSettings(host, self.home / "docker", self.workers, self.docker_runtime, self.docker_registries)

    @property
    def host(self) -> str:
        """Interface to listen on."""
        return self.listen.rpartition(":")[0]

    @property
    def port(self) -> int:
        """Port to listen on."""
        return int(self.listen.rpartition(":")[2])

    @property
    def url(self) -> str:
        """Where others reach this node."""
        return (self.announce or f"http://{self.listen}").rstrip("/")


def find_docker_host() -> str:
    """Where the host's daemon answers. Raises ConfigurationError for one elsewhere: it would not see our folders."""
    return check_docker_host(os.environ.get("DOCKER_HOST") or DOCKER_HOST, "DOCKER_HOST")


def check_docker_host(address: str, where: str) -> str:
    """The address of a daemon on this machine. Raises ConfigurationError."""
    if not address.startswith(UNIX) or len(address) == len(UNIX):
        raise ConfigurationError(
            f"{where} must be {UNIX}PATH, a daemon on this machine, which sees this node's folders, not {address!r}"
        )
    return address


def load_config(home: Path, operators: int | None = None) -> NodeConfig:
    """Read HOME/config.json. Raises ConfigurationError naming the setting that is wrong.

    `operators` says how many there are from now on: it is written down, so that every command means the same ones.
    """
    path = home / CONFIG_FILE
    values = _read_values(home, path)
    if operators is None or operators == values.get("operators", 1):
        return build_config(home, values, str(path))
    return change_config(home, operators=operators)


def change_config(home: Path, **changes: object) -> NodeConfig:
    """Write settings down, None for the default. Raises ConfigurationError, and then nothing is written."""
    path = home / CONFIG_FILE
    values = _read_values(home, path) | changes
    values = {name: value for name, value in values.items() if value is not None}
    config = build_config(home, values, str(path))
    write_atomically(path, json.dumps(values, indent=1) + os.linesep)
    return config


def _read_values(home: Path, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path} does not exist: make it with `quorate-node init --home {home}`") from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path} must hold a JSON object")
    return values


def build_config(home: Path, values: dict[str, Any], where: str) -> NodeConfig:
    """Check settings. Raises ConfigurationError."""
    known = {field.name: field for field in fields(NodeConfig) if field.name != "home"}
    if unknown := sorted(values.keys() - known.keys()):
        raise ConfigurationError(f"{where} has unknown settings: {', '.join(unknown)}")
    if missing := [name for name in ("rpc_url", "deployment", "keystore") if not values.get(name)]:
        raise ConfigurationError(f"{where} lacks {', '.join(missing)}")
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if value is not None:
            checked[name] = _check(home, name, str(known[name].type), value, where)
    config = NodeConfig(home=home, **checked)
    host, _, port = config.listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"{where}: listen must be HOST:PORT, not {config.listen!r}")
    if config.docker_host is not None:
        check_docker_host(config.docker_host, f"{where}: docker_host")
    if config.kubo is not None and not is_address(config.kubo):
        raise ConfigurationError(
            f"{where}: kubo must be the API of a Kubo daemon, like http://127.0.0.1:5001, not {config.kubo!r}"
        )
    for name in ("workers", "operators"):
        if getattr(config, name) < 1:
            raise ConfigurationError(f"{where}: {name} must be at least 1")
    try:
        _ = config.descriptions
    except UnknownProfile as error:
        raise ConfigurationError(f"{where}: profiles: {error}") from error
    if config.operators > 1 and config.owner:
        raise ConfigurationError(f"{where}: several operators own their stakes with their own keys: leave owner out")
    return config


def _check_ceilings(name: str, default: AnyLimits, value: Any, where: str) -> AnyLimits:
    """The default ceilings with those that are set."""
    names = list_ceilings(default)
    if not isinstance(value, dict) or (unknown := sorted(value.keys() - names.keys())):
        what = f"has unknown names: {', '.join(unknown)}" if isinstance(value, dict) else "must be an object"
        raise ConfigurationError(f"{where}: {name} {what}; they are {', '.join(names)} (for fuel: max_fuel)")
    try:
        return replace(default, **value)
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {name}: {error}") from error


def _check(home: Path, name: str, type_: str, value: Any, where: str) -> Any:
    wanted: type = str
    if name in CEILINGS:
        return _check_ceilings(name, CEILINGS[name], value, where)
    if type_ == "int":
        wanted = int
    elif type_ == "bool":
        wanted = bool
    elif type_.startswith("tuple[str"):
        if isinstance(value, list) and all(type(each) is str for each in value):
            return tuple(value)
        raise ConfigurationError(f"{where}: {name} must be a list of texts")
    elif type_.startswith("tuple"):
        if isinstance(value, list) and all(type(each) is int and each > 0 for each in value):
            return tuple(value)
        raise ConfigurationError(f"{where}: {name} must be a list of numbers")
    if type(value) is not wanted or (isinstance(value, int) and value < 0):
        raise ConfigurationError(f"{where}: {name} must be of type {wanted.__name__}, not {value!r}")
    return home / Path(str(value)).expanduser() if "Path" in type_ else value
