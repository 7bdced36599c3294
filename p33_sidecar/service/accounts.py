"""What a good reply of the exchange means: which rows are truth, who holds a position, what is kept of it. Pure.

What may not happen here: a missing row or one older than a row already seen read as flat, or as anything else. Such
a symbol is unknown: nothing is written for it, its snapshot ages, and if it was held it stays held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ..core.model import HEDGE, Snapshot
from ..core.quantity import side_of, text
from ..exchange import PositionsReply, SymbolPosition

SOURCE = "binance.positionRisk.v2"
_MOST_NAMED = 50
_ENCODE = msgspec.json.Encoder().encode


class Sifted(msgspec.Struct, frozen=True):
    """A reply's rows, told apart. `versions`: the one-way rows that moved on; `behind`: symbols with an older row."""

    current: dict[str, SymbolPosition]
    versions: dict[str, int]
    behind: tuple[str, ...]


def sift(positions: Mapping[str, SymbolPosition], seen: Mapping[str, int]) -> Sifted:
    """The rows that are not older than one already seen (`seen`: symbol -> newest updateTime).

    Only one-way rows have a version: the legs of hedge mode have others, and count as unusable whatever they say.
    """
    current, versions, behind = {}, {}, []
    for symbol, position in positions.items():
        version, known = position.update_time_ms, seen.get(symbol, 0)
        if position.amt is not None and version < known:
            behind.append(symbol)
            continue
        current[symbol] = position
        if position.amt is not None and version > known:
            versions[symbol] = version
    return Sifted(current, versions, tuple(behind))


def still_held(before: frozenset[str], current: Mapping[str, SymbolPosition]) -> frozenset[str]:
    """Symbols with a position: those seen to have one, and those that had one and were not seen."""
    unseen = {symbol for symbol in before if symbol not in current}
    return frozenset(unseen | {symbol for symbol, position in current.items() if position.held})


def snapshots_of(current: Mapping[str, SymbolPosition], symbols: Iterable[str], *, requested_ms: int) -> list[Snapshot]:
    """The snapshots of those symbols that were seen, as old as the start of the request."""
    return [_snapshot(current[symbol], requested_ms) for symbol in symbols if symbol in current]


def good_record(reply: PositionsReply, sifted: Sifted, *, received_ms: int, scope: frozenset[str],
                tell_scope: bool) -> bytes:
    """A poll's entry in `quantum:p33:snapshots`. A symbol in scope that stands nowhere in it is flat: so every one that
    is not known is named, by what is wrong with its row, or as missing."""
    record = {"v": 1, "requested_ms": reply.requested_ms, "received_ms": received_ms, "outcome": "ok",
              "positions": [_held(position) for position in sifted.current.values() if position.held]}
    if reply.bad_rows:
        record["bad_rows"] = dict(list(reply.bad_rows.items())[:_MOST_NAMED])
    if sifted.behind:
        record["older_rows"] = sorted(sifted.behind)[:_MOST_NAMED]
    named = {*record.get("bad_rows", ()), *record.get("older_rows", ())}
    if missing := scope - sifted.current.keys() - named:
        record["missing_rows"] = sorted(missing)
    if tell_scope:
        record["scope"] = sorted(scope)
    return _ENCODE(record)


def failed_record(outcome: str, detail: str, *, requested_ms: int, received_ms: int) -> bytes:
    """The entry of a poll that brought nothing."""
    return _ENCODE({"v": 1, "requested_ms": requested_ms, "received_ms": received_ms, "outcome": outcome,
                    "detail": detail, "positions": []})


def _held(position: SymbolPosition) -> dict:
    amt = None if position.amt is None else text(position.amt)
    return {"symbol": position.symbol, "position_amt": amt, "side": _side(position),
            "entry_price": position.entry_price, "mark_price": position.mark_price,
            "update_time_ms": position.update_time_ms}


def _snapshot(position: SymbolPosition, requested_ms: int) -> Snapshot:
    return Snapshot(
        symbol=position.symbol, amt=position.amt, ts_ms=requested_ms, side=_side(position),
        entry_price=position.entry_price, mark_price=position.mark_price, leverage=position.leverage,
        unrealized_pnl=position.unrealized_pnl, source=SOURCE)


def _side(position: SymbolPosition) -> str:
    return HEDGE if position.amt is None else side_of(position.amt)
