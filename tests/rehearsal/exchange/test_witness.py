"""Independent witnesses: the exchange's official SDK, a process of its own, and the size of a real answer."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import httpx
import pytest
from binance_common.configuration import ConfigurationRestAPI
from binance_common.errors import BadRequestError
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import DerivativesTradingUsdsFutures

from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.rehearsal.exchange.__main__ import main as exchange_program
from p33_sidecar.rehearsal.exchange.symbols import load_contracts


def test_official_sdk():
    """The official SDK orders, reads back and lists, and understands every row."""
    with SimExchange(symbols=700, positions={"BTCUSDT": "0.038"}) as sim:
        configuration = ConfigurationRestAPI(
            api_key=sim.api_key, api_secret=sim.api_secret, base_path=sim.url, timeout=3000, retries=0
        )
        client = DerivativesTradingUsdsFutures(config_rest_api=configuration).rest_api
        order = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": 0.028, "reduce_only": "true"}
        placed = client.new_order(**order, new_client_order_id="p33-x", new_order_resp_type="RESULT").data()
        assert (placed.order_id, placed.status, placed.executed_qty) == (8389765, "FILLED", "0.028")
        read = client.query_order(symbol="BTCUSDT", orig_client_order_id="p33-x").data()
        assert (read.order_id, read.executed_qty, read.reduce_only) == (8389765, "0.028", True)
        assert [p.position_amt for p in client.position_information_v2(symbol="BTCUSDT").data()] == ["0.010"]
        assert [p.position_amt for p in client.position_information_v3().data()] == ["0.010"]
        assert len(client.position_information_v2().data()) == 700
        assert len(client.exchange_information().data().symbols) == 700
        assert [t.qty for t in client.account_trade_list(symbol="BTCUSDT").data()] == ["0.028"]
        with pytest.raises(BadRequestError, match="ReduceOnly Order is rejected"):
            client.new_order(**order | {"side": "BUY"})


def test_own_process():
    """`python -m` prints one line of JSON when it is ready, and ends on SIGTERM with 0."""
    arguments = ["--symbols", "600", "--position", "BTCUSDT=0.038", "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "p33_sidecar.rehearsal.exchange", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        ready = json.loads(process.stdout.readline())
        assert ready["symbols"] == 600
        assert httpx.get(ready["url"] + "/_sim/state").json()["positions"][0]["amt"] == "0.038"
    finally:
        process.terminate()
        assert process.wait(5) == 0
        process.stdout.close()


@pytest.mark.parametrize("arguments", [
    "--position BTCUSDT", "--position BTCUSDT=much", "--position BTCUSDT=NaN", "--position NOSUCHUSDT=1", "--symbols 0",
    "--latency-ms -5", "--lag-ms 120001", "--port 65536"])
def test_a_scene_that_cannot_be_is_told_in_a_line(arguments, capsys):
    """Wrong usage: exit code 2 and a sentence; nothing listens."""
    with pytest.raises(SystemExit) as ended:
        exchange_program(arguments.split())
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert not said.out and "error: " in said.err.splitlines()[-1]


def test_a_position_is_shown_with_all_its_digits():
    """Finer than the symbol's decimals, as after a change of the rules: never rounded to another amount."""
    with SimExchange(symbols=1, positions={"BTCUSDT": "0.0385"}) as exchange:
        shown = exchange.app.venue.position_rows_json("BTCUSDT")
    assert json.loads(shown)[0]["positionAmt"] == "0.0385"


def test_a_request_that_is_no_http_is_refused():
    """A length that is no number: 400, and the server goes on."""
    with SimExchange(symbols=1) as exchange:
        host, port = exchange.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(b"GET /fapi/v1/time HTTP/1.1\r\nContent-Length: much\r\n\r\n")
            assert b" 400 " in connection.recv(100)
        assert httpx.get(exchange.url + "/fapi/v1/time").status_code == 200


def test_symbols_table():
    """700 distinct contracts: the samples first, then trading perpetuals, and one of every oddity after those."""
    contracts = list(load_contracts(700).values())
    assert [c.symbol for c in contracts[:3]] == ["BTCUSDT", "ETHUSDT", "TRXUSDT"]
    assert {(c.status, c.contract_type) for c in contracts[:50]} == {("TRADING", "PERPETUAL")}
    head = contracts[:66]
    assert {"CURRENT_QUARTER", "NEXT_QUARTER", "CURRENT_QUARTER DELIVERING", "TRADIFI_PERPETUAL"} <= {
        c.contract_type for c in head
    }
    assert {"SETTLING", "PENDING_TRADING", "DELIVERING", "PRE_SETTLE"} <= {c.status for c in head}
    assert any(not c.symbol.isascii() for c in head)
    assert any(c.step == "0.0000001" for c in head)
    assert any(c.min_qty == "0" for c in head)
    assert any(not c.risk_control for c in contracts)


@pytest.mark.parametrize("count", [0, 701])
def test_symbols_table_has_an_end(count):
    """Asking for more symbols than there are is an error, not a shorter exchange."""
    with pytest.raises(ValueError, match="1 to 700"):
        load_contracts(count)


def test_independent_of_what_it_tests():
    """The simulator imports nothing of p33 but itself."""
    program = (
        "import sys, p33_sidecar.rehearsal.exchange\n"
        "print(sorted(m for m in sys.modules if m.startswith('p33_sidecar.') and 'rehearsal' not in m))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
