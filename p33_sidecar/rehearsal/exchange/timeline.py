"""Versions of values by key, so that a read can be answered as of a moment ago: the exchange's read lag.

No clock may be read here. Without a lag the newest version holds, whatever the clock did in between.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

KEEP_MS = 120_000
"""Versions that were replaced longer ago than this are forgotten: the longest lag that can be asked for."""


class Timeline(Generic[K, V]):
    """A dictionary that remembers what it held. Keys stay in the order of their first version."""

    def __init__(self) -> None:
        self._versions: dict[K, list[tuple[int, V]]] = {}

    def put(self, key: K, value: V, *, at_ms: int) -> None:
        versions = self._versions.setdefault(key, [])
        versions.append((at_ms, value))
        while len(versions) > 1 and versions[1][0] < at_ms - KEEP_MS:
            del versions[0]

    def get(self, key: K) -> V | None:
        versions = self._versions.get(key)
        return versions[-1][1] if versions else None

    def as_of(self, key: K, moment_ms: int | None) -> V | None:
        """The version that was visible at `moment_ms` (None: the newest); None where there was none yet."""
        versions = self._versions.get(key, ())
        return next((v for at_ms, v in reversed(versions) if moment_ms is None or at_ms <= moment_ms), None)

    def values(self, moment_ms: int | None = None) -> Iterable[V]:
        """Every value visible at the moment, in the order of first appearance."""
        found = (self.as_of(key, moment_ms) for key in tuple(self._versions))
        return (value for value in found if value is not None)

    def drop(self, matches: Callable[[K], bool]) -> None:
        for key in [key for key in self._versions if matches(key)]:
            del self._versions[key]
