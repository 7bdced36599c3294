"""No server holds us longer than the deadline or fills our memory."""

import gzip

import pytest

from p33_sidecar.errors import ExchangeUnavailable

from .conftest import http, row


@pytest.mark.parametrize("head", [
    b"", b"HTTP/1.1 200 OK\r\nx-", b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n",
    b"HTTP/1.1 502 Bad\r\ncontent-length: 9999\r\n\r\n"])
def test_trickling_server_meets_the_deadline(rig, stopwatch, head):
    """A byte every 20 ms keeps no read timeout busy, but the request ends at its deadline of 300 ms."""
    with pytest.raises(ExchangeUnavailable) as caught:
        rig.plays(rig.server.trickle(head)).exchange.positions()
    assert caught.value.kind in ("timeout", "disconnected", "http_5xx")
    assert stopwatch() < 1.0


def test_too_large_reply_is_left_unread(rig):
    """8 MB is the bound for positions."""
    with pytest.raises(ExchangeUnavailable) as caught:
        rig.plays(http(200, b" " * (9 << 20))).exchange.positions()
    assert caught.value.kind == "too_large"


def test_gzip_is_understood_and_a_bomb_is_not_unpacked(rig):
    """The bound holds for the unpacked bytes."""
    packed = gzip.compress(b" " * (9 << 20))
    rig.plays(http(200, gzip.compress(b'[]'), content_encoding="gzip"), http(200, packed, content_encoding="gzip"))
    for kind in ("empty_list", "too_large"):
        with pytest.raises(ExchangeUnavailable) as caught:
            rig.exchange.positions()
        assert caught.value.kind == kind


def test_connection_is_kept(rig):
    """Two polls use one connection, and a poll after a failure makes a new one."""
    rig.plays(http(200, [row()]), http(200, [row()]), rig.server.silence, http(200, [row()]))
    rig.exchange.positions()
    rig.exchange.positions()
    assert len(rig.server._connections) == 1
    with pytest.raises(ExchangeUnavailable):
        rig.exchange.positions()
    assert rig.exchange.positions().positions


def test_nobody_listening(rig):
    """A refused connection has its own name."""
    rig.server.stop()
    with pytest.raises(ExchangeUnavailable) as caught:
        rig.exchange.positions()
    assert caught.value.kind == "connect"
