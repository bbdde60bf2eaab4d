"""Filecoin data for jobs: what no peer has is bought within the operator's limits, or is not had.

The scope `job` of a limit is the job's id in hex, `dataset` the CID that the job names, `provider` its URL. The wallet
is opened when there is something to pay for the first time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from quorate.chain.types import write_atomically
from quorate.filecoin.retrieval.dags import bring
from quorate.filecoin.retrieval.options import ReaderOptions
from quorate.filecoin.retrieval.paying import TooLittleMoney
from quorate.filecoin.retrieval.reader import Reader
from quorate.filecoin.retrieval.report import Report
from quorate.filecoin.retrieval.wanted import Wanted, parse_wanted
from quorate.filecoin.secrecy import forbid_dumps
from quorate.filecoin.spending import PaidMoreThanSigned, RailBusy, SpendingLimitExceeded
from quorate.protocol.errors import (
    ContentUnavailable,
    DataError,
    ProtocolViolation,
    QuorateError,
    RecoverableError,
    UnrecoverableError,
    ValidationError,
)
from quorate.protocol.types import AbstainReason
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.dagstore import DagStore
from quorate.storage.transfer import FetchLimits
from quorate_node.config import NodeConfig
from quorate_node.keystore import get_passphrase
from quorate_node.logs import get_logger

PIECES_FILE = "pieces.json"
MAX_PIECES = 10_000


class NotPaid(QuorateError):
    """The data is not free, and was not paid for; `may_help` tells whether it may be, a moment later."""

    def __init__(self, what: str, error: QuorateError) -> None:
        self.may_help = isinstance(error, RecoverableError) and not isinstance(error, SpendingLimitExceeded)
        self.reason = AbstainReason.POLICY if isinstance(error, SpendingLimitExceeded) else AbstainReason.RESOURCES
        super().__init__(f"{what} is not free, and was not paid for: {error}")


def get_options(config: NodeConfig) -> ReaderOptions:
    """How a node with this configuration reads."""
    return ReaderOptions(
        config.filecoin_indexes, config.filecoin_max_per_mib, config.filecoin_exact_bytes, config.filecoin_lockup
    )


def open_source(config: NodeConfig) -> FilecoinSource:
    """What a node with this configuration reads Filecoin data with."""
    forbid_dumps()  # it will hold the wallet's key
    folder = config.home / "filecoin"

    def make() -> Reader:
        from quorate.filecoin.retrieval.opening import open_reader  # these take a while to import
        from quorate_node.filecoin.hashing import Hasher, count_cores

        return open_reader(folder, get_options(config), get_passphrase, Hasher(count_cores()).compute)

    return FilecoinSource(folder, make)


@dataclass(slots=True)
class FilecoinSource:
    """What a node reads Filecoin data with. `folder` is HOME/filecoin; `make_reader` is called when it is first needed.

    Methods block, may be called from any thread, and raise ContentUnavailable, DataError, and NotPaid.
    """

    folder: Path
    make_reader: Callable[[], Reader]
    _reader: Reader | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def bring_dag(self, store: BlobStore, root: Cid, job: str, limits: FetchLimits, error: ContentUnavailable) -> None:
        """Bring a DAG, which peers did not give for the reason of `error`."""
        try:
            self._bring(store, Wanted(str(root.to_v1()), root), job, limits)
        except ContentUnavailable as unavailable:
            raise ContentUnavailable(f"{error}; and {unavailable}") from None

    def bring_piece(self, store: BlobStore, piece: str, job: str, limits: FetchLimits) -> Cid:
        """Bring a piece; what it stands for in the store."""
        known = self._read_pieces().get(piece)
        if known is not None and store.is_complete(Cid.parse(known)):
            return Cid.parse(known)
        report = self._bring(store, parse_wanted(piece), job, limits)
        assert report.root is not None, "what came into a store has a root"
        self._note_piece(piece, report.root)
        return Cid.parse(report.root)

    def _bring(self, store: BlobStore, wanted: Wanted, job: str, limits: FetchLimits) -> Report:
        if not isinstance(store, DagStore):
            raise ContentUnavailable("Filecoin data is read into the node's own store alone")
        try:
            report = bring(self._get_reader(), wanted, store, self.folder / "spool", job, limits=limits)
        except (ContentUnavailable, DataError):
            raise
        except (SpendingLimitExceeded, TooLittleMoney, RailBusy, ProtocolViolation, RecoverableError) as error:
            raise NotPaid(wanted.text, error) from error
        except PaidMoreThanSigned:
            raise  # the key is used elsewhere: the node must not go on
        except (UnrecoverableError, ValidationError) as error:  # the ledger, or the wallet, and not this node's core
            get_logger().error("Filecoin data is not paid for", error=str(error))
            raise NotPaid(wanted.text, error) from error
        get_logger().info(
            "read Filecoin data", wanted=wanted.text, job=job, bytes=report.bytes, paid=str(report.paid),
            providers=report.providers, seconds=round(report.seconds, 3),
        )  # fmt: skip
        return report

    def _get_reader(self) -> Reader:
        with self._lock:
            if self._reader is None:
                self._reader = self.make_reader()
            return self._reader

    def _read_pieces(self) -> dict[str, str]:
        try:
            found = json.loads((self.folder / PIECES_FILE).read_text())
        except (OSError, ValueError):
            return {}
        return {str(piece): str(root) for piece, root in found.items()} if isinstance(found, dict) else {}

    def _note_piece(self, piece: str, root: str) -> None:
        """Remember what a piece stands for: after a restart it is not bought again."""
        with self._lock:
            known = self._read_pieces() | {piece: root}
            while len(known) > MAX_PIECES:
                del known[next(iter(known))]
            write_atomically(self.folder / PIECES_FILE, json.dumps(known, indent=1) + "\n")
