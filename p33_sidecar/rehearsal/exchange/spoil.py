"""Faults of the data itself: rows that are missing, doubled, old or rubbish in an answer that is otherwise whole, or
an order's status that nobody has heard of.

The engine is not touched: only what is said about it. Each kind was seen in life: lists without symbols that had
positions, `[]` after an API switch, legs where one row was expected, nodes that lag, rubbish decimals, and statuses
that came after the program that reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from p33_sidecar.rehearsal.exchange.faults import ODD_STATUS, Fault

STALE_BY_MS = 60_000


def spoiled(body: bytes, fault: Fault | None) -> bytes:
    """The answer with the fault's rows or its order's status spoiled; any other body as it is."""
    if fault is None or not fault.spoils_data:
        return body
    if fault.kind == "empty_list":
        return b"[]"
    said = msgspec.json.decode(body)
    if fault.kind == ODD_STATUS:
        return msgspec.json.encode(said | {"status": fault.value}) if _is_order(said) else body
    if not isinstance(said, list):
        return body
    changed = [new for row in said for new in (SPOIL[fault.kind](row, fault) if _hit(row, fault) else [row])]
    return msgspec.json.encode(changed)


def _is_order(said: object) -> bool:
    return isinstance(said, dict) and "orderId" in said


def _hit(row: dict, fault: Fault) -> bool:
    return not fault.symbols or row.get("symbol") in fault.symbols


def _missing(row: dict, fault: Fault) -> list[dict]:
    return []


def _legs(row: dict, fault: Fault) -> list[dict]:
    """The row as LONG, beside a SHORT row of `value`."""
    short_amt = fault.value if _is_number(fault.value) else "0"
    return [row | {"positionSide": "LONG"}, row | {"positionSide": "SHORT", "positionAmt": short_amt}]


def _stale(row: dict, fault: Fault) -> list[dict]:
    """The row a minute older, and with the amount it had then where `value` names one."""
    amt = {"positionAmt": fault.value} if _is_number(fault.value) else {}
    return [row | amt | {"updateTime": max(row.get("updateTime", 0) - STALE_BY_MS, 1)}]


def _garbage(row: dict, fault: Fault) -> list[dict]:
    return [row | {"positionAmt": fault.value}]


def _is_number(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except ArithmeticError:
        return False


SPOIL: dict[str, Callable[[dict, Fault], list[dict]]] = {
    "missing_rows": _missing,
    "hedge_rows": _legs,
    "stale_rows": _stale,
    "garbage_qty": _garbage,
}
