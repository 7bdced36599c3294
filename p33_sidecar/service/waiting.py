"""Plans that wait a moment, because the moment can change their verdict; all others pass them by.

There are two causes: a snapshot that one refresh can renew, shared by all who wait for it, and a result that is
just being booked. Each cause is waited for once, with a deadline; then the plan is decided whatever happened.
No clock, no store here: times are parameters, and who waits is read again by the desk. A wait is measured by the
machine's own clock: the server's may be set back meanwhile (T13).
"""

from __future__ import annotations

import msgspec

from ..core.model import Decision, Facts, Plan
from ..core.reasons import Reason
from ..store.state import State
from .memory import Memory

BOOKING, REFRESH = "booking", "refresh"
BOOKING_WAIT_MS = 120
LEDGER_REASONS = (Reason.LEDGER_MISSING, Reason.RECONCILE_REQUIRED_QTY_MISMATCH,
                  Reason.RECONCILE_REQUIRED_SIDE_MISMATCH)


class Job(msgspec.Struct):
    """A plan on its way to a verdict. `state` is None until the store was asked."""

    plan: Plan
    entry_id: str
    published_ms: int
    read_ms: int
    state: State | None = None
    attempts: int = 0
    waited_for: str = ""
    wake_mono_ms: int = 0
    """While it waits: when it is decided whatever happened."""
    poll_seen: int = 0


class Waiting:
    """Who waits, and for what."""

    def __init__(self, memory: Memory, *, refresh_budget_ms: int) -> None:
        self.memory, self.refresh_budget_ms = memory, refresh_budget_ms
        self.jobs: list[Job] = []

    def take_in(self, job: Job, facts: Facts, decision: Decision, *, mono_ms: int) -> bool:
        """Keep the plan if a moment's wait can change its verdict; False: decide it now."""
        cause, patience_ms = self._worth_waiting(facts, decision)
        if not cause or (job.waited_for == cause and mono_ms >= job.wake_mono_ms):
            return False
        if job.waited_for != cause:
            job.waited_for, job.wake_mono_ms = cause, mono_ms + patience_ms
        job.poll_seen = self._last_poll()
        if cause == REFRESH:
            job.state = None
            self.memory.refresh_wanted.set()
        self.jobs.append(job)
        return True

    def due(self, mono_ms: int) -> list[Job]:
        """Those whose cause may have gone or whose time is up; they wait no more, unless taken in again."""
        poll = self._last_poll()
        due = [job for job in self.jobs
               if job.waited_for == BOOKING or job.poll_seen != poll or mono_ms >= job.wake_mono_ms]
        if due:
            self.jobs = [job for job in self.jobs if job not in due]
        return due

    def _worth_waiting(self, facts: Facts, decision: Decision) -> tuple[str, int]:
        reason, context = decision.reason, facts.context
        if context.unbooked_results and (reason == Reason.COOLDOWN_IN_FLIGHT or reason in LEDGER_REASONS):
            return BOOKING, BOOKING_WAIT_MS
        unseen = reason == Reason.NO_EXCHANGE_SNAPSHOT and facts.snapshot is None and context.filters_read
        if (unseen or reason == Reason.STALE_EXCHANGE_STATE) and self.memory.ban_until_ms <= facts.now_ms:
            return (REFRESH, self.refresh_budget_ms) if self.refresh_budget_ms else ("", 0)
        return "", 0

    def _last_poll(self) -> int:
        poll = self.memory.last_poll
        return poll.requested_mono_ns if poll else 0
