"""What the report shows beside the findings: accounts over time, denials by hour, how fresh the snapshots were.

Questions to the archive's tables, answered by DuckDB; nothing is judged. Amounts stay decimals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import duckdb
import msgspec

from p33_pipeline.history.tables import MOVED

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
HOURS_MOST = 336
"""A range of more hours is told by days, or by as many together as it takes: the pictures have so many pixels."""

Point = tuple[int, Decimal]
"""From this moment on (ms) an account holds this amount."""


class Timeline(msgspec.Struct, frozen=True):
    """A symbol's three accounts as steps in time. One that was never opened has no points."""

    symbol: str
    exchange: tuple[Point, ...]
    ledger: tuple[Point, ...]
    redis: tuple[Point, ...]


class Hour(msgspec.Struct, frozen=True):
    """An hour, or whole days of a long range: verdicts, denials by reason, polls, and the longest time that it saw
    without a good one, whenever that began."""

    begin_ms: int
    allows: int = 0
    denials: dict[str, int] = {}
    good_polls: int = 0
    failed_polls: int = 0
    longest_gap_ms: int | None = None


class Facts(msgspec.Struct, frozen=True):
    """Everything the page draws that is not a finding."""

    timelines: tuple[Timeline, ...]
    hours: tuple[Hour, ...]

    @property
    def denials(self) -> list[tuple[str, int]]:
        """(reason, how many), most frequent first."""
        total: dict[str, int] = {}
        for hour in self.hours:
            for reason, count in hour.denials.items():
                total[reason] = total.get(reason, 0) + count
        return sorted(total.items(), key=lambda item: (-item[1], item[0]))

    @property
    def allows(self) -> int:
        return sum(hour.allows for hour in self.hours)


def facts_of(db: duckdb.DuckDBPyConnection, *, from_ms: int, to_ms: int, until_ms: int, symbols: Sequence[str],
             ledger: Mapping[str, Iterable[Any]], redis: Mapping[str, Iterable[Any]]) -> Facts:
    """The facts of a range, which are known up to `until_ms`. `db` knows the tables `decisions`, `snapshots`, `trades`;
    steps carry `at_ms` and `amt`."""
    exchange = _exchange(db, from_ms, to_ms, symbols)
    timelines = tuple(
        Timeline(symbol, tuple(exchange.get(symbol, ())), _within(ledger.get(symbol, ()), from_ms, to_ms),
                 _within(redis.get(symbol, ()), from_ms, to_ms))
        for symbol in symbols)
    return Facts(timelines, _hours(db, from_ms, to_ms, until_ms))


def _exchange(db: duckdb.DuckDBPyConnection, from_ms: int, to_ms: int,
              symbols: Sequence[str]) -> dict[str, list[Point]]:
    """What the good polls said of the symbols, moved by the trades between them; where it changed.

    A trade while a poll was under way may be in its reply already: it is added to what the poll before said, so that
    nothing is drawn that never was.
    """
    rows = db.execute(f"""
        WITH polls AS (
            SELECT epoch_ms(requested_at) AS at_ms, epoch_ms(coalesce(received_at, requested_at)) AS received_ms,
                positions, unknown_symbols
            FROM snapshots WHERE outcome = 'ok' AND epoch_ms(requested_at) >= $begin AND epoch_ms(requested_at) < $end
        ), held AS (
            SELECT at_ms, p.symbol AS symbol, p.position_amt AS amt
            FROM (SELECT at_ms, unnest(positions) AS p FROM polls)
        ), seen AS (
            SELECT s.symbol, p.at_ms, p.received_ms,
                CASE WHEN h.symbol IS NULL THEN 0::DECIMAL(38,18) ELSE h.amt END AS amt
            FROM polls p CROSS JOIN (SELECT unnest($symbols::VARCHAR[]) AS symbol) s
            LEFT JOIN held h ON h.symbol = s.symbol AND h.at_ms = p.at_ms
            WHERE NOT list_contains(coalesce(p.unknown_symbols, []), s.symbol)
        ), known AS (
            SELECT * FROM seen WHERE amt IS NOT NULL
        ), traded AS (
            SELECT symbol, epoch_ms(traded_at) AS at_ms, sum({MOVED}) AS delta
            FROM trades WHERE qty IS NOT NULL AND list_contains($symbols::VARCHAR[], symbol)
                AND epoch_ms(traded_at) < $end GROUP BY ALL
        ), between_polls AS (
            SELECT t.symbol, t.at_ms, (k.amt + sum(t.delta) OVER (
                PARTITION BY t.symbol, k.at_ms ORDER BY t.at_ms))::DECIMAL(38,18) AS amt
            FROM traded t ASOF JOIN known k ON t.symbol = k.symbol AND t.at_ms > k.received_ms
        ), held_at AS (
            SELECT symbol, at_ms, amt FROM known UNION ALL FROM between_polls
        )
        SELECT symbol, at_ms, amt FROM held_at
        QUALIFY amt IS DISTINCT FROM lag(amt) OVER (PARTITION BY symbol ORDER BY at_ms) ORDER BY symbol, at_ms
        """, {"begin": from_ms, "end": to_ms, "symbols": list(symbols)}).fetchall()  # noqa: S608 - a constant of ours
    found: dict[str, list[Point]] = {}
    for symbol, at_ms, amt in rows:
        found.setdefault(symbol, []).append((at_ms, amt))
    return found


def _within(steps: Iterable[Any], from_ms: int, to_ms: int) -> tuple[Point, ...]:
    """The account's steps in the range, and what it held when the range began."""
    before: list[Point] = []
    inside: list[Point] = []
    for step in steps:
        if step.at_ms <= from_ms:
            before = [(from_ms, step.amt)]
        elif step.at_ms < to_ms:
            inside.append((step.at_ms, step.amt))
    return (*before, *inside)


def _hours(db: duckdb.DuckDBPyConnection, from_ms: int, to_ms: int, until_ms: int) -> tuple[Hour, ...]:
    """Every hour that the range touches, empty ones too; of a long range days."""
    size = _size_ms(from_ms, to_ms)
    span = {"begin": from_ms, "end": to_ms}
    verdicts = db.execute(f"""
        SELECT epoch_ms(decided_at) // {size} * {size}, outcome, reason, count(*) FROM decisions
        WHERE epoch_ms(decided_at) >= $begin AND epoch_ms(decided_at) < $end GROUP BY ALL
        """, span).fetchall()  # noqa: S608 - a number of ours
    polls = db.execute(f"""
        WITH good AS (
            SELECT epoch_ms(requested_at) AS at_ms, outcome = 'ok' AS ok FROM snapshots
            WHERE epoch_ms(requested_at) >= $begin AND epoch_ms(requested_at) < $end
        ), gaps AS (
            SELECT *, CASE WHEN ok THEN at_ms - max(CASE WHEN ok THEN at_ms END) OVER (
                ORDER BY at_ms ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) END AS gap_ms FROM good
        )
        SELECT at_ms // {size} * {size}, count_if(ok), count_if(NOT ok), max(gap_ms),
               max(at_ms) FILTER (ok) FROM gaps GROUP BY 1
        """, span).fetchall()  # noqa: S608 - a number of ours
    seen = {begin: rest for begin, *rest in polls}
    ((last_ms,),) = db.execute("SELECT epoch_ms(max(requested_at)) FROM snapshots WHERE outcome = 'ok' "
                               "AND epoch_ms(requested_at) < $begin", {"begin": from_ms}).fetchall()
    hours = []
    for begin in range(from_ms // size * size, to_ms, size):
        here = [row[1:] for row in verdicts if row[0] == begin]
        good, failed, gap_ms, here_ms = seen.get(begin, (0, 0, None, None))
        last_ms = here_ms or last_ms
        if last_ms is not None and begin < until_ms:
            gap_ms = max(gap_ms or 0, min(begin + size, to_ms, until_ms) - last_ms)
        hours.append(Hour(begin, sum(n for outcome, _, n in here if outcome == "ALLOW"),
                          {reason or "unknown": n for outcome, reason, n in here if outcome == "DENY"},
                          good, failed, gap_ms))
    return tuple(hours)


def _size_ms(from_ms: int, to_ms: int) -> int:
    """How much of the range is told together."""
    if to_ms - from_ms <= HOURS_MOST * HOUR_MS:
        return HOUR_MS
    return -(-(to_ms - from_ms) // (HOURS_MOST * DAY_MS)) * DAY_MS
