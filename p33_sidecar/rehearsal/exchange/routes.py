"""The endpoints as one table: method, path, name, who may ask, what it weighs, and what answers.

No behaviour may live here. Weights: the documentation of 2026-05 (positionRisk 5; the change log once said 10).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from p33_sidecar.rehearsal.exchange import reads, trading
from p33_sidecar.rehearsal.exchange.params import Params
from p33_sidecar.rehearsal.exchange.venue import Venue

PUBLIC: Final = "public"
KEYED: Final = "keyed"
SIGNED: Final = "signed"


class Route(NamedTuple):
    """`weight` is with a symbol given, `weight_all` without one."""

    method: str
    path: str
    security: str
    weight: int
    weight_all: int
    answer: Callable[[Venue, Params], object]

    @property
    def name(self) -> str:
        """What faults, latencies and counts call it: `positionRisk`, `order`, `positionSide/dual`."""
        return self.path.split("/", 3)[3]

    def names(self) -> tuple[str, ...]:
        return "*", self.name, f"{self.method} {self.name}", self.path


TABLE: Final = (
    Route("GET", "/fapi/v1/ping", PUBLIC, 1, 1, reads.ping),
    Route("GET", "/fapi/v1/time", PUBLIC, 1, 1, reads.server_time),
    Route("GET", "/fapi/v1/exchangeInfo", PUBLIC, 1, 1, reads.exchange_info),
    Route("GET", "/fapi/v2/positionRisk", SIGNED, 5, 5, reads.position_risk_v2),
    Route("GET", "/fapi/v3/positionRisk", SIGNED, 5, 5, reads.position_risk_v3),
    Route("POST", "/fapi/v1/order", SIGNED, 0, 0, trading.new_order),
    Route("GET", "/fapi/v1/order", SIGNED, 1, 1, reads.query_order),
    Route("DELETE", "/fapi/v1/order", SIGNED, 1, 1, trading.cancel_order),
    Route("DELETE", "/fapi/v1/allOpenOrders", SIGNED, 1, 1, trading.cancel_all),
    Route("GET", "/fapi/v1/openOrders", SIGNED, 1, 40, reads.open_orders),
    Route("GET", "/fapi/v1/allOrders", SIGNED, 5, 5, reads.all_orders),
    Route("GET", "/fapi/v1/userTrades", SIGNED, 5, 5, reads.user_trades),
    Route("GET", "/fapi/v1/forceOrders", SIGNED, 20, 50, reads.force_orders),
    Route("GET", "/fapi/v1/income", SIGNED, 30, 30, reads.income),
    Route("GET", "/fapi/v1/positionSide/dual", SIGNED, 30, 30, reads.position_mode),
    Route("POST", "/fapi/v1/positionSide/dual", SIGNED, 1, 1, trading.change_position_mode),
    Route("GET", "/fapi/v1/accountConfig", SIGNED, 5, 5, reads.account_config),
    Route("GET", "/fapi/v1/symbolConfig", SIGNED, 5, 5, reads.symbol_config),
    Route("GET", "/fapi/v1/rateLimit/order", SIGNED, 1, 1, reads.order_rate_limit),
    Route("GET", "/fapi/v3/account", SIGNED, 5, 5, reads.account),
    Route("GET", "/fapi/v3/balance", SIGNED, 5, 5, reads.balance),
    Route("POST", "/fapi/v1/listenKey", KEYED, 1, 1, trading.post_listen_key),
    Route("PUT", "/fapi/v1/listenKey", KEYED, 1, 1, trading.put_listen_key),
    Route("DELETE", "/fapi/v1/listenKey", KEYED, 1, 1, trading.delete_listen_key),
)
ROUTES: Final = {(route.method, route.path): route for route in TABLE}
NEW_ORDER: Final = ROUTES["POST", "/fapi/v1/order"]
