"""Many rows as stretches that are worked on several at a time.

A stretch is short enough for its arrays to stay beside the processor; most of the work runs outside of the
interpreter's lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

Some = TypeVar("Some")

ROWS: Final = 250_000


def stretches(count: int) -> list[slice]:
    """So many rows, cut; at least one stretch."""
    return [slice(start, start + ROWS) for start in range(0, max(count, 1), ROWS)]


def each(work: Callable[[slice], Some], cut: Iterable[slice]) -> list[Some]:
    """The work done on every stretch, in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, cut))
