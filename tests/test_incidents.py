"""Every incident and timeline has a test by its name that stands on a real server, and docs/incidents.md lists them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import incidents
from tests.incidents import SERVER, SIMULATION, SIMULATOR, TESTS, module, stands_on

LIST = TESTS.parents[1] / "shared" / "incidents.md"
"""The brief's list, which lies beside the repository."""


@pytest.fixture(scope="module")
def held() -> dict[str, list[incidents.Test]]:
    return incidents.by_id()


def test_each_has_a_test_on_a_real_server(held: dict[str, list[incidents.Test]]) -> None:
    """One that is only simulated, or only a function's, is not enough."""
    assert held and [id_ for id_, its in held.items() if not any(SERVER in test.on for test in its)] == []


def test_none_of_the_list_is_missing(held: dict[str, list[incidents.Test]]) -> None:
    """Where the list is at hand; where it is not, this says so."""
    if not LIST.exists():
        pytest.skip("shared/incidents.md is not beside the repository")
    wanted = re.findall(r"^\| ([IXT]\d\d) \|", LIST.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(wanted) > 60 and sorted(set(wanted) - set(held)) == []


def test_the_page_has_each_of_them(held: dict[str, list[incidents.Test]]) -> None:
    """`make docs` writes it; a test that was added since is no fault of the page, an incident that it lacks is."""
    rows = re.findall(r"^\| ([IXT]\d\d) \|", incidents.PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(rows) == set(held) == set(re.findall(r"^\| ([IXT]\d\d) \|", incidents.page(), re.MULTILINE))


def test_every_test_says_what_it_holds(held: dict[str, list[incidents.Test]]) -> None:
    """The page has its sentence from there."""
    assert [test.name for its in held.values() for test in its if not test.says] == []


@pytest.mark.parametrize(("where", "name", "on"), [
    ("gate/test_taking.py", "test_t03_halted_between_issue_and_take", {SERVER}),
    ("service/test_over_http.py", "test_x05_mismatch_keeps_denying_ages_and_outlives_the_sidecar", {SERVER, SIMULATOR}),
    ("e2e/test_flow.py", "test_i43_two_full_closes_at_once_close_once", {SERVER, SIMULATOR}),
    ("sim/test_stories.py", "test_t03_halt_before_the_taking", {SIMULATION}),
    ("core/test_checks.py", "test_i53_step_from_exchange_floored", set()),
])
def test_what_a_test_stands_on_is_found(where: str, name: str, on: set[str]) -> None:
    """Through fixtures, conftests, helpers and classes; nothing is seen where nothing is."""
    path: Path = TESTS / where
    assert name in module(path).defined and stands_on(name, module(path)) == on
