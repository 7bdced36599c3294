"""What all assets have in common: whose they are, and what is tried again."""

from __future__ import annotations

from typing import Any, Final

import dagster as dg

COMMON: Final[dict[str, Any]] = {
    "owners": ["team:trading-ops"],
    "retry_policy": dg.RetryPolicy(max_retries=2, delay=1, backoff=dg.Backoff.EXPONENTIAL),
}
