"""Makes `symbols.json`, the simulator's table of contracts, out of a recorded `exchangeInfo` answer.

    python -m p33_sidecar.rehearsal.exchange.make_symbols RECORDED_EXCHANGE_INFO.json

Only facts are taken (names, steps, bounds, statuses), into rows of our own layout; the recording stays where
it is. Rules that the main exchange states differently from the recorded demo host stand in `MAINNET`.
The first 50 rows are perpetuals that trade; the rows behind them hold one of every oddity, then the rest.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import msgspec

from p33_sidecar.rehearsal.exchange.symbols import COLUMNS, TABLE_PATH

HEAD = ("BTCUSDT", "ETHUSDT", "TRXUSDT")
TRADING_HEAD = 50
TOTAL = 700

MAINNET = {  # recorded 2026-09 on the main exchange
    "BTCUSDT": {"min_price": "556.80", "max_price": "4529764", "market_max": "120", "notional": "50"},
}
ODDITIES = (
    "币安人生USDT", "BTCUSDT_260327", "EOSUSDT", "FLMUSDT", "BTCUSDT_250627", "OPENUSDT", "SPELLUSDT", "TUSDT",
    "1000SHIBUSDT", "1000000MOGUSDT", "XAUUSDT", "BMNRUSDT", "ETHUSDT_260626", "测试测试USDT", "XMRUSDT", "ETHBTC",
)  # fmt: skip
MARKS = {
    "BTCUSDT": "103862.50", "ETHUSDT": "3400.10", "TRXUSDT": "0.29870", "BNBUSDT": "860.40", "SOLUSDT": "142.600",
    "XRPUSDT": "2.1043", "DOGEUSDT": "0.13270", "ADAUSDT": "0.38500", "LTCUSDT": "82.10", "LINKUSDT": "13.405",
}  # fmt: skip


def main(recorded_path: str) -> None:
    recorded = msgspec.json.decode(Path(recorded_path).read_bytes())["symbols"]
    rows = _arranged([_facts(symbol) for symbol in recorded])
    rows += _variants(rows, count=TOTAL - len(rows))
    lines = ",\n".join(msgspec.json.encode([row[column] for column in COLUMNS]).decode() for row in rows)
    TABLE_PATH.write_text(f'{{"columns":{msgspec.json.encode(COLUMNS).decode()},"rows":[\n{lines}\n]}}\n')


def _facts(symbol: dict) -> dict:
    filters = {f["filterType"]: f for f in symbol["filters"]}
    price, lot, market = filters["PRICE_FILTER"], filters["LOT_SIZE"], filters["MARKET_LOT_SIZE"]
    facts = {
        "symbol": symbol["symbol"],
        "contract_type": symbol["contractType"],
        "status": symbol["status"],
        "base": symbol["baseAsset"],
        "quote": symbol["quoteAsset"],
        "tick": price["tickSize"],
        "min_price": price["minPrice"],
        "max_price": price["maxPrice"],
        "step": lot["stepSize"],
        "min_qty": lot["minQty"],
        "max_qty": lot["maxQty"],
        "market_step": market["stepSize"],
        "market_min": market["minQty"],
        "market_max": market["maxQty"],
        "notional": filters["MIN_NOTIONAL"]["notional"],
        "price_precision": symbol["pricePrecision"],
        "qty_precision": symbol["quantityPrecision"],
        "max_orders": filters["MAX_NUM_ORDERS"]["limit"],
        "take_bound": symbol["marketTakeBound"],
        "risk_control": int("POSITION_RISK_CONTROL" in filters),
    } | MAINNET.get(symbol["symbol"], {})
    return facts | {"mark": MARKS.get(facts["symbol"]) or _plausible_mark(facts)}


def _plausible_mark(facts: dict) -> str:
    """A price well inside the symbol's bounds: 12345 ticks, or a fifth of the top where that is less."""
    tick = Decimal(facts["tick"]) or Decimal("0.0001")
    ceiling = Decimal(facts["max_price"]) / 5 // tick * tick
    floor = (Decimal(facts["min_price"]) * 4) // tick * tick
    return format(max(min(tick * 12345, ceiling), floor, tick), "f")


def _arranged(rows: list[dict]) -> list[dict]:
    by_name = {row["symbol"]: row for row in rows}
    plain = [r for r in rows if r["symbol"] not in {*HEAD, *ODDITIES}]
    trading = [r for r in plain if r["status"] == "TRADING" and r["contract_type"] == "PERPETUAL"]
    head = [by_name[name] for name in HEAD] + trading[: TRADING_HEAD - len(HEAD)]
    head += [by_name[name] for name in ODDITIES if name in by_name]
    taken = {row["symbol"] for row in head}
    return head + [row for row in rows if row["symbol"] not in taken]


def _variants(rows: list[dict], *, count: int) -> list[dict]:
    """USDC-margined twins of USDT perpetuals that have none: the way the real list grows."""
    names = {row["symbol"] for row in rows}
    twins = [
        row | {"symbol": row["base"] + "USDC", "quote": "USDC"}
        for row in rows
        if row["quote"] == "USDT" and row["status"] == "TRADING" and row["base"] + "USDC" not in names
    ]
    return [row for row in twins if row["contract_type"] == "PERPETUAL"][:count]


if __name__ == "__main__":
    main(sys.argv[1])
