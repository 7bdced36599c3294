"""What people say of breaks: from the command and from the job's form, kept with its history, shown in the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest

from p33_pipeline.breaks_command import known_breaks
from p33_pipeline.registry import Registry, RegistryUnavailable
from p33_pipeline.report.report import Note
from tests.pipeline.engine.conftest import DAY, HOUR, metadata

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def break_id(run, p33) -> str:
    """The break that the order which nobody allowed left behind."""
    assert run("audit_now", HOUR).success
    return next(iter(known_breaks(p33.history())))


def p33_breaks(p33, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "p33_sidecar.cli", "breaks", *arguments], capture_output=True,
                          text=True, timeout=300, cwd=ROOT, env=p33.overrides | {"PYTHONPATH": str(ROOT), "PATH": "",
                                                                      "USER": os.environ.get("USER", "ada")})


def test_a_break_is_annotated_from_the_command_line(p33, break_id, run):
    """State, owner, comment; the report of the day shows them."""
    done = p33_breaks(p33, "annotate", break_id, "--state", "investigating", "--owner", "ada", "--comment", "by hand?")
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(p33_breaks(p33, "list", "--json").stdout)
    row = next(row for row in shown if row["break_id"] == break_id)
    assert (row["state"], row["owner"], row["comment"], row["closed"]) == ("investigating", "ada", "by hand?", None)
    page = Path(metadata(run("report_day", DAY), "mismatch_report")["report"]).read_text()
    assert "investigating · ada" in page


def test_a_break_is_annotated_from_the_form(p33, instance, break_id, defs):
    """What is left empty stays; every change is kept."""
    job = defs.resolve_job_def("annotate_break")
    form = {"break_id": break_id, "by": "grace", "state": "explained"}
    assert job.execute_in_process(instance=instance, run_config={"ops": {"annotate": {"config": form}}}).success
    shown = json.loads(p33_breaks(p33, "show", break_id, "--json").stdout)
    assert (shown["state"], shown["owner"]) == ("explained", "ada")
    assert [change["by"] for change in shown["history"]][-1] == "grace" and len(shown["history"]) >= 2


@pytest.mark.parametrize(("form", "words"), [
    ({"break_id": "no-such-break", "by": "ada"}, "no audit found a break"),
    ({"by": "ada", "state": "done"}, "one of open, investigating"),
])
def test_a_wrong_form_fails_with_a_sentence(instance, break_id, defs, form, words):
    """And writes nothing."""
    config = {"ops": {"annotate": {"config": {"break_id": break_id} | form}}}
    result = defs.resolve_job_def("annotate_break").execute_in_process(instance=instance, run_config=config,
                                                                       raise_on_error=False)
    failure, = (e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE)
    assert words in failure.step_failure_data.user_failure_data.description


def test_what_people_say_does_not_act_on_the_terminal(p33, break_id):
    """Colours, titles and line ends in a comment are shown, not sent."""
    assert p33_breaks(p33, "annotate", break_id, "--comment", "\x1b]0;title\x07\nred").returncode == 0
    for arguments in (("list", "--all"), ("show", break_id)):
        told = p33_breaks(p33, *arguments)
        assert told.returncode == 0 and not {"\x1b", "\x07"} & set(told.stdout)
    assert "\\x1b]0;title\\x07\\x0ared" in told.stdout


def test_of_several_people_at_once_nobody_undoes_what_another_said(tmp_path):
    """Each says one thing of the same break, and all three are known."""
    said = ({"state": "explained"}, {"owner": "ada"}, {"comment": "by hand"})
    url = f"sqlite:///{tmp_path / 'notes.sqlite'}"
    people, together = [Registry(url) for _ in said], threading.Barrier(len(said))

    def say(person: Registry, break_id: str, words: dict[str, str]) -> None:
        together.wait(60)
        person.annotate(break_id, by="somebody", **words)

    with ThreadPoolExecutor(len(said)) as pool:
        for number in range(10):
            list(pool.map(say, people, [f"break{number}"] * len(said), said))
    assert set(people[0].notes().values()) == {Note("explained", "ada", "by hand")} and len(people[0].notes()) == 10
    for person in people:
        person.close()


def test_an_annotation_that_says_nothing_is_none(p33, break_id):
    told = p33_breaks(p33, "annotate", break_id)
    assert told.returncode == 2 and "nothing is said" in told.stderr


def test_an_unknown_break_is_exit_code_1(p33, break_id):
    """With where to look."""
    done = p33_breaks(p33, "show", "0123456789abcdef")
    assert done.returncode == 1 and "p33 breaks list" in done.stderr


def test_a_database_that_cannot_be_used_says_so_without_its_login():
    """The URL holds a password."""
    with pytest.raises(RegistryUnavailable) as refused:
        Registry("postgresql+nodriver://p33:pass-of-nobody@127.0.0.1:1/p33")
    assert "P33_REGISTRY_URL" in str(refused.value) and "pass-of-nobody" not in str(refused.value)


def test_a_postgres_is_asked_with_the_driver_that_is_installed():
    """Named as settings.md does: the library's own choice is a driver that nothing here brings."""
    with pytest.raises(RegistryUnavailable, match=r"OperationalError"):
        Registry("postgresql://ops:pass-of-nobody@127.0.0.1:1/breaks")
