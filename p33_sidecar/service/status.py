"""How things stand, for people and programs: the content of /status.json and of the page made from it.

Nothing is asked or changed here: all of it is read from Memory. Amounts are canonical text, times Unix ms, ages and
durations ms, what is not known null.

Shape, keys always present:

    v, now_ms, version, instance, venue          1, the server's clock, who answers, which exchange
    policy                                       thresholds in ms and percent; `policy_hash` beside it
    ready, not_ready: [{reason, meaning, remedy}]
    warnings: [text]                             what an operator should not get used to
    halts: [{symbol|null, by, reason, since_ms, until_ms}]       symbol null: everything
    last_poll: {outcome, detail, requested_ms, age_ms}|null, last_good_poll: the same
    ban_until_ms                                 null: none
    unsettled_orders, gap_ms|null
    symbols: [{symbol, flat, exchange, ledger, redis, difference, disagreement, phase, phase_ends_in_ms, filters,
               halted, mismatch}]                                most urgent first
      difference: exchange less ledger; disagreement: `side`, `quantity` or null (within the tolerance, or not known)
      exchange: {amt, side, age_ms, stale, entry_price, mark_price, unrealized_pnl}|null
      ledger:   {amt, side, rev, source, updated_age_ms, unsettled, tampered, gap}|null
      redis:    {open_permit: {plan_id, expires_in_ms}|null, last_verdict|null,
                 last_order: {order_id, age_ms}|null}            what the plan and result streams say
      filters:  {status, step, min_qty, max_qty}|null
      mismatch: {since_ms, open_ms}|null
    verdicts: [{at_ms, age_ms, plan_id, symbol, action, allow, safe_close_qty|null, reason|null, latency_ms}]
                                                                 the last 50, newest first
    reasons: {reason: {meaning, remedy}}                         of the verdicts above

`phase` is free, open, taken or settling, as far as the desk has heard: a permit just taken still shows as open.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from .. import __version__
from ..core.agreement import disagreement
from ..core.model import Phase
from ..core.quantity import difference, side_of, text
from ..core.reasons import Reason
from ..core.record import policy_hash
from ..store import rights
from ..store.connect import EVICTS, NOT_DURABLE
from ..store.state import phase_of, read_issued
from .facts import believed_state
from .memory import NO_LINE, NO_SEEN, KeptBook, Memory, Poll, SeenSnapshot, Verdict
from .metrics import Clock, age_ms, symbols_of

SETTLING: Final = "settling"

NOT_READY: Final[dict[str, tuple[str, str]]] = {
    "halted": ("Everything is halted.", "`p33 resume` when the cause is gone."),
    "redis_unavailable": ("Redis does not answer.", "Look at the server and at REDIS_URL."),
    "ledger_not_read": ("The books have not been read from Redis yet.", "Wait a moment; then see the log."),
    "filters_not_read": ("The exchange's lot rules were never read.", "See the log for the failing exchangeInfo."),
    "not_compared": ("Book and exchange have not been compared since the start.", "Wait for the first good poll."),
    "exchange_stale": ("The exchange's positions are older than the stale threshold.",
                       Reason.STALE_EXCHANGE_STATE.remedy),
    "exchange_banned": ("The exchange told us to stay away.", "Wait until the time it named; do not restart."),
}
"""What `Memory.not_ready` names beyond, or more widely than, the reasons a plan can be denied for."""


def status(memory: Memory, clock: Clock, *, warnings: Sequence[str] = ()) -> dict[str, Any]:
    """The whole of /status.json as plain values. `warnings` are the start's; what Memory knows is added."""
    now_ms, mono_ns = clock.now_ms(), clock.mono_ns()
    not_ready = memory.not_ready(now_ms=now_ms, mono_ns=mono_ns)
    verdicts = tuple(memory.verdicts.copy())
    view = _View(memory, now_ms, mono_ns, verdicts)
    return {
        "v": 1, "now_ms": now_ms, "version": __version__, "instance": memory.instance, "venue": memory.venue,
        "policy": _policy(memory), "policy_hash": policy_hash(memory.policy),
        "ready": not not_ready, "not_ready": [_explained(name) for name in not_ready],
        "warnings": [*warnings, *_warnings(memory)], "halts": _halts(memory),
        "last_poll": _poll(memory.last_poll, now_ms, mono_ns),
        "last_good_poll": _poll(memory.last_good_poll, now_ms, mono_ns),
        "ban_until_ms": memory.ban_until_ms if memory.ban_until_ms > now_ms else None,
        "unsettled_orders": memory.unsettled, "gap_ms": memory.gap_ms or None,
        "symbols": sorted((view.symbol(name) for name in symbols_of(memory)), key=_urgency),
        "verdicts": [_verdict(verdict, now_ms) for verdict in verdicts],
        "reasons": {v.reason: {k: t for k, t in _explained(v.reason).items() if k != "reason"}
                    for v in verdicts if v.reason},
    }


def store_warnings(memory: Memory) -> list[str]:
    """What the server is known to lack, of what the promises rest on."""
    return [words for words, holds in ((NOT_DURABLE, memory.durable is False), (EVICTS, memory.evicts)) if holds]


def _warnings(memory: Memory) -> list[str]:
    found = store_warnings(memory)
    if memory.lacking:
        found.append(f"our Redis user lacks rights: {rights.in_short(memory.lacking)}")
    return found


def _policy(memory: Memory) -> dict[str, Any]:
    return {k: text(v) if isinstance(v, Decimal) else v for k, v in msgspec.structs.asdict(memory.policy).items()}


def _explained(name: str) -> dict[str, str]:
    """The name with its meaning and remedy; one we do not know speaks for itself."""
    if name in NOT_READY:
        meaning, remedy = NOT_READY[name]
    elif name in Reason._value2member_map_:
        meaning, remedy = Reason(name).meaning, Reason(name).remedy
    else:
        meaning = remedy = ""
    return {"reason": str(name), "meaning": meaning, "remedy": remedy}


def _halts(memory: Memory) -> list[dict[str, Any]]:
    """The global one first. A switch set by hand says only what it says."""
    return [{"symbol": symbol or None} | {key: said.get(key) for key in ("by", "reason", "since_ms", "until_ms")}
            for symbol, said in sorted(memory.halts.items())]


def _poll(poll: Poll | None, now_ms: int, mono_ns: int) -> dict[str, Any] | None:
    if poll is None:
        return None
    age = max(now_ms - poll.requested_ms, (mono_ns - poll.requested_mono_ns) // 1_000_000)
    return {"outcome": poll.outcome, "detail": poll.detail, "requested_ms": poll.requested_ms, "age_ms": age}


def _verdict(verdict: Verdict, now_ms: int) -> dict[str, Any]:
    return {"at_ms": verdict.at_ms, "age_ms": max(0, now_ms - verdict.at_ms), "plan_id": verdict.plan_id,
            "symbol": verdict.symbol, "action": verdict.action, "allow": verdict.allow,
            "safe_close_qty": verdict.safe_close_qty or None, "reason": str(verdict.reason) or None,
            "latency_ms": verdict.latency_ms}


def _urgency(symbol: dict[str, Any]) -> tuple:
    """Mismatches, other differences, what is on its way, positions, recent verdicts, then the rest, by name."""
    return (symbol["mismatch"] is None, symbol["disagreement"] is None, symbol["phase"] == Phase.FREE, symbol["flat"],
            symbol["redis"]["last_verdict"] is None, symbol["symbol"])


class _View:
    """One moment of Memory, symbol by symbol."""

    def __init__(self, memory: Memory, now_ms: int, mono_ns: int, verdicts: tuple[Verdict, ...]) -> None:
        self.memory, self.now_ms, self.mono_ns = memory, now_ms, mono_ns
        self.last_verdict = {verdict.symbol: verdict for verdict in reversed(verdicts)}

    def symbol(self, name: str) -> dict[str, Any]:
        """One entry of `symbols`."""
        seen, kept = self.memory.snapshots.get(name, NO_SEEN), self.memory.books.get(name, NO_LINE)
        phase, ends_ms = self._phase(name, seen, kept)
        book, snapshot = kept.line.book, seen.snapshot
        pair = (snapshot.amt, book.amt) if snapshot is not None and snapshot.amt is not None and book else None
        return {
            "symbol": name, "flat": self._flat(seen, kept),
            "exchange": self._exchange(seen), "ledger": self._ledger(kept),
            "redis": self._redis(name, kept, phase, ends_ms),
            "difference": pair and text(difference(*pair)),
            "disagreement": pair and disagreement(*pair, tolerance_pct=self.memory.policy.qty_tolerance_pct),
            "phase": str(phase), "phase_ends_in_ms": max(0, ends_ms - self.now_ms) if ends_ms else None,
            "filters": self._filters(name), "halted": "" in self.memory.halts or name in self.memory.halts,
            "mismatch": self._mismatch(name),
        }

    def _flat(self, seen: SeenSnapshot, kept: KeptBook) -> bool:
        """Known to be zero on both sides: what is not known is not flat."""
        amt = seen.snapshot.amt if seen.snapshot else None
        return amt == 0 and (kept.line.book is None or kept.line.book.amt == 0)

    def _exchange(self, seen: SeenSnapshot) -> dict[str, Any] | None:
        snapshot, age = seen.snapshot, age_ms(seen, now_ms=self.now_ms, mono_ns=self.mono_ns)
        if snapshot is None or age is None:
            return None
        stale = not -self.memory.policy.skew_ms <= age <= self.memory.policy.stale_threshold_ms
        return {"amt": None if snapshot.amt is None else text(snapshot.amt), "side": snapshot.side, "age_ms": age,
                "stale": stale, "entry_price": snapshot.entry_price, "mark_price": snapshot.mark_price,
                "unrealized_pnl": snapshot.unrealized_pnl}

    def _ledger(self, kept: KeptBook) -> dict[str, Any] | None:
        line, book = kept.line, kept.line.book
        if book is None:
            return None
        updated = self.now_ms - book.updated_epoch * 1000 if book.updated_epoch else None
        return {"amt": text(book.amt), "side": side_of(book.amt), "rev": book.rev, "source": book.source,
                "updated_age_ms": updated, "unsettled": line.unsettled, "tampered": bool(line.tampered),
                "gap": line.gap_since(self.memory.gap_ms)}

    def _redis(self, name: str, kept: KeptBook, phase: str, ends_ms: int) -> dict[str, Any]:
        """What the plan and result streams say: the permit that is open, the last verdict, the last order."""
        issued = read_issued(believed_state(self.memory, name).issued) if phase == Phase.OPEN else None
        verdict, book = self.last_verdict.get(name), kept.line.book
        return {
            "open_permit": issued and {"plan_id": issued.plan_id, "expires_in_ms": max(0, ends_ms - self.now_ms)},
            "last_verdict": verdict and _verdict(verdict, self.now_ms),
            "last_order": {"order_id": book.last_order_id, "age_ms": max(0, self.now_ms - book.last_order_ms)}
            if book and book.last_order_ms else None,
        }

    def _phase(self, name: str, seen: SeenSnapshot, kept: KeptBook) -> tuple[str, int]:
        """(phase, when it ends by itself or 0). Settling is the book's to say (contract, chapter 2)."""
        book, snapshot = kept.line.book, seen.snapshot
        phase, ends_ms, _ = phase_of(believed_state(self.memory, name), policy=self.memory.policy, now_ms=self.now_ms,
                                     amt=snapshot.amt if snapshot else None, rev=book.rev if book else None)
        if phase != Phase.FREE or book is None:
            return phase, ends_ms
        rested_ms = book.last_order_ms + self.memory.policy.cooldown_ms
        seen_after = snapshot is not None and snapshot.ts_ms > book.last_order_ms
        if kept.line.unsettled or (book.last_order_ms and (self.now_ms < rested_ms or not seen_after)):
            return SETTLING, rested_ms if self.now_ms < rested_ms and not kept.line.unsettled else 0
        return phase, 0

    def _filters(self, name: str) -> dict[str, str] | None:
        filters = (self.memory.filters or {}).get(name)
        return filters and {"status": filters.status, "step": text(filters.step), "min_qty": text(filters.min_qty),
                            "max_qty": text(filters.max_qty)}

    def _mismatch(self, name: str) -> dict[str, Any] | None:
        incident = self.memory.mismatches.get(name)
        if incident is None:
            return None
        since = next((incident[key] for key in ("since_ms", "opened_ms", "at_ms") if key in incident), None)
        return {"since_ms": since, "open_ms": None if since is None else max(0, self.now_ms - since)}
