"""`p33-review` as people and scripts meet it: a real process on a real archive; the contract's JSON to the letter."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from p33_pipeline.history import TABLES, History, place_at
from p33_pipeline.history.layout import Part, day_of
from p33_pipeline.ranges import iso
from p33_sidecar.core.model import Policy
from tests.pipeline.hindsight import BEGIN_MS, planted

TOP = ["from_ms", "to_ms", "verdicts", "judged", "current", "recommended", "why_not", "frontier", "flips", "env_diff",
       "report"]
COUNTED = ["policy", "wrong_allows", "wrong_denials", "right_allows", "right_denials"]


def archived(place: Path, tables: dict[str, pa.Table]) -> None:
    """The tables as the archive would hold them, one file each."""
    history = History(place_at(str(place)))
    for name, rows in tables.items():
        whole = TABLES[name].schema
        if not rows.num_rows:
            continue
        time = {"decisions": "id", "snapshots": "requested_at", "trades": "traded_at"}[name]
        at = ([int(text.partition("-")[0]) for text in rows["id"].to_pylist()] if time == "id"
              else rows[time].cast(pa.int64()).to_pylist())
        full = [{"id": f"{ms}-{n}", "at": ms, "seq": n} | row
                for n, (ms, row) in enumerate(zip(at, rows.to_pylist(), strict=True))]
        filled = pa.Table.from_pylist(full, schema=whole)
        part = Part(day_of(at[0]), (min(at), 0), (max(at), len(at)))
        history.append(TABLES[name], filled, part=part, count=len(at))


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The command in a process of its own."""
    return subprocess.run([sys.executable, "-m", "p33_pipeline.review.command", *arguments], capture_output=True,
                          text=True, timeout=300, env={"P33_HISTORY_URL": str(place), "PATH": "", "PYTHONPATH": "."},
                          cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """An archive in which 7 s, 9 s and 0.5 % are right, and 10 s, 15 s and 1 % in force."""
    place = tmp_path_factory.mktemp("archive")
    history = planted(1, policy=Policy(), stale_ms=7_000, cooldown_ms=9_000, tolerance_pct=Decimal("0.5"))
    archived(place, history.tables())
    return place


@pytest.fixture(scope="module")
def said(place) -> dict:
    """What it prints for programs."""
    done = run(place, "--from", iso(BEGIN_MS), "--to", iso(BEGIN_MS + 8 * 3_600_000), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_the_json_is_the_contracts(said):
    """Names, nesting and types of chapter 8."""
    assert list(said) == TOP
    assert list(said["current"]) == COUNTED
    assert list(said["recommended"])[:5] == COUNTED and list(said["recommended"])[-1] == "interval"
    assert said["why_not"] is None
    assert {"plan_id", "was", "becomes", "right"} == said["flips"][0].keys()
    assert (said["from_ms"], said["to_ms"], said["verdicts"]) == (BEGIN_MS, BEGIN_MS + 8 * 3_600_000, 480)


def test_it_recommends_what_was_planted_as_a_diff_of_the_env_file(said):
    """Lines an operator can put into place."""
    assert said["env_diff"].splitlines() == [
        "-P33_STALE_THRESHOLD_SEC=10", "+P33_STALE_THRESHOLD_SEC=7", "-P33_COOLDOWN_SEC=15", "+P33_COOLDOWN_SEC=9",
        "-P33_QTY_TOLERANCE_PCT=1", "+P33_QTY_TOLERANCE_PCT=0.5"]
    assert said["recommended"]["policy"] == said["current"]["policy"] | {
        "stale_threshold_ms": 7_000, "cooldown_ms": 9_000, "qty_tolerance_pct": "0.5"}
    assert said["recommended"]["interval"]["verdicts"] == said["judged"] == 480


def test_the_page_lies_where_the_json_says_and_needs_nothing_else(said):
    """An absolute path, one file, no reference that leads out of it."""
    page = Path(said["report"]["html"])
    text = page.read_text(encoding="utf-8")
    assert page.is_absolute() and len(text) < 2_000_000
    assert "+P33_COOLDOWN_SEC=9" in text and text.count("<circle") > 10
    assert "http://" not in text and "https://" not in text and "src=" not in text


def test_people_get_a_few_lines(place):
    """With the sentence, the diff and where the page lies."""
    done = run(place, "--from", iso(BEGIN_MS), "--to", iso(BEGIN_MS + 8 * 3_600_000), "--weight", "50")
    assert done.returncode == 0
    assert "480 verdicts, 480 judged" in done.stdout and "a wrong allow counted as 50" in done.stdout
    assert "+P33_STALE_THRESHOLD_SEC=7" in done.stdout and "Page: /" in done.stdout


def test_an_archive_without_verdicts_is_judged_to_be_too_little(tmp_path):
    """No failure: exit code 0, nothing recommended, the sentence."""
    done = run(tmp_path, "--last", "7d", "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["recommended"], said["env_diff"], said["flips"]) == (0, None, "", [])
    assert "too little data" in said["why_not"]


@pytest.mark.parametrize(("arguments", "words"), [
    (("--last", "2h", "--from", "2026-01-25"), "--last stands alone"),
    (("--from", "2026-01-26", "--to", "2026-01-25"), "--from is not before --to"),
    (("--from", "yesterday"), "'yesterday' is no ISO 8601 time"),
    (("--poll", "1"), "those polls were not made"),
    (("--tolerance", "x"), "not a decimal number"),
])
def test_wrong_usage_is_one_line_and_exit_code_2(place, arguments, words):
    """And nothing is written."""
    done = run(place, *arguments)
    assert (done.returncode, done.stdout) == (2, "") and words in done.stderr


def test_a_foreign_file_in_the_archive_is_named_and_left_alone(tmp_path):
    """What to do stands in the sentence; the file is as it was."""
    folder = tmp_path / "decisions" / f"date={day_of(BEGIN_MS)}"
    folder.mkdir(parents=True)
    (folder / "other.parquet").write_bytes(b"PAR1 not ours")
    done = run(tmp_path, "--from", iso(BEGIN_MS), "--to", iso(BEGIN_MS + 1_000))
    assert done.returncode == 2 and "other.parquet" in done.stderr and "move it away" in done.stderr
    assert (folder / "other.parquet").read_bytes() == b"PAR1 not ours"
