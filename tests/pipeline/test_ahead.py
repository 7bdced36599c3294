"""One step ahead: the same items in the same order, and nothing goes on once the caller has left."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from p33_pipeline.ahead import ahead

PATIENCE_S = 60


def test_the_next_item_is_made_while_the_caller_is_busy_with_one():
    """Each side waits for the other: by turns, they would never come to an end."""
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    with ahead(items()) as made:
        assert next(made) == 1 and second.wait(PATIENCE_S)
        assert list(made) == [2]


def test_an_error_comes_where_it_belongs():
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("two")

    got = []
    with pytest.raises(ValueError, match="two"), ahead(items()) as made:
        got.extend(made)
    assert not got or got == [1]


def test_whoever_leaves_early_leaves_nothing_behind():
    """The step that runs is waited for, and the maker is closed."""
    steps, closed = [], []

    def items() -> Iterator[int]:
        try:
            for number in range(100):
                steps.append(number)
                yield number
        finally:
            closed.append(len(steps))

    with pytest.raises(KeyError), ahead(items()) as made:
        raise KeyError(next(made))
    assert closed == [len(steps)] and len(steps) == 2
    assert not any("ThreadPoolExecutor" in thread.name for thread in threading.enumerate())
