"""A server's clock that was wrong for a while (timeline T13): what is due is not put off until that time comes again.

Every schedule of the loops, set while the clock was an hour ahead and looked at when it is right; and a plan that waits
while the clock is set back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest

from p33_sidecar.core.model import Policy
from p33_sidecar.errors import ExchangeUnavailable
from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.store.connect import server_ms
from tests.service.keeping import Keeping
from tests.service.over_http import closed, served
from tests.service.world import BTC, PLANS, World

HOUR_MS, MONTH_MS = 3_600_000, 30 * 86_400_000
DEADLINE_S = 60


@pytest.fixture
def hasty(redis_url: str) -> Iterator[World]:
    """Any snapshot is stale to it, and a refresh is waited for for 50 ms."""
    built = World(redis_url, policy=Policy(stale_threshold_ms=1, cooldown_ms=0, poll_ms=500), refresh_budget_ms=50)
    yield built.open_books()
    built.close()


def an_hour_ahead(keeping: Keeping) -> None:
    """The clerk's turn while the clock is wrong; then it is right again, and a second goes by."""
    keeping.clock.ms += HOUR_MS
    keeping.look_up()
    keeping.clock.ms -= HOUR_MS
    keeping.clock.pass_ms(1_000)


def test_t13_an_order_asked_for_by_a_wrong_clock_is_asked_for_again(keeping: Keeping) -> None:
    """Not found while the clock was ahead: a second later it is asked for again, and its fill is booked."""
    keeping.opened("0.038").result("0", status="NEW")
    keeping.book()
    an_hour_ahead(keeping)
    keeping.ended("0.028")
    keeping.look_up()
    assert (keeping.amt(), keeping.line().unsettled) == ("0.01", 0)


def test_t13_lot_rules_that_failed_by_a_wrong_clock_are_read_again(
        keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first reading fails while the clock is ahead; five seconds later they are there."""
    def fails() -> None:
        raise ExchangeUnavailable("timeout")

    with monkeypatch.context() as patched:
        patched.setattr(keeping.exchange, "filters", fails)
        an_hour_ahead(keeping)
    keeping.clock.pass_ms(5_000)
    keeping.look_up()
    assert keeping.memory.filters and "BTCUSDT" in keeping.memory.filters


def test_t13_lot_rules_read_by_a_wrong_clock_are_not_believed_for_longer(keeping: Keeping) -> None:
    """Read while the clock was ahead, they are read again when it is right: the symbol is halted there meanwhile."""
    an_hour_ahead(keeping)
    keeping.exchange.lot_rules["BTCUSDT"] = msgspec.structs.replace(BTC, status="SETTLING", min_qty=Decimal(1))
    keeping.clock.pass_ms(5_000)
    keeping.look_up()
    assert keeping.memory.filters["BTCUSDT"].status == "SETTLING"


def test_t13_what_a_dead_consumer_left_is_claimed_after_a_wrong_clock(ready: World) -> None:
    """Looked for while the clock was ahead, and again when it is right: the entry gets its verdict."""
    ready.clock.sync(server_ms(ready.redis) + HOUR_MS)
    ready.decide()
    ready.clock.sync(server_ms(ready.redis))
    plan_id = ready.publish()
    ((_, ((entry_id, _),)),) = ready.redis.xreadgroup("p33", "dead", {PLANS: ">"})
    ready.redis.xclaim(PLANS, "p33", "dead", 0, [entry_id], idle=60_000)
    ready.decide()
    assert ready.verdict(plan_id) != "NONE"


def test_t13_a_plan_that_waits_while_the_clock_is_set_back_gets_its_verdict(hasty: World) -> None:
    """A stale snapshot, no refresh, and an hour less on the clock: the wait is over when its time went by."""
    hasty.exchange.failure = "timeout"
    hasty.decide()
    plan_id = hasty.publish()
    hasty.desk.step(block_ms=1)
    assert hasty.desk.waiting.jobs and hasty.verdict(plan_id) == "NONE"
    hasty.clock.sync(server_ms(hasty.redis) - HOUR_MS)
    deadline_s = time.monotonic() + DEADLINE_S
    while hasty.verdict(plan_id) == "NONE" and time.monotonic() < deadline_s:
        hasty.desk.step(block_ms=1)
    assert hasty.verdict(plan_id) == "stale_exchange_state"


def look_up_a_month_ahead(keeping: Keeping) -> None:
    """The clerk's turn, by a clock that is right again after it."""
    keeping.clock.ms += MONTH_MS
    keeping.look_up()
    keeping.clock.ms -= MONTH_MS


def test_t13_a_clock_a_month_ahead_forgets_no_order(keeping: Keeping) -> None:
    """What is done for good goes by the exchange's time: an order of today stays known, and a new one is not late."""
    keeping.opened("0.038").result("0.010", order_id="1")
    keeping.book()
    look_up_a_month_ahead(keeping)
    keeping.result("0.010", order_id="1")
    keeping.result("0.008", order_id="2", plan_id="p2", timestamp=str(keeping.clock.ms // 1000))
    keeping.book()
    assert keeping.amt() == "0.02" and [entry["cause"] for entry in keeping.journal()] == ["opening", "fill", "fill"]


def test_t13_a_clock_a_month_ahead_is_no_reason_to_give_an_order_up(keeping: Keeping) -> None:
    """The exchange does not find it yet. Three days later it would be over; by a wrong clock it is not."""
    keeping.opened("0.038").result("0", status="NEW")
    keeping.book()
    look_up_a_month_ahead(keeping)
    assert keeping.line().unsettled == 1


def test_t13_the_exchanges_time_is_what_it_took_for_a_request(redis_url: str, sim: SimExchange) -> None:
    """A clock that is a month ahead at a poll is refused, measured, and known to be; also later, without a poll."""
    world = served(redis_url, sim)
    sim.set_clock_offset(-MONTH_MS)
    world.poll()
    now_ms, later_ns = world.clock.now_ms(), world.clock.mono_ns() + 5_000_000_000
    sure_ms = world.memory.confirmed_ms(now_ms=now_ms + MONTH_MS, mono_ns=later_ns)
    assert abs(sure_ms - (sim.now_ms() + 5_000)) < HOUR_MS
    assert world.memory.confirmed_ms(now_ms=now_ms - 2 * MONTH_MS, mono_ns=later_ns) == now_ms - 2 * MONTH_MS
    closed(world)


def test_before_the_first_good_poll_nothing_is_old(world: World) -> None:
    """Nobody has confirmed the time; where nobody can be asked, the server's own has to do."""
    assert world.memory.confirmed_ms(now_ms=MONTH_MS, mono_ns=0) == 0
    world.memory.configured = False
    assert world.memory.confirmed_ms(now_ms=MONTH_MS, mono_ns=0) == MONTH_MS
