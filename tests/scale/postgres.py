"""A real Postgres of one run's own: made in a temporary folder, on a port of its own, gone afterwards.

Postgres refuses to run as root: there it is given to `nobody`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

USER, PASSWORD, DATABASE = "dagster", "rehearsal-secret", "dagster"
NOBODY = "nobody"
DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian keeps them, away from PATH."""
PROGRAMS = ("initdb", "pg_ctl", "postgres", "createdb")


class NotHere(RuntimeError):
    """What is missing on this machine, and how to get it."""


class Postgres:
    """One server with the database that `deployment/dagster/postgres.yaml` names."""

    def __init__(self) -> None:
        self._bin = programs()
        self._home = Path(tempfile.mkdtemp(prefix="p33-postgres-"))
        self._data, self._log = self._home / "data", self._home / "server.log"
        self.port = _free_port()

    @property
    def version(self) -> str:
        return self._said("postgres", "--version").split("(PostgreSQL) ")[-1].split()[0]

    @property
    def env(self) -> dict[str, str]:
        """What the configuration reads."""
        return {"DAGSTER_PG_HOST": "127.0.0.1", "DAGSTER_PG_PORT": str(self.port), "DAGSTER_PG_USER": USER,
                "DAGSTER_PG_PASSWORD": PASSWORD}

    def __enter__(self) -> Self:
        secret = self._home / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (self._home, secret):
                shutil.chown(path, NOBODY)
        self._said("initdb", "-D", str(self._data), "-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}",
                   "--encoding=UTF8", "--no-sync")
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._said("pg_ctl", "-D", str(self._data), "-l", str(self._log), "-o", options, "-w", "-t", "120", "start")
        self._said("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, DATABASE)
        return self

    def __exit__(self, *_: object) -> None:
        self._said("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(self._home, ignore_errors=True)

    def _said(self, program: str, *arguments: str) -> str:
        """Run one of the server's programs as whoever may; what it said."""
        as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={pwd.getpwnam(NOBODY).pw_gid}", "--clear-groups"]
        done = subprocess.run(
            [*(as_nobody if os.geteuid() == 0 else []), str(self._bin / program), *arguments], cwd=self._home,
            env=os.environ | {"PGPASSWORD": PASSWORD, "LC_ALL": "C"}, check=False, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            log = self._log.read_text(errors="replace")[-1000:] if self._log.exists() else ""
            raise RuntimeError(f"{program} ended with {done.returncode}: {done.stdout[-1000:]}{log}")
        return done.stdout


def programs() -> Path:
    """The folder with Postgres's programs. Raises NotHere."""
    folders = [*map(Path, os.environ.get("PATH", "").split(os.pathsep)),
               *sorted(DEBIAN.glob("*/bin"), reverse=True)]
    for folder in folders:
        if all((folder / program).exists() for program in PROGRAMS):
            return folder
    raise NotHere(f"no folder with {', '.join(PROGRAMS)}: install Postgres (Debian: apt-get install postgresql) and "
                  "put its programs on PATH")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
