"""A whole town in one thread: sidecars, Apply Layers and the exchange, moved one step at a time on one hand clock.

Nothing happens by itself: `wait` lets time pass with the polls that fall due, everything else is somebody's call.
The loops are the real ones; what is fake is the server, the time and the exchange.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from decimal import Decimal

import msgspec

from p33_sidecar.core.model import Policy
from p33_sidecar.core.quantity import text
from p33_sidecar.gate import Gate, Refused, Taken
from p33_sidecar.service import identity
from p33_sidecar.service.recall import recall
from p33_sidecar.store import keys, switches
from p33_sidecar.store.positions import RedisBans
from tests.service.breaking import Died
from tests.service.world import PLANS, RESULTS, VENUE, World
from tests.sim.fakes import FakeStore, HandClock, on_clock
from tests.sim.market import Market
from tests.sim.written import Written

HELD = {"BTCUSDT": "0.038", "ETHUSDT": "2"}
LISTED = frozenset({"BTCUSDT", "TRXUSDT"})
KEY = b"k" * 32
QUIET_TURNS = 3
"""A turn of the desk may only have made its group or read its own pending entries."""


class Town(Written):
    """`sidecar` is the running one; `start_sidecar` puts another in its place, as after a kill -9."""

    def __init__(self, clock: HandClock, *, positions: dict[str, str] | None = None,
                 policy: Policy | None = None, refresh_budget_ms: int = 0) -> None:
        self.clock, self.refresh_budget_ms = clock, refresh_budget_ms
        self.store = FakeStore(self.clock)
        self.policy = policy or Policy()
        self.redis = self.store.link().redis
        self.market = Market(self.clock, HELD if positions is None else positions, bans=RedisBans(self.redis))
        self.gate = Gate(self.store.link(decode=False), key=(KEY,), venue=VENUE, by="apply-1")
        self.entries: dict[str, str] = {}
        """entry id -> plan_id, of every EXECUTE entry."""
        self.plans: dict[str, str] = {}
        """plan_id -> its newest entry id."""
        self.symbol_of: dict[str, str] = {}
        self.published: dict[str, dict[str, str]] = {}
        self.taken: dict[str, Taken] = {}
        self.sent: dict[str, tuple[str, Decimal]] = {}
        """plan_id -> the id of its order, and what of it was executed."""
        self.told: set[str] = set()
        """Plans whose result was written."""
        self.results: dict[str, dict[str, str]] = {}
        """Results that executed, by entry id."""
        self.told_mono_ms: dict[str, int] = {}
        """symbol -> when its last order was told, on the machine's clock."""
        self.started_mono_ms = 0
        """When this sidecar was: what was before, it knows by the server's clock alone."""
        self.expected_books = dict(self.market.amounts)
        """What was there at the start and every fill told since, each order once."""
        self.untold_rests: dict[str, list[Decimal]] = {}
        """What orders told as partly filled were filled beyond that, signed: the exchange says so when it is asked."""
        self.judge: Callable[[], None] = lambda: None
        """Called after every turn of the desk: what its verdicts rest on still stands as it was."""
        self.judge_taking: Callable[[Taken], None] = lambda taken: None
        self.forgotten: set[str] = set()
        """Plans that were taken before the server lost something: the store may not know."""
        self.losses: list[int] = []
        """When the server lost something, on the machine's clock."""
        self._names = itertools.count(1)
        self.sidecar = self.start_sidecar()

    @classmethod
    @contextlib.contextmanager
    def open(cls, **settings) -> Iterator[Town]:
        """A town whose books are open and whose symbols are free."""
        with on_clock(clock := HandClock()):
            town = cls(clock, **settings)
            town.settle_in()
            yield town

    # -- the sidecar ----------------------------------------------------------------------------------------------

    def start_sidecar(self) -> World:
        """A new process on what the store holds. An empty one is a first start: nobody can know of what was lost."""
        if not self.redis.keys("quantum:p33:*"):
            self.losses = [0] * len(self.losses)
        clock, self.started_mono_ms = self.store.server_clock(), self.clock.mono_ms
        self.market.serve(clock)
        world = World("", allowlist=LISTED, policy=self.policy, key=KEY, refresh_budget_ms=self.refresh_budget_ms,
                      link=self.store.link(), clock=clock, exchange=self.market)
        recall(world.link, world.memory, world.clock)
        self.watch = identity.Watch(world.link, world.memory, world.clock)
        self.sidecar = world
        return world

    def settle_in(self) -> None:
        """Lot rules read, two agreeing replies, books open, the first comparison done."""
        self.tend()
        for _ in range(3):
            self.poll()
            self.clock.pass_ms(600)
        self.clock.pass_ms(20_000)
        self.poll()
        self.decide()

    def poll(self) -> None:
        """A poll, and what the bookkeeper makes of it."""
        self.check()
        self.sidecar.poller.poll()
        identity.trust_again(self.sidecar.link, self.sidecar.memory)
        self.book()

    def book(self) -> None:
        self.check()
        while self.sidecar.keeper.step(block_ms=None):
            pass

    def decide(self) -> None:
        """Read what there is and issue verdicts; what waits for something goes on waiting."""
        self.check()
        quiet = 0
        while quiet < QUIET_TURNS:
            quiet = 0 if self.sidecar.desk.step(block_ms=0) else quiet + 1
            self.judge()

    def tend(self) -> None:
        """The clerk's turn, and what the bookkeeper makes of the answers it got."""
        self.check()
        self.watch.step()
        self.sidecar.clerk.step()
        self.book()

    def check(self) -> None:
        """What every turn of every loop begins with."""
        identity.check(self.sidecar.link, self.sidecar.memory, self.sidecar.clock)

    def wait(self, ms: int) -> None:
        """Time passes; polls happen when they are due, and plans that wait are looked at."""
        until = self.clock.mono_ms + ms
        while (left := until - self.clock.mono_ms) > 0:
            due_ms = self.sidecar.poller.due_in_ms()
            self.clock.pass_ms(min(max(due_ms, 1), left))
            if self.sidecar.poller.due_in_ms() == 0:
                self.poll()
            if self.sidecar.desk.waiting.jobs:
                self.decide()

    @contextlib.contextmanager
    def between_reading_and_issuing(self, act: Callable[[], None]) -> Iterator[None]:
        """What `act` does happens after the desk has decided and before its verdict reaches the store, once."""
        store, acts = self.sidecar.desk.store, [act]
        issue = store.issue

        def interrupted(*args, **options):
            if acts:
                acts.pop()()
            return issue(*args, **options)

        store.issue = interrupted
        try:
            yield
        finally:
            store.issue = issue

    @contextlib.contextmanager
    def killed_at_issuing(self, *, executed: bool) -> Iterator[None]:
        """The sidecar dies when it issues, before its verdicts reached the store or after. Raises Died."""
        store = self.sidecar.desk.store
        issue = store.issue

        def dying(*args, **options):
            if executed:
                issue(*args, **options)
            raise Died

        store.issue = dying
        try:
            yield
        finally:
            store.issue = issue

    # -- plans and their execution --------------------------------------------------------------------------------

    def publish(self, action: str, *, symbol: str = "BTCUSDT", plan_id: str = "", age_ms: int = 0) -> str:
        """A plan, made `age_ms` ago, and the Governor's permit for it."""
        plan_id = plan_id or f"plan-{next(self._names)}"
        stamp = f"{(self.clock.wall_ms - age_ms) / 1000:.3f}"
        self.symbol_of[plan_id], self.published[plan_id] = symbol, {
            "plan_id": plan_id, "symbol": symbol, "action": action, "decision": "EXECUTE", "steps": "[]",
            "close_qty": "0.0", "timestamp": stamp}
        self.publish_again(plan_id)
        return plan_id

    def publish_again(self, plan_id: str) -> None:
        """The same message once more."""
        entry = self.redis.xadd(PLANS, self.published[plan_id])
        self.entries[entry], self.plans[plan_id] = plan_id, entry
        self._govern(plan_id)

    def _govern(self, plan_id: str) -> None:
        self.redis.set(keys.governor_permit(plan_id), '{"granted":true}', px=60_000)

    def take(self, plan_id: str, *, symbol: str = "BTCUSDT", token: str = "") -> str:
        """`taken`, or the refusal."""
        entry_ms = int(self.plans[plan_id].partition("-")[0])
        answer = self.gate.take(plan_id, symbol, entry_ms=entry_ms, wait_ms=0, token=token)
        if isinstance(answer, Refused):
            return answer.named
        self.judge_taking(answer)
        self.taken[plan_id] = answer
        return "taken"

    def send(self, plan_id: str) -> None:
        """The order of a taken plan, if its permit still stands."""
        permit = self.taken[plan_id].permit
        if self.clock.wall_ms >= permit.expires_ms:
            self.told.add(plan_id)
            self.result(plan_id, symbol=permit.symbol, executed=False, status="failed", error="order_not_sent")
            return
        self.sent[plan_id] = self.market.execute(permit.symbol, permit.close_side, permit.safe_close_qty)

    def tell(self, plan_id: str, *, partly: bool = False) -> None:
        """The result of a sent order; `partly`: as seen before it was done."""
        permit, (order_id, done) = self.taken[plan_id].permit, self.sent[plan_id]
        self.told.add(plan_id)
        if not done:
            self.result(plan_id, symbol=permit.symbol, executed=False, status="failed", error="order_rejected")
            return
        said = (done / 2).quantize(Decimal("0.001")) if partly else done
        entry = self.result(plan_id, symbol=permit.symbol, side=permit.close_side, qty=text(said), order_id=order_id,
                            status="PARTIALLY_FILLED" if partly else "success")
        self.results[entry] = self.redis.xrange(RESULTS, entry, entry)[0][1]
        sign = 1 if permit.close_side == "BUY" else -1
        self.expected_books[permit.symbol] += sign * said
        if partly:
            self.untold_rests.setdefault(permit.symbol, []).append(sign * (done - said))

    def execute(self, plan_id: str, *, partly: bool = False) -> None:
        """Send a taken plan's order and say what came of it."""
        self.send(plan_id)
        if plan_id in self.sent:
            self.tell(plan_id, partly=partly)

    def result(self, plan_id: str, *, symbol: str = "BTCUSDT", side: str = "SELL", qty: str = "0", order_id: str = "",
               status: str = "success", executed: bool = True, error: str = "") -> str:
        """What an Apply Layer writes in the end."""
        step = {"step": "CLOSE", "status": status, "order_id": order_id, "side": side, "quantity": qty,
                "executed_qty": qty, "reduce_only": True}
        if executed:
            self.told_mono_ms[symbol] = self.clock.mono_ms
        return self.redis.xadd(RESULTS, {
            "plan_id": plan_id, "symbol": symbol, "decision": "EXECUTE", "executed": str(executed),
            "would_execute": "False", "steps_results": msgspec.json.encode([step]).decode(), "error": error})

    def unsent(self) -> set[str]:
        """Taken, and nothing was done about it."""
        return {plan for plan in self.taken if plan not in self.sent and plan not in self.told}

    def untold(self) -> set[str]:
        """Sent, and no result was written."""
        return {plan for plan in self.sent if plan not in self.told}

    def outstanding(self, symbol: str) -> str:
        """A plan of the symbol that was taken less than 75 s ago and has no result; empty for none."""
        since_ms = self.clock.wall_ms - self.policy.permit_ttl_ms - self.policy.cooldown_ms
        return next((plan for plan, taken in self.taken.items() if taken.symbol == symbol and taken.taken_ms > since_ms
                     and plan not in self.told | self.forgotten), "")

    # -- switches and mishaps -------------------------------------------------------------------------------------

    def halt(self, symbol: str = "") -> None:
        switches.halt(self.redis, symbol=symbol, by="operator", reason="drill", at_ms=self.clock.wall_ms)

    def resume(self, symbol: str = "") -> None:
        switches.resume(self.redis, symbol=symbol, by="operator", at_ms=self.clock.wall_ms)

    def save(self) -> None:
        self.store.save()

    def crash(self) -> None:
        """The server comes back with what was saved last."""
        self._lose()
        self.store.crash()

    def flush(self) -> None:
        self._lose()
        self.redis.flushall()

    def _lose(self) -> None:
        """That a plan was taken, or a ban told, may be forgotten."""
        self.losses.append(self.clock.mono_ms)
        self.forgotten |= set(self.taken)
        self.market.forget_told()
