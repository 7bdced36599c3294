"""What `p33 status` and `p33 watch` show: can a verdict be ALLOW now, what stands where, what deserves a second look.

Everything is read from Redis; the sidecar itself is asked only whether it is ready, and may be down.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec
import redis

from ..core.model import Phase, Policy
from ..core.record import policy_hash
from ..exchange.venue import venue_of
from ..settings import Settings
from ..store import keys, switches
from ..store.connect import EVICTS, NOT_DURABLE, is_durable, may_evict, store_errors
from ..store.positions import BanUnreadable, PositionStore, RedisBans
from ..store.reading import Reading, Standing
from ..store.settling import not_free
from .asking import Sidecar, ask_sidecar
from .session import Session
from .units import amount, moment, plain, span

LAST_VERDICTS = 8
SETTLING = "settling"


class Overview(msgspec.Struct, frozen=True):
    """One look at everything, as `--json` shows it."""

    ready: bool
    at_ms: int
    warnings: list[str]
    sidecar: Sidecar
    store: dict[str, Any]
    halts: dict[str, dict]
    symbols: list[dict[str, Any]]
    plans: dict[str, Any]
    verdicts: list[dict[str, Any]]


def overview(session: Session, *, everything: bool = False) -> Overview:
    """One look. Raises StoreUnavailable."""
    reading, settings = session.reading, session.settings
    at_ms = reading.now_ms()
    policy = session.policy
    halts = switches.halts(session.redis)
    standings = reading.standings(reading.symbols())
    store = _store(session)
    sidecar = ask_sidecar(settings)
    incidents = PositionStore(session.redis).mismatches()
    own = sidecar.warnings if sidecar.ready is not None else _standing_in(settings, policy)
    warnings = list(dict.fromkeys([*own, *_warnings(session, store, halts, standings, incidents)]))
    allowlist = settings["P33_ALLOWLIST"] or frozenset()
    shown = [s for s in standings if everything or _worth_showing(s, policy, allowlist)]
    return Overview(
        ready=bool(sidecar.ready) and "" not in halts, at_ms=at_ms, warnings=warnings,
        sidecar=sidecar, store=store, halts=halts,
        symbols=[_symbol(s, policy, session, incidents.get(s.symbol)) for s in shown],
        plans=_plans(session), verdicts=last_verdicts(reading, at_ms),
    )


def _standing_in(settings: Settings, policy: Policy) -> list[str]:
    """What a sidecar of these settings would warn of, where it does not answer itself."""
    notes = list(settings.warnings())
    if policy != settings.policy:
        notes.append(f"the gate decides under other thresholds ({policy_hash(policy)}) than this environment's "
                     f"({policy_hash(settings.policy)})")
        if policy.loosened:
            notes.append(f"its stale threshold was loosened to {span(policy.stale_threshold_ms)}")
    return notes


def _store(session: Session) -> dict[str, Any]:
    with store_errors():
        durable, evicts = is_durable(session.redis), may_evict(session.redis)
        venue, accepted = session.redis.get(keys.VENUE), session.redis.get(keys.RUN_ID) or ""
        gap = session.redis.get(keys.GAP) or "0"
        unsettled = session.redis.hlen(keys.UNSETTLED)
    return {"durable": durable, "evicts": evicts, "venue": venue, "our_venue": venue_of(session.settings.exchange_url),
            "restarted": bool(accepted) and accepted != session.link.run_id, "ban_until_ms": _ban_until_ms(session),
            "gap_ms": int(gap) if gap.isdigit() else None, "unsettled_orders": unsettled}


def _ban_until_ms(session: Session) -> int | None:
    """None: there is no knowing."""
    try:
        return RedisBans(session.redis).ban_until_ms()
    except BanUnreadable:
        return None


def _warnings(session: Session, store: dict, halts: dict, standings: list[Standing], incidents: dict) -> list[str]:
    now_ms = standings[0].now_ms if standings else session.reading.now_ms()
    foreign = store["venue"] and store["venue"] != store["our_venue"]
    checks = [
        (NOT_DURABLE, store["durable"] is False),
        (EVICTS, store["evicts"]),
        ("Redis does not say whether it keeps an append-only file", store["durable"] is None),
        (f"this database belongs to {store['venue']}, not to {store['our_venue']}", foreign),
        ("the Redis server restarted and is not trusted yet", store["restarted"]),
        (f"the exchange has banned us until {moment(store['ban_until_ms'])}", (store["ban_until_ms"] or 0) > now_ms),
        (f"{keys.BAN} holds no time: nothing is asked of the exchange", store["ban_until_ms"] is None),
        (f"{keys.GAP} holds no time: every book is doubted", store["gap_ms"] is None),
        (f"{store['unsettled_orders']} orders whose fate is not known", store["unsettled_orders"] > 0),
        ("halted: " + ", ".join(symbol or "everything" for symbol in sorted(halts)), bool(halts)),
        ("book and exchange differ: " + ", ".join(sorted(incidents)), bool(incidents)),
    ]
    said = [plain(words) for words, holds in checks if holds]
    flags = (("a ledger hash was changed by somebody else", [s.symbol for s in standings if s.tampered]),
             ("results may be missing (gap)", [s.symbol for s in standings if s.gap]),
             ("the book cannot be read", [s.symbol for s in standings if s.unreadable]))
    return said + [plain(f"{words}: {', '.join(names)}") for words, names in flags if names]


def _worth_showing(standing: Standing, policy: Policy, allowlist: frozenset[str]) -> bool:
    quiet = standing.flat and standing.phase(policy)[0] == Phase.FREE
    return not quiet or standing.tampered or standing.gap or standing.symbol in allowlist


def _symbol(standing: Standing, policy: Policy, session: Session, incident: dict | None) -> dict[str, Any]:
    book, (phase, ends_ms, _) = standing.line.book, standing.phase(policy)
    settling = phase == Phase.FREE and bool(not_free(standing, policy, orders=[]))
    flags = [name for name, holds in (
        ("tampered", standing.tampered), ("gap", standing.gap), ("unsettled", bool(standing.line.unsettled)),
        ("held", standing.state.held != "0"), ("halted", standing.state.halted != "0"),
        ("results_unbooked", standing.state.unbooked != "0"), ("mismatch", incident is not None),
        ("hedge", standing.snapshot is not None and standing.snapshot.amt is None),
        ("view_missing", standing.view == "missing"), ("unreadable", bool(standing.unreadable)),
    ) if holds]
    return {
        "symbol": standing.symbol, "exchange_amt": _json_amount(standing.exchange_amt),
        "ledger_amt": _json_amount(book.amt if book else None), "difference": _json_amount(standing.difference),
        "snapshot_age_ms": standing.snapshot_age_ms, "last_order_age_ms": standing.order_age_ms,
        "ledger_rev": book.rev if book else None, "phase": SETTLING if settling else str(phase),
        "plan_id": standing.issued.plan_id if standing.issued and phase != Phase.FREE else None,
        "phase_ends_ms": ends_ms or None, "flags": flags,
    }


def _plans(session: Session) -> dict[str, Any]:
    """How many plans wait for their verdict."""
    with store_errors():
        try:
            groups = session.redis.xinfo_groups(session.settings["P33_PLAN_STREAM"])
        except redis.ResponseError as error:
            if "no such key" in str(error):
                return {"stream": session.settings["P33_PLAN_STREAM"], "exists": False, "pending": 0, "unread": 0}
            raise
    ours = next((g for g in groups if g["name"] == keys.GROUP), None)
    return {"stream": session.settings["P33_PLAN_STREAM"], "exists": True,
            "pending": ours["pending"] if ours else 0, "unread": ours.get("lag") if ours else None}


def last_verdicts(reading: Reading, now_ms: int, count: int = LAST_VERDICTS) -> list[dict[str, Any]]:
    """The newest verdicts as plain values."""
    lines = []
    for entry in islice(reading.decisions(), count):
        record = entry.record
        lines.append({
            "plan_id": entry.fields.get("plan_id", ""), "symbol": entry.fields.get("symbol", ""),
            "outcome": entry.fields.get("outcome", ""), "reason": record.reason if record else "unreadable record",
            "safe_close_qty": record.safe_close_qty if record else None,
            "age_ms": now_ms - record.times.decided_ms if record else None,
        })
    return lines


def _json_amount(value: Decimal | None) -> str | None:
    return None if value is None else amount(value)
