"""Every good poll against both accounts; what is left are the moments at which they differ, and what follows them.

A snapshot holds somewhere between its request and its reply: an account agrees with it when its value at either end
does. A symbol that a poll could not read, and one in hedge mode, has no moment there: unknown is not a difference.
The comparison is the rule's (`core.agreement`), written for whole columns. A message may put an account at any size:
compared it counts as `COMPARED` at most, which is above every position.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec
import pyarrow as pa

from p33_pipeline.audit.accounts import Accounts, Step, bounded
from p33_pipeline.audit.scope import Scope, register, rows
from p33_pipeline.history.tables import AMOUNT

COMPARED: Final = 400_000_000_000
HELD: Final = Decimal(10) ** 19
"""The largest amount that a moment tells; the column holds ten times as much."""
_STEPS = pa.schema([("symbol", pa.string()), ("at_ms", pa.int64()), ("amt", AMOUNT)])


class Moment(msgspec.Struct, frozen=True):
    """One poll's look at one symbol. `before_ms` is the request of the symbol's poll before it, `before` what that one
    saw; None at the first."""

    symbol: str
    requested_ms: int
    received_ms: int
    before_ms: int | None
    exchange: Decimal
    ledger: Decimal | None
    redis: Decimal | None
    mark_price: Decimal | None
    differs: bool
    before: Decimal | None = None


def moments(scope: Scope, accounts: Accounts, *, since_ms: int) -> list[Moment]:
    """Moments that differ, each with the two that follow it, by symbol and time; polls before the range's end only."""
    register(scope, "ledger_steps", _table(accounts.ledger))
    register(scope, "redis_steps", _table(accounts.redis))
    found = rows(scope, _QUERY, since=since_ms, until=scope.to_ms, tolerance=scope.policy.qty_tolerance_pct)
    return [Moment(**row) for row in found]


def _table(steps: dict[str, list[Step]]) -> pa.Table:
    """The last step of each moment: several at one time are one change."""
    last = {(step.symbol, step.at_ms): bounded(step.amt, HELD) for found in steps.values() for step in found}
    return pa.table({"symbol": [s for s, _ in last], "at_ms": [at for _, at in last],
                     "amt": pa.array(list(last.values()), AMOUNT)}, schema=_STEPS)


def _off(exchange: str, account: str) -> str:
    """Opposite signs, or apart by more than the tolerance, a share of the exchange's amount."""
    account = f"greatest(least({account}, {COMPARED}), -{COMPARED})::DECIMAL(38, 18)"
    return (f"(sign({exchange}) * sign({account}) < 0 OR "
            f"abs({exchange} - {account}) * 100 > $tolerance::DECIMAL(9, 6) * abs({exchange}))")


_QUERY = f"""
WITH polls AS (
  SELECT epoch_ms(requested_at) AS requested_ms, epoch_ms(received_at) AS received_ms, positions, unknown_symbols
  FROM snapshots WHERE outcome = 'ok' AND problem IS NULL
    AND epoch_ms(requested_at) >= $since AND epoch_ms(requested_at) < $until
), held AS (
  SELECT requested_ms, p.symbol AS symbol, p.position_amt AS amt, p.mark_price AS mark_price
  FROM (SELECT requested_ms, unnest(positions) AS p FROM polls)
), symbols AS (
  SELECT symbol FROM held UNION SELECT symbol FROM ledger_steps
), points AS (
  SELECT s.symbol, p.requested_ms, p.received_ms, h.mark_price,
    CASE WHEN h.symbol IS NULL THEN 0::DECIMAL(38, 18) ELSE h.amt END AS exchange,
    list_contains(p.unknown_symbols, s.symbol) AS unread
  FROM polls p CROSS JOIN symbols s LEFT JOIN held h ON h.requested_ms = p.requested_ms AND h.symbol = s.symbol
), known AS (
  SELECT * FROM points WHERE exchange IS NOT NULL AND NOT coalesce(unread, false)
), begun AS (
  SELECT k.*, l.amt AS ledger_begun, r.amt AS redis_begun FROM known k
  ASOF LEFT JOIN ledger_steps l ON k.symbol = l.symbol AND k.requested_ms >= l.at_ms
  ASOF LEFT JOIN redis_steps r ON k.symbol = r.symbol AND k.requested_ms >= r.at_ms
), ended AS (
  SELECT b.*, l.amt AS ledger_ended, r.amt AS redis_ended FROM begun b
  ASOF LEFT JOIN ledger_steps l ON b.symbol = l.symbol AND b.received_ms >= l.at_ms
  ASOF LEFT JOIN redis_steps r ON b.symbol = r.symbol AND b.received_ms >= r.at_ms
), judged AS (
  SELECT symbol, requested_ms, received_ms, exchange, ledger_ended AS ledger, redis_ended AS redis, mark_price,
    CASE WHEN ledger_ended IS NULL THEN exchange <> 0
         ELSE {_off("exchange", "ledger_ended")} AND coalesce({_off("exchange", "ledger_begun")}, true)
           OR coalesce({_off("exchange", "redis_ended")} AND coalesce({_off("exchange", "redis_begun")}, true), false)
    END AS differs
  FROM ended
), followed AS (
  SELECT *, lag(requested_ms) OVER w AS before_ms, lag(exchange) OVER w AS "before",
    lag(differs, 1, false) OVER w OR lag(differs, 2, false) OVER w AS follows
  FROM judged WINDOW w AS (PARTITION BY symbol ORDER BY requested_ms)
)
SELECT symbol, requested_ms, received_ms, before_ms, exchange, ledger, redis, mark_price, differs, "before"
FROM followed WHERE differs OR follows ORDER BY symbol, requested_ms
"""  # noqa: S608 - put together from constants; values are bound
