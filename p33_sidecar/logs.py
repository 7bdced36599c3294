"""One line for each event: `noun.verb key=value` for people, JSON for machines.

What may not happen here: a secret in a line (every registered one is masked, whatever field or traceback it came
in with), or a line that a value from outside breaks in two or fakes: control characters are written escaped.

    log = logs.logger()
    logs.event(log, logging.WARNING, "poll.failed", kind="timeout", took_ms=4003)
    2026-01-25T00:43:28.976Z WARNING poll.failed kind=timeout took_ms=4003
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, TextIO
from urllib.parse import quote

from .core.quantity import text as plain

NAME: Final = "p33"
MASK: Final = "***"
SHORTEST_INSIDE: Final = 6
"""A secret shorter than this is masked where it is the whole value; inside other text it would mask half the log."""

_secrets: set[str] = set()


def register_secret(text: str) -> None:
    """From now on this text is masked in every line, also as URLs and JSON write it. Empty text is ignored."""
    if text:
        in_json = (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
        _secrets.update((text, quote(text, safe=""), *in_json))


def masked(text: str) -> str:
    """The text without any registered secret."""
    if text in _secrets:
        return MASK
    for secret in sorted(_secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_INSIDE:
            text = text.replace(secret, MASK)
    return text


def logger() -> logging.Logger:
    """The logger of p33."""
    return logging.getLogger(NAME)


def event(log: logging.Logger, level: int, name: str, /, *, exc_info: Any = None, **fields: Any) -> None:
    """Log one event. A field that is None is left out; a Decimal is written in canonical plain notation."""
    log.log(level, name, exc_info=exc_info, extra={"fields": fields})


def setup(level: str = "INFO", fmt: str = "text", *, stream: TextIO | None = None) -> None:
    """Write events to `stream` (standard error) from `level` on; other libraries only from WARNING on.

    `fmt` is `text` or `json` (P33_LOG_FORMAT). May be called again: the last call holds.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if fmt == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logger().setLevel(level)


class TextLines(logging.Formatter):
    """`time LEVEL noun.verb key=value ...`; values with spaces, quotes or control characters are quoted."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_when(record)} {record.levelname} {_escaped(masked(record.getMessage()))}"
        pairs = (f"{key}={_quoted(value)}" for key, value in _fields(self, record).items())
        return masked(" ".join((head, *pairs)))


class JsonLines(logging.Formatter):
    """One JSON object: `at`, `level`, `event`, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"at": _when(record), "level": record.levelname, "event": masked(record.getMessage())}
        for key, value in _fields(self, record).items():
            line[f"{key}_" if key in line else key] = value
        return masked(json.dumps(line, ensure_ascii=True))


def _when(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, Any]:
    """The event's fields, masked and printable; an exception becomes `error` and `trace`."""
    given = getattr(record, "fields", None)
    found = {str(k): _value(v) for k, v in given.items() if v is not None} if isinstance(given, Mapping) else {}
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        found.setdefault("error", masked(f"{type(error).__name__}: {error}"))
        found["trace"] = masked(formatter.formatException(record.exc_info))
    return found


def _value(value: Any) -> str | int | bool:
    if isinstance(value, bool | int):
        return value
    if isinstance(value, Decimal) and value.is_finite():
        return plain(value)
    return masked(str(value))


def _quoted(value: str | int | bool) -> str:
    written = str(value).lower() if isinstance(value, bool) else str(value)
    if written.isprintable() and written and not any(c in written for c in ' "=\\'):
        return written
    return '"' + _escaped(written.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escaped(text: str) -> str:
    """Everything that could move the cursor, end the line or hide, as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
