"""Who is asking: API keys, signatures over the bytes as they came, and the request's clock.

No parameter may be re-encoded before it is verified. Source: the exchange's general-info page: `totalParams` is
query string and body concatenated without `&`, `signature` is the last of its part, hex of any case, and a
request holds iff `timestamp < now + 1000` and `now - timestamp <= recvWindow` (default 5000, at most 60000).
"""

from __future__ import annotations

import hashlib
import hmac

from p33_sidecar.rehearsal.exchange.errors import AHEAD, ApiError, refusal
from p33_sidecar.rehearsal.exchange.model import Request
from p33_sidecar.rehearsal.exchange.params import Params

DEFAULT_RECV_WINDOW_MS = 5000
MAX_RECV_WINDOW_MS = 60000
MAX_AHEAD_MS = 1000


class Keyring:
    """API keys and their secrets; keys named in `read_only` may not trade. Never printed."""

    def __init__(self, secrets: dict[str, str], *, read_only: frozenset[str] = frozenset()) -> None:
        self._secrets = secrets
        self._read_only = read_only

    def __repr__(self) -> str:
        return f"Keyring({len(self._secrets)} keys)"

    def check_key(self, request: Request, *, trades: bool = False) -> None:
        """Raises -2014 without a key, -2015 for an unknown one or one without the right to trade."""
        if not request.api_key:
            raise refusal(-2014, status=401)
        if request.api_key not in self._secrets or (trades and request.api_key in self._read_only):
            raise refusal(-2015, status=401)

    def check_signed(self, request: Request, params: Params, *, now_ms: int) -> None:
        """Raises -1102, -1021 or -1022; the key itself was checked before."""
        check_time(params, now_ms=now_ms)
        given = params.text("signature")
        payload = signed_bytes(request.query, request.body)
        secret = self._secrets[request.api_key or ""].encode()
        if payload is None or not hmac.compare_digest(sign(payload, secret), given.lower().encode()):
            raise refusal(-1022)


def sign(payload: bytes, secret: bytes) -> bytes:
    """The HMAC-SHA256 of `payload`, as lower-case hex."""
    return hmac.new(secret, payload, hashlib.sha256).hexdigest().encode()


def signed_bytes(query: bytes, body: bytes) -> bytes | None:
    """What the signature covers; None where it is not the last parameter of the part that carries it."""
    query_head, in_query = _without_signature(query)
    body_head, in_body = _without_signature(body)
    return query_head + body_head if in_query or in_body else None


def check_time(params: Params, *, now_ms: int) -> None:
    """Raises -1102 without a timestamp, -1130 for too large a window, and one of the two texts of -1021."""
    sent_ms = params.integer("timestamp")
    window_ms = params.integer("recvWindow", DEFAULT_RECV_WINDOW_MS)
    if window_ms > MAX_RECV_WINDOW_MS:
        raise refusal(-1130, "recvWindow")
    if sent_ms >= now_ms + MAX_AHEAD_MS:
        raise ApiError(-1021, AHEAD)
    if now_ms - sent_ms > window_ms:
        raise refusal(-1021)


def _without_signature(part: bytes) -> tuple[bytes, bool]:
    head, marker, value = part.rpartition(b"signature=")
    if not marker or b"&" in value or (head and not head.endswith(b"&")):
        return part, False
    return head.removesuffix(b"&"), True
