"""From one request to one reply: budgets, faults, who asks, the endpoint, and a record of what was asked.

No socket here, and no rule of trading. The order is the real one: a banned address hears nothing else; then come the
proxies' faults, the key, the clock, the signature, and the endpoint itself. Engine and view change under one lock;
nothing waits while it is held.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable

import msgspec

from p33_sidecar.rehearsal.exchange.engine import HEDGE_CLOSES
from p33_sidecar.rehearsal.exchange.errors import ApiError, refusal
from p33_sidecar.rehearsal.exchange.faults import DEFINITE, Fault, Faults, html, json_error
from p33_sidecar.rehearsal.exchange.limits import Ledger
from p33_sidecar.rehearsal.exchange.model import Reply, Request
from p33_sidecar.rehearsal.exchange.params import Params
from p33_sidecar.rehearsal.exchange.routes import KEYED, NEW_ORDER, PUBLIC, ROUTES, Route
from p33_sidecar.rehearsal.exchange.signing import Keyring
from p33_sidecar.rehearsal.exchange.spoil import spoiled
from p33_sidecar.rehearsal.exchange.venue import Venue

NOT_FOUND = html(404, "404 Not Found")
LONGEST_RECORD = 20_000
"""Requests remembered one by one; the counts go on beyond."""


class Seen(msgspec.Struct, frozen=True):
    """One request as the exchange saw it; `status` is 0 where the sender got no answer."""

    at_ms: int
    method: str
    path: str
    endpoint: str
    status: int
    symbol: str | None
    fault: str | None


class Application:
    """Answers requests for one venue. `wait` sleeps for seconds and may be cut short (when the server stops)."""

    def __init__(self, venue: Venue, *, keyring: Keyring, wait: Callable[[float], object]) -> None:
        self.venue = venue
        self.faults = Faults()
        self.budget = Ledger(venue.limits)
        self.latency_ms: dict[str, int] = {}
        self.lock = threading.RLock()
        self.seen: deque[Seen] = deque(maxlen=LONGEST_RECORD)
        self.counts: Counter[str] = Counter()
        self._keyring = keyring
        self.wait = wait

    def handle(self, request: Request) -> Reply:
        """The reply to a request of the exchange's own API."""
        route = ROUTES.get((request.method, request.path))
        if route is None:
            return self._recorded(request, NOT_FOUND, endpoint="unknown", at_ms=self.venue.engine.now_ms(), fault=None)
        with self.lock:
            at_ms = self.venue.engine.now_ms()
            fault = self.faults.take(route.names(), now_ms=at_ms, reduces=_reduces(request, route))
        self._delay(route)
        hang_sec = fault.seconds if fault is not None and fault.kind == "hang" else 0
        if fault is not None and not fault.executed:
            self.wait(hang_sec)
        with self.lock:
            reply = self._served(request, route, fault)
        if fault is not None and fault.executed:
            self.wait(hang_sec)
        return self._recorded(request, reply, endpoint=f"{route.method} {route.name}", at_ms=at_ms, fault=fault)

    def _delay(self, route: Route) -> None:
        latency_ms = next((self.latency_ms[name] for name in reversed(route.names()) if name in self.latency_ms), 0)
        if latency_ms:
            self.wait(latency_ms / 1000)

    def _served(self, request: Request, route: Route, fault: Fault | None) -> Reply:
        headers: dict[str, str] = {}
        try:
            self._charge(request, route, headers, fault)
            forged = fault.reply() if fault is not None else None
            if fault is not None and forged is not None and (fault.kind in DEFINITE or not fault.executed):
                return _with_headers(forged, headers)
            body = self._answered(request, route, headers)
        except ApiError as error:
            forged = fault.reply() if fault is not None and fault.executed else None
            return _with_headers(forged or json_error(error.status, error.code, error.text), headers | error.headers)
        if forged is not None:
            return _with_headers(forged, headers)
        return Reply(body=spoiled(body, fault), headers=headers, cut_at=_cut(body, fault))

    def _charge(self, request: Request, route: Route, headers: dict[str, str], fault: Fault | None) -> None:
        now_ms = self.venue.engine.now_ms()
        if fault is not None and fault.kind == "http_418":
            self.budget.ban(request.ip, now_ms=now_ms, ban_ms=int(fault.seconds * 1000) or None)
        weight = route.weight if b"symbol=" in request.query + request.body else route.weight_all
        headers["x-mbx-used-weight-1m"] = str(self.budget.charge(request.ip, weight, now_ms=now_ms))
        if fault is not None and fault.kind == "http_429":
            retry = {"Retry-After": str(int(fault.seconds) or 60)}
            raise refusal(-1003, self.venue.limits.weight_per_minute, status=429, headers=retry)

    def _answered(self, request: Request, route: Route, headers: dict[str, str]) -> bytes:
        """The endpoint's body, once it is clear who asks."""
        params = Params.of(request.query, request.body)
        if route.security != PUBLIC:
            self._keyring.check_key(request, trades=route.method != "GET" and route.security != KEYED)
            if route.security != KEYED:
                self._keyring.check_signed(request, params, now_ms=self.venue.engine.now_ms())
        if route is NEW_ORDER:
            headers.update(self.budget.charge_order(now_ms=self.venue.engine.now_ms()))
        return msgspec.json.encode(route.answer(self.venue, params))

    def _recorded(self, request: Request, reply: Reply, *, endpoint: str, at_ms: int, fault: Fault | None) -> Reply:
        seen = Seen(
            at_ms=at_ms,
            method=request.method,
            path=request.path,
            endpoint=endpoint,
            status=0 if reply.cut_at == 0 else reply.status,
            symbol=_symbol(request),
            fault=fault.kind if fault is not None else None,
        )
        with self.lock:
            self.seen.append(seen)
            self.counts[endpoint] += 1
        return reply


def _with_headers(reply: Reply, headers: dict[str, str]) -> Reply:
    return msgspec.structs.replace(reply, headers=headers)


def _cut(body: bytes, fault: Fault | None) -> int | None:
    return max(len(body) // 2, 1) if fault is not None and fault.kind == "truncated" else None


def _lenient(request: Request) -> Params:
    """The parameters of a request that need not be well-formed: for the record and for faults."""
    try:
        return Params.of(request.query, request.body)
    except ApiError:
        return Params({})


def _reduces(request: Request, route: Route) -> bool:
    """Whether it is an order that throttling spares: reduce-only, or the close of a leg in hedge mode."""
    if route is not NEW_ORDER:
        return False
    sent = _lenient(request)
    leg = sent.optional("side"), sent.optional("positionSide")
    return sent.text("reduceOnly", "false").lower() == "true" or leg in HEDGE_CLOSES


def _symbol(request: Request) -> str | None:
    return _lenient(request).optional("symbol")
