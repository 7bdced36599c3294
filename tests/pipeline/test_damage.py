"""A file that is damaged, foreign or rewritten: audit, report, review and a Dagster step name it and say what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from p33_pipeline.assets.tuning import threshold_review
from p33_pipeline.audit.scope import open_scope, reading
from p33_pipeline.auditing import audit_range, report_of
from p33_pipeline.errors import HistoryUnreadable
from p33_pipeline.generator.deeds import DEEDS
from p33_pipeline.generator.story import tell
from p33_pipeline.generator.writing import write
from p33_pipeline.history import TABLES, History, place_at
from p33_pipeline.ranges import iso
from p33_pipeline.resources import P33, RESOURCE
from p33_pipeline.review.command import review_range
from p33_sidecar.core.model import Policy

from .conftest import MIDNIGHT_MS

POLICY = Policy()


@pytest.fixture(scope="module")
def story():
    return tell(1, deeds=DEEDS, start_ms=MIDNIGHT_MS, symbols=3, rounds=6)


@pytest.fixture(scope="module")
def sound(story, tmp_path_factory) -> Path:
    """An archive that can be read."""
    folder = tmp_path_factory.mktemp("sound")
    write(story, History(place_at(str(folder))))
    return folder


@pytest.fixture
def span(story) -> dict[str, int]:
    return {"from_ms": story.from_ms, "to_ms": story.to_ms}


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def hollow(file: Path) -> None:
    """Its footer stands, so that it looks like one of ours until somebody comes to the rows."""
    whole = file.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    file.write_bytes(whole[:4] + bytes(footer - 4) + whole[footer:])


def foreign(file: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), file)


def retyped(file: Path) -> None:
    rows = pq.read_table(file, partitioning=None)
    pq.write_table(rows.set_column(rows.column_names.index("symbol"), "symbol", pa.array(range(rows.num_rows))), file)


def lacking(file: Path) -> None:
    pq.write_table(pq.read_table(file, partitioning=None).drop_columns(["symbol"]), file)


WRONGS = {cut: "is damaged .*: restore it from a backup", hollow: "is damaged .*: restore it from a backup",
          foreign: "was not written by p33: move it away", retyped: "has no column symbol of type string",
          lacking: "has no column symbol of type string"}


@pytest.fixture(params=WRONGS, ids=lambda wrong: wrong.__name__)
def spoiled(request, sound, tmp_path) -> tuple[History, str]:
    """The same archive with a file of verdicts that cannot be used, and what must be said of it."""
    shutil.copytree(sound, tmp_path / "history")
    file = next((tmp_path / "history" / "decisions").rglob("part-*.parquet"))
    request.param(file)
    return History(place_at(str(tmp_path / "history"))), f"{file.name} at .* {WRONGS[request.param]}"


def test_audit_report_and_review_say_so(spoiled, sound, span):
    """None of them in the words of a library."""
    history, sentence = spoiled
    audited = audit_range(History(place_at(str(sound))), policy=POLICY, **span)
    acts: list[Callable[[], object]] = [
        lambda: audit_range(history, policy=POLICY, **span),
        lambda: report_of(history, audited, policy=POLICY, notes={}),
        lambda: review_range(history, fallback=POLICY, **span)]
    for act in acts:
        with pytest.raises(HistoryUnreadable, match=sentence):
            act()


def test_a_step_in_dagster_says_so(spoiled, span):
    """As the reason of its failure; it is not tried again, since it would fail again."""
    history, sentence = spoiled
    done = dg.materialize(
        [threshold_review], resources={RESOURCE: P33(overrides={"P33_HISTORY_URL": str(history.place)})},
        run_config={"ops": {"threshold_review": {"config": {
            "from_time": iso(span["from_ms"]), "to_time": iso(span["to_ms"])}}}}, raise_on_error=False)
    failed, = (event for event in done.all_events if event.event_type == dg.DagsterEventType.STEP_FAILURE)
    assert not done.success
    with pytest.raises(HistoryUnreadable, match=sentence):
        raise HistoryUnreadable(failed.step_failure_data.user_failure_data.description)


def test_a_file_that_is_gone_when_duckdb_comes_to_it_is_a_sentence(sound, span, tmp_path):
    """Swept between the look at the folder and the query."""
    shutil.copytree(sound, tmp_path / "history")
    history = History(place_at(str(tmp_path / "history")))
    with pytest.raises(HistoryUnreadable, match="changed while it was read.*run again"), reading(history):
        scope = open_scope(history, policy=POLICY, **span)
        shutil.rmtree(tmp_path / "history" / "plans")
        scope.db.sql("SELECT count(*) FROM plans").fetchall()


def test_a_question_of_ours_that_is_wrong_is_no_damage(sound):
    """A fault of the house keeps its own words."""
    with pytest.raises(duckdb.Error, match="nonsense"), reading(History(place_at(str(sound)))):
        duckdb.sql("SELECT nonsense")


def test_every_table_is_looked_through(sound, tmp_path):
    """Whichever has the damage."""
    for name in TABLES:
        files = list((sound / name).rglob("part-*.parquet"))
        if not files:
            continue
        copy = tmp_path / name
        shutil.copytree(sound, copy)
        hollow(copy / files[0].relative_to(sound))
        history = History(place_at(str(copy)))
        with pytest.raises(HistoryUnreadable, match=f"{name}/.*{files[0].name} at .* is damaged"):
            history.verify(TABLES[name])
