"""What the Apply Layer says of a plan: the fields of its one result (contract, chapters 1 and 4). Pure.

What may not happen here: a fill said to be final that is not, or an order said to have failed that may still fill.
The sidecar books the step's `executed_qty`; a status other than `success` makes it ask the exchange.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..core.model import Plan
from ..core.quantity import text
from ..core.reasons import Refusal
from ..exchange import OrderState
from .intent import OrderIntent, Size

REJECTED: Final = "order_rejected"
NOT_SENT: Final = "order_not_sent"
OURS_REFUSED: Final = "missing_or_denied_p33_permit"
GOVERNORS_REFUSED: Final = "missing_permit_or_redis"
PLAN_EXPIRED: Final = "plan_expired"
UNCONFIGURED: Final = "exchange_unconfigured"
DETAIL_CHARS: Final = 200

_GOVERNORS: Final = frozenset({Refusal.REDIS_UNAVAILABLE, Refusal.MISSING_GOVERNOR_PERMIT, Refusal.GOVERNOR_DENIED})

Fields = dict[str, str]


class Outcome(msgspec.Struct, frozen=True):
    """What became of an order. Without `state` it never was at the exchange, and `error` says why."""

    state: OrderState | None = None
    error: str = ""
    detail: str = ""

    @property
    def executed(self) -> bool:
        """Whether it filled, or still may."""
        return self.state is not None and not self.error

    @property
    def status(self) -> str:
        """`success` for a final fill, also a partial one; the exchange's own word while the order is open."""
        if self.state is None:
            return "failed"
        if not self.state.terminal:
            return self.state.status
        return "success" if self.state.executed_qty else "rejected"


def became(state: OrderState) -> Outcome:
    """The exchange's answer as an outcome: an order that ended without a fill was rejected."""
    if state.terminal and not state.executed_qty:
        return Outcome(state, REJECTED, state.status)
    return Outcome(state)


def not_sent(why: str) -> Outcome:
    """Nothing reached the exchange."""
    return Outcome(None, NOT_SENT, why)


def of_order(intent: OrderIntent, outcome: Outcome, *, now_ms: int) -> Fields:
    """The result of a taken permit."""
    step: dict[str, Any] = {
        "step": intent.action, "status": outcome.status, "side": intent.side, "quantity": intent.quantity,
        "reduce_only": True, "client_order_id": intent.client_id}
    if outcome.state is not None:
        step |= {"order_id": outcome.state.order_id, "executed_qty": text(outcome.state.executed_qty),
                 "order_status": outcome.state.status}
    if outcome.detail:
        step["detail"] = outcome.detail[:DETAIL_CHARS]
    return _fields(intent.plan_id, intent.symbol, step, now_ms, decision="EXECUTE", executed=outcome.executed,
                   error=outcome.error)


def blocked(plan: Plan, refusal: str, *, error: str, now_ms: int) -> Fields:
    """The result of a plan that was refused: nothing was taken, nothing sent."""
    step = {"step": plan.action, "status": "blocked", "refusal": refusal}
    return _fields(plan.plan_id, plan.symbol, step, now_ms, decision="BLOCKED", error=error)


def would_execute(plan: Plan, size: Size, *, now_ms: int) -> Fields:
    """What a dry run says where both permits could have been taken."""
    step = {"step": plan.action, "status": "dry_run", "side": size.side, "quantity": size.written(),
            "reduce_only": True}
    return _fields(plan.plan_id, plan.symbol, step, now_ms, decision="EXECUTE", would=True)


def error_of(refusal: Refusal) -> str:
    """The result's `error` for a refusal: whose permit it was about."""
    return GOVERNORS_REFUSED if refusal in _GOVERNORS else OURS_REFUSED


def _fields(plan_id: str, symbol: str, step: dict[str, Any], now_ms: int, *, decision: str, executed: bool = False,
            would: bool = False, error: str = "") -> Fields:
    return {"plan_id": plan_id, "symbol": symbol, "decision": decision, "executed": str(executed),
            "would_execute": str(would), "steps_results": msgspec.json.encode([step]).decode(), "error": error,
            "timestamp": str(now_ms // 1000)}
