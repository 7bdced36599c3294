"""`p33-audit` as a process: archive, audit, report, exit codes, and the contract's JSON to the letter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from p33_pipeline.ranges import iso
from tests.pipeline.engine.conftest import BEGIN_MS

ROOT = Path(__file__).parents[3]
RANGE = ("--from", iso(BEGIN_MS), "--to", iso(BEGIN_MS + 3_600_000))


def run(overrides: dict[str, str], *arguments: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "p33_pipeline.audit_command", *arguments], capture_output=True,
                          text=True, timeout=300, env=overrides | env | {"PYTHONPATH": str(ROOT), "PATH": ""},
                          cwd=ROOT, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def done(p33) -> subprocess.CompletedProcess:
    """Over the hour in which the gate was bypassed."""
    return run(p33.overrides, *RANGE, "--json")


def test_something_found_is_exit_code_1_and_the_contracts_json(done):
    """Names and nesting of chapter 8; the bypass is in it."""
    said = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert list(said) == ["from_ms", "to_ms", "summary", "breaks", "flow", "sources", "report"]
    assert (said["from_ms"], said["to_ms"]) == (BEGIN_MS, BEGIN_MS + 3_600_000)
    assert "bypass" in {found["finding"] for found in said["flow"]} and said["summary"]["verdicts"] == 1
    assert all(Path(said["report"][kind]).is_absolute() and Path(said["report"][kind]).exists()
               for kind in ("html", "csv", "json"))
    assert json.loads(Path(said["report"]["json"]).read_text())["flow"] == said["flow"]


def test_again_it_finds_the_same(done, p33):
    """Nothing new to archive, the same findings."""
    again = run(p33.overrides, *RANGE, "--json")
    assert json.loads(again.stdout) == json.loads(done.stdout)


def test_nothing_found_is_exit_code_0(done, p33):
    """Twenty minutes before anything happened."""
    quiet = run(p33.overrides, "--from", iso(BEGIN_MS + 300_000), "--to", iso(BEGIN_MS + 1_500_000), "--no-archive")
    assert quiet.returncode == 0 and "All three accounts agreed" in quiet.stdout and "Report: /" in quiet.stdout


def test_nothing_to_judge_is_exit_code_2(done, p33, tmp_path):
    """The hour before the first poll, and a history that is none: a script must not take that for an all-clear."""
    early = run(p33.overrides, "--from", iso(BEGIN_MS - 3_600_000), "--to", iso(BEGIN_MS), "--no-archive")
    typed_wrong = run(p33.overrides, *RANGE, "--no-archive", P33_HISTORY_URL=str(tmp_path / "hsitory"))
    for told in (early, typed_wrong):
        assert told.returncode == 2 and "nothing was judged" in told.stdout and "agreed" not in told.stdout
        assert "has no poll of this range" in told.stderr and len(told.stderr.splitlines()) == 1


@pytest.mark.parametrize(("url", "words"), [
    ("file://history", "names no folder"), ("file://host/var/lib/p33", "names no folder"),
    ("/proc/p33", "cannot be used"), ("/dev/null", "cannot be used"),
])
def test_a_history_that_cannot_be_is_a_line_and_exit_code_2(p33, url, words):
    """Not a trace with the exit code of a finding, and nothing is written beside."""
    told = run(p33.overrides, *RANGE, "--no-archive", P33_HISTORY_URL=url)
    assert (told.returncode, told.stdout) == (2, "") and words in told.stderr and len(told.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["50%25 ✓", "what? really#"])
def test_a_folder_may_be_called_anything(p33, tmp_path, name):
    """Archive, report and the registry beside them lie in it; a file:// URL is decoded."""
    for url in (str(tmp_path / name), (tmp_path / name).as_uri()):
        told = run(p33.overrides, *RANGE, "--no-archive", P33_HISTORY_URL=url)
        assert f"the archive at {tmp_path / name} has no poll" in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {path.name for path in (tmp_path / name).iterdir()} == {"audits", "registry.sqlite", "reports"}


@pytest.mark.parametrize(("arguments", "words"), [
    (("--last", "999999w"), "before 1970"), (("--from", "0001-01-01"), "before 1970"),
    (("--to", "9999-12-31"), "after 2199"), (("--from", "2026-01-26", "--to", "2026-01-25"), "not before --to"),
])
def test_a_range_that_is_none_says_why(p33, arguments, words):
    told = run(p33.overrides, *arguments, "--no-archive")
    assert (told.returncode, told.stdout) == (2, "") and words in told.stderr


def test_what_cannot_be_done_is_exit_code_2_and_a_sentence(p33):
    """Redis away, a setting that cannot be used, a range that is none; no secret is said."""
    away = run(p33.overrides, *RANGE, REDIS_URL="redis://:pass-of-nobody@127.0.0.1:1/0")
    assert (away.returncode, away.stdout) == (2, "") and "nothing was lost" in away.stderr
    assert "pass-of-nobody" not in away.stderr and len(away.stderr.splitlines()) == 1
    assert run(p33.overrides, P33_POLL_SEC="soon").returncode == 2
    assert "--last stands alone" in run(p33.overrides, *RANGE, "--last", "1h").stderr
