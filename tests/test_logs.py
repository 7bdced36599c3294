"""Lines a person can grep and a machine can read, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
from decimal import Decimal

import pytest

from p33_sidecar import logs


@pytest.fixture
def lines():
    """Set the log up on a text stream, and put everything back afterwards."""
    root, before = logging.getLogger(), (logging.getLogger().handlers[:], logging.getLogger().level)
    secrets, level = set(logs._secrets), logs.logger().level

    def start(fmt="text", level="DEBUG"):
        stream = io.StringIO()
        logs.setup(level, fmt, stream=stream)
        return lambda: stream.getvalue().splitlines()

    yield start
    root.handlers[:], root.level = before
    logs.logger().setLevel(level)
    logs._secrets.clear()
    logs._secrets.update(secrets)


@pytest.mark.parametrize(("value", "written"), [
    ("timeout", "timeout"), (4003, "4003"), (True, "true"), (Decimal("0.0280"), "0.028"),
    (Decimal("1E-8"), "0.00000001"),
    ("two words", '"two words"'), ("", '""'), ('say "x"', '"say \\"x\\""'), ("a=b", '"a=b"'), ("币安", "币安"),
    ("a\nforged.event b=c", '"a\\nforged.event b=c"'), ("\x1b[31m", '"\\x1b[31m"'), ("x\u2028y", '"x\\u2028y"'),
])
def test_a_value_is_written_so_that_it_cannot_break_its_line(lines, value, written):
    """Spaces are quoted, control characters escaped, decimals canonical."""
    out = lines()
    logs.event(logs.logger(), logging.INFO, "poll.failed", kind=value)
    (line,) = out()
    assert line.split(" ", 1)[1] == f"INFO poll.failed kind={written}"


def test_json_is_one_object_a_line(lines):
    """Machines get the same fields, none lost to a clash with the line's own."""
    out = lines("json")
    logs.event(logs.logger(), logging.WARNING, "poll.failed", kind="a\nb", took_ms=3, level="x", absent=None)
    (line,) = out()
    said = json.loads(line)
    assert said.pop("at").endswith("Z")
    assert said == {"level": "WARNING", "event": "poll.failed", "kind": "a\nb", "took_ms": 3, "level_": "x"}


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_a_registered_secret_never_shows(lines, fmt):
    """Not in a field, a message, an exception's text or its traceback, and not as a URL or JSON writes it."""
    secret = 'p@ss/w"ord\\é'
    logs.register_secret(secret)
    logs.register_secret("abc")
    out = lines(fmt)
    logs.event(logs.logger(), logging.INFO, "redis.connected", url="redis://u:p%40ss%2Fw%22ord%5C%C3%A9@h", pin="abc")
    logs.logger().warning("raw %s", secret)
    try:
        raise ValueError(f"bad {secret}")
    except ValueError:
        logs.event(logs.logger(), logging.ERROR, "loop.failed", exc_info=True, said=secret)
    text = "\n".join(out())
    assert len(out()) == 3
    assert "ss/w" not in text and "ss%2Fw" not in text and "ord" not in text
    assert text.count("***") >= 5 and "abc" not in text


def test_a_short_secret_does_not_mask_other_words(lines):
    """A password `a` is hidden as a value; it does not turn every line into stars."""
    logs.register_secret("a")
    out = lines()
    logs.event(logs.logger(), logging.INFO, "task.started", by="a", name="banana")
    assert out()[0].endswith("INFO task.started by=*** name=banana")


def test_levels_hold_for_us_and_other_libraries_only_warn(lines):
    """P33_LOG_LEVEL is ours; httpx, which logs whole URLs at INFO, stays quiet."""
    out = lines(level="INFO")
    logs.logger().debug("quiet.event")
    logging.getLogger("httpx").info("GET https://x/?signature=1")
    logging.getLogger("httpx").warning("loud")
    logs.logger().info("seen.event")
    assert [line.split(" ", 1)[1] for line in out()] == ["WARNING loud", "INFO seen.event"]
