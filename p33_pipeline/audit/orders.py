"""Results against permits, and results against trades: what was executed, by which right, and whether it happened.

Orders that open or increase a position are nobody's business here: the gate stands before closes. A result on a plan
that the gate denied is one all the same. A permit is for one plan and one symbol. The first rule that holds names the
deed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal

import msgspec

from p33_pipeline.audit.causes import OURS
from p33_pipeline.audit.fills import Deed, Fill, Trade, fills_of, traded
from p33_pipeline.audit.findings import FlowFinding
from p33_pipeline.audit.names import plans_by_client_id
from p33_pipeline.audit.scope import Scope, rows
from p33_sidecar.core.orders import client_order_id
from p33_sidecar.core.quantity import ZERO, text, total
from p33_sidecar.core.reasons import Reason

TRADES_LATE_MS = 60_000
SETTLED_MS = 120_000


class Allowed(msgspec.Struct, frozen=True):
    """An ALLOW and whether it was taken."""

    plan_id: str
    symbol: str
    nonce: str
    qty: Decimal
    issued_ms: int
    expires_ms: int
    taken: bool


def order_findings(scope: Scope) -> list[FlowFinding]:
    """Findings on executed results and on trades of our orders."""
    trades = traded(scope)
    fills = list(fills_of(scope, trades))
    allowed, denied = _allowed(scope), _denied(scope)
    found = [finding for fill in fills if fill.new or fill.settled
             if (finding := _judge(scope, fill, allowed.get((fill.plan_id, fill.symbol), []),
                                   denied.get((fill.plan_id, fill.symbol))))]
    once: dict[tuple, FlowFinding] = {}
    for finding in found:
        order_id = None if finding.finding == "over_execution" else finding.order_id  # one permit's, of all its orders
        once.setdefault((finding.finding, finding.symbol, finding.plan_id, order_id), finding)
    return [*once.values(), *_trades_without_result(scope, trades, fills)]


def _judge(scope: Scope, fill: Fill, permits: list[Allowed], denied: str | None) -> FlowFinding | None:
    if _never_traded(scope, fill):
        return _finding("result_without_trade", fill, f"the result says {text(fill.qty)} were executed, the exchange's "
                                                      f"record of the order has {text(fill.traded_qty)}")
    given = [permit for permit in permits if permit.issued_ms <= fill.at_ms]
    permit = next((p for p in reversed(given) if p.taken), given[-1] if given else None)
    if permit is None:
        if not fill.closes and denied in (None, Reason.UNSUPPORTED_ACTION):
            return None
        said = f"executed although denied {denied}" if denied else "executed without a verdict"
        return _finding("bypass", fill, said)
    if not permit.taken:
        return _finding("bypass", fill, "executed on a permit that nobody took")
    if fill.entry > 0:
        return _finding("permit_reuse", fill, f"result {fill.entry + 1} on one permit") if fill.new else None
    if fill.executed > permit.qty:
        return _finding("over_execution", fill, f"{text(fill.executed)} executed, {text(permit.qty)} permitted")
    late_ms = fill.last_trade_ms - permit.expires_ms
    if late_ms > scope.policy.skew_ms:
        return _finding("late_execution", fill, f"executed {late_ms} ms after the permit's end")
    return None


def _never_traded(scope: Scope, fill: Fill) -> bool:
    """Settled by the result, and the exchange's record, where it reaches, has less."""
    reach = scope.reach.get(fill.symbol)
    covered = reach is not None and reach.from_ms <= fill.at_ms < reach.until_ms - TRADES_LATE_MS
    return covered and fill.settled and fill.traded_qty < fill.qty


def _finding(name: str, fill: Fill, detail: str) -> FlowFinding:
    return FlowFinding(name, fill.symbol, fill.plan_id or None, fill.order_id or None, fill.at_ms, detail)


# -- what there is --------------------------------------------------------------------------------------------------


def _allowed(scope: Scope) -> dict[Deed, list[Allowed]]:
    found = rows(scope, """
        SELECT d.plan_id, d.symbol, d.nonce, coalesce(max(t.safe_close_qty), any_value(d.safe_close_qty)) AS qty,
          epoch_ms(d.issued_at) AS issued_ms, epoch_ms(d.expires_at) AS expires_ms,
          bool_or(coalesce(t.nonce IS NOT NULL AND t.gate = 'both', false)) AS taken
        FROM decisions d LEFT JOIN taken t ON t.nonce = d.nonce AND t.plan_id = d.plan_id
        WHERE d.outcome = 'ALLOW' AND d.problem IS NULL
          AND d.plan_id IN (SELECT plan_id FROM results WHERE len(orders) > 0)
        GROUP BY ALL ORDER BY issued_ms""")
    by_deed: dict[Deed, list[Allowed]] = defaultdict(list)
    for row in found:
        by_deed[row["plan_id"], row["symbol"]].append(Allowed(**row))
    return by_deed


def _denied(scope: Scope) -> dict[Deed, str]:
    """The last reason each executed plan was denied for."""
    found = rows(scope, "SELECT plan_id, symbol, arg_max(reason, decided_at) AS reason FROM decisions "
                        "WHERE outcome = 'DENY' AND plan_id IN (SELECT plan_id FROM results WHERE len(orders) > 0) "
                        "GROUP BY plan_id, symbol")
    return {(row["plan_id"], row["symbol"]): row["reason"] for row in found}


def _trades_without_result(scope: Scope, trades: dict[tuple[str, str], Trade], fills: list[Fill]) -> Iterator[
        FlowFinding]:
    """Trades of an order that carries our name and that no result tells of."""
    told = {(fill.symbol, fill.order_id) for fill in fills}
    told_plans = {(fill.symbol, client_order_id(fill.plan_id)) for fill in fills if not fill.order_id}
    plans = plans_by_client_id(scope)
    for (symbol, order_id), trade in trades.items():
        client_id = trade.client_order_id or ""
        if not client_id.startswith(OURS) or (symbol, order_id) in told or (symbol, client_id) in told_plans:
            continue
        if trade.last_ms < scope.until_ms - SETTLED_MS:
            yield FlowFinding("trade_without_result", symbol, plans.get(client_id), order_id, trade.first_ms,
                              f"{text(total(trade.qty, ZERO))} traded under {client_id}, told by no result")
