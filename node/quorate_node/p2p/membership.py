"""A node's place in the network: its identity, its operators' records, and what the records of others tell it.

What is learnt here fills gaps and never overrides: a URL that the chain knows counts before one from a record.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from quorate.chain.account import SigningAccount
from quorate.chain.signing import recover
from quorate.chain.types import write_atomically
from quorate.protocol.errors import ConfigurationError, DataError, QuorateError
from quorate.protocol.hashing import keccak
from quorate.protocol.jsontext import load_json
from quorate.protocol.types import ZERO32, Address
from quorate_node.config import NodeConfig
from quorate_node.core.views import ChainView
from quorate_node.logs import get_logger
from quorate_node.p2p.discovery import Discovery, Pace
from quorate_node.p2p.port import PeerNetwork
from quorate_node.p2p.supervisor import ChildNetwork
from quorate_node.p2p.wire.addresses import is_dialable
from quorate_node.p2p.wire.digests import may_hold
from quorate_node.p2p.wire.network import NetworkName, WireError
from quorate_node.p2p.wire.records import NodeRecord, RecordBody, RecordBook, SignedRecord, sign_record
from quorate_node.p2p.wire.settings import SEED_BYTES, HostSettings
from quorate_node.providers import check_url

IDENTITY_FILE = "p2p-identity"
RECORDS_FILE = "p2p-records.json"
MAX_REMEMBERED = 1000
MAX_NEIGHBOURS = 16
"""Nodes found that are asked which content they have: each costs a request every few seconds."""
MAX_HOLDERS = 4
LOOK_S = 2.0
SAVE_S = 60.0


def load_seed(home: Path) -> bytes:
    """The secret of a home's libp2p identity, made when there is none. Raises ConfigurationError for a broken file."""
    path = home / IDENTITY_FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        try:
            seed = bytes.fromhex(path.read_text().strip())
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path} cannot be read: {error}; without it, a new one is made") from error
        if len(seed) != SEED_BYTES:
            raise ConfigurationError(
                f"{path} does not hold {SEED_BYTES} bytes: remove it, and a new one is made"
            ) from None
        return seed
    seed = secrets.token_bytes(SEED_BYTES)
    with os.fdopen(descriptor, "w") as file:
        file.write(seed.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return seed


class Membership:
    """Runs discovery for a node, and answers what the others' records say."""

    def __init__(
        self, config: NodeConfig, name: NetworkName, view: ChainView, keys: Sequence[SigningAccount], *, is_local: bool,
        network: PeerNetwork | None = None, pace: Pace | None = None, get_roots: Callable[[], bytes] = lambda: ZERO32,
    ) -> None:  # fmt: skip
        assert config.p2p_listen is not None
        self._config, self._name, self._view, self._keys = config, name, view, tuple(keys)
        self._is_local, self._pace, self._get_roots = is_local, pace or Pace(), get_roots
        self._network: PeerNetwork = network or ChildNetwork(
            HostSettings(load_seed(config.home), config.p2p_listen, name)
        )
        if isinstance(self._network, ChildNetwork):
            self._network.is_known = lambda peer: self.find_author(peer) is not None
        self._book = RecordBook(name, self._find_key, recover)
        self._discovery = Discovery(
            self._network, self._book, self._make_own, _now_ms,
            bootstrap=config.bootstrap, is_local=is_local, pace=self._pace,
        )  # fmt: skip
        self._sequence = 0
        self._problem: str | None = None
        self._told: set[str] = {config.url}
        self._told_roots = ZERO32
        self._vetted: dict[str, bool] = {}
        self._twins: dict[Address, str] = {}
        self._log = get_logger()

    async def run(self, on_url: Callable[[str], None]) -> None:
        """Until cancelled; `on_url` is told of other nodes' HTTP sides, few of them. Raises ConfigurationError."""
        try:
            if isinstance(self._network, ChildNetwork):
                async with self._network:
                    self._check_announced()
                    await self._look(on_url)
            else:
                await self._look(on_url)
        except QuorateError as error:
            self._problem = str(error)
            raise

    async def _look(self, on_url: Callable[[str], None]) -> None:
        told = self._told
        self._recall()
        finding = asyncio.create_task(self._discovery.run())
        saved = time.monotonic()
        try:
            while not finding.done():
                if time.monotonic() - saved > SAVE_S:
                    self._remember()
                    saved = time.monotonic()
                for record in self._list_by_worth() if len(told) <= MAX_NEIGHBOURS else ():
                    if record.url not in told and len(told) <= MAX_NEIGHBOURS:
                        told.add(record.url)
                        on_url(record.url)
                await self._look_at_records()
                await asyncio.wait([finding], timeout=min(LOOK_S, self._pace.round_s))
            await finding
        finally:
            finding.cancel()
            await asyncio.gather(finding, return_exceptions=True)
            self._remember()

    def _list_by_worth(self) -> list[NodeRecord]:
        """Records of those that have datasets first; of the others each node prefers some of its own."""
        own = self._network.peer_id.encode()

        def order(record: NodeRecord) -> tuple[bool, bytes]:
            return record.roots == ZERO32, keccak(own + record.operator)

        return sorted(self._book.list_records(), key=order)

    async def _look_at_records(self) -> None:
        """Notice what they say of this very node, and which of those with datasets may be asked at all."""
        if self._get_roots() != self._told_roots:
            self._discovery.tell_news()
        for key in self._keys:
            record = self._book.get(self._find_owner(key.address))
            if record is not None and record.peer_id != self._network.peer_id:
                self._note_twin(record)
        for url in [each.url for each in self._book.list_records() if each.roots != ZERO32]:
            if url not in self._vetted and len(self._vetted) < MAX_REMEMBERED:
                self._vetted[url] = await asyncio.to_thread(_may_be_asked, url, is_local=self._is_local)

    def _note_twin(self, record: NodeRecord) -> None:
        """Two nodes of one key say the same, and both pay for gas: harmless, but seldom meant."""
        if self._twins.get(record.operator) != record.peer_id:
            self._twins[record.operator] = record.peer_id
            self._log.error("another node runs with this node's key", url=record.url, peer=record.peer_id)

    def _find_owner(self, address: Address) -> Address:
        operator = self._view.operators.get(self._view.operator_by_address.get(address, 0))
        return operator.owner if operator else address

    def _remember(self) -> None:
        """Keep the records for the next start: whoever was bootstrapped from may be gone by then."""
        rows = [
            RecordBody.from_signed(each).model_dump(mode="json") for each in self._book.list_page(b"", MAX_REMEMBERED)
        ]
        try:
            write_atomically(self._config.home / RECORDS_FILE, json.dumps(rows))
        except OSError as error:
            self._log.warning("records of other nodes are not kept", error=str(error))

    def _recall(self) -> None:
        """Take in what was kept, each record checked as if a stranger told it."""
        path = self._config.home / RECORDS_FILE
        try:
            rows = load_json(path.read_bytes())
            bodies = [RecordBody.model_validate(each) for each in rows[:MAX_REMEMBERED]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError) as error:
            self._log.warning("kept records of other nodes cannot be read; they are found anew", error=str(error)[:200])
            return
        for each in bodies:
            with contextlib.suppress(WireError):  # it is old by now, or its operator has another key
                self._book.add(each.to_signed(), _now_ms())

    def _check_announced(self) -> None:
        """Tell an operator whose node can be dialled by nobody."""
        if not any(is_dialable(each, is_local=self._is_local) for each in self._list_addresses()):
            self._log.warning(
                "no other node can dial this one: set p2p_announce to a public address",
                addresses=self._list_addresses(),
            )

    def find_url(self, owner: Address) -> str | None:
        """Where the node of an operator answers over HTTP, by its record."""
        record = self._book.get(owner)
        return record.url if record else None

    def find_peer(self, owner: Address) -> str | None:
        """The libp2p identity of an operator's node, by its record; None for this very node."""
        record = self._book.get(owner)
        return record.peer_id if record and record.peer_id != self._network.peer_id else None

    def find_author(self, peer: str) -> NodeRecord | None:
        """The record behind an identity, if its operator is staked now."""
        record = self._book.find_peer(peer)
        return record if record and self._find_key(record.operator) else None

    def find_holders(self, cid: str) -> list[str]:
        """URLs of nodes whose records say that they may have a dataset whole, a few of them."""
        found = (
            each.url
            for each in self._list_by_worth()
            if each.roots != ZERO32 and may_hold(each.roots, cid) and self._vetted.get(each.url)
        )
        return [url for url in dict.fromkeys(found) if url != self._config.url][:MAX_HOLDERS]

    def list_collators(self) -> list[Address]:
        """Operators whose nodes say that they take orders, by the addresses from which they staked."""
        return [
            each.operator for each in self._book.list_records() if each.is_collator and each.url != self._config.url
        ]

    @property
    def network(self) -> PeerNetwork:
        """What carries it all."""
        return self._network

    @property
    def discovery(self) -> Discovery:
        """How others are found."""
        return self._discovery

    def describe(self) -> dict[str, Any]:
        """How it is doing, as JSON values."""
        network = self._network
        child = network if isinstance(network, ChildNetwork) else None
        return {
            "identity": network.peer_id,
            "addresses": [f"{each}/p2p/{network.peer_id}" for each in self._list_addresses()],
            "peers": len(network.peers()),
            "records": len(self._book),
            "neighbours": sorted(self._told - {self._config.url}),
            "collators": sorted({each.url for each in self._book.list_records() if each.is_collator}),
            "with_datasets": sorted({each.url for each in self._book.list_records() if each.roots != ZERO32}),
            "problem": self._problem or self._discovery.problem or self._describe_twins(),
            "restarts": child.restarts if child else 0,
            "counts": dict(child.counts) if child else {},
        }

    def _describe_twins(self) -> str | None:
        if not self._twins:
            return None
        who = ", ".join(f"0x{operator.hex()} (as {peer})" for operator, peer in self._twins.items())
        return f"another node runs with the key of {who}: both pay for gas, so stop one"

    def _list_addresses(self) -> Sequence[str]:
        return self._config.p2p_announce or self._network.addresses

    def _find_key(self, owner: Address) -> Address | None:
        """The signing key of whoever staked from an address, unless it is out for good."""
        operator = self._view.operators.get(self._view.operator_by_address.get(owner, 0))
        return operator.signing_key if operator and operator.owner == owner and not operator.ejected else None

    def _make_own(self) -> list[SignedRecord]:
        self._sequence = max(_now_ms(), self._sequence + 1)
        self._told_roots = self._get_roots()
        records: list[SignedRecord] = []
        for index, key in enumerate(self._keys):
            operator = self._view.operators.get(self._view.operator_by_address.get(key.address, 0))
            if operator is None or operator.signing_key != key.address:
                continue  # a collator that staked nothing: nobody would believe its record
            record = NodeRecord(
                self._name, operator.owner, self._sequence, self._network.peer_id, tuple(self._list_addresses()),
                self._config.url, self._told_roots, is_collator=self._config.collator and index == 0,
            )  # fmt: skip
            records.append(sign_record(record, key.sign))
        return records


def _may_be_asked(url: str, *, is_local: bool) -> bool:
    try:
        check_url(url, is_local=is_local)
    except DataError:
        return False
    return True


def _now_ms() -> int:
    return time.time_ns() // 10**6
