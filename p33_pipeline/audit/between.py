"""Between two polls that both agree: the exchange moved by its own trades, held against both accounts at every change.

What a poll sees is `moments`' and `breaks`' matter. Here is what none can see: somebody trades and trades back, a book
is set wrong and set right again, before the next look. An order of ours is no difference while it is on its way: its
trades and its bookings count as one change, at the last of them, as long as each follows the one before within the
cooldown. What remains of a change after that is what nobody accounts for. Judged only where the exchange's record of
the symbol reaches and both polls around the change agree; a break that runs over a poll is that poll's.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from itertools import groupby

import msgspec
import pyarrow as pa

from p33_pipeline.audit.accounts import ANEW, Accounts, Step, bounded
from p33_pipeline.audit.causes import OURS
from p33_pipeline.audit.moments import Moment
from p33_pipeline.audit.scope import Scope, register, rows
from p33_pipeline.history.tables import AMOUNT, MOVED
from p33_sidecar.core.agreement import disagreement
from p33_sidecar.core.orders import client_order_id
from p33_sidecar.core.quantity import ZERO, difference, total

MOVED_MOST = Decimal(10) ** 15
"""What a change counts as at most: far above every position, and so that changes can be added up."""
TRADES_LATE_MS = 60_000
"""A trade may show in the exchange's record this much later."""
_MOVES = pa.schema([("symbol", pa.string()), ("at_ms", pa.int64()), ("order_id", pa.string()),
                    ("ledger", AMOUNT), ("redis", AMOUNT)])


class Change(msgspec.Struct, frozen=True):
    """What nobody accounts for: by how much the exchange left each account at a moment, between two polls."""

    symbol: str
    at_ms: int
    off_ledger: Decimal
    off_redis: Decimal
    before_ms: int
    before_received_ms: int
    before_amt: Decimal
    mark_price: Decimal | None
    after_ms: int
    after_received_ms: int
    after_amt: Decimal


class Passing(msgspec.Struct, frozen=True):
    """A difference that came and went between two polls: its moments, and when it was over."""

    moments: tuple[Moment, ...]
    closed_ms: int


def passing(scope: Scope, accounts: Accounts, *, since_ms: int) -> list[Passing]:
    """Everything of that kind, symbol by symbol, in the polls' gaps that lie in or reach into the range."""
    register(scope, "account_moves", _moves(scope, accounts))
    found = [Change(**row) for row in rows(scope, _QUERY, cooldown=scope.policy.cooldown_ms, since=since_ms,
                                           until=scope.to_ms)]
    result: list[Passing] = []
    for (symbol, _), group in groupby(found, key=lambda change: (change.symbol, change.before_ms)):
        gap = list(group)
        if _judged(scope, accounts, gap[0]):
            result += _of_gap(scope, gap, accounts, traded=_trades(scope, symbol, gap[0]))
    return result


def _judged(scope: Scope, accounts: Accounts, gap: Change) -> bool:
    """Both polls agree, no opening lies between, and the exchange's record covers all of it."""
    reach = scope.reach.get(gap.symbol)
    if reach is None or gap.before_ms < reach.from_ms or gap.after_received_ms >= reach.until_ms - TRADES_LATE_MS:
        return False
    ledger, redis = accounts.ledger.get(gap.symbol, []), accounts.redis.get(gap.symbol, [])
    if any(step.cause == "opening" and gap.before_ms < step.at_ms <= gap.after_received_ms for step in ledger):
        return False
    tolerance = scope.policy.qty_tolerance_pct
    return all(
        _agree(steps, amt, begin, end, tolerance) for steps in (ledger, redis) for amt, begin, end in (
            (gap.before_amt, gap.before_ms, gap.before_received_ms), (gap.after_amt, gap.after_ms,
                                                                      gap.after_received_ms)))


def _agree(steps: list[Step], amt: Decimal, begin_ms: int, end_ms: int, tolerance_pct: Decimal) -> bool:
    """As `moments` has it: the account's value at either end of the poll will do; without a book nothing agrees."""
    held = [found for at_ms in (begin_ms, end_ms) if (found := _held(steps, at_ms)) is not None]
    return any(disagreement(amt, found, tolerance_pct=tolerance_pct) is None for found in held)


def _held(steps: list[Step], at_ms: int) -> Decimal | None:
    index = bisect_right([step.at_ms for step in steps], at_ms)
    return steps[index - 1].amt if index else None


def _of_gap(scope: Scope, gap: list[Change], accounts: Accounts, *, traded: list[tuple[int, Decimal]]) -> Iterator[
        Passing]:
    """The differences of one gap, each from the change that made it to the one that ended it, or to the poll."""
    ledger = redis = ZERO
    tolerance, running = scope.policy.qty_tolerance_pct, []
    for change in gap:
        ledger, redis = total(ledger, change.off_ledger), total(redis, change.off_redis)
        index = bisect_left(traded, change.at_ms + 1, key=lambda trade: trade[0])
        exchange = change.before_amt
        for _, delta in traded[:index]:
            exchange = total(exchange, delta)
        expected = [difference(exchange, off) for off in (ledger, redis)]
        if any(disagreement(exchange, amt, tolerance_pct=tolerance) for amt in expected):
            running.append(Moment(change.symbol, change.at_ms, change.at_ms, change.before_ms, exchange, *expected,
                                  change.mark_price, differs=True, before=change.before_amt))
        elif running:
            yield _over(running, change.at_ms)
            running = []
    if running:
        yield _over(running, gap[0].after_ms)


def _over(running: list[Moment], closed_ms: int) -> Passing:
    """Its cause lies in all that happened up to its end."""
    return Passing(tuple(msgspec.structs.replace(moment, received_ms=closed_ms) for moment in running), closed_ms)


# -- what there is --------------------------------------------------------------------------------------------------


def _trades(scope: Scope, symbol: str, gap: Change) -> list[tuple[int, Decimal]]:
    """(time, signed quantity) of the gap's trades."""
    found = rows(scope, f"SELECT epoch_ms(traded_at) AS at_ms, {MOVED} AS delta "  # noqa: S608 - a constant of ours
                        "FROM trades WHERE symbol = $symbol AND qty IS NOT NULL "
                        "AND epoch_ms(traded_at) > $begin AND epoch_ms(traded_at) <= $end ORDER BY at_ms, trade_id",
                 symbol=symbol, begin=gap.before_ms, end=gap.after_ms)
    return [(row["at_ms"], row["delta"]) for row in found]


def _moves(scope: Scope, accounts: Accounts) -> pa.Table:
    """Every change of both accounts with the order it is of; a person's correction is an order of its own."""
    columns: dict[str, list] = defaultdict(list)
    names = _order_ids(scope, accounts)
    for account, books in (("ledger", accounts.ledger), ("redis", accounts.redis)):
        for symbol, steps in books.items():
            before = ZERO
            for step in steps:
                delta, before = difference(step.amt, before), step.amt
                if step.cause != "opening":
                    order_id = f"{step.cause} {step.at_ms}" if step.cause in ANEW else step.order_id or names.get(
                        (symbol, client_order_id(step.plan_id)), f"plan {step.plan_id}")
                    moved = {"ledger": ZERO, "redis": ZERO} | {account: bounded(delta, MOVED_MOST)}
                    for name, value in (("symbol", symbol), ("at_ms", step.at_ms), ("order_id", order_id),
                                        *moved.items()):
                        columns[name].append(value)
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in _MOVES}, schema=_MOVES)


def _order_ids(scope: Scope, accounts: Accounts) -> dict[tuple[str, str], str]:
    """Exchange ids of our orders by their client id, where an account knows an order by its plan alone."""
    books = (*accounts.ledger.values(), *accounts.redis.values())
    if all(step.order_id or step.cause in ANEW for steps in books for step in steps):
        return {}
    found = rows(scope, "SELECT DISTINCT symbol, client_order_id, order_id FROM trades "
                        "WHERE starts_with(client_order_id, $ours)", ours=OURS)
    return {(row["symbol"], row["client_order_id"]): row["order_id"] for row in found}


_QUERY = f"""
WITH moves AS (
  SELECT symbol, epoch_ms(traded_at) AS at_ms, order_id, {MOVED} AS exchange,
    0::DECIMAL(38, 18) AS ledger, 0::DECIMAL(38, 18) AS redis
  FROM trades WHERE qty IS NOT NULL
  UNION ALL SELECT symbol, at_ms, order_id, 0::DECIMAL(38, 18), ledger, redis FROM account_moves
), numbered AS (
  SELECT *, CASE WHEN at_ms - lag(at_ms) OVER w <= $cooldown THEN 0 ELSE 1 END AS begins
  FROM moves WINDOW w AS (PARTITION BY symbol, order_id ORDER BY at_ms)
), runs AS (
  SELECT *, sum(begins) OVER (PARTITION BY symbol, order_id ORDER BY at_ms) AS run FROM numbered
), net AS (
  SELECT symbol, max(at_ms) AS at_ms, sum(exchange - ledger) AS off_ledger, sum(exchange - redis) AS off_redis
  FROM runs GROUP BY symbol, order_id, run
), changes AS (
  SELECT symbol, at_ms, sum(off_ledger)::DECIMAL(38, 18) AS off_ledger, sum(off_redis)::DECIMAL(38, 18) AS off_redis
  FROM net GROUP BY symbol, at_ms HAVING sum(off_ledger) <> 0 OR sum(off_redis) <> 0
), polls AS (
  SELECT epoch_ms(requested_at) AS requested_ms, epoch_ms(received_at) AS received_ms, positions, unknown_symbols
  FROM snapshots WHERE outcome = 'ok' AND problem IS NULL
), held AS (
  SELECT requested_ms, p.symbol AS symbol, p.position_amt AS amt, p.mark_price AS mark_price
  FROM (SELECT requested_ms, unnest(positions) AS p FROM polls)
), known AS (
  SELECT s.symbol, p.requested_ms, p.received_ms, h.mark_price,
    CASE WHEN h.symbol IS NULL THEN 0::DECIMAL(38, 18) ELSE h.amt END AS amt
  FROM polls p CROSS JOIN (SELECT DISTINCT symbol FROM changes) s
  LEFT JOIN held h ON h.requested_ms = p.requested_ms AND h.symbol = s.symbol
  WHERE NOT coalesce(list_contains(p.unknown_symbols, s.symbol), false) AND (h.symbol IS NULL OR h.amt IS NOT NULL)
)
SELECT c.symbol, c.at_ms, c.off_ledger, c.off_redis, b.requested_ms AS before_ms, b.received_ms AS before_received_ms,
  b.amt AS before_amt, b.mark_price, a.requested_ms AS after_ms, a.received_ms AS after_received_ms,
  a.amt AS after_amt
FROM changes c ASOF JOIN known b ON c.symbol = b.symbol AND c.at_ms > b.requested_ms
  ASOF JOIN known a ON c.symbol = a.symbol AND c.at_ms <= a.requested_ms
WHERE b.requested_ms < $until AND a.requested_ms >= $since ORDER BY c.symbol, c.at_ms
"""  # noqa: S608 - a constant of ours
