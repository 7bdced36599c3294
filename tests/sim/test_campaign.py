"""Random campaigns keep the laws, and broken variants do not: the laws can fail."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.sim.campaign import run_seed
from tests.sim.days import BUSY, DAYS, MISTIMED, WEIGHTS
from tests.sim.laws import LawBroken
from tests.sim.mutants import MUTANTS

GROUPS, SEEDS_A_GROUP = 3, 4
MOST_SEEDS = 300
"""Far more than any mutant has needed (most need fewer than ten)."""


@pytest.mark.parametrize("group", range(GROUPS))
def test_laws_hold_in_random_campaigns(group: int) -> None:
    """Every law after every step, and a campaign that is about something: orders were filled, plans denied."""
    met: Counter[str] = Counter()
    for seed in range(group * SEEDS_A_GROUP, (group + 1) * SEEDS_A_GROUP):
        met += run_seed(seed, weights=(BUSY, WEIGHTS, MISTIMED)[seed % 3])
    assert met["ALLOW"] >= 5 and met["taken"] >= 3 and met["fills"] >= 2 and len(met) >= 10, met


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_broken_variant_is_caught(name: str) -> None:
    """Some seed breaks a law for each mutant. Days of several kinds take turns: each shows what the others hide."""
    with MUTANTS[name](), pytest.raises(LawBroken):
        for seed in range(MOST_SEEDS):
            run_seed(seed, weights=DAYS[seed % len(DAYS)])
