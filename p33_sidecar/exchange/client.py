"""The exchange, as the rest of p33 sees it: six questions, one kind of order, and errors that say what happened.

What may not happen here: a read answered with anything but a whole good reply or ExchangeUnavailable; an order sent
twice (the one exception, a definite -1021 refusal, keeps the caller's time); an order that could open a position.

Facts: `fixtures/INDEX.md` and the official documentation named in the modules this one puts together.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Final

import httpx
import msgspec

from p33_sidecar.core import quantity as exact
from p33_sidecar.errors import (
    ContractViolated,
    ExchangeBanned,
    ExchangeRejected,
    ExchangeUnavailable,
    OutcomeUnknown,
    P33Error,
    SymbolUnlisted,
)
from p33_sidecar.exchange.connection import Answer, Call, Connection, Observer, Unobserved
from p33_sidecar.exchange.failures import Failure, Fate, quotable
from p33_sidecar.exchange.filters import FiltersReply, decode_filters
from p33_sidecar.exchange.limits import BanGuard, BanStore, Priority, WeightGauge
from p33_sidecar.exchange.orders import OrderState, decode_order
from p33_sidecar.exchange.positions import PositionsReply, decode_positions
from p33_sidecar.exchange.records import Trade, decode_order_names, decode_trades
from p33_sidecar.exchange.signing import Credentials, encode, signed
from p33_sidecar.exchange.venue import venue_of
from p33_sidecar.exchange.wire import decode

RECV_WINDOW_MS: Final = 5_000
NO_SUCH_ORDER: Final = -2013
INVALID_SYMBOL: Final = -1121
CLIENT_ID: Final = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
LATEST_MS: Final = 1 << 53

POSITIONS = Call("positionRisk", "GET", "/fapi/v2/positionRisk", max_bytes=8 << 20)
INFO = Call("exchangeInfo", "GET", "/fapi/v1/exchangeInfo", signed=False, priority=Priority.LOW, max_bytes=16 << 20)
TIME = Call("time", "GET", "/fapi/v1/time", signed=False, priority=Priority.LOOKUP)
MODE = Call("accountConfig", "GET", "/fapi/v1/accountConfig", priority=Priority.LOW)
LOOKUP = Call("order", "GET", "/fapi/v1/order", priority=Priority.LOOKUP)
CLOSE = Call("order_new", "POST", "/fapi/v1/order")
TRADES = Call("userTrades", "GET", "/fapi/v1/userTrades", priority=Priority.LOW, max_bytes=4 << 20)
ORDERS = Call("allOrders", "GET", "/fapi/v1/allOrders", priority=Priority.LOW, max_bytes=4 << 20)
PAGE: Final = 1000
"""The most rows a reply of userTrades or allOrders holds."""


class _Time(msgspec.Struct, rename="camel"):
    server_time: int


class _Mode(msgspec.Struct, rename="camel"):
    dual_side_position: bool


_TIME = msgspec.json.Decoder(_Time)
_MODE = msgspec.json.Decoder(_Mode)


class Exchange:
    """A Binance USD-M futures exchange. Used by one thread; every call ends within `timeout_s` per request sent.

    Reads raise ExchangeUnavailable, whose `kind` names what was wrong, and ExchangeBanned during a ban.
    """

    def __init__(self, base_url: str, *, credentials: Credentials | None, bans: BanStore, now_ms: Callable[[], int],
                 mono_ns: Callable[[], int] = time.monotonic_ns, observer: Observer | None = None,
                 timeout_s: float = 4.0, transport: httpx.BaseTransport | None = None) -> None:
        self.venue = venue_of(base_url)
        self._credentials = credentials or Credentials("", "")
        self._now_ms, self._mono_ns = now_ms, mono_ns
        self._weight = WeightGauge(now_ms=now_ms)
        self._offset_ms = 0
        self._connection = Connection(
            base_url, now_ms=now_ms, mono_ns=mono_ns, bans=BanGuard(bans, now_ms=now_ms, mono_ns=mono_ns),
            weight=self._weight, observer=observer or Unobserved(), timeout_s=timeout_s, transport=transport)

    @property
    def configured(self) -> bool:
        """Whether there are credentials to sign with."""
        return self._credentials.complete

    @property
    def used_weight(self) -> int:
        """Request weight our address used in the running minute, as far as the exchange has said."""
        return self._weight.used

    def positions(self) -> PositionsReply:
        """All positions, with one request (weight 5)."""
        answer = self._read(POSITIONS, {})
        positions, bad_rows = decode_positions(answer.body)
        return PositionsReply(answer.requested_ms, answer.received_ms, answer.requested_mono_ns, positions, bad_rows)

    def filters(self) -> FiltersReply:
        """The lot rules of all symbols (weight 1, about 1 MB). Learns the exchange's weight limit, too."""
        answer = self._read(INFO, {})
        filters, refused, weight_limit = decode_filters(answer.body)
        self._weight.limit = weight_limit or self._weight.limit
        return FiltersReply(answer.requested_ms, filters, refused)

    def one_way_mode(self) -> bool:
        """Whether the account is in one-way mode (weight 5)."""
        return not decode(self._read(MODE, {}).body, _MODE).dual_side_position

    def server_offset_ms(self) -> int:
        """The exchange's clock minus ours, as last measured; 0 before the first `sync_time`."""
        return self._offset_ms

    def sync_time(self) -> int:
        """Measure the offset anew, taking half the round trip off; the offset in ms."""
        answer = self._read(TIME, {})
        round_trip_ms = (self._mono_ns() - answer.requested_mono_ns) // 1_000_000
        server_ms = decode(answer.body, _TIME).server_time
        if not 0 < server_ms < LATEST_MS:
            raise ExchangeUnavailable("bad_time", "serverTime is not a time")
        self._offset_ms = server_ms - (answer.requested_ms + round_trip_ms // 2)
        return self._offset_ms

    def order(self, symbol: str, *, order_id: str = "", client_order_id: str = "") -> OrderState | None:
        """The state of an order; None where the exchange says there is none (-2013), which may mean not yet visible."""
        if not (order_id or client_order_id):
            raise ContractViolated("an order is looked up by one of its ids")
        named = {"orderId": order_id} if order_id else {"origClientOrderId": client_order_id}
        answer = self._ask(LOOKUP, {"symbol": symbol, **named})
        if answer.failure and answer.failure.code == NO_SUCH_ORDER and answer.failure.fate is Fate.REFUSED:
            return None
        self._raise_unread(answer)
        return decode_order(answer.body, symbol=symbol, order_id=order_id,
                            client_order_id="" if order_id else client_order_id)

    def trades(self, symbol: str, *, start_ms: int, end_ms: int) -> list[Trade]:
        """The account's trades of a window of at most 7 days, oldest first; PAGE of them means there may be more."""
        window = {"startTime": str(start_ms), "endTime": str(end_ms)}
        answer = self._read(TRADES, {"symbol": symbol, **window, "limit": str(PAGE)})
        return decode_trades(answer.body, symbol=symbol)

    def trades_from(self, symbol: str, trade_id: int) -> list[Trade]:
        """The trades from an id on, oldest first, at most PAGE."""
        answer = self._read(TRADES, {"symbol": symbol, "fromId": str(trade_id), "limit": str(PAGE)})
        return decode_trades(answer.body, symbol=symbol)

    def order_names(self, symbol: str, *, from_order_id: str) -> dict[str, str]:
        """Order id to client order id, from an order on, at most PAGE."""
        answer = self._read(ORDERS, {"symbol": symbol, "orderId": from_order_id, "limit": str(PAGE)})
        return decode_order_names(answer.body)

    def close_market(self, symbol: str, *, side: str, quantity: Decimal, client_order_id: str, recv_window_ms: int,
                     timestamp_ms: int, in_time: Callable[[], bool] = lambda: True) -> OrderState:
        """Send one reduce-only market order. `timestamp_ms` is by our clock; the exchange's offset is added here.

        `in_time` is asked before the second try after -1021: a clock that went wrong and a machine that stood still
        look the same to the exchange, and the offset measured then would make an old order young.

        Raises, where it was not executed: ExchangeRejected (with the code), ExchangeUnavailable, ExchangeBanned.
        Raises OutcomeUnknown where it may have been, and ContractViolated, nothing sent, for an order that cannot be.
        """
        params = {
            "symbol": symbol, "side": side, "type": "MARKET", "quantity": exact.text(quantity), "reduceOnly": "true",
            "newOrderRespType": "RESULT", "newClientOrderId": client_order_id,
        }
        _check_close(side=side, quantity=quantity, client_order_id=client_order_id, recv_window_ms=recv_window_ms)
        answer = self._ask(CLOSE, params, timestamp_ms=timestamp_ms, recv_window_ms=recv_window_ms, in_time=in_time)
        if answer.failure:
            raise self._order_error(answer.failure, answer.ban_until_ms)
        try:
            return decode_order(answer.body, symbol=symbol, client_order_id=client_order_id)
        except ExchangeUnavailable as odd:
            unknown = OutcomeUnknown(odd.kind, odd.detail)
        raise unknown

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _read(self, call: Call, params: dict[str, str]) -> Answer:
        answer = self._ask(call, params)
        self._raise_unread(answer)
        return answer

    def _ask(self, call: Call, params: dict[str, str], *, timestamp_ms: int | None = None,
             recv_window_ms: int = RECV_WINDOW_MS, in_time: Callable[[], bool] = lambda: True) -> Answer:
        """Send once; after a -1021 refusal measure the clock and, if still `in_time`, send once more, with the time of
        the first."""
        answer = self._send(call, params, timestamp_ms, recv_window_ms)
        failure = answer.failure
        if not (call.signed and failure and failure.fate is Fate.REFUSED and failure.kind == "clock"):
            return answer
        try:
            self.sync_time()
        except ExchangeUnavailable:
            return answer
        if not in_time():
            return answer
        return self._send(call, params, timestamp_ms, recv_window_ms)

    def _send(self, call: Call, params: dict[str, str], timestamp_ms: int | None, recv_window_ms: int) -> Answer:
        if not call.signed:
            return self._connection.send(call, encode(params))
        if not self.configured:
            raise ExchangeUnavailable("unconfigured", "no exchange credentials")
        local_ms = self._now_ms() if timestamp_ms is None else timestamp_ms
        timed = {**params, "recvWindow": str(recv_window_ms), "timestamp": str(local_ms + self._offset_ms)}
        payload = signed(timed, secret=self._credentials.api_secret)
        return self._connection.send(call, payload, api_key=self._credentials.api_key)

    def _raise_unread(self, answer: Answer) -> None:
        """Raises what a failed read means: no data."""
        failure = answer.failure
        if failure is None:
            return
        if failure.fate is Fate.BANNED:
            raise ExchangeBanned(answer.ban_until_ms, failure.kind)
        unlisted = failure.code == INVALID_SYMBOL and failure.fate is Fate.REFUSED
        raise (SymbolUnlisted if unlisted else ExchangeUnavailable)(failure.kind, self._detail(failure))

    def _order_error(self, failure: Failure, until_ms: int) -> P33Error:
        """What a failed order means, by its fate."""
        match failure.fate:
            case Fate.REFUSED:
                return ExchangeRejected(failure.code, self._quoted(failure.message), failure.status)
            case Fate.BANNED:
                return ExchangeBanned(until_ms, failure.kind)
            case Fate.NOT_EXECUTED:
                return ExchangeUnavailable(failure.kind, self._detail(failure))
            case _:
                return OutcomeUnknown(failure.kind, self._detail(failure))

    def _detail(self, failure: Failure) -> str:
        code = f"{failure.code} " if failure.code else ""
        status = f"HTTP {failure.status} " if failure.status else ""
        return f"{status}{code}{self._quoted(failure.message)}".strip()

    def _quoted(self, text: str) -> str:
        return quotable(text, secrets=(self._credentials.api_key, self._credentials.api_secret))


def _check_close(*, side: str, quantity: Decimal, client_order_id: str, recv_window_ms: int) -> None:
    """Raises ContractViolated for an order that must not be sent."""
    if side not in ("BUY", "SELL"):
        raise ContractViolated(f"side is neither BUY nor SELL: {side!r}")
    if not quantity.is_finite() or quantity <= 0:
        raise ContractViolated(f"not a quantity to close: {quantity}")
    if not CLIENT_ID.fullmatch(client_order_id):
        raise ContractViolated("the client order id breaks the exchange's rule")
    if not 0 < recv_window_ms <= RECV_WINDOW_MS:
        raise ContractViolated(f"recvWindow is outside 1 to {RECV_WINDOW_MS} ms: {recv_window_ms}")
