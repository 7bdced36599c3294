"""The audit finds what was planted, and nothing else: one hour of streams, bent in one place at a time."""

from __future__ import annotations

import json
from decimal import Decimal

import msgspec
import pytest

from p33_pipeline.audit.findings import Audit
from p33_pipeline.checks import is_material
from p33_sidecar.core.checks import decide
from p33_sidecar.core.record import record_bytes
from tests.core.made import NOW_MS, ORIGIN, POLICY, STAMP, facts
from tests.pipeline.hour import BEGIN_MS, END_MS, ORDER_MS, Hour, as_entry


def told(audit: Audit) -> set[str]:
    """Everything found, by name."""
    return {b.kind for b in audit.breaks} | {f.finding for f in audit.flow} | {s.finding for s in audit.sources}


def untouched(hour: Hour) -> None:
    """Nothing planted."""


def external_trade(hour: Hour) -> None:
    hour.sold.append((NOW_MS + 300_000, "-0.005"))
    hour.trades.append(hour.trade(2, NOW_MS + 300_000, "SELL", "0.005", "77", "web_abc"))


def venue_initiated(hour: Hour) -> None:
    hour.sold.append((NOW_MS + 300_000, "-0.010"))
    hour.trades.append(hour.trade(2, NOW_MS + 300_000, "SELL", "0.010", "78", "autoclose-1769301"))


def missing_ledger(hour: Hour) -> None:
    hour.entries["ledger"].clear()


def ghost_ledger(hour: Hour) -> None:
    hour.sold.append((NOW_MS + 300_000, "-0.010"))


def stale_or_quantity(hour: Hour) -> None:
    hour.sold.append((NOW_MS + 300_000, "-0.004"))


def unbooked_fill(hour: Hour) -> None:
    hour.entries["ledger"].pop()


def result_without_trade(hour: Hour) -> None:
    hour.trades.clear()
    hour.sold.clear()


def trade_without_result(hour: Hour) -> None:
    hour.entries["results"].clear()
    booked = dict(hour.entries["ledger"][1][1])
    body = json.loads(booked["json"]) | {"result_id": "", "by": "clerk"}
    hour.entries["ledger"][1] = (hour.entries["ledger"][1][0], booked | {"json": json.dumps(body)})


def bypass(hour: Hour) -> None:
    hour.entries["taken"].clear()


def bypass_without_any_verdict(hour: Hour) -> None:
    hour.entries["decisions"].clear()
    hour.entries["taken"].clear()
    hour.entries["plans"].clear()


def bypass_that_was_looked_up(hour: Hour) -> None:
    """Its result left its fate open and does not say that it closes; the sidecar found and booked it."""
    bypass_without_any_verdict(hour)
    told = hour.entries["results"][0][1]
    step = json.loads(told["steps_results"])[0] | {"status": "NEW", "executed_qty": "0", "reduce_only": False}
    told["steps_results"] = json.dumps([step])
    hour.entries["ledger"][1] = (f"{ORDER_MS + 900}-0", hour.booking(
        "fill", ORDER_MS + 900, "-0.028", "0.010", rev=2, plan_id=hour.plan_id, order_id="8389765"))


def over_execution(hour: Hour) -> None:
    hour.sold[:] = [(ORDER_MS, "-0.030")]
    hour.trades[:] = [hour.trade(1, ORDER_MS, "SELL", "0.030", "8389765", f"p33-{hour.plan_id}")]
    hour.entries["results"] = [(f"{ORDER_MS + 500}-0", hour.result(hour.plan_id, "8389765", "0.030"))]
    hour.entries["ledger"][1] = (f"{ORDER_MS + 510}-0", hour.booking(
        "fill", ORDER_MS + 510, "-0.030", "0.008", rev=2, plan_id=hour.plan_id, order_id="8389765",
        result_id=f"{ORDER_MS + 500}-0"))


def _orders_told_at_once(hour: Hour, *, ids: tuple[str, str], first: str, second: str) -> None:
    """Two orders in one result; where it tells no ids, the exchange has one order of the plan's client id."""
    told_ms, sizes = ORDER_MS + 500, (first, second)
    steps = [{"step": f"CLOSE_{number}", "status": "FILLED", "order_id": order_id, "side": "SELL", "executed_qty": qty,
              "reduce_only": True} for number, (order_id, qty) in enumerate(zip(ids, sizes, strict=True))]
    hour.entries["results"][0][1]["steps_results"] = json.dumps(steps)
    hour.sold[:] = [(ORDER_MS, f"-{qty}") for qty in sizes]
    hour.trades[:] = [hour.trade(number, ORDER_MS, "SELL", qty, order_id or "8389765", f"p33-{hour.plan_id}")
                      for number, (order_id, qty) in enumerate(zip(ids, sizes, strict=True), 1)]
    left = Decimal("0.038")
    del hour.entries["ledger"][1:]
    for rev, (order_id, qty) in enumerate(zip(ids, sizes, strict=True), 2):
        left -= Decimal(qty)
        hour.entries["ledger"].append((f"{told_ms + 10}-{rev}", hour.booking(
            "fill", told_ms + 10, f"-{qty}", str(left), rev=rev, plan_id=hour.plan_id, order_id=order_id,
            result_id=f"{told_ms}-0")))


def two_orders_on_one_permit(hour: Hour) -> None:
    _orders_told_at_once(hour, ids=("8389765", "8389766"), first="0.014", second="0.024")


def two_orders_within_one_permit(hour: Hour) -> None:
    _orders_told_at_once(hour, ids=("8389765", "8389766"), first="0.014", second="0.014")


def two_steps_without_ids(hour: Hour) -> None:
    _orders_told_at_once(hour, ids=("", ""), first="0.014", second="0.014")


def another_symbol_on_the_permit(hour: Hour) -> None:
    hour.entries["results"][0][1]["symbol"] = "ETHUSDT"
    del hour.entries["ledger"][1]
    hour.sold.clear()
    hour.trades.clear()


def told_without_its_id_first(hour: Hour) -> None:
    told = dict(hour.entries["results"][0][1])
    told["steps_results"] = told["steps_results"].replace('"order_id": "8389765", ', "")
    hour.entries["results"].insert(0, (f"{ORDER_MS + 400}-0", told))
    hour.entries["ledger"][1] = (f"{ORDER_MS + 410}-0", hour.booking(
        "fill", ORDER_MS + 410, "-0.028", "0.010", rev=2, plan_id=hour.plan_id, result_id=f"{ORDER_MS + 400}-0"))


def permit_reuse(hour: Hour) -> None:
    later = NOW_MS + 201_500
    hour.sold.append((later, "-0.004"))
    hour.trades.append(hour.trade(2, later, "SELL", "0.004", "8389766", f"p33-{hour.plan_id}"))
    hour.entries["results"].append((f"{later + 500}-0", hour.result(hour.plan_id, "8389766", "0.004")))
    hour.entries["ledger"].append((f"{later + 510}-0", hour.booking(
        "fill", later + 510, "-0.004", "0.006", rev=3, plan_id=hour.plan_id, order_id="8389766",
        result_id=f"{later + 500}-0")))


def late_execution(hour: Hour) -> None:
    late = STAMP.expires_ms + 6_500
    hour.sold[:] = [(late, "-0.028")]
    hour.trades[:] = [hour.trade(1, late, "SELL", "0.028", "8389765", f"p33-{hour.plan_id}")]
    hour.entries["results"] = [(f"{late + 500}-0", hour.result(hour.plan_id, "8389765", "0.028"))]
    hour.entries["ledger"][1] = (f"{late + 510}-0", hour.booking(
        "fill", late + 510, "-0.028", "0.010", rev=2, plan_id=hour.plan_id, order_id="8389765",
        result_id=f"{late + 500}-0"))


def plan_without_verdict(hour: Hour) -> None:
    fields = hour.entries["plans"][0][1] | {"plan_id": "never-answered"}
    hour.entries["plans"].append((f"{NOW_MS + 100_000}-0", fields))


def verdict_without_plan(hour: Hour) -> None:
    hour.entries["plans"].clear()


def irreproducible_verdict(hour: Hour) -> None:
    fields = hour.entries["decisions"][0][1]
    fields["json"] = fields["json"].replace('"last_known_amt":"0.038"', '"last_known_amt":"0.039"')


def _decided_anew(hour: Hour, **forged) -> None:
    """The gate, honestly, on what somebody has written into Redis past it."""
    given = facts(**forged)
    record = record_bytes(decide(given, POLICY), given, POLICY, stamp=STAMP, origin=ORIGIN).decode()
    hour.entries["decisions"][0][1]["json"] = record


def forged_snapshot(hour: Hour) -> None:
    _decided_anew(hour, amt="0.0381", ledger="0.038")


def forged_book(hour: Hour) -> None:
    _decided_anew(hour, ledger="0.0381")


def taken_after_withdrawal(hour: Hour) -> None:
    hour.entries["events"].append((f"{NOW_MS + 500}-0", {"kind": "withdrawal"} | as_entry(
        kind="withdrawal", symbol="BTCUSDT", plan_id=hour.plan_id, nonce=STAMP.nonce, at_ms=NOW_MS + 500, by="ada")))


def snapshot_gap(hour: Hour) -> None:
    hour.lost_polls = range(BEGIN_MS + 1_200_000, BEGIN_MS + 1_240_000)


def no_poll_at_all(hour: Hour) -> None:
    hour.lost_polls = range(BEGIN_MS, END_MS)


def rejected_message(hour: Hour) -> None:
    hour.entries["rejected"].append((f"{NOW_MS}-0", as_entry(stream="quantum:apply.plan", id="5-0", at_ms=NOW_MS,
                                                          reason="missing_plan_id", message={})))


def ledger_tampered(hour: Hour) -> None:
    hour.entries["events"].append((f"{NOW_MS}-0", {"kind": "tampering"} | as_entry(
        kind="tampering", symbol="BTCUSDT", at_ms=NOW_MS, by="host-a")))


PLANTED = [
    (untouched, set()), (external_trade, {"external_trade"}), (venue_initiated, {"venue_initiated"}),
    (missing_ledger, {"missing_ledger"}), (ghost_ledger, {"ghost_ledger"}), (stale_or_quantity, {"quantity"}),
    (unbooked_fill, {"unbooked_fill"}), (result_without_trade, {"result_without_trade", "quantity"}),
    (bypass, {"bypass"}), (bypass_without_any_verdict, {"bypass"}),
    (bypass_that_was_looked_up, {"bypass"}), (over_execution, {"over_execution"}),
    (two_orders_on_one_permit, {"over_execution"}), (two_orders_within_one_permit, set()),
    (two_steps_without_ids, set()), (another_symbol_on_the_permit, {"bypass"}), (told_without_its_id_first, set()),
    (permit_reuse, {"permit_reuse"}), (late_execution, {"late_execution"}),
    (plan_without_verdict, {"plan_without_verdict"}), (verdict_without_plan, {"verdict_without_plan"}),
    (irreproducible_verdict, {"irreproducible_verdict"}), (trade_without_result, {"trade_without_result"}),
    (snapshot_gap, {"snapshot_gap"}), (no_poll_at_all, {"snapshot_gap"}), (rejected_message, {"rejected_message"}),
    (ledger_tampered, {"ledger_tampered"}), (forged_snapshot, {"irreproducible_verdict"}),
    (forged_book, {"irreproducible_verdict"}), (taken_after_withdrawal, {"permit_reuse"}),
]


@pytest.mark.parametrize(("plant", "found"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_what_was_planted_is_found_and_nothing_else(plant, found):
    """Precision and recall of one, plant by plant."""
    hour = Hour()
    plant(hour)
    assert told(hour.audit()) == found


@pytest.mark.parametrize("size", ["1000000000000", "30000000000000000000", "90000000000000000000"])
def test_a_forged_result_of_any_size_blinds_no_audit(size):
    """What it made of the book is a break, and its order never traded."""
    hour, at_ms = Hour(), NOW_MS + 600_000
    for number in range(2):
        forged = hour.result(f"plan-x{number}", f"55{number}", size, side="BUY")
        forged["steps_results"] = forged["steps_results"].replace('"reduce_only": true', '"reduce_only": false')
        hour.entries["results"].append((f"{at_ms}-{number}", forged))
        after = Decimal(size) * (number + 1) + Decimal("0.010")
        hour.entries["ledger"].append((f"{at_ms + 10}-{number}", hour.booking(
            "fill", at_ms + 10, size, str(after), rev=3 + number, plan_id=f"plan-x{number}", order_id=f"55{number}",
            result_id=f"{at_ms}-{number}")))
    audit = hour.audit()
    assert [b.kind for b in audit.breaks] == ["quantity"] and audit.breaks[0].max_difference >= Decimal(10) ** 12
    assert sorted(f.finding for f in audit.flow) == ["result_without_trade", "result_without_trade"]


def test_a_break_tells_when_how_much_and_on_what_evidence():
    """From the first poll that saw it; worth its difference at the mark price; the trade's id."""
    hour = Hour()
    external_trade(hour)
    found, = hour.audit().breaks
    assert found.opened_ms == -(-(NOW_MS + 300_000) // 5_000) * 5_000 and found.closed_ms is None
    assert (found.max_difference, found.notional) == (Decimal("0.005"), Decimal("491.252"))
    assert found.evidence.trade_ids == ("2",) and found.evidence.order_ids == ("77",)


def test_a_break_closes_when_two_polls_in_a_row_agree_again():
    """By an adjustment that a person made; the close is the first of the two."""
    hour = Hour()
    external_trade(hour)
    mended = NOW_MS + 600_000
    hour.entries["ledger"].append((f"{mended}-0", hour.booking("adjustment", mended, "-0.005", "0.005", rev=3,
                                                              by="ada")))
    found, = hour.audit().breaks
    assert found.closed_ms == -(-mended // 5_000) * 5_000


def test_a_ghost_is_worth_what_its_symbol_was_last_worth():
    """The exchange is flat and says no price any more; without credentials there are no trades to say one either."""
    hour = Hour()
    ghost_ledger(hour)
    hour.trades.clear()
    found, = hour.audit().breaks
    assert (found.kind, found.notional) == ("ghost_ledger", Decimal("982.504"))


def test_a_break_whose_worth_nobody_knows_is_an_error():
    """A book of a symbol that was never held nor traded in view: its notional is 0, and no reason to look away."""
    hour = Hour()
    opened = json.loads(hour.booking("opening", NOW_MS, "5", "5", rev=1)["json"]) | {"symbol": "OLDUSDT"}
    hour.entries["ledger"].append((f"{NOW_MS}-0", {"symbol": "OLDUSDT", "json": json.dumps(opened)}))
    hour.entries["ledger"].sort(key=lambda entry: int(entry[0].split("-")[0]))
    found, = hour.audit().breaks
    assert (found.symbol, found.notional, is_material(found)) == ("OLDUSDT", 0, True)


def test_an_audit_survives_being_written_down():
    """What is kept beside the archive is what was found."""
    hour = Hour()
    external_trade(hour)
    found = hour.audit()
    assert msgspec.json.decode(msgspec.json.encode(found), type=Audit) == found
