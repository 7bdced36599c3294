"""Columns as numbers: decimals and texts by their place in a list of distinct values, rows by the combination they are.

Few different amounts stand in millions of verdicts. Once each is a small number, a verdict's amounts are gathered,
compared and put together as integers, and arithmetic is done on the distinct ones only, exactly. -1 is null.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from p33_pipeline.review.lines import at


def coded(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Each row's place in the column's distinct values, and these."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    told = column.dictionary_encode()
    return filled(told.indices, -1), told.dictionary


def filled(column: pa.Array, unknown: int) -> np.ndarray:
    """A column of integers, with a number for null."""
    return (pc.fill_null(column, unknown) if column.null_count else column).to_numpy()


def unified(*columns: tuple[np.ndarray, pa.Array]) -> tuple[list[np.ndarray], pa.Array]:
    """Columns that were coded each by its own values, coded by the values of all of them."""
    places, values = coded(pa.concat_arrays([own for _, own in columns]))
    starts = np.cumsum([0, *(len(own) for _, own in columns)])
    return [at(places[start:start + len(own)], codes, -1).astype(np.int32)
            for start, (codes, own) in zip(starts, columns, strict=False)], values


def gathered(values: pa.Array, places: np.ndarray) -> pa.Array:
    """The values at places, null at -1."""
    return values.take(pa.array(places, mask=places < 0))


def places_in(values: pa.Array, column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Each row's place in `values`, -1 for what is not among them."""
    return pc.fill_null(pc.index_in(column, values, skip_nulls=True), -1).to_numpy()


def combined(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's place among the distinct combinations of codes, and for each combination a row that has it."""
    key, size = np.zeros(1, np.int64), 1
    for column in columns:
        width = int(column.max(initial=-1)) + 2
        if size * width >= 2**62:
            (key,), _ = _places([key], size)
            size = int(key.max(initial=-1)) + 1
        key = key * width + (column + 1)
        size *= width
    (place,), found = _places([key], size)
    first = np.empty(len(found), np.int64)
    first[place] = np.arange(len(place))
    return place, first


def paired(one: np.ndarray, others: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """For each of the others each row's place among all distinct pairs with `one`, and the codes of these pairs."""
    width = max(int(other.max(initial=-1)) for other in others) + 2
    keys = [(one + np.int64(1)) * width + (other + 1) for other in others]
    places, pairs = _places(keys, (int(one.max(initial=-1)) + 2) * width)
    return places, pairs // width - 1, pairs % width - 1


def _places(keys: Sequence[np.ndarray], size: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Each key's place among the distinct ones of all, and these; keys are below `size`."""
    lengths = [len(key) for key in keys]
    if size > 4 * sum(lengths) + 1_000_000:
        told = pa.array(np.concatenate(keys)).dictionary_encode()
        return np.split(told.indices.to_numpy(), np.cumsum(lengths)[:-1]), told.dictionary.to_numpy()
    present = np.zeros(size, bool)
    for key in keys:
        present[key] = True
    found = np.flatnonzero(present)
    places = np.empty(size, np.int32)
    places[found] = np.arange(len(found))
    return [places[key] for key in keys], found
