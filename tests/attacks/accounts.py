"""Attempts on what a verdict rests on: ledger, book, snapshot, streams, switches, marks."""

from __future__ import annotations

import json
from decimal import Decimal

from msgspec.structs import replace

from p33_sidecar.rehearsal.plan_source import Plan, plan_of
from p33_sidecar.store import keys
from p33_sidecar.store.books import BookStore
from p33_sidecar.store.state import book_fields, mark_after, view_of
from tests.attacks.scene import HELD, PASSING, Scene
from tests.deployment.conftest import RESULTS

HALF = HELD / 2
LIFE_MS = 600_000
SOUGHT = ("p33_apply_orders_sought", frozenset())
"""What the alert P33OrderUnknown watches."""


def ledger(scene: Scene, user: str) -> str:
    """Another amount in the ledger's hash: it is compared with the book behind it."""
    symbol = scene.fresh()
    scene.client(user).hset(keys.ledger(symbol), "last_known_amt", "2000")
    said = scene.answered(symbol)
    return f"`{said}`: {scene.alert('P33LedgerTampered')}, {scene.finding('ledger_tampered', of=symbol)}"


def book(scene: Scene, user: str) -> str:
    """Another amount in the book, and in the ledger's hash to match: it differs from the exchange."""
    symbol = scene.fresh()
    _rewritten(scene, user, symbol, Decimal(2_000))
    said = scene.answered(symbol)
    return f"`{said}`: {scene.alert('P33MismatchAging', symbol=symbol)}"


def lose_book(scene: Scene, user: str) -> str:
    """The book renamed away, as the gate does with one that cannot be read: what is gone is for a person to settle."""
    symbol = scene.fresh()
    scene.client(user).rename(keys.book(symbol), f"{keys.WRECKED}{keys.book(symbol)}:1")
    said = scene.answered(symbol)
    while said != "ledger_tampered":
        said = scene.answered(symbol)
    return f"`{said}`: {scene.alert('P33LedgerTampered')}, {scene.finding('ledger_tampered', of=symbol)}"


def book_to_match(scene: Scene, user: str) -> str:
    """Somebody trades by hand; the book is rewritten to what the exchange says now, so that nothing differs."""
    symbol = scene.fresh()
    _moved_by_hand(scene, symbol)
    _rewritten(scene, user, symbol, HALF)
    plan, said = scene.judged(symbol)
    return f"**{said}**: {scene.finding('irreproducible_verdict', of=plan.plan_id)}"


def snapshot(scene: Scene, user: str) -> str:
    """Somebody trades by hand; the snapshot is set back to what the book says while the exchange does not answer."""
    symbol = scene.fresh()
    _moved_by_hand(scene, symbol)
    scene.exchange.fault("http_503_b", "GET positionRisk", times=None)
    try:
        failed = scene.requests_failed()
        scene.until("a poll failed", lambda: scene.requests_failed() > failed)
        scene.client(user).hset(keys.snapshot(symbol), mapping={"position_amt": "1000", "ts_ms": scene.now_ms()})
        plan, _ = scene.judged(symbol)
    finally:
        scene.exchange.clear()
    decision = scene.decisions(plan)[-1]
    assert abs(scene.exchange.position_amt(symbol)) <= HALF
    return f"**{decision['outcome']}** once: {scene.finding('irreproducible_verdict', of=plan.plan_id)}"


def result(scene: Scene, user: str) -> str:
    """A result of an order that never was: the book moves away from the exchange."""
    symbol = scene.fresh()
    plan = plan_of(symbol, "PARTIAL_25")
    step = {"step": "CLOSE", "status": "success", "order_id": "77", "side": "SELL", "executed_qty": "250",
            "reduce_only": True}
    scene.client(user).xadd(RESULTS, {"plan_id": plan.plan_id, "symbol": symbol, "decision": "EXECUTE",
                                      "executed": "True", "steps_results": json.dumps([step]), "error": ""})
    scene.until("it is booked", lambda: scene.booked(symbol) == HELD - 250)
    said = scene.answered(symbol)
    return (f"`{said}`: {scene.alert('P33MismatchAging', symbol=symbol)}, "
            f"{scene.finding('bypass', of=plan.plan_id)}")


def decision(scene: Scene, user: str) -> str:
    """A record of a verdict that was none: nobody obeys records."""
    symbol = scene.fresh()
    kept = scene.decisions(scene.closed(symbol))[0]
    plan = plan_of(symbol, "CLOSE_FULL")
    body = kept | {"plan_id": plan.plan_id, "stream_id": "1-1", "permit": kept["permit"] | {"nonce": "n0nce"}}
    scene.client(user).xadd(keys.DECISIONS, {"plan_id": plan.plan_id, "symbol": symbol, "outcome": "ALLOW",
                                             "json": json.dumps(body)})
    assert not scene.admin.exists(keys.permit(plan.plan_id))
    return f"nothing: {scene.finding('verdict_without_plan', of=plan.plan_id)}"


def journal(scene: Scene, user: str) -> str:
    """An entry of the book's journal that no booking wrote: the book stays as it is, and the audit adds up."""
    symbol = scene.fresh()
    body = {"v": 1, "symbol": symbol, "rev": 2, "cause": "fill", "delta": "-500", "amt_before": "1000",
            "amt_after": "500", "at_ms": scene.now_ms(), "order_id": "78", "by": user}
    scene.client(user).xadd(keys.JOURNAL, {"symbol": symbol, "json": json.dumps(body)})
    polls = scene.polls()
    scene.until("a poll later", lambda: scene.polls() > polls + 1)
    assert scene.booked(symbol) == HELD
    return f"nothing: {scene.finding('quantity', of=symbol)}"


def event(scene: Scene, user: str) -> str:
    """An event that says a halt was lifted: the halt stands as long as its key does."""
    symbol = scene.fresh()
    scene.programs.p33("halt", symbol, "--reason", "an attack")
    body = {"v": 1, "kind": "resume", "at_ms": scene.now_ms(), "by": "ada", "symbol": symbol}
    scene.client(user).xadd(keys.EVENTS, {"kind": "resume", "json": json.dumps(body)})
    said = scene.answered(symbol)
    scene.programs.p33("resume", symbol)
    return f"`{said}`"


def lift_halt(scene: Scene, user: str) -> str:
    """The halt's key deleted instead of `p33 resume`: it is lifted, and the journal says by whose hand it was not."""
    symbol = scene.fresh()
    scene.programs.p33("halt", symbol, "--reason", "an attack")
    scene.client(user).delete(keys.halt(symbol))
    scene.until("it is journalled", lambda: any(
        (e.get("symbol"), e.get("why")) == (symbol, "deleted by hand") for e in scene.events("resume")))
    return "lifted; `resume` in `quantum:p33:events`, by `unknown`, deleted by hand"


def plan_mark(scene: Scene, user: str) -> str:
    """What is remembered of an executed plan rewritten to a denial: that it was taken is remembered elsewhere."""
    plan = scene.closed(scene.fresh())
    mark = mark_after("", entry="1-1", outcome="DENY", retryable=True, nonce="n0nce")
    scene.client(user).set(keys.plan(plan.plan_id), mark, px=LIFE_MS)
    said = scene.passed_over(plan, "already_consumed")
    assert len(scene.decisions(plan)) == 1
    return f"`{said}`"


def free_symbol(scene: Scene, user: str) -> str:
    """The note of an open ALLOW deleted: it is open all the same, so another plan is denied, and its own order goes."""
    symbol = scene.fresh()
    with scene.orders_stopped():
        first = _allowed(scene, symbol)
        scene.client(user).hdel(keys.ISSUED, symbol)
        said = _outstanding(scene, symbol)
    assert scene.said(first) == "executed"
    return f"`{said}`"


def replace_open(scene: Scene, user: str) -> str:
    """The note of an open ALLOW deleted, and that it is open: another plan is allowed, and the first one's permit is
    worth nothing."""
    symbol = scene.fresh()
    with scene.orders_stopped():
        first = _allowed(scene, symbol)
        _forgotten(scene, user, symbol)
        second = _allowed(scene, symbol)
    assert scene.said(second) == "executed"
    return f"one order all the same: to the first plan `{scene.said(first)}`"


def free_taken(scene: Scene, user: str) -> str:
    """The note of a taken ALLOW deleted while nobody knows what became of its order: what says that it was open stands
    until its permit's end."""
    symbol, first = _sought(scene)
    scene.client(user).hdel(keys.ISSUED, symbol)
    said = _outstanding(scene, symbol)
    assert not scene.results(first)
    return f"`{said}`"


def replace_taken(scene: Scene, user: str) -> str:
    """The note of a taken ALLOW deleted, and that it was open, while nobody knows what became of its order: another
    plan is judged on the same position. Each order has its verdict, and both are reduce-only: together they close at
    most the position."""
    symbol, first = _sought(scene)
    _forgotten(scene, user, symbol)
    plan, said = scene.judged(symbol, until="executed")
    assert not scene.results(first)
    return f"**{said}** on a verdict of its own: {scene.finding('irreproducible_verdict', of=plan.plan_id)}"


def _judged(scene: Scene, symbol: str) -> tuple[Plan, str]:
    """A plan and the gate's word on it, whether or not the Apply Layer runs."""
    plan = scene.publish(symbol)
    scene.until("a verdict", lambda: scene.decisions(plan))
    decision = scene.decisions(plan)[-1]
    return plan, decision["reason"] or decision["outcome"]


def _allowed(scene: Scene, symbol: str) -> Plan:
    """A plan that the gate allows, once it can."""
    return _judged_at_last(scene, symbol, "ALLOW")


def _outstanding(scene: Scene, symbol: str) -> str:
    """What the gate says to another plan, once nothing else keeps it from an ALLOW."""
    said = "permit_outstanding"
    _judged_at_last(scene, symbol, said)
    return said


def _judged_at_last(scene: Scene, symbol: str, word: str) -> Plan:
    """The first plan on which the gate says that word; before it only what passes."""
    plan, said = _judged(scene, symbol)
    while said != word:
        assert said in PASSING
        plan, said = _judged(scene, symbol)
    return plan


def _sought(scene: Scene) -> tuple[str, Plan]:
    """A symbol whose ALLOW is taken, and its plan, whose order is sought since its answer was lost."""
    symbol, plan = scene.fresh(), None
    scene.exchange.fault("http_503_a", "POST order", times=1)
    while plan is None or scene.results(plan):
        plan = scene.publish(symbol)
        scene.until("it is taken", lambda plan=plan: scene.taken(plan) or scene.results(plan))
    scene.until("its order's answer is lost, and it is sought",
                lambda: not scene.exchange.app.faults.listed() and scene.samples()[SOUGHT] > 0)
    assert scene.said(scene.publish(symbol)) in PASSING
    return symbol, plan


def _forgotten(scene: Scene, user: str, symbol: str) -> None:
    """Nothing of the symbol's own says any more that an ALLOW was issued for it."""
    attacker = scene.client(user)
    attacker.hdel(keys.ISSUED, symbol)
    attacker.delete(keys.open_permit(symbol))


def trim_results(scene: Scene, user: str) -> str:
    """Results trimmed before they were booked: fills may be missing, so every book is doubted."""
    with scene.gate_stopped():
        scene.admin.xadd(RESULTS, {"plan_id": "lost", "symbol": "LOSTUSDT", "decision": "BLOCKED"})
        scene.client(user).xtrim(RESULTS, maxlen=0, approximate=False)
    return f"`ledger_gap`: {scene.alert('P33StreamGap')}, {scene.finding('archive_gap', of='results')}"


def trim_decisions(scene: Scene, user: str) -> str:
    """Verdicts trimmed before they were archived: the server has counted them."""
    scene.said(scene.publish(scene.fresh(), "FOO"))
    scene.client(user).xtrim(keys.DECISIONS, maxlen=0, approximate=False)
    return f"nothing: {scene.finding('archive_gap', of='decisions')}"


def _moved_by_hand(scene: Scene, symbol: str) -> None:
    """Half of the position is gone, and the gate has seen it."""
    scene.exchange.set_position(symbol, HALF)
    scene.until("the poll shows it", lambda: scene.admin.hget(keys.snapshot(symbol), "position_amt") == "500")


def _rewritten(scene: Scene, user: str, symbol: str, amt: Decimal) -> None:
    """The book and its view as the gate itself would write them, but for the journal."""
    attacker = scene.client(user)
    line = BookStore(attacker, result_stream=RESULTS).line(symbol)
    made = replace(line.book, amt=amt, rev=line.book.rev + 1)
    fields = book_fields(replace(line, book=made))
    attacker.hset(keys.book(symbol), mapping=dict(zip(fields[::2], fields[1::2], strict=True)) | {"ver": line.ver + 1})
    attacker.hset(keys.ledger(symbol), mapping=view_of(made))
