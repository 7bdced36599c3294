"""The names of an order: the one that a plan gives it at the exchange, and those under which its fills are told.

An order may be told of without its id first and with it later, by its client id, or by plan and step alone. Every
name leads to the same order; two messages with different order ids never mean the same one.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_LEGAL: Final = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}\Z")
"""The exchange's rule for client order ids (official documentation, New Order)."""


def client_order_id(plan_id: str) -> str:
    """`p33-<plan_id>`, or `p33-` and 32 hex digits of its SHA-256 where that breaks the exchange's rule."""
    plain = f"p33-{plan_id}"
    return plain if _LEGAL.match(plain) else "p33-" + hashlib.sha256(plan_id.encode()).hexdigest()[:32]


def order_names(*, order_id: str, client_id: str, plan_id: str, step: str, only_step: bool) -> tuple[str, ...]:
    """Every name a message gives an order, the surest first; none where it cannot be attributed at all.

    A plan's only order is also known without its step's name, since flat messages name none.
    """
    names = [f"id {order_id}"] if order_id else []
    names += [f"client {client_id}"] if client_id else []
    names += [f"plan {plan_id} {step}"] if plan_id else []
    names += [f"plan {plan_id} "] if plan_id and step and only_step else []
    return tuple(names)


def may_be_same(mine: tuple[str, str, str], other: tuple[str, str, str]) -> bool:
    """Whether (order id, client id, step) of two tellings that share a name can mean one order.

    The surest thing that both say decides; what only one of them says decides nothing.
    """
    return next((a == b for a, b in zip(mine, other, strict=True) if a and b), True)
