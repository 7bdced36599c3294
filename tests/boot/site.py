"""What the chapters of the story stand on: commands, conditions with patience, units, Redis. Standard library only.

What may not happen here: a wait that never ends, or a command whose failure goes unseen.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

SIDECAR, APPLY, CANARY = "quantum-position-state-brain", "quantum-apply-layer", "quantum-p33-canary"
DAEMON, WEB = "quantum-p33-dagster-daemon", "quantum-p33-dagster-webserver"
ETC, BASE = Path("/etc/quantum"), Path("/opt/quantum/p33")
SETTINGS, USERS = ETC / "position-state-brain.env", ETC / "redis"
PATIENCE_S = 240


class Broken(AssertionError):
    """Not as it should be; the text says what was seen."""


def run(command: str, *, code: int | None = 0, **env: str) -> str:
    """A shell command as an operator types it; what it said. Raises Broken for another exit code."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=PATIENCE_S, check=False,
                          stdin=subprocess.DEVNULL, env=os.environ | env)
    if code is not None and done.returncode != code:
        raise Broken(f"`{command}` ended with {done.returncode}:\n{done.stdout[-2500:]}{done.stderr[-2500:]}")
    return done.stdout


def until(what: str, holds: Callable[[], object]) -> None:
    """Wait for a condition. Raises Broken when patience ends."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline_s:
            raise Broken(f"not within {PATIENCE_S} s: {what}")
        time.sleep(0.5)


def shown(unit: str, name: str) -> str:
    """A property of a unit."""
    return run(f"systemctl show --property={name} --value {unit}").strip()


def exposure(unit: str) -> str:
    """As systemd rates what it has loaded, 0 (none) to 10."""
    return re.search(r"exposure level for \S+: ([\d.]+)", run(f"systemd-analyze security --no-pager {unit}"))[1]


def expect(seen: object, wanted: object, what: str) -> None:
    if seen != wanted:
        raise Broken(f"{what}: {seen!r}, and not {wanted!r}")


def up() -> bool:
    return all(shown(unit, "ActiveState") == "active" for unit in (SIDECAR, APPLY)) and ready()


def ready() -> bool:
    return subprocess.run(["curl", "-fsS", "http://127.0.0.1:8045/readyz"], capture_output=True).returncode == 0


def redis(command: str, user: str = "p33-operator") -> str:
    return run(f"redis-cli --user {user} {command}", REDISCLI_AUTH=(USERS / f"{user}.password").read_text().strip())


def dagster(query: str, **variables: object) -> str:
    """What Dagster's GraphQL says; nothing while it does not answer."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request("http://127.0.0.1:3000/graphql", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()
    except OSError:
        return ""
