"""What the commands write on: tables for people, JSON for programs. Nothing here reads the store.

Text that came from a stream goes through `plain` first; markup is off, so no message can colour itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from .units import plain

PIPE_WIDTH = 180
"""Columns of a table that nobody looks at directly: wide enough not to fold."""

UNBROKEN = frozenset({"symbol", "exchange", "ledger", "difference", "off by"})
"""Columns that are never folded, on a narrow terminal the others make room: half a name, or amount, is another one.
What is wider than the terminal itself is cut, with a mark that says so."""

GOOD, BAD, DIM, HEAD = "green", "bold red", "dim", "bold"


def console(*, stderr: bool = False) -> Console:
    """Where people read. Colours only on a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    on_terminal = stream.isatty()
    return Console(file=stream, markup=False, highlight=False, emoji=False, soft_wrap=False,
                   width=None if on_terminal else PIPE_WIDTH, force_terminal=None if on_terminal else False,
                   no_color=None if on_terminal else True)


def cell(value: Any, style: str = "") -> Text:
    """A value as one cell."""
    if isinstance(value, Text):
        return value
    return Text(plain(str(value)), style=style)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> Table:
    """A table; columns named in `right` hold numbers."""
    drawn = Table(title=title or None, title_justify="left", title_style=HEAD, header_style=HEAD, box=None,
                  pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        whole = name in UNBROKEN
        drawn.add_column(name, justify="right" if name in right else "left", no_wrap=whole,
                         overflow="ellipsis" if whole else "fold")
    for row in rows:
        drawn.add_row(*[cell(value) for value in row])
    return drawn


def pairs(title: str, rows: Iterable[tuple[str, Any]]) -> Table:
    """Names and values, one a line."""
    drawn = table(title, ("", ""), ((cell(name, DIM), value) for name, value in rows))
    drawn.show_header = False
    return drawn


def lines(said: Iterable[str], style: str = "") -> Text:
    """Lines of text below each other."""
    return Text("\n").join(cell(line, style) for line in said)


def page(*parts: Any) -> Group:
    """Parts below each other with a line between."""
    spaced: list[Any] = []
    for part in parts:
        if part is not None:
            spaced += [part, Text("")] if part is not parts[-1] else [part]
    return Group(*spaced)


def emit(value: Any) -> None:
    """One JSON document for a program, on stdout."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def note(message: str) -> None:
    """A line for people that is not part of the answer: stderr."""
    print(f"p33: {plain(message)}", file=sys.stderr)
