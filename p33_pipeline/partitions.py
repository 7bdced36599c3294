"""How time is cut: hours for the audit of the running day, days for the closed audit and the report. UTC throughout.

The running hour and day are partitions too, so that what just happened can be audited; a run over them says how far the
archive reached. One start for both; a history that is older is audited with `p33-audit --from`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import dagster as dg

START: Final = datetime(2024, 1, 1, tzinfo=UTC)
HOURLY: Final = dg.HourlyPartitionsDefinition(start_date=START, timezone="UTC", end_offset=1)
DAILY: Final = dg.DailyPartitionsDefinition(start_date=START, timezone="UTC", end_offset=1)
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000


def window_ms(context: dg.AssetExecutionContext) -> tuple[int, int]:
    """The partition's (from, to) in milliseconds."""
    return _in_ms(context.partition_time_window)


def window_of(key: str) -> tuple[int, int]:
    """The same of the hour or day that a key names."""
    return _in_ms((HOURLY if ":" in key else DAILY).time_window_for_partition_key(key))


def _in_ms(window: dg.TimeWindow) -> tuple[int, int]:
    return int(window.start.timestamp()) * 1000, int(window.end.timestamp()) * 1000


def hour_key(at_ms: int) -> str:
    """The hourly partition that a moment lies in."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%d-%H:00")


def day_key(at_ms: int) -> str:
    """The daily partition that a moment lies in."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%d")


def closed_before(now_ms: int, *, length_ms: int, count: int) -> list[tuple[int, int]]:
    """The (from, to) of the last `count` hours or days that are over, the newest first."""
    end_ms = now_ms // length_ms * length_ms
    return [(end_ms - (n + 1) * length_ms, end_ms - n * length_ms) for n in range(count)]
