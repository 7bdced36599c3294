"""What an earlier life left in the store and the first verdict already needs: positions, lot rules, a ban, permits.

A restart forgets nothing that it could know (incidents I22, I28, X07). Done before any loop runs.
"""

from __future__ import annotations

import logging

from ..core.record import policy_hash, value_json
from ..store import switches
from ..store.connect import Link, ServerClock, is_durable, may_evict
from ..store.positions import BanUnreadable, PositionStore, RedisBans
from .clocks import end_outliving
from .memory import Memory

log = logging.getLogger("p33.recall")


def recall(link: Link, memory: Memory, clock: ServerClock) -> None:
    """Fill the empty memory. Thresholds that are not those of the last start become an event, and a permit that would
    be open for longer than any may be ends."""
    store = PositionStore(link.redis)
    if stored := store.filters():
        memory.filters_read_ms, memory.filters = stored
    try:
        memory.ban_until_ms = RedisBans(link.redis).ban_until_ms()
    except BanUnreadable as unreadable:  # the exchange is not asked before somebody has mended it; plans are denied
        log.error("ban.unreadable", extra={"fields": {"why": str(unreadable)}})
    memory.durable, memory.evicts = is_durable(link.redis), may_evict(link.redis)
    if not memory.ours:
        return
    end_outliving(link.redis, memory, clock)
    memory.recall(store.snapshots())
    switches.note_policy(link.redis, value_json(memory.policy), hash_=policy_hash(memory.policy),
                         at_ms=clock.now_ms(), by=memory.instance)
