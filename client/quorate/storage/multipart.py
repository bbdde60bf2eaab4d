"""Files in the body of a `multipart/form-data` request, read one after the other in bounded memory.

Source: RFC 7578 and RFC 2046, as far as clients of Kubo's RPC use them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from typing import BinaryIO
from urllib.parse import unquote

from quorate.protocol.errors import DataError

_READ_BYTES = 1 << 20
_MAX_HEADER_BYTES = 64 * 1024
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,70}")


@dataclass(frozen=True, slots=True)
class Upload:
    """One part. `path` is its file name, which may hold '/'; `read` gives at most as many bytes as it is asked for."""

    path: str
    kind: str
    read: Callable[[int], bytes]


def boundary_of(content_type: str) -> bytes:
    """From the request's Content-Type; DataError when it is no multipart."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_maintype() != "multipart" or not isinstance(boundary, str):
        raise DataError("send the file as multipart/form-data")
    if not _BOUNDARY.fullmatch(boundary):
        raise DataError("the multipart boundary is malformed")
    return boundary.encode()


def read_uploads(file: BinaryIO, boundary: bytes) -> Iterator[Upload]:
    """Parts in their order; each must be read before the next is asked for: what was not is passed over.

    DataError when the body is malformed, or ends before its end is marked.
    """
    body = _Body(file, b"\r\n--" + boundary)
    body.skip_part()  # what stands before the first boundary
    while body.starts_part():
        headers = body.read_headers()
        yield Upload(_name_of(headers), headers.get_content_type(), body.read)
        body.skip_part()


def _name_of(headers: Message) -> str:
    name = headers.get_filename()
    if name is None:
        found = headers.get_param("filename", header="content-disposition")
        name = found if isinstance(found, str) else ""
    return unquote(name, errors="surrogateescape")


class _Body:
    """Bytes up to the next delimiter, which is never given out."""

    def __init__(self, file: BinaryIO, delimiter: bytes) -> None:
        self._file, self._delimiter = file, delimiter
        self._buffer = bytearray(b"\r\n")  # the first boundary needs no line before it
        self._is_over = False

    def _fill(self) -> bool:
        piece = self._file.read(_READ_BYTES)
        self._buffer += piece
        return bool(piece)

    def read(self, size: int) -> bytes:
        """At most `size` bytes of the part, none at its end."""
        while True:
            end = self._buffer.find(self._delimiter)
            safe = end if end >= 0 else len(self._buffer) - len(self._delimiter) + 1
            if safe > 0 or end == 0:
                piece = bytes(self._buffer[: min(size, max(safe, 0))])
                del self._buffer[: len(piece)]
                return piece
            if not self._fill():
                raise DataError("the upload ends before its end is marked; it was cut: send it again")

    def skip_part(self) -> None:
        """Go to the delimiter and over it."""
        while self.read(_READ_BYTES):
            pass
        del self._buffer[: len(self._delimiter)]

    def starts_part(self) -> bool:
        """After a delimiter: whether another part follows."""
        self._need(2)
        if self._buffer[:2] == b"--":
            return False
        if self._buffer[:2] != b"\r\n":
            raise DataError("the upload's multipart form is malformed")
        return True

    def read_headers(self) -> Message:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _MAX_HEADER_BYTES or not self._fill():
                raise DataError("the headers of an upload's part are malformed")
        message = Message()
        for line in bytes(self._buffer[2:end]).decode("utf-8", "surrogateescape").split("\r\n"):
            name, _, value = line.partition(":")
            if name.strip():
                message[name.strip()] = value.strip()
        del self._buffer[: end + 4]
        return message

    def _need(self, size: int) -> None:
        while len(self._buffer) < size:
            if not self._fill():
                raise DataError("the upload ends before its end is marked; it was cut: send it again")
