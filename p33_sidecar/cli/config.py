"""`p33 check-config`: would the sidecar start with these settings, and what should an operator think about first.

Reads the environment, or EnvironmentFiles as systemd would. Connects to nothing; quotes no secret.
"""

from __future__ import annotations

import difflib
import stat
from collections.abc import Mapping
from pathlib import Path

from ..errors import ConfigurationInvalid
from ..settings import SETTINGS, Settings, load
from . import paper
from .envfile import read_env_files
from .units import span

OURS = ("P33_", "APPLY_", "BINANCE_")


def check(env: Mapping[str, str], env_files: tuple[Path, ...], *, as_json: bool) -> int:
    """Print every problem and warning. 0: the settings can be used. With files, only they count."""
    problems: list[str] = []
    settings: Settings | None = None
    try:
        env = read_env_files(env_files) if env_files else env
        settings = load(env)
    except ConfigurationInvalid as invalid:
        problems = invalid.problems
    warnings = misspelt(env) + (doubtful(settings) + readable_secrets(env, env_files) if settings else [])
    if as_json:
        paper.emit({"ok": not problems, "problems": problems, "warnings": warnings,
                    "settings": settings.public() if settings else None})
    else:
        _print(settings, problems, warnings, env)
    return 1 if problems else 0


def misspelt(env: Mapping[str, str]) -> list[str]:
    """Names that look like ours and are not: a setting that nobody reads is worse than none."""
    known = {s.name for s in SETTINGS} | {f"{s.name}_FILE" for s in SETTINGS if s.secret}
    said = []
    for name in sorted(env):
        if name.startswith(OURS) and name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            said.append(f"{name} is not a setting" + (f"; did you mean {close[0]}?" if close else ""))
    return said


def doubtful(settings: Settings) -> list[str]:
    """What can be used and should not be got used to: what the service warns of at its start, and more."""
    stale_ms, poll_ms = settings["P33_STALE_THRESHOLD_SEC"], settings["P33_POLL_SEC"]
    checks = [
        (f"P33_STALE_THRESHOLD_SEC ({span(stale_ms)}) is shorter than a poll ({span(poll_ms)}): "
         "every second verdict waits for a refresh", stale_ms < poll_ms),
        (f"the main exchange is in use ({settings.exchange_url}): real money", settings.is_main_exchange),
        ("APPLY_GATE=governor: orders go out without this gate", settings["APPLY_GATE"] == "governor"),
        ("P33_COOLDOWN_SEC is 0: nothing waits for an order to settle", settings["P33_COOLDOWN_SEC"] == 0),
        ("P33_ALLOWLIST is empty: only symbols with a position are in scope", settings["P33_ALLOWLIST"] == frozenset()),
    ]
    return [*settings.warnings(), *(words for words, holds in checks if holds)]


def readable_secrets(env: Mapping[str, str], env_files: tuple[Path, ...]) -> list[str]:
    """Files with secrets that everybody on the host may read."""
    secrets = {s.name for s in SETTINGS if s.secret}
    files = {Path(env[f"{name}_FILE"]) for name in secrets if env.get(f"{name}_FILE")}
    if any(env.get(name) for name in secrets):
        files |= {Path(str(path).removeprefix("-")) for path in env_files}
    said = []
    for path in sorted(files):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if mode & stat.S_IROTH:
            said.append(f"{path} holds a secret and can be read by everybody (mode {stat.S_IMODE(mode):04o})")
    return said


def _print(settings: Settings | None, problems: list[str], warnings: list[str], env: Mapping[str, str]) -> None:
    out = paper.console()
    if settings is not None:
        given = {s.name for s in SETTINGS if env.get(s.name) or env.get(f"{s.name}_FILE")}
        rows = [(name, value or "-", "" if name in given else "default") for name, value in settings.public().items()]
        out.print(paper.table("", ("setting", "value", ""), rows))
    for warning in warnings:
        out.print(paper.cell(f"warning: {warning}", "yellow"))
    for problem in problems:
        out.print(paper.cell(f"problem: {problem}", paper.BAD))
    out.print(paper.cell("These settings cannot be used." if problems else "These settings can be used.", paper.HEAD))
