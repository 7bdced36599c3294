"""A result's message turned into order reports, whatever shape its producer gave it (contract, chapter 1).

A step that failed never counts; a step whose fate is open is reported as not settled, never dropped. A message
that says it executed and cannot be attributed to an order is refused, so that it is kept and somebody looks.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec

from .ledger import OrderReport
from .model import Value
from .orders import order_names
from .plan import MessageRefused, plan_id_of, symbol_of, timestamp_of
from .quantity import ZERO, parse

COUNTS: Final = frozenset({"success", "executed", "filled", "partially_filled"})
NEVER: Final = frozenset({
    "failed", "failure", "error", "not_implemented", "skipped", "blocked", "denied", "rejected", "dry_run",
    "would_execute", "not_sent", "order_not_sent", "order_rejected", "cancelled_before_send",
})
"""Step statuses that mean nothing happened. Any other status is open: booked as said, and asked for."""
ENDS_TAKEN: Final = frozenset({"order_rejected", "order_not_sent"})


class Result(Value):
    """A result as understood. `ending` says what it means for a taken permit of its plan."""

    plan_id: str
    symbol: str
    executed: bool
    reports: tuple[OrderReport, ...]
    ending: str
    timestamp_ms: int | None = None
    """When its producer says it happened; None where it does not say, or not readably."""


class _Step(msgspec.Struct, gc=False):
    step: Any = ""
    status: Any = ""
    order_id: Any = None
    client_order_id: Any = None
    side: Any = ""
    executed_qty: msgspec.Raw = msgspec.Raw(b"null")
    filled_qty: msgspec.Raw = msgspec.Raw(b"null")
    reduce_only: Any = None
    reduceOnly: Any = None  # noqa: N815 - the producers' spelling


_STEPS = msgspec.json.Decoder(list[_Step])
_DETAILS = msgspec.json.Decoder(_Step)
_FLAT: Final = ("step", "order_id", "client_order_id", "side", "status", "reduce_only", "reduceOnly")


def result_of(fields: dict[str, str]) -> Result:
    """The result a stream entry carries. Raises MessageRefused for one that cannot be attributed or read."""
    symbol = symbol_of(fields.get("symbol"))
    executed = _true(fields.get("executed", ""))
    steps = _steps(fields, executed)
    plan_id = _plan_id(fields.get("plan_id", ""), steps)
    counting = [step for step in steps if _counts(step, executed, fields)]
    reports = tuple(_report(step, plan_id, executed, alone=len(counting) == 1) for step in counting)
    done = executed or fields.get("error", "") in ENDS_TAKEN
    return Result(plan_id=plan_id, symbol=symbol, executed=executed, reports=reports,
                  ending="over" if done else "other", timestamp_ms=_told_ms(fields.get("timestamp", "")))


def _told_ms(text: str) -> int | None:
    """A zero is how producers write that there is none: taken for 1970, a fill would be late and never be booked."""
    stamp_ms = timestamp_of(text)[0]
    return stamp_ms if stamp_ms is not None and stamp_ms > 0 else None


def _plan_id(text: str, steps: list[_Step]) -> str:
    if not text and steps and all(_text(step.order_id) for step in steps):
        return ""
    return plan_id_of(text)


def _steps(fields: dict[str, str], executed: bool) -> list[_Step]:
    """The steps of the message: its list, else its `details`, else its own flat fields."""
    try:
        if fields.get("steps_results", "") not in ("", "[]", "null"):
            return _STEPS.decode(fields["steps_results"])
        if fields.get("details", "") not in ("", "{}", "null"):
            return [_with_status(_DETAILS.decode(fields["details"]), fields, executed)]
    except (msgspec.MsgspecError, RecursionError) as error:
        raise MessageRefused("unreadable_steps") from error
    flat = msgspec.convert({k: fields[k] for k in _FLAT if k in fields}, _Step)
    flat.executed_qty = _quoted(fields.get("executed_qty", ""))
    flat.filled_qty = _quoted(fields.get("filled_qty", ""))
    return [_with_status(flat, fields, executed)] if executed or _text(flat.order_id) else []


def _with_status(step: _Step, fields: dict[str, str], executed: bool) -> _Step:
    """A flat message carries no step status: `executed` stands for it."""
    if not _text(step.status):
        step.status = fields.get("status", "") or ("success" if executed else "failed")
    return step


def _counts(step: _Step, executed: bool, fields: dict[str, str]) -> bool:
    status = _text(step.status).lower()
    if status in NEVER or (not executed and _true(fields.get("would_execute", ""))):
        return False
    if executed or status in COUNTS:
        return True
    return bool(_text(step.order_id))


def _report(step: _Step, plan_id: str, executed: bool, *, alone: bool) -> OrderReport:
    """A quantity is believed with a side and an executed result; what is not is asked for at the exchange."""
    status, named = _text(step.status).lower(), _text(step.step)
    order_id, client_id = _text(step.order_id), _text(step.client_order_id)
    qty, side = _quantity(step), _text(step.side).upper()
    known_side = side in ("BUY", "SELL")
    believed = known_side and (executed or status not in COUNTS)
    settled = believed and qty > 0 and status in COUNTS and status != "partially_filled"
    return OrderReport(
        names=order_names(order_id=order_id, client_id=client_id, plan_id=plan_id, step=named, only_step=alone),
        side=side if known_side else "", executed_qty=qty if believed else ZERO, settled=settled,
        reduce_only=_true(_text(step.reduce_only)) or _true(_text(step.reduceOnly)), order_id=order_id,
        client_id=client_id, step=named,
    )


def _quantity(step: _Step) -> Decimal:
    """The order's total so far, the larger of the two fields; zero for neither. Raises MessageRefused for nonsense."""
    return max(_amount(step.executed_qty), _amount(step.filled_qty))


def _amount(raw: msgspec.Raw) -> Decimal:
    written = bytes(raw).decode("utf-8", "replace").strip('"')
    if written in ("null", ""):
        return ZERO
    try:
        qty = parse(written)
    except ValueError as error:
        raise MessageRefused("unreadable_quantity") from error
    if qty < 0:
        raise MessageRefused("negative_quantity")
    return qty


def _quoted(text: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(text))


def _text(value: Any) -> str:
    """An order id as text, whatever type it came in; nothing for null, 0 and empty."""
    if value is None or value is False:
        return ""
    if value is True:
        return "true"
    text = str(value).strip()
    return "" if text in ("0", "None", "null") else text


def _true(text: str) -> bool:
    return text.strip().lower() in ("true", "1", "yes")
