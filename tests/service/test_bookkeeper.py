"""Results become bookings on a real server: in order, once, whatever they look like and however often they come."""

from __future__ import annotations

import msgspec
import pytest

from p33_sidecar.store import keys
from tests.service.keeping import DAY_MS, Keeping
from tests.service.world import RESULTS

# -- once -----------------------------------------------------------------------------------------------------


def test_i29_a_result_delivered_five_times_and_after_a_restart_books_once(opened: Keeping) -> None:
    """One fill of 0.028, told again by every poll: 0.038 becomes 0.010 and stays, and the cooldown is not restarted."""
    opened.result(at_ms=opened.clock.ms)
    opened.book()
    first = opened.ledger()
    for _ in range(5):
        opened.clock.pass_ms(2_000)
        opened.result()
    opened.book()
    second = opened.again()
    second.result()
    second.book()
    assert second.amt() == "0.010".rstrip("0")
    assert second.ledger()["last_order_time_ms"] == first["last_order_time_ms"]
    assert len(second.journal("fill")) == 1
    second.close()


def test_i34_neither_adoption_nor_renewal_restarts_the_cooldown(opened: Keeping) -> None:
    """The last order is an order's: views are renewed and rebuilt for an hour and it stays where it was."""
    opened.result()
    opened.book()
    before = opened.ledger()
    for _ in range(4):
        opened.clock.pass_ms(900_000)
        opened.redis.delete(keys.ledger("BTCUSDT"))
        opened.poll("0.01", TRXUSDT="120")
    assert opened.ledger() == before


def test_i35_totals_of_one_order_add_up_to_the_largest(opened: Keeping) -> None:
    """PARTIALLY_FILLED 0.004, then FILLED 0.010, then the part again: 0.010 in all, and the symbol is settled."""
    opened.result("0.004", status="PARTIALLY_FILLED")
    opened.book()
    assert (opened.amt(), opened.line().unsettled) == ("0.034", 1)
    opened.result("0.010", status="FILLED")
    opened.result("0.004", status="PARTIALLY_FILLED")
    opened.book()
    assert (opened.amt(), opened.line().unsettled) == ("0.028", 0)
    assert opened.redis.hlen(keys.UNSETTLED) == 0


def test_i35_mark_amount_journal_view_and_cursor_are_one_step(opened: Keeping) -> None:
    """One command between the reading and the next entry; all of it is there afterwards."""
    entry = opened.result()
    opened.book()
    assert opened.redis.hget(keys.CURSOR, RESULTS) == f"{entry} 1"
    (fill,) = opened.journal("fill")
    assert (fill["result_id"], fill["order_id"], fill["plan_id"], fill["rev"]) == (entry, "8389765", "p1", 2)
    assert msgspec.json.decode(opened.redis.hget(keys.orders("BTCUSDT"), "id 8389765"))["booked_qty"] == "0.028"
    assert opened.redis.hget(keys.orders("BTCUSDT"), "plan p1 CLOSE_PARTIAL_75") == "@id 8389765"
    assert opened.ledger() == {
        "last_known_amt": "0.01", "last_known_side": "LONG", "last_order_id": "8389765", "rev": "2", "source": "fill",
        "last_order_time_epoch": str(opened.clock.ms // 1000), "last_order_time_ms": str(opened.clock.ms),
        "last_update_ts": str(opened.clock.ms // 1000)}


def test_t07_the_same_order_id_on_two_symbols_is_two_orders(opened: Keeping) -> None:
    """BTCUSDT order 8389765, then TRXUSDT order 8389765: both booked."""
    opened.result()
    opened.result("61", symbol="TRXUSDT")
    opened.book()
    assert (opened.amt(), opened.amt("TRXUSDT")) == ("0.01", "59")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_message_that_adds_the_id_is_the_same_fill(opened: Keeping, order: tuple[int, int]) -> None:
    """Without it and with it, in whatever order, across a restart."""
    for index in order:
        opened.result(order_id=("", "8389765")[index])
        opened.book()
        opened = opened.again()
    assert opened.amt() == "0.01"
    opened.close()


@pytest.mark.parametrize(("side", "amt", "qty", "after"), [
    ("BUY", "0", "0.637", "0.637"), ("BUY", "-0.012", "0.012", "0"), ("BUY", "-0.012", "0.006", "-0.006"),
    ("SELL", "0.010", "0.030", "-0.02"),
])
def test_i32_i33_signed_arithmetic(keeping: Keeping, side: str, amt: str, qty: str, after: str) -> None:
    """Openings, reductions, turns and shorts alike, where nothing is said of reduce-only."""
    keeping.opened(amt).result(qty, side=side, reduce_only=False)
    keeping.book()
    assert keeping.amt() == after
    assert keeping.ledger()["last_known_side"] == ("NONE" if after == "0" else "SHORT" if after[0] == "-" else "LONG")


def test_i32_a_reduce_only_fill_stops_at_zero_and_says_so(opened: Keeping) -> None:
    """Beyond zero there is nothing to reduce: zero, an anomaly in the journal and in the metrics."""
    opened.result("0.050")
    opened.book()
    assert opened.amt() == "0"
    assert opened.journal("fill")[0]["anomaly"] == "reduce_only_beyond_zero"
    assert ("anomaly", "reduce_only_beyond_zero") in opened.hooks.seen


def test_i36_the_book_never_expires_and_a_deleted_hash_is_rebuilt_from_it(opened: Keeping) -> None:
    """The hash has a life, the book has none; the next fill counts from the book and not from zero."""
    assert opened.redis.ttl(keys.book("BTCUSDT")) == -1
    assert 0 < opened.redis.pttl(keys.ledger("BTCUSDT")) <= 86_400_000
    opened.redis.delete(keys.ledger("BTCUSDT"))
    opened.result()
    opened.book()
    assert opened.amt() == "0.01"
    before = opened.ledger()
    opened.redis.delete(keys.ledger("BTCUSDT"))
    opened.clock.pass_ms(20_000)
    opened.book()
    assert opened.ledger() == before


def test_i39_every_successful_step_is_booked(opened: Keeping) -> None:
    """Two fills and two failures in one message, executed: two fills."""
    steps = [{"step": str(n), "status": status, "order_id": n, "side": "SELL", "executed_qty": 0.001}
             for n, status in enumerate(("success", "failed", "not_implemented", "FILLED"), start=1)]
    opened.result(steps_results=msgspec.json.encode(steps).decode())
    opened.book()
    assert opened.amt() == "0.036"


# -- what cannot be understood -------------------------------------------------------------------------------


def test_what_cannot_be_understood_is_recorded_whole_and_passed_over(opened: Keeping) -> None:
    """With its reason, once; what follows is booked."""
    spoilt = opened.result(steps_results="[{")
    opened.result("nan", order_id="9")
    opened.redis.xadd(RESULTS, {"nothing": "at all"})
    opened.result()
    opened.book()
    assert opened.amt() == "0.01"
    kept = opened.records(keys.REJECTED)
    assert [record["reason"] for record in kept] == ["unreadable_steps", "unreadable_quantity", "missing_symbol"]
    assert kept[0]["id"] == spoilt
    assert kept[0]["message"]["steps_results"] == "[{"
    assert ("rejected", "result", "unreadable_steps") in opened.hooks.seen


def test_bytes_that_are_no_text_are_recorded_too(opened: Keeping) -> None:
    """A message in any encoding is refused by name, and nothing stops."""
    opened.redis.xadd(RESULTS, {"symbol": "BTCUSDT", "plan_id": "p", "executed": "True",
                                "steps_results": b'[{"step":"\xff\xfe","status":"success"}]'})
    opened.result()
    opened.book()
    assert opened.amt() == "0.01"
    assert [record["reason"] for record in opened.records(keys.REJECTED)] == ["unreadable_steps"]


# -- the horizon ---------------------------------------------------------------------------------------------


def test_old_orders_are_forgotten_and_never_booked_twice(opened: Keeping) -> None:
    """A fortnight on the hash is empty again; the same result delivered anew is late, one of today is booked."""
    stamp = str(opened.clock.ms // 1000)
    opened.result(timestamp=stamp)
    opened.result("0.001", order_id="9", status="PARTIALLY_FILLED", timestamp=stamp)
    opened.book()
    opened.clock.pass_ms(14 * DAY_MS + 7_200_000)
    for _ in range(3):
        opened.clerk.step()
    left = opened.redis.hkeys(keys.orders("BTCUSDT"))
    assert "id 9" in left, "it is not settled"
    assert not [name for name in left if "8389765" in name or name.startswith("plan p1 CLOSE") and "9" not in name]
    opened.result(timestamp=stamp)
    opened.result(timestamp=stamp)
    opened.book()
    assert opened.amt() == "0.009"
    assert [entry["anomaly"] for entry in opened.journal("late")] == ["late_result"]
    opened.result("0.002", order_id="10", plan_id="p2", timestamp=str(opened.clock.ms // 1000))
    opened.book()
    assert opened.amt() == "0.007"


def test_orders_told_of_lately_are_kept(opened: Keeping) -> None:
    """A result that keeps being delivered keeps its order known, however old it is."""
    stamp = str(opened.clock.ms // 1000)
    opened.result(timestamp=stamp)
    opened.book()
    for _ in range(10):
        opened.clock.pass_ms(4 * DAY_MS)
        opened.result(timestamp=stamp)
        opened.book()
        opened.clerk.step()
    assert opened.amt() == "0.01"
    assert opened.journal("late") == []
    assert opened.redis.hexists(keys.orders("BTCUSDT"), "id 8389765")
