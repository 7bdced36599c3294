"""`python -m tests.e2e.campaign --rounds 100`: kill -9 of sidecar and Apply Layers at random moments; the law after it.

Each round publishes a plan and kills one or both of them a random moment later, starts them again and waits until the
plan has its result and nothing is left over. The law: one result, at most one order, `executed` exactly where there
is one, and the ledger equals the exchange. A round that had to wait until it was certain that an order never went out
takes the permit's life and 35 s.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from decimal import Decimal

from p33_sidecar.rehearsal.plan_source import Plan
from tests.e2e.house import House

ACTION = "PARTIAL_25"
LATEST_MS = 25.0
"""A plan is applied within about 10 ms where nobody dies."""
LIFE_S = "2"
"""A permit's life here."""


class Campaign:
    """Rounds in a house of its own, which `seed` decides."""

    def __init__(self, house: House, *, seed: int) -> None:
        self.house, self.random = house, random.Random(seed)
        self.executed = self.blocked = 0

    def round(self, symbol: str) -> None:
        """One plan, one or two deaths, the law."""
        victims = self.random.choice((("sidecar",), ("apply",), ("sidecar", "apply")))
        plan = self.house.publish(symbol, ACTION)
        time.sleep(self.random.uniform(0, LATEST_MS) / 1000)
        for victim in victims:
            self._kill(victim)
        for victim in victims:
            self._start(victim)
        self.house.stack.wait_sidecars(patience_s=120)
        self.house.until(f"{plan.plan_id} is settled", lambda: self.house.results(plan) and not self.house.pending())
        self._judge(plan)

    def _kill(self, victim: str) -> None:
        for process in self.house.stack.sidecars if victim == "sidecar" else self.house.stack.applies:
            process.kill()

    def _start(self, victim: str) -> None:
        for process in self.house.stack.sidecars if victim == "sidecar" else self.house.stack.applies:
            process.start()

    def _judge(self, plan: Plan) -> None:
        fields, step = self.house.result(plan)
        orders = [o for o in self.house.orders(plan.symbol) if o.client_order_id == f"p33-{plan.plan_id}"]
        executed = fields["executed"] == "True"
        assert len(orders) == executed, f"{fields} {orders}"
        if executed:
            self.executed += 1
            assert Decimal(step["executed_qty"]) == orders[0].executed_qty, f"{step} {orders}"
            assert len(self.house.verdicts(plan)) == 1
        else:
            self.blocked += 1
        self.house.until("the booking", lambda: self.house.booked(plan.symbol))


def run(*, rounds: int, seed: int) -> Campaign:
    """All rounds; raises AssertionError where the law is broken."""
    with House(symbols=4, P33_PERMIT_TTL=LIFE_S, APPLY_PERMIT_WAIT_MS="1200") as house:
        campaign = Campaign(house, seed=seed)
        symbols = [house.take() for _ in range(4)]
        for number in range(rounds):
            campaign.round(symbols[number % len(symbols)])
    return campaign


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.campaign")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args = parser.parse_args(argv)
    print(f"seed {args.seed}", flush=True)
    campaign = run(rounds=args.rounds, seed=args.seed)
    print(f"{args.rounds} rounds: {campaign.executed} executed, {campaign.blocked} blocked or not sent, the law held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
