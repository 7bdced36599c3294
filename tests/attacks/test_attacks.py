"""The attack table is played, and docs/attacks.md is what came of it; `make attacks` writes it."""

from __future__ import annotations

import pytest

from tests.attacks.scene import TOP, Scene
from tests.attacks.table import ATTEMPTS, REFUSED, TRIMS, USERS, Attempt, page, play

PAGE = TOP / "docs" / "attacks.md"
Outcomes = list[tuple[Attempt, dict[str, str]]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """The whole play, once: the alerts and findings that it names were seen, and no order was without its verdict."""
    with Scene(tmp_path_factory.mktemp("attacks")) as scene:
        return play(scene)


def test_every_attempt_ends_as_the_page_says(outcomes: Outcomes) -> None:
    """Row by row, so that a difference shows where it is."""
    assert page(outcomes).splitlines() == PAGE.read_text(encoding="utf-8").splitlines()


def test_whoever_may_not_try_is_refused_by_the_server(outcomes: Outcomes) -> None:
    """Every command of every attempt, for every user whose attempt it is not."""
    assert len(outcomes) == len(ATTEMPTS) + len(TRIMS)
    loose = [(attempt.what, user, cells[user]) for attempt, cells in outcomes for user in USERS
             if (user in attempt.who) is (cells[user] == REFUSED)]
    assert loose == []
