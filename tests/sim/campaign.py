"""A seeded campaign: hundreds of random steps in a town, the laws judged after each. A seed is a whole story.

    python -m tests.sim.campaign --seeds 2000 [--from 0] [--steps 120]

A broken law prints the seed and the last steps; the same seed breaks it again.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections import Counter, deque
from decimal import Decimal

from p33_sidecar.store import keys
from tests.service.breaking import Died
from tests.sim.days import DAYS, MISTIMED, WEIGHTS
from tests.sim.laws import LawBroken, Laws
from tests.sim.town import Town

STEPS = 120
SYMBOLS = ("BTCUSDT", "BTCUSDT", "BTCUSDT", "ETHUSDT", "TRXUSDT")
ACTIONS = ("PARTIAL_25", "PARTIAL_50", "PARTIAL_75", "CLOSE_FULL", "FULL_CLOSE_PROPOSED", "UPDATE_SL")
AMOUNTS = {"BTCUSDT": ("0", "0.038", "0.0384", "0.1", "-0.05", "0.0005"), "ETHUSDT": ("0", "2", "-1.5"),
           "TRXUSDT": ("0", "123", "-61")}
LEAPS_MS = (-3_600_000, -20_000, -5_000, -1_500, 1_500, 5_000, 20_000, 3_600_000)
MEANWHILE = ("publish", "decide", "take", "execute", "tell", "book", "poll", "moment", "tend")


class Campaign:
    """One seed."""

    def __init__(self, town: Town, seed: int) -> None:
        self.town, self.laws = town, Laws(town)
        self.random = random.Random(seed)
        self.told: deque[str] = deque(maxlen=15)
        # A stream that holds something gives no entry an older id, whatever the clock says. In an empty one the first
        # result of a clock set back would lie before its book's opening (docs/guarantees.md, Clocks).
        town.result("long-ago", symbol="OLDUSDT", executed=False, status="failed", error="order_not_sent")

    def run(self, steps: int, weights: dict[str, float]) -> None:
        """Take the steps, then let everything settle. Raises LawBroken."""
        for name in self.random.choices(list(weights), list(weights.values()), k=steps):
            self.step(name)
        for name in ("heal", "clear", "book", "decide", "settle", "rest"):
            self.step(name)
        self.laws.at_the_end()

    def step(self, name: str) -> None:
        self.told.append(name)
        getattr(self, name)()
        self.laws.after_step()

    def _symbol(self) -> str:
        return self.random.choice(SYMBOLS)

    def _plan(self, plans: object) -> str | None:
        names = sorted(plans)
        return self.random.choice(names) if names else None

    # -- what people and programs do ------------------------------------------------------------------------------

    def publish(self) -> None:
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            self.town.publish(self.random.choice(ACTIONS), symbol=self._symbol(),
                              age_ms=self.random.choice((0, 0, 0, 0, 500, 18_000, 30_000, 61_000)))

    def again(self) -> None:
        if plan := self._plan(list(self.town.plans)[-6:]):
            self.town.publish_again(plan)

    def decide(self) -> None:
        self.town.decide()

    def decide_disturbed(self) -> None:
        """Something happens between reading and issuing."""
        act = getattr(self, self.random.choice(("hand", "halt", "hold", "poll", "execute", "book", "flat")))
        with self.town.between_reading_and_issuing(act):
            self.town.decide()

    def decide_killed(self) -> None:
        """kill -9 just before or just after the verdicts reached the store."""
        try:
            with self.town.killed_at_issuing(executed=self.random.random() < 0.5):
                self.town.decide()
        except Died:
            self.town.start_sidecar()

    def take(self) -> None:
        recent = [record["plan_id"] for record in self.laws.allows[-4:]]
        if plan := self._plan(recent):
            self.town.take(plan, symbol=self.town.symbol_of[plan])

    def take_all(self) -> None:
        for record in self.laws.allows[-4:]:
            self.town.take(record["plan_id"], symbol=self.town.symbol_of[record["plan_id"]])

    def execute(self) -> None:
        if plan := self._plan(self.town.unsent()):
            self.town.execute(plan, partly=self.random.random() < 0.2)

    def send(self) -> None:
        if plan := self._plan(self.town.unsent()):
            self.town.send(plan)

    def tell(self) -> None:
        if plan := self._plan(self.town.untold()):
            self.town.tell(plan)

    def tell_again(self) -> None:
        if entry := self._plan(self.town.results):
            self.town.redis.xadd("quantum:apply.result", self.town.results[entry])

    def hand(self) -> None:
        symbol = self._symbol()
        self.town.market.set(symbol, Decimal(self.random.choice(AMOUNTS[symbol])))

    def flat(self) -> None:
        self.town.market.set("BTCUSDT", Decimal(0))

    def agree(self) -> None:
        """The exchange goes back to what is booked: a campaign of mismatches alone would allow little."""
        for symbol, amt in self.town.expected_books.items():
            if self.town.market.amounts[symbol] != amt:
                self.town.market.set(symbol, amt)

    def halt(self) -> None:
        self.town.halt(self.random.choice(("", "BTCUSDT")))

    def hold(self) -> None:
        self.town.redis.set(keys.hold(self._symbol()), "1")

    def clear(self) -> None:
        self.town.resume()
        for symbol in AMOUNTS:
            self.town.resume(symbol)
            self.town.redis.delete(keys.hold(symbol))

    def second_thoughts(self) -> None:
        """Two plans at once; one is executed, the other is published again when the symbol is free (timeline T09)."""
        symbol = self._symbol()
        first, second = self.town.publish("PARTIAL_25", symbol=symbol), self.town.publish("PARTIAL_50", symbol=symbol)
        self.town.decide()
        if self.town.take(first, symbol=symbol) == "taken":
            self.town.wait(1_500)
            self.town.execute(first)
            self.town.wait(20_000)
            self.town.publish_again(second)
            self.town.decide()

    def crash_amid_plans(self) -> None:
        """The server comes back while plans are waiting."""
        self.crash()
        self.publish()
        self.town.decide()

    # -- turns and time -------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """Sooner than due, as a refresh would, but for a ban."""
        if self.town.sidecar.memory.ban_until_ms <= self.town.sidecar.clock.now_ms():
            self.town.poll()

    def book(self) -> None:
        self.town.book()
        self.laws.books_add_up()

    def tend(self) -> None:
        self.town.tend()

    def moment(self) -> None:
        self.town.wait(self.random.choice((1, 30, 200, 900)))

    def while_(self) -> None:
        self.town.wait(self.random.choice((3_000, 6_000, 16_000)))

    def long(self) -> None:
        self.town.wait(self.random.choice((40_000, 80_000)))

    def settle(self) -> None:
        """Everything on its way arrives."""
        for plan in sorted(self.town.unsent()):
            self.town.send(plan)
        for plan in sorted(self.town.untold()):
            self.town.tell(plan)
        self.town.tend()
        self.town.book()
        self.town.wait(40_000)
        self.town.tend()
        self.town.book()
        self.town.decide()

    def rest(self) -> None:
        """Every permit is past its end, and the exchange was asked since."""
        for _ in range(2):
            self.town.wait(80_000)
            self.town.tend()
            self.town.book()
            self.town.decide()

    # -- mishaps --------------------------------------------------------------------------------------------------

    def fail(self) -> None:
        self.town.market.failure = self.random.choice(("timeout", "html", "http_5xx", "empty_list"))

    def ban(self) -> None:
        self.town.market.ban(20_000)

    def heal(self) -> None:
        self.town.market.failure = ""
        self.town.market.missing.clear()
        self.town.market.hedge.clear()
        self.town.market.catch_up()

    def lag(self) -> None:
        self.town.market.fall_behind()

    def missing(self) -> None:
        self.town.market.missing.add(self._symbol())

    def hedge(self) -> None:
        self.town.market.hedge.add(self._symbol())

    def clock_set(self) -> None:
        """Somebody sets the server's clock, or its host has slept."""
        self.town.clock.set_wall(self.random.choice(LEAPS_MS))

    def clock_wrong(self) -> None:
        """The server's clock is wrong for one deed, or for a few."""
        by_ms = self.random.choice(LEAPS_MS)
        self.town.clock.set_wall(by_ms)
        for name in self.random.choices(MEANWHILE, k=self.random.choice((1, 1, 2, 4))):
            self.step(name)
        self.town.clock.set_wall(-by_ms)

    def restart(self) -> None:
        self.town.start_sidecar()

    def save(self) -> None:
        self.town.save()

    def crash(self) -> None:
        self.town.crash()

    def flush(self) -> None:
        self.town.flush()


def run_seed(seed: int, *, steps: int = STEPS, weights: dict[str, float] = WEIGHTS) -> Counter[str]:
    """Reasons met (`ALLOW`, `taken` among them). Raises LawBroken with the seed and the last steps."""
    with Town.open() as town:
        campaign = Campaign(town, seed)
        try:
            campaign.run(steps, weights)
        except LawBroken as broken:
            raise LawBroken(f"{broken} (seed {seed}; ... {' '.join(campaign.told)})") from None
        return campaign.laws.reasons + Counter(taken=len(town.taken), fills=len(town.results))


def main(argv: list[str] | None = None) -> int:
    """Run seeds and say what was met. Exit code 1 at the first broken law."""
    ask = argparse.ArgumentParser(prog="campaign", description="random campaigns against the laws of the permit path")
    ask.add_argument("--seeds", type=int, default=500)
    ask.add_argument("--from", type=int, default=0, dest="first")
    ask.add_argument("--steps", type=int, default=STEPS)
    given = ask.parse_args(argv)
    logging.disable(logging.CRITICAL)
    met, began_s = Counter(), time.monotonic()
    days = (*DAYS, MISTIMED)
    for seed in range(given.first, given.first + given.seeds):
        try:
            met += run_seed(seed, steps=given.steps, weights=days[seed % len(days)])
        except LawBroken as broken:
            print(f"broken: {broken}", file=sys.stderr)
            return 1
    for what, count in met.most_common():
        print(f"{count:8} {what}")
    print(f"{given.seeds} seeds of {given.steps} steps in {time.monotonic() - began_s:.0f} s: every law held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
