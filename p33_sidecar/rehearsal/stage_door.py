"""The way behind the scenes of a simulated exchange in another process: its control plane, as a client.

What may not happen here: a judgement, or a request to the exchange's own API (that would count against its budgets).
Quantities come and go as exact decimals.
"""

from __future__ import annotations

from decimal import Decimal

import httpx
import msgspec

TIMEOUT_S = 5.0


class Order(msgspec.Struct, frozen=True):
    """An order in the exchange's own book. `placed_ms` is the exchange's clock."""

    order_id: int
    client_order_id: str
    symbol: str
    side: str
    qty: Decimal
    executed_qty: Decimal
    reduce_only: bool
    status: str
    placed_ms: int


class Held(msgspec.Struct, frozen=True):
    symbol: str
    side: str
    amt: Decimal


class Asked(msgspec.Struct, frozen=True):
    """One request as the exchange saw it; `status` is 0 where the sender got no answer."""

    at_ms: int
    endpoint: str
    status: int
    symbol: str | None = None
    fault: str | None = None


class Requests(msgspec.Struct, frozen=True):
    counts: dict[str, int]
    log: tuple[Asked, ...] = ()


class State(msgspec.Struct, frozen=True):
    """Everything the exchange knows, without read lag."""

    time_ms: int
    positions: tuple[Held, ...]
    orders: tuple[Order, ...]
    bans: dict[str, int]
    requests: Requests

    def amt(self, symbol: str) -> Decimal:
        """The signed position, legs added up; zero where there never was one."""
        return sum((held.amt for held in self.positions if held.symbol == symbol), Decimal(0))


_STATE = msgspec.json.Decoder(State, strict=False)


class StageDoor:
    """Moves and looks at one simulated exchange. Raises httpx.HTTPError where it does not answer or refuses."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def move(self, name: str, **parts: object) -> object:
        """One move of the control plane (`fault`, `position`, `ban`, ...); returns its result."""
        reply = self._client.post(f"/_sim/{name}", content=msgspec.json.encode(parts))
        reply.raise_for_status()
        return msgspec.json.decode(reply.content)["result"]

    def state(self, *, with_log: bool = False) -> State:
        """Positions, orders, bans; the requests one by one only where they are asked for."""
        reply = self._client.get("/_sim/state" if with_log else "/_sim/state?log=0")
        reply.raise_for_status()
        return _STATE.decode(reply.content)

    def positions(self) -> dict[str, Decimal]:
        """Every symbol with a position, and its signed amount."""
        state = self.state()
        return {held.symbol: state.amt(held.symbol) for held in state.positions if held.amt}
