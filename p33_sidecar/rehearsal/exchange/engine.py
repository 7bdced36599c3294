"""The matching engine and the account behind it: positions, orders, trades, and the one mode they share.

No HTTP, no signatures, no faults: whatever gets here happens. Nothing here waits, and time is the clock it was given.
Market orders fill at the mark at once; a limit order that does not cross it rests until it is filled by
`fill_resting` or canceled (the marks moving past it fill nothing, so that a rehearsal stays in control).
Order and trade ids run per symbol, as at the exchange: two symbols may well have the same order id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from decimal import Decimal

import msgspec

from p33_sidecar.rehearsal.exchange import rules
from p33_sidecar.rehearsal.exchange.errors import refusal
from p33_sidecar.rehearsal.exchange.fills import (
    FEE_RATE,
    MONEY_GRID,
    after_fill,
    room_to_close,
    signed,
    trimmed,
)
from p33_sidecar.rehearsal.exchange.marks import mark_price
from p33_sidecar.rehearsal.exchange.model import ZERO, Order, OrderTicket, Position, PositionKey, Trade
from p33_sidecar.rehearsal.exchange.symbols import Contract
from p33_sidecar.rehearsal.exchange.timeline import Timeline

LEVERAGE = 20
FIRST_TRADE_ID = 359_311_800
HEDGE_CLOSES = (("SELL", "LONG"), ("BUY", "SHORT"))
OrderKey = tuple[str, int]


class Engine:
    """One account on one exchange. Not thread-safe: its owner holds a lock."""

    def __init__(
        self, contracts: dict[str, Contract], *, clock: Callable[[], int], first_order_id: int, wallet: Decimal
    ) -> None:
        self.contracts = contracts
        self.hedge = False
        self.wallet = wallet
        self.positions: Timeline[PositionKey, Position] = Timeline()
        self.orders: Timeline[OrderKey, Order] = Timeline()
        self.trades: list[Trade] = []
        self.liquidity: dict[str, Decimal] = {}
        self.mark_bases: dict[str, Decimal] = {}
        self._clock = clock
        self._first_order_id = first_order_id
        self._order_counts: dict[str, int] = {}
        self._trade_counts: dict[str, int] = {}
        self._open: dict[OrderKey, None] = {}
        self._by_client_id: dict[tuple[str, str], list[OrderKey]] = {}
        self._sequence = 0

    # -- looking ------------------------------------------------------------------------------------------------
    def now_ms(self) -> int:
        return self._clock()

    def contract(self, symbol: str) -> Contract:
        """Raises -1121 for a symbol that is not listed."""
        if symbol not in self.contracts:
            raise refusal(-1121)
        return self.contracts[symbol]

    def mark(self, symbol: str) -> Decimal:
        return mark_price(self.contract(symbol), at_ms=self.now_ms(), base=self.mark_bases.get(symbol))

    def position(self, key: PositionKey) -> Position:
        return self.positions.get(key) or Position(symbol=key[0], side=key[1])

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        orders = (self.orders.get(key) for key in self._open if symbol in (None, key[0]))
        return [order for order in orders if order is not None]

    def find_order(
        self, symbol: str, *, order_id: int | None, client_order_id: str | None, moment_ms: int | None = None
    ) -> Order | None:
        """By id, else the newest with that client id, as it was visible at `moment_ms`."""
        if order_id is not None:
            return self.orders.as_of((symbol, order_id), moment_ms)
        keys = self._by_client_id.get((symbol, client_order_id or ""), [])
        visible = (self.orders.as_of(key, moment_ms) for key in reversed(keys))
        return next((order for order in visible if order is not None), None)

    def free_margin(self) -> Decimal:
        """Wallet less what the open positions bind at the account's leverage."""
        bound = (
            abs(p.amt) * self.mark(p.symbol) for p in self.positions.values() if p.amt and p.symbol in self.contracts
        )
        return self.wallet - sum(bound, ZERO) / LEVERAGE

    # -- orders -------------------------------------------------------------------------------------------------
    def place(self, ticket: OrderTicket) -> Order:
        """Check an order, take it, and fill what fills at once. Raises ApiError when it is refused."""
        contract, mark = self.contract(ticket.symbol), self.mark(ticket.symbol)
        rules.check_mode(ticket, hedge=self.hedge, sent_reduce_only=ticket.reduce_only)
        closes = ticket.reduce_only or (self.hedge and (ticket.side, ticket.position_side) in HEDGE_CLOSES)
        rules.check_status(contract, closes=closes)
        rules.check_quantity(ticket, contract)
        rules.check_price(ticket, contract, mark=mark)
        rules.check_notional(ticket, contract, mark=mark, closes=closes)
        self._check_account(ticket, contract, mark=mark, closes=closes)
        qty = self._closable_qty(ticket) if closes else ticket.qty
        crosses = ticket.type == "MARKET" or signed(ticket.side, ticket.price) >= signed(ticket.side, mark)
        self._check_time_in_force(ticket, qty=qty, crosses=crosses)
        order = self._accept(msgspec.structs.replace(ticket, qty=qty, reduce_only=closes))
        return self._match(order, price=mark) if crosses else self._leave_resting(order)

    def cancel(self, symbol: str, *, order_id: int | None, client_order_id: str | None) -> Order:
        """Raises -2011 when no such order is open."""
        self.contract(symbol)
        order = self.find_order(symbol, order_id=order_id, client_order_id=client_order_id)
        if order is None or not order.is_open:
            raise refusal(-2011)
        return self._store(order, status="CANCELED")

    def fill_resting(self, symbol: str, order_id: int, qty: Decimal | None = None) -> Order:
        """Fill an open order at its price, wholly or `qty` of it. Raises LookupError when it is not open."""
        order = self.orders.get((symbol, order_id))
        if order is None or not order.is_open:
            raise LookupError(f"{symbol} order {order_id} is not open")
        fills = min(qty or order.remaining_qty, order.remaining_qty)
        return self._fill(order, qty=fills, price=order.price, maker=True)

    # -- what others do to the account --------------------------------------------------------------------------
    def seed_position(self, position: Position) -> None:
        """A position from before everything this exchange remembers: no order and no trade explains it."""
        self.positions.put((position.symbol, position.side), position, at_ms=position.updated_ms)

    def move_position(
        self,
        key: PositionKey,
        *,
        amt: Decimal,
        client_order_id: str,
        price: Decimal | None = None,
        forced: bool = False,
    ) -> Order | None:
        """Trade the difference to `amt` by an order that no client of ours sent; None when there is none."""
        delta = amt - self.position(key).amt
        if delta == 0:
            return None
        at = price or self.mark(key[0])
        ticket = OrderTicket(
            symbol=key[0], side="BUY" if delta > 0 else "SELL", type="LIMIT" if forced else "MARKET", qty=abs(delta),
            price=at if forced else ZERO, time_in_force="IOC" if forced else "GTC", position_side=key[1],
            client_order_id=client_order_id, forced=forced,
        )  # fmt: skip
        order = self._accept(ticket)
        return self._fill(order, qty=order.qty, price=at)

    def switch_mode(self, *, hedge: bool) -> None:
        """What the account's owner may do: refused (-4059, -4067, -4068) unless there is nothing open."""
        if hedge == self.hedge:
            raise refusal(-4059)
        if self._open:
            raise refusal(-4067)
        if any(p.amt for p in self.positions.values()):
            raise refusal(-4068)
        self.force_mode(hedge=hedge)

    def force_mode(self, *, hedge: bool) -> None:
        """Change the mode whatever is open. Positions become legs, or legs their sum; resting orders expire."""
        if hedge == self.hedge:
            return
        now_ms = self.now_ms()
        for order in self.open_orders():
            self._store(order, status="EXPIRED")
        old = list(self.positions.values())
        self.hedge = hedge
        self.positions.drop(lambda key: True)
        for position in old:
            if position.amt:
                self._carry_over(position, now_ms=now_ms)

    # -- steps --------------------------------------------------------------------------------------------------
    def _carry_over(self, position: Position, *, now_ms: int) -> None:
        side = "BOTH" if not self.hedge else "LONG" if position.amt > 0 else "SHORT"
        there = self.position((position.symbol, side))
        merged, _ = after_fill(there, delta=position.amt, price=position.entry_price, at_ms=now_ms)
        self.positions.put((position.symbol, side), merged, at_ms=now_ms)

    def _check_account(self, ticket: OrderTicket, contract: Contract, *, mark: Decimal, closes: bool) -> None:
        if any(order.client_order_id == ticket.client_order_id for order in self.open_orders()):
            raise refusal(-4116)
        if ticket.type == "LIMIT" and len(self.open_orders(ticket.symbol)) >= (contract.max_orders or 200):
            raise refusal(-2025)
        if not closes and ticket.qty * (ticket.price or mark) / LEVERAGE > self.free_margin():
            raise refusal(-2019)

    def _closable_qty(self, ticket: OrderTicket) -> Decimal:
        """A reduce-only order is cut to what is left to close; a hedge close beyond its leg is refused. -2022."""
        position = self.position((ticket.symbol, ticket.position_side))
        room = room_to_close(ticket.side, position, self._resting_closes((ticket.symbol, ticket.position_side)))
        if room == 0 or (self.hedge and ticket.qty > room):
            raise refusal(-2022)
        return min(ticket.qty, room)

    def _check_time_in_force(self, ticket: OrderTicket, *, qty: Decimal, crosses: bool) -> None:
        if ticket.time_in_force == "GTX" and crosses:
            raise refusal(-5022)
        if ticket.time_in_force == "FOK" and (not crosses or self.liquidity.get(ticket.symbol, qty) < qty):
            raise refusal(-5021)

    def _accept(self, ticket: OrderTicket) -> Order:
        now_ms = self.now_ms()
        count = self._order_counts.get(ticket.symbol, 0)
        self._order_counts[ticket.symbol] = count + 1
        self._sequence += 1
        order = Order(
            order_id=self._first_order_id + count,
            client_order_id=ticket.client_order_id or _made_up_client_id(self._sequence),
            symbol=ticket.symbol, side=ticket.side, type=ticket.type, qty=ticket.qty, price=ticket.price,
            time_in_force=ticket.time_in_force, reduce_only=ticket.reduce_only, position_side=ticket.position_side,
            placed_ms=now_ms, updated_ms=now_ms, sequence=self._sequence, forced=ticket.forced,
        )  # fmt: skip
        self._by_client_id.setdefault((order.symbol, order.client_order_id), []).append((order.symbol, order.order_id))
        return self._store(order)

    def _store(self, order: Order, **changes: object) -> Order:
        now_ms = self.now_ms()
        if changes:
            order = msgspec.structs.replace(order, updated_ms=now_ms, **changes)
        key = (order.symbol, order.order_id)
        self.orders.put(key, order, at_ms=now_ms)
        if order.is_open:
            self._open[key] = None
        else:
            self._open.pop(key, None)
        return order

    def _match(self, order: Order, *, price: Decimal) -> Order:
        """Take what the book holds at `price`; what a market or IOC order does not get expires."""
        available = min(order.qty, self.liquidity.get(order.symbol, order.qty))
        if available:
            order = self._fill(order, qty=available, price=price)
        if order.is_open and (order.type == "MARKET" or order.time_in_force == "IOC"):
            order = self._store(order, status="EXPIRED")
        return order

    def _leave_resting(self, order: Order) -> Order:
        return self._store(order, status="EXPIRED") if order.time_in_force == "IOC" else order

    def _fill(self, order: Order, *, qty: Decimal, price: Decimal, maker: bool = False) -> Order:
        now_ms = self.now_ms()
        position, realized = after_fill(
            self.position(order.position_key), delta=signed(order.side, qty), price=price, at_ms=now_ms
        )
        self.positions.put(order.position_key, position, at_ms=now_ms)
        trade = self._trade(order, qty=qty, price=price, realized=realized, maker=maker)
        self.wallet += trade.realized_pnl - trade.commission
        executed = order.executed_qty + qty
        order = self._store(
            order,
            executed_qty=executed,
            quote_qty=order.quote_qty + qty * price,
            status="FILLED" if executed == order.qty else "PARTIALLY_FILLED",
        )
        for changed in trimmed(self._resting_closes(order.position_key), position, at_ms=now_ms):
            self._store(changed)
        return self.orders.get((order.symbol, order.order_id)) or order

    def _resting_closes(self, key: PositionKey) -> list[Order]:
        return [o for o in self.open_orders(key[0]) if o.reduce_only and o.position_key == key]

    def _trade(self, order: Order, *, qty: Decimal, price: Decimal, realized: Decimal, maker: bool) -> Trade:
        count = self._trade_counts.get(order.symbol, 0)
        self._trade_counts[order.symbol] = count + 1
        trade = Trade(
            trade_id=FIRST_TRADE_ID + count, order_id=order.order_id, symbol=order.symbol, side=order.side,
            position_side=order.position_side, qty=qty, price=price, realized_pnl=realized.quantize(MONEY_GRID),
            commission=(qty * price * FEE_RATE).quantize(MONEY_GRID), asset=self.contracts[order.symbol].quote,
            maker=maker, at_ms=self.now_ms(),
        )  # fmt: skip
        self.trades.append(trade)
        return trade


def _made_up_client_id(sequence: int) -> str:
    """22 characters, as the exchange gives an order whose sender named none."""
    return hashlib.sha256(sequence.to_bytes(8, "big")).hexdigest()[:22]
