"""What the loops hold in memory: a copy of what they wrote, so that a verdict needs one round trip.

Nothing here is the truth: everything can be read again from Redis, and the issuing step confirms it. Each field
has one writer, named beside it; readers take whole values, so no lock is needed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from decimal import Decimal

import msgspec

from ..core.model import HEDGE, Filters, Policy, Snapshot
from ..exchange import OrderState
from ..store.changes import Cursor, Unsettled
from ..store.progress import Progress
from ..store.state import NO_BOOK, NO_SNAPSHOT, BookLine, State, book_text, snapshot_text


class SeenSnapshot(msgspec.Struct, frozen=True, gc=False):
    """A snapshot, its text in the state, and the monotonic start of its request (None: read from Redis)."""

    snapshot: Snapshot | None
    text: str = NO_SNAPSHOT
    mono_ns: int | None = None


class KeptBook(msgspec.Struct, frozen=True, gc=False):
    """A book, its text in the state, and the monotonic time its last order was booked (None: before this start)."""

    line: BookLine
    text: str = NO_BOOK
    order_mono_ns: int | None = None


class Poll(msgspec.Struct, frozen=True):
    """How a poll went. `outcome` is `ok` or the kind of failure; `offset_ms` the exchange's clock less ours by then.

    `positions`: what a good reply said of every symbol it knew, flat ones too; None in hedge mode. Whoever compares
    amounts and times takes both from one poll: the next may come in between.
    """

    outcome: str
    requested_ms: int
    received_ms: int
    requested_mono_ns: int
    detail: str = ""
    offset_ms: int = 0
    positions: dict[str, Decimal | None] = {}


class Verdict(msgspec.Struct, frozen=True):
    """A line for people: what was decided last."""

    at_ms: int
    plan_id: str
    symbol: str
    action: str
    allow: bool
    reason: str
    safe_close_qty: str
    latency_ms: int
    entry: str = ""
    nonce: str = ""


MOST_UNTOLD = 1_000
"""Verdicts that wait for their line of the log; beyond that the oldest get none, and the records have all."""
NO_LINE = KeptBook(BookLine(book=None))
NO_SEEN = SeenSnapshot(None)


class Memory:
    """Shared by the loops of one sidecar."""

    def __init__(self, *, policy: Policy, venue: str, instance: str, allowlist: frozenset[str] | None,
                 configured: bool) -> None:
        self.policy, self.venue, self.instance = policy, venue, instance
        self.allowlist, self.configured = allowlist, configured
        # poller
        self.snapshots: dict[str, SeenSnapshot] = {}
        self.held: frozenset[str] = frozenset()
        """Symbols with a position when last seen, be it before this start."""
        self.hedge_account = False
        """The account said that it is in hedge mode."""
        self.scope: frozenset[str] = frozenset()
        self.last_poll: Poll | None = None
        self.last_good_poll: Poll | None = None
        self.compared = False
        """The first full comparison of the three accounts is done."""
        self.mismatches: dict[str, dict] = {}
        # bookkeeper
        self.books: dict[str, KeptBook] = {}
        self.cursor: Cursor | None = None
        """How far the results are booked; None: not read yet."""
        self.books_read = False
        self.gap_ms = 0
        self.unsettled = 0
        self.opening_pending = False
        """A second agreeing reply is waited for: the next poll need not wait its full interval."""
        self.openings_considered = False
        self.fates: deque[tuple[Unsettled, OrderState | None]] = deque()
        """What the clerk learned of orders whose fate was open, until the bookkeeper has booked it."""
        # clerk
        self.filters: dict[str, Filters] | None = None
        self.filters_read_ms = 0
        self.durable: bool | None = None
        self.evicts = False
        """The server may remove keys of its own accord."""
        self.halted = False
        """The global kill switch stands, as seen at the clerk's last turn."""
        self.halts: dict[str, dict] = {}
        self.canary_ok_ms = 0
        """When a canary plan last went through the whole path; 0: never."""
        self.progress = Progress()
        """Until when the pipeline's archive and audit reach."""
        # lifecycle
        self.stored_venue = venue
        self.lacking: list[str] = []
        """What our Redis user may not do and should, as ACL rules."""
        self.accepted_run_id = ""
        self.noticed_run_id = ""
        """A server process that replaced the accepted one and is not trusted yet."""
        self.restart_noticed_ms = self.restart_noticed_mono_ns = 0
        self.store_epoch = 0
        """Grows when the store may have lost what it held: what is written only on change is written again."""
        self.noticing = threading.Lock()
        # desk
        self.states: dict[str, State] = {}
        """Of symbols in scope: what the store said last."""
        self.open_permits: dict[str, int] = {}
        """symbol -> expires_ms of the ALLOW issued last, until it is known to have ended."""
        self.unknown_symbols: set[str] = set()
        """Symbols that plans named and the filters lack: a reason to read the exchange's list again."""
        self.verdicts: deque[Verdict] = deque(maxlen=50)
        self.untold: deque[Verdict] = deque(maxlen=MOST_UNTOLD)
        """Those the log has no line of yet, the oldest first."""
        # exchange client
        self.ban_until_ms = 0
        self.used_weight = 0
        # all loops
        self.turns: dict[str, int] = {}
        """loop -> monotonic ns of its last turn that got through."""
        self.store_down_since_ms = 0
        self.stopping = threading.Event()
        self.refresh_wanted = threading.Event()
        self.reread_books = threading.Event()

    # -- writing ----------------------------------------------------------------------------------------------

    def keep_snapshot(self, snapshot: Snapshot, mono_ns: int | None) -> None:
        self.snapshots[snapshot.symbol] = SeenSnapshot(snapshot, snapshot_text(snapshot), mono_ns)

    def recall(self, snapshots: Iterable[Snapshot]) -> None:
        """What the store held before this start: who has a position, and since when that is known (incident I28)."""
        for snapshot in snapshots:
            self.keep_snapshot(snapshot, None)
            if snapshot.side == HEDGE or snapshot.amt:
                self.held |= {snapshot.symbol}
        self.scope |= self.held

    def keep_book(self, symbol: str, line: BookLine, *, order_mono_ns: int | None = None) -> None:
        """A new version of a book; the monotonic time of its last order stays unless a later one is given."""
        before = self.books.get(symbol, NO_LINE)
        mono_ns = order_mono_ns if order_mono_ns is not None else before.order_mono_ns
        self.books[symbol] = KeptBook(line, book_text(line), mono_ns)

    def forget_store(self) -> None:
        """The store may not hold what it held: doubt every copy of it, and write again what only we know."""
        self.store_epoch += 1
        self.states.clear()
        self.filters_read_ms = 0
        self.reread_books.set()

    def turned(self, loop: str, mono_ns: int) -> None:
        self.turns[loop] = mono_ns

    # -- reading ----------------------------------------------------------------------------------------------

    @property
    def positions(self) -> dict[str, Decimal | None]:
        """What the last good reply said of every symbol it knew."""
        return self.last_good_poll.positions if self.last_good_poll else {}

    @property
    def ours(self) -> bool:
        """The database belongs to the exchange we poll."""
        return self.stored_venue == self.venue

    @property
    def restarted(self) -> bool:
        """The server is not (yet again) the one known to hold all we wrote."""
        return bool(self.restart_noticed_ms)

    def in_scope(self, symbol: str) -> bool:
        """The list, or a position on the exchange or in the book."""
        if self.allowlist is None or symbol in self.allowlist:
            return True
        book = self.books.get(symbol, NO_LINE).line.book
        return self.has_position(symbol) or (book is not None and book.amt != 0)

    def has_position(self, symbol: str) -> bool:
        """On the exchange, as last seen; a leg of hedge mode is one."""
        return symbol in self.held

    def not_ready(self, *, now_ms: int, mono_ns: int) -> list[str]:
        """Why a verdict cannot be ALLOW at the moment; empty when it can (the contract's /readyz)."""
        reasons = [
            ("exchange_unconfigured", not self.configured),
            ("venue_mismatch", not self.ours),
            ("redis_unavailable", bool(self.store_down_since_ms)),
            ("store_restarted", self.restarted),
            ("ledger_not_read", not self.books_read),
            ("filters_not_read", self.filters is None),
            ("not_compared", not self.compared),
            ("halted", "" in self.halts),
            ("hedge_mode_unsupported", self.hedge_account),
            ("exchange_stale", not self.exchange_fresh(now_ms=now_ms, mono_ns=mono_ns)),
            ("exchange_banned", self.ban_until_ms > now_ms),
        ]
        return [name for name, holds in reasons if holds]

    def confirmed_ms(self, *, now_ms: int, mono_ns: int) -> int:
        """The time, as far as the exchange has confirmed it by taking our last poll's timestamp; 0 before the first.

        What cannot be undone (an order forgotten, a record trimmed) goes by this and not by a server's clock alone,
        which may be a month ahead for a minute. Where no exchange can be asked, there is nobody to confirm it.
        """
        poll = self.last_good_poll
        if poll is None:
            return 0 if self.configured else now_ms
        since_ms = (mono_ns - poll.requested_mono_ns) // 1_000_000
        return min(now_ms, poll.requested_ms + poll.offset_ms + since_ms)

    def exchange_fresh(self, *, now_ms: int, mono_ns: int) -> bool:
        poll = self.last_good_poll
        if poll is None:
            return False
        age_ms = max(now_ms - poll.requested_ms, (mono_ns - poll.requested_mono_ns) // 1_000_000)
        return age_ms <= self.policy.stale_threshold_ms
