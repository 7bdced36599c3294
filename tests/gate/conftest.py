"""A gate on an empty database, and a hand that issues what it is to take."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from p33_sidecar.gate import Gate
from tests.gate.sidecar import KEY, VENUE, Hand


@pytest.fixture
def hand(redis_client) -> Hand:
    """Writes what sidecar and Governor would have written."""
    return Hand(redis_client)


@pytest.fixture
def new_gate(redis_url: str) -> Iterator[Callable[..., Gate]]:
    """Makes gates; all are closed in the end."""
    made: list[Gate] = []

    def make(**changed) -> Gate:
        made.append(Gate(redis_url, **({"key": (KEY,), "venue": VENUE} | changed)))
        return made[-1]

    yield make
    for gate in made:
        gate.close()


@pytest.fixture
def gate(new_gate) -> Gate:
    """A gate with the right key, at the right exchange."""
    return new_gate()
