"""Makes the deployment's Redis users: a password for each, and the ACL file that knows only their hashes.

    python -m p33_sidecar.cli.redis_users FOLDER [--env-file FILE]

Stream names come from P33_PLAN_STREAM and P33_RESULT_STREAM, of the environment or of the file, which wins. A user
whose password file is there already keeps its password, and users that somebody added to the file stay in it. What may
not happen here: a password on the screen or in a file that others can read.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import sys
from pathlib import Path

from ..errors import ConfigurationInvalid
from ..settings import load
from ..store import rights
from .envfile import read_env_files

PASSWORD_BYTES = 32


def main(argv: list[str]) -> int:
    """Write `users.acl` and one `<user>.password` for each user into the folder."""
    options = _parser().parse_args(argv)
    try:
        settings = load({**os.environ, **read_env_files(options.env_file)})
        folder = write(options.folder, plans=settings["P33_PLAN_STREAM"], results=settings["P33_RESULT_STREAM"])
    except (OSError, UnicodeDecodeError, ConfigurationInvalid) as error:
        print(f"redis_users: {error}", file=sys.stderr)
        return 1
    print(f"{folder}: users.acl for the server's aclfile, and a password file for each user (REDIS_PASSWORD_FILE)")
    return 0


def write(folder: Path, *, plans: str, results: str) -> Path:
    """Make what is missing. Raises OSError, and UnicodeDecodeError for a file that is no text."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)  # the server, another user, reaches users.acl by name
    users = rights.users(plans, results)
    hashes = {user.name: _hash(_password(folder / f"{user.name}.password")) for user in users}
    path = folder / "users.acl"
    _put(path, rights.acl_file(users, hashes) + _added(path, ours={"default", *hashes}), mode=0o644)
    return folder


def _added(path: Path, *, ours: set[str]) -> str:
    """The lines of other users: a planner's, an administrator's."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return "".join(f"{line}\n" for line in lines
                   if (words := line.split())[:1] == ["user"] and words[1:] and words[1] not in ours)


def _password(path: Path) -> str:
    if not path.exists():
        _put(path, secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
    return path.read_text(encoding="ascii").rstrip("\n")


def _hash(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _put(path: Path, content: str, *, mode: int = 0o600) -> None:
    """All of it or nothing. The server reads the ACL file as another user; a hash of so long a secret gives nothing."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask
        file.write(content)
    fresh.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m p33_sidecar.cli.redis_users")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--env-file", type=Path, action="append", default=[], help="settings, as systemd reads them")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
