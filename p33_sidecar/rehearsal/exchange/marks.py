"""Mark prices: for every symbol a walk that depends on nothing but the symbol and the clock.

No randomness and no state may live here: the same moment always gives the same price, in every process.
"""

from __future__ import annotations

import zlib
from decimal import Decimal

from p33_sidecar.rehearsal.exchange.symbols import Contract

STEP_MS = 1000
WAVES = ((613, 1100), (89, 300), (17, 80))
"""(period in steps, height in millionths): primes, so that the sum does not repeat within a week."""


def mark_price(contract: Contract, *, at_ms: int, base: Decimal | None = None) -> Decimal:
    """The mark at `at_ms`, on the symbol's price grid, within 0.15 % of `base` (default: the table's)."""
    base = base or Decimal(contract.mark)
    phase = zlib.crc32(contract.symbol.encode())
    offset_ppm = sum(_triangle(at_ms // STEP_MS + phase, period=p, height=h) for p, h in WAVES)
    moved = base + base * offset_ppm / 1_000_000
    return max(moved // contract.tick_size, Decimal(1)) * contract.tick_size


def _triangle(step: int, *, period: int, height: int) -> int:
    """A wave from -height to height and back, in whole millionths."""
    place = step % period
    rising = place if place * 2 < period else period - place
    return rising * 4 * height // period - height
