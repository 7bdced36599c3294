"""A process that archives trades into an object store and stops in the middle, told by its input when to go on.

    python -m tests.pipeline.lease_holder URL      prints `inside` once it holds the table and has asked the exchange
"""

from __future__ import annotations

import sys
from decimal import Decimal

from p33_pipeline.archive.trades import TradeArchiver
from p33_pipeline.errors import HistoryUnavailable
from p33_pipeline.history import History, place_at
from p33_sidecar.exchange import Trade

from .conftest import MIDNIGHT_MS

TRADES = 5
NOW_MS = MIDNIGHT_MS + 60_000


class Exchange:
    """An exchange that knows five trades. `meanwhile` is called when it was asked for them."""

    def __init__(self, meanwhile=lambda: None) -> None:
        self.meanwhile = meanwhile

    def trades(self, symbol: str, *, start_ms: int, end_ms: int) -> list[Trade]:
        self.meanwhile()
        one, nothing = Decimal(1), Decimal(0)
        return [Trade(symbol, number, str(number), "BUY", one, one, one, nothing, nothing, "USDT", False,
                      MIDNIGHT_MS + number, "{}") for number in range(1, TRADES + 1)]

    def sync_time(self) -> int:
        return 0

    server_offset_ms = sync_time

    def order_names(self, symbol: str, *, from_order_id: str) -> dict[str, str]:
        return {}


def archive(url: str, exchange: Exchange, *, lease_s: float | None = None) -> int:
    """Archive what the exchange knows; how many trades were new."""
    place = place_at(url)
    place.lease_s = lease_s or place.lease_s
    return TradeArchiver(exchange, History(place), now_ms=lambda: NOW_MS).run(["BTCUSDT"], since_ms=MIDNIGHT_MS)


def wait() -> None:
    print("inside", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    try:
        print(f"new {archive(sys.argv[1], Exchange(wait))}", flush=True)
    except HistoryUnavailable as error:
        print(f"refused: {error}", flush=True)
