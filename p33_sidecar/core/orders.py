"""The name of the order that a plan becomes at the exchange."""

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
