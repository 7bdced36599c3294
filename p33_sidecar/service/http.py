"""Port 8045: metrics, health, readiness, and the page for people (contract, chapter 5). Reading only.

What may not happen here: a client that holds a verdict up (few threads, a deadline for each connection, answers
shared between those who ask at once), a path that reaches a file, or a word about the machine in a header.

Health and readiness are two questions. `/healthz`: does the process still turn its loops, whatever the neighbours
do; a restart helps where it says no. `/readyz`: could a verdict be ALLOW now; a restart seldom helps.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from socketserver import TCPServer
from typing import Any, Final

import msgspec

from ..errors import ConfigurationInvalid
from .memory import Memory
from .metrics import CONTENT_TYPE, Clock

log = logging.getLogger("p33.http")

MOST_CONNECTIONS: Final = 16
CONNECTION_S: Final = 10.0
"""How long a connection may take from the first byte in to the last byte out."""
SHARED_S: Final = 0.1
"""Answers that take work are made at most this often, however many pages are open."""
REAP_EVERY_S: Final = 0.5

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"
PAGE: Final = resources.files(__package__).joinpath("page.html").read_bytes()


class Answer(msgspec.Struct, frozen=True):
    """What a path says. `body` is whole: nothing here is long enough to be streamed."""

    status: int
    content_type: str
    body: bytes


Route = Callable[[], Answer]


class Health:
    """Whether the loops turn. `limits_ms`: loop -> how long a turn may take; one that never turned counts from now."""

    def __init__(self, memory: Memory, clock: Clock, *, limits_ms: Mapping[str, int]) -> None:
        self._memory, self._clock, self._limits_ms = memory, clock, dict(limits_ms)
        self._since_ns = clock.mono_ns()

    def stuck(self) -> list[str]:
        """One line for each loop that has not turned within its limit."""
        now_ns, found = self._clock.mono_ns(), []
        for loop, limit_ms in self._limits_ms.items():
            still_ms = (now_ns - self._memory.turns.get(loop, self._since_ns)) // 1_000_000
            if still_ms > limit_ms:
                found.append(f"{loop}: no turn for {still_ms} ms, limit {limit_ms} ms")
        return found


def routes(memory: Memory, clock: Clock, *, render: Callable[[], bytes], status: Callable[[], Any],
           health: Health) -> dict[str, Route]:
    """Every path and what it answers. `render` gives the metrics' text, `status` the values of /status.json."""
    encode = msgspec.json.Encoder().encode

    def healthz() -> Answer:
        return _yes_or_why_not("ok", health.stuck())

    def readyz() -> Answer:
        return _yes_or_why_not("ready", memory.not_ready(now_ms=clock.now_ms(), mono_ns=clock.mono_ns()))

    return {
        "/metrics": shared(lambda: Answer(200, CONTENT_TYPE, render())),
        "/healthz": healthz,
        "/readyz": readyz,
        "/status.json": shared(lambda: Answer(200, JSON, encode(status()))),
        "/": lambda: Answer(200, HTML, PAGE),
    }


def _yes_or_why_not(yes: str, reasons: list[str]) -> Answer:
    return Answer(503 if reasons else 200, TEXT, ("\n".join(reasons or [yes]) + "\n").encode())


def shared(make: Route, *, keep_s: float = SHARED_S, now_s: Callable[[], float] = time.monotonic) -> Route:
    """The same answer for all who ask within `keep_s`; one makes it while the others wait for it."""
    lock, kept = threading.Lock(), (float("-inf"), None)

    def answer() -> Answer:
        nonlocal kept
        with lock:
            if now_s() - kept[0] >= keep_s:
                kept = (now_s(), make())
            return kept[1]

    return answer


# -- headers --------------------------------------------------------------------------------------------------


def _inline_hashes(page: bytes, tag: str) -> str:
    """CSP sources that allow exactly the page's own inline elements."""
    bodies = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), page, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(body).digest()).decode()}'" for body in bodies)


HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Content-Security-Policy",
     f"default-src 'none'; script-src {_inline_hashes(PAGE, 'script')}; style-src {_inline_hashes(PAGE, 'style')}; "
     "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
)


# -- the server -----------------------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    """One request a connection. Every answer, errors of the protocol too, is text and carries HEADERS."""

    timeout = CONNECTION_S
    default_request_version = "HTTP/1.0"
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = TEXT
    server: _Listener

    def do_GET(self) -> None:  # noqa: N802 - the library's naming
        path = self.path.partition("?")[0]
        route = self.server.routes.get(path)
        if route is None:
            self._send(Answer(404, TEXT, b"404 not here: " + " ".join(self.server.routes).encode() + b"\n"))
            return
        try:
            answer = route()
        except Exception:  # the outermost loop of this thread: the client is told, the log has the rest
            log.exception("http.failed", extra={"fields": {"path": path}})
            answer = Answer(500, TEXT, b"500 see the log\n")
        self._send(answer)

    do_HEAD = do_GET  # noqa: N815

    def _refuse(self) -> None:
        self._send(Answer(405, TEXT, b"405 GET or HEAD\n"), ("Allow", "GET, HEAD"))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse  # noqa: N815

    def _send(self, answer: Answer, *more: tuple[str, str]) -> None:
        self.send_response(answer.status)
        for name, value in (("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body))), *more):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def send_response(self, code: int, message: str | None = None) -> None:
        """As the library does, without the banner that names it and Python's version."""
        self.send_response_only(code, HTTPStatus(code).phrase)
        self.send_header("Date", self.date_time_string())

    def end_headers(self) -> None:
        for name, value in HEADERS:
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Not a line for every scrape."""


class _Listener(ThreadingHTTPServer):
    """At most MOST_CONNECTIONS threads, none of them longer than CONNECTION_S."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], *, family: int, found: dict[str, Route]) -> None:
        self.address_family, self.routes = family, found
        self._free = threading.Semaphore(MOST_CONNECTIONS)
        self._deadlines: dict[socket.socket, float] = {}
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without the library's reverse look-up of our own name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def process_request(self, request: socket.socket, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            request.close()
            return
        self._deadlines[request] = time.monotonic() + CONNECTION_S
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self._done(request)
            raise

    def process_request_thread(self, request: socket.socket, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._done(request)

    def _done(self, request: socket.socket) -> None:
        self._deadlines.pop(request, None)
        self._free.release()

    def service_actions(self) -> None:
        """Cut off who is too slow: a socket's own timeout starts anew with every byte."""
        now_s = time.monotonic()
        for request, ends_s in tuple(self._deadlines.items()):
            if now_s > ends_s:
                self._deadlines.pop(request, None)
                try:
                    request.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event."""


class Server:
    """The running server. `port` is the one it listens on, also when 0 was asked for."""

    def __init__(self, listener: _Listener) -> None:
        self._listener = listener
        self.port: int = listener.server_address[1]
        self._thread = threading.Thread(target=listener.serve_forever, args=(REAP_EVERY_S,), name="p33-http",
                                        daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; what is being answered may finish."""
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()


def serve(host: str, port: int, found: Mapping[str, Route], *, port_setting: str = "P33_METRICS_PORT") -> Server:
    """Listen and answer from now on. Raises ConfigurationInvalid, naming the setting, where it cannot listen there."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return Server(_Listener(address[:2], family=family, found=dict(found)))
    except OSError as error:
        no_such_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        name, value = ("P33_METRICS_HOST", host) if no_such_host else (port_setting, port)
        why = error.strerror or type(error).__name__
        raise ConfigurationInvalid([f"{name}={value}: allowed is one to listen on, {host}:{port} is not ({why})"]) \
            from error
