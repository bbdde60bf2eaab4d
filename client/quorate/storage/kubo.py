"""The store whose blocks a Kubo daemon keeps.

Files and directories become blocks in this process, so a CID never depends on the daemon's configuration, and every
block that comes back is checked: a daemon may lie, rot or die, and no wrong byte passes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from quorate.protocol.errors import DataError
from quorate.storage import car, unixfs
from quorate.storage.base import MAX_BLOCK_BYTES, BlockNotFound, Scope
from quorate.storage.cid import RAW, Cid
from quorate.storage.dagstore import DagStore
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.kubo_rpc import DaemonGone, DaemonRefused, KuboRpc
from quorate.storage.traversal import Traversal

FLUSH_BYTES = 32 * 1024 * 1024  # of blocks that are held until they are pushed
ASKED_BLOCKS = 500


class KuboStore(DagStore):
    """BlobStore in the Kubo daemon whose API is at `address`, a URL or a multiaddr.

    Only what the daemon has counts as here: it is never asked to search the network. Its own settings say what is
    durable (`Datastore.Spec`: as installed, every block is) and whether unpinned blocks are ever removed. Besides the
    port's errors, methods raise DaemonGone, DaemonRefused, and ConfigurationError when there is no Kubo at `address`.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._rpc = KuboRpc(address)

    def has(self, cid: Cid) -> bool:
        cid.check_supported()
        return cid.is_identity or self._rpc.has(cid)

    def get(self, cid: Cid) -> bytes:
        cid.check_supported()
        if cid.is_identity:
            return cid.inline
        block = self._rpc.get(cid, MAX_BLOCK_BYTES + 1)
        if block is None:
            raise BlockNotFound(cid, f"add it to the daemon at {self.address} first, or let it fetch it")
        if len(block) > MAX_BLOCK_BYTES:
            raise DataError(f"{cid} is over {MAX_BLOCK_BYTES} bytes; add the content again in smaller blocks")
        try:
            cid.verify(block)
        except DataError:
            hint = f"the daemon at {self.address} gave other bytes for it; `ipfs repo verify` there, then add it again"
            raise BlockNotFound(cid, hint) from None
        return block

    def size(self, cid: Cid) -> int | None:
        """Read to be known: what the daemon says of a block cannot be checked otherwise."""
        try:
            return len(self.get(cid))
        except BlockNotFound:
            return None

    @contextmanager
    def session(self, *, is_durable: bool = True) -> Iterator[KuboSession]:
        session = KuboSession(self._rpc)
        try:
            yield session
        finally:
            session.flush()

    def sync(self) -> None:
        """The daemon answers a push once it has kept it, as durably as its settings say."""

    def is_complete(self, cid: Cid) -> bool:
        """Reads all of it, in one request: faster than a request for each block, and surer than asking for names."""
        try:
            for _ in self._blocks(cid):
                pass
        except BlockNotFound:
            return False
        return True

    def export(self, cid: Cid, dest: Path, *, max_bytes: int | None = None, work: Path | None = None) -> int:
        """A directory comes by way of a store beside `dest`: in one request, not in one for each of its files."""
        if os.path.lexists(dest) or unixfs.Node.parse(cid, self.get(cid)).message.is_file:
            return super().export(cid, dest, max_bytes=max_bytes, work=work)
        try:
            dest.parent.mkdir(parents=True, exist_ok=True)
            folder = tempfile.TemporaryDirectory(prefix=".quorate-fetch-", dir=dest.parent)
        except OSError as error:
            raise DataError(f"{dest} cannot be written: {error.strerror}; check room, rights and names") from error
        with folder as name, closing(EmbeddedStore(Path(name))) as beside:
            beside.import_car(self._car(cid), cid, max_bytes=shutil.disk_usage(name).free // 2)
            return beside.export(cid, dest, max_bytes=max_bytes, work=work)

    def export_car(self, root: Cid, *, scope: Scope = "all", dups: bool = False) -> Iterator[bytes]:
        return super().export_car(root, scope=scope, dups=dups) if dups or scope != "all" else self._car(root)

    def pin(self, cid: Cid) -> None:
        """BlockNotFound when the DAG is not complete: Kubo pins nothing else."""
        for _ in self._blocks(cid):
            pass
        self._rpc.pin(cid)

    def unpin(self, cid: Cid) -> None:
        self._rpc.unpin(cid)

    def pins(self) -> Sequence[Cid]:
        """What is pinned, whoever pinned it."""
        return self._rpc.pins()

    def close(self) -> None:
        self._rpc.close()

    def _car(self, root: Cid) -> Iterator[bytes]:
        yield car.encode_header(root)
        for cid, block in self._blocks(root):
            yield car.section_head(cid, len(block))
            yield block

    def _blocks(self, root: Cid) -> Iterator[tuple[Cid, bytes]]:
        """Each block of a DAG once, checked, depth first.

        One request brings them. Where its answer is not whole or not true, they are asked for one by one, which tells
        exactly what is wrong: BlockNotFound, DaemonGone, or DataError for a bomb.
        """
        verifier, passed = car.CarVerifier(root, dups=None), 0
        try:
            if verifier.wanted is not None:
                for piece in self._rpc.export(root):
                    for received in verifier.push(piece):
                        yield received.cid, received.block
                        passed += 1
            if verifier.wanted is None:
                return
        except (DaemonGone, DaemonRefused, DataError):
            pass  # what follows meets the same and says which block it is
        yield from islice(self._walk(root), passed, None)

    def _walk(self, root: Cid) -> Iterator[tuple[Cid, bytes]]:
        walk = Traversal(root)
        while (wanted := walk.wanted) is not None:
            block = self.get(wanted)
            walk.accept(block)
            yield wanted, block


class KuboSession:
    """Collects blocks and pushes them as one CAR when it ends, or as several when they are many.

    Pieces of more than ASKED_BLOCKS count as new unasked: a request for each block takes longer than the push.
    """

    def __init__(self, rpc: KuboRpc) -> None:
        self._rpc = rpc
        self._blocks: dict[bytes, bytes] = {}
        self._bytes = 0
        self.new_blocks = self.new_bytes = 0

    def put(self, cid: Cid, block: bytes, *, is_chunk: bool = False) -> None:
        if cid.is_identity or cid.multihash in self._blocks:
            return
        cid.check_supported()
        self._blocks[cid.multihash] = bytes(block)
        self._bytes += len(block)
        if self._bytes >= FLUSH_BYTES:
            self.flush()

    def refer(self, cid: object, path: object, offset: int, length: int) -> bool:
        """The daemon may be on another machine."""
        return False

    def hold(self, cids: object, seconds: float) -> None:
        """A daemon makes room when its operator asks it to, and goes by pins alone."""

    def flush(self) -> None:
        """Push what was collected; DaemonRefused when the daemon did not take all of it."""
        blocks, self._blocks, self._bytes = self._blocks, {}, 0
        if not blocks:
            return
        # Named as raw, whatever they are: a daemon keeps blocks by their hash, and would refuse what it cannot decode.
        cids = {Cid(1, RAW, multihash): block for multihash, block in blocks.items()}
        for cid, block in cids.items():
            if len(cids) > ASKED_BLOCKS or not self._rpc.has(cid):
                self.new_blocks, self.new_bytes = self.new_blocks + 1, self.new_bytes + len(block)
        pieces = [car.encode_header(next(iter(cids)))]
        pieces += [car.encode_section(cid, block) for cid, block in cids.items()]
        taken = self._rpc.put(b"".join(pieces))
        if taken != len(cids):
            raise DaemonRefused(f"the Kubo daemon at {self._rpc.address} took {taken} of {len(cids)} blocks; add again")
