"""Decodes `GET /fapi/v2/positionRisk`: one position per symbol, and a reason for each that cannot be known.

What may not happen here: LONG and SHORT legs netted, one of two rows winning, a bad row read as flat. A symbol with a
bad row is absent from `positions`, which means unknown.

Facts: v2 lists every symbol (an empty list is never normal), one BOTH row in one-way mode, LONG and SHORT rows in hedge
mode; the shape of a row: official docs "Position Information V2" and a recording of 2024-01. About 700 rows come every
five seconds, and their decoding holds the interpreter's lock: zero is recognised as text, prices are never numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from p33_sidecar.errors import ExchangeUnavailable
from p33_sidecar.exchange.wire import NOT_JSON, BadField, amount, oddity, price_text, raw_rows, usable_symbol

BOTH, LEGS = "BOTH", ("LONG", "SHORT")
LATEST_MS = 1 << 53


class PositionRow(msgspec.Struct, frozen=True, gc=False):
    """One row: `position_side` is BOTH, LONG or SHORT; prices are canonical text; `leverage` is "" where absent."""

    symbol: str
    position_side: str
    amt: Decimal
    entry_price: str
    mark_price: str
    leverage: str
    unrealized_pnl: str
    update_time_ms: int


class SymbolPosition(msgspec.Struct, frozen=True, gc=False):
    """What the exchange says about a symbol. `amt` is signed.

    In hedge mode there is no single amount, entry price or profit: `amt` is None, the two texts are empty.
    `update_time_ms` is a version of the position (of the newest leg), never its freshness. `legs_held`: whether
    a leg is not flat.
    """

    symbol: str
    amt: Decimal | None
    hedge: bool
    entry_price: str
    mark_price: str
    leverage: str
    unrealized_pnl: str
    update_time_ms: int
    legs_held: bool = False

    @property
    def held(self) -> bool:
        """Whether there is a position, in whatever mode."""
        return self.legs_held if self.amt is None else self.amt != 0


class PositionsReply(msgspec.Struct, frozen=True):
    """One good reply. `requested_ms` is the start of its request, which is how old the positions are.

    `bad_rows`: symbol (or `row N` where not even that can be read) -> why it is unknown.
    """

    requested_ms: int
    received_ms: int
    requested_mono_ns: int
    positions: dict[str, SymbolPosition]
    bad_rows: dict[str, str]


class _Row(msgspec.Struct, gc=False, rename="camel"):
    symbol: str
    position_side: str
    position_amt: str
    entry_price: str
    mark_price: str
    un_realized_profit: str
    update_time: int
    leverage: str = ""


class _Named(msgspec.Struct):
    symbol: str


_ROWS = msgspec.json.Decoder(list[_Row])
_ROW = msgspec.json.Decoder(_Row)
_NAMED = msgspec.json.Decoder(_Named)


def decode_positions(body: bytes) -> tuple[dict[str, SymbolPosition], dict[str, str]]:
    """Positions and bad rows. Raises ExchangeUnavailable for anything but a list with at least one good row."""
    found: dict[str, list[PositionRow]] = {}
    bad: dict[str, str] = {}
    for number, row in enumerate(_rows(body, bad)):
        if row is None:
            continue
        try:
            known = _understood(row)
        except BadField as why:
            bad[row.symbol if usable_symbol(row.symbol) else f"row {number}"] = str(why)
            continue
        found.setdefault(known.symbol, []).append(known)
    positions = _folded(found, bad)
    if not positions:
        raise ExchangeUnavailable("all_rows_bad" if bad else "empty_list", next(iter(bad.values()), "")[:200])
    return positions, bad


def _rows(body: bytes, bad: dict[str, str]) -> Iterable[_Row | None]:
    """All rows at once where all are well-formed; else one by one, None for each that went to `bad`."""
    try:
        return _ROWS.decode(body)
    except msgspec.ValidationError:
        return [_lenient(raw, number, bad) for number, raw in enumerate(raw_rows(body))]
    except NOT_JSON:
        odd = ExchangeUnavailable(oddity(body))
    raise odd


def _lenient(raw: msgspec.Raw, number: int, bad: dict[str, str]) -> _Row | None:
    try:
        return _ROW.decode(raw)
    except NOT_JSON as error:
        why = str(error)
    try:
        name = _NAMED.decode(raw).symbol
    except NOT_JSON:
        name = ""
    bad[name if usable_symbol(name) else f"row {number}"] = why[:200]
    return None


def _understood(row: _Row) -> PositionRow:
    """The row with its numbers checked. Raises BadField."""
    if not usable_symbol(row.symbol):
        raise BadField("symbol cannot be used")
    if row.position_side != BOTH and row.position_side not in LEGS:
        raise BadField(f"positionSide is not known: {row.position_side[:40]!r}")
    if not 0 <= row.update_time < LATEST_MS:
        raise BadField("updateTime is not a time")
    return PositionRow(
        row.symbol, row.position_side,
        amount(row.position_amt, field="positionAmt"),
        price_text(row.entry_price, field="entryPrice"),
        price_text(row.mark_price, field="markPrice"),
        row.leverage[:40],
        price_text(row.un_realized_profit, field="unRealizedProfit"),
        row.update_time,
    )


def _folded(found: dict[str, list[PositionRow]], bad: dict[str, str]) -> dict[str, SymbolPosition]:
    """One position per symbol; a symbol with a bad row has none, one with two rows of a side neither."""
    positions = {}
    for symbol, rows in found.items():
        if symbol in bad:
            continue
        if len(rows) == 1 and rows[0].position_side == BOTH:
            row = rows[0]
            positions[symbol] = SymbolPosition(
                symbol, row.amt, False, row.entry_price, row.mark_price, row.leverage, row.unrealized_pnl,
                row.update_time_ms)
        elif len({row.position_side for row in rows}) < len(rows):
            bad[symbol] = "duplicate row of one positionSide"
        else:
            newest = max(row.update_time_ms for row in rows)
            positions[symbol] = SymbolPosition(
                symbol, None, True, "", rows[0].mark_price, rows[0].leverage, "", newest,
                legs_held=any(row.amt for row in rows))
    return positions
