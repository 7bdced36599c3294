"""The whole house on loopback, every program a process: server, exchange, Governor, sidecar, two Apply Layers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.house import House


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """Started once for a module; each test closes positions of its own."""
    with House() as running:
        yield running
