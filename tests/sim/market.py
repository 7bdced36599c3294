"""The simulation's exchange: what really is, and what a reply says of it, which may be late, wrong or missing."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from p33_sidecar.core.quantity import text
from p33_sidecar.errors import ExchangeBanned, ExchangeUnavailable
from p33_sidecar.exchange import FiltersReply, OrderState, PositionsReply, SymbolPosition
from p33_sidecar.exchange.limits import BanGuard, BanStore
from p33_sidecar.store.connect import ServerClock
from tests.service.world import BTC, ETH, TRX, VENUE
from tests.sim.fakes import HandClock

RULES = {filters.symbol: filters for filters in (BTC, ETH, TRX)}


class Market:
    """One-way positions by symbol. Orders fill at once and only ever reduce; hands may move anything."""

    venue, used_weight, offset_ms = VENUE, 0, 0
    guard: BanGuard
    now_ms: Callable[[], int]

    def __init__(self, clock: HandClock, positions: dict[str, str], *, bans: BanStore) -> None:
        self.clock, self.bans, self.configured = clock, bans, True
        self.amounts = {symbol: Decimal(positions.get(symbol, "0")) for symbol in RULES}
        self._changed_ms = dict.fromkeys(RULES, 0)
        self.orders: dict[str, tuple[str, str, Decimal]] = {}
        """order id -> symbol, side, what was executed."""
        self.requests: list[int] = []
        """When each poll came, by the exchange's clock."""
        self.rude_requests = 0
        """Those that came during a ban that had been told."""
        self.seen_mono_ms: dict[str, int] = {}
        """symbol -> when a reply last had it."""
        self.said: set[tuple[str, int, str | None]] = set()
        """Symbol, when it was asked for, and what a good reply said of it; None: legs."""
        self.seen_begun_ms = 0
        """When the last good reply was asked for, on the machine's clock."""
        self.failure = ""
        self._banned_until_ms = self._told_ban_ms = self._told_set_by_ms = 0
        self.missing: set[str] = set()
        self.hedge: set[str] = set()
        self._behind: dict[str, tuple[Decimal, int]] | None = None
        self._serial = 8_389_765

    def serve(self, clock: ServerClock) -> None:
        """A new process asks from now on, with its own idea of the server's time, and knows of a ban by the store."""
        if self.clock.set_by_ms != self._told_set_by_ms:
            self.forget_told()
        self.now_ms = clock.now_ms
        self.guard = BanGuard(self.bans, now_ms=clock.now_ms, mono_ns=clock.mono_ns)

    # -- what really is -------------------------------------------------------------------------------------------

    def set(self, symbol: str, amt: Decimal) -> None:
        """Somebody's hand."""
        self.amounts[symbol], self._changed_ms[symbol] = amt, self.clock.exchange_ms

    def ban(self, for_ms: int) -> None:
        """Nobody is answered for so long."""
        self._banned_until_ms = self.clock.exchange_ms + for_ms

    def forget_told(self) -> None:
        """Whoever was told of the ban cannot know of it any more."""
        self._told_ban_ms = 0

    def execute(self, symbol: str, side: str, qty: Decimal) -> tuple[str, Decimal]:
        """A reduce-only market order: (its id, what was executed)."""
        amt = self.amounts[symbol]
        closes = (side == "SELL") == (amt > 0)
        done = min(qty, abs(amt)) if closes else Decimal(0)
        if done:
            self.set(symbol, amt - done if amt > 0 else amt + done)
        self._serial += 1
        self.orders[str(self._serial)] = (symbol, side, done)
        return str(self._serial), done

    def fall_behind(self) -> None:
        """From now on replies say what was at this moment, until `catch_up`."""
        self._behind = {symbol: (self.amounts[symbol], self._changed_ms[symbol]) for symbol in RULES}

    def catch_up(self) -> None:
        self._behind = None

    # -- the exchange's port --------------------------------------------------------------------------------------

    def positions(self) -> PositionsReply:
        self.guard.check()
        now_ms, here_ms = self.clock.exchange_ms, self.now_ms()
        self.requests.append(now_ms)
        self.rude_requests += now_ms < self._told_ban_ms
        if (left_ms := self._banned_until_ms - now_ms) > 0:
            self._told_ban_ms, self._told_set_by_ms = self._banned_until_ms, self.clock.set_by_ms
            self.guard.impose(here_ms + left_ms, why="banned")
            raise ExchangeBanned(here_ms + left_ms)
        if self.failure:
            raise ExchangeUnavailable(self.failure)
        rows = {symbol: self._row(symbol) for symbol in RULES if symbol not in self.missing}
        self.said |= {(symbol, here_ms, None if row.amt is None else text(row.amt)) for symbol, row in rows.items()}
        self.seen_begun_ms = self.clock.mono_ms
        self.seen_mono_ms |= dict.fromkeys(rows, self.clock.mono_ms)
        return PositionsReply(here_ms, here_ms, self.clock.mono_ns(), rows, {})

    def _row(self, symbol: str) -> SymbolPosition:
        amt, changed_ms = (self._behind or {}).get(symbol, (self.amounts[symbol], self._changed_ms[symbol]))
        legs = symbol in self.hedge
        return SymbolPosition(symbol, None if legs else amt, legs, "100000", "100200", "10", "0", changed_ms,
                              legs and bool(amt))

    def filters(self) -> FiltersReply:
        return FiltersReply(self.now_ms(), dict(RULES), {})

    def order(self, symbol: str, *, order_id: str = "", client_order_id: str = "") -> OrderState | None:
        found = self.orders.get(order_id)
        if found is None:
            return None
        _, side, done = found
        return OrderState(symbol=symbol, order_id=order_id, client_order_id=client_order_id, status="FILLED",
                          known_status=True, terminal=True, side=side, executed_qty=done, reduce_only=True,
                          update_time_ms=self.clock.exchange_ms)

    def one_way_mode(self) -> bool:
        return not self.hedge

    def server_offset_ms(self) -> int:
        return self.offset_ms
