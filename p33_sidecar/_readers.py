"""How a setting's text becomes its value: one small reader for each kind.

A reader raises ValueError for what cannot be used and never says what it was given: what may be shown of a
value is decided in one place, `shown`, and of a secret nothing may.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from .core.permit import LEAST_KEY_BYTES
from .core.plan import MessageRefused, symbol_of
from .core.quantity import parse, scaled

SHOWN_MAX: Final = 120
_PLAIN_NUMBER: Final = re.compile(r"\d+(\.\d+)?\Z", re.ASCII)
_DATABASE: Final = re.compile(r"\d{1,7}\Z", re.ASCII)
_REDIS_OPTIONS: Final = ("db", "username", "password")
_BOOLEANS: Final = {
    "true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False,
}


class Secret:
    """A value that does not print itself. `.reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)" if self._value else "Secret()"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


def boolean(text: str) -> bool:
    """Whatever people type for yes and no, in any case."""
    if text.lower() not in _BOOLEANS:
        raise ValueError("neither yes nor no")
    return _BOOLEANS[text.lower()]


def decimal(least: str, most: str) -> Callable[[str], Decimal]:
    """A plain number within bounds, exact. No exponent, sign or `0x`: what looks odd is more likely a mistake."""

    def read(text: str) -> Decimal:
        if not _PLAIN_NUMBER.match(text) or not Decimal(least) <= parse(text) <= Decimal(most):
            raise ValueError("no plain number within bounds")
        return parse(text)

    return read


def milliseconds(least: str, most: str) -> Callable[[str], int]:
    """Seconds with fractions, as whole milliseconds."""
    in_seconds = decimal(least, most)

    def read(text: str) -> int:
        return int(scaled(in_seconds(text), 3))

    return read


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number within bounds, in plain digits."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 20 or not least <= int(text) <= most:
            raise ValueError("no whole number within bounds")
        return int(text)

    return read


def one_of(*values: str, fold: Callable[[str], str]) -> Callable[[str], str]:
    """One of a few words, in the case the table writes them."""

    def read(text: str) -> str:
        if fold(text) not in values:
            raise ValueError("not one of the words")
        return fold(text)

    return read


def url(*schemes: str) -> Callable[[str], str]:
    """A URL of one of the schemes, with a host (a unix socket has a path instead)."""

    def read(text: str) -> str:
        parts = urlsplit(text)
        place = parts.path if parts.scheme == "unix" else parts.hostname
        if parts.scheme not in schemes or not place or any(c.isspace() for c in text):
            raise ValueError("not such a URL")
        if parts.scheme != "unix":
            _ = parts.port  # raises ValueError where it is none
        return text

    return read


def redis_url(text: str) -> str:
    """A server's URL whose database is a number: redis-py takes number 0 for one that is none, and dies later of an
    option it does not know. The options that change how replies are read are ours to set."""
    parts = urlsplit(url("redis", "rediss", "unix")(text))
    options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    databases = [value for name, value in options if name == "db"]
    if parts.scheme != "unix" and parts.path.strip("/"):
        databases.append(parts.path.removeprefix("/").removesuffix("/"))
    if any(not _DATABASE.match(number) for number in databases):
        raise ValueError("no database's number")
    if any(name not in _REDIS_OPTIONS and not name.startswith("ssl_") for name, _ in options):
        raise ValueError("an option that is not known")
    return text


def base_url(text: str) -> str:
    """An http(s) URL that paths can be added to: without login, query or fragment. Less its final slash."""
    parts = urlsplit(url("http", "https")(text))
    if "@" in parts.netloc or "?" in text or "#" in text:
        raise ValueError("more than a base URL")
    return text.rstrip("/")


def place(text: str) -> str:
    """Where an archive lives: a path, or a file:// or s3:// URL."""
    if "://" in text and urlsplit(text).scheme not in ("file", "s3"):
        raise ValueError("not such a place")
    return text


def database(text: str) -> str:
    """A database as SQLAlchemy names it: a file of SQLite's or a Postgres."""
    if not text.startswith(("sqlite:///", "postgresql://", "postgresql+")) or any(c.isspace() for c in text):
        raise ValueError("not such a database")
    return text


def allowlist(text: str) -> frozenset[str] | None:
    """Symbols separated by commas, in the exchange's upper case; None for `*`, which stands alone."""
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    if names == ["*"]:
        return None
    if "*" in names:
        raise ValueError("* beside symbols")
    try:
        return frozenset(symbol_of(name) for name in names)
    except MessageRefused as refused:
        raise ValueError("not a symbol") from refused


def key(text: str) -> Secret:
    """A signing key of enough bytes, or none."""
    if text and len(text.encode()) < LEAST_KEY_BYTES:
        raise ValueError("too short")
    return Secret(text)


def name(text: str) -> str:
    """Printable text without white space, at most 128 characters."""
    if not text.isprintable() or any(c.isspace() for c in text) or len(text) > 128:
        raise ValueError("not a name")
    return text


def host(text: str) -> str:
    """A host name or address, and nothing that would read as another part of a URL."""
    if any(c in "/@?#[]" for c in name(text)):
        raise ValueError("not a host")
    return text


def bare(text: str) -> str:
    """The value without surrounding white space, one pair of quotes, and a comment after it.

    A comment is white space and `#`. A `#` with nothing before it begins one only where white space follows
    (systemd strips what stood before): `#x1` may be a password.
    """
    if re.match(r"\s+#|#(\s|\Z)", text):
        return ""
    text = text.strip()
    quoted = re.match(r"(['\"])(.*?)\1(\s+#.*)?\Z", text, re.DOTALL)
    if quoted:
        return quoted[2]
    return re.split(r"\s+#", text, maxsplit=1)[0]


def shown(text: str) -> str:
    """The value as a message may show it: on one line, bounded, without a URL's login or query."""
    text = re.sub(r"//.*@", "//***@", text, flags=re.DOTALL)
    text = re.sub(r"(://[^?#]*[?#]).*", r"\1***", text, flags=re.DOTALL)
    line = text if text.isprintable() else ascii(text)[1:-1]
    return line if len(line) <= SHOWN_MAX else line[:SHOWN_MAX] + "..."
