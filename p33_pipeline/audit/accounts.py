"""Two of the three accounts as steps in time: the ledger as journalled, and Redis' own, the results added up anew.

The arithmetic of results is the house's (`core.ledger`), from the journal's opening balance on. A person's adjustment
begins both accounts anew. What the journal booked of a result that the archive lacks, or of an order that was looked up
at the exchange, is taken from the journal: a hole in the archive is its own finding, not a break a day.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from p33_pipeline.audit.scope import Scope, rows
from p33_sidecar.core.ledger import OrderMark, OrderReport, book_order, contain_order, opened_as_of
from p33_sidecar.core.orders import may_be_same
from p33_sidecar.core.plan import MessageRefused
from p33_sidecar.core.quantity import ZERO, total
from p33_sidecar.core.results import Result, result_of

ANEW = ("opening", "adjustment")
"""Causes that set both accounts, whatever was added up before."""
CONTAINED = ("contained", "late")
"""Causes that note a result and book nothing of it: the opening holds it, or it came behind the horizon."""
_FIELDS = msgspec.json.Decoder(dict[str, str])


class Step(msgspec.Struct, frozen=True):
    """From `at_ms` on the account holds `amt`, by `delta` more than before; cause and ids say what made it so."""

    symbol: str
    at_ms: int
    amt: Decimal
    delta: Decimal
    cause: str
    result_id: str = ""
    order_id: str = ""
    plan_id: str = ""


class Accounts(msgspec.Struct, frozen=True):
    """Steps by symbol, in time; a symbol that was never opened is absent."""

    ledger: dict[str, list[Step]]
    redis: dict[str, list[Step]]


def bounded(amt: Decimal, most: Decimal) -> Decimal:
    """For a column: no message's amount is so large that what is computed with it leaves the type."""
    return max(min(amt, most), -most)


def accounts_of(scope: Scope) -> Accounts:
    """Both accounts of every symbol from the archive's beginning; an opening holds from the first of the replies
    that it was made from, at least from a cooldown before its entry."""
    journal = rows(scope, "SELECT symbol, cause, order_id, plan_id, result_id, delta, amt_after AS amt, why, "
                          "epoch_ms(booked_at) AS at_ms FROM ledger WHERE problem IS NULL ORDER BY \"at\", seq")
    results = rows(scope, "SELECT id, symbol, epoch_ms(\"at\") AS at_ms, raw FROM results "
                          "WHERE problem IS NULL AND len(orders) > 0 ORDER BY \"at\", seq")
    ledger: dict[str, list[Step]] = {}
    contained = {line["result_id"] for line in journal if line["cause"] in CONTAINED}
    for line in journal:
        if line["cause"] not in CONTAINED and line["amt"] is not None:
            if line["cause"] == "opening":
                as_of_ms = opened_as_of(line["why"] or "")
                line["at_ms"] = min(line["at_ms"] - scope.policy.cooldown_ms, as_of_ms or line["at_ms"])
            ledger.setdefault(line["symbol"], []).append(msgspec.convert(line, Step))
    by_symbol: dict[str, list[dict]] = {}
    for row in results:
        by_symbol.setdefault(row["symbol"], []).append(row)
    redis = {symbol: _redis_steps(symbol, by_symbol.get(symbol, []), steps, contained)
             for symbol, steps in ledger.items()}
    return Accounts(ledger, redis)


def _redis_steps(symbol: str, results: list[dict], ledger: list[Step], contained: set[str]) -> list[Step]:
    """Openings, adjustments and results of one symbol, in the order of their times."""
    archived = {row["id"] for row in results}
    events: list[tuple[int, int, Any]] = [(row["at_ms"], 1, row) for row in results]
    for step in ledger:
        if step.cause in ANEW:
            events.append((step.at_ms, 0, step))
        elif step.result_id not in archived:
            events.append((step.at_ms, 2, step))
    account = _Account(symbol, contained)
    for _, _, event in sorted(events, key=lambda e: (e[0], e[1])):
        account.take(event)
    return account.steps


class _Account:
    """One symbol's results, added up."""

    def __init__(self, symbol: str, contained: set[str]) -> None:
        self.symbol, self.contained = symbol, contained
        self.amt: Decimal | None = None
        self.marks: dict[str, OrderMark] = {}
        self.steps: list[Step] = []

    def take(self, event: Any) -> None:
        if not isinstance(event, Step):
            self._result(event)
        elif event.cause in ANEW:
            self.amt = event.amt
            self.steps.append(event)
        elif self.amt is not None:
            self._looked_up(event)

    def _looked_up(self, step: Step) -> None:
        """Booked without a result of ours: as much of the order is known from now on."""
        name = f"id {step.order_id}" if step.order_id else f"booking {step.at_ms}"
        before = self.marks.get(name) or OrderMark(booked_qty=ZERO, settled=True, order_id=step.order_id)
        self.marks[name] = msgspec.structs.replace(
            before, booked_qty=total(before.booked_qty, step.delta.copy_abs()), settled=True,
            side=before.side or ("BUY" if step.delta > 0 else "SELL"))
        self._set(msgspec.structs.replace(step, amt=total(self.amt, step.delta)))

    def _result(self, row: dict) -> None:
        try:
            result = result_of(_FIELDS.decode(row["raw"]))
        except (MessageRefused, msgspec.MsgspecError):
            return
        for report in result.reports:
            known = list({id(mark): mark for name in report.names if (mark := self.marks.get(name)) is not None
                          and may_be_same(mark.identity(), report.identity())}.values())
            mark = self._booked(row, result, report, known)
            names = [name for name, held in self.marks.items() if any(held is one for one in known)] if known else []
            free = [name for name in report.names if name not in self.marks]
            self.marks |= dict.fromkeys((*names, *free), mark)

    def _booked(self, row: dict, result: Result, report: OrderReport, known: list[OrderMark]) -> OrderMark:
        """`known`: the marks of what this report shows to be one order, the surest first."""
        seen = {"before": known[0] if known else None, "doubles": tuple(known[1:]), "plan_id": result.plan_id,
                "seen_ms": row["at_ms"]}
        if self.amt is None or row["id"] in self.contained:
            return contain_order(report, **seen)
        booking = book_order(self.amt, report, **seen)
        if booking.delta:
            self._set(Step(self.symbol, row["at_ms"], booking.amt_after, booking.delta, "fill", row["id"],
                           report.order_id, result.plan_id))
        return booking.mark

    def _set(self, step: Step) -> None:
        self.amt = step.amt
        self.steps.append(step)
