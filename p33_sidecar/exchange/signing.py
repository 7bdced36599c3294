"""Signs requests: the exact bytes that go out, and nothing else.

What may not happen here: a secret in a repr, or a byte that is signed and sent differently.

Facts (official docs, "SIGNED endpoint security"): HMAC-SHA256 in hex over the query string or form body as sent;
`signature` comes last; values are percent-encoded UTF-8 before signing (non-ASCII symbols fail with -1022 otherwise).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote, urlencode

import msgspec

from p33_sidecar.errors import ConfigurationInvalid

HIDDEN = "Credentials(api_key=<hidden>, api_secret=<hidden>)"


class Credentials(msgspec.Struct, frozen=True):
    """An API key and its secret. Raises ConfigurationInvalid for a key that cannot stand in an HTTP header."""

    api_key: str
    api_secret: str

    def __post_init__(self) -> None:
        if not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigurationInvalid(["the API key holds characters that cannot be sent"])

    def __repr__(self) -> str:
        return HIDDEN

    def __rich_repr__(self):
        yield HIDDEN

    @property
    def complete(self) -> bool:
        """Whether both parts are there."""
        return bool(self.api_key and self.api_secret)


def encode(params: Mapping[str, str]) -> str:
    """The parameters as they travel: in order, percent-encoded UTF-8, a space as `%20`."""
    return urlencode(params, quote_via=quote, safe="")


def sign(payload: str, *, secret: str) -> str:
    """The signature of an encoded payload, lower-case hex."""
    return hmac.new(secret.encode(), payload.encode("ascii"), hashlib.sha256).hexdigest()


def signed(params: Mapping[str, str], *, secret: str) -> str:
    """The encoded parameters with their signature as the last one."""
    payload = encode(params)
    return f"{payload}&signature={sign(payload, secret=secret)}"
