"""The control plane: every move over HTTP, and a state that tests can count on."""

from __future__ import annotations

import pytest

from p33_sidecar.rehearsal.exchange.control import MOVES

MOVED = [
    ("fault", {"endpoint": "ping", "kind": "http_502", "times": 3}),
    ("position", {"symbol": "BTCUSDT", "amt": "0.010", "entry_price": "100000"}),
    ("liquidate", {"symbol": "BTCUSDT"}),
    ("liquidity", {"symbol": "BTCUSDT", "qty": "0.001"}),
    ("mode", {"hedge": True}),
    ("symbol", {"symbol": "BTCUSDT", "status": "SETTLING"}),
    ("latency", {"ms": 1, "endpoint": "ping"}),
    ("lag", {"ms": 500}),
    ("clock", {"ms": -2000}),
    ("limits", {"weight_per_minute": 6000}),
    ("ban", {"seconds": 5}),
    ("clear", {}),
    ("reset", {}),
]


def state(call) -> dict:
    return call.http.get("/_sim/state").json()


@pytest.mark.parametrize(("move", "body"), MOVED)
def test_every_move_is_heard(call, move, body):
    """Each move answers ok."""
    reply = call.sim(move, **body)
    assert reply.json()["ok"] is True, reply.text


def test_the_table_above_is_whole():
    """No move is left out (filling a resting order has a test of its own)."""
    assert {move for move, _ in MOVED} | {"fill"} == set(MOVES)


@pytest.mark.parametrize(
    ("move", "body", "status"),
    [
        ("nonsense", {}, 404),
        ("position", {"symbol": "BTCUSDT"}, 400),
        ("position", {"symbol": "BTCUSDT", "amt": "much"}, 400),
        ("position", {"symbol": "NOSUCHUSDT", "amt": "1"}, 400),
        ("position", {"symbol": "BTCUSDT", "amt": "NaN"}, 400),
        ("position", {"symbol": "BTCUSDT", "amt": "Infinity"}, 400),
        ("position", {"symbol": "BTCUSDT", "amt": "-1e30"}, 400),
        ("liquidity", {"symbol": "NOSUCHUSDT", "qty": "1"}, 400),
        ("liquidity", {"symbol": "BTCUSDT", "qty": "-1"}, 400),
        ("symbol", {"symbol": "BTCUSDT", "step": "small"}, 400),
        ("symbol", {"symbol": "BTCUSDT", "market_max": "NaN"}, 400),
        ("fault", {"kind": "nonsense"}, 400),
        ("fault", {"kind": "http_502", "tmies": 3}, 400),
        ("fill", {"symbol": "BTCUSDT", "order_id": 1}, 400),
        ("liquidate", {"symbol": "BTCUSDT", "kind": "by hand"}, 400),
        ("limits", {"nonsense": 1}, 400),
        ("symbol", {"symbol": "BTCUSDT", "statsu": "BREAK"}, 400),
        ("symbol", {}, 400),
        ("lag", {"ms": 120_001}, 400),
        ("latency", {"ms": -1}, 400),
    ],
)
def test_mistakes_are_told_and_change_nothing(call, move, body, status):
    """A move that cannot be made says why."""
    before = state(call)
    reply = call.sim(move, **body)
    assert (reply.status_code, "error" in reply.json()) == (status, True)
    assert state(call) == before


def test_a_hand_at_the_exchange(call):
    """A position moved by a person leaves an order and a trade that no client of ours made."""
    call.sim("position", symbol="BTCUSDT", amt="-0.5", entry_price="100000")
    seen = state(call)
    assert {"symbol": "BTCUSDT", "side": "BOTH", "amt": "-0.5", "entry_price": "100000"}.items() <= seen["positions"][
        0
    ].items()
    assert seen["orders"][0]["client_order_id"].startswith("web_")
    assert (seen["trades"][0]["side"], seen["trades"][0]["qty"]) == ("SELL", "0.538")


def test_requests_are_counted_with_their_times(call, clock, exchange):
    """How often an endpoint was asked, and when; the control plane itself is not counted."""
    for _ in range(3):
        call("GET", "/fapi/v2/positionRisk")
        clock.advance(5000)
    call("GET", "/fapi/v1/nothing")
    requests = state(call)["requests"]
    assert requests["counts"] == {"GET positionRisk": 3, "unknown": 1}
    times = [r["at_ms"] for r in requests["log"] if r["endpoint"] == "GET positionRisk"]
    assert [later - times[0] for later in times] == [0, 5000, 10_000]
    assert exchange.request_count("positionRisk") == exchange.request_count("GET positionRisk") == 3
    assert call.http.get("/_sim/state?log=0").json()["requests"]["log"] == []


def test_symbol_changes_show_everywhere(call, exchange):
    """A changed or delisted contract is so in exchangeInfo, in the positions and for orders."""
    call.sim("symbol", symbol="ETHUSDT", step="0.01", status="SETTLING")
    call.sim("symbol", symbol="TRXUSDT", listed=False)
    listed = {s["symbol"]: s for s in call.http.get("/fapi/v1/exchangeInfo").json()["symbols"]}
    assert "TRXUSDT" not in listed
    assert listed["ETHUSDT"]["status"] == "SETTLING"
    assert {r["symbol"] for r in call("GET", "/fapi/v2/positionRisk").json()} == listed.keys()
    assert call.order("BUY", "1", symbol="TRXUSDT").json()["code"] == -1121
    assert call.order("BUY", "1", symbol="ETHUSDT").json()["code"] == -4141
    assert call("GET", "/fapi/v3/account").status_code == 200


def test_a_shifted_clock_is_the_exchanges_own(call, clock):
    """With the exchange's clock two seconds behind, an honest timestamp is ahead."""
    call.sim("clock", ms=-2000)
    assert call.http.get("/fapi/v1/time").json()["serverTime"] == clock.now_ms - 2000
    assert "ahead" in call("GET", "/fapi/v1/accountConfig").json()["msg"]


def test_reset_goes_back_to_the_beginning(call, exchange):
    """After a reset nothing is left of what happened."""
    before = state(call)
    call.order()
    call.sim("mode", hedge=True)
    call.sim("fault", kind="http_502", times=None)
    call.sim("reset")
    assert state(call) == before


def test_unknown_path_is_a_page(call):
    """Where there is nothing, the proxy answers with HTML."""
    reply = call.http.get("/fapi/v9/nothing")
    assert (reply.status_code, reply.headers["content-type"]) == (404, "text/html")
