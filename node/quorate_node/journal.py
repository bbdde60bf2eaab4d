"""What must survive a crash: every vote with its salt, on disk before its commitment leaves the machine.

An append-only file of frames, `length u32 ‖ crc32 u32 ‖ JSON`, after a magic line. A frame is one group of secrets:
what was signed together stays together, because the chain skips lists that overlap. A torn tail (power lost in
mid-write) is what a write leaves that was never acknowledged, so nothing depends on it: it is reported and cut off.
Where the disk lost an end that it had acknowledged, the same is done: votes that stand on the chain are found again by
executing again, for salts follow from key and statement. Damage before the end stops the node.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quorate.protocol.errors import Busy, UnrecoverableError
from quorate.protocol.types import Stage, Vote
from quorate_node.core.state import Secret, SecretGroup

MAGIC = b"quorate-journal-1\n"
HEAD_BYTES = 8
BODY_BEGINS = b'{"stage"'
MAX_FRAME_BYTES = 1 << 26


class JournalDamaged(UnrecoverableError):
    """Bytes before the journal's end are not what was written."""


class JournalFull(Busy):
    """A group could not be written, for want of room or for a fault of the disk; nothing of it is left in the file."""


class ConflictingVote(UnrecoverableError):
    """A second, different vote for one statement was to be journalled: it would cost the stake."""


class Journal:
    """The journal in one file; one process at a time. Thread-safe.

    Opening raises Busy when another process has it, JournalFull when a new one cannot be written, JournalDamaged when
    it is damaged before its end. `torn_bytes`
    tells how much of a torn tail was cut off, `groups` what was found.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._votes: dict[bytes, Vote] = {}
        self._end = 0
        self.groups: list[SecretGroup] = []
        self.torn_bytes = 0
        try:
            self._claim()
            self._load()
        except BaseException:
            os.close(self._file)
            raise

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def append(self, group: SecretGroup) -> None:
        """Make a group durable; when this returns, its commitments may leave.

        Raises ConflictingVote, before anything is written, when one of its statements has another vote already;
        JournalFull when the disk does not take it: then it may be tried again.
        """
        with self._lock:
            for secret in group.secrets:
                known = self._votes.get(secret.statement)
                if known is not None and known != secret.vote:
                    raise ConflictingVote(
                        f"bundle {secret.bundle} of {group.stage.name} {group.subject} was voted on before with another"
                        f" vote: is a second node running with this key? Journal: {self._path}"
                    )
            body = json.dumps(_encode(group), separators=(",", ":")).encode()
            frame = len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body
            self._write(frame)
            self._votes |= {secret.statement: secret.vote for secret in group.secrets}

    def _write(self, frame: bytes) -> None:
        """Add a frame, or leave nothing of it: what is left of one would be damage, once others follow."""
        try:
            _write_all(self._file, frame)
            os.fdatasync(self._file)
        except OSError as error:
            try:
                os.ftruncate(self._file, self._end)
                os.lseek(self._file, self._end, os.SEEK_SET)
            except OSError as worse:
                raise JournalDamaged(f"{self._path} cannot be written ({worse.strerror}): mend its disk") from worse
            reason = f"{self._path} cannot be written ({error.strerror})"
            raise JournalFull(f"{reason}: make room on its disk; until then no vote leaves this node") from error
        self._end += len(frame)

    def _claim(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(f"{self._path} is in use: another node runs with this home") from error

    def _load(self) -> None:
        data = self._path.read_bytes()
        if len(data) < len(MAGIC) and MAGIC.startswith(data):
            self._start_anew()
            return
        if not data.startswith(MAGIC):
            raise JournalDamaged(f"{self._path} is not a journal of this version: restore it from a backup")
        end = len(MAGIC)
        for at, body in _frames(data, self._path):
            group = _decode(json.loads(body))
            self.groups.append(group)
            self._votes |= {secret.statement: secret.vote for secret in group.secrets}
            end = at
        self.torn_bytes = len(data) - end
        os.ftruncate(self._file, end)
        os.lseek(self._file, end, os.SEEK_SET)
        self._end = end
        if self.torn_bytes:
            os.fdatasync(self._file)

    def _start_anew(self) -> None:
        try:
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            _write_all(self._file, MAGIC)
            os.fsync(self._file)
        except OSError as error:
            raise JournalFull(f"{self._path} cannot be written ({error.strerror}): make room on its disk") from error
        self._end = len(MAGIC)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # the name, too, has to outlive a crash
        finally:
            os.close(directory)


def _frames(data: bytes, path: Path) -> Iterator[tuple[int, bytes]]:
    """(end, body) of each whole frame; stops before a torn tail."""
    at = len(MAGIC)
    while at + HEAD_BYTES <= len(data):
        size, crc = int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 4 : at + 8], "big")
        end = at + HEAD_BYTES + size
        body = data[at + HEAD_BYTES : end]
        # Zeros are no frame, though the checksum of nothing is 0: a file may grow before its bytes arrive.
        if size == 0 or end > len(data) or zlib.crc32(body) != crc:
            # The last write of a crash may be cut, or its pages may have reached the disk out of order.
            if _has_frame_after(data, at + 1):
                raise JournalDamaged(f"{path} is damaged at byte {at}: restore it from a backup")
            return
        yield end, body
        at = end


def _has_frame_after(data: bytes, at: int) -> bool:
    """Whether a whole frame begins at a byte or behind it: then what is before it is damage, not a torn tail."""
    while (found := data.find(BODY_BEGINS, at + HEAD_BYTES)) >= 0:
        at = found - HEAD_BYTES
        size, crc = int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 4 : found], "big")
        body = data[found : found + size]
        if 0 < size == len(body) and zlib.crc32(body) == crc:
            return True
        at += 1
    return False


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _encode(group: SecretGroup) -> dict[str, Any]:
    return {
        "stage": int(group.stage),
        "subject": group.subject,
        "round": group.round,
        "domain": group.domain.hex(),
        "member": group.member,
        "secrets": [
            [
                s.bundle, s.seat, s.statement.hex(), s.vote.hex(), s.salt.hex(), s.commitment.hex(),
                [leaf.hex() for leaf in s.leaves],
            ]
            for s in group.secrets
        ],
    }  # fmt: skip


def _decode(values: dict[str, Any]) -> SecretGroup:
    secrets = tuple(
        Secret(
            bundle, seat, bytes.fromhex(statement), Vote(bytes.fromhex(vote)), bytes.fromhex(salt),
            bytes.fromhex(commitment), tuple(map(bytes.fromhex, leaves)),
        )
        for bundle, seat, statement, vote, salt, commitment, leaves in values["secrets"]
    )  # fmt: skip
    domain = bytes.fromhex(values["domain"])
    return SecretGroup(Stage(values["stage"]), values["subject"], values["round"], domain, values["member"], secrets)
