"""Where one range ends and the next begins: nothing is found twice by different names, nothing is lost between them."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from p33_pipeline.audit.findings import Audit
from p33_pipeline.audit.scope import open_scope
from p33_pipeline.auditing import audit_range
from p33_pipeline.breaks_command import known_breaks
from p33_pipeline.generator.story import Slot, Story, close, perform
from p33_pipeline.generator.world import World
from p33_pipeline.generator.writing import write
from p33_sidecar.core.model import Policy
from tests.pipeline.conftest import DAY_MS, MIDNIGHT_MS

POLICY, SLOW, SLOWEST = Policy(), Policy(poll_ms=60_000), Policy(poll_ms=300_000)
START_MS = MIDNIGHT_MS - 602_000
"""Polls stand at 23:59:53, 23:59:58, 00:00:03."""
SYMBOL, HELD = "BTCUSDT", Decimal(64)
POLLS = 240


def told(history, *, close_at_ms: int, book_after_ms: int | None) -> Story:
    """Twenty minutes around midnight with one close, decided a second after the poll at `close_at_ms`."""
    world = World({SYMBOL: HELD}, start_ms=START_MS, policy=POLICY)
    slot = Slot(world, SYMBOL, MIDNIGHT_MS + close_at_ms, POLICY.poll_ms, 1)
    perform(world, close(slot, book_after_ms=book_after_ms), polls=POLLS)
    story = Story(world, START_MS, START_MS + POLLS * POLICY.poll_ms, ())
    write(story, history)
    return story


def day(history, number: int) -> Audit:
    """The audit of the day before midnight (0), or of the one after it (1)."""
    from_ms = MIDNIGHT_MS + (number - 1) * DAY_MS
    return audit_range(history, from_ms=from_ms, to_ms=from_ms + DAY_MS, policy=POLICY)


def kinds(audit: Audit) -> list[tuple[str, bool]]:
    """Class of each break, and whether it closed."""
    return [(found.kind, found.closed_ms is not None) for found in audit.breaks]


@pytest.mark.parametrize(("close_at_ms", "book_after_ms"), [
    (-7_000, 6_700),   # seen at 23:59:58, booked at 00:00:01
    (-12_000, 5_700),  # seen at 23:59:53, agreed at 23:59:58, and once more only at 00:00:03
])
def test_an_order_under_way_at_midnight_is_told_once_and_by_its_name(history, close_at_ms, book_after_ms):
    """The day it began in does not know yet whether it will pass by itself; the next one does."""
    told(history, close_at_ms=close_at_ms, book_after_ms=book_after_ms)
    assert kinds(day(history, 0)) == []
    assert kinds(day(history, 1)) == [("timing", True)]
    assert [found.closed_ms is not None for found in known_breaks(history).values()] == [True]


def test_a_break_that_closes_with_the_first_polls_of_a_day_is_closed_in_the_list(history):
    """Both days tell it under one id; the later one knows its end."""
    told(history, close_at_ms=-42_000, book_after_ms=42_700)
    before, after = day(history, 0), day(history, 1)
    assert (kinds(before), kinds(after)) == ([("unbooked_fill", False)], [("unbooked_fill", True)])
    assert before.breaks[0].break_id == after.breaks[0].break_id
    assert known_breaks(history)[after.breaks[0].break_id].closed_ms == MIDNIGHT_MS + 3_000


def test_a_break_that_agreed_first_in_the_last_poll_of_a_day_is_closed_in_the_list(history):
    """Two polls in a row must agree: the second of them is the next day's."""
    told(history, close_at_ms=-42_000, book_after_ms=37_000)
    assert (kinds(day(history, 0)), kinds(day(history, 1))) == ([("unbooked_fill", False)], [("unbooked_fill", True)])
    assert [found.closed_ms for found in known_breaks(history).values()] == [MIDNIGHT_MS - 2_000]


def test_what_came_after_the_archive_began_to_read_is_not_judged_yet(history):
    """It reads the verdicts first: what they led to may be there before they are, and is no bypass."""
    world = World({SYMBOL: HELD}, start_ms=START_MS, policy=POLICY)
    slot = Slot(world, SYMBOL, MIDNIGHT_MS + 58_000, POLICY.poll_ms, 1)
    perform(world, close(slot), polls=POLLS)
    del world.streams["decisions"]
    write(Story(world, START_MS, START_MS + POLLS * POLICY.poll_ms, ()), history)
    history.place.write("archived.json", f'{{"v":1,"until_ms":{MIDNIGHT_MS + 58_000}}}'.encode())
    found = day(history, 1)
    assert (found.breaks, found.flow, found.sources) == ((), (), ())


def silent(history, begin_ms: int, end_ms: int) -> None:
    """Two days and a half around midnight, a poll a minute, none between these times."""
    world = World({SYMBOL: HELD}, start_ms=MIDNIGHT_MS - DAY_MS // 2, policy=SLOW)
    world.silent.append((MIDNIGHT_MS + begin_ms, MIDNIGHT_MS + end_ms))
    polls = 5 * DAY_MS // 2 // SLOW.poll_ms
    perform(world, [], polls=polls)
    write(Story(world, world.start_ms, world.start_ms + polls * SLOW.poll_ms, ()), history)


def gaps(history, from_ms: int, to_ms: int) -> list[int]:
    """When the gaps of a range begin, reckoned from midnight."""
    found = audit_range(history, from_ms=MIDNIGHT_MS + from_ms, to_ms=MIDNIGHT_MS + to_ms, policy=SLOW)
    assert {one.finding for one in found.sources} <= {"snapshot_gap"}
    return [one.at_ms - MIDNIGHT_MS for one in found.sources]


def test_every_range_that_polls_were_missing_in_says_so(history):
    """They stop an hour before midnight, for good; who looks at the second day must not read that all was well."""
    silent(history, -3_600_000 + 1, 3 * DAY_MS)
    assert gaps(history, -DAY_MS, 0) == [-3_600_000]
    assert gaps(history, 0, DAY_MS) == [0]
    assert gaps(history, 3_600_000, 7_200_000) == [3_600_000]
    assert gaps(history, DAY_MS, 2 * DAY_MS) == [DAY_MS]


def test_a_gap_that_ends_soon_after_a_range_begins_belongs_to_the_one_before(history):
    """The rest of it is shorter than what is allowed; where it is longer, both have it."""
    silent(history, -600_000 + 1, 120_000)
    assert (gaps(history, -DAY_MS, 0), gaps(history, 0, DAY_MS)) == ([-600_000], [])
    assert gaps(history, -300_000, 0) == [-300_000]


def test_a_break_that_has_been_open_for_long_is_looked_up_in_few_steps(history, monkeypatch):
    """Forty days: the same break with the same beginning, and not forty looks, each over more than the one before."""
    world = World({SYMBOL: HELD}, start_ms=MIDNIGHT_MS, policy=SLOWEST)
    by_hand = MIDNIGHT_MS + 3_600_000
    polls = 40 * DAY_MS // SLOWEST.poll_ms
    perform(world, [(by_hand, lambda: world.trade(by_hand, SYMBOL, Decimal(-4), "web_1"))], polls=polls)
    write(Story(world, MIDNIGHT_MS, MIDNIGHT_MS + polls * SLOWEST.poll_ms, ()), history)
    looks = []
    monkeypatch.setattr("p33_pipeline.audit.audit.open_scope", lambda *a, **b: looks.append(b) or open_scope(*a, **b))
    end_ms = MIDNIGHT_MS + 40 * DAY_MS
    found, = audit_range(history, from_ms=end_ms - 3_600_000, to_ms=end_ms, policy=SLOWEST).breaks
    assert (found.kind, found.opened_ms, found.closed_ms) == ("external_trade", by_hand, None) and len(looks) <= 7


def test_a_result_that_comes_days_after_its_order_is_judged_by_its_own_permit(history):
    """The Apply Layer was down over a weekend, a person adopted what its order had done, and on Monday its result came:
    no bypass, and it was traded."""
    world = World({SYMBOL: HELD}, start_ms=MIDNIGHT_MS, policy=SLOW)
    slot = Slot(world, SYMBOL, MIDNIGHT_MS + 600_000, SLOW.poll_ms, 1)
    adopted_ms, told_ms = MIDNIGHT_MS + 3_600_000, MIDNIGHT_MS + 3 * DAY_MS + 600_000

    def look_up() -> None:
        order_id, delta = world.trades[-1]["order_id"], world.last_delta(SYMBOL)
        result_id = world.result(told_ms, slot.plan_id, SYMBOL, delta, order_id)
        amt = str(world.holdings[SYMBOL].amt)
        world.record("ledger", told_ms + 100, {
            "symbol": SYMBOL, "rev": 3, "cause": "contained", "at_ms": told_ms + 100, "delta": "0", "amt_before": amt,
            "amt_after": amt, "order_id": order_id, "plan_id": slot.plan_id, "result_id": result_id}, symbol=SYMBOL)

    polls = 4 * DAY_MS // SLOW.poll_ms
    perform(world, [*close(slot, tell_result=False), (told_ms, look_up),
                    (adopted_ms, lambda: world.adjust(adopted_ms, SYMBOL, world.holdings[SYMBOL].amt))], polls=polls)
    write(Story(world, MIDNIGHT_MS, MIDNIGHT_MS + polls * SLOW.poll_ms, ()), history)
    found = audit_range(history, from_ms=MIDNIGHT_MS + 3 * DAY_MS, to_ms=MIDNIGHT_MS + 4 * DAY_MS, policy=SLOW)
    assert (found.flow, found.breaks) == ((), ())


@pytest.mark.parametrize("unknown", [{"bad_rows": {SYMBOL: "no amount"}}, {"older_rows": [SYMBOL]},
                                     {"missing_rows": [SYMBOL]}])
def test_a_poll_that_does_not_know_a_symbol_does_not_say_that_it_is_flat(history, unknown):
    """A row that is older than one seen before, or none at all (delisted, for one): no moment to compare, no ghost."""
    world = World({SYMBOL: HELD}, start_ms=START_MS, policy=POLICY)
    perform(world, [], polls=POLLS)
    polls = world.streams["snapshots"]
    for place in range(20, 24):
        body = msgspec.json.decode(polls[place][1]["json"]) | {"positions": []} | unknown
        polls[place][1]["json"] = msgspec.json.encode(body).decode()
    write(Story(world, START_MS, START_MS + POLLS * POLICY.poll_ms, ()), history)
    assert day(history, 0).breaks == ()
