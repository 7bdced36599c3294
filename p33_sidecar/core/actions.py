"""What an action closes: one table, matched exactly. An action that is not in it closes nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

FRACTIONS: Final[dict[str, Decimal]] = {
    "FULL_CLOSE_PROPOSED": Decimal(1),
    "CLOSE_FULL": Decimal(1),
    "PARTIAL_75": Decimal("0.75"),
    "CLOSE_PARTIAL_75": Decimal("0.75"),
    "PARTIAL_50": Decimal("0.50"),
    "CLOSE_PARTIAL_50": Decimal("0.50"),
    "PARTIAL_25": Decimal("0.25"),
    "CLOSE_PARTIAL_25": Decimal("0.25"),
}
"""Action, or name of a plan's step, to the fraction of the position it closes (contract, chapter 3)."""
