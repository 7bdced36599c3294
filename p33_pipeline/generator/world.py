"""A small world in time: an exchange, a house that trades on it, and the records that both leave.

Everything is made by the seed and the steps taken; verdicts are the house's own (`core.decide`), written in the house's
own bytes. Time is moved by hand; nothing here knows what will be planted.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from p33_sidecar.core.checks import decide
from p33_sidecar.core.model import Book, Context, Facts, Filters, Policy, Snapshot
from p33_sidecar.core.permit import Stamp, permit_bytes
from p33_sidecar.core.plan import plan_of
from p33_sidecar.core.quantity import side_of, text
from p33_sidecar.core.record import Origin, record_bytes

STEP = Decimal("0.001")
PRICE = Decimal(100)
VENUE = "sim.invalid"
_ENCODE = msgspec.json.Encoder().encode


class Terms(msgspec.Struct, frozen=True):
    """What a symbol trades at, its quantity step, and the lot that deeds are measured in."""

    lot: Decimal = Decimal("0.5")
    price: Decimal = PRICE
    step: Decimal = STEP


class Holding(msgspec.Struct):
    """One symbol: what the exchange holds, what our book says, and what the last good poll saw."""

    symbol: str
    amt: Decimal
    book: Book | None = None
    seen: Snapshot | None = None
    shown: Decimal | None = None
    """What polls show instead of the truth, where the exchange answers late."""


class World:
    """Writes what happens into `streams` (table -> entries) and `trades`."""

    def __init__(self, holdings: dict[str, Decimal], *, start_ms: int, policy: Policy,
                 terms: dict[str, Terms] | None = None) -> None:
        self.policy, self._terms = policy, terms or {}
        self.holdings = {symbol: Holding(symbol, amt) for symbol, amt in holdings.items()}
        self.streams: dict[str, list[tuple[str, dict[str, str]]]] = {}
        self.trades: list[dict[str, Any]] = []
        self.orders = 5_000_000
        self._last_id: dict[str, tuple[int, int]] = {}
        self.start_ms = start_ms
        self.silent: list[tuple[int, int]] = []
        """Times in which every poll fails."""
        self.gaps: list[int] = []
        """Times at which the archive found entries gone."""

    def terms(self, symbol: str) -> Terms:
        return self._terms.get(symbol, Terms())

    # -- records ----------------------------------------------------------------------------------------------

    def add(self, table: str, at_ms: int, fields: dict[str, str]) -> str:
        """One entry; ids never go back."""
        last = self._last_id.get(table, (0, -1))
        new = (at_ms, 0) if at_ms > last[0] else (last[0], last[1] + 1)
        self._last_id[table] = new
        entry_id = f"{new[0]}-{new[1]}"
        self.streams.setdefault(table, []).append((entry_id, fields))
        return entry_id

    def record(self, table: str, at_ms: int, body: dict[str, Any], **fields: str) -> str:
        return self.add(table, at_ms, fields | {"json": _ENCODE({"v": 1} | body).decode()})

    def appear(self, symbol: str, amt: Decimal) -> None:
        """A symbol that nobody had in view before."""
        self.holdings[symbol] = Holding(symbol, amt)

    # -- the exchange -----------------------------------------------------------------------------------------

    def poll(self, at_ms: int) -> None:
        """A poll of everything; a good reply takes 80 ms."""
        rows = []
        if any(begin < at_ms < end for begin, end in self.silent):
            self.record("snapshots", at_ms + 4000, {"requested_ms": at_ms, "received_ms": at_ms + 4000,
                                                    "outcome": "timeout", "positions": []}, poll_id=f"{at_ms}-x")
            return
        for holding in self.holdings.values():
            amt = holding.amt if holding.shown is None else holding.shown
            price = text(self.terms(holding.symbol).price)
            holding.seen = Snapshot(symbol=holding.symbol, amt=amt, ts_ms=at_ms, side=side_of(amt),
                                    mark_price=price, source="sim")
            if amt:
                rows.append({"symbol": holding.symbol, "position_amt": text(amt), "side": side_of(amt),
                             "entry_price": price, "mark_price": price, "update_time_ms": at_ms - 1000})
        self.record("snapshots", at_ms + 80, {
            "requested_ms": at_ms, "received_ms": at_ms + 80, "outcome": "ok", "positions": rows}, poll_id=f"{at_ms}-x")

    def trade(self, at_ms: int, symbol: str, delta: Decimal, client_id: str, *, order_id: str = "") -> str:
        """The exchange executes an order, whoever sent it, or more of one; the order's id."""
        self.orders += not order_id
        order_id = order_id or str(self.orders)
        holding = self.holdings[symbol]
        holding.amt += delta
        self.trades.append({"symbol": symbol, "id": len(self.trades) + 1, "order_id": order_id,
                            "client_id": client_id, "side": "BUY" if delta > 0 else "SELL", "qty": abs(delta),
                            "price": self.terms(symbol).price, "time_ms": at_ms})
        return order_id

    def last_delta(self, symbol: str) -> Decimal:
        """What the symbol's newest trade did to its position."""
        newest = next(trade for trade in reversed(self.trades) if trade["symbol"] == symbol)
        return newest["qty"] if newest["side"] == "BUY" else -newest["qty"]

    # -- the house --------------------------------------------------------------------------------------------

    def open_book(self, at_ms: int, symbol: str) -> None:
        amt = self.holdings[symbol].amt
        self.holdings[symbol].book = Book(symbol=symbol, amt=amt, rev=1, opened_ms=at_ms)
        self._journal(at_ms, symbol, "opening", amt, None)

    def adjust(self, at_ms: int, symbol: str, amt: Decimal) -> None:
        """A person sets the book."""
        self._set(at_ms, symbol, "adjustment", amt)

    def book(self, at_ms: int, symbol: str, delta: Decimal, *, plan_id: str, order_id: str, result_id: str) -> None:
        """The bookkeeper books a fill."""
        before = self.holdings[symbol].book
        self._set(at_ms, symbol, "fill", before.amt + delta, plan_id=plan_id, order_id=order_id, result_id=result_id)
        self.holdings[symbol].book = msgspec.structs.replace(
            self.holdings[symbol].book, last_order_ms=at_ms, last_order_id=order_id)

    def plan(self, at_ms: int, plan_id: str, symbol: str, *, action: str = "PARTIAL_25", ahead_ms: int = 0) -> str:
        """A plan is published; its entry's id."""
        return self.add("plans", at_ms, {
            "plan_id": plan_id, "symbol": symbol, "action": action, "decision": "EXECUTE", "close_qty": "0.0",
            "timestamp": text(Decimal(at_ms + ahead_ms).scaleb(-3))})

    def verdict(self, at_ms: int, entry_id: str, plan: dict[str, str]) -> dict[str, Any]:
        """The gate decides on what it knows; the permit as the Apply Layer would read it."""
        holding, entry_ms = self.holdings[plan["symbol"]], int(entry_id.split("-")[0])
        book, step = holding.book, self.terms(holding.symbol).step
        facts = Facts(
            now_ms=at_ms, plan=plan_of(plan, entry_ms=entry_ms), snapshot=holding.seen, book=book,
            filters=Filters(holding.symbol, "TRADING", step, step, Decimal(10_000_000)),
            context=Context(snapshot_age_ms=at_ms - holding.seen.ts_ms if holding.seen else None,
                            last_order_age_ms=at_ms - book.last_order_ms if book and book.last_order_ms else None))
        decision = decide(facts, self.policy)
        stamp = Stamp(VENUE, at_ms, at_ms + self.policy.permit_ttl_ms, f"n{entry_id}")
        origin = Origin(entry_id, entry_ms, at_ms, "g", "0")
        raw = record_bytes(decision, facts, self.policy, stamp=stamp, origin=origin)
        outcome = "ALLOW" if decision.allow else "DENY"
        self.add("decisions", at_ms, {"plan_id": plan["plan_id"], "symbol": holding.symbol, "outcome": outcome,
                                      "json": raw.decode()})
        permit = permit_bytes(decision, facts, self.policy, stamp=stamp, key=None).decode()
        return {"allow": decision.allow, "reason": decision.reason, "qty": decision.safe_close_qty, "bytes": permit,
                "side": decision.close_side, "nonce": stamp.nonce, "expires_ms": stamp.expires_ms}

    def take(self, at_ms: int, plan_id: str, symbol: str, *, nonce: str, permit: str) -> None:
        self.record("taken", at_ms, {"plan_id": plan_id, "symbol": symbol, "nonce": nonce, "token": "t", "by": "g",
                                     "at_ms": at_ms, "gate": "both", "permit": permit}, plan_id=plan_id, symbol=symbol)

    def result(self, at_ms: int, plan_id: str, symbol: str, delta: Decimal, order_id: str, *,
               reduce_only: bool = True) -> str:
        """The Apply Layer says what it executed; the entry's id."""
        step = {"step": "close", "status": "success", "order_id": order_id, "side": "BUY" if delta > 0 else "SELL",
                "executed_qty": text(abs(delta)), "reduce_only": reduce_only}
        return self.add("results", at_ms, {
            "plan_id": plan_id, "symbol": symbol, "decision": "EXECUTE", "executed": "True", "would_execute": "False",
            "steps_results": _ENCODE([step]).decode(), "error": "", "timestamp": str(at_ms // 1000)})

    def _set(self, at_ms: int, symbol: str, cause: str, amt: Decimal, **ids: str) -> None:
        before = self.holdings[symbol].book
        self.holdings[symbol].book = msgspec.structs.replace(before, amt=amt, rev=before.rev + 1, source=cause)
        self._journal(at_ms, symbol, cause, amt, before.amt, **ids)

    def _journal(self, at_ms: int, symbol: str, cause: str, amt: Decimal, before: Decimal | None, **ids: str) -> None:
        self.record("ledger", at_ms, {
            "symbol": symbol, "rev": self.holdings[symbol].book.rev, "cause": cause, "at_ms": at_ms,
            "delta": text(amt - (before or 0)), "amt_before": None if before is None else text(before),
            "amt_after": text(amt), "by": "g", "why": "", "order_id": "", "plan_id": "", "result_id": "",
            "anomaly": None} | ids, symbol=symbol)
