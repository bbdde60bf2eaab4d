"""A registry of images on this host that does what no registry should."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
PIECE = bytes(1 << 16)


@dataclass(slots=True)
class Registry:
    """One image with one layer of which it says a size. The layer comes without end, or, if it `stalls`, not at all.

    `is_asked` is set when a daemon wants the layer, `is_left` when it wants no more of it.
    """

    layer_bytes: int
    stalls: bool = False
    port: int = 0
    is_asked: threading.Event = field(default_factory=threading.Event)
    is_left: threading.Event = field(default_factory=threading.Event)
    is_over: threading.Event = field(default_factory=threading.Event)
    config: bytes = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{'2' * 64}"]}}
    ).encode()

    @property
    def manifest(self) -> bytes:
        config = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(self.config)}
        layer = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": self.layer_bytes}
        return json.dumps(
            {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config | {"digest": digest_of(self.config)},
             "layers": [layer | {"digest": f"sha256:{'3' * 64}"}]}
        ).encode()  # fmt: skip

    @property
    def reference(self) -> str:
        return f"127.0.0.1:{self.port}/bomb@{digest_of(self.manifest)}"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def serving(registry: Registry) -> Iterator[Registry]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/manifests/" in self.path:
                self.answer(registry.manifest, MANIFEST_TYPE)
            elif self.path.endswith(digest_of(registry.config)):
                self.answer(registry.config, "application/octet-stream")
            elif "/blobs/" in self.path:
                self.send_layer()
            else:
                self.answer(b"{}", "application/json")

        def do_HEAD(self) -> None:
            self.do_GET()

        def answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", digest_of(body))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def send_layer(self) -> None:
            registry.is_asked.set()
            self.send_response(200)
            self.send_header("Content-Length", str(registry.layer_bytes))
            self.end_headers()
            try:
                while not registry.is_over.wait(0.01):
                    if not registry.stalls:
                        self.wfile.write(PIECE)
            except OSError:
                registry.is_left.set()

        def log_message(self, *_: object) -> None:
            """Nothing is told."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield registry
    finally:
        registry.is_over.set()
        server.shutdown()
        server.server_close()
