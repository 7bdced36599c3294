"""The HTTP side over real sockets: right answers, and no client that can hold the service up."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from p33_sidecar.errors import ConfigurationInvalid
from p33_sidecar.service import http
from p33_sidecar.service.http import Answer, Health, Server, routes, serve, shared
from p33_sidecar.service.metrics import Metrics
from p33_sidecar.service.status import status
from tests.service.pictured import NOW_MS, StoppedClock, ready_memory

LIMITS_MS = {"desk": 2_000, "poller": 20_000}


class Side:
    """A served memory, and the one client of the test."""

    def __init__(self) -> None:
        self.memory, self.clock = ready_memory(), StoppedClock()
        metrics = Metrics(self.memory, self.clock, version="0.1.0", policy_hash="abc", loosened=False)
        self.server = serve("127.0.0.1", 0, routes(
            self.memory, self.clock, render=metrics.render,
            health=Health(self.memory, self.clock, limits_ms=LIMITS_MS),
            status=lambda: status(self.memory, self.clock)))
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.server.port}", trust_env=False, timeout=5)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def raw(self, sent: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=5) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture(autouse=True)
def quick_to_close(monkeypatch) -> None:
    """Closing waits for one round of the listener."""
    monkeypatch.setattr(http, "REAP_EVERY_S", 0.02)


@pytest.fixture
def side() -> Iterator[Side]:
    built = Side()
    yield built
    built.close()


@pytest.mark.parametrize(("path", "kind", "part"), [
    ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "p33_open_permits 0.0"),
    ("/healthz", "text/plain; charset=utf-8", "ok"),
    ("/readyz", "text/plain; charset=utf-8", "ready"),
    ("/", "text/html; charset=utf-8", "<!doctype html>"),
    ("/status.json", "application/json", '"venue":"demo-fapi.binance.com"'),
    ("/status.json?x=1", "application/json", '"ready":true'),
])
def test_each_path_answers(side, path, kind, part):
    """200 with the right type, safe headers, and no word about the software."""
    reply = side.get(path)
    assert (reply.status_code, reply.headers["content-type"]) == (200, kind)
    assert part in reply.text
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "server" not in reply.headers


def test_status_json_is_json(side):
    """The whole of it can be read back."""
    assert json.loads(side.get("/status.json").content)["now_ms"] == NOW_MS


def test_head_says_the_same_without_a_body(side):
    """The length is the one a GET would have."""
    head, get = side.client.head("/"), side.get("/")
    assert head.status_code == 200 and head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))


@pytest.mark.parametrize("path", ["/x", "/../etc/passwd", "/page.html", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd",
                                  "/status.json/", "/metrics/../x", "/\u00e9"])
def test_no_path_reaches_a_file(side, path):
    """There are five paths and nothing else."""
    reply = side.raw(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert reply.startswith(b"HTTP/1.0 404 Not Found\r\n")
    assert b"nosniff" in reply and b"root:" not in reply


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_it_is_for_reading_only(side, method):
    """405 names what is allowed."""
    reply = side.client.request(method, "/status.json")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(("sent", "status"), [
    (b"BREW / HTTP/1.1\r\n\r\n", b"501"), (b"GET / HTTP/9.9\r\n\r\n", b"505"), (b"<script> / x / y\r\n\r\n", b"400"),
    (b"GET /\r\n\r\n", b"200"),
    (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"), (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200, b"431"),
])
def test_what_is_not_quite_http_gets_a_proper_answer(side, sent, status):
    """The protocol's own errors carry the same headers, no markup and no banner."""
    reply = side.raw(sent)
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == status
    assert b"nosniff" in head
    assert status == b"200" or (b"text/plain" in head and b"<script>" not in body)
    assert b"Python" not in reply and b"Server:" not in reply


# -- health and readiness -------------------------------------------------------------------------------------


def test_a_loop_that_does_not_turn_is_named(side):
    """Each loop has its own limit; reaching it exactly is still well."""
    side.memory.turned("desk", side.clock.mono_ns())
    side.memory.turned("poller", side.clock.mono_ns())
    side.clock.pass_ms(2_000)
    assert side.get("/healthz").status_code == 200
    side.clock.pass_ms(1)
    reply = side.get("/healthz")
    assert reply.status_code == 503
    assert reply.text == "desk: no turn for 2001 ms, limit 2000 ms\n"


def test_a_loop_that_never_turned_counts_from_the_start(side):
    """A start that hangs is noticed too."""
    assert side.get("/healthz").status_code == 200
    side.clock.pass_ms(20_001)
    assert [line.split(":")[0] for line in side.get("/healthz").text.splitlines()] == ["desk", "poller"]


def test_without_redis_it_lives_and_is_not_ready(side):
    """A restart would not bring Redis back: health and readiness are two questions."""
    side.memory.store_down_since_ms = NOW_MS
    assert side.get("/healthz").status_code == 200
    reply = side.get("/readyz")
    assert (reply.status_code, reply.text) == (503, "redis_unavailable\n")


def test_every_reason_stands_on_its_own_line(side):
    """A halt, and an exchange that went stale while we looked."""
    side.memory.halts = {"": {}}
    side.clock.pass_ms(60_000)
    assert side.get("/readyz").text.splitlines() == ["halted", "exchange_stale"]


def test_a_halted_symbol_does_not_make_all_unready(side):
    """Other symbols' verdicts can be ALLOW."""
    side.memory.halts = {"BTCUSDT": {}}
    assert side.get("/readyz").status_code == 200


# -- nobody holds it up ---------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch) -> Iterator[Server]:
    """Room for two connections of 300 ms each; one path answers, one fails."""
    monkeypatch.setattr(http, "MOST_CONNECTIONS", 2)
    monkeypatch.setattr(http, "CONNECTION_S", 0.3)

    def fails() -> Answer:
        raise KeyError("secret-ish detail")

    server = serve("127.0.0.1", 0, {"/": lambda: Answer(200, http.TEXT, b"ok\n"), "/fails": fails})
    yield server
    server.close()


def ask(server: Server, path: str = "/") -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{server.port}{path}", trust_env=False, timeout=5)


def test_slow_clients_are_cut_off_and_their_room_is_given_back(small, monkeypatch):
    """Two that send a byte now and then fill the house, and only for as long as a connection may take."""
    monkeypatch.setattr(http, "CONNECTION_S", 2.0)
    slow = [socket.create_connection(("127.0.0.1", small.port)) for _ in range(2)]
    for connection in slow:
        connection.sendall(b"GET / HT")
    deadline, refused, answered = time.monotonic() + 30, False, None
    while answered is None and time.monotonic() < deadline:
        for connection in slow:
            try:
                connection.sendall(b"T")
            except OSError:
                continue
        try:
            answered = ask(small)
        except httpx.TransportError:
            refused = True
    for connection in slow:
        connection.close()
    assert refused and answered is not None and answered.status_code == 200


def test_a_defect_in_an_answer_is_told_without_its_details(small, caplog):
    """500 to the client, the story to the log, and the server goes on."""
    reply = ask(small, "/fails")
    assert (reply.status_code, reply.text) == (500, "500 see the log\n")
    assert caplog.records[-1].getMessage() == "http.failed" and caplog.records[-1].exc_info
    assert ask(small).status_code == 200


def test_one_answer_is_made_for_all_who_ask_at_once():
    """Twenty open pages cost what one costs; later ones get a new answer."""
    now_s, made = [0.0], []

    def make() -> Answer:
        made.append(1)
        return Answer(200, http.TEXT, str(len(made)).encode())

    answer = shared(make, keep_s=0.1, now_s=lambda: now_s[0])
    threads = [threading.Thread(target=answer) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), answer().body) == (1, b"1")
    now_s[0] = 0.1
    assert answer().body == b"2"


# -- start and end --------------------------------------------------------------------------------------------


def test_a_port_in_use_names_its_setting(side):
    """The operator reads which variable to change, not a traceback."""
    with pytest.raises(ConfigurationInvalid) as caught:
        serve("127.0.0.1", side.server.port, {})
    assert caught.value.problems[0].startswith(f"P33_METRICS_PORT={side.server.port}: ")


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_an_address_that_is_not_ours_names_its_setting(host):
    """Neither a foreign address nor a name that means nothing."""
    with pytest.raises(ConfigurationInvalid) as caught:
        serve(host, 0, {})
    assert caught.value.problems[0].startswith(f"P33_METRICS_HOST={host}: ")


def test_the_other_family_of_addresses_works_too():
    """P33_METRICS_HOST=::1."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    server = serve("::1", 0, {"/": lambda: Answer(200, http.TEXT, b"ok\n")})
    try:
        assert httpx.get(f"http://[::1]:{server.port}/", trust_env=False).status_code == 200
    finally:
        server.close()


def test_a_closed_server_frees_its_port():
    """A restart finds the port free."""
    server = serve("127.0.0.1", 0, {})
    server.close()
    again = serve("127.0.0.1", server.port, {})
    again.close()
    assert again.port == server.port
