"""A day that was archived too late for its audit is audited again by itself, once."""

from __future__ import annotations

import dagster as dg
import pytest

from p33_pipeline import audit_sensors
from p33_pipeline.archive.everything import NOTE
from p33_pipeline.archive.trades import Reach, write_reaches
from p33_pipeline.audit_sensors import audit_what_came_late
from p33_pipeline.auditing import kept_audit
from p33_pipeline.history import History
from p33_pipeline.partitions import DAY_MS, HOUR_MS
from p33_pipeline.resources import P33
from tests.core.made import NOW_MS
from tests.pipeline.engine.conftest import BEGIN_MS, DAY, HOUR, build_defs

DAY_END_MS = (NOW_MS // DAY_MS + 1) * DAY_MS
MINUTE_MS = 60_000


@pytest.fixture
def late(p33, tmp_path, monkeypatch) -> P33:
    """A history of this test's own; it is the next morning."""
    monkeypatch.setattr(audit_sensors, "_now_ms", lambda: DAY_END_MS + HOUR_MS)
    return P33(overrides=p33.overrides | {"P33_HISTORY_URL": str(tmp_path)})


def reached(history: History, until_ms: int, *, trades_ms: int | None = None) -> None:
    """As if the archive had gone so far and no further."""
    history.place.write(NOTE, f'{{"v":1,"until_ms":{until_ms}}}'.encode())
    if trades_ms is not None:
        write_reaches(history, {"BTCUSDT": Reach(BEGIN_MS, trades_ms),
                                "GONEUSDT": Reach(BEGIN_MS - 3 * DAY_MS, BEGIN_MS - 2 * DAY_MS)})


def asked(p33: P33, instance: dg.DagsterInstance) -> list[tuple[str | None, str | None]]:
    """(job, partition) of what the sensor asks the daemon for."""
    context = dg.build_sensor_context(instance=instance, resources={"p33": p33},
                                      definitions=build_defs(p33=p33))
    requests = audit_what_came_late.evaluate_tick(context).run_requests or []
    assert all(request.tags["requested_by"] == "late archive" for request in requests)
    return [(request.job_name, request.partition_key) for request in requests]


def execute(p33: P33, instance: dg.DagsterInstance, job: str, partition: str | None = None) -> bool:
    return build_defs(p33=p33).resolve_job_def(job).execute_in_process(
        partition_key=partition, instance=instance, raise_on_error=False).success


def bypasses(history: History) -> int:
    """How many the day's audit tells of; there is one, a minute after NOW_MS."""
    found = kept_audit(history, from_ms=DAY_END_MS - DAY_MS, to_ms=DAY_END_MS)
    assert found is not None
    return [finding.finding for finding in found.flow].count("bypass")


def test_what_the_archive_reached_in_part_is_audited_again_when_it_has_caught_up(late, store, instance):
    """The hour that was cut and its day, neither before the rest can be judged nor a second time."""
    history = late.history()
    assert execute(late, instance, "archive_now")
    reached(history, NOW_MS)
    for job, partition in (("audit_hour", HOUR), ("report_day", DAY)):
        execute(late, instance, job, partition)
    assert asked(late, instance) == [] and bypasses(history) == 0

    reached(history, DAY_END_MS + MINUTE_MS)
    assert asked(late, instance) == [("audit_hour", HOUR)]
    reached(history, DAY_END_MS + 5 * MINUTE_MS)
    assert asked(late, instance) == [("audit_hour", HOUR), ("report_day", DAY)]

    for job, partition in asked(late, instance):
        execute(late, instance, job, partition)
    assert asked(late, instance) == [] and bypasses(history) == 1


def test_trades_that_came_late_are_a_reason_as_well(late, instance):
    """The streams were there, the exchange was not; a symbol that nobody asks for any more is not waited for."""
    history = late.history()
    reached(history, DAY_END_MS + HOUR_MS, trades_ms=DAY_END_MS - HOUR_MS)
    execute(late, instance, "report_day", DAY)
    assert asked(late, instance) == []
    reached(history, DAY_END_MS + HOUR_MS, trades_ms=DAY_END_MS + 5 * MINUTE_MS)
    assert asked(late, instance) == [("report_day", DAY)]
