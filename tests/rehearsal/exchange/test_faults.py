"""Everything that goes wrong on order: what the sender sees, and whether the order was executed."""

from __future__ import annotations

import time
from decimal import Decimal

import httpx
import pytest

from p33_sidecar.rehearsal.exchange import KINDS, Fault, SimExchange

UNKNOWN = [("http_408", 408, -1007), ("http_503_a", 503, -1000), ("http_502", 502, None), ("http_504", 504, None)]
ODD_SUCCESS = [("html_200", 200, None), ("empty_200", 200, None), ("error_200", 200, -1000)]
DEFINITE = [
    ("http_503_b", 503, -1001),
    ("http_503_c", 503, -1008),
    ("http_503_d", 503, -1001),
    ("http_403", 403, None),
    ("http_451", 451, 0),
    ("http_418", 418, -1003),
    ("http_429", 429, -1003),
]
BY_STATUS = [*UNKNOWN, *ODD_SUCCESS, *DEFINITE]


def code_in(reply: httpx.Response) -> int | None:
    return reply.json()["code"] if reply.headers["content-type"] == "application/json" and reply.content else None


def test_every_kind_is_tested_here():
    """No kind of fault is without a test."""
    elsewhere = {"drop", "truncated", "reject", "hang"}
    rows = {"missing_rows", "empty_list", "hedge_rows", "stale_rows", "garbage_qty"}
    assert {kind for kind, *_ in BY_STATUS} | elsewhere | rows | {"odd_status"} == set(KINDS)


@pytest.mark.parametrize(("kind", "status", "code"), BY_STATUS)
def test_reads_see_the_fault_once_and_then_the_truth(call, exchange, kind, status, code):
    """A fault for one request is gone after it (a ban excepted), and is on record."""
    exchange.fault(kind, "positionRisk")
    reply = call("GET", "/fapi/v2/positionRisk")
    assert (reply.status_code, code_in(reply)) == (status, code)
    assert (exchange.requests[-1].status, exchange.requests[-1].fault) == (status, kind)
    assert call("GET", "/fapi/v2/positionRisk").status_code == (418 if kind == "http_418" else 200)


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize(("kind", "status", "code"), UNKNOWN + ODD_SUCCESS)
def test_unknown_outcomes(call, exchange, kind, status, code, executed):
    """The same answer hides an order that was executed or one that never arrived."""
    exchange.fault(kind, "POST order", executed=executed)
    reply = call.order(reduceOnly="true", newClientOrderId="p33-x")
    assert (reply.status_code, code_in(reply)) == (status, code)
    assert [o.client_order_id for o in exchange.orders] == ["p33-x"] * executed
    assert exchange.position_amt("BTCUSDT") == Decimal("0.010" if executed else "0.038")


@pytest.mark.parametrize(("kind", "status", "code"), DEFINITE)
def test_definite_failures_never_execute(call, exchange, kind, status, code):
    """A definite failure leaves no order, whatever the fault was told."""
    exchange.fault(kind, "order", executed=True)
    assert call.order().status_code == status
    assert exchange.orders == []


def test_throttling_spares_reduce_only(call, exchange):
    """503 C lets orders that only reduce through, and waits for one that does not."""
    exchange.fault("http_503_c", "order")
    assert call.order(reduceOnly="true").status_code == 200
    assert call.order(quantity="0.001").status_code == 503


def test_throttling_spares_the_close_of_a_leg(call, exchange):
    """In hedge mode SELL LONG and BUY SHORT reduce, and carry no reduceOnly; BUY LONG opens."""
    exchange.set_mode(hedge=True)
    exchange.fault("http_503_c", "order")
    assert call.order("SELL", positionSide="LONG").status_code == 200
    assert call.order("BUY", positionSide="LONG").status_code == 503


@pytest.mark.parametrize("executed", [True, False])
def test_dropped_connection(call, exchange, executed):
    """The connection ends without a byte, before or after the order was executed."""
    exchange.fault("drop", "order", executed=executed)
    with pytest.raises(httpx.RemoteProtocolError):
        call.order()
    assert len(exchange.orders) == executed
    assert exchange.requests[-1].status == 0


def test_truncated_body(call, exchange):
    """Half a body, executed: the length was promised and not kept."""
    exchange.fault("truncated", "order")
    with pytest.raises(httpx.RemoteProtocolError):
        call.order()
    assert len(exchange.orders) == 1


def test_reject(call, exchange):
    """Any refusal can be had by its code."""
    exchange.fault("reject", "order", code=-4118, msg="ReduceOnly Order Failed.")
    assert call.order().json() == {"code": -4118, "msg": "ReduceOnly Order Failed."}
    assert exchange.orders == []


def test_hang_before_and_after_execution(call, exchange):
    """A hanging order arrives late (and meets its recvWindow), or has been executed all along."""
    exchange.fault("hang", "order", seconds=30, executed=True)
    with pytest.raises(httpx.ReadTimeout):
        call.http.post("/fapi/v1/order?" + _order(call), timeout=0.1)
    assert len(exchange.orders) == 1
    exchange.fault("hang", "order", seconds=0.05)
    assert call.order(quantity="0.001").status_code == 200


def test_late_arrival_meets_its_recv_window(call, exchange, clock):
    """An order that hung longer than its recvWindow is refused when it arrives."""
    exchange.app.wait = lambda seconds: clock.advance(int(seconds * 1000))
    exchange.fault("hang", "order", seconds=6)
    assert call.order(recvWindow=5000).json()["code"] == -1021
    assert exchange.orders == []


def _order(call) -> str:
    return call.signed(symbol="BTCUSDT", side="SELL", type="MARKET", quantity="0.010")


def test_stopping_ends_what_hangs(clock):
    """`stop` does not wait for a hanging request."""
    sim = SimExchange(symbols=1, clock=clock).start()
    sim.fault("hang", "ping", seconds=600)
    with httpx.Client() as client, pytest.raises(httpx.ReadTimeout):
        client.get(sim.url + "/fapi/v1/ping", timeout=0.05)
    began = time.monotonic()
    sim.stop()
    assert time.monotonic() - began < 30


def rows(call) -> dict[str, dict]:
    return {f"{r['symbol']} {r['positionSide']}": r for r in call("GET", "/fapi/v2/positionRisk").json()}


def test_i19_missing_rows_and_empty_lists(call, exchange):
    """Rows can be left out of a good answer, and a good answer can be empty."""
    exchange.fault("missing_rows", "positionRisk", symbols=("BTCUSDT",))
    assert "BTCUSDT BOTH" not in (seen := rows(call))
    assert len(seen) == 69
    exchange.fault("empty_list", "positionRisk")
    assert rows(call) == {}


def test_i55_hedge_rows(call, exchange):
    """LONG and SHORT rows where one was expected."""
    exchange.fault("hedge_rows", "positionRisk", symbols=("BTCUSDT",), value="-0.02")
    seen = rows(call)
    assert (seen["BTCUSDT LONG"]["positionAmt"], seen["BTCUSDT SHORT"]["positionAmt"]) == ("0.038", "-0.02")
    assert "BTCUSDT BOTH" not in seen


def test_stale_rows_and_garbage(call, exchange):
    """A row a minute older than the last, and quantities that are none."""
    exchange.set_position("BTCUSDT", "0.020")
    fresh = rows(call)["BTCUSDT BOTH"]
    exchange.fault("stale_rows", "positionRisk", symbols=("BTCUSDT",), value="0.038")
    stale = rows(call)["BTCUSDT BOTH"]
    assert stale["updateTime"] == fresh["updateTime"] - 60_000
    assert (stale["positionAmt"], fresh["positionAmt"]) == ("0.038", "0.020")
    exchange.fault("garbage_qty", "positionRisk", symbols=("BTCUSDT",))
    assert rows(call)["BTCUSDT BOTH"]["positionAmt"] == "NaN"


def test_x23_odd_status(call, exchange):
    """Said of an order in the acknowledgement and in the look-up alike; the order itself is what it was."""
    exchange.fault("odd_status", "order", times=2, value="EXPIRED_IN_MATCH")
    reply = call.order(reduceOnly="true", newClientOrderId="p33-x", newOrderRespType="RESULT").json()
    looks = [call("GET", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="p33-x").json() for _ in range(2)]
    assert [said["status"] for said in (reply, *looks)] == ["EXPIRED_IN_MATCH", "EXPIRED_IN_MATCH", "FILLED"]
    assert (reply["executedQty"], exchange.orders[-1].status) == (looks[1]["executedQty"], "FILLED")


def test_times_and_durations(call, exchange, clock):
    """Three times, for a while of the exchange's clock, or until cleared."""

    def faulty(requests: int) -> list[bool]:
        return [call("GET", "/fapi/v1/ping").status_code == 502 for _ in range(requests)]

    exchange.fault("http_502", "ping", times=3)
    assert faulty(4) == [True, True, True, False]
    exchange.fault("http_502", "ping", for_sec=2)
    assert faulty(2) == [True, True]
    clock.advance(2000)
    assert faulty(1) == [False]
    exchange.fault("http_502", "*", times=None)
    assert faulty(3) == [True, True, True]
    exchange.clear()
    assert faulty(1) == [False]


@pytest.mark.parametrize(
    ("endpoint", "hit"),
    [
        ("*", True),
        ("positionRisk", True),
        ("GET positionRisk", True),
        ("/fapi/v2/positionRisk", True),
        ("/fapi/v3/positionRisk", False),
        ("POST positionRisk", False),
        ("order", False),
    ],
)
def test_endpoint_names(call, exchange, endpoint, hit):
    """An endpoint is named by all, name, method and name, or path."""
    exchange.fault("http_502", endpoint)
    assert (call("GET", "/fapi/v2/positionRisk").status_code == 502) is hit


@pytest.mark.parametrize("bad", [{"kind": "nonsense"}, {"kind": "hang"}])
def test_impossible_faults_are_refused(bad):
    """A kind that does not exist, or a hang without a length, is an error at once."""
    with pytest.raises(ValueError, match="kind must be|hang needs"):
        Fault(**bad)
