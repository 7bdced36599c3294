"""Every order status the exchange is known to use, and whether an order in it can still fill.

What may not happen here: an unknown status counted as an end. It is `known_status=False, terminal=False`, so the
order stays "not settled" and is asked for again (incident X23: `EXPIRED_IN_MATCH` was not in somebody's list).

Source: official enum pages of REST and user stream; NEW_INSURANCE and NEW_ADL are liquidation orders that are
still working; PENDING_* come from older API versions.
"""

from __future__ import annotations

from typing import Final

TERMINAL: Final[dict[str, bool]] = {
    "PENDING_NEW": False,
    "NEW": False,
    "NEW_INSURANCE": False,
    "NEW_ADL": False,
    "PARTIALLY_FILLED": False,
    "PENDING_CANCEL": False,
    "FILLED": True,
    "CANCELED": True,
    "REJECTED": True,
    "EXPIRED": True,
    "EXPIRED_IN_MATCH": True,
}
