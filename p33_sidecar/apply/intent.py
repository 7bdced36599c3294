"""An order that may be on its way: kept in Redis by the step that takes the permits, until its result is written.

What may not happen here: an end before which the exchange could still accept the order. It refuses a request whose
`timestamp` is older than `recvWindow` (-1021), and we take that timestamp before we look at `expires_ms`; its reads
may lie a while behind.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from ..core.permit import Permit
from ..core.quantity import parse, text

RECV_WINDOW_MS: Final = 5_000
READ_LAG_MS: Final = 30_000
"""How far behind the exchange's answers may lie before they count as `there is no such order`."""


class OrderIntent(msgspec.Struct, frozen=True):
    """One order. `mark` is what `quantum:p33:taken:<plan_id>` says; `noted_ms` when it was taken (server's ms)."""

    plan_id: str
    symbol: str
    side: str
    quantity: str
    client_id: str
    action: str
    entry_id: str
    expires_ms: int
    instance: str
    mark: str = ""
    noted_ms: int = 0

    @property
    def until_ms(self) -> int:
        """From then on an order that the exchange does not know was never sent, and never will be."""
        return self.expires_ms + RECV_WINDOW_MS + READ_LAG_MS

    def amount(self) -> Decimal:
        """The quantity, exact."""
        return parse(self.quantity)

    def encoded(self) -> bytes:
        """As it is kept."""
        return msgspec.json.encode(self)


class Size(msgspec.Struct, frozen=True):
    """What to close: BUY or SELL, and how much."""

    side: str
    quantity: Decimal

    def written(self) -> str:
        """The quantity in canonical plain notation."""
        return text(self.quantity)


def size_of(permit: Permit) -> Size:
    """The permit's quantity and nothing else."""
    return Size(permit.close_side, permit.safe_close_qty)


_DECODE = msgspec.json.Decoder(OrderIntent).decode


def intent_of(raw: str) -> OrderIntent | None:
    """What was kept, or None for something that is no intent."""
    try:
        return _DECODE(raw)
    except (msgspec.MsgspecError, RecursionError):
        return None
