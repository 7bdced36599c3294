"""EnvironmentFile= as systemd reads it, so that a file can be checked before a service is started with it.

Source: systemd.exec(5). Lines `NAME=value`; `#` and `;` begin comment lines; a backslash at the end of a line goes
on with the next; single quotes keep everything, double quotes know backslash escapes; a later file wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import ConfigurationInvalid

_ESCAPED_IN_DOUBLE = '"\\`$'


def read_env_files(paths: Iterable[Path]) -> dict[str, str]:
    """The variables of these files. Raises ConfigurationInvalid for one that cannot be read and has no leading `-`."""
    values: dict[str, str] = {}
    problems: list[str] = []
    for path in paths:
        optional, name = str(path).startswith("-"), Path(str(path).removeprefix("-"))
        try:
            values |= parse_env_file(name.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            if not optional:
                problems.append(f"--env-file={name}: a file that can be read "
                                f"({getattr(error, 'strerror', None) or 'not UTF-8 text'})")
    if problems:
        raise ConfigurationInvalid(problems)
    return values


def parse_env_file(content: str) -> dict[str, str]:
    """NAME -> value. Lines that are no assignment are passed over, like systemd does."""
    values: dict[str, str] = {}
    rest = content
    while rest:
        line, _, rest = rest.partition("\n")
        stripped = line.lstrip()
        if not stripped or stripped[0] in "#;" or "=" not in stripped:
            continue
        name, _, begun = stripped.partition("=")
        value, rest = _value(begun + "\n" + rest)
        if name.strip().isidentifier():
            values[name.strip()] = value
    return values


def _value(text: str) -> tuple[str, str]:
    """(value, what follows its line)."""
    value, at, trailing = "", 0, 0
    while at < len(text) and text[at] in " \t":
        at += 1
    while at < len(text) and text[at] != "\n":
        if text[at] in "'\"":
            piece, at = _quoted(text, at)
            value += piece
            trailing = 0
        elif text[at] == "\\":
            piece = text[at + 1:at + 2]
            value += "" if piece == "\n" else piece
            at, trailing = at + 2, 0
        else:
            trailing = trailing + 1 if text[at].isspace() else 0
            value += text[at]
            at += 1
    return value[:len(value) - trailing], text[at + 1:]


def _quoted(text: str, at: int) -> tuple[str, int]:
    """(content, position after the closing quote); an open quote runs to the end of the file."""
    quote, piece = text[at], ""
    at += 1
    while at < len(text) and text[at] != quote:
        if quote == '"' and text[at] == "\\" and at + 1 < len(text):
            follows = text[at + 1]
            piece += "" if follows == "\n" else follows if follows in _ESCAPED_IN_DOUBLE else "\\" + follows
            at += 2
        else:
            piece += text[at]
            at += 1
    return piece, at + 1
