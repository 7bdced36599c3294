"""The report of a range as values: the findings with what people said of them, and the sentence that sums them up."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec

from p33_pipeline.audit.findings import AGES_MS, ERRORS, Audit, Break, age_bucket
from p33_pipeline.render.page import amount, counted, span, usdt, utc
from p33_pipeline.report.facts import Facts
from p33_sidecar.core.quantity import ZERO, total

STATES: Final = ("open", "investigating", "explained", "adjust proposed", "adjusted")
BUCKETS: Final = (*(f"up to {span(end)}" for end in AGES_MS), f"over {span(AGES_MS[-1])}")


class Note(msgspec.Struct, frozen=True):
    """What people said of a break."""

    state: str = "open"
    owner: str = ""
    comment: str = ""


class Bucket(msgspec.Struct, frozen=True):
    """Open breaks of one age."""

    age: str
    count: int
    notional: Decimal


class Report(msgspec.Struct, frozen=True):
    """Everything a page, a CSV and a JSON are made from. `notes` by break id; a break without one is open."""

    audit: Audit
    facts: Facts
    notes: Mapping[str, Note] = {}

    def note(self, found: Break) -> Note:
        return self.notes.get(found.break_id, Note())

    @property
    def open_breaks(self) -> list[Break]:
        """Not closed by the accounts, dearest first."""
        return sorted((b for b in self.audit.breaks if b.closed_ms is None), key=lambda b: (-b.notional, b.opened_ms))

    @property
    def by_age(self) -> list[Bucket]:
        """Open breaks in buckets of their age, those without any left out."""
        groups: dict[int, list[Break]] = {}
        for found in self.open_breaks:
            groups.setdefault(age_bucket(found.age_ms(self.audit.until_ms)), []).append(found)
        return [Bucket(BUCKETS[i], len(groups[i]), notional_of(groups[i])) for i in sorted(groups)]

    @property
    def errors(self) -> int:
        """Flow findings that are errors whatever they amount to."""
        return sum(1 for found in self.audit.flow if found.finding in ERRORS)

    @property
    def clean(self) -> bool:
        return self.audit.clean

    @property
    def sentence(self) -> str:
        """The range in one sentence."""
        audit, facts = self.audit, self.facts
        verdicts = facts.allows + sum(count for _, count in facts.denials)
        judged = f"{counted(verdicts, 'verdict')}, {facts.allows:,} allowed"
        if not audit.judged:
            return "The archive has no poll of this range: nothing was judged."
        if audit.until_ms < audit.to_ms:
            judged += f"; the archive ends at {utc(audit.until_ms)}, nothing later was judged"
        if self.clean:
            return f"All three accounts agreed throughout, and every order took the gate's path ({judged})."
        parts = []
        if audit.breaks:
            parts.append(self._breaks())
        if audit.flow:
            words = sorted({found.finding for found in audit.flow}, key=lambda f: (f not in ERRORS, f))
            named = ", ".join(word.replace("_", " ") for word in words[:3])
            parts.append(f"{counted(len(audit.flow), 'order or verdict', 'orders or verdicts')} left the gate's path "
                         f"({named}{' and more' if len(words) > 3 else ''})")
        if audit.sources:
            parts.append(f"the sources had {counted(len(audit.sources), 'flaw')}")
        text = "; ".join(parts)
        return f"{text[0].upper()}{text[1:]} ({judged})."

    def _breaks(self) -> str:
        still = self.open_breaks
        said = counted(len(self.audit.breaks), "break")
        if not still:
            return f"{said} in the accounts, all of them closed again"
        top = still[0]
        return (f"{said} in the accounts, {len(still)} still open, the dearest {top.symbol} off by "
                f"{amount(top.max_difference)} ({usdt(top.notional)} USDT) since {utc(top.opened_ms)[:16]}")


def notional_of(breaks: list[Break]) -> Decimal:
    """The sum of their notionals, exact."""
    found = ZERO
    for one in breaks:
        found = total(found, one.notional)
    return found
