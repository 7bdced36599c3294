"""What a position really was at a moment, according to the exchange's own trades, pinned down by its snapshots.

Between two snapshots a position is an unknown constant plus the trades so far. Where two snapshots give the same
constant, the trades explain everything between them and the truth there is known; where they do not (a trade that was
not archived, an account changed without one), it is not known, and no verdict there is judged. A snapshot that
contradicts agreeing neighbours on both sides was itself late and bends no truth.

A trade while a snapshot was under way may or may not be in it: both are tried.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from p33_pipeline.audit.scope import Scope, register


def read_hindsight(scope: Scope, cases: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """The cases, every reply about their symbols in the order of arrival, and the moments their truth changes."""
    register(scope, "cases", cases)
    prepare(scope.db, snapshots="snapshots", trades="trades", cases="cases")
    seen = scope.db.sql("SELECT * FROM seen ORDER BY received_ms, requested_ms").to_arrow_table()
    return cases, seen, scope.db.sql(truths_sql()).to_arrow_table()


def prepare(db: duckdb.DuckDBPyConnection, *, snapshots: str, trades: str, cases: str) -> None:
    """Make the tables `seen` (every good reply, by symbol), `moves` (running total of trades) and `constants`.

    `snapshots` and `trades` name relations with the archive's columns; only symbols of `cases` are looked at.
    """
    db.execute(f"""
        CREATE OR REPLACE TEMP TABLE seen AS
        WITH polls AS (
            SELECT epoch_ms(requested_at) AS requested_ms, epoch_ms(received_at) AS received_ms, positions,
                   unknown_symbols
            FROM {snapshots} WHERE outcome = 'ok' AND requested_at IS NOT NULL AND received_at IS NOT NULL
        ), held AS (
            SELECT requested_ms, p.symbol AS symbol, p.position_amt AS amt, true AS listed
            FROM (SELECT requested_ms, unnest(positions) AS p FROM polls)
        )
        SELECT s.symbol, q.requested_ms, q.received_ms,
               CASE WHEN list_contains(coalesce(q.unknown_symbols, []), s.symbol) THEN NULL
                    WHEN h.listed THEN h.amt ELSE 0 END::DECIMAL(38,18) AS amt
        FROM polls q CROSS JOIN (SELECT DISTINCT symbol FROM {cases}) s
        LEFT JOIN held h ON h.symbol = s.symbol AND h.requested_ms = q.requested_ms""")  # noqa: S608 - a name of ours
    db.execute(f"""
        CREATE OR REPLACE TEMP TABLE moves AS
        SELECT symbol, at_ms, sum(moved) OVER (PARTITION BY symbol ORDER BY at_ms)::DECIMAL(38,18) AS total FROM (
            SELECT symbol, epoch_ms(traded_at) AS at_ms, sum(CASE side WHEN 'BUY' THEN qty ELSE -qty END) AS moved
            FROM {trades} WHERE traded_at IS NOT NULL GROUP BY ALL)""")  # noqa: S608 - a name of ours
    db.execute(_CONSTANTS)


_CONSTANTS = """
    CREATE OR REPLACE TEMP TABLE constants AS
    WITH pinned AS (
        SELECT s.symbol, s.requested_ms, s.amt - coalesce(a.total, 0) AS early, s.amt - coalesce(b.total, 0) AS late
        FROM seen s
        ASOF LEFT JOIN moves a ON a.symbol = s.symbol AND s.requested_ms >= a.at_ms
        ASOF LEFT JOIN moves b ON b.symbol = s.symbol AND s.received_ms >= b.at_ms
        WHERE s.amt IS NOT NULL
    ), paired AS (
        SELECT *, lead(early) OVER follows AS next_early, lead(late) OVER follows AS next_late FROM pinned
        WINDOW follows AS (PARTITION BY symbol ORDER BY requested_ms)
    ), agreed AS (
        SELECT symbol, requested_ms, CASE WHEN early IN (next_early, next_late) THEN early
                                          WHEN late IN (next_early, next_late) THEN late END AS constant
        FROM paired
    )
    SELECT symbol, requested_ms, coalesce(constant, CASE WHEN left_of = right_of THEN left_of END) AS constant
    FROM (
        SELECT *, last_value(constant IGNORE NULLS) OVER before AS left_of,
                  first_value(constant IGNORE NULLS) OVER after AS right_of
        FROM agreed
        WINDOW before AS (PARTITION BY symbol ORDER BY requested_ms ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
               after AS (PARTITION BY symbol ORDER BY requested_ms ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING))"""


def with_truth_sql(source: str) -> str:
    """SELECT: the rows of `source` (columns `symbol`, `at_ms`) with `truth`, null where it is not known."""
    return f"""
        SELECT c.*, k.constant + coalesce(m.total, 0) AS truth FROM {source} c
        ASOF LEFT JOIN constants k ON k.symbol = c.symbol AND c.at_ms >= k.requested_ms
        ASOF LEFT JOIN moves m ON m.symbol = c.symbol AND c.at_ms >= m.at_ms"""  # noqa: S608 - a name of ours


def truths_sql() -> str:
    """SELECT: for each symbol the moments at which its truth changes, and to what; null is not known."""
    points = "(SELECT symbol, requested_ms AS at_ms FROM constants UNION SELECT symbol, at_ms FROM moves)"
    return f"""
        SELECT symbol, at_ms, truth FROM (
            SELECT *, lag(truth) OVER w AS before, row_number() OVER w AS n FROM ({with_truth_sql(points)})
            WINDOW w AS (PARTITION BY symbol ORDER BY at_ms))
        WHERE n = 1 OR truth IS DISTINCT FROM before ORDER BY symbol, at_ms"""  # noqa: S608 - names of ours
