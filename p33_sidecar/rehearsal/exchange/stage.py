"""What a person behind the scenes can do: set the scene, break things, look at everything.

No socket here. Every move holds the application's lock, so it falls between two requests, never into one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

import msgspec

from p33_sidecar.rehearsal.exchange.app import Application, Seen
from p33_sidecar.rehearsal.exchange.engine import Engine
from p33_sidecar.rehearsal.exchange.faults import Fault
from p33_sidecar.rehearsal.exchange.limits import Limits
from p33_sidecar.rehearsal.exchange.model import Order, Position, Trade
from p33_sidecar.rehearsal.exchange.signing import Keyring
from p33_sidecar.rehearsal.exchange.symbols import load_contracts
from p33_sidecar.rehearsal.exchange.timeline import KEEP_MS
from p33_sidecar.rehearsal.exchange.venue import Venue

FORCED_CLIENT_IDS = {
    "liquidation": "autoclose-{ms}000020",
    "adl": "adl_autoclose",
    "settlement": "settlement_autoclose-{ms}000020",
    "delivery": "delivery_autoclose-{ms}000020",
}
SEEDED_BEFORE_MS = 3_600_000
LARGEST = Decimal(10**12)
"""Beyond it an amount times a price leaves the digits that the replies are computed with."""
NUMBERS = ("tick", "min_price", "max_price", "step", "min_qty", "max_qty", "market_step", "market_min", "market_max",
           "notional")
"""The facts of a contract that are numbers written as text."""


class Scene(msgspec.Struct, frozen=True):
    """How an exchange starts, and what `reset` goes back to. `positions` maps symbols to signed amounts."""

    symbols: int = 50
    positions: Mapping[str, str | Decimal] = {}
    hedge: bool = False
    first_order_id: int = 8_389_765
    wallet: Decimal = Decimal(1_000_000)
    limits: Limits = Limits()
    lag_ms: int = 0
    latency_ms: int = 0


def system_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Stage:
    """One exchange without its socket. See `Scene` for how it starts; keys map API keys to secrets."""

    def __init__(
        self, scene: Scene, *, keys: Mapping[str, str], read_only: Iterable[str] = (), clock: Callable[[], int]
    ) -> None:
        self.clock_offset_ms = 0
        self._scene = scene
        self._clock = clock
        self._keyring = Keyring(dict(keys), read_only=frozenset(read_only))
        self._stopping = threading.Event()
        self.reset()

    # -- setting the scene ----------------------------------------------------------------------------------------
    def reset(self) -> None:
        """Back to the beginning: positions, orders, ids, faults, budgets, counts, and the clock's offset."""
        scene = self._scene
        self.clock_offset_ms = 0
        contracts = load_contracts(scene.symbols)
        engine = Engine(contracts, clock=self.now_ms, first_order_id=scene.first_order_id, wallet=scene.wallet)
        engine.force_mode(hedge=scene.hedge)
        venue = Venue(engine, scene.limits)
        self.app = Application(venue, keyring=self._keyring, wait=self._stopping.wait)
        self.set_lag(scene.lag_ms)
        if scene.latency_ms:
            self.set_latency(scene.latency_ms)
        for symbol, amt in scene.positions.items():
            self._seed(symbol, _usable(amt))

    def set_position(
        self, symbol: str, amt: Decimal | str, *, entry_price: Decimal | str | None = None, side: str | None = None
    ) -> Order | None:
        """Trade a position to `amt` as a person at the exchange would, with an order no client of ours sent.

        `side` is LONG or SHORT in hedge mode (default: by the sign). Returns the order; None where nothing changed.
        """
        target = _usable(amt)
        price = None if entry_price is None else _usable(entry_price)
        with self.app.lock:
            self._engine.contract(symbol)
            count = len(self._engine.trades)
            return self._engine.move_position(
                (symbol, side or self._side(target)), amt=target, price=price, client_order_id=f"web_{count:022d}"
            )

    def liquidate(self, symbol: str, *, kind: str = "liquidation", side: str = "BOTH") -> Order | None:
        """The exchange closes a position itself: liquidation, adl, settlement or delivery. None where it is flat."""
        client_id = FORCED_CLIENT_IDS[kind].format(ms=self.now_ms())
        with self.app.lock:
            self._engine.contract(symbol)
            return self._engine.move_position((symbol, side), amt=Decimal(0), client_order_id=client_id, forced=True)

    def fill(self, symbol: str, order_id: int, qty: Decimal | str | None = None) -> Order:
        """Fill a resting order at its price, wholly or in part. Raises LookupError when it is not open."""
        with self.app.lock:
            return self._engine.fill_resting(symbol, order_id, None if qty is None else Decimal(qty))

    def set_liquidity(self, symbol: str, qty: Decimal | str | None) -> None:
        """How much one market order can get; what is left of it expires. None: everything. ValueError below 0."""
        available = None if qty is None else _usable(qty)
        if available is not None and available < 0:
            raise ValueError(f"liquidity must not be negative, is {available}")
        with self.app.lock:
            self._engine.contract(symbol)
            self._engine.liquidity.pop(symbol, None)
            if available is not None:
                self._engine.liquidity[symbol] = available

    def set_mode(self, *, hedge: bool) -> None:
        """Switch the position mode behind everybody's back, whatever is open."""
        with self.app.lock:
            self._engine.force_mode(hedge=hedge)

    def set_symbol(
        self, symbol: str, *, listed: bool = True, mark: Decimal | str | None = None, **facts: object
    ) -> None:
        """Change a contract (any fact of the table: `status`, `step`, `min_qty`, ...), its mark, or delist it."""
        with self.app.lock:
            contracts = self._engine.contracts
            known = contracts.get(symbol) or load_contracts(700)[symbol]
            changed = msgspec.convert(msgspec.structs.asdict(known) | facts, type(known))
            for name in NUMBERS:
                _usable(getattr(changed, name))
            if listed:
                contracts[symbol] = changed
            else:
                contracts.pop(symbol, None)
            if mark is not None:
                self._engine.mark_bases[symbol] = Decimal(mark)
            self.app.venue.forget_rendered()

    # -- breaking things ------------------------------------------------------------------------------------------
    def inject(self, fault: Fault) -> None:
        """Arm a fault."""
        with self.app.lock:
            self.app.faults.arm(fault, now_ms=self.now_ms())

    def fault(self, kind: str, endpoint: str = "*", **options: object) -> None:
        """Arm a fault by its parts: see `Fault`. Raises ValueError for an unknown kind."""
        self.inject(Fault(kind=kind, endpoint=endpoint, **options))

    def set_latency(self, ms: int, endpoint: str = "*") -> None:
        """Delay an endpoint (named as in a fault; the narrowest name wins). Raises ValueError below 0."""
        if ms < 0:
            raise ValueError(f"latency must not be negative, is {ms}")
        self.app.latency_ms[endpoint] = ms

    def set_lag(self, ms: int) -> None:
        """How far reads lie behind the engine. Raises ValueError beyond 120 000."""
        if not 0 <= ms <= KEEP_MS:
            raise ValueError(f"lag must be 0 to {KEEP_MS} ms, is {ms}")
        self.app.venue.lag_ms = ms

    def set_clock_offset(self, ms: int) -> None:
        """Put the exchange's clock ahead of (or behind) the one it was given."""
        self.clock_offset_ms = ms

    def set_limits(self, **changes: int) -> Limits:
        """Change budgets (fields of `Limits`); what was used so far stays."""
        with self.app.lock:
            limits = msgspec.structs.replace(self.app.budget.limits, **changes)
            self.app.budget.limits = self.app.venue.limits = limits
            return limits

    def ban(self, seconds: float | None = None, *, ip: str = "127.0.0.1") -> int:
        """Ban an address; returns the end of the ban."""
        with self.app.lock:
            ban_ms = None if seconds is None else int(seconds * 1000)
            return self.app.budget.ban(ip, now_ms=self.now_ms(), ban_ms=ban_ms)

    def clear(self) -> None:
        """Everything works again: no faults, no latency, no lag, no clock offset, no bans, full liquidity."""
        with self.app.lock:
            self.clock_offset_ms = 0
            self.app.faults.clear()
            self.app.latency_ms = {}
            self.app.venue.lag_ms = 0
            self.app.budget.forgive()
            self._engine.liquidity.clear()

    # -- looking --------------------------------------------------------------------------------------------------
    def now_ms(self) -> int:
        """The exchange's time."""
        return self._clock() + self.clock_offset_ms

    @property
    def positions(self) -> list[Position]:
        """Every position that ever was, flat ones too; without read lag."""
        with self.app.lock:
            return list(self._engine.positions.values())

    def position_amt(self, symbol: str, side: str = "BOTH") -> Decimal:
        with self.app.lock:
            return self._engine.position((symbol, side)).amt

    @property
    def orders(self) -> list[Order]:
        with self.app.lock:
            return list(self._engine.orders.values())

    @property
    def trades(self) -> list[Trade]:
        with self.app.lock:
            return list(self._engine.trades)

    @property
    def requests(self) -> list[Seen]:
        """The last 20 000 requests, oldest first."""
        with self.app.lock:
            return list(self.app.seen)

    def request_count(self, endpoint: str) -> int:
        """Requests so far to an endpoint such as `GET positionRisk` (or `positionRisk`, whatever the method)."""
        with self.app.lock:
            return sum(n for name, n in self.app.counts.items() if endpoint in (name, name.partition(" ")[2]))

    @property
    def _engine(self) -> Engine:
        return self.app.venue.engine

    def _side(self, amt: Decimal) -> str:
        return "BOTH" if not self._engine.hedge else "SHORT" if amt < 0 else "LONG"

    def _seed(self, symbol: str, amt: Decimal) -> None:
        engine = self._engine
        entry = engine.mark(symbol)
        seeded_ms = self.now_ms() - SEEDED_BEFORE_MS
        engine.seed_position(
            Position(symbol=symbol, side=self._side(amt), amt=amt, entry_price=entry, updated_ms=seeded_ms)
        )


def _usable(number: Decimal | str) -> Decimal:
    """The exact number. Raises ValueError or ArithmeticError for one that no reply could carry."""
    exact = Decimal(number)
    if not exact.is_finite() or abs(exact) > LARGEST:
        raise ValueError(f"{exact} is no amount up to {LARGEST}")
    return exact
