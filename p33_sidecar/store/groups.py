"""Where a consumer group begins that does not exist yet: the same place for the sidecar and the Apply Layer.

It begins P33_PLAN_MAX_AGE_SEC ago (contract, chapter 1) and never after the stream's own end. A clock that runs ahead
would otherwise put the group's beginning before plans that are still to come, once it is set right: they would be
delivered to nobody until the time has caught up.
"""

from __future__ import annotations

import redis

from .state import entry_order


def make_group(client: redis.Redis, stream: str, group: str, *, now_ms: int, max_age_ms: int) -> bool:
    """Create the group at the oldest entry that may still be answered. False: it was there already."""
    last = client.xrevrange(stream, count=1)
    end = last[0][0] if last else "0-0"
    start = min(f"{max(now_ms - max_age_ms, 0)}-0", end.decode() if isinstance(end, bytes) else end, key=entry_order)
    try:
        client.xgroup_create(stream, group, id=start, mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" in str(error):
            return False
        raise
    return True
