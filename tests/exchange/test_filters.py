"""Lot rules come from the exchange whole, or a symbol has none."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p33_sidecar.errors import ExchangeUnavailable
from p33_sidecar.exchange.filters import decode_filters

from .conftest import fixture, http


def lot(kind="LOT_SIZE", step="0.001", low="0.001", high="1000", **changes):
    fields = {"filterType": kind, "stepSize": step, "minQty": low, "maxQty": high, **changes}
    return {name: value for name, value in fields.items() if value is not None}


def market(*values, **changes):
    return lot("MARKET_LOT_SIZE", *values, **changes)


def info(*filters, **others):
    symbols = [{"symbol": "BTCUSDT", "status": "TRADING", "filters": list(filters)},
               {"symbol": "OTHER", "status": "TRADING", "filters": [lot(), market()]}]
    return json.dumps({"symbols": symbols, **others}).encode()


@pytest.mark.parametrize(("name", "weight_limit"), [
    ("exchangeInfo_demo_2025-12-24_full.json", 6000), ("exchangeInfo_testnet_2022-02_3symbols.json", 6000),
    ("exchangeInfo_mainnet_2026-09_BTCUSDT_only.json", 2400)])
def test_recorded_replies_decode_whole(name, weight_limit):
    """Every recorded symbol has rules on the grid of both its filters, and its status as text."""
    recorded = {each["symbol"]: each for each in json.loads(fixture(name))["symbols"]}
    filters, refused, limit = decode_filters(fixture(name))
    assert (set(filters), refused, limit) == (set(recorded), {}, weight_limit)
    for symbol, rules in filters.items():
        assert rules.status == recorded[symbol]["status"]
        for each in (f for f in recorded[symbol]["filters"] if f["filterType"] in ("LOT_SIZE", "MARKET_LOT_SIZE")):
            assert (rules.min_qty - Decimal(each["minQty"])) % Decimal(each["stepSize"]) == 0
            assert rules.step % Decimal(each["stepSize"]) == 0
            assert Decimal(each["minQty"]) <= rules.min_qty and rules.max_qty <= Decimal(each["maxQty"])


@pytest.mark.parametrize(("filters", "step", "low", "high"), [
    ([lot(), market(high="120")], "0.001", "0.001", "120"),
    ([lot(), market("0.01", "0.01", "120")], "0.01", "0.01", "120"),
    ([lot(step="0.4", low="0"), market("0.6", "1.2", "9")], "1.2", "1.2", "9"),
    ([lot(step="1", low="0", high="10000000"), market("1", "0", "10000000")], "1", "0", "10000000"),
    ([lot(step="0.0010")], "0.001", "0.001", "1000"),
])
def test_both_filters_hold(filters, step, low, high):
    """Common multiple of the steps, larger minimum, smaller maximum; LOT_SIZE alone binds alone."""
    rules = decode_filters(info(*filters))[0]["BTCUSDT"]
    assert (rules.step, rules.min_qty, rules.max_qty) == (Decimal(step), Decimal(low), Decimal(high))


@pytest.mark.parametrize("filters", [
    [], [market()], [lot(), lot()], [lot(step="0"), market()], [lot(), market("0")], [lot(step="-1")],
    [lot(stepSize=None)], [lot(), market(minQty=None)], [lot(step="NaN")], [lot(step=0.001)], [lot(high="0")],
    [lot(low="-1")], [lot(low="5", high="4")], [lot(step="1e-30")], [lot(high="1" + "0" * 30)], [lot(), 7],
    [lot(step="1", low="0"), market("1", "0.5", "9")], [lot(), market(high="0.0001")],
])
def test_unusable_filters_are_refused_by_name(filters):
    """The symbol has no rules and a reason; its neighbour is not touched (I53: never a default step)."""
    found, refused, _ = decode_filters(info(*filters))
    assert set(found) == {"OTHER"} and refused["BTCUSDT"]


def test_a_symbol_listed_twice_has_no_rules():
    """Neither of the two wins."""
    body = json.loads(info(lot()))
    body["symbols"].append(body["symbols"][0])
    assert decode_filters(json.dumps(body).encode())[1] == {"BTCUSDT": "listed twice"}


@pytest.mark.parametrize(("body", "kind"), [
    (b"", "empty_body"), (b"<html>", "html"), (b"[]", "unexpected_shape"), (b'{"symbols":{}}', "unexpected_shape"),
    (b'{"symbols":[]}', "empty_list"), (b'{"symbols":[7]}', "all_rows_bad"), (b'{"code":0}', "error_body"),
    (b'{"symbols":[', "truncated_json")])
def test_odd_replies_are_named(body, kind):
    """A reply without one usable symbol is no reply."""
    with pytest.raises(ExchangeUnavailable) as caught:
        decode_filters(body)
    assert caught.value.kind == kind


TEXTS = st.sampled_from(["0.001", "0", "-1", "7", "1e-19", "1e19", "0.3", "x"]) | st.text() | st.none() | st.integers()


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_any_filters_give_rules_or_a_reason(step, low, high, other):
    """Arithmetic on any pair of filters ends in legal rules or a refusal."""
    found, refused, _ = decode_filters(info(lot(step=step, low=low, high=high), market(other, low, high)))
    assert ("BTCUSDT" in found) != ("BTCUSDT" in refused)
    if rules := found.get("BTCUSDT"):
        assert rules.step > 0 and 0 <= rules.min_qty <= rules.max_qty


def test_filters_over_the_wire(rig):
    """Unsigned, as old as the start of its request."""
    reply = rig.plays(http(200, info(lot()))).exchange.filters()
    assert reply.read_ms == rig.clock.ms and set(reply.filters) == {"BTCUSDT", "OTHER"}
    assert rig.server.requests[0].target == "/fapi/v1/exchangeInfo"
