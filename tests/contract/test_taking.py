"""Chapter 4 from outside: what a running p33-apply does with permits that an outsider wrote by the contract.

One close goes through both programs. Then the sidecar is stopped, and permits come from here: each refusal by its name,
in the contract's order, with nothing deleted. Each case has a symbol to itself.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.client import Outsider, exact, signed, until, verified, words
from tests.contract.conftest import KEY, House

HOUSE = {"pool": 45, "positions": {"BTCUSDT": "0.038"},
         "plans": "quantum:apply.plan", "results": "quantum:apply.result",
         "P33_POLL_SEC": "0.5", "P33_COOLDOWN_SEC": "60", "P33_STALE_THRESHOLD_SEC": "30", "APPLY_MODE": "testnet",
         "APPLY_PERMIT_WAIT_MS": "4000", "P33_PLAN_MAX_AGE_SEC": "300", "P33_PERMIT_TTL": "300"}
PERMIT, GOVERNOR, TAKEN = "quantum:permit:p33:{}", "quantum:permit:{}", "quantum:p33:taken:{}"
GRANTED = '{"granted":true,"by":"an outsider"}'


@pytest.fixture(scope="module", autouse=True)
def stack(house: House, out: Outsider) -> dict[str, Any]:
    """Sidecar and Apply Layer; one plan closed by them; then the Apply Layer alone, with the books that are there.

    It is started once both permits are there, and finds the plan in the stream: nothing here depends on who is quicker.
    """
    sidecar, plan_id = house.start("p33-sidecar"), "f1a8d7f48713d5cf"
    until("books", lambda: all(out.ledger(symbol) for symbol in (*house.pool, "BTCUSDT")))
    out.redis.set(GOVERNOR.format(plan_id), GRANTED, ex=600)
    out.plan("BTCUSDT", plan_id=plan_id)
    out.permit(plan_id)
    house.start("p33-apply", P33_INSTANCE="the-apply-layer")
    answer = out.answer(plan_id)
    until("booked", lambda: out.ledger("BTCUSDT")["last_known_amt"] == "0.01")
    return {"plan_id": plan_id, "answer": answer, "exit": sidecar.stop()}


def _group(out: Outsider) -> dict[str, Any]:
    """The Apply Layer's consumer group."""
    return next((group for group in out.redis.xinfo_groups(out.plans) if group["name"] == "p33-apply"), {})


class Offer:
    """Everything that a taking needs, put there for one symbol; then spoilt, then published as a plan."""

    def __init__(self, house: House, out: Outsider) -> None:
        self.house, self.out, self.redis = house, out, out.redis
        self.symbol, self.plan_id, self.nonce = house.fresh(), f"plan-{secrets.token_hex(6)}", secrets.token_hex(16)
        self.refresh()
        now = out.now_ms()
        self.members: dict[str, Any] = {
            "v": 1, "plan_id": self.plan_id, "symbol": self.symbol, "allow": True, "safe_close_qty": 75,
            "close_side": "SELL", "exchange_position_amt": 100, "ledger_position_amt": 100,
            "ledger_rev": int(out.ledger(self.symbol)["rev"]), "snapshot_age_sec": 0.5, "max_snapshot_age_sec": 30,
            "action": "PARTIAL_75", "venue": house.venue, "ts_epoch": now // 1000, "issued_ms": now + 1,
            "expires_ms": now + 60_000, "nonce": self.nonce}
        self.put(signed(self.members, KEY.encode()))
        self.redis.set(GOVERNOR.format(self.plan_id), GRANTED, ex=120)
        self.redis.set(f"quantum:p33:open:{self.symbol}", f"{self.plan_id} {self.nonce}", ex=120)

    def refresh(self) -> None:
        """The snapshot as a poll of this moment would write it."""
        now = self.out.now_ms()
        self.redis.hset(f"quantum:position:snapshot:{self.symbol}", mapping={"ts_ms": now, "ts_epoch": now // 1000})

    def put(self, raw: bytes | str) -> None:
        self.redis.set(PERMIT.format(self.plan_id), raw, ex=120)

    def alter(self, **members: Any) -> None:
        """Other members, properly signed."""
        self.members |= members
        self.put(signed(self.members, KEY.encode()))

    def publish(self) -> str:
        return self.out.plan(self.symbol, plan_id=self.plan_id)[1]

    def refusal(self) -> str:
        """What the step of its one result says; the result itself is checked on the way."""
        answer = self.out.answer(self.plan_id)
        assert (answer["decision"], answer["executed"], answer["symbol"]) == ("BLOCKED", "False", self.symbol)
        governors = {"missing_governor_permit", "governor_denied", "redis_unavailable"}
        named = next(word for word in words(answer["steps"]) if word in NAMES or word.startswith("p33_denied:"))
        assert answer["error"] == ("missing_permit_or_redis" if named in governors else "missing_or_denied_p33_permit")
        return named


def denial(offer: Offer) -> bytes:
    """A DENY for this publication."""
    head = {key: offer.members[key] for key in ("v", "plan_id", "symbol")}
    tail = {key: offer.members[key] for key in ("venue", "ts_epoch", "issued_ms", "expires_ms", "nonce")}
    tail |= {"issued_ms": offer.out.now_ms() + 5_000}
    return signed(head | {"allow": False, "reason": "no_position", "details": {}, "retryable": True,
                          "retry_after_sec": 5} | tail, KEY.encode())


def _hash_there(offer: Offer) -> None:
    offer.redis.delete(PERMIT.format(offer.plan_id))
    offer.redis.hset(PERMIT.format(offer.plan_id), "allow", "true")


SPOILERS: tuple[tuple[str, Callable[[Offer], object]], ...] = (
    ("halted", lambda o: o.redis.set(f"quantum:p33:halt:{o.symbol}", "1")),
    ("reconcile_hold_active", lambda o: o.redis.set(f"quantum:reconcile:hold:{o.symbol}", "1")),
    ("missing_governor_permit", lambda o: o.redis.delete(GOVERNOR.format(o.plan_id))),
    ("governor_denied", lambda o: o.redis.set(GOVERNOR.format(o.plan_id), '{"granted":false}')),
    ("missing_p33_permit", lambda o: o.redis.delete(PERMIT.format(o.plan_id))),
    ("invalid_permit_type", _hash_there),
    ("forged_permit", lambda o: o.put(json.dumps(o.members))),
    ("p33_denied:no_position", lambda o: o.put(denial(o))),
    ("expired_permit", lambda o: o.alter(expires_ms=o.out.now_ms() - 1000)),
    ("plan_mismatch", lambda o: o.alter(plan_id="another")),
    ("symbol_mismatch", lambda o: o.alter(symbol="ANOTHERUSDT")),
    ("venue_mismatch", lambda o: o.alter(venue="fapi.example.com")),
    ("invalid_quantity", lambda o: o.alter(safe_close_qty=0)),
    ("withdrawn", lambda o: o.redis.delete(f"quantum:p33:open:{o.symbol}")),
    ("facts_changed", lambda o: o.redis.hset(f"quantum:position:snapshot:{o.symbol}", "position_amt", "99")),
)
NAMES = {name for name, _ in SPOILERS} | {"already_consumed", "redis_unavailable"}


def test_every_refusal_by_name_and_nothing_deleted(house: House, out: Outsider) -> None:
    """All at once, a symbol each: waiting for one does not delay another. Both permits stay where they were."""
    offers = {}
    for name, spoil in SPOILERS:
        offers[name] = Offer(house, out)
        spoil(offers[name])
    there = {name: _permits(offer) for name, offer in offers.items()}
    for offer in offers.values():
        offer.publish()
    assert {name: offer.refusal() for name, offer in offers.items()} == {name: name for name, _ in SPOILERS}
    assert {name: _permits(offer) for name, offer in offers.items()} == there
    assert not {order.symbol for order in house.exchange.orders} & {offer.symbol for offer in offers.values()}


def _permits(offer: Offer) -> int:
    return offer.redis.exists(PERMIT.format(offer.plan_id), GOVERNOR.format(offer.plan_id))


FIRST_OF_TWO = (("halted", "reconcile_hold_active"), ("reconcile_hold_active", "governor_denied"),
                ("governor_denied", "p33_denied:no_position"), ("p33_denied:no_position", "withdrawn"),
                ("withdrawn", "facts_changed"), ("halted", "missing_p33_permit"), ("forged_permit", "withdrawn"),
                ("plan_mismatch", "facts_changed"))


def test_of_two_things_wrong_the_first_is_named(house: House, out: Outsider) -> None:
    """In the contract's order."""
    spoilers, offers = dict(SPOILERS), {}
    for first, second in FIRST_OF_TWO:
        offers[first, second] = offer = Offer(house, out)
        spoilers[second](offer)
        spoilers[first](offer)
        offer.publish()
    assert {pair: offer.refusal() for pair, offer in offers.items()} == {pair: pair[0] for pair in FIRST_OF_TWO}


def test_an_outsiders_permit_that_is_right_is_taken(house: House, out: Outsider) -> None:
    """So what is refused above is refused for what was spoilt, and for nothing else."""
    offer = Offer(house, out)
    offer.publish()
    answer = out.answer(offer.plan_id)
    assert (answer["executed"], answer["error"]) == ("True", "")
    assert out.redis.get(TAKEN.format(offer.plan_id)).split()[0] == offer.nonce


def test_a_plan_taken_by_somebody_else_gets_no_result(house: House, out: Outsider) -> None:
    """`already_consumed`: the other one answers; the entry is acknowledged all the same."""
    offer = Offer(house, out)
    out.redis.set(TAKEN.format(offer.plan_id), f"{offer.nonce} another-taker", ex=600)
    entry_id = offer.publish()
    until("acknowledged", lambda: _group(out)["last-delivered-id"] >= entry_id and _group(out)["pending"] == 0)
    assert out.answers(offer.plan_id) == []
    assert _permits(offer) == 2


def test_a_plan_over_its_age_is_blocked_at_once(house: House, out: Outsider) -> None:
    """`plan_expired`, whatever permits there are."""
    offer = Offer(house, out)
    out.plan(offer.symbol, plan_id=offer.plan_id, timestamp="1769301008")
    answer = out.answer(offer.plan_id)
    assert (answer["decision"], answer["error"]) == ("BLOCKED", "missing_or_denied_p33_permit")
    assert any("plan_expired" in word for word in words(answer["steps"]))


def test_the_close_that_went_through(house: House, out: Outsider, stack: dict[str, Any]) -> None:
    """One order: MARKET, reduce-only, exactly the safe quantity, under the client id of its plan; one result."""
    answer, plan_id = stack["answer"], stack["plan_id"]
    (order,) = [o for o in house.exchange.orders if o.symbol == "BTCUSDT"]
    assert (order.client_order_id, str(order.qty), order.side, order.reduce_only) == (
        f"p33-{plan_id}", "0.028", "SELL", True)
    assert (answer["decision"], answer["executed"], answer["would_execute"]) == ("EXECUTE", "True", "False")
    (step,) = answer["steps"]
    assert (step["status"], step["order_id"], step["executed_qty"], step["reduce_only"]) == (
        "success", str(order.order_id), "0.028", True)
    assert stack["exit"] == 0


def test_what_a_taking_leaves_behind(out: Outsider, stack: dict[str, Any]) -> None:
    """Both permits gone, the mark for a day, the record of who took what when."""
    plan_id = stack["plan_id"]
    assert not out.redis.exists(PERMIT.format(plan_id), GOVERNOR.format(plan_id))
    (verdict,) = out.records("quantum:p33:decisions", plan_id=plan_id)
    nonce = verdict["permit"]["nonce"]
    assert out.redis.get(TAKEN.format(plan_id)).split()[0] == nonce
    assert 80_000 < out.redis.ttl(TAKEN.format(plan_id)) <= 86_400
    (record,) = out.records("quantum:p33:taken", plan_id=plan_id)
    assert (record["v"], record["nonce"], record["by"]) == (1, nonce, "the-apply-layer")
    assert record["_entry"]["symbol"] == "BTCUSDT"


def test_the_log_lines_that_checklists_look_for(house: House, stack: dict[str, Any]) -> None:
    """`P3.3` with `EXECUTE` or `BLOCKED`."""
    log = (house.folder / "p33-apply.log").read_text()
    assert any("P3.3" in line and "EXECUTE" in line and stack["plan_id"] in line for line in log.splitlines())


# -- an Apply Layer of one's own ------------------------------------------------------------------------------------


class OwnLayer:
    """What docs/apply-layer.md tells an Apply Layer in any language: read, cut, verify, run the printed script."""

    def __init__(self, house: House, out: Outsider) -> None:
        self.raw, self.out = out.raw, out
        printed = subprocess.run([sys.executable, "-m", "p33_sidecar.store.scripts", "take"], env=house.environment(),
                                 capture_output=True, check=True, timeout=120)
        self.sha = self.raw.script_load(printed.stdout)

    def take(self, offer: Offer, governor: bytes = b"", permit: bytes = b"", *, token: str) -> str:
        """The script's word on the bytes that were read."""
        governor = governor or self.raw.get(GOVERNOR.format(offer.plan_id))
        permit = permit or self.raw.get(PERMIT.format(offer.plan_id))
        assert verified(permit, KEY.encode())
        said, now = exact(permit), self.out.now_ms()
        names = [TAKEN.format(offer.plan_id), "quantum:p33:halt", f"quantum:p33:halt:{offer.symbol}",
                 f"quantum:reconcile:hold:{offer.symbol}", GOVERNOR.format(offer.plan_id),
                 PERMIT.format(offer.plan_id), f"quantum:p33:open:{offer.symbol}",
                 f"quantum:position:snapshot:{offer.symbol}", f"quantum:position:ledger:{offer.symbol}",
                 f"quantum:p33:ended:{offer.plan_id}", "quantum:p33:run_id", "quantum:p33:taken",
                 "quantum:p33:taken-orders"]
        record = {"v": 1, "plan_id": offer.plan_id, "symbol": offer.symbol, "nonce": said["nonce"], "token": token,
                  "by": "own", "at_ms": now, "gate": "both", "permit": permit.decode()}
        arguments = [governor, permit, offer.plan_id, offer.symbol, said["nonce"], token,
                     said["exchange_position_amt"], said["ledger_rev"], said["max_snapshot_age_sec"] * 1000,
                     said["expires_ms"], now + 5_000, self.raw.info("server")["run_id"], 86_400_000,
                     json.dumps(record), ""]
        return self.raw.evalsha(self.sha, len(names), *names, *map(_written, arguments))[0].decode()


def _written(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def test_an_apply_layer_in_any_language(house: House, out: Outsider) -> None:
    """Taken once; asked again with its token the same answer (T16), for anybody else `already_consumed`; recorded."""
    offer, layer = Offer(house, out), OwnLayer(house, out)
    governor, permit = (out.raw.get(name.format(offer.plan_id)) for name in (GOVERNOR, PERMIT))
    assert layer.take(offer, token="mine") == "taken"
    assert _permits(offer) == 0
    offer.redis.set(GOVERNOR.format(offer.plan_id), governor, ex=60)
    offer.put(permit)
    assert layer.take(offer, token="mine") == "taken"
    assert layer.take(offer, token="another") == "already_consumed"
    assert [record["by"] for record in out.records("quantum:p33:taken", plan_id=offer.plan_id)] == ["own"]


@pytest.mark.parametrize(("name", "spoil"), [pair for pair in SPOILERS if pair[0] in (
    "halted", "reconcile_hold_active", "expired_permit", "withdrawn", "facts_changed")])
def test_the_script_itself_looks_at_what_may_have_changed(house: House, out: Outsider, name: str,
                                                          spoil: Callable[[Offer], object]) -> None:
    """Between reading and taking; nothing is deleted."""
    offer, layer = Offer(house, out), OwnLayer(house, out)
    spoil(offer)
    assert layer.take(offer, token="mine") == name
    assert _permits(offer) == 2


def test_i03_fifty_consumers_of_one_pair(house: House, out: Outsider) -> None:
    """One wins."""
    offer, layer = Offer(house, out), OwnLayer(house, out)
    governor, permit = (out.raw.get(name.format(offer.plan_id)) for name in (GOVERNOR, PERMIT))
    with ThreadPoolExecutor(50) as pool:
        said = list(pool.map(lambda n: layer.take(offer, governor, permit, token=f"taker-{n}"), range(50)))
    assert (said.count("taken"), said.count("already_consumed")) == (1, 49)
