"""Counters that have a symbol among their labels (contract, chapter 5), kept as plain numbers.

A symbol has forty series, most of which stand at 0 for ever. As the client library's own children they are megabytes
for a few hundred symbols; here a series is kept from its first increase on, and the zeros are written at the scrape.
Each series has one loop that counts it, so none needs a lock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import msgspec
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from ..core.reasons import Reason


class Family(msgspec.Struct, frozen=True):
    """A counter by symbol and, where `label` is one, by values of which all that can be named stand at 0."""

    name: str
    text: str
    label: str = ""
    values: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        return ("symbol", self.label) if self.label else ("symbol",)

    def of(self, symbol: str) -> list[tuple[str, ...]]:
        """The labels of a symbol's series that can be named beforehand."""
        return [(symbol, value) for value in self.values] if self.label else [(symbol,)]


SNAPSHOTS: Final = Family("p33_snapshot", "Snapshots by outcome of the poll", "status", ("ok", "error"))
LEDGER_UPDATES: Final = Family("p33_ledger_update", "Changes of the book")
PERMITS: Final = Family("p33_permit", "Verdicts", "decision", ("allow", "deny"))
DENIALS: Final = Family("p33_permit_denied", "Denials by reason", "reason", tuple(reason.value for reason in Reason))
MISMATCHES: Final = Family("p33_mismatch", "Mismatches of book and exchange that opened")
FAMILIES: Final = (SNAPSHOTS, LEDGER_UPDATES, PERMITS, DENIALS, MISMATCHES)


class CountsBySymbol(Collector):
    """Counts since the start. `known`: the symbols whose series stand at 0, so that their first increase is seen."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self._counts: dict[str, defaultdict[tuple[str, ...], int]] = {f.name: defaultdict(int) for f in FAMILIES}

    def count(self, family: Family, *labels: str) -> None:
        self._counts[family.name][labels] += 1

    def collect(self) -> Iterator[CounterMetricFamily]:
        known = sorted(self.known)
        for family in FAMILIES:
            zeros = dict.fromkeys((labels for symbol in known for labels in family.of(symbol)), 0)
            metric = CounterMetricFamily(family.name, family.text, labels=family.labels)
            for labels, count in (zeros | self._counts[family.name].copy()).items():
                metric.add_metric(labels, count)
            yield metric
