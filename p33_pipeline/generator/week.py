"""One believable week of one account: quiet days, a hostile one, breaks that age over days and close, one still open.

The symbols are the same throughout; two more come into view. Closes are spread over each hour of each symbol, some
follow too soon upon another and are denied, and while a book is off the gate denies what it should. What is planted
stands in one table, and with it the truth of every audit of the week.
"""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from p33_pipeline.generator.deeds import DEEDS
from p33_pipeline.generator.story import POSITION, Event, Planted, Slot, Story, close, perform, quiet
from p33_pipeline.generator.world import Terms, World
from p33_sidecar.core.model import Policy

DAYS: Final = 7
DAY_MS, HOUR_MS, POLL_MS = 86_400_000, 3_600_000, 10_000
HOURS_POLLS: Final = HOUR_MS // POLL_MS
ROOM_POLLS: Final = 60
"""What is left free at an hour's end, so that a close is over when the next hour's begins."""
BUSY, HASTY = 0.5, 0.15
"""How many of the hours have a close of a symbol, and how many of those a second plan too soon."""


def _terms(lot: str, price: str, step: str) -> Terms:
    return Terms(Decimal(lot), Decimal(price), Decimal(step))


SYMBOLS: Final = {
    "BTCUSDT": _terms("0.008", "98250.4", "0.001"), "ETHUSDT": _terms("0.25", "3310.75", "0.001"),
    "SOLUSDT": _terms("4", "187.42", "0.01"), "BNBUSDT": _terms("1", "655.1", "0.01"),
    "XRPUSDT": _terms("250", "2.4071", "0.1"), "DOGEUSDT": _terms("2000", "0.3162", "1"),
}
NEWCOMERS: Final = {"WIFUSDT": _terms("300", "1.684", "0.1"), "LTCUSDT": _terms("5", "118.36", "0.001")}


class Entry(NamedTuple):
    """What is planted where. `hours`: how long what it breaks stays so; 0 for as long as the deed itself has it."""

    day: int
    hour: int
    symbol: str
    deed: str
    hours: int = 0
    stranger: str = ""


WEEK: Final = (
    Entry(0, 9, "XRPUSDT", "timing"),
    Entry(1, 6, "ETHUSDT", "external_trade", 55),        # noticed on the third day after
    Entry(1, 15, "DOGEUSDT", "round_trip"),
    *(Entry(2, hour, symbol, deed) for hour, symbol, deed in (  # the hostile day
        (1, "BTCUSDT", "bypass"), (2, "SOLUSDT", "late_execution"), (3, "BNBUSDT", "plan_without_verdict"),
        (4, "XRPUSDT", "over_execution"), (6, "BTCUSDT", "irreproducible_verdict"), (7, "SOLUSDT", "stale_source"),
        (8, "BNBUSDT", "clock_skew"), (9, "XRPUSDT", "permit_reuse"), (10, "DOGEUSDT", "verdict_without_plan"),
        (11, "SOLUSDT", "rejected_message"), (12, "BTCUSDT", "hidden_fill"), (13, "BNBUSDT", "forged_permit"),
        (16, "BTCUSDT", "archive_gap"), (17, "SOLUSDT", "liquidated_and_bought_back"),
        (18, "BTCUSDT", "ledger_tampered"), (20, "BTCUSDT", "snapshot_gap"))),
    Entry(2, 5, "BTCUSDT", "quantity", 1), Entry(2, 11, "XRPUSDT", "venue_initiated", 7),
    Entry(2, 12, "DOGEUSDT", "missing_ledger", 2, "WIFUSDT"), Entry(2, 14, "BNBUSDT", "result_without_trade", 3),
    Entry(2, 21, "DOGEUSDT", "side", 1),
    Entry(3, 4, "BNBUSDT", "ghost_ledger", 26, "LTCUSDT"), Entry(3, 13, "SOLUSDT", "trade_without_result", 5),
    Entry(4, 10, "BTCUSDT", "slip_of_the_pen"),
    Entry(5, 18, "XRPUSDT", "timing"),
    Entry(6, 11, "BNBUSDT", "external_trade", 2),
    Entry(6, 14, "SOLUSDT", "unbooked_fill", 99),        # still open when the week ends
)


def tell_week(start_ms: int, *, days: int = DAYS, seed: int = 33) -> Story:
    """The week, or its first days, from a midnight on."""
    chance = random.Random(seed)  # noqa: S311 - a story, not a secret
    world = World({symbol: terms.lot * POSITION for symbol, terms in SYMBOLS.items()}, start_ms=start_ms,
                  policy=msgspec.structs.replace(Policy(), poll_ms=POLL_MS), terms=SYMBOLS | NEWCOMERS)
    planted = {(entry.day, entry.hour, entry.symbol): entry for entry in WEEK if entry.day < days}
    resting = {(entry.day, entry.hour) for entry in WEEK if entry.deed == "snapshot_gap"}
    events: list[Event] = []
    truth: list[Planted] = []
    for number, place in enumerate((d, h, s) for d in range(days) for h in range(24) for s in SYMBOLS):
        day, hour, symbol = place
        entry, busy, hasty = planted.get(place), chance.random() < BUSY, chance.random() < HASTY
        if not entry and (not busy or (day, hour) in resting or (day, hour) == (0, 0)):
            continue
        at_ms = start_ms + day * DAY_MS + hour * HOUR_MS + chance.randrange(HOURS_POLLS - ROOM_POLLS) * POLL_MS
        slot = Slot(world, symbol, at_ms, POLL_MS, number, entry.hours * HOURS_POLLS if entry else 0,
                    entry.stranger if entry else "")
        more, found = DEEDS[entry.deed](slot) if entry else quiet(slot)
        events += more if entry or not hasty else [*more, *_too_soon(slot)]
        truth += found
    polls = days * 24 * HOURS_POLLS
    perform(world, events, polls=polls)
    return Story(world, start_ms, start_ms + polls * POLL_MS, tuple(sorted(truth)))


def _too_soon(slot: Slot) -> list[Event]:
    """Another plan while the last order settles: denied, and no finding."""
    return close(msgspec.structs.replace(slot, at_ms=slot.at_ms + 3_000, number=1_000_000 + slot.number))
