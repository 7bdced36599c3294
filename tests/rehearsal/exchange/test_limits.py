"""Budgets: weight per clock minute, orders per account, 429, then 418 until a named time."""

from __future__ import annotations

from p33_sidecar.rehearsal.exchange import SimExchange


def used(reply) -> int:
    return int(reply.headers["x-mbx-used-weight-1m"])


def test_weight_is_told_and_starts_anew_each_clock_minute(call, clock):
    """The counter runs over the clock minute, not over 60 seconds."""
    assert used(call("GET", "/fapi/v2/positionRisk")) == 5
    assert used(call("GET", "/fapi/v1/openOrders")) == 45
    assert used(call("GET", "/fapi/v1/openOrders", symbol="BTCUSDT")) == 46
    clock.advance(60_000 - clock.now_ms % 60_000 - 1)
    assert used(call("GET", "/fapi/v1/ping")) == 47
    clock.advance(1)
    assert used(call("GET", "/fapi/v1/ping")) == 1


def test_over_the_limit_is_429_with_retry_after(call, exchange, clock):
    """Exactly the limit passes; one more is 429, and Retry-After leads to the next minute."""
    exchange.set_limits(weight_per_minute=10)
    clock.advance(60_000 - clock.now_ms % 60_000 + 45_500)
    assert call("GET", "/fapi/v2/positionRisk").status_code == 200
    assert call("GET", "/fapi/v2/positionRisk").status_code == 200
    refused = call("GET", "/fapi/v2/positionRisk")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "15")
    assert refused.json() == {
        "code": -1003,
        "msg": "Too many requests; current limit is 10 requests per minute."
        " Please use the websocket for live updates to avoid polling the API.",
    }
    clock.advance(15_000)
    assert call("GET", "/fapi/v2/positionRisk").status_code == 200


def test_i22_going_on_is_a_ban_and_going_on_again_a_longer_one(call, exchange, clock):
    """Who goes on after 429 is banned; nothing gets through before the named time, everything after."""
    exchange.set_limits(weight_per_minute=1, warnings_before_ban=2, ban_ms=120_000)
    statuses = [call("GET", "/fapi/v1/accountConfig").status_code for _ in range(4)]
    assert statuses == [429, 429, 418, 418]
    banned = call("GET", "/fapi/v1/ping")
    until_ms = clock.now_ms + 120_000
    assert banned.headers["Retry-After"] == "120"
    assert banned.json()["msg"].startswith(f"Way too many requests; IP banned until {until_ms}.")
    clock.advance(119_999)
    assert call("GET", "/fapi/v1/ping").status_code == 418
    clock.advance(1)
    assert call("GET", "/fapi/v1/ping").status_code == 200
    statuses = [call("GET", "/fapi/v1/accountConfig").status_code for _ in range(3)]
    assert statuses == [429, 429, 418]
    assert exchange.ban() - clock.now_ms == 480_000


def test_orders_are_counted_per_account(call, exchange, clock):
    """Orders have their own budget of 10 seconds and a minute, and headers that tell it."""
    exchange.set_limits(orders_per_10s=2)
    first = call.order(quantity="0.001")
    assert (first.headers["x-mbx-order-count-10s"], first.headers["x-mbx-order-count-1m"]) == ("1", "1")
    assert used(first) == 0
    call.order(quantity="0.001")
    refused = call.order(quantity="0.001")
    assert refused.status_code == 429
    assert refused.json() == {"code": -1015, "msg": "Too many new orders; current limit is 2 orders per TEN_SECONDS."}
    clock.advance(10_000)
    assert call.order(quantity="0.001").headers["x-mbx-order-count-1m"] == "4"


def test_a_restarted_server_forgets_nothing(clock):
    """Stopped and started, the exchange keeps its port, its account and its bans."""
    sim = SimExchange(symbols=1, clock=clock).start()
    url, until_ms = sim.url, sim.ban(60)
    sim.stop()
    with sim:
        assert sim.url == url
        assert sim.app.budget.bans() == {"127.0.0.1": until_ms}
