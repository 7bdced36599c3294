"""Sorted lines of events, one a symbol, and where a moment falls on them: an as-of join of integers."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

_MS: Final = 2**43
"""More milliseconds than any time here: a symbol's number and a time make one sortable integer."""


class Line(msgspec.Struct, frozen=True):
    """Events by symbol and time. A place of -1 is none."""

    symbol: np.ndarray
    at_ms: np.ndarray

    def places(self, symbol: np.ndarray, at_ms: np.ndarray) -> np.ndarray:
        """The place of the symbol's last event not after each moment."""
        place = np.searchsorted(_keys(self.symbol, self.at_ms), _keys(symbol, at_ms), side="right") - 1
        return np.where(at(self.symbol, place, -1) == symbol, place, -1)

    def last(self, chosen: np.ndarray) -> np.ndarray:
        """For each place the symbol's last chosen event up to there."""
        upto = np.maximum.accumulate(np.where(chosen, np.arange(len(chosen)), -1))
        return np.where(at(self.symbol, upto, -1) == self.symbol, upto, -1)

    def next(self, chosen: np.ndarray) -> np.ndarray:
        """For each place the symbol's next chosen event from there on."""
        count = len(chosen)
        follows = np.minimum.accumulate(np.where(chosen, np.arange(count), count)[::-1])[::-1]
        follows = np.where(follows < count, follows, -1)
        return np.where(at(self.symbol, follows, -1) == self.symbol, follows, -1)


def at(values: np.ndarray, places: np.ndarray, none: int) -> np.ndarray:
    """The values at places, `none` at -1."""
    return np.append(values, none)[places]


def _keys(symbol: np.ndarray, at_ms: np.ndarray) -> np.ndarray:
    return symbol.astype(np.int64) * _MS + at_ms
