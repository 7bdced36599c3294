"""The ledger's arithmetic: signed, idempotent, independent of the order of messages."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p33_sidecar.core.ledger import OrderMark, OrderReport, book_order, contain_order

QTY = st.decimals(min_value=0, max_value=10**9, places=8)
AMT = st.decimals(min_value=-10**9, max_value=10**9, places=8)
SIDE = st.sampled_from(["BUY", "SELL"])


def report(side: str, qty: str | Decimal, *, key: str = "1", settled: bool = True, reduce_only: bool = False):
    return OrderReport(names=(f"id {key}",), side=side, executed_qty=Decimal(qty), settled=settled,
                       reduce_only=reduce_only, order_id=key)


def booked(amt: str | Decimal, *reports: OrderReport):
    """(amount, marks, anomalies, deltas) after the reports, each booked on what is known of its order."""
    now, marks, anomalies, deltas = Decimal(amt), {}, [], []
    for one in reports:
        result = book_order(now, one, before=marks.get(one.order_id), plan_id="p", seen_ms=1)
        now, marks[one.order_id] = result.amt_after, result.mark
        deltas.append(result.delta)
        anomalies += [result.anomaly] if result.anomaly else []
    return now, marks, anomalies, deltas


@pytest.mark.parametrize(("amt", "side", "qty", "after"), [
    ("0", "BUY", "0.637", "0.637"), ("-0.012", "BUY", "0.012", "0"), ("0.038", "SELL", "0.028", "0.010"),
    ("0.010", "SELL", "0.030", "-0.020"), ("0", "SELL", "1", "-1"),
])
def test_i32_signed_arithmetic(amt, side, qty, after):
    """The ledger understands openings, reductions and turns alike."""
    assert booked(amt, report(side, qty))[0] == Decimal(after)


def test_i33_buying_back_half_a_short():
    """SHORT -0.012, BUY 0.006 leaves -0.006."""
    assert booked("-0.012", report("BUY", "0.006"))[0] == Decimal("-0.006")


@pytest.mark.parametrize(("amt", "side", "qty", "after", "anomaly"), [
    ("0.010", "SELL", "0.030", "0", "reduce_only_beyond_zero"),
    ("-0.010", "BUY", "0.030", "0", "reduce_only_beyond_zero"),
    ("0", "SELL", "0.030", "0", "reduce_only_beyond_zero"),
    ("0.010", "BUY", "0.005", "0.010", "reduce_only_grows_position"),
    ("0.010", "SELL", "0.010", "0", None),
])
def test_i32_reduce_only_stops_at_zero_with_an_anomaly(amt, side, qty, after, anomaly):
    """Reduce-only shrinks a position to zero and no further; one that would grow it changes nothing."""
    now, _, anomalies, _ = booked(amt, report(side, qty, reduce_only=True))
    assert (now, anomalies) == (Decimal(after), [anomaly] if anomaly else [])


def test_i35_partial_then_filled_is_the_last_total():
    """PARTIALLY_FILLED 0.004 then FILLED 0.010 of one order is 0.010 in all, in either order of arrival."""
    partial, filled = report("SELL", "0.004", settled=False), report("SELL", "0.010")
    for messages in ((partial, filled), (filled, partial)):
        now, marks, _, _ = booked("0.038", *messages)
        assert (now, marks["1"].settled) == (Decimal("0.028"), True)


def test_t21_a_partial_fill_alone_is_not_settled():
    """PARTIALLY_FILLED and nothing more: booked, and the order is still to be looked up."""
    now, marks, _, _ = booked("0.038", report("SELL", "0.004", settled=False))
    assert (now, marks["1"].settled) == (Decimal("0.034"), False)


def test_i39_every_order_of_a_result_counts():
    """Two orders that executed both count; a step that executed nothing changes nothing."""
    now, _, _, _ = booked("0.100", report("SELL", "0.020", key="1"), report("SELL", "0.030", key="2"),
                          report("SELL", "0", key="3"))
    assert now == Decimal("0.050")


def test_an_order_keeps_its_side():
    """A later message with the other side adds to the total on the first one's side, and is named."""
    now, marks, anomalies, _ = booked("0", report("BUY", "1"), report("SELL", "3"))
    assert (now, marks["1"].side, anomalies) == (Decimal(3), "BUY", ["order_changed_side"])


def test_a_quantity_without_a_side_books_nothing():
    """No side is not a sale: nothing is booked and the order stays open until the exchange is asked."""
    now, marks, anomalies, _ = booked("1", report("", "0.4"))
    assert (now, marks["1"].settled, marks["1"].booked_qty, anomalies) == (1, False, 0, ["order_without_side"])
    after, _, _, _ = booked("1", report("", "0.4"), report("SELL", "0.4"))
    assert after == Decimal("0.6")


def test_an_order_in_the_opening_books_only_its_growth():
    """What an opening balance contains is marked, not booked, and open while it may fill; growth is the difference."""
    mark = contain_order(report("SELL", "0.004", settled=False), before=None, plan_id="p", seen_ms=1)
    assert (mark.contained, mark.settled, mark.booked_qty) == (True, False, Decimal("0.004"))
    again = book_order(Decimal(1), report("SELL", "0.004"), before=mark, plan_id="p", seen_ms=2)
    more = book_order(Decimal(1), report("SELL", "0.010"), before=mark, plan_id="p", seen_ms=2)
    assert (again.delta, more.delta, more.mark.contained) == (0, Decimal("-0.006"), True)


def test_what_was_known_of_an_order_is_not_forgotten():
    """A later message that lacks plan, id or the reduce-only flag does not erase them."""
    before = OrderMark(booked_qty=Decimal(1), settled=True, side="SELL", plan_id="p", order_id="9", reduce_only=True)
    bare = OrderReport(names=("id 9",), side="", executed_qty=Decimal(2), settled=False)
    mark = book_order(Decimal(5), bare, before=before, plan_id="", seen_ms=3).mark
    assert (mark.side, mark.plan_id, mark.order_id, mark.reduce_only, mark.settled) == ("SELL", "p", "9", True, True)


@given(amt=AMT, side=SIDE, totals=st.lists(QTY, min_size=1, max_size=6), seed=st.randoms(use_true_random=False))
def test_i29_booking_is_idempotent_and_independent_of_arrival(amt, side, totals, seed):
    """Any messages on one order, in any order and any number of times, book its largest total once."""
    reports = [report(side, qty) for qty in totals] * 2
    seed.shuffle(reports)
    sign = 1 if side == "BUY" else -1
    assert booked(amt, *reports)[0] == amt + sign * max(totals)


@given(amt=AMT, orders=st.lists(st.tuples(st.sampled_from("abc"), SIDE, QTY, st.booleans()), max_size=8))
def test_the_book_is_the_sum_of_its_deltas(amt, orders):
    """Opening plus all deltas is the amount, whatever was booked and however odd."""
    now, _, _, deltas = booked(amt, *(report(s, q, key=k, reduce_only=r) for k, s, q, r in orders))
    assert amt + sum(deltas) == now


@given(amt=AMT, side=SIDE, qty=QTY)
def test_reduce_only_never_crosses_zero_nor_grows(amt, side, qty):
    """After a reduce-only fill the position is between zero and what it was, and odd ones are named."""
    result = book_order(amt, report(side, qty, reduce_only=True), before=None, plan_id="p", seen_ms=1)
    low, high = sorted((Decimal(0), amt))
    assert low <= result.amt_after <= high
    literally = amt + (qty if side == "BUY" else -qty)
    assert (result.anomaly is None) == (result.amt_after == literally)
