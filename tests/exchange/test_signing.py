"""What is signed is what is sent, and secrets stay where they are."""

import hashlib
import hmac
import logging
import traceback

import pytest

from p33_sidecar.errors import ConfigurationInvalid, ExchangeUnavailable
from p33_sidecar.exchange import Credentials
from p33_sidecar.exchange.signing import encode, sign

from .conftest import KEY, SECRET, http, row


def test_documented_vector():
    """The example of the official documentation gives its documented signature."""
    payload = ("symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC"
               "&recvWindow=5000&timestamp=1591702613943")
    assert sign(payload, secret=SECRET) == "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9"


@pytest.mark.parametrize(("symbol", "sent"), [
    ("BTCUSDT_260327", "BTCUSDT_260327"), ("1000SHIBUSDT", "1000SHIBUSDT"),
    ("牛来USDT", "%E7%89%9B%E6%9D%A5USDT"), ("A+B&C=%", "A%2BB%26C%3D%25"),
])
def test_bytes_on_the_wire_are_the_bytes_signed(rig, symbol, sent):
    """Whatever the symbol, the signature fits the received query; it is its last parameter."""
    rig.plays(http(400, {"code": -2013, "msg": "Order does not exist."}))
    assert rig.exchange.order(symbol, client_order_id="p33-1") is None
    received = rig.server.requests[0]
    payload, _, signature = received.payload.rpartition("&signature=")
    assert f"symbol={sent}&" in payload
    assert signature == hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()
    assert received.headers["x-mbx-apikey"] == KEY


def test_space_is_percent_twenty():
    """A form's `+` would be signed as one thing and read as another."""
    assert encode({"a": "b c"}) == "a=b%20c"


def test_secrets_are_in_no_repr_log_or_exception(rig, caplog):
    """Neither key, secret nor signature leaves in a text, whatever fails and however it is echoed."""
    caplog.set_level(logging.DEBUG)
    rig.plays(http(200, [row()]), http(400, {"code": -1022, "msg": f"bad: {KEY} {SECRET}"}), rig.server.silence)
    rig.exchange.positions()
    texts = [repr(Credentials(KEY, SECRET)), str(list(Credentials(KEY, SECRET).__rich_repr__()))]
    for _ in range(2):
        with pytest.raises(ExchangeUnavailable) as caught:
            rig.exchange.positions()
        assert caught.value.__context__ is None
        texts.append("".join(traceback.format_exception(caught.value)))
    signatures = [request.payload.rpartition("signature=")[2] for request in rig.server.requests]
    for secret in (KEY, SECRET, *signatures):
        assert not any(secret in text for text in (*texts, caplog.text))


def test_key_that_cannot_be_a_header_is_refused_by_name_only():
    """A line break in a key file is a configuration error that does not quote the key."""
    with pytest.raises(ConfigurationInvalid) as caught:
        Credentials("abc\ndef", "s")
    assert "abc" not in str(caught.value)
