"""What a verdict rests on, as the store says it: the texts of lua/_state.lua, and what they mean.

The texts are compared by the issuing step byte for byte; only here are they turned into values and back.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

import msgspec

from ..core.model import HEDGE, Book, Phase, Policy, Snapshot
from ..core.quantity import parse, side_of, text
from . import keys

SEP = "\x1f"
UNREADABLE = "!"
"""What a key of another type reads as. It never means that there is none."""
NO_SNAPSHOT = SEP * 7
NO_BOOK = SEP * 10
SNAPSHOT_FIELDS = ("position_amt", "side", "entry_price", "mark_price", "leverage", "unrealized_pnl", "ts_ms", "source")
"""In the order of a snapshot's text."""


class State(NamedTuple):
    """One reading. The order is that of lua/_state.lua."""

    run_id: str = ""
    venue: str = ""
    halted: str = "0"
    held: str = "0"
    gap: str = ""
    snapshot: str = NO_SNAPSHOT
    book: str = NO_BOOK
    view: str = "ok"
    issued: str = ""
    open: str = ""
    taken: str = ""
    mark: str = ""
    plan_taken: str = ""
    unbooked: str = "0"

    def expectation(self) -> str:
        return "\n".join(self)


class BookLine(msgspec.Struct, frozen=True, gc=False):
    """A book as stored: the account itself, and what the bookkeeper knows around it. `ver` guards every change."""

    book: Book | None
    ver: int = 0
    unsettled: int = 0
    tampered: str = ""
    gap_cleared_ms: int = 0

    def gap_since(self, gap_ms: int) -> bool:
        """Whether results may be missing from this book."""
        opened = self.book.opened_ms if self.book else 0
        return gap_ms > max(self.gap_cleared_ms, opened)


class Issued(msgspec.Struct, frozen=True, gc=False):
    """The symbol's last ALLOW."""

    plan_id: str
    nonce: str
    issued_ms: int
    expires_ms: int
    amt: str
    rev: str

    def line(self) -> str:
        return f"{self.plan_id} {self.nonce} {self.issued_ms} {self.expires_ms} {self.amt} {self.rev}"


class Mark(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a plan: the entry evaluated last, its outcome, and the last result for it."""

    entry: str
    outcome: str
    retryable: bool
    nonce: str
    result_ms: int


def state_keys(symbol: str, plan_id: str, *, results: str, issued_for: str = "") -> list[str]:
    """The KEYS of lua/_state.lua. `issued_for`: the plan that the symbol's last ALLOW is believed to be for."""
    return [keys.SNAPSHOT + symbol, keys.BOOK + symbol, keys.LEDGER + symbol, keys.OPEN + symbol,
            keys.PLAN + plan_id, keys.HALT, keys.halt(symbol), keys.HOLD + symbol, results,
            keys.TAKEN + plan_id, keys.TAKEN + (issued_for or plan_id)]


# -- snapshots ------------------------------------------------------------------------------------------------


def snapshot_text(snapshot: Snapshot) -> str:
    """The snapshot's part of the state."""
    amt = "" if snapshot.amt is None else text(snapshot.amt)
    return SEP.join((amt, snapshot.side, snapshot.entry_price, snapshot.mark_price, snapshot.leverage,
                     snapshot.unrealized_pnl, str(snapshot.ts_ms), snapshot.source))


def read_snapshot(symbol: str, line: str) -> Snapshot | None:
    """The snapshot, or None for none or one that cannot be read: unknown either way."""
    parts = line.split(SEP)
    if len(parts) != 8 or not parts[6]:
        return None
    amt, side, entry, mark, leverage, pnl, ts, source = parts
    try:
        return Snapshot(symbol=symbol, amt=None if side == HEDGE else parse(amt), ts_ms=int(ts), side=side,
                        entry_price=entry, mark_price=mark, leverage=leverage, unrealized_pnl=pnl, source=source)
    except ValueError:
        return None


# -- books ----------------------------------------------------------------------------------------------------


def book_fields(line: BookLine) -> list[str]:
    """Field, value, ... of the book's hash, `ver` aside, with the view it must be seen as."""
    book = line.book
    pairs = {"unsettled": str(line.unsettled), "tampered": line.tampered, "gap_cleared_ms": str(line.gap_cleared_ms)}
    if book is not None:
        pairs |= {"amt": text(book.amt), "rev": str(book.rev), "source": book.source,
                  "last_order_id": book.last_order_id, "last_order_ms": str(book.last_order_ms),
                  "updated_epoch": str(book.updated_epoch), "opened_ms": str(book.opened_ms),
                  "view": SEP.join(view_of(book).values())}
    return [part for pair in pairs.items() for part in pair]


def book_text(line: BookLine) -> str:
    """The book's part of the state."""
    stored = dict(zip(*[iter(book_fields(line))] * 2, strict=True))
    stored["ver"] = str(line.ver) if line.ver else ""
    names = ("amt", "rev", "source", "last_order_id", "last_order_ms", "updated_epoch", "opened_ms",
             "ver", "unsettled", "tampered", "gap_cleared_ms")
    return NO_BOOK if not line.ver else SEP.join(stored.get(name, "") for name in names)


def read_book(symbol: str, line: str) -> BookLine:
    """The stored book. Raises ValueError for one that cannot be read."""
    parts = line.split(SEP)
    if len(parts) != 11:
        raise ValueError(f"the book of {symbol} cannot be read")
    amt, rev, source, order_id, order_ms, epoch, opened, ver, unsettled, tampered, cleared = parts
    book = None
    if amt:
        book = Book(symbol=symbol, amt=parse(amt), rev=int(rev), source=source, last_order_id=order_id,
                    last_order_ms=int(order_ms or 0), updated_epoch=int(epoch or 0), opened_ms=int(opened or 0))
    return BookLine(book=book, ver=int(ver or 0), unsettled=int(unsettled or 0), tampered=tampered,
                    gap_cleared_ms=int(cleared or 0))


def view_of(book: Book) -> dict[str, str]:
    """The ledger's hash (contract, chapter 2): a pure function of the book."""
    return {
        "last_known_amt": text(book.amt), "last_known_side": side_of(book.amt),
        "last_order_id": book.last_order_id, "last_order_time_epoch": str(book.last_order_ms // 1000),
        "last_order_time_ms": str(book.last_order_ms), "last_update_ts": str(book.updated_epoch),
        "rev": str(book.rev), "source": book.source,
    }


# -- phases and marks -----------------------------------------------------------------------------------------


@lru_cache(maxsize=128)
def read_issued(line: str) -> Issued | None:
    """The symbol's last ALLOW; None for none, and for a line that cannot be read."""
    parts = line.split(" ")
    if len(parts) != 6 or not (parts[2].isdigit() and parts[3].isdigit()):
        return None
    return Issued(parts[0], parts[1], int(parts[2]), int(parts[3]), parts[4], parts[5])


def mark_after(line: str, *, entry: str, outcome: str, retryable: bool, nonce: str) -> str:
    """The mark after a verdict on a plan whose mark was `line`: of that, only the last result is kept."""
    result_ms = line.rpartition(SEP)[2]
    return SEP.join((entry, outcome, "1" if retryable else "0", nonce, result_ms if result_ms.isdigit() else ""))


def read_mark(line: str) -> Mark | None:
    """What is remembered of the plan; None for nothing. Raises ValueError for a mark that cannot be read."""
    if not line:
        return None
    entry, outcome, retryable, nonce, result_ms = line.split(SEP)
    return Mark(entry, outcome, retryable == "1", nonce, int(result_ms or 0))


def phase_of(state: State, *, policy: Policy, now_ms: int, amt: Decimal | None,
             rev: int | None) -> tuple[Phase, int, int]:
    """(phase, when it ends by itself, when it ended by time alone or 0) of the symbol (contract, chapter 2).

    What cannot be read counts as outstanding: an ALLOW that may be open, a taking that may be going on. So does an open
    ALLOW that is not the last one noted: the note goes with it or later, never before, unless somebody removed it.
    """
    issued = read_issued(state.issued)
    noted = f"{issued.plan_id} {issued.nonce}" if issued else ""
    if (state.issued and not issued) or state.open not in ("", noted, UNREADABLE):
        return Phase.OPEN, now_ms + policy.permit_ttl_ms, 0
    if issued is None:
        return Phase.FREE, 0, 0
    nonce, _, rest = state.taken.partition(" ")
    if nonce in (issued.nonce, UNREADABLE):
        taken_ms = _taken_ms(rest, issued, now_ms)
        ends = taken_ms + policy.permit_ttl_ms + policy.cooldown_ms
        return (Phase.TAKEN, ends, 0) if now_ms < ends else (Phase.FREE, 0, ends)
    if not state.open or now_ms >= issued.expires_ms:
        return Phase.FREE, 0, 0
    same_facts = amt is not None and text(amt) == issued.amt and str(rev) == issued.rev
    return (Phase.OPEN, issued.expires_ms, 0) if same_facts else (Phase.FREE, 0, 0)


def _taken_ms(rest: str, issued: Issued, now_ms: int) -> int:
    """From the mark's end of life, which is 24 h after the taking; as late as possible where that makes no sense."""
    latest = min(issued.expires_ms, now_ms)
    end = rest.rpartition(" ")[2]
    if not end.isdigit():
        return latest
    taken = int(end) - 86_400_000
    return taken if issued.issued_ms <= taken <= latest else latest


def entry_order(entry_id: str) -> tuple[int, int]:
    """A stream id as numbers: as text `1-9` would come after `1-10`. Raises ValueError for no such id."""
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq or 0)
