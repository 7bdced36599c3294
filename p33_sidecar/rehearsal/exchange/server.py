"""The socket: HTTP/1.1 with keep-alive in front of a function from request to reply.

Nothing is decided here. A reply is one write; a cut reply ends the connection after the bytes it allows.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from p33_sidecar.rehearsal.exchange.model import Reply, Request

LARGEST_BODY = 1_000_000


class Server(ThreadingHTTPServer):
    """Serves `answer` on a thread of its own until `close`."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], answer: Callable[[Request], Reply], clock: Callable[[], int]) -> None:
        super().__init__(address, Handler)
        self.answer = answer
        self.clock = clock
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="sim-exchange", daemon=True)

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop listening and cut every connection, as a server does that dies."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in tuple(self._connections):
            _cut(connection)

    def process_request(self, request: socket.socket, client_address: object) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: socket.socket, client_address: object) -> None:
        """A client that went away is no error of ours."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        told = self.headers.get("Content-Length") or "0"
        if not (told.isascii() and told.isdigit()):
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        length = int(told)
        if length > LARGEST_BODY:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        path, _, query = self.path.partition("?")
        request = Request(
            method=self.command,
            path=path,
            query=query.encode("latin-1"),
            body=self.rfile.read(length) if length else b"",
            api_key=self.headers.get("X-MBX-APIKEY"),
            ip=self.client_address[0],
        )
        self._write(self.server.answer(request))

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the application keeps its own record."""

    def _write(self, reply: Reply) -> None:
        if reply.cut_at is not None:
            self.close_connection = True
            self.wfile.write(self._bytes(reply, body=reply.body[: reply.cut_at]) if reply.cut_at else b"")
            return
        self.wfile.write(self._bytes(reply, body=reply.body))

    def _bytes(self, reply: Reply, *, body: bytes) -> bytes:
        headers = {
            "Date": formatdate(self.server.clock() // 1000, usegmt=True),
            "Content-Type": reply.content_type,
            "Content-Length": str(len(reply.body)),
        } | reply.headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {reply.status} {_phrase(reply.status)}\r\n{lines}\r\n".encode("latin-1") + body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was gone already
