"""One order: what its answer means, by table, and nothing is ever sent twice on a guess."""

import hashlib
import hmac
import json
from decimal import Decimal
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p33_sidecar.errors import (
    ContractViolated,
    ExchangeBanned,
    ExchangeRejected,
    ExchangeUnavailable,
    OutcomeUnknown,
)
from p33_sidecar.exchange.failures import RULES, Fate, classify
from p33_sidecar.exchange.orders import decode_order
from p33_sidecar.exchange.statuses import TERMINAL

from .conftest import SECRET, fixture, hang_up, http

ACK = {"symbol": "BTCUSDT", "orderId": 8389765739703625592, "clientOrderId": "p33-f1a8", "status": "FILLED",
       "side": "SELL", "executedQty": "0.028", "reduceOnly": True, "updateTime": 1789128259631}
THROTTLED = "Request throttled by system-level protection. Reduce-only/close-position orders are exempt."
INTERNAL = "Internal error; unable to process your request. Please try again."
UNKNOWN_503 = "Unknown error, please check your request or try again later."


def test_close_sends_a_reduce_only_market_order_once(rig):
    """MARKET, reduceOnly, RESULT, plain quantity; the offset is added; the form's bytes are the signed ones."""
    rig.plays(http(200, {"serverTime": rig.clock.ms + 700}), http(200, ACK))
    rig.exchange.sync_time()
    state = rig.closes(quantity="2.80E-2", timestamp_ms=rig.clock.ms - 40)
    assert (state.order_id, state.executed_qty, state.terminal) == ("8389765739703625592", Decimal("0.028"), True)
    sent = rig.server.requests[1]
    payload, _, signature = sent.payload.rpartition("&signature=")
    assert signature == hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()
    assert (sent.method, sent.target) == ("POST", "/fapi/v1/order")
    assert {name: value for name, (value,) in parse_qs(payload).items()} == {
        "symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.028", "reduceOnly": "true",
        "newOrderRespType": "RESULT", "newClientOrderId": "p33-f1a8", "recvWindow": "5000",
        "timestamp": str(rig.clock.ms + 660)}


@pytest.mark.parametrize(("reply", "error", "kind"), [
    (http(400, {"code": -2022, "msg": "ReduceOnly Order is rejected."}), ExchangeRejected, -2022),
    (http(400, {"code": -4164, "msg": "x"}), ExchangeRejected, -4164),
    (http(401, {"code": -2015, "msg": "x"}), ExchangeRejected, -2015),
    (http(400, {"code": -1000, "msg": "x"}), OutcomeUnknown, "unknown_error"),
    (http(400, {"code": -1001, "msg": "x"}), OutcomeUnknown, "disconnected"),
    (http(400, {"code": -1006, "msg": "x"}), OutcomeUnknown, "unexpected_response"),
    (http(400, {"code": -1007, "msg": "x"}), OutcomeUnknown, "backend_timeout"),
    (http(400, {"code": -4116, "msg": "ClientOrderId is duplicated."}), OutcomeUnknown, "duplicate_client_id"),
    (http(400, {"code": 0, "msg": "x"}), OutcomeUnknown, "http_4xx"),
    (http(400, b"<html>"), OutcomeUnknown, "http_4xx"),
    (http(400, b'{"code":-20'), OutcomeUnknown, "http_4xx"),
    (http(408, {"code": -1007, "msg": "x"}), OutcomeUnknown, "http_408"),
    (http(502, b"<html>"), OutcomeUnknown, "http_5xx"),
    (http(504, b"<html>"), OutcomeUnknown, "http_5xx"),
    (http(500, {"code": -2022, "msg": "x"}), OutcomeUnknown, "http_5xx"),
    (http(503, {"code": -1000, "msg": UNKNOWN_503}), OutcomeUnknown, "http_503"),
    (http(503, b"<html>503 Service Temporarily Unavailable"), OutcomeUnknown, "http_503"),
    (http(503, {"code": -1001, "msg": "another text"}), OutcomeUnknown, "http_503"),
    (http(503, {"code": -1, "msg": "Service Unavailable."}), ExchangeUnavailable, "http_503_unavailable"),
    (http(503, b"Service Unavailable."), ExchangeUnavailable, "http_503_unavailable"),
    (http(503, {"code": -1008, "msg": THROTTLED}), ExchangeUnavailable, "http_503_throttled"),
    (http(503, {"code": -1001, "msg": INTERNAL}), ExchangeUnavailable, "http_503_internal"),
    (http(429, {"code": -1015, "msg": "Too many new orders"}), ExchangeBanned, "banned"),
    (http(418, b"<html>"), ExchangeBanned, "banned"), (http(403, b"<html>"), ExchangeBanned, "banned"),
    (http(451, {"code": 0, "msg": "x"}), ExchangeBanned, "banned"), (http(302), OutcomeUnknown, "http_3xx"),
    (http(200, b"<html>"), OutcomeUnknown, "html"), (http(200), OutcomeUnknown, "empty_body"),
    (http(200, {"code": -2022, "msg": "x"}), OutcomeUnknown, "error_body"),
    (http(200, {"239999": "x"}), OutcomeUnknown, "maintenance"),
    (http(200, b'{"symbol":"BT'), OutcomeUnknown, "truncated_json"),
    (http(200, []), OutcomeUnknown, "unexpected_shape"),
    (http(200, {**ACK, "executedQty": "-1"}), OutcomeUnknown, "bad_order"),
    (http(200, {**ACK, "executedQty": "0.000"}), OutcomeUnknown, "bad_order"),
    (http(200, {**ACK, "side": "SELLING"}), OutcomeUnknown, "bad_order"),
    (http(200, {**ACK, "clientOrderId": "x"}), OutcomeUnknown, "wrong_order"),
    (http(200, {**ACK, "symbol": "ETHUSDT"}), OutcomeUnknown, "wrong_order"), (hang_up, OutcomeUnknown, "disconnected"),
])
def test_what_an_answer_says_about_the_order(rig, reply, error, kind):
    """Definite refusals and failures are told from orders that may have executed; each is one request only."""
    with pytest.raises(error) as caught:
        rig.plays(reply).closes()
    assert type(caught.value) is error
    assert kind == (caught.value.code if error is ExchangeRejected else caught.value.kind)
    assert len(rig.server.requests) == 1 and caught.value.__context__ is None


def test_silence_after_sending_is_unknown_and_a_refused_connection_is_not(rig):
    """Before the first byte went out nothing can have happened; after it anything may."""
    with pytest.raises(OutcomeUnknown) as caught:
        rig.plays(rig.server.silence).closes()
    assert caught.value.kind == "timeout"
    rig.server.stop()
    with pytest.raises(ExchangeUnavailable) as caught:
        rig.closes()
    assert caught.value.kind == "connect"


@pytest.mark.parametrize("changes", [
    {"side": "LONG"}, {"quantity": "0"}, {"quantity": "-0.1"}, {"quantity": "NaN"}, {"client_order_id": "p33 1"},
    {"client_order_id": "x" * 37}, {"client_order_id": ""}, {"recv_window_ms": 5001}, {"recv_window_ms": 0}])
def test_impossible_orders_are_not_sent(rig, changes):
    """An order that breaks the rules never reaches the wire."""
    with pytest.raises(ContractViolated):
        rig.closes(**changes)
    assert not rig.server.requests


def test_clock_refusal_of_an_order_is_retried_once_with_its_own_time(rig):
    """-1021 is definite: the clock is measured and the order sent once more, still bounded by the caller's time."""
    refusal = http(400, {"code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."})
    rig.plays(refusal, http(200, {"serverTime": rig.clock.ms + 9000}), http(200, ACK))
    stamped_ms = rig.clock.ms
    assert rig.closes().status == "FILLED"
    rig.plays(refusal, http(200, {"serverTime": rig.clock.ms + 9000}), refusal)
    with pytest.raises(ExchangeRejected):
        rig.closes()
    assert f"timestamp={stamped_ms + 9000}&" in rig.server.requests[2].payload and len(rig.server.requests) == 6


def test_clock_refusal_stands_where_the_clock_cannot_be_measured(rig):
    """The order was refused: that, and not the failed look at the clock, is what the caller hears."""
    rig.plays(http(400, {"code": -1021, "msg": "x"}), http(502))
    with pytest.raises(ExchangeRejected):
        rig.closes()


def test_round_trip_is_halved(rig):
    """The offset is the server's time minus the middle of the request."""
    def slow(connection):
        server_ms = rig.clock.ms + 50 + 1_458
        rig.clock.pass_ms(100)
        http(200, {"serverTime": server_ms})(connection)
    assert rig.plays(slow).exchange.sync_time() == 1_458 == rig.exchange.server_offset_ms()


@pytest.mark.parametrize("name", [
    "order_new_market_ack_mainnet_2026-09_no_avgPrice.json", "order_new_limit_testnet_2025-02.json",
    "order_new_docs.json", "order_query_docs.json"])
def test_recorded_orders_decode(name):
    """Acks with and without avgPrice, look-ups, a Chinese symbol."""
    recorded = json.loads(fixture(name))
    state = decode_order(fixture(name), symbol=recorded["symbol"])
    assert (state.order_id, state.status, state.terminal) == (str(recorded["orderId"]), "NEW", False)
    assert state.executed_qty == Decimal(recorded["executedQty"])


def test_X23_statuses_are_mapped_and_an_unknown_one_is_not_settled():
    """EXPIRED_IN_MATCH is an end; a status of tomorrow is neither known nor an end."""
    for status, terminal in {**TERMINAL, "EXPIRED_IN_MATCH": True, "PARTIALLY_FILLED": False}.items():
        state = decode_order(json.dumps({**ACK, "status": status}).encode(), symbol="BTCUSDT")
        assert (state.known_status, state.terminal) == (True, terminal)
    state = decode_order(json.dumps({**ACK, "status": "TELEPORTED"}).encode(), symbol="BTCUSDT")
    assert (state.known_status, state.terminal, state.status) == (False, False, "TELEPORTED")


def test_lookup(rig):
    """Found, not there (-2013), or unknown: a failed look-up is never 'not there'."""
    absent = {"code": -2013, "msg": "Order does not exist."}
    rig.plays(http(200, ACK), http(400, absent), http(200, absent), http(502))
    assert rig.exchange.order("BTCUSDT", order_id="8389765739703625592").executed_qty == Decimal("0.028")
    assert rig.exchange.order("BTCUSDT", client_order_id="p33-f1a8") is None
    for kind in ("error_body", "http_5xx"):
        with pytest.raises(ExchangeUnavailable) as caught:
            rig.exchange.order("BTCUSDT", client_order_id="p33-f1a8")
        assert caught.value.kind == kind


def test_recorded_error_answers_are_classified():
    """Each recorded HTTP error falls on a line of the table; the two 'status unknown' ones are unknown."""
    for sample in json.loads(fixture("errors_http_samples_shared.json")):
        body = sample["body"] if isinstance(sample["body"], str) else json.dumps(sample["body"])
        failure = classify(sample["http_status"], body.encode())
        assert failure.kind != "http_other"
        assert (failure.fate is Fate.UNKNOWN) == (sample["http_status"] in (408, 502) or failure.code == -1000)


def test_documented_codes_are_refusals_but_for_the_ambiguous():
    """With status 400 every documented code is definite, except the five that say nothing about execution."""
    codes = [entry["code"] for entry in json.loads(fixture("errors_documented_codes.json"))]
    unknown = {c for c in codes if c < 0 and classify(400, json.dumps({"code": c}).encode()).fate is Fate.UNKNOWN}
    assert unknown == {-1000, -1001, -1006, -1007, -4116} & set(codes)


def test_every_rule_can_be_the_first_to_match():
    """No line of the table is hidden behind an earlier one."""
    for rule in RULES:
        status = rule.status.start if isinstance(rule.status, range) else rule.status or 400
        code = rule.code if rule.code is not None else -2022 if rule.coded else 0
        assert classify(status, json.dumps({"code": code, "msg": rule.text or ""}).encode()).kind == rule.kind


@given(st.integers(100, 599), st.binary(max_size=60) | st.integers(-9999, 9).map(lambda c: b'{"code":%d}' % c))
def test_only_a_coded_4xx_is_a_definite_refusal(status, body):
    """Whatever the answer: a refusal needs a 4xx and a negative code."""
    failure = classify(status, body)
    assert failure.fate is not Fate.REFUSED or (400 <= status < 500 and failure.code < 0)
