"""The Apply Layer that comes with the house: plan, both permits, one reduce-only order, one result.

What may not happen here: an order without both permits taken by this very process, an order sent twice, a quantity
other than the permit's. An order whose outcome is unknown is looked up, never sent again; the intent to send it is
stored by the step that takes the permits and removed by the step that writes the result. Source: contract, chapter 4.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal

import msgspec

from .core.actions import FRACTIONS
from .core.model import Filters, Plan, Policy
from .core.orders import client_order_id
from .core.permit import Permit
from .core.quantity import floor_to_grid, parse, product, text
from .core.reasons import Refusal
from .errors import ExchangeRejected, ExchangeUnavailable, OutcomeUnknown
from .exchange import Exchange, OrderState
from .gate import Free, Gate, Refused, Taken
from .store import keys
from .store.applying import ApplyStore, Kind
from .store.connect import ServerClock

log = logging.getLogger("p33.apply")

RECV_WINDOW_MS = 5000
LOOK_UP_GRACE_MS = 30_000
LOOK_UP_PAUSE_S = 0.25
SETTLE_LOOKS = 12
GOVERNORS = frozenset({Refusal.REDIS_UNAVAILABLE, Refusal.MISSING_GOVERNOR_PERMIT, Refusal.GOVERNOR_DENIED})


class OrderIntent(msgspec.Struct, frozen=True):
    """An order that may be on its way. `until_ms`: when it is certain that it never will be."""

    plan_id: str
    symbol: str
    side: str
    quantity: str
    client_id: str
    action: str
    entry_id: str
    expires_ms: int
    instance: str

    @property
    def until_ms(self) -> int:
        return self.expires_ms + RECV_WINDOW_MS + LOOK_UP_GRACE_MS


class Applier:
    """Handles one plan at a time, on its own connections. `wait` pauses between look-ups and says whether to stop."""

    def __init__(self, gate: Gate, store: ApplyStore, exchange: Exchange, clock: ServerClock, *, policy: Policy,
                 dry_run: bool, governor_only: bool, wait_ms: int, instance: str,
                 wait: Callable[[float], bool], report: Callable[[str], None] = lambda outcome: None) -> None:
        self.gate, self.store, self.exchange, self.clock = gate, store, exchange, clock
        self.policy, self.dry_run, self.governor_only = policy, dry_run, governor_only
        self.wait_ms, self.instance, self.wait, self.report = wait_ms, instance, wait, report

    # -- a plan -----------------------------------------------------------------------------------------------

    def handle(self, plan: Plan, entry_id: str) -> None:
        """From the plan to its one result, or to nothing where another process has taken it."""
        born_ms = plan.entry_ms if plan.timestamp_ms is None else plan.timestamp_ms
        if self.store.now_ms() - born_ms > self.policy.plan_max_age_ms:
            self._block(plan, entry_id, "p33_denied:plan_expired", "missing_or_denied_p33_permit")
            return
        if self.dry_run:
            self._say_what_would_be(plan, entry_id)
            return
        ask = self.gate.take_governor if self.governor_only else self.gate.take
        size = self._governor_size(plan) if self.governor_only else None
        if self.governor_only and size is None:
            self._block(plan, entry_id, "quantity_unknown", "missing_or_denied_p33_permit")
            return
        made: list[OrderIntent] = []

        def intent(permit: Permit | None, now_ms: int) -> bytes:
            made.append(self._intent(plan, entry_id, permit, size, now_ms))
            return msgspec.json.encode(made[-1])

        answer = ask(plan.plan_id, plan.symbol, entry_ms=plan.entry_ms, wait_ms=self.wait_ms, intent=intent)
        if isinstance(answer, Taken):
            self._send(made[-1])
        else:
            self._refused(plan, entry_id, answer)

    def _intent(self, plan: Plan, entry_id: str, permit: Permit | None, size: tuple[str, Decimal] | None,
                now_ms: int) -> OrderIntent:
        if permit is not None:
            side, qty, expires_ms = permit.close_side, permit.safe_close_qty, permit.expires_ms
        else:
            side, qty, expires_ms = *size, now_ms + self.policy.permit_ttl_ms
        return OrderIntent(plan.plan_id, plan.symbol, side, text(qty), client_order_id(plan.plan_id), plan.action,
                           entry_id, expires_ms, self.instance)

    def _governor_size(self, plan: Plan) -> tuple[str, Decimal] | None:
        """Governor-only mode has no safe quantity: the plan's share of the last snapshot, floored, or nothing."""
        log.warning("apply.governor_only", extra={"fields": {"gate": "P3.3", "plan_id": plan.plan_id}})
        fraction, snapshot = FRACTIONS.get(plan.action), self.store.redis.hgetall(keys.snapshot(plan.symbol))
        raw = self.store.redis.hget(keys.FILTERS, plan.symbol)
        if fraction is None or not raw or not snapshot.get("position_amt"):
            return None
        amt, filters = parse(snapshot["position_amt"]), msgspec.json.decode(raw, type=Filters)
        wanted = min(product(amt.copy_abs(), fraction), filters.max_qty)
        qty = floor_to_grid(wanted, step=filters.step, anchor=filters.min_qty)
        return ("SELL" if amt > 0 else "BUY", qty) if qty >= max(filters.min_qty, filters.step) else None

    def _say_what_would_be(self, plan: Plan, entry_id: str) -> None:
        answer = self.gate.look(plan.plan_id, plan.symbol, entry_ms=plan.entry_ms, wait_ms=self.wait_ms,
                                both=not self.governor_only)
        if not isinstance(answer, Free):
            self._refused(plan, entry_id, answer)
            return
        permit = answer.permit
        step = {"step": plan.action, "status": "dry_run", "side": permit.close_side if permit else "",
                "quantity": permit.quantity_text() if permit else "", "reduce_only": True}
        self._say("EXECUTE", plan.plan_id, plan.symbol, would="dry_run", quantity=step["quantity"])
        self._finish(Kind.OTHER, plan.plan_id, plan.symbol, entry_id, [step], decision="EXECUTE", would=True)

    # -- an order ---------------------------------------------------------------------------------------------

    def _send(self, intent: OrderIntent) -> None:
        """Once. The timestamp is taken before the last look at the permit's end, so that no order can be late."""
        timestamp_ms = self.clock.now_ms()
        if self.store.now_ms() >= intent.expires_ms:
            self._not_sent(intent, "too late")
            return
        try:
            state = self.exchange.close_market(
                intent.symbol, side=intent.side, quantity=parse(intent.quantity), client_order_id=intent.client_id,
                recv_window_ms=RECV_WINDOW_MS, timestamp_ms=timestamp_ms)
        except ExchangeRejected as refusal:
            self._done(intent, None, error="order_rejected", detail=f"{refusal.code}: {refusal.message}"[:200])
        except OutcomeUnknown as unknown:
            log.warning("order.unknown", extra={"fields": {"plan_id": intent.plan_id, "kind": unknown.kind}})
            self.look_up(intent)
        except ExchangeUnavailable as failure:
            self._not_sent(intent, failure.kind)
        else:
            self._done(intent, self._settled(intent, state))

    def _settled(self, intent: OrderIntent, state: OrderState) -> OrderState:
        """An order that is not terminal yet is asked for a moment longer; the sidecar settles what remains open."""
        for _ in range(SETTLE_LOOKS):
            if state.terminal or self.wait(LOOK_UP_PAUSE_S):
                break
            state = self._ask(intent) or state
        return state

    def look_up(self, intent: OrderIntent) -> None:
        """What became of an order that may or may not have been sent: asked until it is certain."""
        while True:
            state = self._ask(intent)
            if state is not None:
                self._done(intent, self._settled(intent, state))
                return
            if self.store.now_ms() >= intent.until_ms:
                self._not_sent(intent, "never seen at the exchange")
                return
            if self.wait(LOOK_UP_PAUSE_S):
                return

    def _ask(self, intent: OrderIntent) -> OrderState | None:
        try:
            return self.exchange.order(intent.symbol, client_order_id=intent.client_id)
        except ExchangeUnavailable as failure:
            log.warning("order.unseen", extra={"fields": {"plan_id": intent.plan_id, "kind": failure.kind}})
            return None

    # -- results ----------------------------------------------------------------------------------------------

    def _done(self, intent: OrderIntent, state: OrderState | None, *, error: str = "", detail: str = "") -> None:
        """The one result of a taken permit."""
        executed = state is not None and state.executed_qty > 0
        if state is not None and state.terminal and not executed:
            error = "order_rejected"
        open_order = state is not None and not state.terminal
        step = {"step": intent.action, "status": _status(state), "side": intent.side, "quantity": intent.quantity,
                "reduce_only": True, "client_order_id": intent.client_id}
        if state is not None:
            step |= {"order_id": state.order_id, "executed_qty": text(state.executed_qty)}
        if detail:
            step["detail"] = detail
        self._say("EXECUTE", intent.plan_id, intent.symbol, status=step["status"], error=error)
        self._finish(Kind.ORDER, intent.plan_id, intent.symbol, intent.entry_id, [step], decision="EXECUTE",
                     executed=executed or open_order, error=error)

    def _not_sent(self, intent: OrderIntent, why: str) -> None:
        self._done(intent, None, error="order_not_sent", detail=why)

    def _refused(self, plan: Plan, entry_id: str, refused: Refused) -> None:
        if refused.refusal == Refusal.ALREADY_CONSUMED:
            self.report("already_consumed")
            self.store.acknowledge(entry_id)
            return
        error = "missing_permit_or_redis" if refused.refusal in GOVERNORS else "missing_or_denied_p33_permit"
        self._block(plan, entry_id, refused.named, error)

    def _block(self, plan: Plan, entry_id: str, refusal: str, error: str) -> None:
        self._say("BLOCKED", plan.plan_id, plan.symbol, refusal=refusal)
        step = {"step": plan.action, "status": "blocked", "refusal": refusal}
        self._finish(Kind.OTHER, plan.plan_id, plan.symbol, entry_id, [step], decision="BLOCKED", error=error)

    def _finish(self, kind: Kind, plan_id: str, symbol: str, entry_id: str, steps: list[dict], *, decision: str,
                executed: bool = False, would: bool = False, error: str = "") -> None:
        self.report("executed" if executed else error or "would_execute")
        self.store.finish(kind, plan_id=plan_id, entry_id=entry_id, fields={
            "plan_id": plan_id, "symbol": symbol, "decision": decision, "executed": str(executed),
            "would_execute": str(would), "steps_results": msgspec.json.encode(steps).decode(), "error": error,
            "timestamp": str(self.store.now_ms() // 1000)})

    def _say(self, word: str, plan_id: str, symbol: str, **fields: str) -> None:
        log.info("plan.applied", extra={"fields": {"gate": "P3.3", "decision": word, "plan_id": plan_id,
                                                   "symbol": symbol} | {k: v for k, v in fields.items() if v}})


def _status(state: OrderState | None) -> str:
    """`success` for a fill in full; else the exchange's own word, which the sidecar maps; `failed` for no order."""
    if state is None:
        return "failed"
    if state.status == "FILLED":
        return "success"
    return "rejected" if state.terminal and not state.executed_qty else state.status
