"""Plans: what is refused outright, what is carried along as unreadable, and that nothing else can happen."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p33_sidecar.core.plan import MessageRefused, plan_id_of, plan_of, symbol_of

SAMPLE = {
    "plan_id": "f1a8d7f48713d5cf", "symbol": "BTCUSDT", "action": "PARTIAL_75", "kill_score": "0.539",
    "decision": "EXECUTE", "reason_codes": "", "close_qty": "0.0", "price": "", "timestamp": "1769301008",
    "steps": '[{"step":"CLOSE_PARTIAL_75","type":"market_reduce_only","side":"close","pct":75.0}]',
}


def test_the_sample_plan_of_a_real_stream():
    """Every field that matters is read, and the message is kept as it came."""
    plan = plan_of(SAMPLE, entry_ms=1_769_301_008_976)
    assert (plan.plan_id, plan.symbol, plan.action) == ("f1a8d7f48713d5cf", "BTCUSDT", "PARTIAL_75")
    assert (plan.step_fraction, plan.close_qty, plan.timestamp_ms) == (Decimal("0.75"), 0, 1_769_301_008_000)
    assert plan.fields == SAMPLE and not plan.unreadable


@pytest.mark.parametrize(("plan_id", "reason"), [
    (None, "missing_plan_id"), ("", "missing_plan_id"), ("a b", "malformed_plan_id"), ("é", "malformed_plan_id"),
    ("a\n", "malformed_plan_id"), ("\x7f", "malformed_plan_id"), ("p33:x", "malformed_plan_id"),
    ("x" * 129, "malformed_plan_id"),
])
def test_malformed_plan_ids_are_refused(plan_id, reason):
    """1 to 128 printable ASCII characters without spaces, and no look-alike of our own key space."""
    with pytest.raises(MessageRefused) as refused:
        plan_id_of(plan_id)
    assert refused.value.reason == reason


@pytest.mark.parametrize("plan_id", ["x" * 128, "~", "!\"\\,{}", 'a","sig":"b', "P33:x", "xp33:"])
def test_odd_plan_ids_are_plan_ids(plan_id):
    """Quotes and backslashes are printable ASCII."""
    assert plan_id_of(plan_id) == plan_id


@pytest.mark.parametrize("symbol", [None, "", "A B", "A:B", "A\t", "\x00", "A" * 41, "\u2028", "A\u00a0"])
def test_malformed_symbols_are_refused(symbol):
    """1 to 40 characters without white space, control characters or a colon."""
    with pytest.raises(MessageRefused):
        symbol_of(symbol)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "币安人生USDT", "BTCUSDT_260327", "1000000MOGUSDT", "A" * 40])
def test_symbols_of_the_exchange(symbol):
    """Symbols that exist, non-ASCII ones too."""
    assert symbol_of(symbol) == symbol


@pytest.mark.parametrize(("pct", "fraction"), [
    ("75.0", "0.75"), ("75", "0.75"), ('"75"', "0.75"), ("7.5e1", "0.75"), ("null", "0.75"),
])
def test_pct_is_read_exactly_however_it_is_written(pct, fraction):
    """A number, a text, or nothing: then the step's name says it."""
    plan = plan_of(SAMPLE | {"steps": f'[{{"step":"CLOSE_PARTIAL_75","pct":{pct}}}]'}, entry_ms=1)
    assert (plan.step_fraction, plan.unreadable) == (Decimal(fraction), "")


@pytest.mark.parametrize("pct", [
    "0", "-75", "100.1", "true", "[75]", '"x"', "NaN", "75.00000000000000000000000000000000000000001",
])
def test_a_pct_that_cannot_be_is_unreadable(pct):
    """Not within 0 to 100, not a number, or off by the forty-first digit: the plan gets its denial."""
    plan = plan_of(SAMPLE | {"steps": f'[{{"step":"CLOSE_PARTIAL_75","pct":{pct}}}]'}, entry_ms=1)
    assert plan.unreadable.startswith("steps cannot be read")


def test_two_closing_steps_are_a_contradiction():
    """Nobody can say which of two closes is meant."""
    step = '{"step":"CLOSE_PARTIAL_50","pct":50}'
    assert "2 closing steps" in plan_of(SAMPLE | {"steps": f"[{step},{step}]"}, entry_ms=1).unreadable


def test_deeply_nested_steps_are_unreadable():
    """A message may not crash the reader by its depth."""
    deep = '[{"step":' + "[" * 100_000 + "]" * 100_000 + "}]"
    assert plan_of(SAMPLE | {"steps": deep}, entry_ms=1).unreadable.startswith("steps cannot be read")


@pytest.mark.parametrize(("text", "ms"), [
    ("1769301008", 1_769_301_008_000), ("1769301008.976", 1_769_301_008_976), ("1769301008.9769", 1_769_301_008_976),
    ("1.769301008e9", 1_769_301_008_000),
])
def test_timestamps_are_seconds_with_fractions(text, ms):
    """Unix seconds, exact to the millisecond."""
    plan = plan_of(SAMPLE | {"timestamp": text}, entry_ms=1)
    assert (plan.timestamp_ms, plan.bad_timestamp) == (ms, False)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["CLOSE_FULL", "close"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["step", "pct", "side", "type", "x"]), inner, max_size=4), max_leaves=8)
ANY_TEXT = st.text(st.characters()) | st.sampled_from(["nan", "1e99", "-1", "[]", "{", '[{"step":"CLOSE_FULL"}]'])
FIELDS = st.dictionaries(
    st.sampled_from(["plan_id", "symbol", "action", "steps", "close_qty", "side", "timestamp", "x"]) | st.text(),
    ANY_TEXT | JSONISH.map(json.dumps))


@given(FIELDS, st.booleans())
def test_any_message_is_a_plan_or_refused_by_name(fields, addressed):
    """No dict of texts makes the reader raise anything but MessageRefused."""
    if addressed:
        fields = fields | {"plan_id": "p", "symbol": "BTCUSDT"}
    try:
        plan = plan_of(fields, entry_ms=1)
    except MessageRefused as refused:
        assert refused.reason and not addressed
    else:
        assert plan.fields == fields and (plan.timestamp_ms is None or abs(plan.timestamp_ms) < 2**62)
