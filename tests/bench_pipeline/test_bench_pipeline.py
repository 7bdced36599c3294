"""The pipeline benchmark's short form: its figures are printed and its findings are the planted ones.

The figures carry no weight here. The day's rows are held against what the archive makes of the same records.
"""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from p33_pipeline.archive.rows import table_of
from p33_pipeline.history import TABLES, History, place_at
from tests.bench_pipeline.day import write_day


def test_the_short_form_prints_its_figures_and_finds_the_truth() -> None:
    """Exit code 1 is for an audit that missed something or made it up."""
    done = subprocess.run([sys.executable, "-m", "tests.bench_pipeline", "--quick"], capture_output=True, text=True,
                          timeout=900, check=False)
    assert done.returncode == 0 and "FAILED" not in done.stdout, done.stdout + done.stderr[-2000:]
    for figure in ("audit / join over the same columns", "audit, peak of memory", "review of 10,000 / scan",
                   "archive of decisions"):
        assert figure in done.stdout


@pytest.mark.parametrize("table", ["decisions", "plans"])
def test_the_days_rows_are_what_the_archive_makes_of_their_records(tmp_path, table) -> None:
    """Every column of every row."""
    history = History(place_at(str(tmp_path)))
    day = write_day(history, scale=0, density=0.02, each=2)
    rows = history.scan(TABLES[table])
    raws = rows["raw"].to_pylist()
    fields = [{"json": raw} if table == "decisions" else msgspec.json.decode(raw) for raw in raws]
    again = table_of(TABLES[table], list(zip(rows["id"].to_pylist(), fields, strict=True)))
    assert rows.combine_chunks().equals(again.combine_chunks())
    assert table == "plans" or rows.num_rows == day.verdicts
