"""The short form of the killing campaign; `make kill` is the long one."""

from __future__ import annotations

from tests.e2e.campaign import run

ROUNDS = 3


def test_killed_at_random_moments_the_law_holds():
    """kill -9 of sidecar and Apply Layers: one result, at most one order, and a ledger that equals the exchange."""
    campaign = run(rounds=ROUNDS, seed=20)
    assert campaign.executed + campaign.blocked == ROUNDS
