"""Incidents of the order itself: what is closed, how much of it, and on which side, as the exchange gets to see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import pytest

from p33_sidecar.core.permit import sign
from p33_sidecar.store import keys
from tests.gate.sidecar import KEY
from tests.service.over_http import Floor

Change = Callable[[dict], dict]


def renamed(permit: dict) -> dict:
    """A writer of tomorrow calls the quantity something else."""
    return {"close_qty" if name == "safe_close_qty" else name: value for name, value in permit.items()}


def next_version(permit: dict) -> dict:
    return permit | {"v": 2}


# -- one format for writer and reader -----------------------------------------------------------------------------


def test_i05_the_order_is_made_of_the_sidecars_own_bytes(floor: Floor) -> None:
    """Written by the desk, read by the gate: quantity and side at the exchange are the permit's own."""
    floor.opened(BTCUSDT="-0.041")
    entry = floor.publish("PARTIAL_50")
    floor.world.decide()
    written = json.loads(floor.redis.get(keys.permit("plan1")))
    assert (written["v"], written["safe_close_qty"], written["close_side"]) == (1, 0.02, "BUY")
    assert floor.apply(entry) == "BUY 0.02"
    (order,) = [order for order in floor.sim.orders if order.client_order_id == "p33-plan1"]
    assert (order.side, order.qty, order.reduce_only) == ("BUY", Decimal("0.020"), True)


@pytest.mark.parametrize(("changed", "refusal"), [
    (renamed, "invalid_quantity"), (next_version, "invalid_permit_type"),
    (lambda permit: next_version(renamed(permit)), "invalid_permit_type")], ids=["renamed", "version", "both"])
def test_i05_a_writer_that_was_changed_alone_costs_no_permit(floor: Floor, changed: Change, refusal: str) -> None:
    """Properly signed, with a field or of a version that the reader does not know: refused, both still there."""
    floor.opened()
    entry = floor.publish()
    floor.world.decide()
    written = json.loads(floor.redis.get(keys.permit("plan1")))
    body = {name: value for name, value in written.items() if name != "sig"}
    other = sign(json.dumps(changed(body), separators=(",", ":")).encode(), KEY)
    floor.redis.set(keys.permit("plan1"), other, keepttl=True)
    assert floor.apply(entry) == refusal
    assert (floor.permits_left("plan1"), floor.orders()) == (2, [])
    assert floor.carry() == "SELL 0.028", "the next plan's permit is one that the reader knows"


# -- what an action closes ------------------------------------------------------------------------------------------


def test_i12_a_quarter_is_a_quarter(floor: Floor) -> None:
    """PARTIAL_25 of 0.040 sells 0.010, once, and leaves 0.030 on both sides."""
    floor.opened(BTCUSDT="0.040")
    assert floor.carry("PARTIAL_25") == "SELL 0.01"
    assert floor.orders() == [("BTCUSDT", Decimal("0.010"))] and floor.accounts() == ("0.03", "0.03")


@pytest.mark.parametrize(("action", "steps", "refusal"), [
    ("FOO", "[]", "unsupported_action"), ("UPDATE_SL", "[]", "unsupported_action"), ("", "[]", "unsupported_action"),
    ("partial_25", "[]", "unsupported_action"),
    ("PARTIAL_25", '[{"step":"CLOSE_FULL"}]', "action_step_mismatch"),
    ("PARTIAL_25", '[{"step":"CLOSE_PARTIAL_25","pct":75.0}]', "action_step_mismatch"),
])
def test_i12_what_is_no_close_closes_nothing(floor: Floor, action: str, steps: str, refusal: str) -> None:
    """Unknown, or contradicted by its own step: denied by name, no order, and the position stays whole."""
    floor.opened()
    assert floor.carry(action, steps=steps) == f"p33_denied:{refusal}"
    assert floor.orders() == [] and floor.accounts() == ("0.038", "0.038")


# -- steps and tolerance --------------------------------------------------------------------------------------------


def test_i53_each_symbol_has_the_step_that_the_exchange_says(floor: Floor) -> None:
    """0.038 x 75 % is 0.028; 123.9 x 50 % at step 1 is 61: the exchange takes both as they are."""
    floor.world.memory.allowlist = None
    floor.sim.set_symbol("TRXUSDT", step="0.1", market_step="0.1", qty_precision=1)
    floor.sim.set_position("TRXUSDT", "123.9")
    floor.sim.set_symbol("TRXUSDT", step="1", market_step="1", qty_precision=1)
    floor.opened()
    assert [floor.carry("PARTIAL_75"), floor.carry("PARTIAL_50", symbol="TRXUSDT")] == ["SELL 0.028", "SELL 61"]
    assert floor.orders() == [("BTCUSDT", Decimal("0.028")), ("TRXUSDT", Decimal(61))]
    assert floor.accounts("TRXUSDT") == ("62.9", "62.9")


def test_i53_unknown_step_denies_until_the_exchange_says_one(floor: Floor) -> None:
    """A contract whose step cannot be used has none: no order is guessed, and the next list mends it."""
    floor.sim.set_symbol("BTCUSDT", step="0", market_step="0")
    floor.opened()
    assert floor.carry() == "p33_denied:no_symbol_filters" and floor.orders() == []
    floor.sim.set_symbol("BTCUSDT", step="0.001", market_step="0.001")
    floor.world.memory.filters_read_ms = floor.world.clerk._filters_tried_ms = 0
    floor.world.clerk.step()
    assert floor.carry() == "SELL 0.028"


@pytest.mark.parametrize(("book", "said"), [
    ("0.0495", "SELL 0.05"), ("0.0494", "p33_denied:reconcile_required_qty_mismatch")])
def test_i54_one_per_cent_of_the_exchanges_amount(floor: Floor, book: str, said: str) -> None:
    """Book 0.0495, exchange 0.0500: closed whole. 0.0494: not touched."""
    floor.sim.set_symbol("BTCUSDT", step="0.0001", min_qty="0.0001", market_step="0.0001", market_min="0.0001",
                         qty_precision=4)
    floor.opened(BTCUSDT=book)
    floor.sim.set_position("BTCUSDT", "0.0500")
    floor.world.poll()
    assert floor.carry("CLOSE_FULL") == said
    assert floor.sim.position_amt("BTCUSDT") == (0 if said.startswith("SELL") else Decimal("0.0500"))


def test_i54_a_thousandth_of_a_bitcoin_is_not_nothing(floor: Floor) -> None:
    """0.001 in the book and 0.002 at the exchange: an absolute tolerance of 0.001 would let it pass."""
    floor.opened(BTCUSDT="0.001")
    floor.sim.set_position("BTCUSDT", "0.002")
    floor.world.poll()
    assert floor.carry("CLOSE_FULL") == "p33_denied:reconcile_required_qty_mismatch" and floor.orders() == []


# -- shorts -----------------------------------------------------------------------------------------------------------


def test_i33_a_short_keeps_its_sign_through_every_close(floor: Floor) -> None:
    """-0.012, half of it bought back: `-0.006`, SHORT, in the book as at the exchange, and the rest closes, too."""
    floor.opened(BTCUSDT="-0.012")
    assert floor.carry("PARTIAL_50") == "BUY 0.006"
    assert floor.accounts() == ("-0.006", "-0.006") and floor.world.ledger()["last_known_side"] == "SHORT"
    floor.see_order()
    snapshot = floor.redis.hgetall(keys.snapshot("BTCUSDT"))
    assert (snapshot["position_amt"], snapshot["side"]) == ("-0.006", "SHORT")
    assert floor.carry("CLOSE_FULL") == "BUY 0.006" and floor.accounts() == ("0", "0")
