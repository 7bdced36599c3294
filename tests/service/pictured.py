"""A memory as it looks on a busy afternoon, and a clock that stands still. Made for the tests of the HTTP side."""

from __future__ import annotations

from decimal import Decimal

from p33_sidecar.core.model import HEDGE, Book, Filters, Policy, Snapshot
from p33_sidecar.core.quantity import side_of
from p33_sidecar.service.memory import Memory, Poll, Verdict
from p33_sidecar.store.state import BookLine, State

NOW_MS = 1_769_301_010_976
MONO_NS = 5_000_000_000_000
HOSTILE_SYMBOL = "<img/src=x/onerror=document.title='XSS'>"[:40]
HOSTILE_PLAN = "<script>document.title='XSS'</script>"


class StoppedClock:
    """Server time and monotonic time, moved by hand."""

    def __init__(self) -> None:
        self.ms, self.ns = NOW_MS, MONO_NS

    def now_ms(self) -> int:
        return self.ms

    def mono_ns(self) -> int:
        return self.ns

    def pass_ms(self, ms: int) -> None:
        self.ms, self.ns = self.ms + ms, self.ns + ms * 1_000_000


def empty_memory(*, allowlist: frozenset[str] | None = frozenset({"BTCUSDT"})) -> Memory:
    """A sidecar that has just started."""
    return Memory(policy=Policy(), venue="demo-fapi.binance.com", instance="host-1", allowlist=allowlist,
                  configured=True)


def ready_memory() -> Memory:
    """A sidecar whose verdicts can be ALLOW, with nothing on the exchange."""
    memory = empty_memory(allowlist=frozenset({"BTCUSDT", "ETHUSDT"}))
    poll = Poll("ok", NOW_MS - 3_200, NOW_MS - 3_100, MONO_NS - 3_200_000_000)
    memory.last_poll = memory.last_good_poll = poll
    memory.books_read = memory.compared = memory.durable = True
    memory.filters = {
        "BTCUSDT": Filters("BTCUSDT", "TRADING", Decimal("0.001"), Decimal("0.001"), Decimal("120")),
        "ETHUSDT": Filters("ETHUSDT", "TRADING", Decimal("0.01"), Decimal("0.01"), Decimal("2000")),
    }
    memory.scope = frozenset({"BTCUSDT", "ETHUSDT"})
    for symbol in memory.scope:
        hold(memory, symbol, "0", "0")
    return memory


def hold(memory: Memory, symbol: str, exchange: str | None, ledger: str | None, *, age_ms: int = 3_200,
         order_ms: int = 0, side: str = "") -> None:
    """Give a symbol its two amounts. None: not known; side HEDGE: legs."""
    if exchange is not None or side:
        amt = None if side == HEDGE else Decimal(exchange)
        memory.held |= {symbol} if amt is None or amt else set()
        memory.keep_snapshot(
            Snapshot(symbol=symbol, amt=amt, ts_ms=NOW_MS - age_ms, side=side or side_of(amt), entry_price="98000.1",
                     mark_price="98250.4", unrealized_pnl="9.51"), MONO_NS - age_ms * 1_000_000)
    if ledger is not None:
        book = Book(symbol=symbol, amt=Decimal(ledger), rev=7, source="fill" if order_ms else "opening",
                    last_order_id="8389765" if order_ms else "", last_order_ms=order_ms,
                    updated_epoch=NOW_MS // 1000 - 40)
        memory.keep_book(symbol, BookLine(book=book, ver=9))
    memory.scope |= {symbol}


def busy_memory() -> Memory:
    """An open permit, a mismatch, a short that settles, legs, an unknown, flat ones, hostile names, three verdicts."""
    memory = ready_memory()
    hold(memory, "BTCUSDT", "0.038", "0.038")
    memory.states["BTCUSDT"] = State(
        venue=memory.venue, issued=f"f1a8d7f48713d5cf n0 {NOW_MS - 18_000} {NOW_MS + 42_000} 0.038 7",
        open="f1a8d7f48713d5cf n0")
    memory.open_permits["BTCUSDT"] = NOW_MS + 42_000
    hold(memory, "SOLUSDT", "-12.5", "-12", age_ms=3_200)
    memory.mismatches["SOLUSDT"] = {"since_ms": NOW_MS - 754_000}
    hold(memory, "XRPUSDT", "-120", "-120", order_ms=NOW_MS - 5_000)
    hold(memory, "币安人生USDT", "1", "-1", age_ms=14_000)
    hold(memory, "BNBUSDT", None, None, side=HEDGE)
    hold(memory, "TRXUSDT", None, "61")
    hold(memory, HOSTILE_SYMBOL, "1", "1")
    for symbol in ("SOLUSDT", "XRPUSDT", "币安人生USDT", "BNBUSDT"):
        memory.filters[symbol] = Filters(symbol, "TRADING", Decimal("0.1"), Decimal("0.1"), Decimal("10000"))
    for number in range(24):
        hold(memory, f"FLAT{number:02}USDT", "0", "0")
    for verdict in (
        Verdict(NOW_MS - 60_000, HOSTILE_PLAN, HOSTILE_SYMBOL, "FOO", False, "unsupported_action", "", 2),
        Verdict(NOW_MS - 30_000, "q2", "SOLUSDT", "CLOSE_FULL", False, "reconcile_required_qty_mismatch", "", 1),
        Verdict(NOW_MS - 18_000, "f1a8d7f48713d5cf", "BTCUSDT", "PARTIAL_75", True, "", "0.028", 3),
    ):
        memory.verdicts.appendleft(verdict)
    return memory
