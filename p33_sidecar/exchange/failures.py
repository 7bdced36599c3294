"""What a bad answer means, in one table: did it happen, did it not, or can nobody say?

What may not happen here: an answer that leaves an order's fate open read as a refusal. Whatever no rule names is
unknown. For a request that only reads, all of it means "no data" and the rule's kind is the label.

Facts: official docs, "HTTP return codes" and the four texts of 503; error codes -1000, -1001, -1006 and -1007 say
nothing about execution. -4116 means that an order with this client id is there: the first one arrived.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

import msgspec

DETAIL_CHARS: Final = 200


class Fate(Enum):
    """What became of the request."""

    REFUSED = "refused"
    """Definitely refused, with a code."""
    NOT_EXECUTED = "not executed"
    """Definitely not executed, for a reason that lies with the exchange."""
    BANNED = "banned"
    """Not executed, and nothing may be sent for a while."""
    UNKNOWN = "unknown"
    """May have happened."""


class Rule(msgspec.Struct, frozen=True):
    """One line of the table. None matches anything; `text` is the whole message; `coded`: any negative code."""

    status: int | range | None
    fate: Fate
    kind: str
    code: int | None = None
    text: str | None = None
    coded: bool = False

    def matches(self, status: int, code: int | None, text: str) -> bool:
        """Whether this line speaks of the answer."""
        right_status = self.status is None or (
            status in self.status if isinstance(self.status, range) else status == self.status
        )
        right_code = self.code is None or code == self.code
        right_text = self.text is None or text == self.text
        return right_status and right_code and right_text and (not self.coded or (code is not None and code < 0))


CLIENT_ERROR: Final = range(400, 500)
TOO_MANY_REQUESTS: Final = -1003
"""The code of every throttling and ban text; met under other statuses than 429 and 418, a 200 included."""

RULES: Final = (
    Rule(403, Fate.BANNED, "blocked_403"),
    Rule(418, Fate.BANNED, "banned"),
    Rule(429, Fate.BANNED, "throttled_429"),
    Rule(451, Fate.BANNED, "blocked_451"),
    Rule(None, Fate.BANNED, "throttled", code=TOO_MANY_REQUESTS),
    Rule(408, Fate.UNKNOWN, "http_408"),
    Rule(503, Fate.NOT_EXECUTED, "http_503_unavailable", text="Service Unavailable."),
    Rule(503, Fate.NOT_EXECUTED, "http_503_throttled", code=-1008),
    Rule(503, Fate.NOT_EXECUTED, "http_503_internal", text="Internal error; unable to process your request. "
         "Please try again."),
    Rule(503, Fate.UNKNOWN, "http_503"),
    Rule(None, Fate.UNKNOWN, "unknown_error", code=-1000),
    Rule(None, Fate.UNKNOWN, "disconnected", code=-1001),
    Rule(None, Fate.UNKNOWN, "unexpected_response", code=-1006),
    Rule(None, Fate.UNKNOWN, "backend_timeout", code=-1007),
    Rule(None, Fate.UNKNOWN, "duplicate_client_id", code=-4116),
    Rule(CLIENT_ERROR, Fate.REFUSED, "clock", code=-1021),
    Rule(CLIENT_ERROR, Fate.REFUSED, "signature", code=-1022),
    Rule(CLIENT_ERROR, Fate.REFUSED, "maintenance", code=-1016),
    Rule(CLIENT_ERROR, Fate.REFUSED, "credentials", code=-2014),
    Rule(CLIENT_ERROR, Fate.REFUSED, "credentials", code=-2015),
    Rule(CLIENT_ERROR, Fate.REFUSED, "rejected", coded=True),
    Rule(CLIENT_ERROR, Fate.UNKNOWN, "http_4xx"),
    Rule(range(500, 600), Fate.UNKNOWN, "http_5xx"),
    Rule(range(300, 400), Fate.UNKNOWN, "http_3xx"),
)
ANYTHING_ELSE: Final = Rule(None, Fate.UNKNOWN, "http_other")


class Failure(msgspec.Struct, frozen=True):
    """A bad answer, classified. `code` is 0 and `message` may be empty where the body gave none."""

    status: int
    fate: Fate
    kind: str
    code: int
    message: str


class _ErrorBody(msgspec.Struct):
    code: int
    msg: str = ""


_ERROR_BODY = msgspec.json.Decoder(_ErrorBody)


def classify(status: int, body: bytes) -> Failure:
    """The first line of the table that matches an answer whose status is not 200."""
    code, text = error_of(body)
    rule = next((rule for rule in RULES if rule.matches(status, code, text)), ANYTHING_ELSE)
    return Failure(status, rule.fate, rule.kind, code or 0, text)


def failure_of(status: int, body: bytes) -> Failure | None:
    """What a whole answer says went wrong; None for a 200, unless it tells us to stay away."""
    if status != 200:
        return classify(status, body)
    throttled = b"-1003" in body[:100] and error_of(body)[0] == TOO_MANY_REQUESTS
    return classify(status, body) if throttled else None


def error_of(body: bytes) -> tuple[int | None, str]:
    """Code and message of an error body. Plain text is its own message; HTML says nothing worth repeating."""
    try:
        error = _ERROR_BODY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
        return None, "" if text.startswith(("<", "{", "[")) else text
    return error.code, error.msg


_LONG_WORD = re.compile(r"[A-Za-z0-9]{40,}")


def quotable(text: str, *, secrets: tuple[str, ...] = ()) -> str:
    """Text from outside, fit for an exception: one short line without keys, secrets and signatures."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "<hidden>")
    text = _LONG_WORD.sub("<hidden>", text)
    return "".join(c if c.isprintable() else " " for c in text)[:DETAIL_CHARS]
