"""positionRisk: every odd answer has a name, and none of them is zero."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p33_sidecar.core.quantity import parse, text
from p33_sidecar.errors import ExchangeUnavailable
from p33_sidecar.exchange.positions import decode_positions
from p33_sidecar.exchange.wire import price_text

from .conftest import fixture, hang_up, http, row

HTML = b"<html>\r\n<head><title>502 Bad Gateway</title></head></html>"


@pytest.mark.parametrize("name", [
    "positionRisk_v2_docs_oneway.json", "positionRisk_v2_rows_extra_fields_mainnet_2024-01.json",
    "positionRisk_v3_docs_oneway.json", "positionRisk_v3_ccxt_comment_WLDUSDT.json"])
def test_recorded_one_way_replies_decode(name):
    """Every recorded row becomes a position with the recorded amount."""
    body = fixture(name)
    rows = json.loads(body)
    if isinstance(rows, dict):
        rows, body = [rows], b"[" + body + b"]"
    positions, bad = decode_positions(body)
    assert not bad
    assert {s: p.amt for s, p in positions.items()} == {r["symbol"]: Decimal(r["positionAmt"]) for r in rows}


@pytest.mark.parametrize("name", ["positionRisk_v2_docs_hedge.json", "positionRisk_v3_docs_hedge.json"])
def test_I55_recorded_hedge_replies_are_never_netted(name):
    """LONG and SHORT rows of a symbol are hedge mode: no amount, not even when one leg is flat."""
    positions, bad = decode_positions(fixture(name))
    assert not bad
    assert all(p.hedge and p.amt is None and p.entry_price == "" for p in positions.values())


BODIES = {
    b"": "empty_body", b"  \n": "empty_body", HTML: "html", b"[]": "empty_list", b"null": "unexpected_shape",
    b"{}": "unexpected_shape", b'"positions"': "unexpected_shape", b"0": "unexpected_shape",
    b'{"code":-1000,"msg":"x"}': "error_body", b'{"code":0,"msg":"Service unavailable"}': "error_body",
    b'{"239999":"The system is under maintenance"}': "maintenance", b'[{"symbol":"BTC': "truncated_json",
    json.dumps([row()]).encode()[:-1]: "truncated_json", b"Service Unavailable.": "not_json", b"\xff\xfe": "not_json",
    b"[" * 100_000: "not_json", b"[[]]": "all_rows_bad", b"[null]": "all_rows_bad", b"[{}]": "all_rows_bad",
}


@pytest.mark.parametrize(("body", "kind"), BODIES.items())
def test_odd_bodies_are_named(body, kind):
    """A 200 that is no list of positions is unavailable, by name."""
    with pytest.raises(ExchangeUnavailable) as caught:
        decode_positions(body)
    assert caught.value.kind == kind


@pytest.mark.parametrize("bad_row", [
    row("ETHUSDT", positionAmt=None), row("ETHUSDT", positionAmt=""), row("ETHUSDT", positionAmt="nan"),
    row("ETHUSDT", positionAmt="0x1"), row("ETHUSDT", positionAmt=0.5), row("ETHUSDT", updateTime="0"),
    row("ETHUSDT", updateTime=-1), row("ETHUSDT", updateTime=1 << 53), row("ETHUSDT", positionSide="NET"),
    row("ETHUSDT", positionSide=None), row("ETHUSDT", markPrice="--1"), row("ETHUSDT", entryPrice="1_0"),
])
def test_a_bad_row_makes_its_symbol_unknown_and_no_other(bad_row):
    """The symbol is absent, its reason is there; with a good second row it is still unknown."""
    for rows in ([row(), bad_row], [bad_row, row()], [row("ETHUSDT", positionSide="LONG"), row(), bad_row]):
        positions, bad = decode_positions(json.dumps(rows).encode())
        assert set(positions) == {"BTCUSDT"}
        assert list(bad) == ["ETHUSDT"]


def test_rows_without_a_readable_symbol_are_counted():
    """What cannot be named is listed by its place."""
    rows = [row(), row("a b"), row(None), 7, row("X" * 41)]
    positions, bad = decode_positions(json.dumps(rows).encode())
    assert (set(positions), set(bad)) == ({"BTCUSDT"}, {"row 1", "row 2", "row 3", "row 4"})


def test_duplicate_rows_are_unknown():
    """Neither of two BOTH rows wins, nor of two LONG rows."""
    for side in ("BOTH", "LONG"):
        rows = [row(), row("ETHUSDT", positionSide=side), row("ETHUSDT", positionSide=side, positionAmt="1")]
        positions, bad = decode_positions(json.dumps(rows).encode())
        assert set(positions) == {"BTCUSDT"} and "duplicate" in bad["ETHUSDT"]


def test_a_both_row_beside_legs_is_hedge():
    """The symbol is in hedge mode all the same; its version is the newest leg's."""
    rows = [row(positionAmt="0.05", updateTime=3), row(positionSide="LONG", updateTime=9), row(positionSide="SHORT")]
    position = decode_positions(json.dumps(rows).encode())[0]["BTCUSDT"]
    assert position.hedge and position.amt is None and position.update_time_ms == 9


def test_amounts_stay_exact_and_prices_canonical():
    """Short is negative, 16 decimals survive, zero is `0`."""
    rows = [row("牛来USDT", positionAmt="-0.012", entryPrice="0.7472000000000001", unRealizedProfit="-0.0"),
            row("1000000MOGUSDT", positionAmt="12345678", entryPrice="1.50"), row("BTCUSDT_260327")]
    positions, _ = decode_positions(json.dumps(rows).encode())
    short, mog = positions["牛来USDT"], positions["1000000MOGUSDT"]
    assert (short.amt, short.entry_price, short.unrealized_pnl) == (Decimal("-0.012"), "0.7472000000000001", "0")
    assert (mog.amt, mog.entry_price, positions["BTCUSDT_260327"].amt) == (Decimal(12345678), "1.5", 0)


@given(st.from_regex(r"[+-]?[0-9]{0,25}(\.[0-9]{0,25})?([eE]-?[0-9]{1,2})?", fullmatch=True))
def test_price_text_is_the_canonical_text_of_the_number(written):
    """The short cut for prices says what parsing and writing would have said, and refuses the same texts."""
    try:
        expected = text(parse(written))
    except ValueError:
        with pytest.raises(ValueError, match="not a number"):
            price_text(written, field="p")
        return
    assert price_text(written, field="p") == expected


FIELDS = ["symbol", "positionSide", "positionAmt", "entryPrice", "markPrice", "unRealizedProfit", "updateTime"]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | (
    st.sampled_from(["BTCUSDT", "BOTH", "LONG", "0", "1.5", "-0.0", "1e99"]))
ROWS = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, SCALARS))
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=15)


@given(st.lists(ROWS | JSON, max_size=5) | JSON)
def test_any_json_is_a_reply_or_unavailable(value):
    """Nothing but a good reply or ExchangeUnavailable comes of any JSON."""
    try:
        positions, bad = decode_positions(json.dumps(value).encode())
    except ExchangeUnavailable:
        return
    assert positions and not set(positions) & set(bad)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_reply_or_unavailable(body):
    """The same for bytes that are no JSON."""
    with pytest.raises(ExchangeUnavailable):
        decode_positions(body)


def test_one_request_and_the_time_of_its_start(rig):
    """One request serves all symbols; the reply is as old as the start of its request."""
    def slow(connection):
        rig.clock.pass_ms(700)
        http(200, [row(), row("ETHUSDT")])(connection)
    started_ms = rig.clock.ms
    reply = rig.plays(slow).exchange.positions()
    assert (reply.requested_ms, reply.received_ms, reply.requested_mono_ns) == (started_ms, started_ms + 700, 0)
    assert set(reply.positions) == {"BTCUSDT", "ETHUSDT"} and len(rig.server.requests) == 1
    assert rig.seen.requests == [("positionRisk", "ok")]


@pytest.mark.parametrize(("reply", "kind"), [
    (http(502, HTML, content_type="text/html"), "http_5xx"), (http(401, {"code": -2015, "msg": "x"}), "credentials"),
    (http(503, b"Service Unavailable."), "http_503_unavailable"), (http(302, location="http://x/"), "http_3xx"),
    (http(200, [row()], content_length="5000"), "timeout"), (hang_up, "disconnected"),
    (http(200, [row()], content_length=str(9 << 20)), "timeout"), (http(204), "http_other"),
    (http(200, b"no gzip", content_encoding="gzip"), "bad_encoding"),
    (http(200, b"?", content_encoding="br"), "bad_encoding"), (http(404, HTML), "http_4xx"),
])
def test_failed_reads_are_named(rig, reply, kind):
    """Whatever goes wrong on the way, a read ends in ExchangeUnavailable with a label."""
    with pytest.raises(ExchangeUnavailable) as caught:
        rig.plays(reply).exchange.positions()
    assert caught.value.kind == kind == rig.seen.requests[0][1]
