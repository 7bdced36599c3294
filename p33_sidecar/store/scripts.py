"""The Lua scripts: one file each under lua/, with `--!include` for the pieces they share.

Each is one atomic step. A script that was lost with the server's cache is loaded again and run.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources
from typing import Any, Final

import redis

NAMES: Final = ("facts", "issue", "reject", "book", "known", "forget", "aside", "snapshot", "halt", "resume",
                "switched", "pair", "look", "take", "take_governor", "result")
_INCLUDE: Final = re.compile(r"^--!include (\w+)$", re.MULTILINE)


@cache
def source(name: str) -> str:
    """The script's whole text, includes resolved; what an Apply Layer in another language loads."""
    text = (resources.files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda match: source(match[1]).rstrip(), text)


@cache
def sha(name: str) -> str:
    """The name under which the server knows the script."""
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


def call(name: str, keys: list[str], args: list[Any]) -> tuple[Any, ...]:
    """The EVALSHA command of one run."""
    return ("EVALSHA", sha(name), len(keys), *keys, *args)


def run(client: redis.Redis, name: str, keys: list[str], args: list[Any]) -> Any:
    """Run a script. Raises redis.RedisError like any command."""
    try:
        return client.execute_command(*call(name, keys, args))
    except redis.exceptions.NoScriptError:
        client.script_load(source(name))
        return client.execute_command(*call(name, keys, args))


def run_over_limit(client: redis.Redis, name: str, keys: list[str], args: list[Any]) -> Any:
    """Run a small script although the server's memory is full: for what must not wait until there is room."""
    known = client.script_load(f"#!lua flags=allow-oom\n{source(name)}")
    return client.execute_command("EVALSHA", known, len(keys), *keys, *args)


def load_all(client: redis.Redis) -> None:
    """Load every script, so that the first verdict does not pay for it."""
    for name in NAMES:
        client.script_load(source(name))


if __name__ == "__main__":
    import sys

    if len(sys.argv) != 2 or sys.argv[1] not in NAMES:
        sys.exit(f"usage: python -m {__package__}.scripts {'|'.join(NAMES)}")
    print(source(sys.argv[1]))
