"""The desk: one verdict an entry, on facts that were confirmed."""

from __future__ import annotations

from tests.service.world import World


def test_first_close_is_allowed(ready: World) -> None:
    """Three accounts agree: 75 % of 0.038 floored to the step."""
    assert ready.ask() == "ALLOW 0.028"
    assert ready.redis.xpending("quantum:apply.plan", "p33")["pending"] == 0


def test_i43_second_plan_of_a_symbol_waits_for_the_first(ready: World) -> None:
    """Two full closes 10 ms apart: one ALLOW, the other permit_outstanding."""
    first, second = ready.publish("FULL_CLOSE_PROPOSED"), ready.publish("FULL_CLOSE_PROPOSED")
    ready.decide()
    assert [ready.verdict(first), ready.verdict(second)] == ["ALLOW 0.038", "permit_outstanding"]


def test_fill_is_booked_and_denies_until_settled(ready: World) -> None:
    """A result ends the open permit, moves the book, and the next plan waits for a newer snapshot."""
    plan = ready.publish()
    ready.decide()
    ready.result(plan)
    ready.book()
    assert ready.ledger()["last_known_amt"] == "0.01"
    ready.exchange.amounts["BTCUSDT"] = "0.010"
    assert ready.ask(timestamp="") != "ALLOW 0.01"
    ready.poll()
    assert ready.ask("FULL_CLOSE_PROPOSED", timestamp="") == "ALLOW 0.01"
