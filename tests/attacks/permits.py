"""Attempts on permits, takings and orders. Each is `(scene, user) -> what came of it`, done with that user's rights."""

from __future__ import annotations

import json

from p33_sidecar.apply.intent import OrderIntent
from p33_sidecar.core.orders import client_order_id
from p33_sidecar.rehearsal.plan_source import Plan, plan_of
from p33_sidecar.store import keys, rights
from tests.attacks.scene import PASSING, Scene
from tests.deployment.conftest import PLANS

LIFE_MS = 600_000


def _planted(scene: Scene, user: str, plan: Plan, raw: bytes) -> str:
    """These bytes at the plan's key, opened, while the gate is stopped; the plan's answer."""
    attacker = scene.client(user)
    attacker.set(keys.permit(plan.plan_id), raw, px=LIFE_MS)
    attacker.set(keys.open_permit(plan.symbol), f"{plan.plan_id} n0nce", px=LIFE_MS)
    return scene.said(scene.publish(plan.symbol, plan=plan))


def write(scene: Scene, user: str) -> str:
    """A permit like ours, but for the signature, which takes the key."""
    plan = plan_of(scene.fresh(), "CLOSE_FULL")
    with scene.gate_stopped():
        said = _planted(scene, user, plan, scene.allow(plan, key=None))
    return f"`{said}`: {scene.alert('P33ForgedPermit')}, {scene.finding('forged_permit', of=plan.plan_id)}"


def change(scene: Scene, user: str) -> str:
    """A permit of ours with another quantity in it: the signature is over every byte."""
    symbol = scene.fresh()
    raw = scene.stolen_permit(scene.closed(symbol))
    plan = plan_of(symbol, "CLOSE_FULL")
    was = json.loads(raw)
    raw = raw.replace(was["plan_id"].encode(), plan.plan_id.encode()).replace(
        b'"safe_close_qty":%d' % was["safe_close_qty"], b'"safe_close_qty":%d' % (was["safe_close_qty"] + 1))
    with scene.gate_stopped():
        said = _planted(scene, user, plan, raw)
    return f"`{said}`: {scene.alert('P33ForgedPermit')}, {scene.finding('forged_permit', of=plan.plan_id)}"


def replay(scene: Scene, user: str) -> str:
    """A permit that was taken, put back: the mark of its taking stands for a day, and its user cannot delete it."""
    plan = scene.closed(scene.fresh())
    attacker, raw = scene.client(user), scene.stolen_permit(plan)
    attacker.set(keys.permit(plan.plan_id), raw, px=LIFE_MS)
    attacker.set(keys.open_permit(plan.symbol), f"{plan.plan_id} {json.loads(raw)['nonce']}", px=LIFE_MS)
    return f"`{scene.passed_over(plan, 'already_consumed')}`"


def for_another_plan(scene: Scene, user: str) -> str:
    """A permit of ours, whole, at another plan's key: it says which plan it is for."""
    symbol = scene.fresh()
    plan, other = plan_of(symbol, "CLOSE_FULL"), plan_of(symbol, "CLOSE_FULL")
    with scene.gate_stopped():
        return f"`{_planted(scene, user, plan, scene.allow(other))}`"


def prolong(scene: Scene, user: str) -> str:
    """A permit of ours that is over, put back for longer: its end stands in the signed bytes."""
    plan = plan_of(scene.fresh(), "CLOSE_FULL")
    with scene.gate_stopped():
        return f"`{_planted(scene, user, plan, scene.allow(plan, lives_ms=-1))}`"


def reopen(scene: Scene, user: str) -> str:
    """A permit that a halt withdrew, opened again within its life, once the halt is lifted and while the gate is down:
    it is taken. The quantity and the facts are the verdict's own; that it was withdrawn is seen afterwards."""
    symbol = scene.fresh()
    plan = _withdrawn(scene, symbol)
    nonce = scene.decisions(plan)[0]["permit"]["nonce"]
    with scene.gate_stopped():
        scene.client(user).set(keys.open_permit(symbol), f"{plan.plan_id} {nonce}", px=LIFE_MS)
        said = scene.said(scene.publish(symbol, plan=plan), after=1)
    return f"**{said}**: {scene.finding('permit_reuse', of=plan.plan_id)}"


def _withdrawn(scene: Scene, symbol: str) -> Plan:
    """A plan whose ALLOW a halt has ended."""
    while True:
        plan = scene.publish(symbol, granted=False)
        scene.until("a verdict", lambda plan=plan: scene.decisions(plan))
        withdrawn = scene.programs.p33("halt", symbol, "--reason", "an attack", "--json").json["withdrawn"]
        scene.programs.p33("resume", symbol)
        scene.said(plan)
        if withdrawn == [symbol]:
            return plan


def mark_taken(scene: Scene, user: str) -> str:
    """A mark of a taking that nobody did: the plan is worthless, and so is its permit."""
    plan = plan_of(scene.fresh(), "PARTIAL_75")
    scene.client(user).set(keys.taken(plan.plan_id), "n0nce t0ken", px=LIFE_MS)
    return f"`{scene.passed_over(plan, 'already_consumed')}`"


def forget_taken(scene: Scene, user: str) -> str:
    """The mark of a taking shortened to nothing, and the plan published again: it needs a new verdict, and may get one
    as long as it is young; its second order is seen afterwards."""
    plan, said = scene.closed(scene.fresh()), ""
    while said != "executed":
        scene.client(user).set(keys.taken(plan.plan_id), "gone", px=1)
        scene.until("it is gone", lambda: not scene.admin.exists(keys.taken(plan.plan_id)))
        answered = len(scene.results(plan))  # before the plan is out: its answer may be there at once
        said = scene.said(scene.publish(plan.symbol, plan=plan), after=answered)
    assert len([d for d in scene.decisions(plan) if d["outcome"] == "ALLOW"]) == 2
    return f"**{said}** again, on a verdict of its own: {scene.finding('permit_reuse', of=plan.plan_id)}"


def order_by_hand(scene: Scene, user: str) -> str:
    """A note of an order on its way that nobody sent: notes are looked up at the exchange, never sent."""
    plan = plan_of(scene.fresh(), "CLOSE_FULL")
    note = OrderIntent(plan.plan_id, plan.symbol, "SELL", "1000", client_order_id(plan.plan_id), plan.action, "", 1,
                       "nobody", "n0nce t0ken", 1)
    scene.client(user).hset(keys.ORDER_INTENTS, plan.plan_id, note.encoded())
    said = scene.said(plan)
    assert scene.exchange.position_amt(plan.symbol) == 1000
    return f"`{said}`"


def taking_by_hand(scene: Scene, user: str) -> str:
    """A record of a taking that was none: nobody obeys records."""
    symbol = scene.fresh()
    plan = plan_of(symbol, "CLOSE_FULL")
    body = {"v": 1, "plan_id": plan.plan_id, "symbol": symbol, "nonce": "n0nce", "token": "t0ken", "by": user,
            "at_ms": scene.now_ms(), "gate": "both", "permit": scene.allow(plan, key=None).decode()}
    scene.client(user).xadd(keys.TAKINGS, {"plan_id": plan.plan_id, "symbol": symbol, "json": json.dumps(body)})
    return f"nothing: {scene.finding('forged_permit', of=plan.plan_id)}"


def governors_permit(scene: Scene, user: str) -> str:
    """The Governor's permit alone, for a plan that the gate denies: both are needed."""
    symbol, said = scene.fresh(), PASSING[0]
    while said in PASSING:
        plan = plan_of(symbol, "FOO")
        scene.client(user).set(keys.governor_permit(plan.plan_id), '{"granted":true}', px=LIFE_MS)
        said = scene.said(scene.publish(symbol, plan=plan, granted=False))
    return f"`{said}`"


def swallow(scene: Scene, user: str) -> str:
    """A plan read and acknowledged in the gate's name: it has no verdict, so no order."""
    symbol = scene.fresh()
    with scene.gate_stopped():
        scene.publish(symbol, "FOO")  # which the gate's blocked read may have got in the moment it was stopped
        plan, attacker = scene.publish(symbol), scene.client(user)
        while entries := attacker.xreadgroup(keys.GROUP, "thief", {PLANS: ">"}, count=10):
            attacker.xack(PLANS, keys.GROUP, *(entry_id for entry_id, _ in entries[0][1]))
        said = scene.said(plan)
    assert not scene.decisions(plan)
    return f"`{said}`"


def plan_by_hand(scene: Scene, user: str) -> str:
    """A plan of one's own: it is judged like any other."""
    symbol, said = scene.fresh(), PASSING[0]
    while said in PASSING:
        plan = plan_of(symbol, "FOO")
        scene.client(rights.GOVERNOR).set(keys.governor_permit(plan.plan_id), '{"granted":true}', px=LIFE_MS)
        scene.client(user).xadd(PLANS, plan.fields)
        said = scene.said(plan)
    return f"judged like any other (`{said}`)"


def gates_venue(scene: Scene, user: str) -> str:
    """The database claimed for another exchange: everything is denied."""
    ours = scene.admin.get(keys.VENUE)
    try:
        scene.client(user).set(keys.VENUE, "elsewhere")
        return f"`{scene.answered(scene.fresh())}`"
    finally:
        scene.admin.set(keys.VENUE, ours)
