"""`APPLY_GATE=governor`, the rollback: the Governor's permit alone, the exchange's own word, a warning each time."""

from __future__ import annotations

import logging
from decimal import Decimal

import pytest

from p33_sidecar.store import keys
from tests.apply.shop import Shop
from tests.gate.sidecar import PLAN, SYMBOL


def governed(shop: Shop, action: str = "PARTIAL_75", symbol: str = SYMBOL, **fields: str):
    """A plan that only the Governor has answered; there is no sidecar."""
    entry = shop.publish(PLAN, symbol, action, **fields)
    shop.hand.govern()
    return entry


def test_the_quantity_is_the_actions_share_of_what_the_exchange_says_now(shop: Shop, caplog):
    """No snapshot, no permit of ours: 75 % of 0.038, floored to the step, reduce-only; warned of, and marked so."""
    with caplog.at_level(logging.WARNING, "p33.apply"):
        shop.applier(governor_only=True).handle(governed(shop))
    (order,) = shop.exchange.orders
    assert (order.side, order.qty, order.reduce_only) == ("SELL", Decimal("0.028"), True)
    assert shop.only_result().executed == "True" and not shop.intents()
    assert "apply.governor_only" in [record.getMessage() for record in caplog.records]
    assert shop.redis.get(keys.taken(PLAN)).startswith("governor ")
    assert not shop.redis.exists(keys.governor_permit(PLAN))


def test_close_qty_is_an_upper_bound(shop: Shop):
    """The plan's own bound holds here, too."""
    shop.applier(governor_only=True).handle(governed(shop, close_qty="0.010"))
    assert shop.exchange.orders[0].qty == Decimal("0.010")


REFUSED = (
    ("flat", {"symbol": "ETHUSDT"}, lambda shop: None),
    ("unknown action", {"action": "FOO"}, lambda shop: None),
    ("UPDATE_SL", {"action": "UPDATE_SL"}, lambda shop: None),
    ("side that opens", {"side": "BUY"}, lambda shop: None),
    ("steps that say otherwise", {"steps": '[{"step":"CLOSE_PARTIAL_50","side":"close","pct":50}]'}, lambda shop: None),
    ("hedge mode", {}, lambda shop: shop.exchange.set_mode(hedge=True)),
    ("no answer", {}, lambda shop: shop.exchange.fault("http_502", "GET positionRisk", times=None)),
    ("missing row", {}, lambda shop: shop.exchange.fault("missing_rows", "positionRisk", times=None)),
    ("no lot rules", {}, lambda shop: shop.exchange.fault("http_502", "GET exchangeInfo", times=None)),
)


@pytest.mark.parametrize(("more", "happens"), [(m, h) for _, m, h in REFUSED], ids=[name for name, _, _ in REFUSED])
@pytest.mark.parametrize("dry_run", [False, True], ids=["testnet", "dry_run"])
def test_what_is_not_known_is_not_ordered(shop: Shop, more: dict, happens, dry_run: bool):
    """`invalid_quantity`: nothing is sent, and the Governor's permit stays."""
    happens(shop)
    shop.applier(governor_only=True, dry_run=dry_run).handle(governed(shop, **more))
    result = shop.only_result()
    assert (result.decision, result.step["refusal"]) == ("BLOCKED", "invalid_quantity")
    assert not shop.sends() and shop.redis.exists(keys.governor_permit(PLAN))


def test_another_venues_database_is_left_alone(shop: Shop):
    """Without a permit that names the venue, the database's own name for it counts."""
    shop.redis.set(keys.VENUE, "fapi.binance.com")
    shop.applier(governor_only=True).handle(governed(shop))
    assert shop.only_result().step["refusal"] == "venue_mismatch" and not shop.sends()


@pytest.mark.parametrize(("refusal", "spoil"), [
    ("halted", lambda shop: shop.redis.set(keys.HALT, "1")),
    ("reconcile_hold_active", lambda shop: shop.redis.set(keys.hold(SYMBOL), "1")),
    ("missing_governor_permit", lambda shop: shop.redis.delete(keys.governor_permit(PLAN))),
    ("governor_denied", lambda shop: shop.hand.govern(value='{"granted":false}')),
])
def test_switches_hold_and_governor_bind_as_ever(shop: Shop, refusal: str, spoil):
    """The rollback takes our permit out of the pair, nothing else."""
    entry = governed(shop)
    spoil(shop)
    shop.applier(governor_only=True).handle(entry)
    assert shop.only_result().step["refusal"] == refusal and not shop.sends()


def test_dry_run_says_the_size_it_would_order(shop: Shop):
    """Nothing taken, nothing sent, and the warning's mode is honest about its quantity."""
    shop.applier(governor_only=True, dry_run=True).handle(governed(shop))
    result = shop.only_result()
    assert (result.would_execute, result.step["quantity"], result.step["side"]) == ("True", "0.028", "SELL")
    assert shop.redis.exists(keys.governor_permit(PLAN)) and not shop.sends()
