"""One step ahead: while the caller is busy with an item, the next one is made in a thread. Order and errors stay.

For steps that wait (a server, a disk) or compute outside of the interpreter. Never more than one item is held ready.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def ahead(items: Generator[T, None, None]) -> Iterator[Iterator[T]]:
    """The same items. Whoever leaves early waits for the step that runs; nothing of it goes on behind his back."""
    with closing(items), ThreadPoolExecutor(1) as pool:
        yield _one_ahead(items, pool)


def _one_ahead(items: Generator[T, None, None], pool: ThreadPoolExecutor) -> Iterator[T]:
    end = object()
    step = pool.submit(next, items, end)
    while (item := step.result()) is not end:
        step = pool.submit(next, items, end)
        yield item
