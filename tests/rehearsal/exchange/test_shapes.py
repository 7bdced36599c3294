"""Every key and JSON type of the recorded rows is in ours, and every text is the documented one."""

from __future__ import annotations

import pytest

from p33_sidecar.rehearsal.exchange.errors import TEXTS

SINCE_2026_06 = {"avgPrice", "cumQuote"}
"""Lost by acknowledgements on 2026-06-30."""
TRAILING_ONLY = {"activatePrice", "priceRate"}


def assert_covers(ours: dict, theirs: dict, *, without: set[str] = frozenset()) -> None:
    missing = theirs.keys() - without - ours.keys()
    assert not missing
    for name in theirs.keys() - without:
        assert type(ours[name]) is type(theirs[name]), name


@pytest.mark.parametrize(
    "name", ["positionRisk_v2_docs_oneway.json", "positionRisk_v2_rows_extra_fields_mainnet_2024-01.json"]
)
def test_position_risk_v2(call, recorded, name):
    """v2 rows, live and never traded."""
    rows = call("GET", "/fapi/v2/positionRisk").json()
    for ours in (rows[0], rows[1]):
        for theirs in recorded(name):
            assert_covers(ours, theirs)


@pytest.mark.parametrize("name", ["positionRisk_v3_docs_oneway.json", "positionRisk_v3_ccxt_comment_WLDUSDT.json"])
def test_position_risk_v3(call, recorded, name):
    """v3 rows, and none of what v3 dropped."""
    ours = call("GET", "/fapi/v3/positionRisk").json()[0]
    assert_covers(ours, recorded(name)[0])
    assert not {"leverage", "marginType", "maxNotionalValue", "isAutoAddMargin"} & ours.keys()


def test_hedge_rows(call, exchange, recorded):
    """Hedge mode shows LONG and SHORT of every symbol; a short leg is negative."""
    exchange.set_mode(hedge=True)
    rows = call("GET", "/fapi/v2/positionRisk").json()
    assert {
        (r["symbol"], r["positionSide"]): r["positionAmt"] for r in rows if r["symbol"] in ("BTCUSDT", "TRXUSDT")
    } == {
        ("BTCUSDT", "LONG"): "0.038",
        ("BTCUSDT", "SHORT"): "0.000",
        ("TRXUSDT", "LONG"): "0",
        ("TRXUSDT", "SHORT"): "-123",
    }
    for theirs in recorded("positionRisk_v2_docs_hedge.json"):
        assert_covers(rows[0], theirs)


def test_order_ack(call, recorded):
    """The acknowledgement has the keys of the one recorded in 2026-09, and no others."""
    ours = call.order().json()
    theirs = recorded("order_new_market_ack_mainnet_2026-09_no_avgPrice.json")
    assert_covers(ours, theirs)
    assert ours.keys() == theirs.keys()
    assert_covers(ours, recorded("order_new_limit_testnet_2025-02.json"), without=SINCE_2026_06)


def test_order_reads(call, recorded):
    """GET order, openOrders and allOrders."""
    placed = call.limit("BUY", "0.010", "100000.00").json()
    single = call("GET", "/fapi/v1/order", symbol="BTCUSDT", orderId=placed["orderId"]).json()
    assert_covers(single, recorded("order_query_docs.json"), without=TRAILING_ONLY)
    for path in ("allOrders", "openOrders"):
        row = call("GET", f"/fapi/v1/{path}", symbol="BTCUSDT").json()[0]
        assert_covers(row, recorded("allOrders_docs.json")[0], without=TRAILING_ONLY)


@pytest.mark.parametrize(
    "name",
    [
        "userTrades_docs.json",
        "userTrades_ETHUSDT_testnet_2022-02.json",
        "userTrades_BTCUSDT_testnet_2025-06_partA.json",
    ],
)
def test_user_trades(call, recorded, name):
    """Rows of the account's trades."""
    call.order()
    assert_covers(call("GET", "/fapi/v1/userTrades", symbol="BTCUSDT").json()[0], recorded(name)[0])


def test_exchange_info(call, recorded):
    """The whole answer, its symbols, and each symbol's filters; names and filters vary as recorded."""
    ours = call.http.get("/fapi/v1/exchangeInfo?symbol=ETHUSDT").json()
    for name in ("exchangeInfo_mainnet_2026-09_BTCUSDT_only.json", "exchangeInfo_demo_2025-12-24_full.json"):
        theirs = recorded(name)
        assert_covers(ours, theirs)
        assert_covers(ours["symbols"][0], theirs["symbols"][0])
        assert ours["rateLimits"][0].keys() == theirs["rateLimits"][0].keys()
        mine, real = ({f["filterType"]: f for f in x["symbols"][0]["filters"]} for x in (ours, theirs))
        assert {kind: f.keys() for kind, f in mine.items()} == {kind: f.keys() for kind, f in real.items()}
    assert len(ours["symbols"]) == 70
    assert len({tuple(f["filterType"] for f in s["filters"]) for s in ours["symbols"]}) > 3


def test_main_exchange_rules_of_btcusdt(call, recorded):
    """BTCUSDT has the main exchange's filters."""
    ours, theirs = (
        {f["filterType"]: f for f in x["symbols"][0]["filters"]}
        for x in (
            call.http.get("/fapi/v1/exchangeInfo").json(),
            recorded("exchangeInfo_mainnet_2026-09_BTCUSDT_only.json"),
        )
    )
    for kind in ("LOT_SIZE", "MARKET_LOT_SIZE", "MIN_NOTIONAL", "PRICE_FILTER", "PERCENT_PRICE"):
        assert ours[kind] == theirs[kind]


def test_force_orders_income_and_account(call, exchange, recorded):
    """The small reads, after a liquidation."""
    exchange.liquidate("BTCUSDT")
    assert_covers(call("GET", "/fapi/v1/forceOrders").json()[0], recorded("forceOrders_docs.json")[0])
    assert_covers(call("GET", "/fapi/v1/income").json()[0], recorded("income_docs.json")[0])
    account, documented = call("GET", "/fapi/v3/account").json(), recorded("account_v3_docs.json")[0]
    assert_covers(account, documented)
    assert_covers(account["assets"][0], documented["assets"][0])
    assert_covers(account["positions"][0], documented["positions"][0])


def test_small_bodies(call, recorded):
    """accountConfig, symbolConfig, mode, time, listen keys."""
    small = recorded("misc_rest_docs.json")
    for name in ("GET /fapi/v1/positionSide/dual", "GET /fapi/v1/accountConfig", "GET /fapi/v1/time"):
        assert_covers(call(*name.split()).json(), small[name])
    for name in ("GET /fapi/v1/symbolConfig", "GET /fapi/v1/rateLimit/order"):
        assert_covers(call(*name.split()).json()[0], small[name][0])
    assert call.http.post("/fapi/v1/listenKey").json().keys() == small["POST /fapi/v1/listenKey"].keys()


def test_every_text_is_documented(recorded):
    """No refusal says anything the exchange's error page does not (its escapes of `_` and quotes aside)."""
    documented = {row["code"]: row["messages"] for row in recorded("errors_documented_codes.json")}
    for code, text in TEXTS.items():
        assert text in documented[code], code
