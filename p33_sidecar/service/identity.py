"""Which server this is, and whether it can be trusted to hold what we wrote.

A server that restarted may have lost its last writes: a permit that was taken may look untaken. From the moment
that is noticed nothing is allowed until a poll begun one cooldown later (contract, chapter 3; timeline T06).
"""

from __future__ import annotations

import logging

from ..store import switches
from ..store.connect import Link, ServerClock, server_ms
from .memory import Memory

log = logging.getLogger("p33.identity")


def settle_in(link: Link, memory: Memory, clock: ServerClock) -> None:
    """At the start: whose database this is, and whether it is the server we knew."""
    link.redis.ping()
    memory.stored_venue = switches.claim_venue(link.redis, memory.venue)
    if memory.stored_venue != memory.venue:
        log.error("venue.mismatch", extra={"fields": {"database": memory.stored_venue, "exchange": memory.venue}})
    known = switches.known_run_id(link.redis)
    if not known:
        switches.accept_run_id(link.redis, link.run_id)
        known = link.run_id
    memory.accepted_run_id = known
    check(link, memory, clock)


def check(link: Link, memory: Memory, clock: ServerClock) -> None:
    """Notice a server that is not the one we trusted; cheap enough for every turn of every loop."""
    if link.run_id in ("", memory.accepted_run_id, memory.noticed_run_id):
        return
    memory.noticed_run_id = link.run_id
    clock.sync(server_ms(link.redis))
    memory.restart_noticed_ms = now_ms = clock.now_ms()
    memory.states.clear()
    memory.reread_books.set()
    switches.add_event(link.redis, "restarted", at_ms=now_ms, by=memory.instance, run_id=link.run_id)
    withdrawn = switches.withdraw_all(link.redis, at_ms=now_ms, by=memory.instance, why="store restarted")
    memory.stored_venue = switches.claim_venue(link.redis, memory.venue)
    log.error("store.restarted", extra={"fields": {"run_id": link.run_id, "withdrawn": len(withdrawn)}})


def trust_again(link: Link, memory: Memory) -> None:
    """After a good poll: trust the server once the poll began a cooldown after the restart was noticed."""
    poll = memory.last_good_poll
    if not memory.restart_noticed_ms or poll is None:
        return
    if poll.requested_ms < memory.restart_noticed_ms + memory.policy.cooldown_ms:
        return
    switches.accept_run_id(link.redis, memory.noticed_run_id)
    memory.accepted_run_id, memory.restart_noticed_ms = memory.noticed_run_id, 0
    log.info("store.trusted", extra={"fields": {"run_id": memory.accepted_run_id}})

