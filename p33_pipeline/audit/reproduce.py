"""Every archived verdict taken again with the house's own rule: the same bytes, or somebody changed something."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from p33_pipeline.audit.findings import FlowFinding
from p33_pipeline.audit.scope import Scope
from p33_sidecar.core.record import read_record, reproduce

BATCH = 20_000
UNREADABLE = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)


def irreproducible(scope: Scope) -> tuple[list[FlowFinding], int]:
    """(verdicts that do not come out again, how many were taken again)."""
    found: list[FlowFinding] = []
    count = 0
    for symbol, plan_id, outcome, at_ms, raw in _verdicts(scope):
        count += 1
        why = unlike(raw, outcome)
        if why:
            found.append(FlowFinding("irreproducible_verdict", symbol or "", plan_id, None, at_ms, why))
    return found, count


def unlike(raw: str, outcome: str | None) -> str:
    """What differs between the record and the same verdict taken again; empty where nothing does."""
    try:
        record = read_record(raw)
        again, _ = reproduce(record)
    except UNREADABLE as error:
        return f"it cannot be taken again: {str(error)[:160]}"
    if again != raw.encode():
        return f"taken again it does not give the bytes of the record ({record.outcome} {record.reason or ''})".strip()
    return "" if record.outcome == outcome else "the entry's outcome is not its record's"


def _verdicts(scope: Scope) -> Iterator[tuple]:
    answer = scope.db.execute(
        "SELECT symbol, plan_id, outcome, epoch_ms(\"at\"), raw FROM decisions "
        "WHERE epoch_ms(\"at\") >= $begin AND epoch_ms(\"at\") < $end ORDER BY \"at\", seq",
        {"begin": scope.from_ms, "end": scope.to_ms})
    while batch := answer.fetchmany(BATCH):
        yield from batch
