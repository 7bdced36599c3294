"""Real verdicts as templates: the house's own bytes, cut open where times and names stand.

A verdict moved in time with everything it rests on is the same verdict, since rules know only differences. So a few
thousand verdicts, decided and written by `core`, become millions that all reproduce, each with its own ids and times.
Nothing here is an entry that `core` would not have written; a test takes some of them again.
"""

from __future__ import annotations

import random
from decimal import Decimal

import msgspec

from p33_pipeline.generator.world import PRICE, STEP, VENUE
from p33_sidecar.core.actions import FRACTIONS
from p33_sidecar.core.checks import decide
from p33_sidecar.core.model import Book, Context, Facts, Filters, Phase, Policy, Snapshot
from p33_sidecar.core.permit import Stamp
from p33_sidecar.core.plan import plan_of
from p33_sidecar.core.quantity import side_of, text
from p33_sidecar.core.record import Origin, record_bytes

T0_MS = 1_700_000_000_000
"""The time the templates are written at; its digits stand nowhere else in them."""
PLAN_ID, NONCE = "planXplanXplan", "nonceXnonceXnonceXnonceX"
PARTS = ("nonce", "stream_id", "plan_id", "plan_id", "stamp", "snapshot_ms", "order_ms", "decided_ms", "expires_ms",
         "nonce", "entry_ms", "read_ms", "decided_ms")
"""What stands between the pieces of a record, in its order."""


class Template(msgspec.Struct, frozen=True):
    """One verdict: the plan's fields, the record's pieces, and how long before the verdict its parts were."""

    fields: dict[str, str]
    raw: str
    pieces: tuple[str, ...]
    before_ms: dict[str, int]
    symbol: str
    outcome: str


def templates(holdings: dict[str, Decimal], *, each: int, policy: Policy, seed: int) -> list[Template]:
    """`each` verdicts for each symbol: most in order, the rest denied for every reason that thresholds know of."""
    chance = random.Random(seed)
    return [_template(chance, symbol, amt, policy) for _ in range(each) for symbol, amt in holdings.items()]


def _template(chance: random.Random, symbol: str, amt: Decimal, policy: Policy) -> Template:
    age_ms = chance.randrange(90, 5_080) if chance.random() < 0.9 else chance.randrange(5_080, 16_000)
    order_age_ms = chance.randrange(16_001, 900_000) if chance.random() < 0.8 else chance.randrange(1, 15_000)
    # Distinct times have distinct digits, so that each place of the record can be told from the others.
    before = {"entry_ms": 5, "stamp": 41 + chance.randrange(0, 61_000 if chance.random() < 0.05 else 1_200),
              "read_ms": 2, "snapshot_ms": age_ms, "order_ms": order_age_ms, "expires_ms": -policy.permit_ttl_ms,
              "decided_ms": 0}
    fields = {"plan_id": PLAN_ID, "symbol": symbol, "action": chance.choice(sorted(FRACTIONS)), "decision": "EXECUTE",
              "timestamp": f"{(T0_MS - before['stamp']) // 1000}.{(T0_MS - before['stamp']) % 1000:03}",
              "close_qty": "0.0"}
    book = amt * Decimal("1.02") if chance.random() < 0.03 else amt
    entry_ms = T0_MS - before["entry_ms"]
    facts = Facts(
        now_ms=T0_MS, plan=plan_of(fields, entry_ms=entry_ms),
        snapshot=Snapshot(symbol=symbol, amt=amt, ts_ms=T0_MS - age_ms, side=side_of(amt), mark_price=text(PRICE),
                          entry_price=text(PRICE), source="sim"),
        book=Book(symbol=symbol, amt=book, rev=1, source="fill", last_order_id="8389765",
                  last_order_ms=T0_MS - order_age_ms),
        filters=Filters(symbol, "TRADING", STEP, STEP, Decimal(100_000)),
        context=Context(snapshot_age_ms=age_ms, last_order_age_ms=order_age_ms, halted=chance.random() < 0.02,
                        phase=Phase.TAKEN if chance.random() < 0.05 else Phase.FREE))
    decision = decide(facts, policy)
    stamp = Stamp(VENUE, T0_MS, T0_MS + policy.permit_ttl_ms, NONCE)
    raw = record_bytes(decision, facts, policy, stamp=stamp,
                       origin=Origin(f"{entry_ms}-7", entry_ms, T0_MS - before["read_ms"], "bench", "0")).decode()
    return Template(fields, raw, _cut(raw, before), before, symbol, "ALLOW" if decision.allow else "DENY")


def _cut(raw: str, before: dict[str, int]) -> tuple[str, ...]:
    """The pieces of the record between its `PARTS`."""
    written = {name: str(T0_MS - ms) for name, ms in before.items()} | {"plan_id": PLAN_ID, "nonce": NONCE}
    stamp_ms = T0_MS - before["stamp"]
    written["stream_id"] = f"{T0_MS - before['entry_ms']}-7"
    written["stamp"] = f"{stamp_ms // 1000}.{stamp_ms % 1000:03}"
    pieces, rest = [], raw
    for name in PARTS:
        piece, found, rest = rest.partition(written[name])
        if not found:
            raise ValueError(f"{name} does not stand where it should in {raw}")
        pieces.append(piece)
    return (*pieces, rest)
