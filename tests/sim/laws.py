"""What must hold after every step, whatever happened: judged from the outside, by plain arithmetic on what is stored.

Nothing of the rules' own code is used here; a law that agreed with the code by construction could not find it wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal
from itertools import combinations

from p33_sidecar.gate import Free, Taken
from p33_sidecar.store import keys
from tests.sim.market import RULES
from tests.sim.town import Town

LINGERING = {"plan_expired", "plan_superseded", "clock_skew", "no_exchange_snapshot", "stale_exchange_state",
             "cooldown_in_flight", "permit_outstanding", "store_restarted", "ledger_gap", "ledger_missing"}
"""What is over by itself when everything has come to rest and the exchange answers again."""
COOLDOWN_MS, STALE_MS, HELD_MS, LIFE_MS = 15_000, 10_000, 75_000, 60_000


class LawBroken(AssertionError):
    """A law did not hold."""


class Laws:
    """Watches a town. `after_step()` raises LawBroken."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.allows: list[dict] = []
        self.reasons: Counter[str] = Counter()
        self._decisions, self._events = "-", "-"
        self._judged: Counter[str] = Counter()
        self._open_mismatches: set[str] = set()
        self._allowed: dict[str, tuple[str, int]] = {}
        """plan_id -> its symbol and when it was allowed."""
        town.judge, town.judge_taking = self._judge_verdicts, self._taking_rests_on_what_is

    def after_step(self) -> None:
        self._judge_verdicts()
        self._one_takeable_permit()
        self._incidents_open_and_close()
        self._no_request_in_a_ban()
        self._snapshots_say_what_a_reply_said()

    def at_the_end(self) -> None:
        """Everything was read and booked: nothing is left over, and a plan is not denied for what is long past."""
        town = self.town
        if not town.losses:
            self._nothing_lingers()
        pending = town.redis.xpending("quantum:apply.plan", "p33")["pending"]
        _law(pending == 0, f"{pending} plans are read and not acknowledged")
        entries = {entry_id: fields["plan_id"] for entry_id, fields in town.redis.xrange("quantum:apply.plan")}
        by_plan = Counter(entries.values())
        judged = Counter(r["plan_id"] for r in town.records(keys.DECISIONS) if r["stream_id"] in entries)
        for plan_id, published in by_plan.items():
            least = 0 if town.losses else 1
            _law(least <= judged[plan_id] <= published, f"{plan_id}: {published} entries, {judged[plan_id]} verdicts")
        self.books_add_up()

    def _nothing_lingers(self) -> None:
        """No clock that was wrong for a while, no order, permit or ban denies for ever (timeline T13)."""
        plans = [self.town.publish("CLOSE_FULL", symbol=symbol) for symbol in RULES]
        self.town.decide()
        for plan_id in plans:
            said = self.town.verdict(plan_id)
            _law(said.split()[-1] not in LINGERING, f"{plan_id} at the end: {said}")

    def books_add_up(self) -> None:
        """Each fill was booked exactly once. Not to be asked where the server lost something."""
        if self.town.losses:
            return
        for symbol, amt in self.town.expected_books.items():
            book = self.town.redis.hget(keys.book(symbol), "amt")
            rests = self.town.untold_rests.get(symbol, ())
            either = {amt + sum(some) for count in range(len(rests) + 1) for some in combinations(rests, count)}
            _law(book is not None and Decimal(book) in either, f"{symbol}: booked {book}, filled {amt}")

    # -- verdicts -------------------------------------------------------------------------------------------------

    def _judge_verdicts(self) -> None:
        for record in self._new(keys.DECISIONS, "_decisions"):
            self._verdict(record)

    def _verdict(self, record: dict) -> None:
        self._judged[record["stream_id"]] += 1
        _law(self._judged[record["stream_id"]] == 1 or self.town.losses,
             f"entry {record['stream_id']} has two verdicts")
        self.reasons[record["reason"] or "ALLOW"] += 1
        if record["outcome"] == "ALLOW":
            self.allows.append(record)
            self._allowed[record["plan_id"]] = record["plan"]["symbol"], self.town.clock.wall_ms
            self._allow_rests_on_what_is(record, record["plan"]["symbol"])

    def _allow_rests_on_what_is(self, record: dict, symbol: str) -> None:
        """Every condition of the contract, read from the store as it is right after the issuing step."""
        town, now_ms = self.town, self.town.clock.wall_ms
        snapshot, ledger = town.snapshot_of(symbol), town.redis.hgetall(keys.ledger(symbol))
        _law(not town.redis.exists(keys.HALT, keys.halt(symbol), keys.hold(symbol)), "ALLOW while halted or held")
        _law(snapshot.get("side") in ("LONG", "SHORT"), f"ALLOW on side {snapshot.get('side')}")
        held, booked = Decimal(snapshot["position_amt"]), Decimal(ledger["last_known_amt"])
        agree = held * booked > 0 and abs(held - booked) * 100 <= abs(held)
        _law(agree, f"ALLOW with {held} there and {booked} booked")
        age_ms = self._age_ms(int(snapshot["ts_ms"]), town.market.seen_mono_ms.get(symbol, 0))
        _law(-1_000 <= age_ms <= STALE_MS, f"ALLOW on a snapshot of {age_ms} ms")
        qty, rules = Decimal(str(record["safe_close_qty"])), RULES[symbol]
        _law(rules.min_qty <= qty <= abs(held) and qty % rules.step == 0, f"ALLOW of {qty} out of {held}")
        if last_ms := int(ledger["last_order_time_ms"]):
            order_ms = max(now_ms - last_ms, town.clock.mono_ms - town.told_mono_ms[symbol])
            _law(order_ms >= COOLDOWN_MS, f"ALLOW {order_ms} ms after an order")
            _law(age_ms < order_ms, "ALLOW on a snapshot older than the last order")
            made_ms = float(record["plan"]["timestamp"]) * 1000
            when_ms = last_ms if last_ms <= now_ms else now_ms - order_ms
            _law(made_ms + 1_000 > when_ms, "ALLOW of a plan made before the last order")
        _law(record["ledger"]["rev"] == int(ledger["rev"]), "ALLOW on a book that has moved")
        _law(str(record["snapshot"]["ts_ms"]) == snapshot["ts_ms"], "ALLOW on a snapshot that has moved")
        _law(not self._unbooked(symbol), "ALLOW with a result that is not booked")
        _law(not town.outstanding(symbol), f"ALLOW while {town.outstanding(symbol)} is taken")
        _law(all(town.market.seen_begun_ms >= when + COOLDOWN_MS for when in town.losses), "ALLOW after a restart")

    def _age_ms(self, at_ms: int, mono_ms: int) -> int:
        """The larger of what both clocks say; what was before the sidecar's start, it has by the server's alone."""
        by_server_ms, by_machine_ms = self.town.clock.wall_ms - at_ms, self.town.clock.mono_ms - mono_ms
        return max(by_server_ms, by_machine_ms) if mono_ms >= self.town.started_mono_ms else by_server_ms

    def _unbooked(self, symbol: str) -> bool:
        cursor = (self.town.redis.hget(keys.CURSOR, "quantum:apply.result") or "0-0").split()[0]
        return any(fields.get("symbol") == symbol for _, fields in
                   self.town.redis.xrange("quantum:apply.result", f"({cursor}"))

    # -- permits, incidents, manners ------------------------------------------------------------------------------

    def _one_takeable_permit(self) -> None:
        """Of all that was ever allowed, at most one permit a symbol could be taken now."""
        now_ms, free = self.town.clock.wall_ms, Counter()
        for plan_id, (symbol, at_ms) in list(self._allowed.items()):
            if now_ms - at_ms > LIFE_MS:
                del self._allowed[plan_id]
            elif isinstance(self.town.gate.look(plan_id, symbol, entry_ms=0, wait_ms=0), Free):
                free[symbol] += 1
                _law(not self.town.outstanding(symbol), f"{symbol}: one permit is taken and another can be")
        _law(all(count == 1 for count in free.values()), f"permits that can be taken: {dict(free)}")

    def _incidents_open_and_close(self) -> None:
        for event in self._new(keys.EVENTS, "_events"):
            if event["kind"] != "mismatch":
                continue
            opening, symbol = event["state"] == "opened", event["symbol"]
            _law(opening != (symbol in self._open_mismatches) or self.town.losses,
                 f"{symbol}: a mismatch {event['state']} twice")
            (self._open_mismatches.add if opening else self._open_mismatches.discard)(symbol)

    def _taking_rests_on_what_is(self, taken: Taken) -> None:
        """The permit's facts are still the store's, nothing is halted, and no other plan of the symbol is out."""
        permit, town = taken.permit, self.town
        snapshot, ledger = town.snapshot_of(taken.symbol), town.redis.hgetall(keys.ledger(taken.symbol))
        _law(snapshot.get("position_amt") == f"{permit.exchange_position_amt:f}", "taken on another position")
        _law(ledger.get("rev") == str(permit.ledger_rev), "taken on another book")
        _law(town.clock.wall_ms - int(snapshot["ts_ms"]) <= STALE_MS, "taken on a stale snapshot")
        _law(town.clock.wall_ms < permit.expires_ms, "taken after its end")
        _law(not town.redis.exists(keys.HALT, keys.halt(taken.symbol), keys.hold(taken.symbol)), "taken while halted")
        _law(taken.plan_id not in set(town.taken) - town.forgotten, f"{taken.plan_id} is taken twice")
        _law(not town.outstanding(taken.symbol), "taken while another plan of the symbol is")

    def _snapshots_say_what_a_reply_said(self) -> None:
        """No snapshot without a reply that had the symbol, and none that says anything else."""
        if self.town.losses:
            return
        for symbol in RULES:
            if snapshot := self.town.snapshot_of(symbol):
                amt = snapshot.get("position_amt")
                said = (symbol, int(snapshot["ts_ms"]), amt) in self.town.market.said
                _law(said, f"{symbol}: a snapshot of {amt} that no reply said")

    def _no_request_in_a_ban(self) -> None:
        _law(not self.town.market.rude_requests, "a request during a ban that was known")

    def _new(self, stream: str, since: str) -> list[dict]:
        """Records not seen yet. A server that lost some is read from where it ends now."""
        after = getattr(self, since)
        entries = self.town.redis.xrange(stream, "-" if after == "-" else f"({after}")
        if entries:
            setattr(self, since, entries[-1][0])
        return [self.town.decoded(fields) for _, fields in entries]


def _law(holds: bool, otherwise: str) -> None:
    if not holds:
        raise LawBroken(re.sub(r"\s+", " ", otherwise))
