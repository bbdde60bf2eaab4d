"""A node's configuration: HOME/config.json, read once into a frozen object. Relative paths are relative to HOME."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from quorate.chain.types import parse_address, write_atomically
from quorate.protocol.container import ContainerLimits
from quorate.protocol.errors import ConfigurationError, QuorateError, ValidationError
from quorate.protocol.profiles import Description, UnknownProfile
from quorate.protocol.spec import Limits
from quorate.storage.denylist import DenyList
from quorate.storage.opening import is_address
from quorate.storage.traffic import TrafficLimits
from quorate_node.admission import Admission
from quorate_node.core import policy
from quorate_node.core.guard import GuardSettings
from quorate_node.core.policy import DEFAULT_CEILINGS, DEFAULT_CONTAINER_CEILINGS, AnyLimits, list_ceilings
from quorate_node.executor.base import DockerSettings
from quorate_node.p2p.wire.addresses import check_bootstrap, check_place

CONFIG_FILE = "config.json"
KEYSTORE_FILE = "keystore.json"
JOURNAL_FILE = "journal"
LOG_FILE = "node.log"
DENY_FILE = "deny.txt"
HINTS_FILE = "hints.jsonl"
ADDRESSES_FILE = "addresses.json"
TRAFFIC_FILE = "traffic.json"
DEFAULT_LISTEN = "127.0.0.1:8200"
DOCKER_HOST = "unix:///var/run/docker.sock"
UNIX = "unix://"
GIB = 1 << 30
LEAST_BYTES_S = 4096  # a bound below would have a stranger wait for minutes, and this process when it ends
MESSAGE_WAYS = ("p2p", "http")
CEILINGS: dict[str, AnyLimits] = {"ceilings": DEFAULT_CEILINGS, "container_ceilings": DEFAULT_CONTAINER_CEILINGS}


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What an operator sets.

    `owner` is the address that staked, 0x-hex; None: the keystore's own. `owner_keystore` has its key, for commands
    that move the stake; the node does not need it. `listen` is HOST:PORT; `announce` the URL
    under which others reach it, None: http://LISTEN. `collator` takes orders, for `fee_wei` a bundle.
    `operators` is how many of them this process runs, with keys that are derived from the keystore's; the first one
    uses the keystore's own. With `share_executions` those drawn for the same bundle execute it once.
    `peers` are URLs of nodes that are asked which content is whole there: it is fetched from the nearest of them.
    `ceilings` bound what a job's spec may ask for, by the names of its limits, and `container_ceilings` what one in a
    container may; a task above them is not executed.
    `classes` are those that it keeps alive; `profiles` describes, besides WebAssembly, those of classes that it
    executes for (see quorate.protocol.profiles): `quorate-node class join` writes both.
    `max_fuel` bounds one task, `max_input_bytes` one bundle's input, `import_bytes` all content that others may push.
    The store takes up at most `store_bytes` of its disk (0: what there is), of which `spare_disk_bytes` stay free:
    content that needs more is refused, after what no pin and no job in progress needs has gone (quorate_node.room).
    Content is served at `serve_bytes_s` bytes a second at most, and fetched at `fetch_bytes_s`; in a day of UTC no more
    than `serve_bytes_day` and `fetch_bytes_day`, to which what others push counts, too (0: as much as there is).
    `challenge_budget_wei` bounds the bonds of challenges in one run (0: none), `watch_bps` is the share of accepted
    bundles that are executed without a seat to find wrong ones, `reveal_depth` how many blocks deep a commitment must
    be before it is opened.
    Containers run on the daemon at `docker_host` (None: DOCKER_HOST, or Docker's own socket), with another OCI runtime
    such as runsc if `docker_runtime` names one; images are pulled from no registry but `docker_registries`.
    Of jobs that the limits allow, `policy_command`, a program with its arguments, may say no within `policy_timeout_s`
    seconds (see quorate_node.admission), as HOME/deny.txt does of CIDs. After `max_failures_in_row` executions that
    failed for the host's own fault it takes no work for `failure_pause_s` seconds; none either while the newest block
    is older than `max_head_age_s` seconds. 0 switches either off.
    `p2p_listen` is the multiaddr on which libp2p listens (None: it is not used), `p2p_announce` those under which
    others reach it, if they are not the same, and `bootstrap` nodes by which it finds all others, with identities.
    `message_ways` are those by which messages go to other nodes: over libp2p where it is used and gets there, else by
    HTTP; of the two one may stand alone.
    `kubo` is the API of a Kubo daemon, a URL or a multiaddr, that gives content of jobs and gets their results.
    With `filecoin` it reads what no peer has from the providers of HOME/filecoin, then from those that the IPNI
    instances at `filecoin_indexes` know, and pays for it within the limits there: at most `filecoin_max_per_mib` base
    units a MiB (0: any), at most `filecoin_exact_bytes` before any of it is verified; a new payment rail locks
    `filecoin_lockup` base units, if they are there.
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
    owner_keystore: Path | None = None
    max_fuel: int = 10**13
    max_input_bytes: int = 4 * GIB
    import_bytes: int = 64 * GIB
    store_bytes: int = 0
    spare_disk_bytes: int = 256 << 20
    serve_bytes_s: int = 0
    serve_bytes_day: int = 0
    fetch_bytes_s: int = 0
    fetch_bytes_day: int = 0
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
    p2p_listen: str | None = None
    p2p_announce: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    message_ways: tuple[str, ...] = MESSAGE_WAYS
    filecoin: bool = False
    filecoin_indexes: tuple[str, ...] = ()
    filecoin_max_per_mib: int = 0
    filecoin_exact_bytes: int = 1_040_384
    filecoin_lockup: int = 0
    policy_command: tuple[str, ...] = ()
    policy_timeout_s: int = 5
    max_failures_in_row: int = 10
    failure_pause_s: int = 60
    max_head_age_s: int = 0

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
    def admission(self) -> Admission:
        """Whom it asks before it takes a job. Raises DataError for a deny-list that holds something else than CIDs."""
        denied = DenyList(self.home / DENY_FILE, is_optional=True)
        return Admission(denied, self.policy_command, float(self.policy_timeout_s))

    @property
    def guard(self) -> GuardSettings:
        """When it takes no work."""
        return GuardSettings(self.max_failures_in_row, float(self.failure_pause_s), self.max_head_age_s)

    @property
    def traffic_file(self) -> Path:
        """How much content this day has moved."""
        return self.home / TRAFFIC_FILE

    @property
    def serve_limits(self) -> TrafficLimits:
        """How much content its gateway sends."""
        return TrafficLimits(self.serve_bytes_s, self.serve_bytes_day)

    @property
    def fetch_limits(self) -> TrafficLimits:
        """How much content it takes."""
        return TrafficLimits(self.fetch_bytes_s, self.fetch_bytes_day)

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
    values = read_settings(home)
    if operators is None or operators == values.get("operators", 1):
        return build_config(home, values, str(path))
    return change_config(home, operators=operators)


def change_config(home: Path, **changes: object) -> NodeConfig:
    """Write settings down, None for the default. Raises ConfigurationError, and then nothing is written."""
    path = home / CONFIG_FILE
    values = read_settings(home) | changes
    values = {name: value for name, value in values.items() if value is not None}
    config = build_config(home, values, str(path))
    write_atomically(path, json.dumps(values, indent=1) + os.linesep)
    return config


def read_settings(home: Path) -> dict[str, Any]:
    """HOME/config.json as it stands, not checked. Raises ConfigurationError when it is no JSON object."""
    path = home / CONFIG_FILE
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
    _check_chain(config, where)
    if config.docker_host is not None:
        check_docker_host(config.docker_host, f"{where}: docker_host")
    _check_p2p(config, where)
    if config.kubo is not None and not is_address(config.kubo):
        raise ConfigurationError(
            f"{where}: kubo must be the API of a Kubo daemon, like http://127.0.0.1:5001, not {config.kubo!r}"
        )
    for name in ("workers", "operators"):
        if getattr(config, name) < 1:
            raise ConfigurationError(f"{where}: {name} must be at least 1")
    for name in ("serve_bytes_s", "fetch_bytes_s"):
        if 0 < getattr(config, name) < LEAST_BYTES_S:
            raise ConfigurationError(f"{where}: {name} must be at least {LEAST_BYTES_S}, or 0 for no bound")
    try:
        _ = config.descriptions
    except UnknownProfile as error:
        raise ConfigurationError(f"{where}: profiles: {error}") from error
    if config.operators > 1 and config.owner:
        raise ConfigurationError(f"{where}: several operators own their stakes with their own keys: leave owner out")
    return config


def _check_chain(config: NodeConfig, where: str) -> None:
    if not config.rpc_url.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"{where}: rpc_url must be the chain's JSON-RPC endpoint, like http://127.0.0.1:8545, "
            f"not {config.rpc_url!r}"
        )
    if config.owner is not None:
        try:
            parse_address(config.owner)
        except QuorateError as error:
            raise ConfigurationError(f"{where}: owner must be an address, 0x and 40 hex digits: {error}") from error


def _check_p2p(config: NodeConfig, where: str) -> None:
    if config.p2p_listen is None and (config.bootstrap or config.p2p_announce):
        raise ConfigurationError(f"{where}: bootstrap and p2p_announce want p2p_listen, like /ip4/0.0.0.0/tcp/4001")
    ways = set(config.message_ways)
    if not ways or ways - set(MESSAGE_WAYS):
        raise ConfigurationError(f"{where}: message_ways must be some of {', '.join(MESSAGE_WAYS)}")
    if ways == {"p2p"} and config.p2p_listen is None:
        raise ConfigurationError(f"{where}: message_ways without http want p2p_listen, like /ip4/0.0.0.0/tcp/4001")
    if config.p2p_listen is not None:
        check_place(config.p2p_listen, f"{where}: p2p_listen")
    for each in config.p2p_announce:
        check_place(each, f"{where}: p2p_announce")
    check_bootstrap(config.bootstrap)


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
