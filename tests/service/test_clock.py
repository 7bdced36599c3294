"""The server's time as our loops know it, and what may not be read out of it."""

from __future__ import annotations

import pytest

from p33_sidecar.store.connect import OFFSET_ERROR_MS, ServerClock


@pytest.mark.parametrize(("stamped_ms", "said_ms"), [
    (1_000, 1_000), (999, 1_000), (1_001, 1_001), (1_000 + OFFSET_ERROR_MS, 1_000 + OFFSET_ERROR_MS),
    (1_001 + OFFSET_ERROR_MS, 1_000), (3_601_000, 1_000),
])
def test_a_moment_the_server_has_stamped_is_not_in_the_future(stamped_ms: int, said_ms: int):
    """An entry just read was published by now, whatever our offset says; from an hour ahead it proves nothing (T13)."""
    clock = ServerClock(mono_ns=lambda: 0)
    clock.sync(1_000)
    assert clock.now_ms_at(stamped_ms) == said_ms
