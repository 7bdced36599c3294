"""From what the loops hold and the store says to the facts of one verdict. Pure: times are parameters."""

from __future__ import annotations

from ..core.model import HEDGE, Context, Facts, Phase, Plan, Snapshot
from ..store.state import UNREADABLE, BookLine, State, phase_of, read_book, read_mark, read_snapshot
from .memory import NO_LINE, NO_SEEN, KeptBook, Memory, SeenSnapshot


def believed_state(memory: Memory, symbol: str) -> State:
    """What the loops believe the store to say, before asking it: no plan-specific memory is assumed."""
    last = memory.states.get(symbol) or State(venue=memory.stored_venue)
    return State(
        memory.accepted_run_id, last.venue, last.halted, last.held, str(memory.gap_ms) if memory.gap_ms else "",
        memory.snapshots.get(symbol, NO_SEEN).text, memory.books.get(symbol, NO_LINE).text, last.view,
        last.issued, last.open, last.taken,
    )


def facts_of(plan: Plan, state: State, memory: Memory, *, now_ms: int, mono_ns: int, run_id: str) -> Facts:
    """The facts at `now_ms`, resting on `state` byte for byte. A stored book beyond reading is a tampered one.

    Raises ValueError for a plan's mark beyond reading.
    """
    symbol = plan.symbol
    seen = _seen(memory, symbol, state)
    kept = _kept(memory, symbol, state)
    line, snapshot = kept.line, seen.snapshot
    amt = snapshot.amt if snapshot else None
    phase, ends_ms, released_ms = phase_of(state, policy=memory.policy, now_ms=now_ms, amt=amt,
                                           rev=line.book.rev if line.book else None)
    if state.plan_taken == UNREADABLE:
        phase, ends_ms = Phase.TAKEN, now_ms + memory.policy.permit_ttl_ms
    mark = read_mark(state.mark)
    context = Context(
        in_scope=memory.in_scope(symbol) or _is_held(snapshot, line),
        halted=state.halted != "0", held=state.held != "0",
        venue_ok=state.venue in ("", memory.venue), store_restarted=memory.restarted or state.run_id != run_id,
        configured=memory.configured, filters_read=memory.filters is not None,
        hedge=memory.hedge_account or (snapshot is not None and snapshot.side == HEDGE),
        tampered=bool(line.tampered) or state.view != "ok", gap=_gap(line, state.gap),
        unsettled_orders=line.unsettled, unbooked_results=state.unbooked != "0",
        answered=mark is not None and mark.result_ms >= plan.entry_ms,
        phase=phase, phase_ends_ms=ends_ms, released_ms=released_ms,
        snapshot_age_ms=_snapshot_age(seen, now_ms, mono_ns), last_order_age_ms=_order_age(kept, now_ms, mono_ns),
    )
    return Facts(now_ms=now_ms, plan=plan, snapshot=snapshot, book=line.book,
                 filters=(memory.filters or {}).get(symbol), context=context)


def _seen(memory: Memory, symbol: str, state: State) -> SeenSnapshot:
    """The poller's own snapshot if the store holds the same, else the store's, without its monotonic start."""
    ours = memory.snapshots.get(symbol, NO_SEEN)
    return ours if ours.text == state.snapshot else SeenSnapshot(read_snapshot(symbol, state.snapshot), state.snapshot)


def _kept(memory: Memory, symbol: str, state: State) -> KeptBook:
    ours = memory.books.get(symbol, NO_LINE)
    if ours.text == state.book:
        return ours
    try:
        line = read_book(symbol, state.book)
    except (ValueError, ArithmeticError):
        return KeptBook(BookLine(book=None, tampered="unreadable"), state.book)
    same_order = ours.line.book and line.book and ours.line.book.last_order_ms == line.book.last_order_ms
    return KeptBook(line, state.book, ours.order_mono_ns if same_order else None)


def _is_held(snapshot: Snapshot | None, line: BookLine) -> bool:
    """A position in the accounts themselves: known from Redis before the first poll (incident I28)."""
    on_exchange = snapshot is not None and (snapshot.side == HEDGE or bool(snapshot.amt))
    return on_exchange or (line.book is not None and line.book.amt != 0)


def _gap(line: BookLine, since: str) -> bool:
    """Whether results may be missing from the book; a mark that cannot be read does not say that there are none."""
    return line.gap_since(int(since)) if since.isdigit() else bool(since)


def _snapshot_age(seen: SeenSnapshot, now_ms: int, mono_ns: int) -> int | None:
    snapshot: Snapshot | None = seen.snapshot
    if snapshot is None:
        return None
    age_ms = now_ms - snapshot.ts_ms
    return age_ms if seen.mono_ns is None else max(age_ms, (mono_ns - seen.mono_ns) // 1_000_000)


def _order_age(kept: KeptBook, now_ms: int, mono_ns: int) -> int | None:
    book = kept.line.book
    if book is None or not book.last_order_ms:
        return None
    age_ms = now_ms - book.last_order_ms
    return age_ms if kept.order_mono_ns is None else max(age_ms, (mono_ns - kept.order_mono_ns) // 1_000_000)
