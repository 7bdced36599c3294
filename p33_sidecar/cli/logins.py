"""Tries whether the server lets every program of an installation in, before one of them is started.

    python -m p33_sidecar.cli.logins FOLDER      # the credential folders; exit code 1 names who is not let in

What may not happen here: a password in what is said; a client's own words may hold the URL, so only their kind is told.
"""

from __future__ import annotations

import sys
from pathlib import Path

import redis

from .credentials import USERS

PATIENCE_S = 5


def refused(folder: Path) -> dict[str, str]:
    """Redis user -> what stood in the way. Raises OSError for a folder without logins."""
    found = {}
    for holder, user in USERS.items():
        url = (folder / holder / "REDIS_URL").read_text(encoding="utf-8").strip()
        try:
            with redis.Redis.from_url(url, protocol=2, socket_timeout=PATIENCE_S) as client:
                client.ping()
        except redis.RedisError as error:
            found[user] = type(error).__name__
    return found


def main(argv: list[str]) -> int:
    """0 when all are let in."""
    if len(argv) != 1:
        print("usage: python -m p33_sidecar.cli.logins FOLDER", file=sys.stderr)
        return 2
    try:
        found = refused(Path(argv[0]))
    except OSError as error:
        print(f"logins: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    for user, why in found.items():
        print(f"logins: Redis does not let {user} in ({why})", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
