"""A client of a Docker daemon that waits for nothing without end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import docker
import docker.errors
import requests
import urllib3

from quorate.images.archive import ImageRefused
from quorate.protocol.errors import ContentUnavailable
from quorate_node.executor.docker_clock import Allowance

ANSWER_S = 15.0  # what a daemon may take for one answer
HELLO_S = 10.0  # and for its first
SILENCE_S = 60.0  # of a registry
DAEMON_ERRORS = (
    requests.exceptions.RequestException,
    docker.errors.DockerException,
    urllib3.exceptions.HTTPError,
    OSError,
)


class DockerClient(docker.APIClient):  # type: ignore[misc]  # it comes without types
    """As Docker's own, but for pulls, which have bounds here."""

    _silence_s: float | None = None

    def _set_request_timeout(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        if self._silence_s is not None:
            kwargs["timeout"] = self._silence_s
        return super()._set_request_timeout(kwargs)  # type: ignore[no-any-return]  # as above

    def pull_within(self, reference: str, max_bytes: int, allowance: Allowance) -> None:
        """Pull an image.

        Raises ImageRefused as soon as it is known that it has more bytes, TaskOver, ContentUnavailable, and APIError.
        """
        layers: dict[str, int] = {}
        self._silence_s = min(SILENCE_S, allowance.left())
        try:
            messages = self.pull(reference, stream=True, decode=True)
            try:
                for message in messages:
                    allowance.left()
                    if "error" in message:
                        raise ContentUnavailable(f"{reference} cannot be pulled: {message['error']}")
                    layers[str(message.get("id"))] = int((message.get("progressDetail") or {}).get("total") or 0)
                    if (size := sum(layers.values())) > max_bytes:
                        raise ImageRefused(f"the image has {size} bytes and more, over image_bytes = {max_bytes}")
            except urllib3.exceptions.ReadTimeoutError as error:
                allowance.left()
                raise ContentUnavailable(f"{reference} cannot be pulled: nothing comes of it") from error
            finally:
                messages.close()
        finally:
            self._silence_s = None


def connect(host: str, answer_s: float = ANSWER_S, make: Callable[..., DockerClient] = DockerClient) -> DockerClient:
    """A client of the daemon there. Raises errors of DAEMON_ERRORS; a daemon without seccomp is none that we use."""
    api = make(base_url=host, version="auto", timeout=min(answer_s, HELLO_S))
    try:
        options = api.info().get("SecurityOptions") or []
        if not any("name=seccomp" in option for option in options):
            raise docker.errors.DockerException("it runs containers without seccomp, which is not safe: enable it")
    except BaseException:
        api.close()
        raise
    api.timeout = answer_s
    return api


@contextmanager
def answering_within(api: docker.APIClient, seconds: float) -> Iterator[None]:
    """The client waits so long for each answer, instead of as long as usual."""
    usual = api.timeout
    api.timeout = seconds
    try:
        yield
    finally:
        api.timeout = usual
