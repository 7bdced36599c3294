"""Which server this is, whose database, and whether it can be trusted to hold what we wrote.

A server that restarted may have lost its last writes, one that was emptied (FLUSHALL) has lost all of them: a permit
that was taken may look untaken. From the moment that is noticed nothing is allowed until a poll begun one cooldown
later (contract, chapter 3; timeline T06). A database of another exchange is not ours to change: nothing is written
to it but the denials that say so (timeline T11).
"""

from __future__ import annotations

import logging

from ..errors import StoreUnavailable
from ..store import switches
from ..store.connect import Link, ServerClock, server_ms
from .memory import Memory

log = logging.getLogger("p33.identity")

RESTARTED, EMPTIED = "restarted", "emptied"


def settle_in(link: Link, memory: Memory, clock: ServerClock) -> None:
    """At the start: whose database this is, and whether it is the server we knew."""
    link.redis.ping()
    memory.stored_venue = switches.claim_venue(link.redis, memory.venue)
    memory.accepted_run_id = switches.known_run_id(link.redis)
    if not memory.ours:
        log.error("venue.mismatch", extra={"fields": {"database": memory.stored_venue, "exchange": memory.venue}})
        return
    if not memory.accepted_run_id and not switches.knows_us(link.redis):
        switches.accept_run_id(link.redis, link.run_id)
        memory.accepted_run_id = link.run_id
    check(link, memory, clock)


def check(link: Link, memory: Memory, clock: ServerClock) -> None:
    """Notice a server that is not the one we trusted; cheap enough for every turn of every loop."""
    if link.run_id in ("", memory.accepted_run_id, memory.noticed_run_id) or not memory.ours:
        return
    _notice(link, memory, clock, RESTARTED)


class Watch:
    """Looks at what the database says of itself: emptied under us, another exchange's since then, or halted."""

    def __init__(self, link: Link, memory: Memory, clock: ServerClock) -> None:
        self._link, self._memory, self._clock, self._line = link, memory, clock, link.line()

    def step(self) -> None:
        memory = self._memory
        trusted = "" if memory.restarted else memory.accepted_run_id
        seen = switches.glance(self._line)
        memory.halted = seen.halted
        if not memory.ours or seen.venue not in ("", memory.venue):
            _venue_says(self._link, memory, self._clock, seen.venue)
        elif trusted and seen.run_id != trusted:
            _notice(self._link, memory, self._clock, EMPTIED)


def trust_again(link: Link, memory: Memory) -> None:
    """After a good poll: trust the server once the poll began a cooldown after the restart was noticed."""
    poll = memory.last_good_poll
    if not memory.restarted or poll is None:
        return
    if poll.requested_mono_ns < memory.restart_noticed_mono_ns + memory.policy.cooldown_ms * 1_000_000:
        return
    switches.accept_run_id(link.redis, memory.noticed_run_id)
    memory.accepted_run_id, memory.restart_noticed_ms = memory.noticed_run_id, 0
    log.info("store.trusted", extra={"fields": {"run_id": memory.accepted_run_id}})


def _notice(link: Link, memory: Memory, clock: ServerClock, what: str) -> None:
    """One notice, whichever loop sees it first. What was open is withdrawn, and all of memory is doubted.

    One that fails half-way (a server without memory, a line that breaks) is begun again by whoever looks next; until
    then the server's name is not the one in the store, and that denies as well.
    """
    with memory.noticing:
        known = link.run_id in (memory.accepted_run_id, memory.noticed_run_id)
        if known and (what == RESTARTED or memory.restarted):
            return
        clock.sync(server_ms(link.redis))
        memory.restart_noticed_mono_ns, memory.restart_noticed_ms = clock.mono_ns(), clock.now_ms()
        memory.noticed_run_id = link.run_id
    memory.forget_store()
    try:
        _doubt(link, memory, what)
    except StoreUnavailable:
        memory.noticed_run_id, memory.restart_noticed_ms = "", 0
        raise


def _doubt(link: Link, memory: Memory, what: str) -> None:
    memory.stored_venue = switches.claim_venue(link.redis, memory.venue)
    if not memory.ours:
        return
    switches.doubt_server(link.redis)
    at_ms, by = memory.restart_noticed_ms, memory.instance
    switches.add_event(link.redis, "store_restarted", at_ms=at_ms, by=by, what=what, run_id=link.run_id)
    withdrawn = switches.withdraw_all(link.redis, at_ms=at_ms, by=by, why="store restarted")
    # A restart is over by itself one cooldown later; a server that lost its data is not.
    level = logging.WARNING if what == RESTARTED else logging.ERROR
    log.log(level, "store.restarted",
            extra={"fields": {"what": what, "run_id": link.run_id, "withdrawn": len(withdrawn)}})


def _venue_says(link: Link, memory: Memory, clock: ServerClock, venue: str) -> None:
    """The database belongs to another exchange, or is ours again by an operator's word."""
    was_ours = memory.ours
    if venue in ("", memory.venue):
        if switches.claim_venue(link.redis, memory.venue) != memory.venue:
            return  # its key holds no text: whose it is cannot be known before somebody has mended it
        settle_in(link, memory, clock)
        memory.forget_store()
        log.info("venue.ours", extra={"fields": {"venue": memory.stored_venue}})
        return
    memory.stored_venue = venue
    if was_ours:
        log.error("venue.mismatch", extra={"fields": {"database": venue, "exchange": memory.venue}})
