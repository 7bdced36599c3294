"""What no poll sees: differences that come and go between two polls, and the orders on their way that are none."""

from __future__ import annotations

from decimal import Decimal

import pytest

from p33_pipeline.archive.trades import write_reaches
from p33_pipeline.audit.audit import audit
from p33_pipeline.audit.findings import Audit, Break
from p33_pipeline.auditing import report_of
from p33_pipeline.generator.__main__ import START_MS
from p33_pipeline.generator.deeds import DEEDS, UNSEEN
from p33_pipeline.generator.story import Slot, Story, tell
from p33_pipeline.generator.writing import write
from p33_pipeline.history import History
from p33_pipeline.report.page import page
from p33_sidecar.core.model import Policy
from p33_sidecar.core.orders import client_order_id

from .conftest import DAY_MS, MIDNIGHT_MS


def told(deed, *, start_ms: int = START_MS) -> Story:
    """One symbol, one deed."""
    return tell(3, deeds={"deed": deed}, start_ms=start_ms, symbols=1, rounds=1)


def audited(story: Story, history: History, *, from_ms: int = 0, to_ms: int = 0) -> Audit:
    return audit(history, from_ms=from_ms or story.from_ms, to_ms=to_ms or story.to_ms, policy=Policy())


def own_order(*fills_ms: int, book_after_ms: int):
    """A deed: one order of ours, half a lot a fill, each told and booked later."""
    def deed(slot: Slot):
        world, plan_id = slot.world, slot.plan_id
        half = slot.lot / 2

        def act() -> None:
            order_id, told_qty = "", Decimal(0)
            for at_ms in (slot.after(0) + ms for ms in fills_ms):
                order_id = world.trade(at_ms, slot.symbol, -half, client_order_id(plan_id), order_id=order_id)
                told_qty -= half
                result_id = world.result(at_ms + 100, plan_id, slot.symbol, told_qty, order_id, reduce_only=False)
                world.book(at_ms + book_after_ms, slot.symbol, -half, plan_id=plan_id, order_id=order_id,
                           result_id=result_id)
        return [(slot.after(0), act)], []
    return deed


@pytest.mark.parametrize("deed", UNSEEN, ids=lambda deed: deed.__name__)
def test_polls_agree_throughout_and_the_break_is_found(deed, history):
    """It opens with the trade or booking that made it and closes with the one that ended it."""
    story = told(deed)
    write(story, history)
    found, = audited(story, history).breaks
    assert story.from_ms < found.opened_ms < found.closed_ms and (found.opened_ms - story.from_ms) % 5_000
    assert found.closed_ms - found.opened_ms < 5_000 and found.notional > 0


def test_a_forged_result_of_any_size_that_is_set_right_again_is_found(history):
    """Twice in one millisecond nearly half of what the archive's columns hold."""
    def forged(slot: Slot):
        world, most = slot.world, Decimal(4) * 10 ** 19

        def act() -> None:
            before = world.holdings[slot.symbol].book.amt
            for order_id in ("777", "778"):
                at_ms = slot.after(0)
                result_id = world.result(at_ms, f"plan-{order_id}", slot.symbol, most, order_id, reduce_only=False)
                world.book(at_ms + 10, slot.symbol, most, plan_id=f"plan-{order_id}", order_id=order_id,
                           result_id=result_id)
            world.adjust(slot.after(0) + 2_000, slot.symbol, before)
        return [(slot.after(0), act)], []

    story = told(forged)
    write(story, history)
    found, = audited(story, history).breaks
    assert found.closed_ms - found.opened_ms < 5_000 and found.max_difference >= Decimal(10) ** 15
    report = report_of(history, audited(story, history), policy=Policy(), notes={})
    assert found.break_id in page(report).decode()


def test_a_round_trip_names_its_trades_and_its_amounts(history):
    """64 held, 2 sold and bought again: the exchange at its worst against what the books said."""
    story = told(DEEDS["round_trip"])
    write(story, history)
    found, = audited(story, history).breaks
    assert (found.exchange_amt, found.ledger_amt, found.redis_amt, found.max_difference) == (62, 64, 64, 2)
    assert (len(found.evidence.trade_ids), len(found.evidence.order_ids)) == (2, 2)
    assert found.closed_ms - found.opened_ms == 1_500


@pytest.mark.parametrize(("fills_ms", "book_after_ms"), [((0,), 200), ((0,), 3_900), ((0, 900, 1_800), 200),
                                                         ((0, 1_000), 1_500)])
def test_an_order_on_its_way_is_no_difference(history, fills_ms, book_after_ms):
    """In one fill or several, booked between the two polls: the accounts follow, that is all."""
    story = told(own_order(*fills_ms, book_after_ms=book_after_ms))
    write(story, history)
    assert audited(story, history).breaks == ()


def test_midnight_between_the_two_trades_is_the_same_break_in_both_days(history):
    """And a break whose closing poll belongs to the next day is not lost between the days."""
    story = told(DEEDS["round_trip"], start_ms=MIDNIGHT_MS + DAY_MS - 17_000)
    write(story, history)
    ranges = ((MIDNIGHT_MS, MIDNIGHT_MS + DAY_MS), (MIDNIGHT_MS + DAY_MS, MIDNIGHT_MS + 2 * DAY_MS))
    one, two = (audited(story, history, from_ms=a, to_ms=b).breaks for a, b in ranges)
    assert one == two and len(one) == 1 and one[0].opened_ms < ranges[1][0] < one[0].closed_ms


def test_the_last_gap_of_a_day_is_judged_by_the_next_days_poll(history):
    """There and back before midnight, seen through by no poll of that day any more."""
    story = told(DEEDS["round_trip"], start_ms=MIDNIGHT_MS + DAY_MS - 18_000)
    write(story, history)
    found: tuple[Break, ...] = audited(story, history, from_ms=MIDNIGHT_MS, to_ms=MIDNIGHT_MS + DAY_MS).breaks
    assert [b.closed_ms - MIDNIGHT_MS - DAY_MS for b in found] == [-500]


def test_without_the_exchanges_record_nothing_is_said(history):
    """No credentials, no trades: a booking without its trade is then no difference."""
    story = told(DEEDS["slip_of_the_pen"])
    write(story, history)
    write_reaches(history, {})
    assert audited(story, history).breaks == ()
