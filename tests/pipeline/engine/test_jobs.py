"""Each job on a real instance, a real Redis and a real archive: what it says, what its checks conclude."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from p33_pipeline.resources import P33
from tests.pipeline.engine.conftest import DAY, build_defs, checks, metadata


@pytest.fixture(scope="module")
def archived(run):
    """The first run over the hour."""
    return run("archive_now")


def test_the_archive_takes_everything_once(archived, run):
    """120 polls, an opening, a plan, a verdict, a result; then nothing new, and it says so."""
    assert archived.success and metadata(archived, "stream_archive")["dagster/row_count"] == 124
    again = run("archive_now")
    said = metadata(again, "stream_archive")
    assert again.success and said["dagster/row_count"] == 0 and "0 new entries" in said["summary"]
    assert checks(again)["nothing_was_trimmed_unread"].passed


def test_the_review_says_that_it_has_too_little(archived, run):
    """One verdict is no ground for a change."""
    result = run("review_thresholds", run_config={"ops": {"threshold_review": {"config": {
        "from_time": "2026-01-25", "to_time": "2026-01-26"}}}})
    said = metadata(result, "threshold_review")
    assert result.success and "too little data: 1 verdicts" in said["summary"]
    assert said["env_diff"] == "no change" and Path(said["report"]).exists()


def test_compaction_merges_and_changes_nothing(archived, run, p33):
    """The same rows before and after."""
    from p33_pipeline.history import TABLES
    before = p33.history().scan(TABLES["snapshots"])
    assert run("compact_history", DAY).success
    assert p33.history().scan(TABLES["snapshots"]).equals(before)


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
