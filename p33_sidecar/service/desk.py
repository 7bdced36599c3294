"""The permit desk: every EXECUTE plan gets exactly one verdict, within its time, whatever else is slow.

Nothing slow may happen here: no request to the exchange, no read that the issuing step does not make anyway.
A plan that must wait does so with a deadline while others pass (`waiting`). A verdict is decided on what the loops
hold in memory and confirmed by the step that issues it; if something moved, it is taken again on what the store
says. What cannot be read there denies by name and stops nobody else's plan.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable

from .. import __version__
from ..core.checks import decide, evaluation_failed
from ..core.model import Context, Decision, Facts, Phase, Plan
from ..core.permit import Stamp
from ..core.plan import EXECUTE, MessageRefused, plan_of
from ..core.quantity import text
from ..core.reasons import Reason
from ..core.record import Origin
from ..store.connect import ServerClock
from ..store.state import UNREADABLE, State, entry_order, phase_of, read_mark
from ..store.verdicts import Entry, GroupMissing, Issue, Moved, VerdictStore
from .facts import believed_state, facts_of
from .hooks import Hooks
from .memory import NO_LINE, Memory, Verdict
from .waiting import BOOKING, Job, Waiting

log = logging.getLogger("p33.desk")

BATCH = 16
"""Plans read at once: they share a round trip. With 64 a burst leaves the process 0.8 MB larger and is no faster."""
WAITING_BLOCK_MS = 4
IDLE_BLOCK_MS = 1000
CLAIM_EVERY_MS = 10_000
ATTEMPTS = 8
EVALUATION_ERRORS = (ArithmeticError, ValueError, TypeError, LookupError, AttributeError)


class Desk:
    """One consumer of the plan stream. `step()` handles what there is and returns."""

    def __init__(self, store: VerdictStore, memory: Memory, clock: ServerClock, hooks: Hooks, *,
                 refresh_budget_ms: int, new_nonce: Callable[[], str] = lambda: secrets.token_hex(16)) -> None:
        self.store, self.memory, self.clock, self.hooks = store, memory, clock, hooks
        self.waiting, self.new_nonce = Waiting(memory, refresh_budget_ms=refresh_budget_ms), new_nonce
        self._spare_nonce = ""
        self._handling: set[str] = set()
        self._pending_read = False
        self._claimed_ms = 0

    # -- one turn ---------------------------------------------------------------------------------------------

    def step(self, *, block_ms: int = IDLE_BLOCK_MS) -> int:
        """Decide the waiting plans that are due and the plans that are there. Returns how many verdicts it issued."""
        issued = self._decide(self._due()) if self.waiting.jobs else 0
        self._spare_nonce = self._spare_nonce or self.new_nonce()
        try:
            return issued + self._handle(self._next_entries(block_ms))
        except GroupMissing:
            self.store.ensure_group(self.clock.now_ms())
            self._pending_read = False
            return issued

    def finish(self) -> None:
        """Before the end: plans that wait get their verdict, at their deadline at the latest. Nothing new is read."""
        while self.waiting.jobs:
            self._decide(self._due())
            time.sleep(WAITING_BLOCK_MS / 1000)

    def reset(self) -> None:
        """Forget what was in hand, after the connection broke: it is pending in the group and is read again."""
        self.waiting.jobs.clear()
        self._handling.clear()
        self._pending_read = False

    def _next_entries(self, block_ms: int) -> list[Entry]:
        if not self._pending_read and (pending := self._pending_entries()):
            return pending
        claimed_ago_ms = self.clock.now_ms() - self._claimed_ms
        if not 0 <= claimed_ago_ms < CLAIM_EVERY_MS and (claimed := self._claimed_entries()):
            return claimed
        block_ms = min(block_ms, WAITING_BLOCK_MS) if self.waiting.jobs else block_ms
        return self.store.new_plans(count=BATCH, block_ms=block_ms or None)

    def _claimed_entries(self) -> list[Entry]:
        """What a dead consumer left behind, page by page; what waits here is not dead."""
        claimed = [entry for entry in self.store.claim_abandoned() if entry[0] not in self._handling]
        if not claimed:
            self._claimed_ms = self.clock.now_ms()
        return claimed

    def _pending_entries(self) -> list[Entry]:
        """What was ours before this start and never acknowledged comes first (incident I49)."""
        last, entries = "0", []
        while page := self.store.own_pending(last):
            entries += page
            last = page[-1][0]
        self._pending_read = True
        return entries

    def _handle(self, entries: list[Entry]) -> int:
        jobs = [job for entry_id, fields in entries if (job := self._job(entry_id, fields))]
        return self._decide(jobs)

    def _job(self, entry_id: str, fields: dict[str, str] | None) -> Job | None:
        if fields is None or fields.get("decision") not in (EXECUTE, None):
            self.store.pass_over(entry_id)
            return None
        now_ms = self.clock.now_ms()
        published_ms = entry_order(entry_id)[0]
        try:
            if "decision" not in fields:
                raise MessageRefused("missing_decision")
            plan = plan_of(fields, entry_ms=published_ms)
        except MessageRefused as refused:
            if self.store.reject(entry_id, fields, reason=refused.reason, now_ms=now_ms):
                self.hooks.rejected("plan", refused.reason)
                log.warning("plan.rejected", extra={"fields": {"entry": entry_id, "reason": refused.reason}})
            return None
        self._handling.add(entry_id)
        return Job(plan, entry_id, published_ms, now_ms)

    # -- deciding ---------------------------------------------------------------------------------------------

    def _decide(self, jobs: list[Job]) -> int:
        """Rounds of at most one plan per symbol, each issued in one round trip."""
        issued = 0
        while jobs:
            chosen, jobs = _one_per_symbol(jobs)
            issues = [(job, issue) for job in chosen if (issue := self._prepare(job))]
            if not issues:
                continue
            outcomes = self.store.issue([issue for _, issue in issues])
            for (job, issue), outcome in zip(issues, outcomes, strict=True):
                if isinstance(outcome, int):
                    issued += 1
                    self._issued(job, issue, outcome)
                else:
                    jobs.insert(0, self._again(job, outcome))
        return issued

    def _prepare(self, job: Job) -> Issue | None:
        """The verdict to issue, or None when the plan was passed over or waits."""
        memory, now_ms = self.memory, self.clock.now_ms_at(job.published_ms)
        state = job.state or believed_state(memory, job.plan.symbol)
        try:
            if job.state is not None and self._settled(job, state, now_ms):
                self.store.pass_over(job.entry_id)
                self._handling.discard(job.entry_id)
                return None
            facts = self._facts(job.plan, state, now_ms)
        except EVALUATION_ERRORS as error:
            facts, decision = Facts(now_ms, job.plan, None, None, None, Context()), self._failed(job, error)
        else:
            decision = self._decision(job, facts)
        if self.waiting.take_in(job, facts, decision, mono_ms=self._mono_ms()):
            return None
        stamp = Stamp(memory.venue, now_ms, now_ms + memory.policy.permit_ttl_ms, self._nonce())
        origin = Origin(job.entry_id, job.published_ms, job.read_ms, memory.instance, __version__)
        return Issue(decision, facts, state, stamp, origin, memory.cursor.last_id if memory.cursor else "")

    def _nonce(self) -> str:
        """Of the first verdict after a pause, when everything is cold, it was drawn before the plan was there."""
        nonce, self._spare_nonce = self._spare_nonce or self.new_nonce(), ""
        return nonce

    def _facts(self, plan: Plan, state: State, now_ms: int) -> Facts:
        return facts_of(plan, state, self.memory, now_ms=now_ms, mono_ns=self.clock.mono_ns(),
                        run_id=self.store.link.run_id)

    def _decision(self, job: Job, facts: Facts) -> Decision:
        if job.attempts > ATTEMPTS:
            return self._failed(job, None)
        try:
            return decide(facts, self.memory.policy)
        except EVALUATION_ERRORS as error:
            return self._failed(job, error)

    def _failed(self, job: Job, error: Exception | None) -> Decision:
        """A denial like any other; what is wrong stands in the log. No error: the facts never stood still."""
        log.error("evaluation.failed", exc_info=error, extra={"fields": {
            "plan_id": job.plan.plan_id, "symbol": job.plan.symbol, "attempts": job.attempts}})
        return evaluation_failed(self.memory.policy)

    def _settled(self, job: Job, state: State, now_ms: int) -> bool:
        """Whether the entry needs no verdict: dealt with already, or a repetition of a settled plan."""
        if state.plan_taken not in ("", UNREADABLE):
            self.hooks.republished()
            return True
        mark = read_mark(state.mark)
        if mark is None or not mark.entry:
            return False
        if entry_order(job.entry_id) <= entry_order(mark.entry):
            return True
        ended = mark.outcome == "DENY" and mark.retryable
        if mark.outcome == "ALLOW":
            ended = not self._is_open(job.plan, state, mark.nonce, now_ms)
        if not ended:
            self.hooks.republished()
        return not ended

    def _is_open(self, plan: Plan, state: State, nonce: str, now_ms: int) -> bool:
        """Whether the plan's own ALLOW is still open: then its repetition changes nothing."""
        if state.open != f"{plan.plan_id} {nonce}":
            return False
        facts = self._facts(plan, state, now_ms)
        amt = facts.snapshot.amt if facts.snapshot else None
        phase, _, _ = phase_of(state, policy=self.memory.policy, now_ms=now_ms, amt=amt,
                               rev=facts.book.rev if facts.book else None)
        return phase == Phase.OPEN

    def _again(self, job: Job, outcome: Moved | None) -> Job:
        """What the store says becomes what is believed, and the decision is taken again."""
        job.attempts += 1
        moved = outcome or self.store.read_state(job.plan.symbol, job.plan.plan_id)
        self.clock.sync(moved.now_ms)
        job.state = moved.state
        symbol = job.plan.symbol
        self._believe(symbol, moved.state)
        if moved.state.book != self.memory.books.get(symbol, NO_LINE).text or moved.state.gap != _gap(self.memory):
            self.memory.reread_books.set()
        return job

    def _issued(self, job: Job, issue: Issue, server_ms: int) -> None:
        memory, plan, decision = self.memory, job.plan, issue.decision
        self._handling.discard(job.entry_id)
        self.clock.sync(server_ms)
        state = issue.state
        if decision.allow:
            line = f"{plan.plan_id} {issue.stamp.nonce} {issue.stamp.issued_ms} {issue.stamp.expires_ms} " \
                   f"{text(issue.facts.snapshot.amt)} {issue.facts.book.rev}"
            state = state._replace(issued=line, open=f"{plan.plan_id} {issue.stamp.nonce}", taken="")
            memory.open_permits[plan.symbol] = issue.stamp.expires_ms
        elif decision.reason == Reason.NO_SYMBOL_FILTERS and len(memory.unknown_symbols) < 100:
            memory.unknown_symbols.add(plan.symbol)
        self._believe(plan.symbol, state)
        latency_ms = server_ms - job.published_ms
        verdict = Verdict(
            server_ms, plan.plan_id, plan.symbol, plan.action, decision.allow, decision.reason or "",
            text(decision.safe_close_qty) if decision.safe_close_qty else "", latency_ms, job.entry_id,
            issue.stamp.nonce)
        memory.verdicts.appendleft(verdict)
        memory.untold.append(verdict)
        self.hooks.verdict(plan.symbol, reason=decision.reason, latency_s=max(latency_ms, 0) / 1000,
                           evaluation_s=max(server_ms - job.read_ms, 0) / 1000)

    def _believe(self, symbol: str, state: State) -> None:
        """For the symbol's next plan; a producer that invents symbols fills nobody's memory."""
        if symbol in self.memory.scope:
            self.memory.states[symbol] = state

    def _due(self) -> list[Job]:
        """Waiting plans to be decided now; whether a result is booked, only the store knows."""
        due = self.waiting.due(self._mono_ms())
        for job in due:
            if job.waited_for == BOOKING:
                job.state = self.store.read_state(job.plan.symbol, job.plan.plan_id).state
        return due

    def _mono_ms(self) -> int:
        return self.clock.mono_ns() // 1_000_000


def _gap(memory: Memory) -> str:
    return str(memory.gap_ms) if memory.gap_ms else ""


def _one_per_symbol(jobs: list[Job]) -> tuple[list[Job], list[Job]]:
    """(the first plan of each symbol, the rest in order)."""
    seen: set[str] = set()
    chosen, rest = [], []
    for job in jobs:
        (rest if job.plan.symbol in seen else chosen).append(job)
        seen.add(job.plan.symbol)
    return chosen, rest
