"""Rows into columns: a batch of messages as one Arrow table of the archive's types.

The whole batch is cast at once; only where that fails are the rows that fit no column looked for, by halves, so that
one odd message costs itself its columns and nobody else anything. Batches are best small: what is decoded is put into
columns while it is still near the processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from p33_pipeline.archive.messages import DECODERS, PARTS, raw_of
from p33_pipeline.archive.values import Fields, Row, fits
from p33_pipeline.history.tables import AMOUNT, TEXT, TIME, WHOLE, Table
from p33_sidecar.core.model import LATEST_MS
from p33_sidecar.core.quantity import parse

UNREADABLE = (msgspec.MsgspecError, ValueError, KeyError, ArithmeticError, RecursionError)
UNFIT = (pa.ArrowException, ValueError, OverflowError)
LARGEST = (1 << 63) - 1
"""What a column of whole numbers holds; half of an id may be twice as large."""


def table_of(table: Table, entries: list[tuple[str, Fields]]) -> pa.Table:
    """The entries as rows, in their order."""
    rows, problems = _decoded(table, entries)
    try:
        columns = _columns(table, rows)
    except UNFIT:
        for index, why in list(_unfit(table, rows)):
            rows[index], problems[index] = _empty(table), why
        columns = _columns(table, rows)
    raws = [raw_of(table.name, fields) for _, fields in entries]
    arrays = [*_ids(entries), *columns, pa.array(problems, TEXT), _texts(raws)]
    return pa.Table.from_arrays(arrays, schema=table.schema)


def _decoded(table: Table, entries: list[tuple[str, Fields]]) -> tuple[list[Row], list[str | None]]:
    """The values of each message, and what is wrong with those that have none."""
    decode, empty = DECODERS[table.name], _empty(table)
    rows: list[Row] = []
    problems: list[str | None] = []
    for _, fields in entries:
        try:
            rows.append(decode(fields))
            problems.append(None)
        except UNREADABLE as error:
            rows.append(empty)
            problems.append(_said(error))
    return rows, problems


def _empty(table: Table) -> Row:
    parts = PARTS.get(table.name, ())
    return (*(None,) * (len(table.columns) - sum(parts)), *((None,) * width for width in parts))


def _ids(entries: list[tuple[str, Fields]]) -> list[pa.Array]:
    """The ids as texts, as times, as numbers; halves that are no time or too large stand as the largest there is."""
    ids = pa.array([entry_id for entry_id, _ in entries], TEXT)
    halves = pc.split_pattern(ids, "-")
    ms, seq = (pc.min_element_wise(pc.list_element(halves, half).cast(pa.uint64()), pa.scalar(most, pa.uint64()))
               .cast(WHOLE) for half, most in enumerate((LATEST_MS, LARGEST)))
    return [ids, ms.view(TIME), seq]


def _columns(table: Table, rows: list[Row]) -> list[pa.Array]:
    kinds = [kind for _, kind in table.columns]
    parts = PARTS.get(table.name, ())
    by_column = list(zip(*rows, strict=True)) if rows else [()] * len(_empty(table))
    own = len(by_column) - len(parts)
    arrays = [_array(values, kind) for values, kind in zip(by_column[:own], kinds, strict=False)]
    for values, width in zip(by_column[own:], parts, strict=True):
        arrays += _repeated(values, kinds[len(arrays):len(arrays) + width])
    return arrays


def _repeated(values: tuple[Row, ...], kinds: list[pa.DataType]) -> list[pa.Array]:
    """The columns of a part: the few different ones are made into columns, and taken for each row."""
    places: dict[Row, int] = {}
    which = pa.array([places.setdefault(value, len(places)) for value in values], pa.int32())
    columns = zip(*places, strict=True) if places else [()] * len(kinds)
    return [_array(column, kind).take(which) for column, kind in zip(columns, kinds, strict=True)]


def _array(values: tuple[Any, ...], kind: pa.DataType) -> pa.Array:
    """The values as a column. Raises one of UNFIT where one of them does not fit, exactly as it is."""
    if kind == AMOUNT:
        return pa.array(values, TEXT).cast(kind)
    if kind == TIME:
        times = pa.array(values, WHOLE)
        if any(abs(end or 0) > LATEST_MS for end in pc.min_max(times).as_py().values()):
            raise ValueError("not a time")
        return times.view(kind)
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        return _lists(values, kind)
    return pa.array(values, kind)


def _lists(values: tuple[list[Row] | None, ...], kind: pa.ListType) -> pa.Array:
    """Lists of structs, column by column: the structs of all rows at once. A row without a list has none."""
    inner = kind.value_type
    fields = [inner.field(index) for index in range(inner.num_fields)]
    offsets, structs = [0], []
    for value in values:
        structs += value or ()
        offsets.append(len(structs))
    columns = list(zip(*structs, strict=True)) if structs else [()] * len(fields)
    arrays = [_array(column, field.type) for column, field in zip(columns, fields, strict=True)]
    missing = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.StructArray.from_arrays(arrays, fields=fields),
                                    type=kind, mask=missing)


def _unfit(table: Table, rows: list[Row], first: int = 0) -> Iterator[tuple[int, str]]:
    """Which rows have a value that fits no column, and why; they are few, so halves without any are left alone."""
    try:
        _columns(table, rows)
    except UNFIT as error:
        if len(rows) == 1:
            yield first, _reason(table, rows[0]) or _said(error)
            return
        middle = len(rows) // 2
        yield from _unfit(table, rows[:middle], first)
        yield from _unfit(table, rows[middle:], first + middle)


def _reason(table: Table, row: Row) -> str | None:
    """The first of the row's columns that its value does not fit."""
    own = len(row) - len(PARTS.get(table.name, ()))
    try:
        for value, (name, kind) in zip((*row[:own], *chain(*row[own:])), table.columns, strict=True):
            _fit(name, value, kind)
    except UNFIT as error:
        return _said(error)
    return None


def _fit(name: str, value: Any, kind: pa.DataType) -> None:
    if kind == AMOUNT and value is not None and not fits(parse(value)):
        raise ValueError(f"{name} has more digits than the archive's column")
    if kind == TIME and value is not None and abs(value) > LATEST_MS:
        raise ValueError(f"{name} is not a time: {value}")
    _array((value,), kind)


def _texts(values: list[str | bytes]) -> pa.Array:
    """Texts as they are; what Arrow cannot hold (bytes that were no UTF-8 came as lone surrogates) is spelled out."""
    try:
        return pa.array(values, TEXT)
    except UnicodeEncodeError:
        return pa.array([value.encode("utf-8", "backslashreplace") for value in values], TEXT)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
