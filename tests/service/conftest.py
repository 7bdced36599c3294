"""A world of loops per test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.world import World


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    """Loops on an empty database, before their first poll."""
    built = World(redis_url)
    yield built
    built.close()


@pytest.fixture
def ready(world: World) -> World:
    """A world whose BTCUSDT book was adopted at 0.038 and agrees with the exchange."""
    return world.open_books()
