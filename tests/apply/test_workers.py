"""Lines by symbol and the reader that fills them: nobody waits for another symbol, and nothing is left pending."""

from __future__ import annotations

import threading

import pytest

from p33_sidecar.apply.layer import Entry
from p33_sidecar.apply.reader import PlanReader
from p33_sidecar.apply.workers import Lines
from p33_sidecar.core.plan import plan_of
from p33_sidecar.store import keys
from p33_sidecar.store.connect import ServerClock
from tests.apply.shop import DEADLINE_S, PLANS, Shop, until


def entry(number: int, symbol: str) -> Entry:
    plan = plan_of({"plan_id": f"plan-{number}", "symbol": symbol}, entry_ms=number)
    return Entry(f"{number}-0", plan)


class Handler:
    """Notes what it is given; holds the entries of `held` symbols until told otherwise; fails where it is to."""

    def __init__(self, *held: str) -> None:
        self.gates = {symbol: threading.Event() for symbol in held}
        self.began: list[str] = []
        self.done: list[str] = []
        self.fails: dict[str, int] = {}

    def __call__(self, given: Entry) -> None:
        self.began.append(given.entry_id)
        if gate := self.gates.get(given.plan.symbol):
            assert gate.wait(DEADLINE_S)
        if self.fails.get(given.plan.plan_id, 0):
            self.fails[given.plan.plan_id] -= 1
            raise OSError("no")
        self.done.append(given.entry_id)


@pytest.mark.parametrize("others", [1, 150])
def test_waiting_for_one_symbol_never_delays_another(others: int):
    """However many wait, the next symbol's plan is handled."""
    handler = Handler(*[f"WAIT{number}" for number in range(others)])
    lines = Lines(handler)
    for number in range(others):
        lines.put(entry(number, f"WAIT{number}"))
    until(lambda: len(handler.began) == others)
    lines.put(entry(9_000, "BTCUSDT"))
    until(lambda: handler.done == ["9000-0"])
    for gate in handler.gates.values():
        gate.set()
    lines.close()
    assert len(handler.done) == others + 1 and lines.count() == 0


def test_plans_of_one_symbol_keep_their_order():
    """The second is not begun before the first is done, and an entry that is in hand is not taken in twice."""
    handler = Handler("BTCUSDT")
    lines = Lines(handler)
    for number in (1, 2, 3, 2, 1):
        lines.put(entry(number, "BTCUSDT"))
    until(lambda: handler.began)
    assert (handler.began, lines.count(), lines.plans()) == (["1-0"], 3, {"plan-1", "plan-2", "plan-3"})
    handler.gates["BTCUSDT"].set()
    until(lambda: lines.count() == 0)
    assert handler.done == ["1-0", "2-0", "3-0"]
    lines.close()


def test_closing_finishes_what_is_handled_and_leaves_the_rest():
    """SIGTERM: the plan in hand is seen through; those behind it stay pending for the next life."""
    handler = Handler("BTCUSDT")
    lines = Lines(handler)
    lines.put(entry(1, "BTCUSDT"))
    lines.put(entry(2, "BTCUSDT"))
    until(lambda: handler.began)
    closing = threading.Thread(target=lines.close)
    closing.start()
    until(lambda: lines.closed)
    handler.gates["BTCUSDT"].set()
    closing.join(DEADLINE_S)
    lines.put(entry(3, "BTCUSDT"))
    assert (handler.done, lines.count()) == (["1-0"], 0)


class Reading:
    """A reader on a real stream, its steps driven by hand and its seconds counted by us."""

    def __init__(self, shop: Shop, handler: Handler, instance: str = "apply-1") -> None:
        self.now_s, self.passed = 0.0, 0
        self.lines = Lines(handler)
        self.reader = PlanReader(shop.store(instance), self.lines, ServerClock(), wait_ms=1200,
                                 passed_over=self.pass_over, mono_s=lambda: self.now_s)

    def pass_over(self) -> None:
        self.passed += 1

    def step(self, *, after_s: float = 0.0) -> None:
        self.now_s += after_s
        self.reader.step(block_ms=1)
        until(lambda: self.lines.count() == 0)


@pytest.fixture
def handler() -> Handler:
    return Handler()


def test_a_plan_that_failed_is_tried_again_in_this_life(shop: Shop, handler: Handler):
    """It stays pending, is read again after a second, and once more, until it is done."""
    reading = Reading(shop, handler)
    reading.step()
    handler.fails["again"] = 2
    first = shop.publish("again").entry_id
    reading.step()
    assert (handler.began, handler.done) == ([first], [])
    reading.step(after_s=0.5)
    assert len(handler.began) == 1, "not before its time"
    reading.step(after_s=0.6)
    reading.step(after_s=1.1)
    assert (handler.began, handler.done) == ([first] * 3, [first])


def test_what_was_handed_out_before_comes_marked_so(shop: Shop):
    """Pending at the start is an earlier life's: its order may be at the exchange."""
    entries: list[Entry] = []
    for known in (False, True):
        reading = Reading(shop, entries.append)
        if not known:
            reading.step()
            shop.publish("plan")
        reading.step()
    assert [given.again for given in entries] == [False, True]


def test_only_a_dead_consumers_entries_are_claimed(shop: Shop, handler: Handler):
    """Those it left for 30 s; a consumer that lives renews its own by looking at them."""
    dead, alive = Reading(shop, Handler(), "dead"), Reading(shop, handler, "alive")
    dead.step()
    left = shop.publish("left").entry_id
    dead.step()
    alive.step(after_s=11)
    assert handler.done == []
    shop.redis.xclaim(PLANS, keys.APPLY_GROUP, "dead", 0, [left], idle=31_000)
    alive.step(after_s=11)
    assert handler.done == [left]
    shop.redis.xclaim(PLANS, keys.APPLY_GROUP, "dead", 0, [left], idle=31_000)
    dead.step(after_s=11)
    idle_ms = shop.redis.xpending_range(PLANS, keys.APPLY_GROUP, "-", "+", 1)[0]["time_since_delivered"]
    assert idle_ms < 31_000


def test_a_deleted_stream_or_group_is_made_again(shop: Shop, handler: Handler):
    """An operator's DEL: from the oldest plan that may still be answered."""
    reading = Reading(shop, handler)
    early = shop.publish("early").entry_id
    reading.step()
    reading.step()
    assert handler.done == [early]
    shop.redis.delete(PLANS)
    reading.step()
    later = shop.publish("later").entry_id
    reading.step()
    shop.redis.xgroup_destroy(PLANS, keys.APPLY_GROUP)
    reading.step()
    reading.step()
    assert handler.done == [early, later, later]


def test_what_is_no_plan_for_us_is_acknowledged_and_counted(shop: Shop, handler: Handler):
    """Not EXECUTE, or a message that names no plan: the sidecar records those; nothing is left pending."""
    reading = Reading(shop, handler)
    reading.step()
    shop.publish("quiet", decision="SKIP")
    shop.redis.xadd(PLANS, {"plan_id": "bad id", "symbol": "BTCUSDT", "decision": "EXECUTE"})
    shop.redis.xadd(PLANS, {"some": "thing"})
    gone = shop.publish("gone").entry_id
    shop.redis.xreadgroup(keys.APPLY_GROUP, "apply-1", {PLANS: ">"}, count=10)
    shop.redis.xdel(PLANS, gone)
    reading.step(after_s=11)
    assert (handler.began, reading.passed) == ([], 4)
    assert shop.redis.xpending(PLANS, keys.APPLY_GROUP)["pending"] == 0
