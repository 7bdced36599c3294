"""What Prometheus sees (contract, chapter 5): counters that the loops push, and everything else read at the scrape.

What may not happen here: a hook that raises, blocks or costs a verdict more than a few microseconds; a label value
taken from a message without bound. Names and labels are the contract's and change only with it.

Money ends here: a sample's value is a float by Prometheus' format, so this is the one place where an amount becomes
one. Nothing is ever computed from it. What is not known is NaN (an age: +Inf), never zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.registry import Collector

from .by_symbol import DENIALS, LEDGER_UPDATES, MISMATCHES, PERMITS, SNAPSHOTS, CountsBySymbol
from .memory import NO_LINE, NO_SEEN, Memory, SeenSnapshot

__all__ = ["CONTENT_TYPE", "Clock", "Metrics", "age_ms"]

STREAMS: Final = ("plan", "result")
"""As the loops call them; the keys behind the names are settings."""
ENDPOINTS: Final = ("positionRisk", "exchangeInfo", "time", "accountConfig", "order")
"""What the sidecar asks for; `order_new` is the Apply Layer's."""
REJECT_REASONS: Final = (
    "missing_decision", "missing_plan_id", "malformed_plan_id", "missing_symbol", "malformed_symbol",
    "unreadable_steps", "unreadable_quantity", "negative_quantity",
)
ANOMALIES: Final = (
    "order_without_side", "order_changed_side", "reduce_only_beyond_zero", "reduce_only_grows_position",
    "ledger_tampered", "book_unreadable",
)
MOST_STRANGERS: Final = 1_000
"""Symbols outside the list that get series of their own; a producer that invents names fills only `other`."""
OTHER: Final = "other"

EVALUATION_BUCKETS_S: Final = (.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1)
LATENCY_BUCKETS_S: Final = (.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1.05, 2.5, 10, 60)
"""0.25 s is the promise while the snapshot is fresh, 1.05 s the one with a refresh at its default budget."""


class Clock(Protocol):
    """`store.connect.ServerClock`, or a test's."""

    def now_ms(self) -> int: ...
    def mono_ns(self) -> int: ...


class Metrics:
    """The loops' hooks (`hooks.Hooks`) and the exchange client's `Observer`. Hooks may be called from any thread."""

    def __init__(self, memory: Memory, clock: Clock, *, version: str, policy_hash: str, loosened: bool,
                 registry: CollectorRegistry | None = None) -> None:
        disable_created_metrics()
        self._memory = memory
        self.registry = registry if registry is not None else CollectorRegistry()
        self._by_symbol = CountsBySymbol()
        self.registry.register(self._by_symbol)
        self._rejected = self._counter("p33_rejected", "Messages that could not be understood", "stream", "reason")
        self._requests = self._counter("p33_exchange_request", "Requests to the exchange", "endpoint", "status")
        self._anomalies = self._counter("p33_anomaly", "Orders that could not be booked as reported", "kind")
        self._gaps = self._counter("p33_stream_gap", "Times that a stream no longer reached back to us", "stream")
        self._republished = self._counter("p33_republished", "Plans met again that keep their verdict")
        self._evaluation = Histogram("p33_evaluation_duration_seconds", "Time to decide one plan",
                                     buckets=EVALUATION_BUCKETS_S, registry=self.registry)
        self._latency = Histogram("p33_permit_latency_seconds", "From plan published to permit written",
                                  buckets=LATENCY_BUCKETS_S, registry=self.registry)
        self.registry.register(_FromMemory(memory, clock, version=version, policy_hash=policy_hash, loosened=loosened))
        self._strangers: set[str] = set()
        self._cached: dict[tuple, Counter] = {}
        self._start_series()

    def render(self) -> bytes:
        """The text of `/metrics`, of the type CONTENT_TYPE."""
        return generate_latest(self.registry)

    # -- hooks.Hooks ------------------------------------------------------------------------------------------

    def poll(self, symbols: frozenset[str], *, ok: bool) -> None:
        """A poll brought these symbols' snapshots, or failed to."""
        status = "ok" if ok else "error"
        for symbol in symbols:
            if self._memory.has_position(symbol):
                self._by_symbol.known.add(symbol)
            self._by_symbol.count(SNAPSHOTS, self._bounded(symbol), status)

    def booked(self, symbol: str) -> None:
        self._by_symbol.count(LEDGER_UPDATES, self._bounded(symbol))

    def anomaly(self, kind: str) -> None:
        self._child(self._anomalies, kind).inc()

    def gap(self, stream: str) -> None:
        self._child(self._gaps, stream).inc()

    def rejected(self, stream: str, reason: str) -> None:
        self._child(self._rejected, stream, reason).inc()

    def verdict(self, symbol: str, *, reason: str | None, evaluation_s: float, latency_s: float) -> None:
        """One verdict; `reason` None is an ALLOW. A plan stamped in the future has waited for nothing."""
        label = self._bounded(symbol)
        self._by_symbol.count(PERMITS, label, "deny" if reason else "allow")
        if reason:
            self._by_symbol.count(DENIALS, label, reason)
        self._evaluation.observe(max(0.0, evaluation_s))
        self._latency.observe(max(0.0, latency_s))

    def republished(self) -> None:
        self._republished.inc()

    def mismatch_opened(self, symbol: str) -> None:
        self._by_symbol.count(MISMATCHES, self._bounded(symbol))

    # -- exchange.Observer ------------------------------------------------------------------------------------

    def request(self, *, endpoint: str, status: str, seconds: float) -> None:
        """A request went out, or was tried. How long it took is not among the contract's metrics."""
        self._child(self._requests, endpoint, status).inc()

    def weight(self, used: int) -> None:
        self._memory.used_weight = used

    def ban(self, until_ms: int) -> None:
        self._memory.ban_until_ms = max(until_ms, self._memory.ban_until_ms)

    # -- series -----------------------------------------------------------------------------------------------

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        """The library appends `_total`."""
        return Counter(name, text, labels, registry=self.registry)

    def _child(self, family: Counter, *labels: str) -> Counter:
        """The series, kept at hand: the library's own look-up takes a lock and builds the labels anew."""
        found = self._cached.get((family, *labels))
        if found is None:
            found = self._cached[(family, *labels)] = family.labels(*labels)
        return found

    def _start_series(self) -> None:
        """Every series that can be named beforehand stands at 0, so that its first increase is seen."""
        self._by_symbol.known.update(self._memory.allowlist or ())
        for stream in STREAMS:
            self._child(self._gaps, stream)
            for reason in REJECT_REASONS:
                self._child(self._rejected, stream, reason)
        for kind in ANOMALIES:
            self._child(self._anomalies, kind)
        for endpoint in ENDPOINTS:
            self._child(self._requests, endpoint, "ok")

    def _bounded(self, symbol: str) -> str:
        """The symbol as a label, `other` for strangers beyond the bound."""
        if symbol in self._by_symbol.known or symbol in self._strangers:
            return symbol
        if len(self._strangers) >= MOST_STRANGERS:
            return OTHER
        self._strangers.add(symbol)
        return symbol


class _FromMemory(Collector):
    """The gauges: nothing is kept, all of it is read from Memory at the scrape."""

    def __init__(self, memory: Memory, clock: Clock, *, version: str, policy_hash: str, loosened: bool) -> None:
        self._memory, self._clock, self._loosened = memory, clock, loosened
        self._build = (version, policy_hash)

    def collect(self) -> Iterator[Metric]:
        yield from self._by_symbol()
        memory, now_ms = self._memory, self._clock.now_ms()
        ban_ms = memory.ban_until_ms if memory.ban_until_ms > now_ms else 0
        open_permits = sum(ends_ms > now_ms for ends_ms in tuple(memory.open_permits.values()))
        for name, text, value in (
            ("p33_exchange_used_weight", "Request weight our address used in the running minute", memory.used_weight),
            ("p33_exchange_ban_until_seconds", "Unix time before which nothing is sent; 0: no ban", ban_ms / 1000),
            ("p33_open_permits", "ALLOWs that are open", open_permits),
            ("p33_policy_loosened", "1 while the stale threshold exceeds max(3 polls, 10 s) or 30 s", self._loosened),
            ("p33_halted", "1 while quantum:p33:halt exists", "" in memory.halts),
            ("p33_halted_symbols", "Symbols with a kill switch of their own", len(memory.halts.keys() - {""})),
            ("p33_canary_last_ok_timestamp_seconds", "When a canary plan last went through the whole path; 0: never",
             memory.canary_ok_ms / 1000),
            ("p33_archive_until_timestamp_seconds", "Until when the pipeline's archive reaches; 0: there is none",
             memory.progress.archived_ms / 1000),
            ("p33_audit_until_timestamp_seconds", "Until when the pipeline has audited; 0: never",
             memory.progress.audited_ms / 1000),
            ("p33_store_durable", "0 while Redis is not known to keep an append-only file", memory.durable is True),
        ):
            yield GaugeMetricFamily(name, text, value=float(value))
        build = GaugeMetricFamily("p33_build_info", "The running version and policy", labels=("version", "policy"))
        build.add_metric(self._build, 1)
        yield build

    def _by_symbol(self) -> Iterator[Metric]:
        memory, now_ms, mono_ns = self._memory, self._clock.now_ms(), self._clock.mono_ns()
        age, seen_at, amt, ledger, mismatch = (
            GaugeMetricFamily(name, text, labels=("symbol",)) for name, text in (
                ("p33_snapshot_age_sec", "Age of the newest snapshot; +Inf: there is none"),
                ("p33_last_snapshot_ts", "Unix time of the newest snapshot; 0: there is none"),
                ("p33_position_amt", "Position at the exchange, signed; NaN: not known"),
                ("p33_ledger_amt", "Position by our own orders, signed; NaN: there is no book"),
                ("p33_mismatch_open", "1 while book and exchange are known to differ"),
            ))
        for symbol in symbols_of(memory):
            label, seen = (symbol,), memory.snapshots.get(symbol, NO_SEEN)
            known_age = age_ms(seen, now_ms=now_ms, mono_ns=mono_ns)
            book = memory.books.get(symbol, NO_LINE).line.book
            snapshot = seen.snapshot
            age.add_metric(label, math.inf if known_age is None else known_age / 1000)
            seen_at.add_metric(label, snapshot.ts_ms / 1000 if snapshot else 0)
            amt.add_metric(label, math.nan if snapshot is None or snapshot.amt is None else float(snapshot.amt))
            ledger.add_metric(label, math.nan if book is None else float(book.amt))
            mismatch.add_metric(label, float(symbol in memory.mismatches))
        return iter((age, seen_at, amt, ledger, mismatch))


def symbols_of(memory: Memory) -> list[str]:
    """Every symbol in scope or with an open mismatch, in order; one that left the scope no longer ages in an alert."""
    met = {*tuple(memory.snapshots), *tuple(memory.books)}
    in_scope = {symbol for symbol in met if memory.in_scope(symbol)}
    return sorted({*(memory.allowlist or ()), *memory.scope, *in_scope, *tuple(memory.mismatches)})


def age_ms(seen: SeenSnapshot, *, now_ms: int, mono_ns: int) -> int | None:
    """A snapshot's age: the larger of the clock's and the monotonic difference; None where there is none."""
    if seen.snapshot is None:
        return None
    by_clock = now_ms - seen.snapshot.ts_ms
    return by_clock if seen.mono_ns is None else max(by_clock, (mono_ns - seen.mono_ns) // 1_000_000)
