"""No order reaches the market after its permit's end, whatever stood still in between (timeline T05).

A process that is stopped wakes with a clock that went on; a machine that is paused as a whole (a virtual one that is
moved or snapshotted) wakes with one that stood still. To the exchange both are a timestamp from long ago.
"""

from __future__ import annotations

import pytest

from p33_sidecar.apply.orders import Orders
from p33_sidecar.apply.results import REJECTED
from p33_sidecar.exchange import Credentials, Exchange
from p33_sidecar.store.applying import ApplyStore
from p33_sidecar.store.connect import ServerClock
from p33_sidecar.store.positions import RedisBans
from tests.apply.shop import Shop

PAUSE_MS = 60_000


def machine(shop: Shop, store: ApplyStore) -> Orders:
    """Orders of a machine whose clock stands still from now on."""
    clock = ServerClock(mono_ns=lambda: 0)
    clock.sync(store.now_ms())
    exchange = Exchange(shop.exchange.url, credentials=Credentials(shop.exchange.api_key, shop.exchange.api_secret),
                        bans=RedisBans(store.redis), now_ms=clock.now_ms)
    return Orders(exchange, store, clock, wait=lambda seconds: False)


def test_t05_a_machine_paused_after_the_last_look_sends_nothing_that_counts(
        shop: Shop, monkeypatch: pytest.MonkeyPatch):
    """The exchange refuses the old timestamp; measured anew, its clock would make it young: the permit is over, and
    the order is not sent again."""
    store, looked = shop.store(), ApplyStore.now_ms
    orders, intent = machine(shop, store), shop.intend(expires_in_ms=PAUSE_MS)

    def then_paused(self: ApplyStore) -> int:
        now_ms = looked(self)
        shop.exchange.set_clock_offset(PAUSE_MS)
        monkeypatch.setattr(ApplyStore, "now_ms", lambda self: looked(self) + PAUSE_MS)
        return now_ms

    monkeypatch.setattr(ApplyStore, "now_ms", then_paused)
    outcome = orders.send(intent)
    assert not shop.exchange.orders and outcome.error == REJECTED and outcome.detail.startswith("-1021")
    assert shop.sends() == 1


@pytest.mark.parametrize("ahead_ms", [-PAUSE_MS, PAUSE_MS])
def test_an_exchange_whose_clock_differs_still_gets_the_order(shop: Shop, ahead_ms: int):
    """The permit holds: the clock is measured, and the order sent again with its own time."""
    orders, _ = shop.orders(shop.store())
    shop.exchange.set_clock_offset(ahead_ms)
    outcome = orders.send(shop.intend(expires_in_ms=60_000))
    assert outcome.executed and len(shop.exchange.orders) == 1 and shop.sends() == 2
