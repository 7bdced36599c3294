"""`p33`, the operator's tool. It works from Redis alone, so that it answers also when the sidecar is down.

Tables for people, `--json` for programs, colours only on a terminal. Everything heavy is imported by the command
that needs it. Exit codes: 0 and 1 answer yes/no questions, 2 wrong usage, 69 Redis unreachable, 78 configuration.
What could not be done is a line on stderr; for a program that asked with `--json`, a document on stdout as well.
"""

from __future__ import annotations

import json
import os
import sys
from typing import NoReturn, TextIO

USAGE, UNAVAILABLE, CONFIGURATION = 2, 69, 78


def main() -> NoReturn:
    """Run the command line given to this process, and end it with its exit code."""
    sys.exit(run())


def run() -> int:
    """Run the command line; every expected failure is one line on stderr and a code."""
    sys.stdout, sys.stderr = (_heard(stream) for stream in (sys.stdout, sys.stderr))
    try:
        from .app import app
    except ModuleNotFoundError as missing:
        if missing.name not in ("typer", "rich"):
            raise
        return _failed(f"needs {missing.name}: pip install 'p33[cli]'", USAGE)
    from ..errors import ConfigurationInvalid, P33Error, StoreUnavailable
    try:
        return app(standalone_mode=True) or 0
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else USAGE
    except ConfigurationInvalid as invalid:
        return _failed("\n".join(invalid.problems), CONFIGURATION)
    except StoreUnavailable as gone:
        return _failed(f"Redis does not serve us: {gone}", UNAVAILABLE)
    except P33Error as error:
        return _failed(str(error), 1)


def _heard(stream: TextIO | None) -> TextIO:
    """The stream, whatever it cannot write; none (a caller that closed it) is no reason not to halt."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the life of the process
    stream.reconfigure(errors="replace")
    return stream


def _failed(what: str, code: int) -> int:
    for line in what.splitlines():
        _say(f"p33: {line}", sys.stderr)
    if "--json" in sys.argv[1:]:
        _say(json.dumps({"ok": False, "error": what, "exit_code": code}), sys.stdout)
    return code


def _say(line: str, stream: TextIO) -> None:
    """A line that nobody may read any more: the exit code says it all the same."""
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
