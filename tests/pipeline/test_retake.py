"""Verdicts taken again: what is compared byte by byte, what by whole columns, and that no lie of a decision passes."""

from __future__ import annotations

import msgspec
import pytest

from p33_pipeline.archive.rows import table_of
from p33_pipeline.audit import reproduce
from p33_pipeline.audit.reproduce import Retaken, retake, sample
from p33_pipeline.audit.scope import scope_of
from p33_pipeline.generator.story import tell
from p33_pipeline.generator.world import World
from p33_pipeline.history import TABLES
from p33_sidecar.core.model import Policy

from .conftest import MIDNIGHT_MS

MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def world() -> World:
    """Some minutes of quiet closes."""
    return tell(0, deeds={}, start_ms=MIDNIGHT_MS, symbols=4, rounds=10).world


@pytest.fixture
def a_large_day(monkeypatch):
    """A range counts as large from eleven verdicts on."""
    monkeypatch.setattr(reproduce, "EXACT_MOST", 10)


def retaken(entries: list, *, exact: bool = False) -> Retaken:
    ids = [int(entry_id.split("-")[0]) for entry_id, _ in entries]
    scope = scope_of({"decisions": table_of(TABLES["decisions"], entries)}, from_ms=min(ids), to_ms=max(ids) + 1,
                     begin_ms=0, until_ms=max(ids) + 1, reach={}, policy=Policy())
    return retake(scope, exact=exact)


def edited(world: World, place: int, edit) -> list:
    """The world's verdicts with one of them edited."""
    entries = list(world.streams["decisions"])
    entry_id, fields = entries[place]
    body = msgspec.json.decode(fields["json"])
    edit(body)
    entries[place] = (entry_id, fields | {"json": msgspec.json.encode(body).decode()})
    return entries


def unsampled(world: World) -> int:
    """The place of a verdict in a minute that the sample leaves out."""
    times = [int(entry_id.split("-")[0]) // MINUTE_MS for entry_id, _ in world.streams["decisions"]]
    chosen = sample({minute: times.count(minute) for minute in times}, 10)
    return next(place for place, minute in enumerate(times) if minute not in chosen)


def test_a_small_range_is_compared_byte_by_byte(world):
    entries = world.streams["decisions"]
    assert retaken(entries) == Retaken((), len(entries), len(entries))


def test_of_a_large_range_the_sampled_minutes_are(a_large_day, world):
    """More than asked, fewer than all, and the same ones twice."""
    entries = world.streams["decisions"]
    once = retaken(entries)
    assert once == retaken(entries) and not once.found and 10 <= once.exactly < once.verdicts == len(entries)


@pytest.mark.parametrize("lie", [
    {"outcome": "DENY"}, {"reason": "halted"}, {"safe_close_qty": "0.001"}, {"requested_qty": "1"},
    {"policy_hash": "0" * 12}, {"decision_id": "another"}, {"v": 2}, {"plan": {}},
    {"ledger": None}, {"filters": None}, {"context": {"halted": True}}])
def test_a_lie_about_a_decision_is_found_wherever_it_stands(a_large_day, world, lie):
    """Outside of the sample, too."""
    place = unsampled(world)
    found = retaken(edited(world, place, lambda body: body.update(lie))).found
    assert [f.at_ms for f in found] == [int(world.streams["decisions"][place][0].split("-")[0])]


def test_an_edited_figure_is_found_in_the_sample_and_by_the_exact_comparison(a_large_day, world):
    """What decides nothing is compared byte by byte or not at all; the counts say how much was."""
    place = unsampled(world)
    entries = edited(world, place, lambda body: body["checks"][0].update(margin=1))
    assert not retaken(entries).found
    whole = retaken(entries, exact=True)
    assert len(whole.found) == 1 and whole.exactly == whole.verdicts


def test_several_processes_find_the_same(monkeypatch, world):
    """In the same order."""
    entries = edited(world, 3, lambda body: body["checks"][0].update(margin=1))
    entries[7] = edited(world, 7, lambda body: body.update(outcome="DENY"))[7]
    monkeypatch.setattr(reproduce, "BATCH", 5)
    alone = retaken(entries)
    monkeypatch.setattr(reproduce, "ALONE_MOST", 0)
    assert retaken(entries) == alone and len(alone.found) == 2


def test_the_sample_is_whole_minutes_by_their_hash():
    minutes = dict.fromkeys(range(100), 7)
    assert len(sample(minutes, 70)) == 10 and sample(minutes, 70) < sample(minutes, 140)
    assert sample(minutes, 10_000) == set(minutes) and sample({}, 5) == set()
