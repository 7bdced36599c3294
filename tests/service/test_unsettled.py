"""Orders whose end is not known: what they book, and how the exchange is asked until it says so."""

from __future__ import annotations

import pytest

from p33_sidecar.store import keys
from tests.service.keeping import DAY_MS, Keeping


def test_i30_an_order_without_a_quantity_books_nothing_until_the_exchange_says_so(opened: Keeping) -> None:
    """NEW with executedQty 0: asked for at once, again while it is open, and booked when it has ended."""
    opened.result("0", status="NEW")
    opened.ended("0.004", status="NEW", terminal=False)
    opened.book().look_up()
    assert (opened.amt(), opened.line().unsettled) == ("0.038", 1)
    opened.ended("0.028")
    opened.look_up()
    assert opened.line().unsettled == 1, "asked again before its time"
    opened.clock.pass_ms(500)
    opened.look_up()
    assert (opened.amt(), opened.line().unsettled, opened.memory.unsettled) == ("0.01", 0, 0)


@pytest.mark.parametrize("status", ["EXPIRED_IN_MATCH", "EXPIRED", "CANCELED"])
def test_x23_t21_a_part_is_settled_by_the_exchange_alone(opened: Keeping, status: str) -> None:
    """PARTIALLY_FILLED 0.004 and nothing more: the final total is booked, whatever the end is called."""
    opened.result("0.004", status="PARTIALLY_FILLED")
    opened.ended("0.010", status=status)
    opened.book().look_up()
    assert (opened.amt(), opened.line().unsettled) == ("0.028", 0)
    assert opened.journal("fill")[-1]["why"] == f"looked up: {status}"


def test_x23_an_unknown_status_is_not_an_end(opened: Keeping) -> None:
    """Neither in a result nor at the exchange."""
    opened.result("0.004", status="SOMETHING_NEW")
    opened.ended("0.004", status="SOMETHING_NEW", terminal=False)
    for _ in range(4):
        opened.book().look_up()
        opened.clock.pass_ms(60_000)
    assert (opened.amt(), opened.line().unsettled) == ("0.034", 1)


def test_an_order_that_is_not_found_is_asked_for_and_said_once(opened: Keeping) -> None:
    """Not found may mean not yet visible: less and less often, aloud after a minute, over when it is too old to be."""
    opened.result("0", order_id="", status="NEW")
    for _ in range(40):
        opened.book().look_up()
        opened.clock.pass_ms(31_000)
    assert opened.line().unsettled == 1
    assert opened.hooks.seen.count(("anomaly", "order_not_found")) == 1
    opened.clock.pass_ms(3 * DAY_MS)
    opened.look_up()
    assert (opened.amt(), opened.line().unsettled) == ("0.038", 0)


def test_an_order_without_id_is_asked_for_by_the_client_id_of_its_plan(opened: Keeping) -> None:
    """And the id the exchange gives it is a name of it from then on."""
    opened.result("0", order_id="", plan_id="f1a8")
    opened.ended("0.028", order_id="55", client_id="p33-f1a8")
    opened.book().look_up()
    opened.result(order_id="55", plan_id="")
    opened.book()
    assert opened.amt() == "0.01"


def test_a_failing_exchange_leaves_the_order_open(opened: Keeping) -> None:
    """No answer settles nothing; the next one does, also in another process."""
    opened.result("0.004", status="PARTIALLY_FILLED")
    opened.ended("0.010")
    opened.book()
    opened.clerk.step()
    second = opened.again()
    second.book().look_up()
    assert (second.amt(), second.line().unsettled) == ("0.028", 0)
    opened.book()
    assert (opened.amt(), opened.line().unsettled) == ("0.028", 0), "the same answer twice is one booking"
    second.close()


def test_an_order_missing_from_the_list_is_listed_again_at_the_start(opened: Keeping) -> None:
    """Somebody deleted the list, or spoiled an entry of it: the book still says that it waits."""
    opened.result("0.004", status="PARTIALLY_FILLED")
    opened.result("10", status="PARTIALLY_FILLED", symbol="TRXUSDT", order_id="9")
    opened.book()
    opened.redis.hset(keys.UNSETTLED, "BTCUSDT id 8389765", "{")
    opened.redis.hdel(keys.UNSETTLED, "TRXUSDT id 9")
    second = opened.again()
    second.ended("0.010")
    second.book().look_up()
    assert (second.amt(), second.line().unsettled, second.line("TRXUSDT").unsettled) == ("0.028", 0, 1)
    assert [order.key for order in second.store.unsettled()] == ["id 9"]
    second.close()


def test_a_list_that_is_deleted_while_it_runs_is_made_again(opened: Keeping) -> None:
    """The books wait for more than is listed: they are read again, and the order is asked for after all."""
    opened.result("0.004", status="PARTIALLY_FILLED")
    opened.ended("0.010")
    opened.book()
    opened.redis.delete(keys.UNSETTLED)
    opened.look_up()
    opened.clock.pass_ms(500)
    opened.look_up()
    assert (opened.amt(), opened.line().unsettled) == ("0.028", 0)
