"""The loops on a real server, asking the simulated exchange over HTTP; a `Floor` adds Governor and Apply Layer.

One thread: a test says whose turn it is, so that nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from decimal import Decimal

from p33_sidecar.apply.layer import Entry
from p33_sidecar.core.model import Policy
from p33_sidecar.core.quantity import text
from p33_sidecar.exchange import Credentials, Exchange
from p33_sidecar.exchange.venue import venue_of
from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.service.recall import recall
from p33_sidecar.store import keys
from p33_sidecar.store.connect import Link, ServerClock
from p33_sidecar.store.positions import RedisBans
from tests.apply.shop import Result, Shop
from tests.gate.sidecar import KEY
from tests.service.world import SETTLED_WITHIN_S, World

POSITIONS = "positionRisk"
PATIENT = Policy(cooldown_ms=0, poll_ms=3_600_000, stale_threshold_ms=3_600_000)
"""However slow the machine: nothing gets too old, and no poll falls due, by itself."""
COOLING = Policy(cooldown_ms=3_600_000, poll_ms=3_600_000, stale_threshold_ms=3_600_000)
STALE = Policy(cooldown_ms=0, poll_ms=3_600_000, stale_threshold_ms=0)
CLEAR_MS = 2
"""Two ages this far apart differ whatever was rounded down."""


def served(url: str, sim: SimExchange, **settings) -> World:
    """A world whose exchange is a client of the simulated one."""
    clock, link = ServerClock(), Link(url, name="test")
    exchange = Exchange(sim.url, credentials=Credentials(sim.api_key, sim.api_secret), bans=RedisBans(link.redis),
                        now_ms=clock.now_ms)
    return World(url, link=link, clock=clock, exchange=exchange, venue=venue_of(sim.url),
                 **({"policy": PATIENT} | settings))


def under(world: World, policy: Policy) -> None:
    """From here on these thresholds hold."""
    world.memory.policy = world.desk.store._policy = policy


def closed(world: World) -> None:
    world.exchange.close()
    world.close()


class Floor:
    """The whole path from a plan to the exchange and back into the book. `close()` it."""

    def __init__(self, url: str, sim: SimExchange, **settings) -> None:
        self.url, self.sim, self._settings = url, sim, {"key": KEY} | settings
        self.world = served(url, sim, **self._settings)
        self.redis = self.world.redis
        self.shop = Shop(url, sim)
        self.applier = self.shop.applier()
        self._serial = itertools.count(1)
        self._before: list[World] = []

    def opened(self, **positions: str) -> Floor:
        """Positions made at the exchange, and the books they open."""
        for symbol, amt in positions.items():
            self.sim.set_position(symbol, amt)
        self.world.open_books()
        return self

    def restart(self) -> World:
        """The sidecar ends where it stands; another one starts on what it left."""
        self._before.append(self.world)
        self.world = served(self.url, self.sim, **self._settings)
        recall(self.world.link, self.world.memory, self.world.clock)
        self.redis = self.world.redis
        return self.world.start_again()

    # -- a plan ---------------------------------------------------------------------------------------------------

    def publish(self, action: str = "PARTIAL_75", *, symbol: str = "BTCUSDT", plan_id: str = "",
                **fields: str) -> Entry:
        """A plan on the stream, and the Governor's leave."""
        plan_id = plan_id or f"plan{next(self._serial)}"
        self.shop.hand.govern(plan_id)
        return self.shop.publish(plan_id, symbol, action, **fields)

    def apply(self, entry: Entry) -> str:
        """The Apply Layer's turn, and the booking of its result: `SELL 0.028`, or what it was refused for."""
        self.applier.handle(entry)
        self.world.book()
        return outcome(self.shop.results(entry.plan.plan_id)[-1])

    def carry(self, action: str = "PARTIAL_75", **more: str) -> str:
        """A plan through the whole path: published, judged, applied, booked."""
        entry = self.publish(action, **more)
        self.world.decide()
        return self.apply(entry)

    # -- what came of it ------------------------------------------------------------------------------------------

    def see(self, holds: Callable[[], object]) -> None:
        """Poll until it holds."""
        deadline_s = time.monotonic() + SETTLED_WITHIN_S
        self.world.poll()
        while not holds():
            assert time.monotonic() < deadline_s, "no poll shows it"
            self.world.poll()

    def see_order(self, symbol: str = "BTCUSDT") -> None:
        """Poll until a snapshot is newer than the symbol's last order by the server's clock and by ours."""
        memory = self.world.memory

        def newer() -> bool:
            seen, kept = memory.snapshots[symbol], memory.books[symbol]
            by_ours = seen.mono_ns - (kept.order_mono_ns or 0) > CLEAR_MS * 1_000_000
            return by_ours and seen.snapshot.ts_ms - kept.line.book.last_order_ms > CLEAR_MS

        self.see(newer)

    def accounts(self, symbol: str = "BTCUSDT") -> tuple[str, str]:
        """(what the book says, what the exchange has)."""
        return self.world.ledger(symbol)["last_known_amt"], text(self.sim.position_amt(symbol))

    def orders(self) -> list[tuple[str, Decimal]]:
        """(symbol, executed quantity) of every order of ours that the exchange has."""
        return [(o.symbol, o.executed_qty) for o in self.sim.orders if o.client_order_id.startswith("p33-")]

    def events(self, kind: str) -> list[dict]:
        return [event for event in self.world.records(keys.EVENTS) if event["kind"] == kind]

    def permits_left(self, plan_id: str) -> int:
        """How many of the plan's two permits are still there."""
        return self.redis.exists(keys.permit(plan_id), keys.governor_permit(plan_id))

    def close(self) -> None:
        for world in (*self._before, self.world):
            closed(world)
        self.shop.close()


def outcome(result: Result) -> str:
    """A result in short."""
    if result.executed == "True":
        return f"{result.step['side']} {result.step['executed_qty']}"
    return result.step.get("refusal") or result.error
