"""A read-only view of the store for tools: what was decided, what is believed, what is on its way, as typed values.

Nothing here writes, acknowledges or moves a cursor; it may run beside a live sidecar, or where there is none.
Streams are walked in pages, so that a long history costs time and not memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import redis

from ..core.model import Phase, Policy, Snapshot
from ..core.quantity import difference
from ..core.record import Record, read_record
from . import keys, scripts
from .connect import server_ms, store_errors
from .state import BookLine, Issued, State, phase_of, read_book, read_issued, read_snapshot, state_keys

PAGE = 500
"""Stream entries fetched at once."""

Entry = tuple[str, dict[str, str]]


class Logged(NamedTuple):
    """One entry of the decisions' stream. `record` is None where `raw` is no record."""

    entry_id: str
    fields: dict[str, str]
    raw: str
    record: Record | None


class Standing(msgspec.Struct, frozen=True):
    """All that is believed of one symbol at `now_ms`. `unreadable` says why `line` holds nothing."""

    symbol: str
    now_ms: int
    state: State
    snapshot: Snapshot | None
    line: BookLine
    view: str
    """The ledger's hash: `ok`, `missing` or `changed` by somebody else."""
    unreadable: str = ""

    @property
    def snapshot_age_ms(self) -> int | None:
        return self.now_ms - self.snapshot.ts_ms if self.snapshot else None

    @property
    def order_age_ms(self) -> int | None:
        book = self.line.book
        return self.now_ms - book.last_order_ms if book and book.last_order_ms else None

    @property
    def exchange_amt(self) -> Decimal | None:
        return self.snapshot.amt if self.snapshot else None

    @property
    def difference(self) -> Decimal | None:
        """Exchange less book; None where either is unknown."""
        amt, book = self.exchange_amt, self.line.book
        return None if amt is None or book is None else difference(amt, book.amt)

    @property
    def issued(self) -> Issued | None:
        """The last ALLOW, until its result or its end was seen."""
        return read_issued(self.state.issued)

    @property
    def gap(self) -> bool:
        """Results may be missing from the book."""
        return self.line.gap_since(int(self.state.gap)) if self.state.gap.isdigit() else False

    @property
    def tampered(self) -> bool:
        return bool(self.line.tampered) or self.view == "changed"

    @property
    def flat(self) -> bool:
        """Nothing on the exchange and nothing in the book, both known."""
        return self.exchange_amt == 0 and self.line.book is not None and self.line.book.amt == 0

    def phase(self, policy: Policy) -> tuple[Phase, int, int]:
        """(phase, when it ends by itself, when a taking ended by time alone or 0)."""
        rev = self.line.book.rev if self.line.book else None
        return phase_of(self.state, policy=policy, now_ms=self.now_ms, amt=self.exchange_amt, rev=rev)


class Reading:
    """Reads; never writes. Every method raises StoreUnavailable where the server does not answer."""

    def __init__(self, client: redis.Redis, *, plan_stream: str, result_stream: str) -> None:
        self.redis = client
        self.plan_stream, self.result_stream = plan_stream, result_stream

    def now_ms(self) -> int:
        """The server's time."""
        with store_errors():
            return server_ms(self.redis)

    # -- streams ----------------------------------------------------------------------------------------------

    def entries(self, stream: str, *, from_ms: int = 0, to_ms: int | None = None,
                newest_first: bool = False) -> Iterator[Entry]:
        """The entries of a stream added within [from_ms, to_ms] by its own clock."""
        low, high = str(from_ms), "+" if to_ms is None else str(to_ms)
        while True:
            with store_errors():
                page = (self.redis.xrevrange(stream, high, low, count=PAGE) if newest_first
                        else self.redis.xrange(stream, low, high, count=PAGE))
            yield from page
            if len(page) < PAGE:
                return
            if newest_first:
                high = f"({page[-1][0]}"
            else:
                low = f"({page[-1][0]}"

    def decisions(self, *, from_ms: int = 0, to_ms: int | None = None, newest_first: bool = True) -> Iterator[Logged]:
        """Verdicts recorded within [from_ms, to_ms]."""
        for entry in self.entries(keys.DECISIONS, from_ms=from_ms, to_ms=to_ms, newest_first=newest_first):
            yield logged(entry)

    def verdicts_on(self, plan_id: str) -> list[Logged]:
        """Every verdict on a plan, oldest first. A plan is remembered for 25 h: older namesakes are not looked for."""
        found: list[Logged] = []
        oldest_ms = 0
        for entry in self.entries(keys.DECISIONS, newest_first=True):
            if entry_ms(entry[0]) < oldest_ms:
                break
            if entry[1].get("plan_id") == plan_id:
                found.append(logged(entry))
                oldest_ms = entry_ms(entry[0]) - keys.PLAN_TTL_MS
        return found[::-1]

    def policy_in_force(self) -> Policy | None:
        """The thresholds that the gate decides by, as noted at its last start, else in its newest verdict; None where
        neither says. Whoever asks may have others in his environment, or in a file that no start has read yet."""
        return _policy(self._noted_policy()) or _policy(self._newest_policy())

    def _noted_policy(self) -> Any:
        with store_errors():
            try:
                kept = self.redis.get(keys.POLICY) or ""
            except redis.ResponseError:
                return None
        try:
            return msgspec.json.decode(kept.partition(" ")[2])
        except msgspec.DecodeError:
            return None

    def _newest_policy(self) -> Any:
        newest = next(self.decisions(), None)
        return newest.record.policy if newest and newest.record else None

    def noted(self, stream: str, *, from_ms: int = 0, to_ms: int | None = None,
              newest_first: bool = False, **fields: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(entry id, decoded `json`) of a record stream's entries with these fields; what is no JSON is left out."""
        for entry_id, found in self.entries(stream, from_ms=from_ms, to_ms=to_ms, newest_first=newest_first):
            if any(found.get(name) != value for name, value in fields.items()):
                continue
            try:
                yield entry_id, msgspec.json.decode(found.get("json", ""), type=dict)
            except msgspec.DecodeError:
                continue

    def messages(self, stream: str, plan_id: str, *, from_ms: int = 0) -> list[Entry]:
        """A plan's entries in the plan or result stream, oldest first."""
        return [e for e in self.entries(stream, from_ms=from_ms) if e[1].get("plan_id") == plan_id]

    # -- symbols ----------------------------------------------------------------------------------------------

    def symbols(self) -> list[str]:
        """Every symbol with a book, a snapshot or an ALLOW, in order."""
        with store_errors():
            names = set(self.redis.smembers(keys.BOOKS)) | set(self.redis.hkeys(keys.ISSUED))
            names |= {key[len(keys.SNAPSHOT):] for key in
                      self.redis.scan_iter(match=keys.SNAPSHOT + "*", count=1000)}
        return sorted(names)

    def standing(self, symbol: str) -> Standing:
        """What is believed of a symbol now."""
        return self.standings([symbol])[0]

    def standings(self, symbols: Iterable[str]) -> list[Standing]:
        """What is believed of each symbol, in one round trip; each is one moment of its own."""
        names = list(symbols)
        with store_errors():
            self.redis.script_load(scripts.source("facts"))
            pipe = self.redis.pipeline(transaction=False)
            for symbol in names:
                pipe.execute_command(*scripts.call(
                    "facts", state_keys(symbol, "", results=self.result_stream), [symbol, ""]))
                pipe.exists(keys.ledger(symbol))
            replies = pipe.execute()
        return [_standing(symbol, replies[2 * i], bool(replies[2 * i + 1])) for i, symbol in enumerate(names)]


def _policy(told: Any) -> Policy | None:
    try:
        return msgspec.convert(told, Policy)
    except msgspec.ValidationError:
        return None


def logged(entry: Entry) -> Logged:
    """A decisions' entry with the record it holds, if it holds one."""
    entry_id, fields = entry
    raw = fields.get("json", "")
    try:
        return Logged(entry_id, fields, raw, read_record(raw))
    except (msgspec.MsgspecError, RecursionError):
        return Logged(entry_id, fields, raw, None)


def entry_ms(entry_id: str) -> int:
    """When a stream entry was added."""
    return int(entry_id.partition("-")[0])


def _standing(symbol: str, reply: list[str], has_view: bool) -> Standing:
    now_ms, state = int(reply[0]), State(*reply[1:])
    line, unreadable = BookLine(book=None), ""
    try:
        line = read_book(symbol, state.book)
    except ValueError:
        unreadable = f"{keys.book(symbol)} cannot be read"
    view = state.view if has_view or not line.book else "missing"
    return Standing(symbol=symbol, now_ms=now_ms, state=state, snapshot=read_snapshot(symbol, state.snapshot),
                    line=line, view=view, unreadable=unreadable)
