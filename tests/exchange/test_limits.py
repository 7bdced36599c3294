"""Bans are obeyed by every process and across restarts; the last of the weight belongs to what matters."""

import pytest

from p33_sidecar.errors import ExchangeBanned, ExchangeUnavailable
from p33_sidecar.exchange.limits import LONGEST_BAN_MS, ban_until_ms

from .conftest import http, row

NOW = 1_764_000_000_000


@pytest.mark.parametrize(("status", "headers", "body", "wait_ms"), [
    (429, {}, b"", 5_000), (418, {}, b"", 120_000), (403, {}, b"<html>", 60_000), (451, {}, b"", 300_000),
    (429, {"retry-after": "30"}, b"", 30_000), (429, {"retry-after": "1"}, b"", 5_000),
    (429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"", 5_000), (429, {"retry-after": "-1"}, b"", 5_000),
    (418, {"retry-after": "200"}, b"IP banned until 1764000900000. Please", 900_000),
    (418, {"retry-after": "2000"}, b"IP banned until 1764000900000. Please", 2_000_000),
    (418, {}, b"banned until 1000000000000", 120_000), (418, {}, b"banned until 17640009000001", 120_000),
    (418, {"retry-after": "999999999"}, b"banned until 9999999999999", LONGEST_BAN_MS),
])
def test_end_of_a_ban(status, headers, body, wait_ms):
    """The latest of default, Retry-After and text, and never longer than the exchange's longest ban."""
    assert ban_until_ms(status, headers, body, now_ms=NOW) == NOW + wait_ms


def test_I22_no_request_before_the_end_of_a_ban_also_after_a_restart(rig):
    """418 is stored; this client, another one and a restarted one send nothing before its end, and then again."""
    rig.plays(http(418, {"code": -1003, "msg": f"Way too many requests; IP banned until {rig.clock.ms + 900_000}."}))
    with pytest.raises(ExchangeBanned) as caught:
        rig.exchange.positions()
    assert caught.value.until_ms == rig.bans.until_ms == rig.clock.ms + 900_000 == rig.seen.bans[0]
    restarted = rig.client()
    rig.clock.pass_ms(899_999)
    for client in (rig.exchange, restarted):
        for ask in (client.positions, client.filters, client.sync_time, client.one_way_mode):
            with pytest.raises(ExchangeBanned):
                ask()
    with pytest.raises(ExchangeBanned):
        rig.closes()
    assert len(rig.server.requests) == 1
    rig.clock.pass_ms(1)
    assert rig.plays(http(200, [row()])).exchange.positions().positions
    restarted.close()


@pytest.mark.parametrize("status", [200, 400, 401, 403, 408, 418, 429, 500, 503])
def test_I22_1003_is_a_ban_under_any_status(rig, status):
    """The code says it, whatever the status: nothing is sent before the time named, and an order was not executed."""
    body = {"code": -1003, "msg": f"Way too many requests; IP banned until {rig.clock.ms + 900_000}."}
    with pytest.raises(ExchangeBanned) as caught:
        rig.plays(http(status, body)).closes()
    assert caught.value.until_ms == rig.bans.until_ms == rig.clock.ms + 900_000
    with pytest.raises(ExchangeBanned):
        rig.exchange.positions()
    assert len(rig.server.requests) == 1


def test_1003_without_a_time_backs_off_like_429(rig):
    """No time named: stay away for a while all the same."""
    with pytest.raises(ExchangeBanned) as caught:
        rig.plays(http(400, {"code": -1003, "msg": "Too many requests"})).exchange.positions()
    assert caught.value.until_ms == rig.clock.ms + 5_000


def test_a_clock_that_jumps_ahead_does_not_end_a_ban(rig):
    """Both clocks have to agree that it is over (T13)."""
    with pytest.raises(ExchangeBanned):
        rig.plays(http(429)).exchange.positions()
    rig.clock.ms += 3_600_000
    with pytest.raises(ExchangeBanned):
        rig.exchange.positions()


def test_a_ban_learnt_while_the_store_is_down_is_kept_and_stored_later(rig):
    """The order's definite outcome is told, nothing is sent meanwhile, and the store hears of it when it is back."""
    def ban_and_lose_the_store(connection):
        rig.bans.down = True
        http(429, {"code": -1015, "msg": "x"})(connection)
    with pytest.raises(ExchangeBanned):
        rig.plays(ban_and_lose_the_store).closes()
    with pytest.raises(ExchangeBanned):
        rig.exchange.positions()
    rig.clock.pass_ms(5_000)
    with pytest.raises(ExchangeUnavailable) as caught:
        rig.exchange.positions()
    assert caught.value.kind == "ban_unknown"
    rig.bans.down = False
    rig.plays(http(200, [row()])).exchange.positions()
    assert rig.bans.why == "throttled_429" and len(rig.server.requests) == 2


def test_weight_margin(rig):
    """At 70 % of the limit filters and mode stay at home, at 90 % look-ups; positions go on; a new minute frees."""
    ask = rig.exchange
    rig.plays(http(200, [row()], x_mbx_used_weight_1m="1680")).exchange.positions()
    for low in (ask.filters, ask.one_way_mode):
        with pytest.raises(ExchangeUnavailable) as caught:
            low()
        assert caught.value.kind == "weight_margin"
    rig.plays(http(400, {"code": -2013, "msg": ""}), http(200, [row()], x_mbx_used_weight_1m="2160"))
    assert ask.order("BTCUSDT", order_id="1") is None
    ask.positions()
    with pytest.raises(ExchangeUnavailable):
        ask.order("BTCUSDT", order_id="1")
    rig.plays(http(200, [row()]))
    ask.positions()
    assert (ask.used_weight, rig.seen.weights) == (2160, [1680, 2160])
    rig.clock.pass_ms(60_000)
    assert ask.used_weight == 0
    rig.plays(http(200, {"dualSidePosition": False}))
    assert ask.one_way_mode()


def test_without_credentials_nothing_signed_is_sent(rig):
    """I25: unconfigured is a named state; public data can still be read."""
    client = rig.client(credentials=None)
    assert not client.configured
    for ask in (client.positions, client.one_way_mode):
        with pytest.raises(ExchangeUnavailable) as caught:
            ask()
        assert caught.value.kind == "unconfigured"
    rig.plays(http(200, {"serverTime": rig.clock.ms}))
    assert client.sync_time() == 0 and "x-mbx-apikey" not in rig.server.requests[0].headers
    client.close()


@pytest.mark.parametrize(("url", "venue"), [
    ("https://demo-fapi.binance.com", "demo-fapi.binance.com"), ("http://127.0.0.1:8081/", "127.0.0.1:8081"),
    ("https://fapi.binance.com:8443", "fapi.binance.com:8443")])
def test_venue_is_the_host_with_its_port(rig, url, venue):
    """What the database is marked with (contract, chapter 2)."""
    client = rig.client(base_url=url)
    assert client.venue == venue
    client.close()


def test_reads_are_retried_once_after_a_clock_refusal(rig):
    """-1021 on a read: measure, ask again, and the reply is as old as the second request."""
    refusal = http(400, {"code": -1021, "msg": "x"})
    rig.plays(refusal, http(200, {"serverTime": rig.clock.ms - 1_458}), http(200, [row()]))
    assert rig.exchange.positions().positions
    assert f"timestamp={rig.clock.ms - 1_458}&" in rig.server.requests[2].payload
    rig.plays(refusal, http(200, {"serverTime": rig.clock.ms}), refusal)
    with pytest.raises(ExchangeUnavailable) as caught:
        rig.exchange.positions()
    assert caught.value.kind == "clock" and len(rig.server.requests) == 6
