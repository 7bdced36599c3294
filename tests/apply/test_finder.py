"""Orders in nobody's hand: looked for until it is certain what became of them, never sent."""

from __future__ import annotations

from decimal import Decimal

import pytest

from p33_sidecar.apply.layer import Sent
from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.store import keys
from tests.apply.shop import PLANS, Shop
from tests.gate.sidecar import PLAN, SYMBOL

CERTAIN_MS = -5_000 - 30_000
"""A permit that ended so long ago that recvWindow and the exchange's read lag are over, too."""


class Steps:
    """A monotonic clock that makes every search due."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 10.0
        return self.now_s


@pytest.mark.parametrize("executed", [True, False], ids=["it arrived", "it did not"])
def test_i56_an_unknown_outcome_is_looked_up_and_never_sent_again(shop: Shop, executed: bool):
    """I56: the answer was lost. If the order is there, its fill is the one result; if not, nothing is said yet."""
    shop.exchange.fault("drop", "POST order", executed=executed)
    shop.applier().handle(shop.allowed())
    assert not shop.results() and shop.intents() == 1
    finder = shop.finder()
    finder.step()
    assert shop.sends() == 1
    if executed:
        assert (shop.only_result().executed, shop.only_result().step["executed_qty"]) == ("True", "0.028")
        assert not shop.intents() and not finder.count
    else:
        assert not shop.results() and finder.count == 1


def test_i56_crash_after_the_order_restart_one_order_one_result(shop: Shop):
    """I56: sent, answered, and the process is gone before it could say so: the next life finds it."""
    entry = shop.allowed()
    applier = shop.applier()
    applier.store.finish = dies
    with pytest.raises(Gone):
        applier.handle(entry)
    shop.applier().handle(entry)
    shop.finder().step()
    assert len(shop.exchange.orders) == 1 and shop.only_result().executed == "True"
    assert shop.exchange.position_amt(SYMBOL) == Decimal("0.010")


def test_t12_taken_and_never_sent_ends_as_order_not_sent(shop: Shop):
    """T12: crash after taking, before sending: looked up, never sent; in the end one result that says so."""
    shop.intend(expires_in_ms=CERTAIN_MS + 60_000)
    finder = shop.finder(mono_s=Steps())
    for _ in range(3):
        finder.step()
    assert not shop.results() and finder.count == 1
    shop.intend(expires_in_ms=CERTAIN_MS)
    fresh = shop.finder(mono_s=Steps())
    fresh.step()
    result = shop.only_result()
    assert (result.decision, result.executed, result.error) == ("EXECUTE", "False", "order_not_sent")
    assert not shop.sends() and not shop.intents()
    fresh.step()
    finder.step()
    assert len(shop.results()) == 1


@pytest.mark.parametrize("fault", ["http_502", "html_200", "drop", "http_418", "error_200"])
def test_no_answer_is_not_no_order(shop: Shop, fault: str):
    """Beyond the last moment, but the exchange does not say: nothing is certain, nothing is said."""
    shop.intend(expires_in_ms=CERTAIN_MS)
    shop.exchange.fault(fault, "GET order", times=1)
    finder = shop.finder(mono_s=Steps())
    finder.step()
    assert not shop.results() and finder.count == 1


def test_the_exchanges_read_lag_is_waited_out(shop: Shop):
    """An order that reads do not show yet is no order that was never sent."""
    shop.exchange.set_lag(120_000)
    shop.exchange.fault("drop", "POST order", executed=True)
    shop.applier().handle(shop.allowed())
    finder = shop.finder(mono_s=Steps())
    finder.step()
    assert not shop.results()
    shop.exchange.set_lag(0)
    finder.step()
    assert shop.only_result().executed == "True"


def test_an_order_in_somebodys_hand_is_left_to_it(shop: Shop):
    """Our own worker's, and another living instance's for as long as its request may take."""
    shop.intend("mine", expires_in_ms=CERTAIN_MS)
    shop.intend("theirs", expires_in_ms=CERTAIN_MS, instance="apply-2", noted_ms=shop.hand.now_ms() + 60_000)
    shop.intend("dead", expires_in_ms=CERTAIN_MS, instance="apply-3", noted_ms=shop.hand.now_ms() - 16_000)
    finder = shop.finder(busy=frozenset({"mine"}))
    finder.step()
    assert [result.plan_id for result in shop.results()] == ["dead"]


def test_two_layers_that_look_at_once_say_it_once(shop: Shop):
    """Both find it; the step that writes the result forgets the intent, so the second has nothing to say."""
    shop.exchange.fault("drop", "POST order", executed=True)
    shop.applier().handle(shop.allowed())
    first, second = shop.finder(), shop.finder(instance="apply-1")
    first._notice()
    second._notice()
    first.step()
    second.step()
    assert len(shop.results()) == 1 and first.count == second.count == 0


def test_an_intent_that_cannot_be_read_harms_no_other(shop: Shop):
    """Somebody wrote nonsense into our hash: said once, and the others are seen to."""
    shop.redis.hset(keys.ORDER_INTENTS, "nonsense", "{")
    shop.redis.hset(keys.ORDER_INTENTS, "another's", shop.intend("other", expires_in_ms=CERTAIN_MS).encoded())
    shop.redis.hdel(keys.ORDER_INTENTS, "other")
    shop.intend(expires_in_ms=CERTAIN_MS)
    shop.finder().step()
    assert shop.only_result().plan_id == PLAN


class TestT06:
    """T06: the server loses its last writes, the taking among them; the order stands at the exchange."""

    @pytest.fixture
    def world(self):
        with EmbeddedServer() as server, SimExchange(symbols=3, positions={"BTCUSDT": "0.038"}) as exchange:
            shop = Shop(server.url, exchange)
            yield server, shop
            shop.close()

    def test_what_we_remember_is_found_and_said_again(self, world):
        """The process lives: it knows which orders it sent, and says what became of the one that was forgotten."""
        server, shop = world
        server.save()
        sent = Sent()
        finder = shop.finder(sent=sent)
        finder.step()
        shop.applier(sent=sent).handle(shop.allowed())
        mark = shop.redis.get(keys.taken(PLAN))
        assert shop.only_result().executed == "True"
        server.restart()
        assert not shop.redis.exists(keys.taken(PLAN), keys.TAKINGS)
        for _ in range(3):
            finder.step()
        result = shop.only_result()
        assert (result.executed, result.step["executed_qty"]) == ("True", "0.028")
        assert shop.redis.get(keys.taken(PLAN)) == mark and shop.sends() == 1

    def test_a_server_that_kept_it_is_not_told_again(self, world):
        """The same restart with everything on disk: the result stands, no second one."""
        server, shop = world
        sent = Sent()
        finder = shop.finder(sent=sent)
        finder.step()
        shop.applier(sent=sent).handle(shop.allowed())
        server.save()
        server.restart()
        for _ in range(3):
            finder.step()
        assert len(shop.results()) == 1

    def test_an_order_whose_mark_has_expired_is_not_forgotten(self, world):
        """Marks live a day: of an older order the server may know nothing without having lost it."""
        server, shop = world
        sent = Sent()
        finder = shop.finder(sent=sent)
        finder.step()
        old = shop.intend("old", expires_in_ms=0, noted_ms=shop.hand.now_ms() - 43_200_001)
        sent.add(old)
        server.restart()
        finder.step()
        assert finder.count == 0

    def test_a_plan_read_again_is_looked_up_before_anything_else(self, world):
        """The process is new, too: an entry read from a server nobody trusts yet is asked for at the exchange first."""
        server, shop = world
        entry = shop.allowed()
        server.save()
        shop.applier().handle(entry)
        server.restart()
        assert shop.hand.both_there() and shop.redis.xlen(PLANS) == 1
        shop.applier().handle(entry)
        result = shop.only_result()
        assert (result.executed, result.step["executed_qty"], result.step["side"]) == ("True", "0.028", "SELL")
        assert shop.sends() == 1 and shop.redis.exists(keys.taken(PLAN))

    def test_not_knowing_is_no_leave_to_go_on(self, world):
        """The exchange does not answer the look: the entry is left for later, nothing is taken."""
        server, shop = world
        entry = shop.allowed()
        server.restart()
        shop.exchange.fault("http_502", "GET order", times=1)
        with pytest.raises(Exception, match="http_5xx"):
            shop.applier().handle(entry)
        assert not shop.results() and not shop.sends()


class Gone(Exception):
    """The process ended here."""


def dies(*args: object, **more: object) -> bool:
    raise Gone
