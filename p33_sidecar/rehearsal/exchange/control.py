"""The control plane: `/_sim/...`, JSON in and out, for people and tests that have the exchange in another process.

No behaviour may live here: every command is one move of the `Stage`. Unsigned, not counted, never delayed.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from p33_sidecar.rehearsal.exchange.errors import ApiError
from p33_sidecar.rehearsal.exchange.faults import Fault
from p33_sidecar.rehearsal.exchange.model import Reply, Request
from p33_sidecar.rehearsal.exchange.stage import Stage
from p33_sidecar.rehearsal.exchange.wire import plain

PREFIX: Final = "/_sim/"


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing but the name."""


class PositionCommand(Command, frozen=True):
    symbol: str
    amt: Decimal
    entry_price: Decimal | None = None
    side: str | None = None


class LiquidateCommand(Command, frozen=True):
    symbol: str
    kind: str = "liquidation"
    side: str = "BOTH"


class FillCommand(Command, frozen=True):
    symbol: str
    order_id: int
    qty: Decimal | None = None


class LiquidityCommand(Command, frozen=True):
    symbol: str
    qty: Decimal | None = None


class ModeCommand(Command, frozen=True):
    hedge: bool


class MillisecondsCommand(Command, frozen=True):
    ms: int


class LatencyCommand(Command, frozen=True):
    ms: int
    endpoint: str = "*"


class BanCommand(Command, frozen=True):
    seconds: float | None = None
    ip: str = "127.0.0.1"


class Move(NamedTuple):
    shape: type
    make: Callable[[Stage, object], object]


def _parts(command: object) -> dict:
    return msgspec.structs.asdict(command)


MOVES: Final[dict[str, Move]] = {
    "fault": Move(Fault, lambda stage, c: stage.inject(c)),
    "position": Move(PositionCommand, lambda stage, c: stage.set_position(**_parts(c))),
    "liquidate": Move(LiquidateCommand, lambda stage, c: stage.liquidate(**_parts(c))),
    "fill": Move(FillCommand, lambda stage, c: stage.fill(**_parts(c))),
    "liquidity": Move(LiquidityCommand, lambda stage, c: stage.set_liquidity(**_parts(c))),
    "mode": Move(ModeCommand, lambda stage, c: stage.set_mode(**_parts(c))),
    "symbol": Move(dict, lambda stage, c: stage.set_symbol(**c)),
    "latency": Move(LatencyCommand, lambda stage, c: stage.set_latency(**_parts(c))),
    "lag": Move(MillisecondsCommand, lambda stage, c: stage.set_lag(c.ms)),
    "clock": Move(MillisecondsCommand, lambda stage, c: stage.set_clock_offset(c.ms)),
    "limits": Move(dict, lambda stage, c: stage.set_limits(**c)),
    "ban": Move(BanCommand, lambda stage, c: {"until_ms": stage.ban(**_parts(c))}),
    "clear": Move(Command, lambda stage, c: stage.clear()),
    "reset": Move(Command, lambda stage, c: stage.reset()),
}


def control(stage: Stage, request: Request) -> Reply:
    """The reply to a `/_sim/` request: 200 with what changed, 400 with `error`, 404 for an unknown move."""
    name = request.path.removeprefix(PREFIX)
    if request.method == "GET" and name == "state":
        return Reply(body=_json(state(stage, with_log=b"log=0" not in request.query)))
    if request.method != "POST" or name not in MOVES:
        return Reply(status=404, body=_json({"error": f"unknown move; POST one of {', '.join(MOVES)} or GET state"}))
    move = MOVES[name]
    try:
        done = move.make(stage, msgspec.json.decode(request.body or b"{}", type=move.shape))
    except (msgspec.DecodeError, ValueError, ArithmeticError, LookupError, TypeError, ApiError) as error:
        return Reply(status=400, body=_json({"error": f"{type(error).__name__}: {error}"}))
    return Reply(body=_json({"ok": True, "result": done}))


def state(stage: Stage, *, with_log: bool = True) -> dict:
    """Everything there is to see: the account without read lag, the armed faults, the budgets, and what was asked."""
    app = stage.app
    with app.lock:
        return {
            "time_ms": stage.now_ms(),
            "hedge": app.venue.engine.hedge,
            "symbols": len(app.venue.engine.contracts),
            "positions": stage.positions,
            "orders": stage.orders,
            "trades": stage.trades,
            "faults": app.faults.listed(),
            "latency_ms": app.latency_ms,
            "lag_ms": app.venue.lag_ms,
            "limits": app.budget.limits,
            "bans": app.budget.bans(),
            "requests": {"counts": app.counts, "log": stage.requests if with_log else []},
        }


def _json(value: object) -> bytes:
    return msgspec.json.encode(_texts(value))


def _texts(value: object) -> object:
    """Decimals as plain text: msgspec alone would write `1E-7`."""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, msgspec.Struct):
        return _texts(_parts(value))
    if isinstance(value, dict):
        return {key: _texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_texts(item) for item in value]
    return value
