"""Pictures and tables for Dagster's metadata: below 1,000 characters whatever was found, foreign names kept text."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

import pytest

from p33_pipeline.render.markdown import INLINE, picture, table
from p33_pipeline.report.page import largest_timeline
from p33_pipeline.report.thumbnail import breaks_thumbnail, denials_thumbnail
from tests.pipeline.told import HOSTILE, audit, bad, broken, hours, huge, quiet


def drawn(markdown: str) -> ElementTree.Element:
    """The picture as the browser reads it."""
    encoded, = re.findall(r"!\[[^]]*]\(data:image/svg\+xml;base64,([^)]*)\)", markdown)
    return ElementTree.fromstring(base64.b64decode(encoded))


def texts(markdown: str) -> list[str]:
    return [element.text for element in drawn(markdown).iter() if element.tag.endswith("text")]


def test_each_symbol_has_its_row_the_dearest_first():
    """With the range's ends below it."""
    assert texts(breaks_thumbnail(bad().audit)) == ["BTCUSDT", "TRXUSDT", HOSTILE[:12] + "…", "01-25 00:00",
                                                    "01-26 00:00"]


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 40])
def test_what_does_not_fit_is_said(count):
    found = audit([broken(f"SYM{n}USDT", n * 1_000_000) for n in range(count)])
    markdown = breaks_thumbnail(found)
    rows = len(texts(markdown)) - 2
    assert len(markdown) < INLINE and rows >= min(count, 5)
    assert (f"and {count - rows} more symbol" in markdown) == (rows < count)


def test_ten_thousand_breaks_stand_inline():
    assert len(breaks_thumbnail(huge().audit)) < INLINE and "more symbols" in breaks_thumbnail(huge().audit)


def test_denials_are_drawn_and_counted():
    """The hour with the most says how many it had."""
    markdown = denials_thumbnail(hours({"halted": 1_234}))
    assert len(markdown) < INLINE and texts(markdown)[0] == "1,234 at most"


def test_nothing_is_said_as_nothing():
    assert (breaks_thumbnail(quiet().audit), denials_thumbnail(hours()), denials_thumbnail(())) == ("none",) * 3


def test_a_pages_picture_stands_alone():
    """With its own size, style and hours: nothing of the page is around it."""
    _, svg = largest_timeline(bad())
    found = drawn(picture(svg, "accounts"))
    names = [element.tag.rpartition("}")[2] for element in found.iter()]
    assert (found.get("width"), found.get("height")) == ("900", "120") and "use" not in names and "style" in names
    assert "12:00" in texts(picture(svg, "accounts")) and names.count("path") == 5


def test_a_week_of_denials_stands_inline_too():
    week = hours({"halted": 3}) * 7
    assert len(denials_thumbnail(week)) < INLINE


def test_a_table_stands_inline_and_says_what_it_leaves_out():
    """Long rows take the place of more rows; short cells do not break."""
    rows = [("2026-01-25 01:00", "x" * 150)] * 30
    said = table(("time", "finding"), rows, most=8)
    assert len(said) < INLINE and said.count("x" * 150) == 5 and said.endswith("25 more stand in the report.")
    assert "2026\u00a0" not in said and "2026-01-25\u00a001:00" in said
    assert table(("a",), []) == "none" and "more" not in table(("a",), [("b",)])
