"""What an Apply Layer does while there is no sidecar to answer it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from p33_sidecar.rehearsal.plan_source import plan_of
from p33_sidecar.store import keys
from tests.e2e.house import House


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """A short wait, and a Governor that has always granted before the plan comes: us."""
    with House(symbols=2, governor=False, APPLY_PERMIT_WAIT_MS="500") as running:
        yield running


def test_i07_a_bypass_gets_nowhere(house: House):
    """I07: while the sidecar hangs somebody writes a permit himself: refused, reported, no order."""
    symbol, sidecar = house.take(), house.stack.sidecars[0]
    sidecar.freeze()
    try:
        plan = plan_of(symbol, "CLOSE_FULL")
        house.stack.redis.set(keys.permit(plan.plan_id), msgspec.json.encode({
            "v": 1, "plan_id": plan.plan_id, "symbol": symbol, "allow": True, "safe_close_qty": 1000,
            "close_side": "SELL", "exchange_position_amt": 1000, "ledger_position_amt": 1000, "ledger_rev": 1,
            "snapshot_age_sec": 0, "max_snapshot_age_sec": 10, "action": "CLOSE_FULL", "venue": "127.0.0.1",
            "ts_epoch": 1, "issued_ms": 1, "expires_ms": 1 << 52, "nonce": "n"}))
        house.grant(plan)
        house.stack.source.publish(plan)
        _, step = house.result(plan)
        assert step["refusal"] == "forged_permit" and not house.orders(symbol)
    finally:
        sidecar.thaw()
    house.stack.wait_sidecars()


def test_t17_given_up_here_and_read_late_there(house: House):
    """T17: without a sidecar BLOCKED after the wait; the one that starts later says `plan_expired`, nothing is open."""
    symbol = house.take()
    house.stack.kill_sidecar()
    plan = plan_of(symbol, "PARTIAL_75")
    house.grant(plan)
    house.stack.source.publish(plan)
    fields, step = house.result(plan)
    assert (fields["decision"], step["refusal"]) == ("BLOCKED", "missing_p33_permit")
    house.stack.restart_sidecar()
    house.until("its verdict", lambda: house.verdicts(plan))
    assert house.verdicts(plan) == ["plan_expired"]
    assert not house.stack.redis.exists(keys.open_permit(symbol)) and not house.orders(symbol)
    assert len(house.results(plan)) == 1
