"""The eight points, each looked at by one function: what was found, and whether it is as it should be.

What may not happen here: a point that is passed because nothing answered. Who is away fails the points that need it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from ...core.record import policy_hash
from ...service.main import memory_of
from ...service.metrics import Metrics
from ...settings import Settings
from ...store.connect import ServerClock
from ..fetch import Page, fetch
from ..session import Session
from ..units import plain, span
from . import takings
from .canary import Flown, apply_words, fly, permit_words


class Point(msgspec.Struct, frozen=True):
    """One of the eight, as `--json` shows it."""

    name: str
    ok: bool
    detail: str


class Seen(msgspec.Struct, frozen=True):
    """What several points look at: the sidecar's own status, and the canary."""

    status: dict[str, Any]
    canary: Flown


def six(session: Session, *, wait_ms: int) -> tuple[list[Point], Seen]:
    """The points that ask the installation itself; the logs and the changes come on top."""
    settings = session.settings
    status = _decoded(fetch(settings, "/status.json"))
    seen = Seen(status, fly(session, wait_ms=wait_ms))
    return [service(settings, status), metrics(settings), snapshots(status), ledger(status), permits(seen.canary),
            apply_layer(session, seen.canary)], seen


def service(settings: Settings, status: dict[str, Any]) -> Point:
    """It lives, its loops turn, and a verdict can be ALLOW."""
    alive = fetch(settings, "/healthz")
    if alive.error:
        return Point("service", False, f"nobody answers on {alive.address}: {alive.said}")
    if alive.status != 200:
        return Point("service", False, f"stuck: {alive.said}")
    ready = fetch(settings, "/readyz")
    who = f"{plain(str(status.get('instance')))} version {plain(str(status.get('version')))} on {alive.address}"
    if ready.status != 200:
        return Point("service", False, f"{who} lives and denies every plan: {ready.said}")
    return Point("service", True, f"{who} is ready, exchange {plain(str(status.get('venue')))}")


def metrics(settings: Settings) -> Point:
    """Every family of this version is on /metrics: what alerts and dashboards name exists."""
    page = fetch(settings, "/metrics")
    if page.status != 200:
        return Point("metrics", False, f"/metrics on {page.address}: {page.said}")
    lacking = sorted(_families(_fresh(settings)) - _families(page.text))
    if lacking:
        return Point("metrics", False, f"not on /metrics: {', '.join(lacking)}")
    return Point("metrics", True, f"{len(_families(page.text))} families on {page.address}/metrics")


def snapshots(status: dict[str, Any]) -> Point:
    """Every symbol in scope was seen at the exchange lately."""
    symbols = status.get("symbols", [])
    if not symbols:
        return Point("snapshots", False, "no symbol is in scope" if status else "the sidecar does not answer")
    old = [f"{s['symbol']} {_age(s)}" for s in symbols if s["exchange"] is None or s["exchange"]["stale"]]
    if old:
        return Point("snapshots", False, plain(f"not fresh: {_some(old)}"))
    oldest = max(symbols, key=lambda s: s["exchange"]["age_ms"])
    limit_ms = status["policy"]["stale_threshold_ms"]
    return Point("snapshots", True, plain(f"{len(symbols)} symbols; the oldest, {oldest['symbol']}, is "
                                          f"{_age(oldest)} of {span(limit_ms)}"))


def _age(symbol: dict[str, Any]) -> str:
    return span(symbol["exchange"]["age_ms"]) if symbol["exchange"] else "never seen"


_WRONG: Final[tuple[tuple[str, Callable[[dict[str, Any]], object]], ...]] = (
    ("no ledger", lambda s: s["ledger"] is None),
    ("differs from the exchange", lambda s: s["disagreement"] or s["mismatch"]),
    ("changed by somebody else", lambda s: s["ledger"] and s["ledger"]["tampered"]),
    ("results may be missing", lambda s: s["ledger"] and s["ledger"]["gap"]),
    ("an order's fate is not known", lambda s: s["ledger"] and s["ledger"]["unsettled"]),
)


def ledger(status: dict[str, Any]) -> Point:
    """Every symbol in scope has a book, and it agrees with the exchange."""
    symbols = status.get("symbols", [])
    if not symbols:
        return Point("ledger", False, "no symbol is in scope" if status else "the sidecar does not answer")
    wrong = [f"{s['symbol']} {what}" for s in symbols for what, holds in _WRONG if holds(s)]
    if wrong:
        return Point("ledger", False, plain(_some(wrong)))
    held = [f"{s['symbol']} {s['ledger']['amt']}" for s in symbols if not s["flat"]]
    return Point("ledger", True, plain(f"{len(symbols)} books agree with the exchange; "
                                       f"held: {_some(held) if held else 'nothing'}"))


def permits(canary: Flown) -> Point:
    """The canary got its verdict, and its permit carries our signature."""
    return Point("permits", not canary.permit_problem,
                 f"canary {canary.plan_id}: {canary.permit_problem or permit_words(canary)}")


def apply_layer(session: Session, canary: Flown) -> Point:
    """It lives, blocked the canary, and every pair it took lately belongs to an ALLOW and led to one result."""
    page = fetch(session.settings, "/metrics", port_setting="APPLY_METRICS_PORT")
    taken = takings.look(session)
    problems = [canary.apply_problem, *taken.problems]
    if page.status != 200:
        problems.append(f"its metrics on {page.address}: {page.said}")
    elif "p33_apply_governor_only 1.0" in page.text:
        problems.append("Governor-only mode: orders go out without this gate")
    if found := [problem for problem in problems if problem]:
        return Point("apply_layer", False, plain("; ".join(found)))
    return Point("apply_layer", True, plain(f"{apply_words(canary)}; {taken.said}"))


# -- reading ----------------------------------------------------------------------------------------------------


def _decoded(page: Page) -> dict[str, Any]:
    try:
        return msgspec.json.decode(page.body, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


def _fresh(settings: Settings) -> str:
    memory = memory_of(settings)
    made = Metrics(memory, ServerClock(), version="", policy_hash=policy_hash(memory.policy), loosened=False)
    return made.render().decode()


def _families(text: str) -> set[str]:
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
