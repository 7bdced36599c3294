"""/status.json: how things stand, exactly, with what is not known as null."""

from __future__ import annotations

import json
from decimal import Decimal

import msgspec
import pytest

from p33_sidecar.core.model import HEDGE, Book
from p33_sidecar.core.reasons import Reason
from p33_sidecar.service import status as status_module
from p33_sidecar.service.memory import Poll
from p33_sidecar.service.status import status
from p33_sidecar.store.state import BookLine
from tests.service.pictured import (
    HOSTILE_PLAN,
    MONO_NS,
    NOW_MS,
    StoppedClock,
    busy_memory,
    empty_memory,
    hold,
    ready_memory,
)

TOP = {
    "v", "now_ms", "version", "instance", "venue", "policy", "policy_hash", "ready", "not_ready", "warnings", "halts",
    "last_poll", "last_good_poll", "ban_until_ms", "unsettled_orders", "gap_ms", "symbols", "verdicts", "reasons",
}
SYMBOL = {
    "symbol", "flat", "exchange", "ledger", "redis", "difference", "disagreement", "phase", "phase_ends_in_ms",
    "filters", "halted", "mismatch",
}


def said(memory, clock=None, **more):
    """What a program reads: through JSON and back."""
    return json.loads(msgspec.json.encode(status(memory, clock or StoppedClock(), **more)))


def of(found, symbol):
    return next(one for one in found["symbols"] if one["symbol"] == symbol)


@pytest.mark.parametrize("make", [empty_memory, ready_memory, busy_memory])
def test_the_keys_are_always_the_same(make):
    """A program may index without asking first; the docstring names every key."""
    found = said(make())
    assert set(found) == TOP
    assert all(set(one) == SYMBOL for one in found["symbols"])
    documented = status_module.__doc__
    assert not [key for key in TOP | SYMBOL if key not in documented]


def test_no_number_with_a_fraction_is_in_it():
    """Quantities are canonical text and times whole ms: no float may stand between an amount and its reader."""
    def floats(value):
        if isinstance(value, dict):
            return [f for v in value.values() for f in floats(v)]
        if isinstance(value, list):
            return [f for v in value for f in floats(v)]
        return [value] if isinstance(value, float) else []

    assert floats(said(busy_memory())) == []


def test_a_fresh_start_says_what_is_missing_and_how_to_mend_it():
    """Not ready is explained in words, each with a remedy."""
    found = said(empty_memory())
    assert not found["ready"]
    names = [one["reason"] for one in found["not_ready"]]
    assert names == ["ledger_not_read", "filters_not_read", "not_compared", "exchange_stale"]
    assert all(one["meaning"] and one["remedy"] for one in found["not_ready"])
    assert of(found, "BTCUSDT")["exchange"] is None
    assert of(found, "BTCUSDT")["flat"] is False
    assert found["last_poll"] is None


def test_every_cause_of_not_ready_has_its_words():
    """Whatever Memory may name, the page can explain."""
    memory = empty_memory()
    memory.configured, memory.stored_venue, memory.store_down_since_ms = False, "other", 1
    memory.restart_noticed_ms, memory.halts, memory.ban_until_ms = 1, {"": {}}, NOW_MS + 1
    found = said(memory)
    assert len(found["not_ready"]) == 10
    assert all(one["meaning"] and one["remedy"] for one in found["not_ready"])


def test_the_three_accounts_stand_side_by_side():
    """Exchange, ledger, and what the streams say: open permit, last verdict."""
    btc = of(said(busy_memory()), "BTCUSDT")
    assert (btc["exchange"]["amt"], btc["exchange"]["side"], btc["exchange"]["age_ms"]) == ("0.038", "LONG", 3_200)
    assert (btc["ledger"]["amt"], btc["ledger"]["rev"]) == ("0.038", 7)
    assert btc["redis"]["open_permit"] == {"plan_id": "f1a8d7f48713d5cf", "expires_in_ms": 42_000}
    assert btc["redis"]["last_verdict"]["safe_close_qty"] == "0.028"
    assert (btc["phase"], btc["phase_ends_in_ms"]) == ("open", 42_000)
    assert (btc["difference"], btc["disagreement"]) == ("0", None)
    assert btc["filters"] == {"status": "TRADING", "step": "0.001", "min_qty": "0.001", "max_qty": "120"}


@pytest.mark.parametrize(("exchange", "ledger", "difference", "disagreement"), [
    ("0.0500", "0.0495", "0.0005", None),
    ("0.0500", "0.0494", "0.0006", "quantity"),
    ("-12", "12", "-24", "side"),
    ("1E-8", "0", "0.00000001", "quantity"),
    (None, "1", None, None),
    ("1", None, None, None),
])
def test_differences_are_exact_and_judged_as_the_rules_judge(exchange, ledger, difference, disagreement):
    """I54: exactly 1 % passes. What is not known is neither equal nor different."""
    memory = empty_memory()
    hold(memory, "BTCUSDT", exchange, ledger)
    one = of(said(memory), "BTCUSDT")
    assert (one["difference"], one["disagreement"]) == (difference, disagreement)


def test_legs_are_not_netted():
    """I55: hedge mode has a side and no amount."""
    memory = empty_memory()
    hold(memory, "BTCUSDT", None, None, side=HEDGE)
    exchange = of(said(memory), "BTCUSDT")["exchange"]
    assert (exchange["amt"], exchange["side"]) == (None, HEDGE)


@pytest.mark.parametrize(("order_age_ms", "snapshot_age_ms", "unsettled", "phase", "left_ms"), [
    (5_000, 3_200, 0, "settling", 10_000),
    (14_999, 3_200, 0, "settling", 1),
    (15_000, 3_200, 0, "free", None),
    (20_000, 21_000, 0, "settling", None),
    (20_000, 3_200, 1, "settling", None),
])
def test_settling_lasts_for_the_cooldown_and_until_a_newer_snapshot(order_age_ms, snapshot_age_ms, unsettled, phase,
                                                                    left_ms):
    """Contract, chapter 2: cooldown, no order unsettled, a snapshot requested after the order."""
    memory = empty_memory()
    hold(memory, "BTCUSDT", "1", "1", age_ms=snapshot_age_ms, order_ms=NOW_MS - order_age_ms)
    line = memory.books["BTCUSDT"].line
    memory.keep_book("BTCUSDT", BookLine(book=line.book, ver=line.ver, unsettled=unsettled))
    one = of(said(memory), "BTCUSDT")
    assert (one["phase"], one["phase_ends_in_ms"]) == (phase, left_ms)
    assert one["redis"]["last_order"] == {"order_id": "8389765", "age_ms": order_age_ms}


def test_the_most_urgent_comes_first():
    """Mismatch, then another difference, then what is under way; the flat ones last."""
    names = [one["symbol"] for one in said(busy_memory())["symbols"]]
    assert names[:4] == ["SOLUSDT", "币安人生USDT", "BTCUSDT", "XRPUSDT"]
    assert names[-1] == "FLAT23USDT"


def test_a_mismatch_has_a_beginning_and_an_age():
    """X05: it ages in plain sight."""
    assert of(said(busy_memory()), "SOLUSDT")["mismatch"] == {"since_ms": NOW_MS - 754_000, "open_ms": 754_000}


def test_halts_say_who_why_and_until():
    """The global one first; a switch that somebody typed by hand is there too."""
    memory = ready_memory()
    memory.halts = {"ETHUSDT": {"reason": "set by hand to '1'"},
                    "": {"by": "ops", "reason": "drill", "since_ms": 1, "until_ms": 2}}
    found = said(memory)
    assert found["halts"] == [
        {"symbol": None, "by": "ops", "reason": "drill", "since_ms": 1, "until_ms": 2},
        {"symbol": "ETHUSDT", "by": None, "reason": "set by hand to '1'", "since_ms": None, "until_ms": None}]
    assert of(found, "ETHUSDT")["halted"]


def test_verdicts_come_newest_first_with_their_meaning():
    """The reason's own words travel along, so that no page needs a copy of them; hostile text arrives as it is."""
    found = said(busy_memory())
    assert [v["plan_id"] for v in found["verdicts"]] == ["f1a8d7f48713d5cf", "q2", HOSTILE_PLAN]
    assert [v["reason"] for v in found["verdicts"]] == [None, "reconcile_required_qty_mismatch", "unsupported_action"]
    reason = Reason.UNSUPPORTED_ACTION
    assert found["reasons"]["unsupported_action"] == {"meaning": reason.meaning, "remedy": reason.remedy}


def test_the_last_poll_and_the_last_good_one_are_told_apart():
    """A failing poll does not hide when the last good one was."""
    memory = ready_memory()
    memory.last_poll = Poll("timeout", NOW_MS - 100, NOW_MS, MONO_NS - 100_000_000, "after 4 s")
    found = said(memory)
    assert found["last_poll"] == {"outcome": "timeout", "detail": "after 4 s", "requested_ms": NOW_MS - 100,
                                  "age_ms": 100}
    assert found["last_good_poll"]["age_ms"] == 3_200


def test_a_ban_is_named_while_it_lasts():
    """And not a millisecond longer."""
    memory, clock = ready_memory(), StoppedClock()
    memory.ban_until_ms = NOW_MS + 5
    assert said(memory, clock)["ban_until_ms"] == NOW_MS + 5
    clock.pass_ms(5)
    assert said(memory, clock)["ban_until_ms"] is None


def test_a_store_without_append_only_file_is_warned_of():
    """Beside the warnings handed in; a server that does not say is not accused."""
    memory = ready_memory()
    memory.durable = False
    assert len(said(memory, warnings=["one"])["warnings"]) == 2
    memory.durable = None
    assert said(memory, warnings=["one"])["warnings"] == ["one"]


def test_a_store_that_may_evict_is_warned_of():
    """A taken mark that is pushed out is a permit that can be taken again."""
    memory = ready_memory()
    memory.evicts = True
    (warning,) = said(memory)["warnings"]
    assert "noeviction" in warning


def test_a_book_with_many_digits_is_shown_whole():
    """Decimal's usual 28 digits are not enough for everything that adds up."""
    memory = empty_memory()
    hold(memory, "BTCUSDT", "12345678901234567890", "0")
    small = Book(symbol="BTCUSDT", amt=Decimal("0.000000000000000001"), rev=1)
    memory.keep_book("BTCUSDT", BookLine(book=small, ver=1))
    assert of(said(memory), "BTCUSDT")["difference"] == "12345678901234567889.999999999999999999"
