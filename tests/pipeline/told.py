"""Made audits for the tests of the report: a quiet day, a bad one, and one as large as they come."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from p33_pipeline.audit.findings import CLASSES, Audit, Break, Evidence, FlowFinding, SourceFinding, break_id
from p33_pipeline.report.facts import HOUR_MS, Facts, Hour, Timeline
from p33_pipeline.report.report import Note, Report

DAY_MS = 86_400_000
BEGIN_MS = 1_769_299_200_000
HOSTILE = "<img/src=x/onerror=alert(1)>"


def broken(symbol: str, at_ms: int, *, lasts_ms: int | None = 60_000, kind: str = "quantity", apart: str = "0.01",
           notional: str = "982.504", **evidence: tuple[str, ...]) -> Break:
    """A break that begins `at_ms` into the day."""
    opened_ms = BEGIN_MS + at_ms
    closed_ms = None if lasts_ms is None else opened_ms + lasts_ms
    return Break(break_id(symbol, opened_ms), kind, symbol, opened_ms, closed_ms, (closed_ms or opened_ms) - 5_000,
                 Decimal(apart), Decimal(notional), Decimal("0.028"), Decimal("0.038"), Decimal("0.038"),
                 Evidence(**evidence))


def audit(breaks=(), flow=(), sources=(), *, counts=None) -> Audit:
    end_ms = BEGIN_MS + DAY_MS
    return Audit(BEGIN_MS, end_ms, end_ms, tuple(breaks), tuple(flow), tuple(sources), counts or {})


def hours(denials: dict[str, int] | None = None) -> tuple[Hour, ...]:
    """A day of polls, with the denials in its sixth hour."""
    calm = [Hour(BEGIN_MS + n * HOUR_MS, 12, {}, 720, 0, 5_020) for n in range(24)]
    calm[6] = Hour(BEGIN_MS + 6 * HOUR_MS, 12, denials or {}, 719, 1, 10_000)
    return tuple(calm)


def quiet() -> Report:
    return Report(audit(counts={"polls": 17_280}), Facts((), hours()))


def bad() -> Report:
    """Two open breaks, one closed, a bypass, a hostile name, a gap."""
    amounts = ((BEGIN_MS, Decimal("0.038")), (BEGIN_MS + 22_000_000, Decimal("0.028")))
    still = broken("BTCUSDT", 22_000_000, lasts_ms=None, kind="external_trade", trade_ids=("771", "772"),
                   order_ids=("8389765",), decision_ids=("n0nce",))
    found = [still, broken("TRXUSDT", 80_000_000, lasts_ms=None, kind="side", apart="61", notional="19.52"),
             broken("BTCUSDT", 4_000_000, kind="timing", notional="3"), broken(HOSTILE, 5_000_000, notional="7")]
    flow = [FlowFinding("bypass", "BTCUSDT", "f1a8d7f48713d5cf", "8389765", BEGIN_MS + 21_999_000,
                        "executed 0.01 without an ALLOW"),
            FlowFinding("plan_without_verdict", HOSTILE, None, None, BEGIN_MS + 1, f"no verdict {HOSTILE}")]
    lines = (Timeline("BTCUSDT", amounts, amounts[:1], amounts[:1]), Timeline("TRXUSDT", ((BEGIN_MS, Decimal(-61)),),
             ((BEGIN_MS, Decimal(61)),), ()), Timeline(HOSTILE, (), (), ()))
    sources = [SourceFinding("snapshot_gap", BEGIN_MS + 21_600_000, "no good poll for 10.0 s")]
    facts = Facts(lines, hours({"reconcile_required_qty_mismatch": 31, "stale_exchange_state": 4}))
    note = Note("investigating", "ada", "=closed by hand?")
    return Report(audit(found, flow, sources), facts, {still.break_id: note})


def huge() -> Report:
    """700 symbols and 10,000 breaks, each with all the evidence it may have, accounts that move all day."""
    symbols = [f"SYMBOL{n:03}USDT" for n in range(700)]
    ids = tuple(str(8_000_000_000 + n) for n in range(20))
    found = [broken(symbols[n % 700], n * 8_000, kind=CLASSES[n % 9], lasts_ms=None if n % 10 == 0 else 30_000,
                    notional=f"{n}.123456789", apart="123456.789", trade_ids=ids, order_ids=ids,
                    plan_ids=tuple(f"{n:016x}{i:016x}" for i in range(20)),
                    decision_ids=tuple(f"{n:032x}" for _ in range(20))) for n in range(10_000)]
    path = tuple((BEGIN_MS + n * 86_000, Decimal(n * 7919 % 1_000) / 1_000) for n in range(1_000))
    return Report(audit(found), Facts(tuple(Timeline(symbol, path, path, path) for symbol in symbols), hours()))


def hostile() -> Report:
    """As large, and every name as long as it may be, of letters that HTML writes with four; 20,000 findings."""
    report = huge()
    found = report.audit

    def name(symbol: str) -> str:
        return "<" * 37 + symbol[6:9]

    plans = tuple(f"{'<' * 124}{n:04}" for n in range(20))
    breaks = [msgspec.structs.replace(one, symbol=name(one.symbol), evidence=msgspec.structs.replace(
        one.evidence, plan_ids=plans)) for one in found.breaks]
    flow = [FlowFinding("irreproducible_verdict", "<" * 40, "<" * 128, "9" * 20, BEGIN_MS + n, "<" * 1_000)
            for n in range(10_000)]
    sources = [SourceFinding("rejected_message", BEGIN_MS + n, "&" * 1_000) for n in range(10_000)]
    lines = tuple(msgspec.structs.replace(line, symbol=name(line.symbol)) for line in report.facts.timelines)
    return Report(audit(breaks, flow, sources), msgspec.structs.replace(report.facts, timelines=lines))
