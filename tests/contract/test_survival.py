"""What a running p33-sidecar outlives, from outside: deletions by hand, kill -9 in a burst, an exchange that fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from p33_sidecar.rehearsal.processes import Process
from tests.contract.client import Outsider, until
from tests.contract.conftest import House

HOUSE = {"pool": 8, "positions": {}, "plans": "quantum:apply.plan", "results": "quantum:apply.result",
         "P33_POLL_SEC": "0.5", "P33_STALE_THRESHOLD_SEC": "5", "P33_COOLDOWN_SEC": "1",
         "P33_PERMIT_TTL": "600"}


@pytest.fixture(scope="module")
def sidecar(house: House, out: Outsider) -> Iterator[Process]:
    """Running, with a book of 100 for every symbol of the pool."""
    process = house.start("p33-sidecar", P33_INSTANCE="one")
    until("all books are open", lambda: all(out.ledger(symbol) for symbol in house.pool))
    yield process


@pytest.mark.usefixtures("sidecar")
def test_a_deleted_group_and_a_deleted_stream(house: House, out: Outsider) -> None:
    """The next plan is answered, and no entry that was dealt with is answered again."""
    symbol = house.fresh()
    before, _ = out.plan(symbol, "FOO")
    out.permit(before)
    out.redis.xgroup_destroy(out.plans, "p33")
    assert out.verdict(symbol, "FOO")["reason"] == "unsupported_action"
    out.redis.delete(out.plans)
    assert out.verdict(symbol, "FOO")["reason"] == "unsupported_action"
    assert len(out.records("quantum:p33:decisions", plan_id=before)) == 1


@pytest.mark.usefixtures("sidecar")
def test_a_deleted_result_stream_is_a_gap_until_the_exchange_agrees(house: House, out: Outsider) -> None:
    """I50: an event; a newer snapshot that equals the book shows that nothing was missing."""
    symbol = house.fresh()
    out.result(symbol, decision="EXECUTE", executed="True", order_id="1", side="SELL", executed_qty="10")
    until("booked", lambda: out.ledger(symbol)["last_known_amt"] == "90")
    house.exchange.set_position(symbol, "90")
    out.redis.delete(out.results)
    until("the gap is an event", lambda: out.records("quantum:p33:events", kind="gap"))
    until("allowed again", lambda: out.verdict(symbol)["allow"])


def test_kill_9_in_a_burst(house: House, out: Outsider, sidecar: Process) -> None:
    """Three times: every plan has exactly one verdict, at most one ALLOW is open, nothing stays pending."""
    symbol, published = house.fresh(), {}
    for _ in range(3):
        published |= dict(out.plan(symbol, "FOO") for _ in range(150))
        until("some are answered", partial(_answered, out, published, but=100))
        sidecar.kill()
        published |= dict(out.plan(symbol) for _ in range(5))
        sidecar.start()
        until("all are answered", partial(_answered, out, published))
    records = Counter(record["stream_id"] for record in out.records("quantum:p33:decisions", symbol=symbol))
    assert {records[entry_id] for entry_id in published.values()} == {1}
    until("all acknowledged", lambda: out.redis.xpending(out.plans, "p33")["pending"] == 0)
    outcomes = [record["outcome"] for record in out.records("quantum:p33:decisions", symbol=symbol)]
    assert outcomes.count("ALLOW") <= 1


def _answered(out: Outsider, published: dict[str, str], *, but: int = 0) -> bool:
    """Whether at most so many have no verdict yet."""
    decided = {entry["plan_id"] for _, entry in out.redis.xrange("quantum:p33:decisions")}
    return len(published.keys() - decided) <= but


def test_an_exchange_that_fails(house: House, out: Outsider, sidecar: Process) -> None:
    """Stale, then denied by name; a failed answer is never a flat position (I19, X01); then all is well again."""
    symbol = house.fresh()
    page = house.page(sidecar)
    before = out.snapshot(symbol)["position_amt"]
    house.exchange.fault("html_200", "GET positionRisk", times=None)
    until("stale", lambda: out.verdict(symbol).get("reason") == "stale_exchange_state")
    status, _, body = page.get("/readyz")
    assert (status, "exchange_stale" in body) == (503, True)
    assert out.snapshot(symbol)["position_amt"] == before == "100"
    assert any(record["outcome"] == "html" for record in out.records("quantum:p33:snapshots"))
    house.exchange.clear()
    until("ready again", lambda: page.get("/readyz")[0] == 200)
    other = house.fresh()
    until("allowed", lambda: out.verdict(other)["allow"])
