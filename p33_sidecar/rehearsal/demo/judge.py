"""The judge: what the gate did, as Redis' records and the exchange's own book have it, against what was right.

What may not happen here: a rule of the gate. What is right is fixed in the scene, in numbers; nothing is asked of the
sidecar or the Apply Layer, and no code that decides is called.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Final

import msgspec

from p33_sidecar.rehearsal.plan_source import Plan
from p33_sidecar.rehearsal.stack import Stack
from p33_sidecar.rehearsal.stage_door import Order
from p33_sidecar.store import keys

ALLOW: Final = "ALLOW"
PROMPT_MS: Final = 250
"""A verdict on a fresh snapshot (contract, chapter 3)."""
REFRESH_MS: Final = 800 + 250
"""A verdict that waits for a fresh snapshot: P33_REFRESH_BUDGET_MS more."""
PATIENCE_S: Final = 8.0
AFTERMATH_S: Final = 0.2
"""How long an order that must not be is waited for, after the Apply Layer's last word."""


class Line(msgspec.Struct, frozen=True):
    """One thing that was looked at: what was found, and whether it was right. `hint` is for whoever mends it."""

    what: str
    right: bool
    orders: int | None = None
    hint: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """The part of a decision's record that is judged, and when it was written (the stream's time)."""

    stream_id: str
    plan_id: str
    symbol: str
    outcome: str
    reason: str | None
    checks: list[dict]
    safe_close_qty: str | None = None
    decided_ms: int = 0

    @property
    def said(self) -> str:
        return self.outcome if self.outcome == ALLOW else f"{self.outcome} {self.reason}"


class Result(msgspec.Struct, frozen=True):
    """The Apply Layer's last word on a plan's publication."""

    entry_id: str
    executed: bool
    error: str
    text: str


class Judge:
    """Collects lines for one scene; what does not come is wrong. `timed`: a verdict that comes late is wrong, too."""

    def __init__(self, stack: Stack, tell: Callable[[Line], None] = lambda line: None, *, timed: bool = True) -> None:
        self.stack, self._tell, self._timed = stack, tell, timed
        self.lines: list[Line] = []

    # -- judging --------------------------------------------------------------------------------------------------

    def verdict(self, plan: Plan, *wanted: str, order: str = "", within_ms: int = 0,
                refused: str = "") -> Verdict | None:
        """One verdict on this publication, one of `wanted` (ALLOW, or reasons of a denial); then the order.

        `order`: the quantity of the one order the plan must lead to; empty: none may be sent. `within_ms`: from
        publication to verdict. `refused`: what the Apply Layer's result must name.
        """
        self._wait(lambda: self.verdicts(plan))
        found = self.verdicts(plan)
        if len(found) != 1:
            self._add(f"{plan.symbol}: {len(found)} verdicts, not one", False, hint=f"plan {plan.plan_id}")
            return None
        took_ms = found[0].decided_ms - plan.entry_ms
        result = self._result(plan)
        orders = self._orders(plan, expected=bool(order))
        problems = [
            *self._verdict_problems(found[0], wanted, took_ms, within_ms), *_order_problems(orders, order),
            *_result_problems(result, executed=bool(order), refused=refused)]
        ordered = ", ".join(f"{o.side} {o.executed_qty}" for o in orders) or ("not sent" if refused else "")
        told = refused if refused and not problems else ""
        said = " → ".join(part for part in (f"{plan.symbol} {found[0].said}", told, ordered) if part)
        timed = f"{said}  {took_ms} ms" if within_ms else said
        self._add("; ".join((timed, *problems)), not problems, orders=len(orders), hint=_hint(found[0], problems))
        return found[0]

    def same_books(self, *symbols: str) -> None:
        """Our ledger equals the exchange's own book; every fill is booked once."""
        apart = {}
        for symbol in symbols:
            self._wait(lambda symbol=symbol: not self._apart(symbol))
            if difference := self._apart(symbol):
                apart[symbol] = difference
        told = "; ".join(f"{s}: {d}" for s, d in apart.items()) or f"ledger = exchange ({', '.join(symbols)})"
        self._add(told, not apart)

    def holds(self, what: str, right: bool, *, otherwise: str = "") -> None:
        """Anything else that was looked at."""
        self._add(what if right else otherwise or f"not so: {what}", right)

    # -- looking --------------------------------------------------------------------------------------------------

    def verdicts(self, plan: Plan) -> list[Verdict]:
        """Every recorded verdict on this publication."""
        return [v for v in self.all_verdicts() if v.stream_id == plan.entry_id]

    def all_verdicts(self) -> list[Verdict]:
        """Every recorded verdict."""
        return [
            msgspec.structs.replace(msgspec.json.decode(fields["json"], type=Verdict), decided_ms=_ms(entry_id))
            for entry_id, fields in self.stack.redis.xrange(keys.DECISIONS)]

    def results(self, plan: Plan) -> list[Result]:
        """What the Apply Layer said of this plan since this publication."""
        entries = self.stack.redis.xrange(self.stack.result_stream, plan.entry_id)
        return [
            Result(entry_id, fields.get("executed", "").lower() == "true", fields.get("error", ""), str(fields))
            for entry_id, fields in entries if fields.get("plan_id") == plan.plan_id]

    def orders(self, plan: Plan) -> list[Order]:
        """Orders in the exchange's own book that carry the plan's id."""
        return [o for o in self.stack.door.state().orders if o.client_order_id == f"p33-{plan.plan_id}"]

    def booked_fills(self, symbol: str) -> int:
        """How often a fill of the symbol was journalled."""
        entries = self.stack.redis.xrange(keys.JOURNAL)
        return sum(f["symbol"] == symbol and msgspec.json.decode(f["json"])["cause"] == "fill" for _, f in entries)

    # -- steps ----------------------------------------------------------------------------------------------------

    def _add(self, what: str, right: bool, *, orders: int | None = None, hint: str = "") -> None:
        line = Line(what, right, orders, hint if not right else "")
        self.lines.append(line)
        self._tell(line)

    def _verdict_problems(self, verdict: Verdict, wanted: tuple[str, ...], took_ms: int, within_ms: int) -> list[str]:
        problems = []
        if (verdict.reason or ALLOW) not in wanted:
            problems.append(f"right was {' or '.join(wanted)}")
        if within_ms and self._timed and took_ms > within_ms:
            problems.append(f"{took_ms} ms is more than {within_ms} ms")
        return problems

    def _result(self, plan: Plan) -> Result | None:
        self._wait(lambda: self.results(plan))
        return next(reversed(self.results(plan)), None)

    def _orders(self, plan: Plan, *, expected: bool) -> list[Order]:
        if not expected:
            time.sleep(AFTERMATH_S)  # an absence has no event to wait for
        return self.orders(plan)

    def _apart(self, symbol: str) -> str:
        held = self.stack.door.state().amt(symbol)
        booked = self.stack.redis.hget(keys.ledger(symbol), "last_known_amt")
        if booked is None or Decimal(booked) != held:
            return f"ledger {booked}, exchange {held}"
        fills = [o for o in self.stack.door.state().orders if o.symbol == symbol and o.executed_qty]
        booked_fills = self.booked_fills(symbol)
        return "" if booked_fills == len(fills) else f"{booked_fills} fills booked of {len(fills)}"

    def _wait(self, holds: Callable[[], object]) -> None:
        try:
            self.stack.until("", holds, patience_s=PATIENCE_S)
        except TimeoutError:
            return


def _order_problems(orders: list[Order], wanted: str) -> list[str]:
    if not wanted:
        return [f"{len(orders)} orders, none was right"] if orders else []
    if len(orders) != 1:
        return [f"{len(orders)} orders, one was right"]
    order = orders[0]
    if order.executed_qty != Decimal(wanted) or not order.reduce_only:
        return [f"executed {order.executed_qty}, reduce-only {order.reduce_only}; right was {wanted}, reduce-only"]
    return []


def _result_problems(result: Result | None, *, executed: bool, refused: str) -> list[str]:
    if result is None:
        return ["no result from the Apply Layer"]
    if result.executed != executed:
        return [f"the result says executed={result.executed} {result.error}"]
    return [f"the result does not name {refused}: {result.error}"] if refused and refused not in result.text else []


def _hint(verdict: Verdict, problems: list[str]) -> str:
    """What an operator would read in `p33 explain`: the checks that failed, with their numbers."""
    if not problems:
        return ""
    failed = [f"{c['name']} value={c.get('value')} threshold={c.get('threshold')}"
              for c in verdict.checks if not c.get("pass")]
    return f"p33 explain {verdict.plan_id}: " + ("; failed: ".join(["", *failed]).lstrip("; ") or "every check passed")


def _ms(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])
