"""The credential folders of an installation: one file a secret, called like its setting, for systemd's LoadCredential.

    python -m p33_sidecar.cli.credentials FOLDER [--from testnet.env] [--redis-users FOLDER] [--env-file FILE]

`FOLDER` holds a folder for each program (`USERS`). What is there already stays as it is. What may not happen here: a
secret on the screen, in an argument, or in a file that others can read; a file that is there by half.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from pathlib import Path
from typing import Final

from ..errors import ConfigurationInvalid
from ..settings import MAIN_PAIR, TEST_PAIR, load
from ..store import rights
from .envfile import read_env_files

SIDECAR, APPLY, OPERATOR, PIPELINE = "position-state-brain", "apply-layer", "operator", "pipeline"
HOLDERS: Final = (SIDECAR, APPLY, OPERATOR)
"""Folders of the programs that know the permits' key; the pipeline has no need of it."""
USERS: Final = {SIDECAR: rights.SIDECAR, APPLY: rights.APPLY, OPERATOR: rights.OPERATOR, PIPELINE: rights.PIPELINE}
"""Folder -> the Redis user of the program that reads it."""
KEY, PREVIOUS = "P33_PERMIT_KEY", "P33_PERMIT_KEY_PREVIOUS"
KEY_BYTES: Final = 32


class Unsound(Exception):
    """The folders contradict each other; a person has to say which is right."""


def main(argv: list[str]) -> int:
    """Fill what is missing and say what was done, by names."""
    options = _parser().parse_args(argv)
    try:
        told = fill(options.folder, exchange_from=options.exchange_from, redis_users=options.redis_users,
                    env_file=options.env_file)
    except (OSError, Unsound, ConfigurationInvalid) as error:
        print(f"credentials: {error}", file=sys.stderr)
        return 1
    print("\n".join(told or ["nothing was missing"]))
    return 0


def fill(folder: Path, *, exchange_from: Path | None, redis_users: Path | None, env_file: Path | None) -> list[str]:
    """Everything that is missing. Raises OSError, Unsound, ConfigurationInvalid."""
    for holder in USERS:
        (folder / holder).mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / holder).chmod(0o700)
    told = _exchange_keys(folder, exchange_from) if exchange_from else []
    told += _permit_key(folder)
    return told + (_redis_urls(folder, redis_users, env_file) if redis_users else [])


def permit_keys(folder: Path, name: str = KEY) -> dict[Path, str]:
    """The key's files that exist, and what they hold."""
    paths = [folder / holder / name for holder in HOLDERS]
    return {path: path.read_text(encoding="utf-8").rstrip("\n") for path in paths if path.exists()}


def new_key() -> str:
    return secrets.token_hex(KEY_BYTES)


def put(path: Path, secret: str) -> None:
    """All of it or nothing, readable by its owner alone."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _exchange_keys(folder: Path, source: Path) -> list[str]:
    values, told = read_env_files((source,)), []
    for holder in (SIDECAR, APPLY, PIPELINE):
        if any((folder / holder / name).exists() for name in MAIN_PAIR + TEST_PAIR):
            continue
        found = [name for name in MAIN_PAIR + TEST_PAIR if values.get(name, "").strip()]
        for name in found:
            put(folder / holder / name, values[name].strip())
        told.append(f"{holder}: {', '.join(found)} taken over from {source}" if found
                    else f"{holder}: {source} names no exchange credentials")
        if found and holder != APPLY:
            told.append(f"{holder}: a read-only key is enough for it; this one is the Apply Layer's, too")
    return told


def _permit_key(folder: Path) -> list[str]:
    kept = permit_keys(folder)
    if len(set(kept.values())) > 1:
        raise Unsound(f"{KEY} differs between {', '.join(str(path) for path in kept)}")
    key = next(iter(kept.values()), None) or new_key()
    lacking = [holder for holder in HOLDERS if folder / holder / KEY not in kept]
    for holder in lacking:
        put(folder / holder / KEY, key)
    return [f"{KEY} {'copied to' if kept else 'created for'} {', '.join(lacking)}"] if lacking else []


def _redis_urls(folder: Path, users: Path, env_file: Path | None) -> list[str]:
    values = read_env_files((env_file,)) if env_file else {}
    told = []
    for holder, user in USERS.items():
        path = folder / holder / "REDIS_URL"
        if path.exists():
            continue
        password = (users / f"{user}.password").read_text(encoding="ascii").rstrip("\n")
        put(path, load({**values, "REDIS_USERNAME": user, "REDIS_PASSWORD": password}).redis_url)
        told.append(f"{holder}: logs in to Redis as {user}")
    return told


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m p33_sidecar.cli.credentials")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--from", type=Path, dest="exchange_from", help="an env file with the exchange's credentials")
    parser.add_argument("--redis-users", type=Path, help="the folder that p33_sidecar.cli.redis_users made")
    parser.add_argument("--env-file", type=Path, help="where Redis is")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
