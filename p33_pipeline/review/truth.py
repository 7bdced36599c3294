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


def thinned_sql(source: str, *, poll_ms: int | None) -> str:
    """SELECT: the rows of `source` as if the exchange had been asked only every `poll_ms`; None: as it was.

    Of the polls the first is kept, then each that began at least `poll_ms` after the last one kept. A snapshot that was
    older than that already stays what it was. A refresh on demand is not played: a longer interval is judged without.
    """
    if poll_ms is None:
        return f"SELECT * FROM {source}"  # noqa: S608 - a name of ours
    return f"""
        SELECT c.* REPLACE (
            CASE WHEN c.snapshot_ms <= s.requested_ms THEN c.amt ELSE s.amt END AS amt,
            CASE WHEN c.snapshot_ms <= s.requested_ms THEN c.snapshot_age_ms ELSE c.at_ms - s.requested_ms END
                AS snapshot_age_ms,
            CASE WHEN c.snapshot_ms <= s.requested_ms THEN c.snapshot_ms ELSE s.requested_ms END AS snapshot_ms)
        FROM {source} c
        ASOF LEFT JOIN (SELECT s.* FROM seen s SEMI JOIN kept k ON k.requested_ms = s.requested_ms
                        AND k.poll_ms = {poll_ms} WHERE s.amt IS NOT NULL) s
            ON s.symbol = c.symbol AND c.at_ms >= s.received_ms"""  # noqa: S608 - names and integers of ours


def keep_polls(db: duckdb.DuckDBPyConnection, intervals_ms: list[int]) -> None:
    """Make the table `kept`: which polls stay at which interval."""
    begun = [row[0] for row in db.execute("SELECT DISTINCT requested_ms FROM seen ORDER BY 1").fetchall()]
    rows = [(poll_ms, at_ms) for poll_ms in intervals_ms for at_ms in _every(begun, poll_ms)]
    polls = pa.table({"poll_ms": pa.array([r[0] for r in rows], pa.int64()),
                      "requested_ms": pa.array([r[1] for r in rows], pa.int64())})
    db.register("kept_polls", polls)
    db.execute("CREATE OR REPLACE TEMP TABLE kept AS SELECT * FROM kept_polls")
    db.unregister("kept_polls")


def _every(begun: list[int], poll_ms: int) -> list[int]:
    kept: list[int] = []
    for at_ms in begun:
        if not kept or at_ms - kept[-1] >= poll_ms:
            kept.append(at_ms)
    return kept
