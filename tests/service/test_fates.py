"""Orders whose fate is open, asked for over HTTP at the simulated exchange: every bad answer leaves them open."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from p33_sidecar.core.quantity import text
from p33_sidecar.exchange import Credentials, Exchange, OrderState
from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.store import keys
from p33_sidecar.store.positions import RedisBans
from tests.service.keeping import Keeping


@pytest.fixture(scope="module")
def sim() -> Iterator[SimExchange]:
    with SimExchange(symbols=3, positions={"BTCUSDT": "0.038"}) as running:
        yield running


@pytest.fixture
def keeping(redis_url: str, sim: SimExchange) -> Iterator[Keeping]:
    """BTCUSDT at 0.038 in the book and on the exchange, asked over a real connection."""
    sim.reset()
    built = Keeping(redis_url).opened("0.038")
    exchange = Exchange(sim.url, credentials=Credentials(sim.api_key, sim.api_secret), bans=RedisBans(built.redis),
                        now_ms=sim.now_ms)
    built.exchange = built.clerk.exchange = built.clerk.fates.exchange = exchange
    yield built
    exchange.close()
    built.close()


def sent(keeping: Keeping, sim: SimExchange, qty: str = "0.028") -> OrderState:
    """An order of plan p1, and the result an Apply Layer writes of its answer."""
    order = keeping.exchange.close_market("BTCUSDT", side="SELL", quantity=Decimal(qty), client_order_id="p33-p1",
                                          recv_window_ms=5000, timestamp_ms=sim.now_ms())
    keeping.result(text(order.executed_qty), order_id=order.order_id, status=order.status)
    keeping.book()
    return order


def asked(keeping: Keeping) -> int:
    """Ask again, now; how many orders are still open."""
    keeping.clock.pass_ms(60_000)
    return keeping.look_up().line().unsettled


def test_t21_an_order_that_expired_with_a_part_is_settled_by_the_exchange(keeping: Keeping, sim: SimExchange) -> None:
    """A market order finds 0.004 and the rest expires: booked as told, open until asked, and the two accounts agree."""
    sim.set_liquidity("BTCUSDT", "0.004")
    order = sent(keeping, sim)
    assert (order.status, keeping.amt(), keeping.line().unsettled) == ("EXPIRED", "0.034", 1)
    assert asked(keeping) == 0
    assert keeping.amt() == text(sim.position_amt("BTCUSDT")) == "0.034"


@pytest.mark.parametrize("fault", ["http_408", "http_502", "http_504", "drop", "html_200", "empty_200", "error_200",
                                   "http_503_b", "http_503_c", "truncated", "reject"])
def test_i30_an_answer_that_is_none_settles_nothing(keeping: Keeping, sim: SimExchange, fault: str) -> None:
    """Told without a quantity; the bad answer leaves it open, the next good one books it."""
    order = keeping.exchange.close_market("BTCUSDT", side="SELL", quantity=Decimal("0.028"), client_order_id="p33-p1",
                                          recv_window_ms=5000, timestamp_ms=sim.now_ms())
    keeping.result("0", order_id=order.order_id, status="NEW")
    sim.fault(fault, "GET order")
    keeping.book().look_up()
    assert (keeping.amt(), keeping.line().unsettled) == ("0.038", 1)
    assert asked(keeping) == 0
    assert keeping.amt() == "0.01"


def test_an_order_told_of_without_its_id_is_found_by_its_client_id(keeping: Keeping, sim: SimExchange) -> None:
    """Executed, and not a word more: plan p1's client id leads to it."""
    order = keeping.exchange.close_market("BTCUSDT", side="SELL", quantity=Decimal("0.028"), client_order_id="p33-p1",
                                          recv_window_ms=5000, timestamp_ms=sim.now_ms())
    keeping.redis.xadd(keeping.store.stream, {"plan_id": "p1", "symbol": "BTCUSDT", "executed": "1"})
    keeping.book().look_up()
    assert (keeping.amt(), keeping.line().unsettled) == ("0.01", 0)
    assert keeping.journal("fill")[-1]["order_id"] == order.order_id


def test_an_order_the_exchange_does_not_know_stays_open(keeping: Keeping, sim: SimExchange) -> None:
    """-2013 may mean not yet visible; a symbol it does not list is no answer either."""
    keeping.result("0", order_id="1", plan_id="nobody", status="NEW")
    keeping.result("0", order_id="2", symbol="NOSUCHUSDT", plan_id="nobody2", status="NEW")
    assert [asked(keeping) for _ in range(3)] == [1, 1, 1]
    assert keeping.redis.hlen(keys.UNSETTLED) == 2


def test_an_order_that_cannot_even_be_asked_for_is_said_once(keeping: Keeping, sim: SimExchange) -> None:
    """An id that is none of the exchange's: its symbol is denied until a person settles it, who must hear of it."""
    keeping.result("0", order_id="abc-7", plan_id="odd", status="NEW")
    keeping.book().look_up()
    assert ("anomaly", "order_not_found") not in keeping.hooks.seen
    assert [asked(keeping) for _ in range(3)] == [1, 1, 1]
    assert keeping.hooks.seen.count(("anomaly", "order_not_found")) == 1


def test_many_open_orders_are_asked_for_a_few_at_a_time(keeping: Keeping, sim: SimExchange) -> None:
    """A stream full of old orders takes its turn behind the polls: three questions a turn, everyone's turn comes."""
    for number in range(10):
        keeping.result("0", order_id=str(100 + number), plan_id=f"old{number}", status="NEW")
    keeping.book()
    before = sim.request_count("order")
    counts = []
    for _ in range(4):
        keeping.look_up()
        counts.append(sim.request_count("order") - before)
    assert counts == [3, 6, 9, 10]
