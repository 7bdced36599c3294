"""A sidecar taken apart: its loops as plain steps on a real server, with an exchange that says what it is told."""

from __future__ import annotations

import itertools
import time
from decimal import Decimal

import msgspec
import redis

from p33_sidecar.core.model import Filters, Policy
from p33_sidecar.errors import ExchangeUnavailable
from p33_sidecar.exchange import FiltersReply, OrderState, PositionsReply, SymbolPosition
from p33_sidecar.service import identity
from p33_sidecar.service.bookkeeper import Bookkeeper
from p33_sidecar.service.clerk import Clerk
from p33_sidecar.service.desk import Desk
from p33_sidecar.service.hooks import Silent
from p33_sidecar.service.incidents import Incidents
from p33_sidecar.service.memory import Memory
from p33_sidecar.service.poller import Poller
from p33_sidecar.store import keys, scripts
from p33_sidecar.store.books import BookStore
from p33_sidecar.store.connect import Link, ServerClock, server_ms
from p33_sidecar.store.positions import PositionStore
from p33_sidecar.store.verdicts import VerdictStore

PLANS, RESULTS = "quantum:apply.plan", "quantum:apply.result"
VENUE = "demo-fapi.binance.com"
SETTLED_WITHIN_S = 30
BTC = Filters("BTCUSDT", "TRADING", Decimal("0.001"), Decimal("0.001"), Decimal(120))
ETH = Filters("ETHUSDT", "TRADING", Decimal("0.001"), Decimal("0.001"), Decimal(2000))
TRX = Filters("TRXUSDT", "TRADING", Decimal(1), Decimal(1), Decimal(5_000_000))


class StubExchange:
    """The exchange's port, saying what the test put there."""

    configured, venue, used_weight = True, VENUE, 0

    def __init__(self, clock: ServerClock) -> None:
        self.clock = clock
        self.amounts: dict[str, str | None] = {"BTCUSDT": "0.038", "ETHUSDT": "0", "TRXUSDT": "0"}
        self.update_times: dict[str, int] = {}
        self.rows: dict[str, SymbolPosition] = {}
        """Instead of what `amounts` makes."""
        self.lot_rules = {f.symbol: f for f in (BTC, ETH, TRX)}
        self.orders: dict[str, OrderState] = {}
        self.failure = ""
        self.polls = self.offset_ms = 0

    def positions(self) -> PositionsReply:
        self.polls += 1
        if self.failure:
            raise ExchangeUnavailable(self.failure)
        now_ms = self.clock.now_ms()
        rows = self.rows or {s: self._row(s, amt) for s, amt in self.amounts.items()}
        return PositionsReply(now_ms, now_ms, self.clock.mono_ns(), rows, {})

    def _row(self, symbol: str, amt: str | None) -> SymbolPosition:
        return SymbolPosition(symbol, None if amt is None else Decimal(amt), amt is None, "100000", "100200", "10",
                              "7.6", self.update_times.get(symbol, 0))

    def server_offset_ms(self) -> int:
        return self.offset_ms

    def filters(self) -> FiltersReply:
        return FiltersReply(self.clock.now_ms(), dict(self.lot_rules), {})

    def order(self, symbol: str, *, order_id: str = "", client_order_id: str = "") -> OrderState | None:
        return self.orders.get(order_id or client_order_id)


class Counting(Silent):
    """Hooks that remember."""

    def __init__(self) -> None:
        self.seen: list[tuple] = []

    def anomaly(self, kind: str) -> None:
        self.seen.append(("anomaly", kind))

    def republished(self) -> None:
        self.seen.append(("republished",))

    def mismatch_opened(self, symbol: str) -> None:
        self.seen.append(("mismatch", symbol))

    def gap(self, stream: str) -> None:
        self.seen.append(("gap", stream))

    def rejected(self, stream: str, reason: str) -> None:
        self.seen.append(("rejected", stream, reason))


class World:
    """One sidecar's loops, ready to be stepped."""

    def __init__(self, url: str, *, policy: Policy | None = None, allowlist: frozenset[str] | None = None,
                 adopt: bool = True, key: bytes | None = None, refresh_budget_ms: int = 0,
                 instance: str = "test", link: Link | None = None, clock: ServerClock | None = None,
                 exchange: StubExchange | None = None, venue: str = VENUE) -> None:
        self.clock, self.hooks = clock or ServerClock(), Counting()
        self.redis_url = url
        self.link = link or Link(url, name="test")
        self.redis: redis.Redis = self.link.redis
        scripts.load_all(self.redis)
        self.clock.sync(server_ms(self.redis))
        self.policy = policy or Policy(cooldown_ms=0, poll_ms=500)
        self.memory = Memory(policy=self.policy, venue=venue, instance=instance,
                             allowlist=frozenset({"BTCUSDT"}) if allowlist is None else allowlist, configured=True)
        self.memory.scope = self.memory.allowlist or frozenset()
        identity.settle_in(self.link, self.memory, self.clock)
        self.exchange = exchange or StubExchange(self.clock)
        store = VerdictStore(self.link, plan_stream=PLANS, result_stream=RESULTS, consumer=instance,
                             policy=self.policy, key=key)
        self.desk = Desk(store, self.memory, self.clock, self.hooks, refresh_budget_ms=refresh_budget_ms)
        self.books = BookStore(self.redis, result_stream=RESULTS)
        self.keeper = Bookkeeper(self.books, self.memory, self.clock, self.hooks, adopt=adopt)
        positions = PositionStore(self.redis)
        incidents = Incidents(positions, self.memory, self.clock, self.hooks,
                              read_state=lambda s: store.read_state(s, "-").state)
        self.poller = Poller(self.exchange, positions, self.memory, self.clock, self.hooks, incidents)
        self.clerk = Clerk(self.exchange, positions, self.books, self.memory, self.clock, self.hooks)
        self._serial = itertools.count(1)

    # -- turns ------------------------------------------------------------------------------------------------

    def open_books(self) -> World:
        """Two agreeing replies half a second apart, and the books they open."""
        self.clerk.step()
        self.book()
        self.poll()
        time.sleep(0.52)
        self.poll()
        return self

    def start_again(self) -> World:
        """A start on a database that has its books already."""
        self.clerk.step()
        self.book()
        self.poll()
        return self

    def poll(self) -> None:
        self.poller.poll()
        self.book()

    def book(self) -> None:
        """Book everything there is, and let the openings look."""
        while self.keeper.step(block_ms=None):
            pass

    def decide(self) -> None:
        """Handle everything there is, waiting plans included."""
        self.desk.step(block_ms=1)
        for _ in range(2000):
            if not self.desk.step(block_ms=1) and not self.desk.waiting.jobs:
                break

    # -- what others write ------------------------------------------------------------------------------------

    def publish(self, action: str = "PARTIAL_75", *, symbol: str = "BTCUSDT", plan_id: str = "", **more: str) -> str:
        """A plan as a producer writes it; returns its plan_id."""
        plan_id = plan_id or f"plan{next(self._serial)}"
        stamp = f"{self.clock.now_ms() / 1000:.3f}"
        self.redis.xadd(PLANS, {"plan_id": plan_id, "symbol": symbol, "action": action, "decision": "EXECUTE",
                                "steps": "[]", "close_qty": "0.0", "timestamp": stamp} | more)
        return plan_id

    def result(self, plan_id: str, *, symbol: str = "BTCUSDT", side: str = "SELL", qty: str = "0.028",
               order_id: str = "8389765", status: str = "success", executed: str = "True", reduce_only: bool = True,
               **more: str) -> str:
        """A result as the Apply Layer writes it; returns its entry id."""
        step = {"step": "CLOSE_PARTIAL_75", "status": status, "order_id": order_id, "side": side, "quantity": qty,
                "executed_qty": qty, "reduce_only": reduce_only}
        return self.redis.xadd(RESULTS, {
            "plan_id": plan_id, "symbol": symbol, "decision": "EXECUTE", "executed": executed,
            "would_execute": "False", "steps_results": msgspec.json.encode([step]).decode(), "error": ""} | more)

    # -- what came of it --------------------------------------------------------------------------------------

    def ask(self, action: str = "PARTIAL_75", **more: str) -> str:
        """Publish a plan and say its verdict: `ALLOW 0.028` or the reason."""
        plan_id = self.publish(action, **more)
        self.decide()
        return self.verdict(plan_id)

    def ask_settled(self, action: str = "PARTIAL_75", **more: str) -> str:
        """Poll and ask until a snapshot is newer than the last order by every clock (an age is the larger of two)."""
        deadline_s, verdict = time.monotonic() + SETTLED_WITHIN_S, "cooldown_in_flight"
        while verdict == "cooldown_in_flight" and time.monotonic() < deadline_s:
            self.poll()
            verdict = self.ask(action, **more)
        return verdict

    def verdict(self, plan_id: str) -> str:
        permit = self.permit(plan_id)
        if permit is None:
            return "NONE"
        return f"ALLOW {permit['safe_close_qty']}" if permit["allow"] else permit["reason"]

    def permit(self, plan_id: str) -> dict | None:
        raw = self.redis.get(keys.permit(plan_id))
        return msgspec.json.decode(raw) if raw else None

    def ledger(self, symbol: str = "BTCUSDT") -> dict[str, str]:
        return self.redis.hgetall(keys.ledger(symbol))

    def records(self, stream: str) -> list[dict]:
        return [msgspec.json.decode(fields["json"]) for _, fields in self.redis.xrange(stream)]

    def close(self) -> None:
        self.link.close()
