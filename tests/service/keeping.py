"""A bookkeeper on a real server, with polls that say what the test says and a clock moved by hand: nothing waits."""

from __future__ import annotations

from decimal import Decimal
from typing import Self

import msgspec
import redis

from p33_sidecar.core.model import Policy
from p33_sidecar.exchange import OrderState
from p33_sidecar.service.bookkeeper import Bookkeeper
from p33_sidecar.service.clerk import Clerk
from p33_sidecar.service.memory import Memory, Poll
from p33_sidecar.store import keys, scripts
from p33_sidecar.store.books import BookStore
from p33_sidecar.store.connect import Link, ServerClock, server_ms
from p33_sidecar.store.positions import PositionStore
from p33_sidecar.store.state import BookLine
from tests.service.world import RESULTS, VENUE, Counting, StubExchange

DAY_MS = 86_400_000


class HandClock(ServerClock):
    """The server's time and the machine's, moved by hand; begins at the real time, so that entry ids fit."""

    def __init__(self, ms: int) -> None:
        self.ms, self.ns = ms, 5_000_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def mono_ns(self) -> int:
        return self.ns

    def sync(self, server_ms: int) -> None:
        """The server is believed to say what the hand says."""

    def pass_ms(self, ms: int) -> Self:
        self.ms, self.ns = self.ms + ms, self.ns + ms * 1_000_000
        return self


class Keeping:
    """`poll` is a good reply of the exchange, `result` a result on the stream, `book` the bookkeeper's turns."""

    def __init__(self, url: str, *, adopt: bool = True, scope: str = "BTCUSDT", clock: HandClock | None = None) -> None:
        self.url, self.adopt, self.scope = url, adopt, scope
        self.link, self.own = Link(url, name="test"), Link(url, name="keeping")
        self.redis: redis.Redis = self.link.redis
        """The test's own connection; the bookkeeper has another one."""
        scripts.load_all(self.redis)
        self.clock = clock or HandClock(server_ms(self.redis))
        self.hooks = Counting()
        self.memory = Memory(policy=Policy(), venue=VENUE, instance="keeping", allowlist=frozenset(scope.split()),
                             configured=True)
        self.memory.scope = self.memory.allowlist
        self.exchange = StubExchange(self.clock)
        self.store = BookStore(self.own.redis, result_stream=RESULTS)
        self.keeper = Bookkeeper(self.store, self.memory, self.clock, self.hooks, adopt=adopt)
        self.clerk = Clerk(self.exchange, PositionStore(self.own.redis), self.store, self.memory, self.clock,
                           self.hooks)

    def again(self) -> Keeping:
        """Another process, after this one was killed: on the same server, at the same time."""
        second = Keeping(self.url, adopt=self.adopt, scope=self.scope, clock=self.clock)
        second.exchange = second.clerk.fates.exchange = self.exchange
        return second

    # -- what happens -----------------------------------------------------------------------------------------

    def poll(self, amt: str | None = "0.038", **others: str) -> Self:
        """A good reply asked for now, and what is made of it."""
        self.say(amt, **others)
        return self.book()

    def say(self, amt: str | None = "0.038", **others: str) -> None:
        """A good reply asked for now. None: the symbol is not in it."""
        amounts = ({} if amt is None else {"BTCUSDT": amt}) | others
        self.memory.last_poll = self.memory.last_good_poll = Poll(
            "ok", self.clock.ms, self.clock.ms, self.clock.ns,
            positions={symbol: Decimal(said) for symbol, said in amounts.items()})

    def opened(self, amt: str = "0.038", **others: str) -> Self:
        """Two agreeing replies, half a second apart, and a second after them."""
        self.poll(amt, **others)
        self.clock.pass_ms(500)
        self.poll(amt, **others)
        self.clock.pass_ms(1000)
        return self

    def result(self, qty: str = "0.028", *, order_id: str = "8389765", symbol: str = "BTCUSDT", plan_id: str = "p1",
               status: str = "success", side: str = "SELL", executed: str = "True", at_ms: int | None = None,
               name: str = "CLOSE_PARTIAL_75", reduce_only: bool = True, **fields: str) -> str:
        """A result written now by the hand's clock, or at `at_ms`; returns its entry id."""
        step = {"step": name, "status": status, "order_id": order_id, "side": side, "executed_qty": qty,
                "reduce_only": reduce_only}
        return self.redis.xadd(RESULTS, {
            "plan_id": plan_id, "symbol": symbol, "decision": "EXECUTE", "executed": executed,
            "steps_results": msgspec.json.encode([step]).decode(), "error": ""} | fields,
            id=f"{self.clock.ms if at_ms is None else at_ms}-*")

    def ended(self, qty: str, *, order_id: str = "8389765", client_id: str = "p33-p1", status: str = "FILLED",
              terminal: bool = True) -> None:
        """What the exchange says of an order from now on."""
        state = OrderState("BTCUSDT", order_id, client_id, status, "SELL", Decimal(qty), True, terminal, terminal,
                           self.clock.ms)
        self.exchange.orders |= {order_id: state, client_id: state}

    def book(self) -> Self:
        """Everything there is, and a look at openings, gaps and views."""
        for _ in range(1000):
            if not self.keeper.step(block_ms=None) and not self.memory.reread_books.is_set():
                return self
        raise AssertionError("the bookkeeper does not come to rest")

    def look_up(self) -> Self:
        """The clerk asks for what is due, and the answers are booked."""
        self.clerk.step()
        return self.book()

    # -- what came of it --------------------------------------------------------------------------------------

    def ledger(self, symbol: str = "BTCUSDT") -> dict[str, str]:
        return self.redis.hgetall(keys.ledger(symbol))

    def amt(self, symbol: str = "BTCUSDT") -> str | None:
        """The book's amount, and never another one in the ledger's hash."""
        stored = self.redis.hget(keys.book(symbol), "amt")
        assert self.ledger(symbol).get("last_known_amt") == stored
        return stored

    def line(self, symbol: str = "BTCUSDT") -> BookLine:
        return BookStore(self.redis, result_stream=RESULTS).line(symbol)

    def records(self, stream: str) -> list[dict]:
        return [msgspec.json.decode(fields["json"]) for _, fields in self.redis.xrange(stream)]

    def journal(self, *causes: str) -> list[dict]:
        return [entry for entry in self.records(keys.JOURNAL) if not causes or entry["cause"] in causes]

    def events(self, kind: str) -> list[dict]:
        return [event for event in self.records(keys.EVENTS) if event["kind"] == kind]

    def close(self) -> None:
        self.link.close()
        self.own.close()
