"""Rows into columns: a batch of messages as one Arrow table of the archive's types.

The whole batch is cast at once; only where that fails is each row looked at by itself, so that one odd message costs
itself its columns and nobody else anything.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from p33_pipeline.archive.messages import DECODERS, raw_of
from p33_pipeline.archive.values import Fields, fits
from p33_pipeline.history.layout import id_of
from p33_pipeline.history.tables import AMOUNT, Table
from p33_sidecar.core.quantity import parse

LATEST_MS = 253_402_300_799_999
"""The end of the year 9999: what lies beyond is no time that a reader could print."""
UNREADABLE = (msgspec.MsgspecError, ValueError, KeyError, ArithmeticError, RecursionError)


def table_of(table: Table, entries: list[tuple[str, Fields]]) -> pa.Table:
    """The entries as rows, in their order."""
    decode, empty = DECODERS[table.name], (None,) * len(table.columns)
    rows, problems = [], []
    for _, fields in entries:
        try:
            rows.append(decode(fields))
            problems.append(None)
        except UNREADABLE as error:
            rows.append(empty)
            problems.append(_said(error))
    try:
        columns = _columns(table, rows)
    except (pa.ArrowException, ValueError, OverflowError):
        rows = [_row_or_empty(table, row, problems, index) for index, row in enumerate(rows)]
        columns = _columns(table, rows)
    ids = [id_of(entry_id) for entry_id, _ in entries]
    head = [[entry_id for entry_id, _ in entries], [ms for ms, _ in ids], [seq for _, seq in ids]]
    tail = [problems, [_storable(raw_of(table.name, fields)) for _, fields in entries]]
    arrays = [*head, *columns, *tail]
    typed = [_array(values, field.type) for values, field in zip(arrays, table.schema, strict=True)]
    return pa.Table.from_arrays(typed, schema=table.schema)


def _columns(table: Table, rows: list[tuple[Any, ...]]) -> list[pa.Array]:
    by_column = list(zip(*rows, strict=True)) if rows else [()] * len(table.columns)
    return [_array(list(values), kind) for values, (_, kind) in zip(by_column, table.columns, strict=True)]


def _array(values: list[Any] | pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        return _lists(values, kind)
    if kind == AMOUNT:
        return pa.array(values, pa.string()).cast(kind)
    array = pa.array(values, kind)
    if pa.types.is_timestamp(kind) and (pc.max(array.cast(pa.int64())).as_py() or 0) > LATEST_MS:
        raise ValueError("not a time")
    return array


def _lists(values: list[list[tuple[Any, ...]] | None], kind: pa.ListType) -> pa.Array:
    """Lists of structs, column by column: the structs of all rows at once. A row without a list has none."""
    inner = kind.value_type
    fields = [inner.field(index) for index in range(inner.num_fields)]
    offsets, structs = [0], []
    for value in values:
        structs += value or ()
        offsets.append(len(structs))
    columns = list(zip(*structs, strict=True)) if structs else [()] * len(fields)
    arrays = [_array(list(column), field.type) for column, field in zip(columns, fields, strict=True)]
    missing = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.StructArray.from_arrays(arrays, fields=fields),
                                    type=kind, mask=missing)


def _row_or_empty(table: Table, row: tuple[Any, ...], problems: list[str | None], index: int) -> tuple[Any, ...]:
    """The row, or nothing of it where one of its values fits no column."""
    try:
        for value, (name, kind) in zip(row, table.columns, strict=True):
            _fit(name, value, kind)
    except (ValueError, OverflowError, pa.ArrowException) as error:
        problems[index] = problems[index] or _said(error)
        return (None,) * len(table.columns)
    return row


def _fit(name: str, value: Any, kind: pa.DataType) -> None:
    if kind == AMOUNT and value is not None and not fits(value if isinstance(value, Decimal) else parse(value)):
        raise ValueError(f"{name} has more digits than the archive's column")
    if pa.types.is_timestamp(kind) and value is not None and abs(value) > LATEST_MS:
        raise ValueError(f"{name} is not a time: {value}")
    _array([value], kind)


def _storable(text: str) -> str:
    """Bytes that were no UTF-8 came as lone surrogates or backslashes; what Arrow cannot hold is spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
