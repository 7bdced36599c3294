"""The generated week: every audit of it finds what was planted, breaks age over its days, the symbols stay the same."""

from __future__ import annotations

from collections import Counter

import pytest

from p33_pipeline.audit.audit import audit
from p33_pipeline.audit.findings import CLASSES, FLOW, SOURCES, Audit
from p33_pipeline.generator.__main__ import found_in
from p33_pipeline.generator.story import Story
from p33_pipeline.generator.week import DAY_MS, NEWCOMERS, SYMBOLS, WEEK, tell_week
from p33_pipeline.generator.writing import write
from p33_pipeline.history import History, place_at
from p33_sidecar.core.model import Policy

from .conftest import MIDNIGHT_MS

DAYS = 4


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> tuple[Story, History]:
    """Its first days, the hostile one among them; `make planted` takes all seven."""
    story, history = tell_week(MIDNIGHT_MS, days=DAYS), History(place_at(str(tmp_path_factory.mktemp("week"))))
    write(story, history)
    return story, history


@pytest.fixture(scope="module")
def days(told) -> list[Audit]:
    """Each day's own audit."""
    return [audit(told[1], from_ms=MIDNIGHT_MS + n * DAY_MS, to_ms=MIDNIGHT_MS + (n + 1) * DAY_MS, policy=Policy())
            for n in range(DAYS)]


def test_all_that_is_planted_is_found_and_nothing_else(told):
    assert Counter(found_in(*told)) == Counter(told[0].truth)


def test_the_days_together_tell_what_the_whole_range_does(told, days):
    """Findings each on their day; a break on every day that it lives."""
    whole = audit(told[1], from_ms=told[0].from_ms, to_ms=told[0].to_ms, policy=Policy())
    assert {b.break_id for day in days for b in day.breaks} == {b.break_id for b in whole.breaks}
    assert sum(len(day.flow) for day in days) == len(whole.flow)
    assert sum(len(day.sources) for day in days) == len(whole.sources)


def test_there_are_quiet_days_and_a_hostile_one(days):
    """A person sees at once which day it was."""
    quiet, _, hostile, _ = days
    assert (len(quiet.breaks), quiet.flow, quiet.sources) == (1, (), ())
    assert len(hostile.breaks) > 8 and len(hostile.flow) > 8 and len(hostile.sources) > 5
    assert all(day.counts["verdicts"] > 50 and day.counts["polls"] > 8_600 for day in days)


def test_a_break_ages_over_days_and_closes(days):
    """Opened on the second day, still open on the third, closed on the fourth: the same one."""
    seen = [next((b for b in day.breaks if b.symbol == "ETHUSDT" and b.kind == "external_trade"), None) for day in days]
    assert seen[0] is None and [b.closed_ms is None for b in seen[1:]] == [True, True, False]
    assert len({b.break_id for b in seen[1:]}) == 1 and seen[3].age_ms(0) > 2 * DAY_MS


def test_the_symbols_are_the_same_throughout(days):
    """Nothing stays behind as a ghost of another story."""
    assert {b.symbol for day in days for b in day.breaks} <= {*SYMBOLS, *NEWCOMERS}


def test_every_class_and_finding_is_planted_once_in_the_week():
    """The table alone: what an operator may see, and the week ends with something open."""
    deeds = {entry.deed for entry in WEEK}
    assert {*CLASSES, *FLOW, *SOURCES} <= deeds | {"timing"}
    assert max(WEEK, key=lambda entry: (entry.day, entry.hour)).hours > 24
