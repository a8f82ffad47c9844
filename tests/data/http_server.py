"""A local HTTP server that misbehaves on request, for the tests of remote files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Site", "serving"]


@dataclass
class Site:
    """Files by path, and how each misbehaves.

    Attributes:
        failures: how many times a path answers 503 before it answers.
        statuses: a path's answer, always.
        hangs: paths that never finish.
        cut: paths that promise all and send half.
        drips: paths that send so many bytes at a time, with so many seconds in between.
        redirects: where a path sends those who ask.
        requests: the paths that were asked for.
    """

    files: dict[str, bytes]
    failures: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    hangs: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    drips: dict[str, tuple[int, float]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Site]:
    """A server of ``files`` on a free port of this machine."""
    site = Site(files=files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or the second half of an answer waits 40 ms

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            site.requests.append(self.path)
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            status = site.statuses.get(path, 200 if path in site.files else 404)
            if site.failures.get(path, 0) > 0:
                site.failures[path] -= 1
                status = 503
            body = site.files.get(path, b"") if status == 200 else b""
            if path in site.redirects:
                status, body = 302, b""
            self.send_response(status)
            if path in site.redirects:
                self.send_header("Location", site.redirects[path])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not with_body:
                return
            if path in site.drips:
                self._drip(body, *site.drips[path])
            elif path in site.hangs:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                site.closing.wait(20)
                self.close_connection = True
            elif path in site.cut:
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
            else:
                self.wfile.write(body)

        def _drip(self, body: bytes, size: int, pause_s: float) -> None:
            with suppress(OSError):  # who asked has left
                for start in range(0, len(body), size):
                    self.wfile.write(body[start : start + size])
                    self.wfile.flush()
                    if site.closing.wait(pause_s):
                        return

        def log_message(self, *_: object) -> None:
            """Say nothing: the output belongs to the tests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield site
    finally:
        site.closing.set()
        server.shutdown()
        server.server_close()
