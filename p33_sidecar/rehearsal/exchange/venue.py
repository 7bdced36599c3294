"""What stands behind the endpoints of one simulated exchange: the engine, its delayed view, the listen key.

No HTTP here. The rows of symbols that were never traded are rendered once: an answer of 700 rows costs no more than
joining them, since the simulator shares its processor with what is being measured.
"""

from __future__ import annotations

import hashlib

import msgspec

from p33_sidecar.rehearsal.exchange import wire
from p33_sidecar.rehearsal.exchange.engine import Engine
from p33_sidecar.rehearsal.exchange.errors import refusal
from p33_sidecar.rehearsal.exchange.limits import Limits
from p33_sidecar.rehearsal.exchange.model import Position, PositionKey

LISTEN_KEY_LIFE_MS = 60 * 60 * 1000


class Venue:
    """`lag_ms` is how far reads lie behind the engine; 0 shows everything at once. At most 120 000."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine = engine
        self.limits = limits
        self.lag_ms = 0
        self.listen_key = ListenKey()
        self.forget_rendered()

    @property
    def moment_ms(self) -> int | None:
        """The moment that reads show; None for now."""
        return self.engine.now_ms() - self.lag_ms if self.lag_ms else None

    def forget_rendered(self) -> None:
        """To be called whenever a contract changed."""
        self._flat_rows: dict[bool, list[bytes]] = {}
        self._places: dict[bool, dict[PositionKey, int]] = {}
        self._symbols_json: bytes | None = None

    def position_rows_json(self, symbol: str | None = None) -> bytes:
        """The body of /fapi/v2/positionRisk: every symbol, flat ones too."""
        hedge = self.engine.hedge
        rows = list(self._flat(hedge))
        for position in self.engine.positions.values(self.moment_ms):
            place = self._places[hedge].get((position.symbol, position.side))
            if place is not None:
                rows[place] = self._render(position)
        if symbol is not None:
            self.engine.contract(symbol)
            rows = [rows[place] for key, place in self._places[hedge].items() if key[0] == symbol]
        return b"[" + b",".join(rows) + b"]"

    def live_positions(self, symbol: str | None = None) -> list[Position]:
        """What /fapi/v3/positionRisk shows: symbols with a position or an open order."""
        if symbol is not None:
            self.engine.contract(symbol)
        ordered = {order.position_key for order in self.engine.open_orders()}
        seen = {(p.symbol, p.side): p for p in self.engine.positions.values(self.moment_ms)}
        for key in sorted(ordered - seen.keys()):
            seen[key] = Position(symbol=key[0], side=key[1])
        listed = [p for key, p in seen.items() if p.amt or key in ordered]
        return [p for p in listed if symbol in (None, p.symbol) and p.symbol in self.engine.contracts]

    def symbols_json(self) -> bytes:
        """The `symbols` of exchangeInfo."""
        if self._symbols_json is None:
            rows = [wire.symbol_row(contract) for contract in self.engine.contracts.values()]
            self._symbols_json = msgspec.json.encode(rows)
        return self._symbols_json

    def _flat(self, hedge: bool) -> list[bytes]:
        if hedge not in self._flat_rows:
            sides = ("LONG", "SHORT") if hedge else ("BOTH",)
            keys = [(symbol, side) for symbol in self.engine.contracts for side in sides]
            self._places[hedge] = {key: place for place, key in enumerate(keys)}
            self._flat_rows[hedge] = [self._render(Position(symbol=symbol, side=side)) for symbol, side in keys]
        return self._flat_rows[hedge]

    def _render(self, position: Position) -> bytes:
        contract = self.engine.contracts[position.symbol]
        mark = self.engine.mark(position.symbol) if position.updated_ms else None
        return msgspec.json.encode(wire.position_v2(position, contract, mark))


class ListenKey:
    """The one listen key of the account: valid for an hour, extended by every POST and PUT."""

    def __init__(self) -> None:
        self._key = ""
        self._until_ms = 0
        self._made = 0

    def post(self, *, now_ms: int) -> str:
        if now_ms >= self._until_ms:
            self._made += 1
            self._key = hashlib.sha256(f"{now_ms} {self._made}".encode()).hexdigest()
        self._until_ms = now_ms + LISTEN_KEY_LIFE_MS
        return self._key

    def put(self, *, now_ms: int) -> str:
        """Raises -1125 when there is none to extend."""
        if now_ms >= self._until_ms:
            raise refusal(-1125)
        return self.post(now_ms=now_ms)

    def delete(self) -> None:
        self._until_ms = 0
