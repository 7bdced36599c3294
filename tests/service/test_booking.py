"""What a result does to a book, without a server: every name one order, in any order of arrival, each fill once."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p33_sidecar.core.model import Book
from p33_sidecar.core.results import result_of
from p33_sidecar.exchange import OrderState
from p33_sidecar.service.booking import Known, book_fate, book_result, names_of_fate
from p33_sidecar.store.state import BookLine

NOW_MS = 1_769_301_010_000
DAY_MS = 86_400_000


class Ledger:
    """One symbol's book and orders as the store would hold them, fed with messages."""

    def __init__(self, amt: str | None = "0.038", *, horizon_ms: int = 0, opened_ms: int = NOW_MS - DAY_MS) -> None:
        book = None if amt is None else Book(symbol="BTCUSDT", amt=Decimal(amt), rev=1, opened_ms=opened_ms)
        self.line = BookLine(book=book, ver=1)
        self.horizon_ms, self.now_ms = horizon_ms, NOW_MS
        self.marks, self.names, self.waiting = {}, {}, {}
        self.journal, self.anomalies = [], []

    def tell(self, *steps: dict, executed: str = "True", at_ms: int | None = None, **fields: str) -> Ledger:
        result = result_of({"symbol": "BTCUSDT", "plan_id": "p1", "executed": executed,
                            "steps_results": msgspec.json.encode(list(steps)).decode()} | fields)
        known = self._known([name for report in result.reports for name in report.names])
        seen_ms = self.now_ms if at_ms is None else at_ms
        return self._keep(book_result(self.line, result, known, entry_id=f"{seen_ms}-0", seen_ms=seen_ms,
                                      now_ms=self.now_ms))

    def learn(self, key: str, state: OrderState | None) -> Ledger:
        order = self.waiting[key]
        known = self._known(names_of_fate(order, state))
        return self._keep(book_fate(self.line, order, known, state, now_ms=self.now_ms))

    def _known(self, names) -> Known:
        found = {name: self.names.get(name, name) for name in names}
        return Known({n: (k, self.marks[k]) for n, k in found.items() if k in self.marks}, self.horizon_ms)

    def _keep(self, booked) -> Ledger:
        self.marks |= booked.marks
        self.names |= booked.names
        self.marks = {key: mark for key, mark in self.marks.items() if key not in self.names}
        self.waiting |= {order.key: order for order in booked.unsettled}
        for key in booked.settled:
            self.waiting.pop(key)
        self.journal += booked.journal
        self.anomalies += booked.anomalies
        self.line = booked.line or self.line
        assert self.line.unsettled == len(self.waiting)
        return self

    @property
    def amt(self) -> Decimal | None:
        return self.line.book and self.line.book.amt


def step(qty: str = "0.028", *, order_id: str = "", status: str = "success", side: str = "SELL", name: str = "CLOSE",
         **more) -> dict:
    return {"step": name, "status": status, "order_id": order_id, "side": side, "executed_qty": qty} | more


def ended(qty: str, *, order_id: str = "77", status: str = "FILLED", update_ms: int = NOW_MS) -> OrderState:
    return OrderState("BTCUSDT", order_id, "p33-p1", status, "SELL", Decimal(qty), True, True, True, update_ms)


FILL = Decimal("0.028")
NAMINGS = {
    "by id": (step(order_id="77"), {}), "by id alone": (step(order_id="77"), {"plan_id": ""}),
    "by client id": (step(client_order_id="p33-p1"), {}),
    "by both": (step(order_id="77", client_order_id="p33-p1"), {}),
    "by plan and step": (step(), {}), "by plan alone": (step(name=""), {}),
}


@given(st.permutations([n for n in NAMINGS if n != "by id alone"]), st.integers(0, 5))
def test_i29_every_name_of_an_order_leads_to_one_fill(order, again):
    """Told by id, client id, plan and step or plan alone, in any order and again: booked once."""
    ledger = Ledger()
    for naming in (*order, *order[:again]):
        told, fields = NAMINGS[naming]
        ledger.tell(told, **fields)
    assert ledger.amt == Decimal("0.038") - FILL
    assert ledger.line.book.rev == 2
    assert len(ledger.marks) == 1
    assert ledger.anomalies == []


@given(st.permutations(list(NAMINGS)))
def test_i29_an_order_that_two_names_made_two_is_one_again_when_a_message_has_both(order):
    """By id alone and by plan alone they are two until somebody names both: what was too much is taken back."""
    ledger = Ledger("1")
    for naming in order:
        told, fields = NAMINGS[naming]
        ledger.tell(told, **fields)
    assert ledger.amt == 1 - FILL
    assert len(ledger.marks) == 1
    assert [e.anomaly for e in ledger.journal if e.anomaly] == ledger.anomalies
    assert set(ledger.anomalies) <= {"order_booked_twice"}


@given(st.permutations(["0.004", "0.010", "0.010", "0.007"]), st.lists(st.sampled_from(sorted(set(NAMINGS) - {
    "by id alone"})), min_size=4, max_size=4))
def test_i35_totals_in_any_order_under_any_names_book_the_largest(totals, namings):
    """`executed_qty` is the order's total so far: 0.004, then 0.010 is 0.010 in all, and so is 0.010, then 0.004."""
    ledger = Ledger()
    for qty, naming in zip(totals, namings, strict=True):
        told, fields = NAMINGS[naming]
        status = "FILLED" if qty == "0.010" else "PARTIALLY_FILLED"
        ledger.tell(told | {"executed_qty": qty, "status": status}, **fields)
    assert ledger.amt == Decimal("0.028")
    assert not ledger.waiting


def test_steps_of_one_plan_are_orders_of_their_own():
    """Two steps without ids, told in two messages: the plan's name alone does not make them one."""
    ledger = Ledger("1").tell(step("0.1", name="A")).tell(step("0.2", name="B")).tell(step("0.1", name="A"))
    assert ledger.amt == Decimal("0.7")


def test_two_orders_of_one_plan_and_step_are_two_fills():
    """Different ids never mean the same order; a message without one means the first."""
    ledger = Ledger("1").tell(step("0.1", order_id="1")).tell(step("0.2", order_id="2"))
    assert ledger.amt == Decimal("0.7")
    assert ledger.tell(step("0.1")).amt == Decimal("0.7")


def test_an_order_twice_in_one_message_is_one_fill():
    """Under its id and without it, in one list of steps."""
    assert Ledger("1").tell(step("0.1"), step("0.1", order_id="1"), step("0.1", order_id="1")).amt == Decimal("0.9")


# -- orders that are not settled -----------------------------------------------------------------------------


def test_t21_a_part_is_booked_and_the_rest_when_the_exchange_says_so():
    """PARTIALLY_FILLED 0.004 and nothing more; the look-up says 0.010."""
    ledger = Ledger().tell(step("0.004", order_id="77", status="PARTIALLY_FILLED"))
    assert (ledger.amt, ledger.line.unsettled) == (Decimal("0.034"), 1)
    ledger.now_ms += 700
    ledger.learn("id 77", ended("0.010"))
    assert (ledger.amt, ledger.line.unsettled, ledger.line.book.rev) == (Decimal("0.028"), 0, 3)
    assert ledger.line.book.last_order_ms == NOW_MS + 700
    assert (ledger.journal[-1].why, ledger.journal[-1].delta) == ("looked up: FILLED", "-0.006")


def test_i30_no_quantity_books_nothing_and_is_asked_for():
    """NEW with zero: the book's last order moves on, its amount does not, and the fate books what was filled."""
    ledger = Ledger().tell(step("0", order_id="77", status="NEW"))
    assert (ledger.amt, ledger.line.unsettled, ledger.line.book.last_order_ms) == (Decimal("0.038"), 1, NOW_MS)
    assert ledger.learn("id 77", ended("0")).line.unsettled == 0
    assert ledger.amt == Decimal("0.038")


def test_a_fate_that_names_the_order_leads_to_it_afterwards():
    """Asked for by client id, answered with the id: a later message by that id is the same fill."""
    ledger = Ledger().tell(executed="True")
    ledger.learn("plan p1 ", ended("0.028")).tell(step(order_id="77"), plan_id="")
    assert ledger.amt == Decimal("0.010")
    assert len(ledger.marks) == 1


def test_a_fate_and_a_result_that_crossed_are_one_order():
    """The result by id came while the order was asked for by its plan: the answer makes the two one."""
    ledger = Ledger().tell(executed="True").tell(step(order_id="77"), plan_id="")
    assert ledger.learn("plan p1 ", ended("0.028")).amt == Decimal("0.010")
    assert len(ledger.marks) == 1


def test_an_order_the_exchange_keeps_no_more_has_nothing_to_come():
    """What was booked of it stays; the symbol is free."""
    ledger = Ledger().tell(step("0.004", order_id="77", status="PARTIALLY_FILLED")).learn("id 77", None)
    assert (ledger.amt, ledger.line.unsettled) == (Decimal("0.034"), 0)


# -- openings and the horizon --------------------------------------------------------------------------------


def test_t08_without_a_book_an_order_is_contained_in_the_opening_to_come():
    """Recorded, booked nothing; told again it is not even recorded again."""
    ledger = Ledger(None).tell(step(order_id="77")).tell(step(order_id="77"))
    assert (ledger.amt, len(ledger.journal), ledger.journal[0].cause) == (None, 1, "contained")


def test_t21_a_part_without_a_book_is_asked_for_too():
    """It may fill on while the opening is adopted: the symbol's line waits for its fate, and books none of it."""
    ledger = Ledger(None).tell(step("0.004", order_id="77", status="PARTIALLY_FILLED"))
    assert ledger.line.unsettled == 1
    assert ledger.learn("id 77", ended("0.010")).line.unsettled == 0
    assert [entry.cause for entry in ledger.journal] == ["contained"]


def test_a_result_older_than_the_opening_is_contained_in_it():
    """An opening holds as of its first reply's request, whenever the result is read."""
    ledger = Ledger(opened_ms=NOW_MS - 100)
    assert ledger.tell(step(order_id="77"), at_ms=NOW_MS - 101).amt == Decimal("0.038")
    assert ledger.tell(step(order_id="78"), at_ms=NOW_MS - 100).amt == Decimal("0.010")


@pytest.mark.parametrize("before_and_after", [("by plan and step", "by id alone"), ("by id alone", "by plan and step")])
def test_a_contained_order_booked_under_another_name_is_taken_back(before_and_after):
    """Told under one name before the opening, under another after it, then under both: the opening had it all along."""
    ledger = Ledger(opened_ms=NOW_MS - 100)
    for naming, at_ms in zip(before_and_after, (NOW_MS - 101, NOW_MS), strict=True):
        told, fields = NAMINGS[naming]
        ledger.tell(told, at_ms=at_ms, **fields)
    assert ledger.amt == Decimal("0.010")
    assert ledger.tell(step(order_id="77")).amt == Decimal("0.038")
    assert len(ledger.marks) == 1


def test_t13_an_opening_from_a_clock_that_ran_ahead_contains_no_result():
    """As of an hour from now: results booked until then are fills."""
    assert Ledger(opened_ms=NOW_MS + 3_600_000).tell(step(order_id="77")).amt == Decimal("0.010")


@pytest.mark.parametrize(("update_ms", "amt"), [(NOW_MS - 101, "0.038"), (NOW_MS - 99, "0.032")])
def test_a_contained_order_that_ended_before_the_opening_books_nothing(update_ms, amt):
    """One that filled on after it books its growth."""
    ledger = Ledger(opened_ms=NOW_MS - 100)
    ledger.tell(step("0.004", order_id="77", status="PARTIALLY_FILLED"), at_ms=NOW_MS - 5_000)
    assert ledger.learn("id 77", ended("0.010", update_ms=update_ms)).amt == Decimal(amt)


@pytest.mark.parametrize("horizon_ms", [0, NOW_MS - 14 * DAY_MS])
@pytest.mark.parametrize("stamp", ["0", "0.0", "-1", "", "soon"])
def test_a_timestamp_that_says_nothing_makes_no_fill_late(horizon_ms, stamp):
    """A producer without a clock writes 0, as it writes `close_qty=0.0`: the result is as old as its entry."""
    ledger = Ledger(horizon_ms=horizon_ms).tell(step(order_id="77"), timestamp=stamp)
    assert (ledger.amt, ledger.anomalies) == (Decimal("0.010"), [])


def test_behind_the_horizon_an_unknown_order_is_late_and_never_booked():
    """Its mark was forgotten: by its own timestamp it is from before, however young its entry is."""
    ledger = Ledger(horizon_ms=NOW_MS - 14 * DAY_MS)
    old, young = str((NOW_MS - 20 * DAY_MS) // 1000), str(NOW_MS // 1000)
    ledger.tell(step(order_id="77"), timestamp=old)
    assert (ledger.amt, ledger.journal[-1].cause, ledger.anomalies) == (Decimal("0.038"), "late", ["late_result"])
    assert ledger.journal[-1].anomaly == "late_result"
    ledger.tell(step(order_id="77"), timestamp=old).tell(step(order_id="77", status="PARTIALLY_FILLED"), timestamp=old)
    assert (len(ledger.journal), ledger.line.unsettled) == (1, 0)
    assert ledger.tell(step(order_id="78"), timestamp=young).amt == Decimal("0.010")


# -- the journal ---------------------------------------------------------------------------------------------


def test_the_journal_says_everything_of_a_change():
    """Contract, chapter 2, Records: rev, cause, ids, by whom, delta, amounts before and after, anomaly."""
    ledger = Ledger().tell(step("0.050", order_id="77", reduce_only=True))
    (entry,) = ledger.journal
    assert msgspec.to_builtins(entry) == {
        "v": 1, "symbol": "BTCUSDT", "rev": 2, "cause": "fill", "delta": "-0.038", "amt_before": "0.038",
        "amt_after": "0", "at_ms": NOW_MS, "order_id": "77", "plan_id": "p1", "result_id": f"{NOW_MS}-0",
        "by": "bookkeeper", "why": "", "anomaly": "reduce_only_beyond_zero"}
    assert ledger.anomalies == ["reduce_only_beyond_zero"]


QTY, SIDE = st.sampled_from(["0.001", "0.5", "2"]), st.sampled_from(["BUY", "SELL"])


@given(st.lists(st.tuples(st.sampled_from("123"), QTY, SIDE, st.booleans()), max_size=8))
def test_the_journal_adds_up_to_the_book(tellings):
    """Each entry begins where the last one ended, and revisions grow by one."""
    ledger = Ledger("1")
    for order_id, qty, side, reduce_only in tellings:
        ledger.tell(step(qty, order_id=order_id, side=side, reduce_only=reduce_only))
    amt, rev = Decimal(1), 1
    for entry in ledger.journal:
        assert (Decimal(entry.amt_before), entry.rev) == (amt, rev + 1)
        assert Decimal(entry.amt_before) + Decimal(entry.delta) == Decimal(entry.amt_after)
        amt, rev = Decimal(entry.amt_after), entry.rev
    assert (ledger.amt, ledger.line.book.rev) == (amt, rev)
