"""Who is asking: signatures cover the bytes as they came, clocks have two limits, keys have rights."""

from __future__ import annotations

import pytest

from p33_sidecar.rehearsal.exchange.signing import Keyring, sign, signed_bytes

DOC_SECRET = b"2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"
DOC_PAYLOAD = (
    b"symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC&recvWindow=5000&timestamp=1591702613943"
)
DOC_SIGNATURE = b"3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9"


def test_documented_vector():
    """The signature is the documented one, byte for byte."""
    assert sign(DOC_PAYLOAD, DOC_SECRET) == DOC_SIGNATURE


@pytest.mark.parametrize(
    ("query", "body", "covered"),
    [
        (b"a=1&signature=x", b"", b"a=1"),
        (b"", b"a=1&signature=x", b"a=1"),
        (b"a=1", b"b=2&signature=x", b"a=1b=2"),
        (b"a=1&signature=x", b"b=2", b"a=1b=2"),
        (b"signature=x&a=1", b"", None),
        (b"a=1", b"b=2", None),
        (b"xsignature=1", b"", None),
    ],
)
def test_covered_bytes(query, body, covered):
    """Query and body are joined without `&`; the signature is the last of the part that carries it."""
    assert signed_bytes(query, body) == covered


def test_body_and_query_are_both_accepted(call):
    """An order may come in the body, in the query, or half and half: the bytes as they came are what counts."""
    body = call.signed(symbol="BTCUSDT", side="SELL", type="MARKET", quantity="0.001")
    assert call.http.post("/fapi/v1/order", content=body.encode()).status_code == 200
    assert call.http.post(f"/fapi/v1/order?{body}").status_code == 200
    whole = sign(b"symbol=BTCUSDT&side=SELL" + (rest := _rest(call)), b"rehearsal-secret").decode()
    mixed = call.http.post("/fapi/v1/order?symbol=BTCUSDT&side=SELL", content=rest + f"&signature={whole}".encode())
    assert mixed.status_code == 200


def _rest(call) -> bytes:
    return f"type=MARKET&quantity=0.001&timestamp={call.clock.now_ms}".encode()


def test_query_wins_over_body(call, exchange):
    """A name in both parts has the query's value."""
    rest = _rest(call) + b"&symbol=ETHUSDT&side=BUY"
    query = b"symbol=BTCUSDT&side=SELL"
    signature = sign(query + rest, b"rehearsal-secret").decode().upper()
    reply = call.http.post(f"/fapi/v1/order?{query.decode()}", content=rest + f"&signature={signature}".encode())
    assert (reply.json()["symbol"], reply.json()["side"]) == ("BTCUSDT", "SELL")


def test_changed_bytes_are_refused(call):
    """One changed byte is -1022, and nothing is executed."""
    reply = call.http.get("/fapi/v2/positionRisk?" + call.signed().replace("timestamp=1", "recvWindow=1&timestamp=1"))
    assert (reply.status_code, reply.json()["code"]) == (400, -1022)


@pytest.mark.parametrize(
    ("offset_ms", "window_ms", "text"),
    [
        (999, 5000, None),
        (1000, 5000, "Timestamp for this request was 1000ms ahead of the server's time."),
        (-5000, 5000, None),
        (-5001, 5000, "Timestamp for this request is outside of the recvWindow."),
        (-60000, 60000, None),
        (-1, 0, "Timestamp for this request is outside of the recvWindow."),
    ],
)
def test_clock_limits(call, clock, offset_ms, window_ms, text):
    """A request holds iff timestamp < now + 1000 and now - timestamp <= recvWindow; each side has its own text."""
    reply = call("GET", "/fapi/v1/accountConfig", timestamp=clock.now_ms + offset_ms, recvWindow=window_ms)
    assert (reply.json().get("code"), reply.json().get("msg")) == ((-1021, text) if text else (None, None))


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("", -1102, "Mandatory parameter 'timestamp' was not sent, was empty/null, or malformed."),
        ("timestamp={now}", -1102, "Mandatory parameter 'signature' was not sent, was empty/null, or malformed."),
        ("timestamp={now}&recvWindow=60001", -1130, "Data sent for parameter 'recvWindow' is not valid."),
        ("timestamp=", -1105, "Parameter 'timestamp' was empty."),
        ("timestamp=1&timestamp=2", -1101, "Duplicate values for a parameter detected."),
        ("timestamp=12x", -1100, "Illegal characters found in parameter 'timestamp'; legal range is '^[0-9]{1,20}$'."),
    ],
)
def test_malformed_requests(call, clock, query, code, message):
    """What is missing, empty, doubled or out of range has its own refusal."""
    reply = call.http.get("/fapi/v1/accountConfig?" + query.format(now=clock.now_ms))
    assert (reply.status_code, reply.json()) == (400, {"code": code, "msg": message})


@pytest.mark.parametrize(("key", "code"), [("", -2014), ("nobody", -2015)])
def test_keys(call, key, code):
    """No key and an unknown key are 401."""
    reply = call.http.get("/fapi/v2/positionRisk?" + call.signed(), headers={"X-MBX-APIKEY": key})
    assert (reply.status_code, reply.json()["code"]) == (401, code)


def test_read_only_key_cannot_trade(call, clock, exchange):
    """A key without the right to trade may look and not order."""
    call.http.headers["X-MBX-APIKEY"] = "reader"
    call.secret = b"s"
    assert call("GET", "/fapi/v2/positionRisk").status_code == 200
    assert call.order().json()["code"] == -2015
    assert exchange.orders == []


def test_keyring_hides_its_secrets():
    """Neither keys nor secrets are in the text of the keyring."""
    assert repr(Keyring({"key-a": "secret-b"})) == "Keyring(1 keys)"
