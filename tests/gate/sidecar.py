"""A sidecar's hand, for tests of the Apply Layer's side: the very verdicts, issued the way lua/issue.lua leaves them.

Not a sidecar: it takes no decision by itself and runs no loop; a test says what is issued, and when.
"""

from __future__ import annotations

import secrets
from decimal import Decimal

import redis

from p33_sidecar.core.checks import decide
from p33_sidecar.core.model import Book, Context, Facts, Filters, Plan, Policy, Snapshot
from p33_sidecar.core.permit import Permit, Stamp, permit_bytes, read_permit, sign
from p33_sidecar.core.quantity import text
from p33_sidecar.store import keys

KEY = b"k" * 32
VENUE = "demo-fapi.binance.com"
PLAN, SYMBOL = "f1a8d7f48713d5cf", "BTCUSDT"
LIFE_MS = 60_000


class Hand:
    """Writes what the sidecar, the Governor, the poller and the bookkeeper would have written."""

    def __init__(self, client: redis.Redis, *, key: bytes | None = KEY, venue: str = VENUE) -> None:
        self.redis, self.key, self.venue = client, key, venue
        client.set(keys.RUN_ID, client.info("server")["run_id"])

    def now_ms(self) -> int:
        seconds, micros = self.redis.time()
        return seconds * 1000 + micros // 1000

    def govern(self, plan_id: str = PLAN, value: str = '{"granted":true,"by":"governor"}') -> None:
        """The Governor's verdict."""
        self.redis.set(keys.governor_permit(plan_id), value, px=60_000)

    def snapshot(self, symbol: str = SYMBOL, *, amt: str = "0.038", ts_ms: int | None = None) -> None:
        """What the poller writes of a symbol."""
        written = {"position_amt": text(Decimal(amt)), "ts_ms": str(ts_ms or self.now_ms())}
        self.redis.hset(keys.snapshot(symbol), mapping=written)

    def ledger(self, symbol: str = SYMBOL, *, amt: str = "0.038", rev: int = 7) -> None:
        """What the bookkeeper writes of a symbol."""
        self.redis.hset(keys.ledger(symbol), mapping={"last_known_amt": amt, "rev": str(rev)})

    def verdict(self, plan_id: str = PLAN, symbol: str = SYMBOL, *, action: str = "PARTIAL_75", amt: str = "0.038",
                book: str | None = None, issued_ms: int | None = None, life_ms: int = LIFE_MS, rev: int = 7,
                max_age_ms: int = 10_000, nonce: str = "", halted: bool = False) -> bytes:
        """The permit the rules give on these facts, signed."""
        now_ms = issued_ms or self.now_ms()
        qty, owned = Decimal(amt), Decimal(amt if book is None else book)
        facts = Facts(
            now_ms=now_ms, plan=Plan(plan_id, symbol, action, now_ms, {}),
            snapshot=Snapshot(symbol=symbol, amt=qty, ts_ms=now_ms),
            book=Book(symbol=symbol, amt=owned, rev=rev),
            filters=Filters(symbol, "TRADING", Decimal("0.001"), Decimal("0.001"), Decimal(120)),
            context=Context(snapshot_age_ms=0, halted=halted))
        policy = Policy(stale_threshold_ms=max_age_ms, permit_ttl_ms=life_ms)
        stamp = Stamp(self.venue, now_ms, now_ms + life_ms, nonce or secrets.token_hex(16))
        return permit_bytes(decide(facts, policy), facts, policy, stamp=stamp, key=self.key)

    def signed(self, body: bytes) -> bytes:
        """Any body under the right key."""
        return sign(body, self.key)

    def put(self, raw: bytes, *, at: str = "", opens: bool = True,
            record: str = "{}") -> Permit:
        """Issue a permit in one step: record, open key and issued line where it allows, and the permit itself."""
        pipe, permit = self.prepare(raw, at=at, opens=opens, record=record)
        pipe.execute()
        return permit

    def prepare(self, raw: bytes, *, at: str = "", opens: bool = True,
                record: str = "{}") -> tuple[redis.client.Pipeline, Permit]:
        """The step that issues it, ready to be executed."""
        permit = read_permit(raw)
        assert permit is not None
        plan_id, symbol = at or permit.plan_id, permit.symbol
        pipe = self.redis.pipeline(transaction=True)
        pipe.xadd(keys.DECISIONS, {"plan_id": plan_id, "symbol": symbol, "json": record})
        if permit.allow and opens:
            line = f"{plan_id} {permit.nonce} {permit.issued_ms} {permit.expires_ms} " \
                   f"{text(permit.exchange_position_amt)} {permit.ledger_rev}"
            pipe.hset(keys.ISSUED, symbol, line)
            pipe.set(keys.open_permit(symbol), f"{permit.plan_id} {permit.nonce}", pxat=permit.expires_ms)
        pipe.set(keys.permit(plan_id), raw, pxat=max(permit.expires_ms, self.now_ms() + 500))
        return pipe, permit

    def allow(self, plan_id: str = PLAN, symbol: str = SYMBOL, *, amt: str = "0.038", action: str = "PARTIAL_75",
              **more) -> Permit:
        """Facts that agree, and the ALLOW they give."""
        self.snapshot(symbol, amt=amt)
        self.ledger(symbol, amt=amt)
        permit = self.put(self.verdict(plan_id, symbol, action=action, amt=amt, **more))
        assert permit.allow
        return permit

    def deny(self, plan_id: str = PLAN, symbol: str = SYMBOL, **more) -> Permit:
        """A DENY `unsupported_action`, or what `more` makes of it."""
        permit = self.put(self.verdict(plan_id, symbol, **({"action": "UPDATE_SL"} | more)))
        assert not permit.allow
        return permit

    def both_there(self, plan_id: str = PLAN) -> bool:
        """Whether neither permit was touched."""
        return self.redis.exists(keys.governor_permit(plan_id), keys.permit(plan_id)) == 2
