"""A stack with a position for every test, and what can be asked of it afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Self

import msgspec

from p33_sidecar.rehearsal.exchange.symbols import Contract, load_contracts
from p33_sidecar.rehearsal.plan_source import Plan, plan_of
from p33_sidecar.rehearsal.stack import Stack
from p33_sidecar.rehearsal.stage_door import Order
from p33_sidecar.store import keys

PATIENCE_S = 120.0
SETTINGS = {"P33_POLL_SEC": "0.5", "P33_COOLDOWN_SEC": "0.5", "APPLY_PERMIT_WAIT_MS": "30000"}
"""The wait is so long that no machine is too slow for it; tests of its end shorten it."""
HELD = Decimal(1_000)
"""Every position."""


def _suits(contract: Contract) -> bool:
    """Trades in whole units or finer, and as much as we hold in one order."""
    fine = all(Decimal(step) <= 1 for step in (contract.step, contract.market_step))
    large = all(Decimal(most) >= HELD for most in (contract.max_qty, contract.market_max))
    return contract.status == "TRADING" and fine and large


class House:
    """`symbols`: how many positions there are; `take()` hands out one that no other test has."""

    def __init__(self, *, symbols: int = 10, governor: bool = True, **settings: str) -> None:
        names = [name for name, facts in load_contracts(100).items() if _suits(facts)][:symbols]
        self._free = list(names)
        self.stack = Stack(positions=dict.fromkeys(names, str(HELD)), settings=SETTINGS | settings, applies=2,
                           governor=governor)

    def __enter__(self) -> Self:
        self.stack.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.__exit__(*error)

    # -- moves ------------------------------------------------------------------------------------------------

    def take(self) -> str:
        """A symbol with a position of its own, whose book is open."""
        symbol = self._free.pop()
        self.until(f"the book of {symbol}", lambda: self.ledger(symbol) == HELD)
        return symbol

    def publish(self, symbol: str, action: str = "PARTIAL_75", **fields: str) -> Plan:
        return self.stack.source.publish(plan_of(symbol, action, **fields))

    def grant(self, plan: Plan) -> None:
        """The Governor's permit, where there is no Governor."""
        self.stack.redis.set(keys.governor_permit(plan.plan_id), b'{"granted":true}', ex=60)

    def until(self, what: str, holds: Callable[[], object]) -> None:
        """Wait for a condition; what is slow is no failure, what ended by itself is."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            self.stack.check()
            assert time.monotonic() < deadline_s, f"never: {what}\n{self.logs()}"
            time.sleep(0.02)

    # -- looks ------------------------------------------------------------------------------------------------

    def results(self, plan: Plan) -> list[dict[str, str]]:
        return [fields for _, fields in self.stack.redis.xrange(self.stack.result_stream)
                if fields["plan_id"] == plan.plan_id]

    def result(self, plan: Plan) -> tuple[dict[str, str], dict]:
        """The plan's only result, once it is there, and its step."""
        self.until(f"a result for {plan.plan_id}", lambda: self.results(plan))
        (fields,) = self.results(plan)
        (step,) = msgspec.json.decode(fields["steps_results"])
        return fields, step

    def verdicts(self, plan: Plan) -> list[str]:
        """What was decided on it, in order: ALLOW or the reason."""
        records = [msgspec.json.decode(fields["json"]) for _, fields in self.stack.redis.xrange(keys.DECISIONS)
                   if fields["plan_id"] == plan.plan_id]
        return [record["reason"] or record["outcome"] for record in records]

    def orders(self, symbol: str) -> list[Order]:
        """Those of ours: a position that a person moves has orders, too."""
        return [order for order in self.stack.door.state().orders
                if order.symbol == symbol and order.client_order_id.startswith("p33-")]

    def held(self, symbol: str) -> Decimal:
        return self.stack.door.state().amt(symbol)

    def ledger(self, symbol: str) -> Decimal | None:
        amt = self.stack.redis.hget(keys.ledger(symbol), "last_known_amt")
        return None if amt is None else Decimal(amt)

    def booked(self, symbol: str) -> bool:
        """Whether the ledger says what the exchange says."""
        return self.ledger(symbol) == self.held(symbol)

    def pending(self) -> int:
        """Plans that the Apply Layers have not done with, and orders in nobody's hand."""
        groups = self.stack.redis.xinfo_groups(self.stack.plan_stream)
        pending = sum(group["pending"] for group in groups if group["name"] == keys.APPLY_GROUP)
        return pending + self.stack.redis.hlen(keys.ORDER_INTENTS)

    def logs(self) -> str:
        return "\n".join(f"{p.name}:\n{p.tail(lines=8)}" for p in (*self.stack.sidecars, *self.stack.applies))
