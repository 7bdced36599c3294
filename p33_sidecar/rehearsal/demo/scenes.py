"""The scenes: what is injected, what the right answer is and why, and the play itself.

What may not happen here: an expectation read off the gate. Every quantity and reason is written down beforehand, from
the contract. Each scene has symbols of its own, so that none stands in the shadow of another's orders.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec

from p33_sidecar.core.permit import sign
from p33_sidecar.rehearsal.demo.judge import ALLOW, PROMPT_MS, REFRESH_MS, Judge
from p33_sidecar.rehearsal.plan_source import Plan, plan_of
from p33_sidecar.rehearsal.stack import Stack
from p33_sidecar.store import keys

STALE_MS: Final = 2000
SETTINGS: Final = {
    "P33_POLL_SEC": "0.5", "P33_STALE_THRESHOLD_SEC": "2", "P33_COOLDOWN_SEC": "2", "P33_PERMIT_TTL": "10",
    "P33_PLAN_MAX_AGE_SEC": "20", "P33_REFRESH_BUDGET_MS": "800", "APPLY_PERMIT_WAIT_MS": "1200",
}
POSITIONS: Final = {
    "BTCUSDT": "0.038", "ETHUSDT": "-1.2", "TRXUSDT": "123", "BCHUSDT": "3", "XRPUSDT": "500", "LTCUSDT": "8",
    "ETCUSDT": "40", "LINKUSDT": "9.90", "XLMUSDT": "-2000", "ADAUSDT": "900", "DASHUSDT": "6", "ZECUSDT": "4",
    "XTZUSDT": "300", "BNBUSDT": "2.5", "ATOMUSDT": "70", "ONTUSDT": "800", "IOTAUSDT": "-600", "BATUSDT": "400",
    "NEOUSDT": "20", "QTUMUSDT": "50",
}
EVERYTHING: Final = "GET positionRisk"


class Scene(msgspec.Struct, frozen=True):
    """`injected` and `right` are one line each, for people; `why` names the harm of any other answer."""

    name: str
    injected: str
    right: str
    why: str
    play: Callable[[Stack, Judge], None]


def _published(stack: Stack, symbol: str, action: str) -> Plan:
    return stack.source.publish(plan_of(symbol, action))


def _snapshot_age_ms(stack: Stack, symbol: str) -> int:
    seconds, micros = stack.redis.time()
    return seconds * 1000 + micros // 1000 - int(stack.redis.hget(keys.snapshot(symbol), "ts_ms") or 0)


def _until_older(stack: Stack, symbol: str, age_ms: int) -> None:
    stack.until(f"{symbol}'s snapshot is {age_ms} ms old", lambda: _snapshot_age_ms(stack, symbol) > age_ms)


def _until_seen(stack: Stack, symbol: str, amt: str) -> None:
    stack.until(f"a poll sees {symbol} at {amt}",
                lambda: stack.redis.hget(keys.snapshot(symbol), "position_amt") == amt)


def _recovered(stack: Stack, symbol: str) -> None:
    stack.door.move("clear")
    stack.until("polls work again", lambda: _snapshot_age_ms(stack, symbol) < 500)


# -- the plays ------------------------------------------------------------------------------------------------------


def normal_flow(stack: Stack, judge: Judge) -> None:
    plans = stack.source.publish_together(
        plan_of("BTCUSDT", "PARTIAL_75"), plan_of("ETHUSDT", "FULL_CLOSE_PROPOSED"), plan_of("TRXUSDT", "PARTIAL_50"))
    for plan, qty in zip(plans, ("0.028", "1.2", "61"), strict=True):
        judge.verdict(plan, ALLOW, order=qty, within_ms=PROMPT_MS)
    judge.same_books("BTCUSDT", "ETHUSDT", "TRXUSDT")


def governor_denies(stack: Stack, judge: Judge) -> None:
    stack.governor.deny("QTUMUSDT")
    plan = _published(stack, "QTUMUSDT", "PARTIAL_25")
    judge.verdict(plan, ALLOW, refused="governor_denied", within_ms=PROMPT_MS)
    judge.holds("p33's permit was not burned", bool(stack.redis.exists(keys.permit(plan.plan_id))))
    stack.governor.allow("QTUMUSDT")


def stale_exchange(stack: Stack, judge: Judge) -> None:
    stack.door.move("fault", kind="http_502", endpoint=EVERYTHING, for_sec=30)
    _until_older(stack, "BCHUSDT", STALE_MS)
    plan = _published(stack, "BCHUSDT", "PARTIAL_50")
    judge.verdict(plan, "stale_exchange_state", refused="p33_denied", within_ms=REFRESH_MS)
    _recovered(stack, "BCHUSDT")
    judge.verdict(stack.source.publish(plan), ALLOW, order="1.5", within_ms=PROMPT_MS)


def vanished_position(stack: Stack, judge: Judge) -> None:
    stack.door.move("position", symbol="XRPUSDT", amt="0")
    _until_seen(stack, "XRPUSDT", "0")
    judge.verdict(_published(stack, "XRPUSDT", "FULL_CLOSE_PROPOSED"), "no_position", refused="p33_denied",
                  within_ms=PROMPT_MS)
    judge.holds("the position is still flat", stack.door.state().amt("XRPUSDT") == 0)


def side_flip(stack: Stack, judge: Judge) -> None:
    stack.door.move("position", symbol="LTCUSDT", amt="-8")
    _until_seen(stack, "LTCUSDT", "-8")
    judge.verdict(_published(stack, "LTCUSDT", "FULL_CLOSE_PROPOSED"), "reconcile_required_side_mismatch",
                  refused="p33_denied", within_ms=PROMPT_MS)


def quantity_drift(stack: Stack, judge: Judge) -> None:
    stack.door.move("position", symbol="ETCUSDT", amt="40.5")
    stack.door.move("position", symbol="LINKUSDT", amt="10")
    _until_seen(stack, "ETCUSDT", "40.5")
    _until_seen(stack, "LINKUSDT", "10")
    judge.verdict(_published(stack, "ETCUSDT", "PARTIAL_50"), "reconcile_required_qty_mismatch",
                  refused="p33_denied", within_ms=PROMPT_MS)
    judge.verdict(_published(stack, "LINKUSDT", "PARTIAL_50"), ALLOW, order="5", within_ms=PROMPT_MS)


def cooldown(stack: Stack, judge: Judge) -> None:
    judge.verdict(_published(stack, "XLMUSDT", "PARTIAL_50"), ALLOW, order="1000", within_ms=PROMPT_MS)
    _until_seen(stack, "XLMUSDT", "-1000")
    again = _published(stack, "XLMUSDT", "PARTIAL_50")
    judge.verdict(again, "cooldown_in_flight", refused="p33_denied", within_ms=PROMPT_MS)
    last_ms = int(stack.redis.hget(keys.ledger("XLMUSDT"), "last_order_time_ms") or 0)
    stack.until("the cooldown is over", lambda: stack.redis.time()[0] * 1000 > last_ms + 2000)
    judge.verdict(stack.source.publish(again), ALLOW, order="500", within_ms=PROMPT_MS)
    judge.same_books("XLMUSDT")


def competing_plans(stack: Stack, judge: Judge) -> None:
    first, second = stack.source.publish_together(
        plan_of("ADAUSDT", "FULL_CLOSE_PROPOSED"), plan_of("ADAUSDT", "FULL_CLOSE_PROPOSED"))
    judge.verdict(first, ALLOW, order="900", within_ms=PROMPT_MS)
    judge.verdict(second, "permit_outstanding", "cooldown_in_flight", refused="p33_denied", within_ms=PROMPT_MS)
    judge.holds("ADAUSDT is flat, not short", stack.door.state().amt("ADAUSDT") == 0)


def forged_permit(stack: Stack, judge: Judge) -> None:
    unsigned, wrongly, raced = (plan_of(s, "PARTIAL_50") for s in ("DASHUSDT", "ZECUSDT", "XTZUSDT"))
    stack.sidecars[0].freeze()
    try:
        _bypass(stack, unsigned, qty="6", key=None)
        _bypass(stack, wrongly, qty="4", key=secrets.token_bytes(32))
        published = stack.source.publish_together(unsigned, wrongly)
        stack.until("both are refused", lambda: all(judge.results(plan) for plan in published))
    finally:
        stack.sidecars[0].thaw()
    for plan in published:
        judge.verdict(plan, "plan_expired", refused="forged_permit")
    stack.wait_sidecars()
    _bypass(stack, raced, qty="300", key=None)
    judge.verdict(stack.source.publish(raced), ALLOW, order="150", within_ms=PROMPT_MS)


def _bypass(stack: Stack, plan: Plan, *, qty: str, key: bytes | None) -> None:
    """What a program that wants its order through would write: a permit for everything, in the right shape."""
    now_ms = time.time_ns() // 1_000_000
    body = (
        f'{{"v":1,"plan_id":"{plan.plan_id}","symbol":"{plan.symbol}","allow":true,"safe_close_qty":{qty},'
        f'"close_side":"SELL","exchange_position_amt":{qty},"ledger_position_amt":{qty},"ledger_rev":1,'
        f'"snapshot_age_sec":0.1,"max_snapshot_age_sec":10,"action":"{plan.action}",'
        f'"venue":"{stack.redis.get(keys.VENUE)}","ts_epoch":{now_ms // 1000},"issued_ms":{now_ms},'
        f'"expires_ms":{now_ms + 10_000},"nonce":"{secrets.token_hex(16)}"}}')
    stack.redis.set(keys.permit(plan.plan_id), sign(body.encode(), key), px=10_000)


def exchange_hang(stack: Stack, judge: Judge) -> None:
    stack.door.move("fault", kind="hang", endpoint=EVERYTHING, seconds=3, for_sec=30, times=None)
    _until_older(stack, "BNBUSDT", 800)
    judge.verdict(_published(stack, "BNBUSDT", "PARTIAL_50"), ALLOW, order="1.25", within_ms=PROMPT_MS)
    _until_older(stack, "ATOMUSDT", STALE_MS)
    plan = _published(stack, "ATOMUSDT", "PARTIAL_50")
    judge.verdict(plan, "stale_exchange_state", refused="p33_denied", within_ms=REFRESH_MS)
    _recovered(stack, "ATOMUSDT")
    judge.verdict(stack.source.publish(plan), ALLOW, order="35", within_ms=PROMPT_MS)


def throttled(stack: Stack, judge: Judge) -> None:
    stack.door.move("fault", kind="http_429", endpoint=EVERYTHING, seconds=5)
    _until_older(stack, "ONTUSDT", STALE_MS)
    plan = _published(stack, "ONTUSDT", "PARTIAL_50")
    judge.verdict(plan, "stale_exchange_state", refused="p33_denied", within_ms=REFRESH_MS)
    stack.until("polls work again", lambda: _snapshot_age_ms(stack, "ONTUSDT") < 500)
    log = stack.door.state(with_log=True).requests.log
    told_ms = next((asked.at_ms for asked in log if asked.status == 429), 0)
    early = [asked for asked in log if told_ms < asked.at_ms < told_ms + 5000]
    judge.holds("5 s of silence, then it asked again by itself", bool(told_ms) and not early,
                otherwise=f"{len(early)} requests before the time")
    judge.verdict(stack.source.publish(plan), ALLOW, order="400", within_ms=PROMPT_MS)


def kill_9(stack: Stack, judge: Judge) -> None:
    stack.door.move("latency", ms=400, endpoint="POST order")
    filled = _published(stack, "IOTAUSDT", "PARTIAL_50")
    stack.until("the permit is written", lambda: judge.verdicts(filled))
    stack.kill_sidecar()
    while_down = _published(stack, "BATUSDT", "PARTIAL_50")
    stack.until("the order is filled and the other plan given up while the sidecar is down",
                lambda: judge.results(filled) and judge.results(while_down))
    stack.door.move("clear")
    stack.restart_sidecar()
    judge.verdict(filled, ALLOW, order="300")
    judge.verdict(while_down, "plan_expired", refused="missing_p33_permit")
    judge.same_books("IOTAUSDT")
    judge.holds("the fill is booked once", judge.booked_fills("IOTAUSDT") == 1)
    judge.verdict(_published(stack, "BATUSDT", "PARTIAL_50"), ALLOW, order="200", within_ms=PROMPT_MS)


def ban(stack: Stack, judge: Judge) -> None:
    stack.door.move("ban", seconds=60)
    stack.until("the ban is learnt of", lambda: stack.redis.exists(keys.BAN))
    _until_older(stack, "NEOUSDT", STALE_MS)
    plan = _published(stack, "NEOUSDT", "PARTIAL_50")
    judge.verdict(plan, "stale_exchange_state", refused="p33_denied", within_ms=REFRESH_MS)
    stack.restart_sidecar(ready=False)
    judge.verdict(stack.source.publish(plan), "stale_exchange_state", refused="p33_denied")
    log = stack.door.state(with_log=True).requests.log
    told_ms = next((asked.at_ms for asked in log if asked.status == 418), 0)
    early = [asked for asked in log if told_ms < asked.at_ms]
    judge.holds("not one request since, across a kill -9 and restart", bool(told_ms) and not early,
                otherwise=f"{len(early)} requests into the ban")
    _lift_the_ban(stack)
    judge.verdict(stack.source.publish(plan), ALLOW, order="10", within_ms=PROMPT_MS)


def _lift_the_ban(stack: Stack) -> None:
    """The exchange forgives and an operator says so: otherwise the gate keeps away for two minutes at least."""
    stack.kill_sidecar()
    stack.door.move("clear")
    stack.redis.delete(keys.BAN)
    stack.restart_sidecar()


def whole_run(stack: Stack, judge: Judge) -> None:
    plans = [(i, f) for i, f in stack.redis.xrange(stack.plan_stream) if f["decision"] == "EXECUTE"]
    verdicts = judge.all_verdicts()
    counts = {entry_id: sum(v.stream_id == entry_id for v in verdicts) for entry_id, _ in plans}
    judge.holds(f"{len(plans)} plans published, one verdict each", set(counts.values()) == {1},
                otherwise=f"verdicts not one: {[i for i, n in counts.items() if n != 1]}")
    allowed = {f"p33-{v.plan_id}": v for v in verdicts if v.outcome == ALLOW}
    ours = [o for o in stack.door.state().orders if o.client_order_id.startswith("p33-")]
    wild = [o for o in ours if o.client_order_id not in allowed or not o.reduce_only
            or f"{o.qty.normalize():f}" != allowed[o.client_order_id].safe_close_qty]
    judge.holds(f"{len(ours)} orders, each one's quantity the permit's, reduce-only", not wild,
                otherwise=f"orders without their permit: {[o.client_order_id for o in wild]}")
    judge.holds("no plan was ordered twice", len({o.client_order_id for o in ours}) == len(ours))
