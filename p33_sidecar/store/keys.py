"""The name of every key and stream, in one place (contract, chapters 1 and 2; incident I01).

Nobody else spells a key. The second half names what is p33's own business: documented, not promised.
"""

from __future__ import annotations

from typing import Final

# -- promised by the contract ---------------------------------------------------------------------------------

SNAPSHOT: Final = "quantum:position:snapshot:"
LEDGER: Final = "quantum:position:ledger:"
PERMIT: Final = "quantum:permit:p33:"
GOVERNOR_PERMIT: Final = "quantum:permit:"
OPEN: Final = "quantum:p33:open:"
TAKEN: Final = "quantum:p33:taken:"
HALT: Final = "quantum:p33:halt"
HOLD: Final = "quantum:reconcile:hold:"
VENUE: Final = "quantum:p33:venue"

DECISIONS: Final = "quantum:p33:decisions"
TAKINGS: Final = "quantum:p33:taken"
SNAPSHOTS: Final = "quantum:p33:snapshots"
JOURNAL: Final = "quantum:p33:ledger"
EVENTS: Final = "quantum:p33:events"
REJECTED: Final = "quantum:p33:rejected"
RECORD_STREAMS: Final = (DECISIONS, TAKINGS, SNAPSHOTS, JOURNAL, EVENTS, REJECTED)

GROUP: Final = "p33"
APPLY_GROUP: Final = "p33-apply"

SNAPSHOT_TTL_MS: Final = 3_600_000
LEDGER_TTL_MS: Final = 86_400_000
TAKEN_TTL_MS: Final = 86_400_000

# -- our own, behind the promises -----------------------------------------------------------------------------

BOOK: Final = "quantum:p33:book:"
"""HASH, never expires: the durable account behind the ledger's hash."""
ORDERS: Final = "quantum:p33:orders:"
"""HASH by symbol: order key -> what is booked of it (JSON); further name of an order -> `@<order key>`."""
UNSETTLED: Final = "quantum:p33:unsettled"
"""HASH: `<symbol> <order key>` -> the order whose fate is to be asked for (JSON)."""
BOOKS: Final = "quantum:p33:books"
"""SET of symbols that have a book."""
CURSOR: Final = "quantum:p33:cursor"
"""HASH: result stream -> `<last booked id> <entries added up to it>`."""
WRECKED: Final = "quantum:p33:wrecked:"
"""Beginning of the name under which a key that could not be read is set aside: `<key>:<ms>` follows."""
GAP: Final = "quantum:p33:gap"
"""STRING: when entries of the result stream were last found missing (ms)."""
ISSUED: Final = "quantum:p33:issued"
"""HASH: symbol -> `<plan_id> <nonce> <issued_ms> <expires_ms> <amt> <rev>` of its last ALLOW, until it ended."""
ENDED: Final = "quantum:p33:ended:"
"""STRING by plan: `<nonce> <why>` of an open permit that its facts ended, until it would have expired."""
PLAN: Final = "quantum:p33:plan:"
"""STRING by plan, 25 h: the last verdict on it and the last result for it."""
PLAN_TTL_MS: Final = 90_000_000
RUN_ID: Final = "quantum:p33:run_id"
"""STRING: the server process that is known to hold everything we wrote."""
POLICY: Final = "quantum:p33:policy"
"""STRING: `<hash> <JSON>` of the thresholds in force since the last start."""
FILTERS: Final = "quantum:p33:filters"
"""HASH: symbol -> lot rules (JSON); field `read_ms`."""
BAN: Final = "quantum:p33:ban"
"""STRING, expires with the ban: Unix ms before which nothing may be sent."""
ROW_VERSIONS: Final = "quantum:p33:row_versions"
"""HASH: symbol -> newest updateTime seen (ms)."""
MISMATCHES: Final = "quantum:p33:mismatches"
"""HASH: symbol -> the open incident (JSON)."""
CANARY: Final = "quantum:p33:canary"
"""STRING: how the last canary plan fared, and when one last fared well (JSON)."""
SWITCHES: Final = "quantum:p33:switches"
"""HASH: symbol, or `*` -> its kill switch as it was last journalled."""
PIPELINE: Final = "quantum:p33:pipeline"
"""HASH: `archived_ms`, `audited_ms`: until when the pipeline's archive and audit reach."""
SEEN: Final = "quantum:p33:seen:"
"""STRING, 1 h: a rejected entry that is already recorded."""
ORDER_INTENTS: Final = "quantum:p33:taken-orders"
"""HASH: plan_id -> the Apply Layer's order on its way (JSON), from the taking to the result."""
TAKEN_ENTRY: Final = "quantum:p33:taken-entry:"
"""STRING by plan entry: the result that answered it, while the entry could be read again."""

KINDS: Final[dict[str, str]] = {
    **dict.fromkeys(RECORD_STREAMS, "stream"), **dict.fromkeys((VENUE, RUN_ID, GAP, BAN, POLICY, CANARY), "string"),
    **dict.fromkeys((ISSUED, UNSETTLED, CURSOR, MISMATCHES, FILTERS, ROW_VERSIONS, ORDER_INTENTS,
                     SWITCHES, PIPELINE), "hash"),
    BOOKS: "set",
}
"""The type of value of every key whose name is fixed; those of a symbol or a plan say it above."""


def snapshot(symbol: str) -> str:
    return SNAPSHOT + symbol


def ledger(symbol: str) -> str:
    return LEDGER + symbol


def book(symbol: str) -> str:
    return BOOK + symbol


def orders(symbol: str) -> str:
    return ORDERS + symbol


def permit(plan_id: str) -> str:
    return PERMIT + plan_id


def governor_permit(plan_id: str) -> str:
    return GOVERNOR_PERMIT + plan_id


def open_permit(symbol: str) -> str:
    return OPEN + symbol


def taken(plan_id: str) -> str:
    return TAKEN + plan_id


def plan(plan_id: str) -> str:
    return PLAN + plan_id


def halt(symbol: str = "") -> str:
    return f"{HALT}:{symbol}" if symbol else HALT


def hold(symbol: str) -> str:
    return HOLD + symbol
