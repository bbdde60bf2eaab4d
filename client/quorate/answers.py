"""Answers of strangers over HTTP: of bounded size, and never unpacked, for a kilobyte may become a gigabyte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import httpx

MAX_ANSWER_BYTES = 4 << 20
PLAIN: Mapping[str, str] = {"Accept-Encoding": "identity"}
"""Headers that ask for an answer as it is."""


def check_encoding(response: httpx.Response) -> None:
    """Raise httpx's DecodingError for an answer that would have to be unpacked."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise httpx.DecodingError("sent a content encoding that was not asked for", request=response.request)


def bound_answer(response: httpx.Response) -> None:
    """For a client's event hooks: reading the answer raises httpx's DecodingError above MAX_ANSWER_BYTES."""
    check_encoding(response)
    assert isinstance(response.stream, httpx.SyncByteStream)
    response.stream = _Bounded(response.stream, response.request)


class _Bounded(httpx.SyncByteStream):
    """A body, as far as it may go."""

    def __init__(self, body: httpx.SyncByteStream, request: httpx.Request) -> None:
        self._body, self._request = body, request

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._body:
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise httpx.DecodingError(f"answers with more than {MAX_ANSWER_BYTES} bytes", request=self._request)
            yield chunk

    def close(self) -> None:
        self._body.close()
