"""One plan, from its entry to its one result, or to nothing where somebody else has it.

What may not happen here: a result beside the one that the plan has, an order without the taking that allows it, a
denial or silence read as leave. Whatever is raised leaves the entry pending: it is read again, and an order that was
taken meanwhile is the finder's.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from .. import logs
from ..core.model import Plan
from ..core.orders import client_order_id
from ..core.permit import Permit
from ..core.quantity import ZERO, text
from ..core.reasons import Refusal
from ..errors import SymbolUnlisted
from ..gate import Free, Gate, Refused, Taken, new_token
from ..store.applying import ApplyStore, Kind, Standing
from . import results
from .intent import OrderIntent, Size, size_of
from .orders import Orders
from .sizes import GovernorSizes

log = logging.getLogger("p33.apply")

NOTHING = Size("", ZERO)


class Entry(msgspec.Struct, frozen=True):
    """A plan and the stream entry that carries it. `again`: it was handed out before, to whomever."""

    entry_id: str
    plan: Plan
    again: bool = False


class Rules(msgspec.Struct, frozen=True):
    """How this Apply Layer was told to work."""

    instance: str
    venue: str
    dry_run: bool
    governor_only: bool
    wait_ms: int
    plan_max_age_ms: int
    permit_ttl_ms: int


class Hooks(Protocol):
    """What is counted; implemented by `metrics.ApplyMetrics`."""

    def plan(self, outcome: str) -> None: ...
    def refused(self, refusal: str) -> None: ...
    def waited(self, ms: int) -> None: ...
    def order(self, outcome: str) -> None: ...


class Sent:
    """The orders this process may have sent lately, kept in memory: a server that lost its last writes (timeline T06)
    has forgotten them."""

    def __init__(self, *, most: int = 1_000) -> None:
        self._orders: deque[OrderIntent] = deque(maxlen=most)

    def add(self, intent: OrderIntent) -> None:
        self._orders.append(intent)

    def since(self, ms: int) -> list[OrderIntent]:
        """Those taken at or after a moment of the server's."""
        return [intent for intent in tuple(self._orders) if intent.noted_ms >= ms]


class Applier:
    """Handles one entry at a time on its own connections. For one thread."""

    def __init__(self, gate: Gate, store: ApplyStore, orders: Orders, sizes: GovernorSizes, rules: Rules, hooks: Hooks,
                 *, sent: Sent, stopping: Callable[[], bool] = lambda: False) -> None:
        self.gate, self.store, self.orders, self.sizes = gate, store, orders, sizes
        self.rules, self.hooks, self.sent, self.stopping = rules, hooks, sent, stopping

    def handle(self, entry: Entry) -> None:
        """See it through. Raises StoreUnavailable and ExchangeUnavailable where it has to be tried again."""
        plan = entry.plan
        standing = self.store.standing(entry.entry_id, plan.plan_id)
        if standing.answered:
            self._pass_over(entry, "answered_before")
        elif self._found_at_the_exchange(entry, standing):
            return
        elif self._age_ms(plan, standing) > self.rules.plan_max_age_ms:
            self._block(entry, results.PLAN_EXPIRED, results.OURS_REFUSED)
        elif self.rules.dry_run:
            self._say_what_would_be(entry)
        elif not self.orders.possible:
            self._block(entry, results.UNCONFIGURED, results.NOT_SENT)
        elif self.rules.governor_only and standing.venue not in ("", self.rules.venue):
            self._block(entry, Refusal.VENUE_MISMATCH, results.OURS_REFUSED)
        else:
            self._apply(entry)

    def _age_ms(self, plan: Plan, standing: Standing) -> int:
        return standing.now_ms - (plan.entry_ms if plan.timestamp_ms is None else plan.timestamp_ms)

    # -- what was before --------------------------------------------------------------------------------------

    def _found_at_the_exchange(self, entry: Entry, standing: Standing) -> bool:
        """Whether an earlier life's order for this plan stands at the exchange, of which the store has lost the taking.

        Asked only where that can be: the entry was handed out before, or the server is not the one known to hold what
        was written. Raises ExchangeUnavailable: not knowing is no leave to go on.
        """
        suspect = entry.again or not standing.steady
        if not suspect or standing.taken or self.rules.dry_run or not self.orders.possible:
            return False
        intent = self._intent(entry, NOTHING, mark="found", expires_ms=0, now_ms=standing.now_ms)
        try:
            state = self.orders.look(intent)
        except SymbolUnlisted:
            return False  # no order can be there, and none is sent: nobody allows one. The canary's plans are such.
        if state is None:
            return False
        intent = msgspec.structs.replace(intent, side=state.side, quantity=text(state.executed_qty))
        conclude(self.store, self.hooks, intent, results.became(state), kind=Kind.FOUND)
        return True

    # -- a dry run --------------------------------------------------------------------------------------------

    def _say_what_would_be(self, entry: Entry) -> None:
        plan, both = entry.plan, not self.rules.governor_only
        answer = self.gate.look(plan.plan_id, plan.symbol, entry_ms=plan.entry_ms, wait_ms=self.rules.wait_ms,
                                both=both)
        if not isinstance(answer, Free):
            self._refused(entry, answer)
            return
        size = size_of(answer.permit) if answer.permit else self._governor_size(plan)
        if isinstance(size, str):
            self._block(entry, Refusal.INVALID_QUANTITY, results.OURS_REFUSED, detail=size)
            return
        self._say("EXECUTE", plan, would="dry_run", side=size.side, quantity=size.written())
        self.hooks.plan("would_execute")
        self.store.finish(Kind.OTHER, plan_id=plan.plan_id, entry_id=entry.entry_id,
                          fields=results.would_execute(plan, size, now_ms=self.store.now_ms()))

    # -- an order ---------------------------------------------------------------------------------------------

    def _apply(self, entry: Entry) -> None:
        plan, size = entry.plan, None
        if self.rules.governor_only:
            size = self._governor_size(plan)
            if isinstance(size, str):
                self._block(entry, Refusal.INVALID_QUANTITY, results.OURS_REFUSED, detail=size)
                return
        made: list[OrderIntent] = []
        token = new_token()

        def note(permit: Permit | None, now_ms: int) -> bytes:
            mark = f"{permit.nonce if permit else 'governor'} {token}"
            ends_ms = permit.expires_ms if permit else now_ms + self.rules.permit_ttl_ms
            made.append(self._intent(entry, size or size_of(permit), mark=mark, expires_ms=ends_ms, now_ms=now_ms))
            return made[-1].encoded()

        ask = self.gate.take_governor if self.rules.governor_only else self.gate.take
        answer = ask(plan.plan_id, plan.symbol, entry_ms=plan.entry_ms, wait_ms=self.rules.wait_ms, token=token,
                     intent=note)
        if isinstance(answer, Taken):
            self.hooks.waited(answer.waited_ms)
            self._send(entry, made[-1])
        else:
            self._refused(entry, answer)

    def _intent(self, entry: Entry, size: Size, *, mark: str, expires_ms: int, now_ms: int) -> OrderIntent:
        plan = entry.plan
        return OrderIntent(plan.plan_id, plan.symbol, size.side, size.written(), client_order_id(plan.plan_id),
                           plan.action, entry.entry_id, expires_ms, self.rules.instance, mark, now_ms)

    def _governor_size(self, plan: Plan) -> Size | str:
        """The plan's share of what the exchange says right now. Warns: nothing else of the check holds."""
        logs.event(log, logging.WARNING, "apply.governor_only", gate="P3.3", plan_id=plan.plan_id, symbol=plan.symbol)
        return self.sizes.size(plan, now_ms=self.store.now_ms())

    def _send(self, entry: Entry, intent: OrderIntent) -> None:
        self.sent.add(intent)
        outcome = self.orders.send(intent)
        if outcome is None:
            self.hooks.order("unknown")
            self.store.acknowledge(entry.entry_id)
            return
        conclude(self.store, self.hooks, intent, outcome, kind=Kind.ORDER)

    # -- refusals ---------------------------------------------------------------------------------------------

    def _refused(self, entry: Entry, refused: Refused) -> None:
        if refused.refusal == Refusal.ALREADY_CONSUMED:
            self._pass_over(entry, "already_consumed")
        elif refused.final or not self.stopping():
            self.hooks.waited(refused.waited_ms)
            self._block(entry, refused.named, results.error_of(refused.refusal), detail=refused.detail)

    def _block(self, entry: Entry, refusal: str, error: str, *, detail: str = "") -> None:
        self._say("BLOCKED", entry.plan, refusal=refusal, detail=detail)
        self.hooks.plan("blocked")
        self.hooks.refused(str(refusal))
        self.store.finish(Kind.OTHER, plan_id=entry.plan.plan_id, entry_id=entry.entry_id, fields=results.blocked(
            entry.plan, str(refusal), error=error, now_ms=self.store.now_ms()))

    def _pass_over(self, entry: Entry, why: str) -> None:
        """Somebody else's, or answered before: no result of ours."""
        self.hooks.plan(why)
        self.store.acknowledge(entry.entry_id)

    def _say(self, word: str, plan: Plan, **fields: str) -> None:
        said = {name: value for name, value in fields.items() if value}
        logs.event(log, logging.INFO, "plan.applied", gate="P3.3", decision=word, plan_id=plan.plan_id,
                   symbol=plan.symbol, **said)


def conclude(store: ApplyStore, hooks: Hooks, intent: OrderIntent, outcome: results.Outcome, *, kind: Kind) -> bool:
    """Write the one result of an order and forget its intent. False: somebody else had written it already."""
    wrote = store.finish(kind, plan_id=intent.plan_id, entry_id=intent.entry_id, mark=intent.mark,
                         fields=results.of_order(intent, outcome, now_ms=store.now_ms()))
    if wrote:
        word = outcome.error or ("filled" if outcome.status == "success" else "open")
        hooks.order(word)
        hooks.plan("executed" if outcome.executed else word)
        logs.event(log, logging.INFO, "plan.applied", gate="P3.3", decision="EXECUTE", plan_id=intent.plan_id,
                   symbol=intent.symbol, side=intent.side, quantity=intent.quantity, status=outcome.status,
                   nonce=intent.mark.partition(" ")[0], client_order_id=intent.client_id,
                   order_id=outcome.state.order_id if outcome.state else None,
                   error=outcome.error or None, detail=outcome.detail or None)
    return wrote
