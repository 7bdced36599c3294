"""Rows as the combination they are: one place for the same codes, whether these are few or spread over millions."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from p33_pipeline.review.coded import combined, paired

CODES = st.one_of(st.integers(-1, 3), st.integers(-1, 2**31 - 3))
"""Null, few, and so many that no table has room for them all."""
ROWS = st.integers(0, 12).flatmap(
    lambda count: st.lists(st.lists(CODES, min_size=count, max_size=count), min_size=1, max_size=4))


def arrays(columns: list[list[int]]) -> list[np.ndarray]:
    return [np.array(column, np.int32) for column in columns]


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_rows_have_the_place_of_their_combination(columns):
    place, first = combined(*arrays(columns))
    rows = list(zip(*columns, strict=True))
    assert [rows[first[n]] for n in place] == rows
    assert sorted(set(place.tolist())) == list(range(len(set(rows)))) == list(range(len(first)))


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_columns_that_share_one_are_paired_with_it_together(columns):
    one, *others = arrays([columns[0], *columns])
    places, left, right = paired(one, others)
    pairs = list(zip(left.tolist(), right.tolist(), strict=True))
    told = [[pairs[n] for n in place] for place in places]
    assert told == [list(zip(one.tolist(), other.tolist(), strict=True)) for other in others]
    assert len(pairs) == len(set(pairs)) == len({pair for some in told for pair in some})
