"""What can go wrong on the way, on order: a list of faults, each for an endpoint, a number of times or a while.

No fault may touch the engine: a fault decides whether a request reaches it, and what its sender gets to see.
Texts and status codes: the exchange's general-info page and recorded answers; where a JSON code field of a
503 is not documented, the nearest code of the table stands.
"""

from __future__ import annotations

from typing import Final

import msgspec

from p33_sidecar.rehearsal.exchange.errors import MAYBE_EXECUTED, TEXTS
from p33_sidecar.rehearsal.exchange.model import Reply


def html(status: int, title: str) -> Reply:
    """A page of the proxy in front of the exchange."""
    body = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
        "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return Reply(status=status, body=body.encode(), content_type="text/html")


def json_error(status: int, code: int, text: str) -> Reply:
    return Reply(status=status, body=msgspec.json.encode({"code": code, "msg": text}))


FORGED: Final[dict[str, Reply]] = {
    # the outcome of an order is unknown: `executed` says what it was
    "http_408": json_error(408, -1007, TEXTS[-1007]),
    "http_503_a": json_error(503, -1000, MAYBE_EXECUTED),
    "http_502": html(502, "502 Bad Gateway"),
    "http_504": html(504, "504 Gateway Time-out"),
    "drop": Reply(cut_at=0),
    # a success that is none
    "html_200": html(200, "Binance"),
    "empty_200": Reply(),
    "error_200": json_error(200, -1000, TEXTS[-1000]),
    # definite failures: never executed
    "http_503_b": json_error(503, -1001, "Service Unavailable."),
    "http_503_c": json_error(503, -1008, TEXTS[-1008]),
    "http_503_d": json_error(503, -1001, TEXTS[-1001]),
    "http_403": html(403, "403 Forbidden"),
    "http_451": json_error(
        451, 0, "Service unavailable from a restricted location according to 'b. Eligibility' in our terms of use."
    ),
}
DEFINITE: Final = ("http_503_b", "http_503_c", "http_503_d", "http_403", "http_451")
BUDGET: Final = ("http_429", "http_418")
REPLY: Final = ("truncated", "reject", "hang")
ROWS: Final = ("missing_rows", "empty_list", "hedge_rows", "stale_rows", "garbage_qty")
ODD_STATUS: Final = "odd_status"
KINDS: Final = (*FORGED, *BUDGET, *REPLY, *ROWS, ODD_STATUS)
"""Every kind, in the order of the page that documents them."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that goes wrong.

    `endpoint` is `*`, a name (`positionRisk`, `order`), a method and a name (`POST order`) or a path. It applies to
    `times` requests (null: no end; left out: 1, or no end where `for_sec` is given) and for `for_sec` seconds of the
    exchange's clock. `executed` says, of kinds that
    hide an outcome, whether the request was carried out. `seconds` belongs to `hang`; `symbols` and `value` to the
    kinds that spoil rows (no symbols: all of them), `value` also to `odd_status`, the status that an answer about an
    order names instead of the true one; `code`, `msg` and `status` to `reject`.
    """

    kind: str
    endpoint: str = "*"
    times: int | None | msgspec.UnsetType = msgspec.UNSET
    for_sec: float | None = None
    executed: bool = False
    seconds: float = 0.0
    symbols: tuple[str, ...] = ()
    value: str = "NaN"
    code: int = -1000
    msg: str = TEXTS[-1000]
    status: int = 400

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        if self.kind == "hang" and self.seconds <= 0:
            raise ValueError("hang needs seconds above 0")

    @property
    def budget(self) -> int | None:
        """How many requests it applies to; None for no end."""
        if self.times is msgspec.UNSET:
            return 1 if self.for_sec is None else None
        return self.times

    @property
    def spoils_data(self) -> bool:
        return self.kind in ROWS or self.kind == ODD_STATUS

    def reply(self) -> Reply | None:
        """The forged answer; None for kinds that shape or delay the true one."""
        if self.kind == "reject":
            return json_error(self.status, self.code, self.msg)
        return FORGED.get(self.kind)


class Armed(msgspec.Struct):
    """A fault that waits for its requests."""

    fault: Fault
    left: int | None
    until_ms: int | None


class Faults:
    """The armed faults. One request takes at most one, the oldest that fits. Its owner holds a lock."""

    def __init__(self) -> None:
        self._armed: list[Armed] = []

    def arm(self, fault: Fault, *, now_ms: int) -> None:
        until_ms = None if fault.for_sec is None else now_ms + int(fault.for_sec * 1000)
        self._armed.append(Armed(fault=fault, left=fault.budget, until_ms=until_ms))

    def take(self, names: tuple[str, ...], *, now_ms: int, reduces: bool = False) -> Fault | None:
        """The fault for a request that answers to `names`; throttling (503 C) spares orders that only reduce."""
        self._armed = [a for a in self._armed if a.left != 0 and (a.until_ms is None or now_ms < a.until_ms)]
        for armed in self._armed:
            spared = reduces and armed.fault.kind == "http_503_c"
            if armed.fault.endpoint in names and not spared:
                armed.left = None if armed.left is None else armed.left - 1
                return armed.fault
        return None

    def clear(self) -> None:
        self._armed = []

    def listed(self) -> list[dict]:
        """What is armed, for people: kind, endpoint, how many times and until when."""
        return [
            {"kind": a.fault.kind, "endpoint": a.fault.endpoint, "left": a.left, "until_ms": a.until_ms}
            for a in self._armed
            if a.left != 0
        ]
