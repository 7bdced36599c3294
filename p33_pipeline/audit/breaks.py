"""From moments that differ to breaks: intervals with a beginning, an end and a cause.

A break opens with the first poll that sees it and closes when two polls in a row agree again; one that comes and goes
between two polls opens and closes with the trades or bookings that made it. It keeps its id whatever range is audited:
where and when it was seen first. What may still pass by itself where the range or the archive ends is no break yet: the
range behind it tells what became of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from itertools import groupby

import msgspec
import pyarrow as pa

from p33_pipeline.audit.accounts import Accounts
from p33_pipeline.audit.between import Passing
from p33_pipeline.audit.causes import OURS, PASSES, Case, Traded, class_of
from p33_pipeline.audit.findings import Break, Evidence, break_id
from p33_pipeline.audit.moments import Moment
from p33_pipeline.audit.names import plans_by_client_id
from p33_pipeline.audit.scope import Scope, register, rows
from p33_sidecar.core.quantity import ZERO, difference, product

EVIDENCE_MOST = 20
AGREEING_POLLS = 2


class Interval(msgspec.Struct):
    """A run of moments of one symbol: those that differ, and the polls that have agreed since."""

    moments: list[Moment]
    agreed: list[int] = []

    @property
    def first(self) -> Moment:
        return self.moments[0]

    def settled(self, cooldown_ms: int) -> Moment:
        """The last look within the cooldown: what was on its way at the first one has arrived by then."""
        return next(moment for moment in reversed(self.moments)
                    if moment.requested_ms - self.first.requested_ms <= cooldown_ms)

    @property
    def closed_ms(self) -> int | None:
        """The first of the polls that agree, once there are enough of them."""
        return self.agreed[0] if len(self.agreed) == AGREEING_POLLS else None


def intervals(found: list[Moment]) -> list[Interval]:
    """The breaks' intervals, symbol by symbol."""
    result: list[Interval] = []
    for _, group in groupby(found, key=lambda moment: moment.symbol):
        result += _of_symbol(list(group))
    return result


def _of_symbol(found: list[Moment]) -> list[Interval]:
    result: list[Interval] = []
    running: Interval | None = None
    for moment in found:
        if moment.differs:
            if running is None:
                running = Interval([])
                result.append(running)
            running.moments.append(moment)
            running.agreed = []
        elif running is not None:
            running.agreed.append(moment.requested_ms)
            if running.closed_ms is not None:
                running = None
    return result


def breaks_of(scope: Scope, accounts: Accounts, found: list[Moment], between: Iterable[Passing] = ()) -> list[Break]:
    """Every break with its class and evidence, oldest first: those that polls saw, and those `between` two polls."""
    looked = [*intervals(found),
              *(Interval(list(one.moments), [one.closed_ms] * AGREEING_POLLS) for one in between)]
    if not looked:
        return []
    trades = _trades(scope, accounts)
    seen, cases = [], []
    for interval in looked:
        case = _case(scope, accounts, interval, trades.get(interval.first.symbol, []))
        if not _may_pass(scope, interval, case):
            seen.append(interval)
            cases.append(case)
    decisions = _decisions(scope, seen, cases)
    result = [_break(scope, interval, case, decisions.get(place, []))
              for place, (interval, case) in enumerate(zip(seen, cases, strict=True))]
    return sorted(result, key=lambda b: (b.opened_ms, b.symbol))


def _may_pass(scope: Scope, interval: Interval, case: Case) -> bool:
    """Whether it did not last for long before all that is known ends, and nothing but its end gives it a name."""
    if interval.closed_ms is not None:
        return False
    end_ms = interval.agreed[0] if interval.agreed else min(scope.to_ms, scope.until_ms)
    passed = msgspec.structs.replace(case, closed_within_cooldown=True)
    return end_ms - interval.first.requested_ms <= scope.policy.cooldown_ms and class_of(passed) == PASSES


def _break(scope: Scope, interval: Interval, case: Case, decisions: list[str]) -> Break:
    first, worst = interval.first, max(interval.moments, key=_apart)
    prices = [moment.mark_price for moment in interval.moments if moment.mark_price is not None]
    apart = _apart(worst)
    return Break(
        break_id=break_id(first.symbol, first.requested_ms), kind=class_of(case), symbol=first.symbol,
        opened_ms=first.requested_ms, closed_ms=interval.closed_ms, last_seen_ms=interval.moments[-1].requested_ms,
        confirmed_ms=interval.agreed[-1] if interval.closed_ms is not None else None,
        max_difference=apart, notional=product(apart, max(prices) if prices else _last_price(scope, first)),
        exchange_amt=worst.exchange, ledger_amt=worst.ledger, redis_amt=worst.redis,
        evidence=_evidence(case, decisions),
    )


def _apart(moment: Moment) -> Decimal:
    """The largest distance of an account from the exchange; without a ledger, all of the position."""
    accounts = [amt for amt in (moment.ledger, moment.redis) if amt is not None] or [ZERO]
    return max(difference(moment.exchange, amt).copy_abs() for amt in accounts)


def _last_price(scope: Scope, first: Moment) -> Decimal:
    """What the symbol was last worth: in a trade, or in a poll that saw it held. 0: nobody knows."""
    found = rows(scope, """
        WITH priced AS (
          SELECT symbol, price, traded_at AS seen_at FROM trades
          UNION ALL SELECT p.symbol, p.mark_price, requested_at
          FROM (SELECT requested_at, unnest(positions) AS p FROM snapshots WHERE outcome = 'ok' AND problem IS NULL)
        ) SELECT arg_max(price, seen_at) AS price FROM priced
        WHERE symbol = $symbol AND price IS NOT NULL AND epoch_ms(seen_at) <= $at
        """, symbol=first.symbol, at=first.received_ms)
    return found[0]["price"] or ZERO


# -- the cause ------------------------------------------------------------------------------------------------------


def _case(scope: Scope, accounts: Accounts, interval: Interval, trades: list[Traded]) -> Case:
    first, settled = interval.first, interval.settled(scope.policy.cooldown_ms)
    since_ms = first.before_ms or 0
    ledger, redis = accounts.ledger.get(first.symbol, []), accounts.redis.get(first.symbol, [])

    def around(steps: list) -> tuple:
        return tuple(step for step in steps if since_ms < step.at_ms <= settled.received_ms)

    booked = [step for step in ledger if step.at_ms <= settled.received_ms]
    closed_ms = interval.closed_ms
    return Case(
        first=first, settled=settled, trades=around(trades), bookings=around(ledger), results=around(redis),
        booked_orders=frozenset(step.order_id for step in booked),
        booked_plans=frozenset(step.plan_id for step in booked if step.plan_id and not step.order_id),
        closed_within_cooldown=closed_ms is not None and closed_ms - first.requested_ms <= scope.policy.cooldown_ms,
        tolerance_pct=scope.policy.qty_tolerance_pct,
    )


def _trades(scope: Scope, accounts: Accounts) -> dict[str, list[Traded]]:
    """The trades around the range by symbol, each with whether its order is ours and whose plan it was."""
    steps = [step for book in (accounts.ledger, accounts.redis) for found in book.values() for step in found]
    plans = {(step.symbol, step.order_id): step.plan_id for step in steps if step.order_id}
    named = plans_by_client_id(scope)
    result: dict[str, list[Traded]] = {}
    for row in rows(scope, "SELECT symbol, trade_id, order_id, client_order_id, side, qty, "
                           "epoch_ms(traded_at) AS at_ms FROM trades WHERE qty IS NOT NULL ORDER BY symbol, trade_id"):
        symbol, client_id = row.pop("symbol"), row["client_order_id"] or ""
        plan_id = plans.get((symbol, row["order_id"])) or named.get(client_id, "")
        ours = (symbol, row["order_id"]) in plans or client_id.startswith(OURS)
        result.setdefault(symbol, []).append(Traded(**row, plan_id=plan_id, ours=ours))
    return result


def _decisions(scope: Scope, seen: list[Interval], cases: list[Case]) -> dict[int, list[str]]:
    """By the place of the break: verdicts on its plans, and those that it denied while it lasted. One look for all."""
    spans = [(place, one.first.symbol, one.first.requested_ms, one.moments[-1].received_ms)
             for place, one in enumerate(seen)]
    plans = [(place, case.first.symbol, plan_id) for place, case in enumerate(cases) for plan_id in _plan_ids(case)]
    register(scope, "break_spans", _table(spans, place=pa.int64(), symbol=pa.string(), begin=pa.int64(),
                                          end_=pa.int64()))
    register(scope, "break_plans", _table(plans, place=pa.int64(), symbol=pa.string(), plan_id=pa.string()))
    found: dict[int, list[str]] = {}
    for row in rows(scope, """
            WITH told AS (
              SELECT b.place, d.decision_id, d."at", d.seq
              FROM decisions d JOIN break_plans b ON b.symbol = d.symbol AND b.plan_id = d.plan_id
              UNION
              SELECT b.place, d.decision_id, d."at", d.seq FROM decisions d JOIN break_spans b ON b.symbol = d.symbol
                AND epoch_ms(d.decided_at) BETWEEN b.begin AND b.end_ WHERE d.reason LIKE 'reconcile_required_%'
            ) SELECT place, decision_id FROM told
            QUALIFY row_number() OVER (PARTITION BY place ORDER BY "at", seq) <= $most ORDER BY place, "at", seq
            """, most=EVIDENCE_MOST):
        found.setdefault(row["place"], []).append(row["decision_id"])
    return found


def _table(values: list[tuple], **types: pa.DataType) -> pa.Table:
    columns = zip(*values, strict=True) if values else [()] * len(types)
    return pa.table({name: pa.array(list(column), kind)
                     for (name, kind), column in zip(types.items(), columns, strict=True)})


def _evidence(case: Case, decisions: list[str]) -> Evidence:
    order_ids = _distinct([x.order_id for x in (*case.trades, *case.bookings, *case.results)])
    return Evidence(tuple(str(trade.trade_id) for trade in case.trades)[:EVIDENCE_MOST], order_ids, _plan_ids(case),
                    tuple(decisions))


def _plan_ids(case: Case) -> tuple[str, ...]:
    return _distinct([x.plan_id for x in (*case.trades, *case.bookings, *case.results)])


def _distinct(found: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in found if text))[:EVIDENCE_MOST]
