"""Planted truth: the audit finds every deed of every seed and nothing else, and says the same twice."""

from __future__ import annotations

import pytest

from p33_pipeline.audit.audit import audit
from p33_pipeline.audit.findings import CLASSES, FLOW, SOURCES, Audit
from p33_pipeline.generator.__main__ import START_MS, found_in
from p33_pipeline.generator.deeds import DEEDS
from p33_pipeline.generator.story import Story, tell
from p33_pipeline.generator.writing import write
from p33_pipeline.history import History, place_at
from p33_sidecar.core.model import Policy

from .conftest import DAY_MS, MIDNIGHT_MS


def audited(story: Story, history: History) -> Audit:
    write(story, history)
    return audit(history, from_ms=story.from_ms, to_ms=story.to_ms, policy=Policy())


def test_every_class_and_finding_of_the_contract_is_planted():
    """A story without one of them could not show that it is found."""
    truth = {planted.finding for planted in tell(0, deeds=DEEDS, start_ms=START_MS).truth}
    assert truth == {*CLASSES, *FLOW, *SOURCES}


def test_a_quiet_stretch_has_no_findings(history):
    found = audited(tell(0, deeds={}, start_ms=START_MS), history)
    assert found.clean and found.counts["verdicts"] == 36


def test_a_long_quiet_history_builds_positions_anew_and_has_no_findings(history):
    """Orders that open a position pass no gate, and are no bypass."""
    story = tell(0, deeds={}, start_ms=START_MS, symbols=2, rounds=20)
    assert audited(story, history).clean
    assert any(trade["client_id"].startswith("entry-") for trade in story.world.trades)


@pytest.mark.parametrize("seed", range(1, 4))
def test_all_that_is_planted_is_found_and_nothing_else(seed, history):
    """Precision and recall 1.0; `make planted` does it for 30 seeds."""
    story = tell(seed, deeds=DEEDS, start_ms=START_MS)
    write(story, history)
    assert found_in(story, history) == list(story.truth)


@pytest.mark.parametrize("name", sorted(DEEDS))
def test_each_deed_alone(name, history):
    """What a deed leaves is found without any other around it."""
    story = tell(3, deeds={name: DEEDS[name]}, start_ms=START_MS, symbols=1, rounds=2)
    write(story, history)
    assert found_in(story, history) == list(story.truth)


def test_the_same_twice_and_the_same_break_in_every_range(history):
    """Over midnight: each day's audit tells the same break with the same beginning."""
    story = tell(5, deeds={"external_trade": DEEDS["external_trade"]}, start_ms=MIDNIGHT_MS + DAY_MS - 40_000,
                 symbols=1, rounds=1)
    write(story, history)
    ranges = [(story.from_ms, story.to_ms), (MIDNIGHT_MS, MIDNIGHT_MS + DAY_MS),
              (MIDNIGHT_MS + DAY_MS, MIDNIGHT_MS + 2 * DAY_MS)]
    whole, first, second = (audit(history, from_ms=a, to_ms=b, policy=Policy()) for a, b in ranges)
    again = audit(history, from_ms=ranges[2][0], to_ms=ranges[2][1], policy=Policy())
    assert second == again
    assert len({b.break_id for found in (whole, first, second) for b in found.breaks}) == 1
    assert [b.closed_ms is None for found in (whole, first, second) for b in found.breaks] == [False, True, False]
    assert {b.opened_ms for found in (whole, first, second) for b in found.breaks} == {whole.breaks[0].opened_ms}


def test_a_break_names_its_evidence(tmp_path):
    story = tell(4, deeds={"unbooked_fill": DEEDS["unbooked_fill"]}, start_ms=START_MS, symbols=1, rounds=1)
    found = audited(story, History(place_at(str(tmp_path)))).breaks[0]
    trade = story.world.trades[0]
    assert found.evidence.trade_ids == (str(trade["id"]),) and found.evidence.order_ids == (trade["order_id"],)
    assert found.evidence.plan_ids == (f"plan-{found.symbol}-0",) and len(found.evidence.decision_ids) == 1
    assert (str(found.max_difference.normalize()), str(found.notional.normalize())) == ("16", "1.6E+3")
