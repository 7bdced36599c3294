"""Each job on a real instance, a real Redis and a real archive: what it says, what its checks conclude."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest
from pydantic import ValidationError

from p33_pipeline.assets.tuning import ReviewConfig
from p33_pipeline.partitions import day_key, hour_key
from p33_pipeline.resources import P33
from tests.pipeline.engine.conftest import BEGIN_MS, DAY, HOUR, build_defs, checks, metadata


@pytest.fixture(scope="module")
def archived(run):
    """The first run over the hour."""
    return run("audit_now", HOUR)


@pytest.fixture(scope="module")
def reported(archived, run):
    return run("report_day", DAY)


def test_the_archive_takes_everything_once(archived, run):
    """720 polls, an opening, a plan, a verdict, a result; then nothing new, and it says so."""
    assert archived.success and metadata(archived, "stream_archive")["dagster/row_count"] == 724
    again = run("archive_now")
    said = metadata(again, "stream_archive")
    assert again.success and said["dagster/row_count"] == 0 and "0 new entries" in said["summary"]
    assert checks(again)["nothing_was_trimmed_unread"].passed


def test_the_audits_conclusions_stand_as_checks_with_their_severity(archived):
    """A bypass is an error; that does not fail the run, since findings are findings."""
    found = checks(archived)
    assert not found["gate_was_not_bypassed"].passed
    assert found["gate_was_not_bypassed"].severity == dg.AssetCheckSeverity.ERROR
    assert found["verdicts_reproduce"].passed and found["archive_reaches_into_the_range"].passed
    shown, = found["gate_was_not_bypassed"].metadata["what"].records
    assert shown.data["finding"].startswith("bypass BTCUSDT by-hand")


def test_an_hour_audited_again_says_the_same(archived, run, p33):
    """Byte for byte, beside the archive."""
    kept, = [p for p in Path(p33.history().place.root, "audits").glob("*.json") if f"T{HOUR[11:13]}0000Z-" in p.name]
    before = kept.read_bytes()
    assert run("audit_hour", HOUR).success and kept.read_bytes() == before


def test_the_report_lies_where_its_metadata_says(reported):
    """With the sentence and the pictures beside it."""
    said = metadata(reported, "mismatch_report")
    page = Path(said["report"]).read_text(encoding="utf-8")
    assert reported.success and said["summary"].rstrip(".")[:40] in page
    assert "bypass" in page and "left the gate's path" in said["summary"]
    for name in ("breaks_by_symbol", "picture_of_denials"):
        assert said[name].startswith("![") and "data:image/svg+xml;base64," in said[name]
    assert len(said["breaks_by_symbol"]) < 1_000 and said["denials_by_hour"] == "none"
    assert Path(said["csv"]).exists() and Path(said["json"]).exists()


def test_the_review_says_that_it_has_too_little(archived, run):
    """One verdict is no ground for a change."""
    result = run("review_thresholds", run_config={"ops": {"threshold_review": {"config": {
        "from_time": "2026-01-25", "to_time": "2026-01-26"}}}})
    said = metadata(result, "threshold_review")
    assert result.success and "too little data: 1 verdicts" in said["summary"]
    assert said["env_diff"] == "no change" and Path(said["report"]).exists()


@pytest.mark.parametrize(("form", "words"), [
    ({"from_time": "yesterday"}, "'yesterday' is no ISO 8601 time"), ({"to_time": "9999-12-31"}, "after 2199"),
    ({"from_time": "2026-01-26", "to_time": "2026-01-25"}, "not before to_time"),
    ({"material_pct": "five"}, "five"), ({"material_pct": "101"}, "from 0 to 100")])
def test_a_review_of_no_range_fails_with_a_sentence(archived, run, form, words):
    """What a person typed into the form; it is not tried again."""
    result = run("review_thresholds", run_config={"ops": {"threshold_review": {"config": form}}})
    failure, = (e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE)
    assert words in failure.step_failure_data.user_failure_data.description


def test_the_forms_weight_is_bounded_like_the_commands():
    """Beyond that the costs of many verdicts would not be added up exactly."""
    assert ReviewConfig(weight=10**9).parameters().weight == 10**9
    with pytest.raises(ValidationError, match="weight"):
        ReviewConfig(weight=10**9 + 1)


def test_compaction_merges_and_changes_nothing(archived, run, p33):
    """The same rows before and after."""
    from p33_pipeline.history import TABLES
    before = p33.history().scan(TABLES["snapshots"])
    assert run("compact_history", DAY).success
    assert p33.history().scan(TABLES["snapshots"]).equals(before)


def test_what_was_merged_is_gone_by_the_next_nights_run(archived, run, p33):
    """The schedule asks for each day once: its covered files, old by then, go with the compaction of the day after."""
    folder = Path(p33.history().place.root, "snapshots", f"date={DAY}")
    whole, = folder.glob("part-*.parquet")
    part = folder / f"part-{BEGIN_MS + 95}-0_{BEGIN_MS + 95}-0.parquet"
    part.write_bytes(whole.read_bytes())
    for file in (whole, part):
        os.utime(file, (0, 0))
    tomorrow = day_key(BEGIN_MS + 86_400_000)
    result = run("compact_history", tomorrow)
    assert result.success and metadata(result, "compacted_history")["removed"] == 1
    assert [file.name for file in folder.glob("part-*.parquet")] == [whole.name]


def test_a_day_the_archive_does_not_reach_makes_no_report(p33, instance, tmp_path):
    """The check blocks: a clean report on nothing would be a lie."""
    empty = build_defs(p33=P33(overrides=p33.overrides | {"P33_HISTORY_URL": str(tmp_path)}))
    result = empty.resolve_job_def("report_day").execute_in_process(partition_key=DAY, instance=instance,
                                                                    raise_on_error=False)
    assert not result.success and not checks(result)["archive_reaches_into_the_range"].passed
    assert [e.asset_key.path for e in result.get_asset_materialization_events()] == [["day_audit"]]


def test_a_day_from_before_the_first_poll_makes_no_report(archived, run):
    """Nothing was judged there either: a backfill that begins too early says so."""
    result = run("report_day", "2024-02-29")
    assert not result.success and not checks(result)["archive_reaches_into_the_range"].passed
    assert "nothing was judged" in metadata(result, "day_audit")["summary"]


def test_several_days_in_one_backfill(defs, instance, archived):
    """Each partition its own run, as a backfill over a range makes them; the instance knows them all."""
    job = defs.resolve_job_def("audit_hour")
    for hour in (hour_key(BEGIN_MS + 3_600_000), HOUR):
        assert job.execute_in_process(partition_key=hour, instance=instance).success
    assert HOUR in instance.get_materialized_partitions(dg.AssetKey("hour_audit"))


@pytest.mark.parametrize(("overrides", "words"), [
    ({"REDIS_URL": "redis://:pass-of-nobody@127.0.0.1:1/0"}, "nothing was lost"),
    ({"P33_POLL_SEC": "soon"}, "P33_POLL_SEC=soon: allowed is"),
])
def test_what_cannot_be_done_is_a_failed_step_with_a_sentence(p33, instance, overrides, words):
    """It says what to do, and no secret."""
    defs = build_defs(p33=P33(overrides=p33.overrides | overrides))
    result = defs.resolve_job_def("archive_now").execute_in_process(instance=instance, raise_on_error=False)
    failure, = (e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE)
    said = failure.step_failure_data.user_failure_data.description
    assert words in said and "pass-of-nobody" not in "".join(str(e) for e in result.all_events)


def test_a_merging_without_a_place_fails_with_its_sentence(p33, instance):
    """The UI shows what to do, not a trace alone."""
    wrong = build_defs(p33=P33(overrides=p33.overrides | {"P33_HISTORY_URL": "file://history"}))
    done = wrong.resolve_job_def("compact_history").execute_in_process(
        partition_key=DAY, instance=instance, raise_on_error=False)
    failure, = (e for e in done.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE)
    assert "names no folder" in failure.step_failure_data.user_failure_data.description


def test_a_damaged_file_fails_the_audit_with_its_name(archived, p33, instance, tmp_path):
    """And the file is left as it is."""
    other = p33.overrides | {"P33_HISTORY_URL": str(tmp_path)}
    bad = tmp_path / "snapshots" / f"date={DAY}" / f"part-{BEGIN_MS}-0_{BEGIN_MS}-1.parquet"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"PAR1 and then nothing")
    job = build_defs(p33=P33(overrides=other)).resolve_job_def("audit_hour")
    result = job.execute_in_process(partition_key=HOUR, instance=instance, raise_on_error=False)
    failure, = (e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE)
    said = failure.step_failure_data.user_failure_data.description
    assert bad.name in said and "restore it from a backup" in said and bad.read_bytes().startswith(b"PAR1 and")
