"""A small exchange on a real socket: it plays the replies it was given and keeps the requests as they came."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from p33_sidecar.errors import StoreUnavailable
from p33_sidecar.exchange import Credentials, Exchange

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
SECRET = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"
KEY = "dbefbc809e3e83c283a984c3a1459732ea7db1360ca80c5c2c8867408d28cc83"


def fixture(name: str) -> bytes:
    """A recorded payload; where the recordings are not at hand the test says so."""
    path = FIXTURES / name
    if not path.exists():
        pytest.skip(f"recorded payload {name} is not at hand")
    return path.read_bytes()


def row(symbol: str = "BTCUSDT", **changes) -> dict:
    """A flat one-way row of positionRisk v2, with changes; None takes a field away."""
    fields = {
        "symbol": symbol, "positionAmt": "0.000", "entryPrice": "0.0", "markPrice": "21123.05052574", "leverage": "4",
        "unRealizedProfit": "0.00000000", "positionSide": "BOTH", "updateTime": 0,
        "isAutoAddMargin": "false", **changes}
    return {name: value for name, value in fields.items() if value is not None}


class Request(msgspec.Struct, frozen=True):
    """A request, byte for byte."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def payload(self) -> str:
        return self.body.decode() or self.target.partition("?")[2]


Reply = Callable[[socket.socket], None]


def http(status: int, body: object = b"", *, content_type: str = "application/json", **headers: str) -> Reply:
    """A whole reply. Header names are written with `_`."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"content-type": content_type, "content-length": str(len(raw)),
             **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in named.items()) + "\r\n"
    return lambda connection: connection.sendall(head.encode() + raw)


def hang_up(connection: socket.socket) -> None:
    """Close without a word."""
    connection.shutdown(socket.SHUT_RDWR)


class Server:
    """Plays one reply per request, in order."""

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.stopping.set()
        for each in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def trickle(self, head: bytes) -> Reply:
        """Send `head`, then a byte every 20 ms until the other side has had enough."""
        def reply(connection: socket.socket) -> None:
            connection.sendall(head)
            while not self.stopping.wait(0.02):
                connection.sendall(b"x")
        return reply

    def silence(self, connection: socket.socket) -> None:
        """Say nothing until the end of the test."""
        self.stopping.wait(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as reader:
                while line := reader.readline():
                    self.requests.append(_request(line, reader))
                    self.replies.popleft()(connection)
        except OSError:
            return


def _request(line: bytes, reader) -> Request:
    method, target, _ = line.decode("ascii").split(" ")
    headers = {}
    while (header := reader.readline().strip()):
        name, _, value = header.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return Request(method, target, headers, reader.read(int(headers.get("content-length", "0"))))


class Bans:
    """A ban store in memory that can be made to fail."""

    def __init__(self) -> None:
        self.until_ms, self.why, self.down = 0, "", False

    def ban_until_ms(self) -> int:
        if self.down:
            raise StoreUnavailable("down")
        return self.until_ms

    def set_ban(self, until_ms: int, why: str) -> None:
        if self.down:
            raise StoreUnavailable("down")
        self.until_ms, self.why = max(until_ms, self.until_ms), why


class Clock:
    """Both clocks of an exchange, moved by hand."""

    def __init__(self) -> None:
        self.ms, self.mono = 1_764_000_000_000, 0

    def now_ms(self) -> int:
        return self.ms

    def mono_ns(self) -> int:
        return self.mono

    def pass_ms(self, ms: int) -> None:
        self.ms += ms
        self.mono += ms * 1_000_000


class Seen:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.requests, self.weights, self.bans = [], [], []

    def request(self, *, endpoint: str, status: str, seconds: float) -> None:
        self.requests.append((endpoint, status))

    def weight(self, used: int) -> None:
        self.weights.append(used)

    def ban(self, until_ms: int) -> None:
        self.bans.append(until_ms)


class Rig:
    """An exchange client in front of the server, with all its parts at hand."""

    def __init__(self, server: Server) -> None:
        self.server, self.bans, self.clock, self.seen = server, Bans(), Clock(), Seen()
        self.exchange = self.client()

    def client(self, **changes) -> Exchange:
        settings = {
            "base_url": self.server.url, "credentials": Credentials(KEY, SECRET), "bans": self.bans,
            "now_ms": self.clock.now_ms, "mono_ns": self.clock.mono_ns, "observer": self.seen, "timeout_s": 0.3,
            **changes}
        return Exchange(settings.pop("base_url"), **settings)

    def plays(self, *replies: Reply) -> Rig:
        self.server.replies.extend(replies)
        return self

    def closes(self, **changes):
        order = {"side": "SELL", "quantity": "0.028", "client_order_id": "p33-f1a8", "recv_window_ms": 5000,
                 "timestamp_ms": self.clock.ms, "symbol": "BTCUSDT", **changes}
        return self.exchange.close_market(order.pop("symbol"), **{**order, "quantity": Decimal(order["quantity"])})


@pytest.fixture
def rig():
    server = Server()
    built = Rig(server)
    yield built
    built.exchange.close()
    server.stop()


@pytest.fixture
def stopwatch():
    """Seconds since the test began."""
    began = time.monotonic()
    return lambda: time.monotonic() - began
