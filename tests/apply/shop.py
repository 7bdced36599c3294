"""An Apply Layer's surroundings for tests: a real database, a simulated exchange over HTTP, a hand that issues."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import msgspec
import redis

from p33_sidecar.apply.finder import Finder
from p33_sidecar.apply.intent import OrderIntent
from p33_sidecar.apply.layer import Applier, Entry, Rules, Sent
from p33_sidecar.apply.orders import Orders
from p33_sidecar.apply.sizes import GovernorSizes
from p33_sidecar.core.orders import client_order_id
from p33_sidecar.core.plan import plan_of
from p33_sidecar.exchange import Credentials, Exchange
from p33_sidecar.exchange.venue import venue_of
from p33_sidecar.gate import Gate
from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.rehearsal.plan_source import plan_of as plan_fields
from p33_sidecar.store import keys
from p33_sidecar.store.applying import ApplyStore
from p33_sidecar.store.connect import Link, ServerClock
from p33_sidecar.store.positions import RedisBans
from tests.gate.sidecar import KEY, PLAN, SYMBOL, Hand

PLANS, RESULTS = "quantum:apply.plan", "quantum:apply.result"
DEADLINE_S = 60.0


def until(holds: Callable[[], object], what: str = "it") -> None:
    """Wait for a condition, however slow the machine is."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, f"not in time: {what}"
        time.sleep(0.005)


class Counted:
    """`layer.Hooks` and the exchange's observer, by name."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def plan(self, outcome: str) -> None:
        self.seen[f"plan {outcome}"] += 1

    def refused(self, refusal: str) -> None:
        self.seen[f"refused {refusal}"] += 1

    def order(self, outcome: str) -> None:
        self.seen[f"order {outcome}"] += 1

    def waited(self, ms: int) -> None: ...
    def request(self, *, endpoint: str, status: str, seconds: float) -> None: ...
    def weight(self, used: int) -> None: ...
    def ban(self, until_ms: int) -> None: ...


class Result(msgspec.Struct, frozen=True):
    """One entry of the result stream, its only step opened."""

    plan_id: str
    decision: str
    executed: str
    would_execute: str
    error: str
    step: dict


class Shop:
    """Everything that is not under test. `close()` it."""

    def __init__(self, url: str, exchange: SimExchange) -> None:
        self.url, self.exchange = url, exchange
        self.redis = redis.Redis.from_url(url, decode_responses=True, protocol=2)
        self.venue = venue_of(exchange.url)
        self.hand = Hand(self.redis, venue=self.venue)
        self.redis.set(keys.VENUE, self.venue)
        self.counted = Counted()
        self._open: list[Callable[[], None]] = [self.redis.close]

    def close(self) -> None:
        for end in reversed(self._open):
            end()

    # -- what is under test -----------------------------------------------------------------------------------

    def store(self, instance: str = "apply-1") -> ApplyStore:
        link = Link(self.url, name=instance)
        self._open.append(link.close)
        return ApplyStore(link, plan_stream=PLANS, result_stream=RESULTS, consumer=instance, max_age_ms=60_000)

    def orders(self, store: ApplyStore, *, configured: bool = True) -> tuple[Orders, Exchange]:
        clock = ServerClock()
        clock.sync(store.now_ms())
        pair = Credentials(self.exchange.api_key, self.exchange.api_secret) if configured else None
        exchange = Exchange(self.exchange.url, credentials=pair, bans=RedisBans(store.redis), now_ms=clock.now_ms,
                            observer=self.counted)
        self._open.append(exchange.close)
        return Orders(exchange, store, clock, wait=lambda seconds: False), exchange

    def applier(self, *, instance: str = "apply-1", sent: Sent | None = None, configured: bool = True,
                **rules) -> Applier:
        store = self.store(instance)
        orders, exchange = self.orders(store, configured=configured)
        gate = Gate(self.url, key=(KEY,), venue=self.venue, by=instance)
        self._open.append(gate.close)
        how = {"venue": self.venue, "dry_run": False, "governor_only": False, "wait_ms": 0,
               "plan_max_age_ms": 60_000, "permit_ttl_ms": 60_000} | rules
        return Applier(gate, store, orders, GovernorSizes(exchange), Rules(instance=instance, **how), self.counted,
                       sent=sent or Sent())

    def finder(self, *, instance: str = "apply-1", sent: Sent | None = None, busy: frozenset[str] = frozenset(),
               mono_s: Callable[[], float] = time.monotonic) -> Finder:
        store = self.store(instance)
        return Finder(store, self.orders(store)[0], self.counted, sent or Sent(), instance=instance,
                      in_hand=lambda: busy, mono_s=mono_s)

    # -- what comes in ----------------------------------------------------------------------------------------

    def publish(self, plan_id: str = PLAN, symbol: str = SYMBOL, action: str = "PARTIAL_75", *, again: bool = False,
                **fields: str) -> Entry:
        """A plan on the stream, as a worker gets it."""
        carried = plan_fields(symbol, action, plan_id=plan_id, **fields).fields
        entry_id = self.redis.xadd(PLANS, carried)
        return Entry(entry_id, plan_of(carried, entry_ms=int(entry_id.partition("-")[0])), again)

    def allowed(self, plan_id: str = PLAN, symbol: str = SYMBOL, **more) -> Entry:
        """A plan with both its permits, which are there before anybody can read it."""
        self.hand.govern(plan_id)
        self.hand.allow(plan_id, symbol, **more)
        return self.publish(plan_id, symbol)

    def intend(self, plan_id: str = PLAN, *, expires_in_ms: int, instance: str = "apply-1", noted_ms: int = 0,
               entry_id: str = "1-1") -> OrderIntent:
        """What a taking leaves: the mark and the intent."""
        intent = OrderIntent(plan_id, SYMBOL, "SELL", "0.028", client_order_id(plan_id), "PARTIAL_75", entry_id,
                             self.hand.now_ms() + expires_in_ms, instance, "nonce token", noted_ms)
        self.redis.set(keys.taken(plan_id), intent.mark)
        self.redis.hset(keys.ORDER_INTENTS, plan_id, intent.encoded())
        return intent

    # -- what came of it --------------------------------------------------------------------------------------

    def results(self, plan_id: str = "") -> list[Result]:
        """Those of a plan, or all there are."""
        found = []
        for _, fields in self.redis.xrange(RESULTS):
            if plan_id not in ("", fields["plan_id"]):
                continue
            (step,) = msgspec.json.decode(fields["steps_results"])
            found.append(Result(fields["plan_id"], fields["decision"], fields["executed"], fields["would_execute"],
                                fields["error"], step))
        return found

    def only_result(self) -> Result:
        (result,) = self.results()
        return result

    def sends(self) -> int:
        """Orders that reached the exchange, in whatever way they ended."""
        return self.exchange.request_count("POST order")

    def intents(self) -> int:
        return self.redis.hlen(keys.ORDER_INTENTS)
