"""Sends one request and says what came of it, as a value: an answer, or how far it got.

What may not happen here: an exception of httpx going further (it holds the URL, and so the signature), a request
during a ban, a retry.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import httpx
import msgspec

from p33_sidecar.exchange.failures import Failure, Fate, failure_of
from p33_sidecar.exchange.limits import BanGuard, Priority, WeightGauge, ban_until_ms
from p33_sidecar.exchange.transport import Deadline, DeadlineTransport, TooLarge, read_body

ERROR_BODY_BYTES: Final = 64 * 1024
CONNECT_TIMEOUT_S: Final = 2.0
USED_WEIGHT: Final = "x-mbx-used-weight-1m"
NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
"""Failures before the first byte of the request went out."""


class Observer(Protocol):
    """Hooks for metrics. `status` is `ok` or a short error kind."""

    def request(self, *, endpoint: str, status: str, seconds: float) -> None:
        """A request was sent, or tried."""

    def weight(self, used: int) -> None:
        """The exchange said how much weight our address used this minute."""

    def ban(self, until_ms: int) -> None:
        """The exchange told us to stay away until a Unix time."""


class Unobserved:
    """An observer that looks away."""

    def request(self, *, endpoint: str, status: str, seconds: float) -> None: ...

    def weight(self, used: int) -> None: ...

    def ban(self, until_ms: int) -> None: ...


class Call(msgspec.Struct, frozen=True):
    """An endpoint: how it is asked and how much it may answer. `name` is its metric label."""

    name: str
    method: str
    path: str
    signed: bool = True
    priority: Priority = Priority.ESSENTIAL
    max_bytes: int = 1 << 20


class Answer(msgspec.Struct, frozen=True):
    """What came of a request. `failure` is None for a 200 with a whole body; times are Unix ms and monotonic ns.

    A request that was not sent at all has Fate.NOT_EXECUTED; one that broke on the way Fate.UNKNOWN; status 0 both.
    """

    requested_ms: int
    received_ms: int
    requested_mono_ns: int
    body: bytes = b""
    failure: Failure | None = None
    ban_until_ms: int = 0


class Connection:
    """The kept-alive way to one exchange. Used by one thread."""

    def __init__(self, base_url: str, *, now_ms: Callable[[], int], mono_ns: Callable[[], int], bans: BanGuard,
                 weight: WeightGauge, observer: Observer, timeout_s: float,
                 transport: httpx.BaseTransport | None) -> None:
        self._base = base_url.rstrip("/")
        self._now_ms, self._mono_ns, self._timeout_s = now_ms, mono_ns, timeout_s
        self._bans, self._weight, self._observer = bans, weight, observer
        self._deadline = Deadline()
        self._client = httpx.Client(
            transport=transport or DeadlineTransport(self._deadline), trust_env=False, follow_redirects=False,
            timeout=httpx.Timeout(connect=min(CONNECT_TIMEOUT_S, timeout_s), read=timeout_s, write=timeout_s,
                                  pool=timeout_s),
            headers={"accept": "application/json", "accept-encoding": "gzip"})
        logging.getLogger("httpx").addFilter(_no_signature)

    def send(self, call: Call, payload: str, *, api_key: str = "") -> Answer:
        """Send the encoded payload, in the URL of a GET and in the body of a POST.

        Raises ExchangeBanned and ExchangeUnavailable(`weight_margin`, `ban_unknown`) where nothing may be sent.
        """
        self._bans.check()
        self._weight.check(call.priority)
        requested_ms, started_ns = self._now_ms(), self._mono_ns()
        status, headers, body, broken = self._exchange(call, payload, api_key)
        if (used := self._weight.note(headers.get(USED_WEIGHT))) is not None:
            self._observer.weight(used)
        failure = broken or failure_of(status, body)
        until_ms = self._obey(failure, headers, body)
        self._observer.request(endpoint=call.name, status=failure.kind if failure else "ok",
                               seconds=(self._mono_ns() - started_ns) / 1e9)
        return Answer(requested_ms, self._now_ms(), started_ns, body, failure, until_ms)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _exchange(self, call: Call, payload: str, api_key: str) -> tuple[int, Mapping[str, str], bytes, Failure | None]:
        """Status, headers and body, or how it broke. A broken error reply is still an error reply."""
        self._deadline.start(self._timeout_s)
        status, headers = 0, httpx.Headers()
        try:
            with self._client.stream(call.method, **self._parts(call, payload, api_key)) as response:
                status, headers = response.status_code, response.headers
                limit = call.max_bytes if status == 200 else ERROR_BODY_BYTES
                return status, headers, read_body(response, limit=limit, deadline=self._deadline), None
        except (httpx.HTTPError, TooLarge) as error:
            broken = _broken(error)
        return status, headers, b"", broken if status in (0, 200) else None

    def _parts(self, call: Call, payload: str, api_key: str) -> dict:
        headers = {"x-mbx-apikey": api_key} if api_key else {}
        if call.method == "GET":
            return {"url": f"{self._base}{call.path}{'?' if payload else ''}{payload}", "headers": headers}
        headers["content-type"] = "application/x-www-form-urlencoded"
        return {"url": self._base + call.path, "headers": headers, "content": payload.encode("ascii")}

    def _obey(self, failure: Failure | None, headers: Mapping[str, str], body: bytes) -> int:
        """Impose the ban that the answer asks for; its end, 0 for none."""
        if failure is None or failure.fate is not Fate.BANNED:
            return 0
        until_ms = ban_until_ms(failure.status, headers, body, now_ms=self._now_ms())
        self._bans.impose(until_ms, why=failure.kind)
        self._observer.ban(until_ms)
        return until_ms


def _broken(error: httpx.HTTPError | TooLarge) -> Failure:
    """How a request broke, by the kind of error alone: its text may hold the URL."""
    fate = Fate.NOT_EXECUTED if isinstance(error, NOT_SENT) else Fate.UNKNOWN
    for kind, errors in _KINDS.items():
        if isinstance(error, errors):
            return Failure(0, fate, kind, 0, "")
    return Failure(0, fate, "transport", 0, "")


_KINDS: Final[dict[str, tuple[type[Exception], ...]]] = {
    "too_large": (TooLarge,),
    "connect_timeout": (httpx.ConnectTimeout, httpx.PoolTimeout),
    "timeout": (httpx.TimeoutException,),
    "connect": (httpx.ConnectError,),
    "bad_encoding": (httpx.DecodingError,),
    "disconnected": (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError),
}


def _no_signature(record: logging.LogRecord) -> bool:
    """httpx logs every URL at INFO: those with a signature are not for a log."""
    return "signature=" not in record.getMessage()
