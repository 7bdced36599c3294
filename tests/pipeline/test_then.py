"""What held then holds for then: a book from the reply it was made from, a poll interval until it was changed."""

from __future__ import annotations

import msgspec

from p33_sidecar.core.checks import decide
from p33_sidecar.core.ledger import opened_as_of, opened_because
from p33_sidecar.core.record import record_bytes
from tests.core.made import NOW_MS, ORIGIN, POLICY, STAMP, facts
from tests.pipeline.hour import BEGIN_MS, END_MS, Hour


def test_a_book_holds_from_the_first_of_the_replies_it_was_made_from():
    """The second one came late: no poll of that time saw a position without a book."""
    hour = Hour()
    hour.lost_polls = range(BEGIN_MS + 5_000, BEGIN_MS + 10_000)
    why = opened_because("two agreeing replies", as_of_ms=BEGIN_MS)
    hour.entries["ledger"][0] = (f"{BEGIN_MS + 40_000}-0", hour.booking(
        "opening", BEGIN_MS + 40_000, "0.038", "0.038", rev=1, why=why))
    assert hour.audit().clean
    assert (opened_as_of(why), opened_as_of("by hand")) == (BEGIN_MS, None)


def test_polls_are_missing_by_the_interval_of_their_time():
    """Every 30 s is what the first verdict's policy says; a later one's says 5 s: from there on polls are missing."""
    hour, every_ms, later_ms = Hour(), 30_000, NOW_MS + 900_000
    hour.lost_polls = frozenset(at_ms for at_ms in range(BEGIN_MS, END_MS, 5_000) if at_ms % every_ms)
    given, slow = facts(), msgspec.structs.replace(POLICY, poll_ms=every_ms)
    entry_id, fields = hour.entries["decisions"][0]
    later = fields | {"json": fields["json"].replace(f'"decided_ms":{NOW_MS}', f'"decided_ms":{later_ms}')}
    record = record_bytes(decide(given, slow), given, slow, stamp=STAMP, origin=ORIGIN).decode()
    hour.entries["decisions"] = [(entry_id, fields | {"json": record})]
    assert hour.audit().clean
    hour.entries["decisions"].append((f"{later_ms}-0", later))
    found = hour.audit().sources
    assert {gap.finding for gap in found} == {"snapshot_gap"} and found[0].at_ms == later_ms - later_ms % every_ms
    assert len(found) == -(-(END_MS - found[0].at_ms) // every_ms)
