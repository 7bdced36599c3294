"""What a fill does to a position, and what a position leaves room for: pure arithmetic.

No clock, no state. A fill that crosses zero opens the remainder at its own price; a closing order never gets that far.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from p33_sidecar.rehearsal.exchange.model import ZERO, Order, Position

ENTRY_GRID = Decimal("0.00000000001")
FEE_RATE = Decimal("0.0004")
MONEY_GRID = Decimal("0.00000001")


def signed(side: str, qty: Decimal) -> Decimal:
    """The change of a position: BUY adds, SELL takes away."""
    return qty if side == "BUY" else -qty


def after_fill(position: Position, *, delta: Decimal, price: Decimal, at_ms: int) -> tuple[Position, Decimal]:
    """The position after a fill of signed size `delta`, and the profit it realised in the quote asset."""
    amt = position.amt + delta
    reduces = position.amt * delta < 0
    closed_qty = min(abs(delta), abs(position.amt)) if reduces else ZERO
    direction = 1 if position.amt > 0 else -1
    realized = (price - position.entry_price) * closed_qty * direction
    entry = _entry_after(position, delta=delta, amt=amt, price=price)
    return msgspec.structs.replace(position, amt=amt, entry_price=entry, updated_ms=at_ms), realized


def _entry_after(position: Position, *, delta: Decimal, amt: Decimal, price: Decimal) -> Decimal:
    if amt == 0:
        return ZERO
    if position.amt * amt < 0 or position.amt == 0:
        return price
    if abs(amt) < abs(position.amt):
        return position.entry_price
    cost = position.entry_price * abs(position.amt) + price * abs(delta)
    return (cost / abs(amt)).quantize(ENTRY_GRID)


def closing(order: Order, position: Position) -> bool:
    """Whether the order points against the position."""
    return position.amt != 0 and order.side == position.closing_side


def room_to_close(side: str, position: Position, resting: Iterable[Order]) -> Decimal:
    """What a new closing order may take: the position less what resting closing orders hold; zero on a wrong side."""
    if position.amt == 0 or side != position.closing_side:
        return ZERO
    held = sum((order.remaining_qty for order in resting if order.side == side), ZERO)
    return max(abs(position.amt) - held, ZERO)


def trimmed(resting: Iterable[Order], position: Position, *, at_ms: int) -> list[Order]:
    """The resting closing orders that a changed position shrinks or expires, oldest served first."""
    room = abs(position.amt)
    changed = []
    for order in sorted(resting, key=lambda o: o.sequence):
        fits = min(order.remaining_qty, room) if closing(order, position) else ZERO
        room -= fits
        if fits == order.remaining_qty:
            continue
        left = {"qty": order.executed_qty + fits} if fits else {"status": "EXPIRED"}
        changed.append(msgspec.structs.replace(order, updated_ms=at_ms, **left))
    return changed
