"""Archived verdicts taken again with the house's own rule: the same bytes, or somebody changed something.

Up to `EXACT_MOST` verdicts in a range, and with `exact` whatever their number, each one's bytes are compared. Of more,
outcome, reason and quantities of every verdict are taken again by the rules for whole columns; byte by byte are
compared all that those do not pass and, as a sample, whole minutes of at least `EXACT_MOST` verdicts. Which minutes is
chosen by their hash: the same range is always judged by the same ones. The audit's counts say how many were compared.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import groupby

import msgspec
import pyarrow as pa

from p33_pipeline.audit.findings import FlowFinding
from p33_pipeline.audit.rules import prepare, unlike_sql
from p33_pipeline.audit.scope import Scope, register, rows
from p33_sidecar.core.record import read_record, reproduce

EXACT_MOST = 20_000
BATCH = 5_000
MINUTE_MS = 60_000
ALONE_MOST = 100_000
"""So many verdicts are compared by this process alone; a second one would cost its start."""
RANGES_MOST = 200
"""More stretches than this are not looked up one by one."""
UNREADABLE = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)
_IDS = pa.schema([("at_ms", pa.int64()), ("seq", pa.int64())])
Archived = tuple[str | None, str | None, str | None, int, str]
"""A verdict: symbol, plan_id, outcome, at_ms, raw."""


class Retaken(msgspec.Struct, frozen=True):
    """Verdicts that do not come out again; how many there are, and how many were compared byte by byte."""

    found: tuple[FlowFinding, ...]
    verdicts: int
    exactly: int


def retake(scope: Scope, *, exact: bool = False) -> Retaken:
    """Take the range's verdicts again."""
    minutes = _minutes(scope)
    total = sum(minutes.values())
    if exact or total <= EXACT_MOST:
        return _compared(_read(scope, [(scope.from_ms, scope.to_ms)]), total=total, expected=total)
    prepare(scope)
    inside = f"(SELECT * FROM decisions WHERE {_within(scope.from_ms, scope.to_ms)})"  # noqa: S608 - integers of ours
    suspects = rows(scope, unlike_sql(inside))
    chosen = sample(minutes, EXACT_MOST)
    wanted = sorted({*chosen, *(row["at_ms"] // MINUTE_MS for row in suspects)})
    register(scope, "suspects", pa.Table.from_pylist(suspects, schema=_IDS))
    stretches = list(_stretches(wanted, scope)) if len(wanted) <= RANGES_MOST else [(scope.from_ms, scope.to_ms)]
    return _compared(_read(scope, stretches, sampled=chosen), total=total,
                     expected=len(suspects) + sum(minutes[minute] for minute in chosen))


def sample(minutes: dict[int, int], least: int) -> set[int]:
    """So many minutes, in the order of their hashes, that they hold `least` verdicts."""
    chosen: set[int] = set()
    for minute in sorted(minutes, key=lambda minute: hashlib.sha256(str(minute).encode()).digest()):
        if sum(minutes[one] for one in chosen) >= least:
            break
        chosen.add(minute)
    return chosen


def unlike(raw: str, outcome: str | None) -> str:
    """What differs between the record and the same verdict taken again; empty where nothing does."""
    try:
        record = read_record(raw)
        again, _ = reproduce(record)
    except UNREADABLE as error:
        return f"it cannot be taken again: {str(error)[:160]}"
    if again != raw.encode():
        said = " ".join(filter(None, (record.outcome, record.reason)))
        return f"taken again it does not give the bytes of the record ({said})"
    return "" if record.outcome == outcome else "the entry's outcome is not its record's"


# -- which ----------------------------------------------------------------------------------------------------------


def _minutes(scope: Scope) -> dict[int, int]:
    """How many verdicts there are in each minute of the range."""
    found = rows(scope, f"""SELECT epoch_ms("at") // {MINUTE_MS} AS minute, count(*) AS n FROM decisions
                            WHERE {_within(scope.from_ms, scope.to_ms)} GROUP BY minute""")  # noqa: S608 - integers
    return {row["minute"]: row["n"] for row in found}


def _within(begin_ms: int, end_ms: int) -> str:
    """SQL: rows of a stretch, in the column's own type, so that parts of files without any are passed over."""
    return f'"at" >= make_timestamptz({begin_ms * 1000}) AND "at" < make_timestamptz({end_ms * 1000})'


def _stretches(minutes: list[int], scope: Scope) -> Iterator[tuple[int, int]]:
    """The minutes as times, neighbours together, within the range."""
    for _, group in groupby(enumerate(minutes), key=lambda pair: pair[1] - pair[0]):
        together = [minute for _, minute in group]
        yield max(together[0] * MINUTE_MS, scope.from_ms), min((together[-1] + 1) * MINUTE_MS, scope.to_ms)


# -- comparing ------------------------------------------------------------------------------------------------------


def _compared(batches: Iterable[list[Archived]], *, total: int, expected: int) -> Retaken:
    found: list[FlowFinding] = []
    count = 0
    for batch, whys in _judged(batches, alone=expected <= ALONE_MOST):
        count += len(batch)
        found += [FlowFinding("irreproducible_verdict", symbol or "", plan_id, None, at_ms, why)
                  for (symbol, plan_id, _, at_ms, _), why in zip(batch, whys, strict=True) if why]
    return Retaken(tuple(found), total, count)


def _judged(batches: Iterable[list[Archived]], *, alone: bool) -> Iterator[tuple[list[Archived], list[str]]]:
    """Each batch with what differs in it, in order; by as many processes as there are cores where there is much."""
    if alone:
        yield from ((batch, whys_of(batch)) for batch in batches)
        return
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: deque[tuple[list[Archived], Future]] = deque()
        for batch in batches:
            waiting.append((batch, pool.submit(whys_of, batch)))
            if len(waiting) > 2 * cores:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def whys_of(batch: list[Archived]) -> list[str]:
    """What differs in each verdict of a batch."""
    return [unlike(raw, outcome) for _, _, outcome, _, raw in batch]


def _read(scope: Scope, stretches: list[tuple[int, int]], *,
          sampled: set[int] | None = None) -> Iterator[list[Archived]]:
    """The verdicts of these stretches, all of them or those of `sampled` minutes and the `suspects`."""
    which = "true" if sampled is None else f"""
        (list_contains($sampled, epoch_ms("at") // {MINUTE_MS})
         OR (epoch_ms("at"), seq) IN (SELECT (at_ms, seq) FROM suspects))"""  # noqa: S608 - a number of ours
    more = None if sampled is None else {"sampled": sorted(sampled)}
    for begin, end in stretches:
        answer = scope.db.execute(f"""
            SELECT symbol, plan_id, outcome, epoch_ms("at"), raw FROM decisions
            WHERE {_within(begin, end)} AND {which}""", more)  # noqa: S608 - integers and constants of ours
        while batch := answer.fetchmany(BATCH):
            yield batch
