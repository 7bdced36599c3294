"""The definitions load, say what they are, and the schedules ask for the right partitions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml

ROOT = Path(__file__).parents[3]


def test_everything_loads(defs):
    """As a code server would load it."""
    dg.Definitions.validate_loadable(defs)


def test_the_workspace_names_the_module_that_has_them():
    """workspace.yaml at the top of the checkout."""
    place, = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert place["python_module"]["module_name"] == "p33_pipeline.definitions"


def test_every_asset_says_what_it_is(defs):
    """Group, kinds, owner, description: what the catalogue shows."""
    specs = defs.resolve_all_asset_specs()
    assert len(specs) == 6
    for spec in specs:
        assert spec.description and spec.owners and spec.kinds and spec.group_name, spec.key


def test_every_job_schedule_sensor_and_check_says_what_it_is(defs):
    """A name alone helps nobody at night."""
    repository = defs.get_repository_def()
    found = [*(job for job in defs.resolve_all_job_defs() if not job.name.startswith("__")),
             *repository.schedule_defs, *repository.sensor_defs,
             *(spec for node in repository.assets_defs_by_key.values() for spec in node.check_specs)]
    assert len(found) > 20
    for one in found:
        assert one.description, one.name


def test_the_graph_reads_archive_audit_report_tuning(defs):
    """Left to right: no asset depends on one of a later group."""
    order = ["archive", "audit", "report", "tuning"]
    specs = {spec.key: spec for spec in defs.resolve_all_asset_specs()}
    for spec in specs.values():
        for dep in spec.deps:
            assert order.index(specs[dep.asset_key].group_name) <= order.index(spec.group_name)


@pytest.mark.parametrize(("name", "at", "key"), [
    ("audit_every_hour", (2026, 1, 25, 6, 7), "2026-01-25-05:00"),
    ("audit_every_hour", (2026, 1, 25, 0, 7), "2026-01-24-23:00"),
    ("report_every_day", (2026, 3, 1, 0, 15), "2026-02-28"),
    ("compact_every_day", (2026, 1, 25, 0, 45), "2026-01-24"),
])
def test_a_schedule_asks_for_what_just_closed(defs, instance, name, at, key):
    """Across days and months, in UTC."""
    context = dg.build_schedule_context(instance, scheduled_execution_time=datetime(*at, tzinfo=UTC),
                                        repository_def=defs.get_repository_def())
    request, = defs.resolve_schedule_def(name).evaluate_tick(context).run_requests
    assert (request.partition_key, request.run_key) == (key, key)


def test_the_archive_of_a_week_off_is_one_run(defs, instance):
    """The daemon asks for 48 of the ticks that it missed; all but the last kept audits waiting, and the exchange busy.
    """
    schedule, now = defs.resolve_schedule_def("archive_every_five_minutes"), datetime.now(UTC)

    def asked(at: datetime) -> int:
        context = dg.build_schedule_context(instance, scheduled_execution_time=at,
                                            repository_def=defs.get_repository_def())
        return len(schedule.evaluate_tick(context).run_requests)

    assert [asked(now - timedelta(minutes=minutes)) for minutes in (240, 10, 0)] == [0, 0, 1]


@pytest.mark.parametrize(("name", "cron", "running"), [
    ("archive_every_five_minutes", "*/5 * * * *", True), ("audit_every_hour", "7 * * * *", True),
    ("report_every_day", "15 0 * * *", True), ("compact_every_day", "45 0 * * *", True),
    ("review_every_week", "0 6 * * 1", False),
])
def test_when_things_happen_by_themselves(defs, name, cron, running):
    """What the issue asks for; the review waits for a person to start it."""
    schedule = defs.resolve_schedule_def(name)
    assert (schedule.cron_schedule, schedule.execution_timezone) == (cron, "UTC")
    assert (schedule.default_status == dg.DefaultScheduleStatus.RUNNING) is running
