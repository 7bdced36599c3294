"""`p33 ledger show|adopt|adjust`: a person sets a book right, with who and why, and never while it is not free."""

from __future__ import annotations

import pytest

from p33_sidecar.core.record import policy_hash, value_json
from p33_sidecar.store import keys
from p33_sidecar.store.switches import note_policy
from tests.cli.conftest import Tool, take
from tests.service.world import World


def drifted(world: World, amt: str = "0.05") -> World:
    """Somebody traded by hand: the exchange holds another amount than the book."""
    world.exchange.amounts["BTCUSDT"] = amt
    world.poll()
    return world


def test_show_lays_the_accounts_side_by_side(world: World, p33: Tool) -> None:
    """One symbol with its journal, or all of them."""
    drifted(world)
    said = p33("ledger", "show", "BTCUSDT", "--json")
    assert said.code == 0
    assert (said.json["book"]["amt"], said.json["exchange"]["amt"]) == ("0.038", "0.05")
    assert said.json["difference"] == "0.012"
    assert [entry["cause"] for entry in said.json["journal"]] == ["opening"]
    people = p33("ledger", "show").out
    assert "+0.012" in people
    assert "1 symbols are flat on both sides." in people


def test_show_of_a_symbol_without_book(p33: Tool, redis_url: str) -> None:
    """Exit code 1: the question was whether there is one."""
    said = p33("ledger", "show", "XRPUSDT")
    assert (said.code, "there is no book for XRPUSDT" in said.err) == (1, True)
    assert p33("ledger", "show", "XRPUSDT", "--json").json["book"] is None


def test_adopt_takes_the_exchanges_amount(world: World, p33: Tool) -> None:
    """Journalled with who and why, and the next plan is judged by it."""
    drifted(world)
    assert world.ask(plan_id="a") == "reconcile_required_qty_mismatch"
    said = p33("ledger", "adopt", "BTCUSDT", "--reason", "closed by hand, ticket 7", "--json")
    assert said.code == 0
    assert (said.json["amt_before"], said.json["amt_after"], said.json["rev"]) == ("0.038", "0.05", 2)
    entry = world.records(keys.JOURNAL)[-1]
    assert (entry["cause"], entry["delta"], entry["why"]) == ("adjustment", "0.012", "closed by hand, ticket 7")
    assert "@" in entry["by"]
    assert (world.ledger()["last_known_amt"], world.ledger()["source"]) == ("0.05", "adjustment")
    assert world.ask(plan_id="a") == "ALLOW 0.037"


def test_adjust_sets_an_amount_of_ones_own(world: World, p33: Tool) -> None:
    """Exact, signed, canonical; a short is negative."""
    said = p33("ledger", "adjust", "ETHUSDT", "-1.500", "--reason", "found it")
    assert said.code == 0
    assert world.ledger("ETHUSDT")["last_known_amt"] == "-1.5"
    assert world.ledger("ETHUSDT")["last_known_side"] == "SHORT"


def test_differences_and_journal_keep_every_digit(world: World, p33: Tool) -> None:
    """More digits than Python's own decimal context has room for."""
    long = "123456789012345678.123456789012"
    drifted(world, long)
    assert p33("ledger", "adopt", "BTCUSDT", "--reason", "x").code == 0
    assert p33("ledger", "show", "BTCUSDT", "--json").json["difference"] == "0"
    assert p33("ledger", "adjust", "BTCUSDT", "0.05", "--reason", "x").code == 0
    assert world.records(keys.JOURNAL)[-1]["delta"] == "-123456789012345678.073456789012"


def test_i34_an_adjustment_does_not_restart_the_cooldown(world: World, p33: Tool) -> None:
    """The last order stays what it was."""
    drifted(world)
    before = world.ledger()["last_order_time_ms"]
    p33("ledger", "adopt", "BTCUSDT", "--reason", "x")
    assert world.ledger()["last_order_time_ms"] == before == "0"


@pytest.mark.parametrize(("state", "names"), [("open", "open"), ("taken", "taken"), ("settling", "settling"),
                                              ("unbooked", "not booked yet"), ("unsettled", "order")])
def test_t22_a_book_is_not_changed_while_its_symbol_is_not_free(world: World, redis_url: str, p33: Tool, state: str,
                                                                names: str) -> None:
    """Between an order and its booking an adoption would count the fill twice: refused by name, nothing changed."""
    if state == "unsettled":
        world.result("foreign", status="PARTIALLY_FILLED", qty="0.004")
        world.book()
    else:
        assert world.ask(plan_id="a") == "ALLOW 0.028"
    if state in ("taken", "settling", "unbooked"):
        take(world, redis_url, "a")
    if state in ("settling", "unbooked"):
        world.result("a")
    if state == "settling":
        world.book()
    if state != "open":
        drifted_in_store(world, "0.01")
    before, journal = world.ledger(), len(world.records(keys.JOURNAL))
    said = p33("ledger", "adopt", "BTCUSDT", "--reason", "hurry", "--json")
    assert (said.code, said.json["ok"]) == (1, False)
    assert any(names in reason for reason in said.json["reasons"])
    assert world.ledger() == before
    assert len(world.records(keys.JOURNAL)) == journal
    assert p33("ledger", "adjust", "BTCUSDT", "0.01", "--reason", "hurry").code == 1


@pytest.mark.parametrize("noted", [False, True], ids=["by its newest verdict", "by its last start"])
def test_t22_free_is_what_the_gates_own_thresholds_call_free(world: World, p33: Tool, noted: bool) -> None:
    """An operator's environment without the gate's cooldown does not shorten it."""
    if noted:
        note_policy(world.redis, value_json(world.policy), hash_=policy_hash(world.policy), at_ms=1, by="gate")
    else:
        world.ask(plan_id="a")
    world.result("a")
    world.book()
    drifted_in_store(world, "0.01")
    said = p33("ledger", "adopt", "BTCUSDT", "--reason", "hurry", "--json", P33_COOLDOWN_SEC="0")
    assert (said.code, [why for why in said.json["reasons"] if "the cooldown is 60000 ms" in why]) == (
        1, said.json["reasons"])
    assert p33("ledger", "show", "BTCUSDT", "--json", P33_COOLDOWN_SEC="0").json["not_free"]


def test_t22_results_that_wait_in_another_stream_are_not_overlooked(world: World, p33: Tool) -> None:
    """An operator's environment that names another result stream than the gate books sees no result wait."""
    drifted_in_store(world, "0.01")
    world.result("a")
    elsewhere = {"P33_RESULT_STREAM": "quantum:stream:apply.result"}
    said = p33("ledger", "adopt", "BTCUSDT", "--reason", "hurry", "--json", **elsewhere)
    assert (said.code, said.json["forcible"]) == (1, True)
    assert "the gate books the results of quantum:apply.result" in said.json["reasons"][0]
    world.book()
    assert world.ledger()["last_known_amt"] == "0.01"


def drifted_in_store(world: World, amt: str) -> None:
    """The exchange's newest answer, without the bookkeeper's turn that a poll of the world ends with."""
    world.exchange.amounts["BTCUSDT"] = amt
    world.poller.poll()


def test_force_overrules_and_says_what(world: World, p33: Tool) -> None:
    """For somebody who knows that no order is on its way; what was overruled is kept."""
    world.ask(plan_id="a")
    said = p33("ledger", "adjust", "BTCUSDT", "0.02", "--reason", "I know", "--force", "--json")
    assert said.code == 0
    assert said.json["overruled"][0].startswith("open: the permit of plan a")
    assert not world.redis.exists(keys.open_permit("BTCUSDT"))
    assert [e["why"] for e in world.records(keys.EVENTS) if e["kind"] == "adjustment"] == ["I know"]


def test_adopt_settles_a_hash_that_somebody_changed(world: World, p33: Tool) -> None:
    """Tampering stays denied until a person has looked; then the hash is the book's again."""
    world.redis.hset(keys.ledger("BTCUSDT"), "last_known_amt", "5")
    assert world.ask(plan_id="a") == "ledger_tampered"
    said = p33("ledger", "adopt", "BTCUSDT", "--reason", "an old script wrote it")
    assert said.code == 0
    assert "the hash that somebody changed is rewritten" in said.out
    assert world.ask(plan_id="a") == "ALLOW 0.028"


@pytest.mark.parametrize(("spoil", "why"), [
    (lambda w: w.redis.delete(keys.snapshot("BTCUSDT")), "no snapshot"),
    (lambda w: w.redis.hset(keys.snapshot("BTCUSDT"), "ts_ms", w.clock.now_ms() - 60_000), "at most 30000 ms"),
    (lambda w: drifted(w, None), "hedge mode"),
], ids=["none", "old", "hedge"])
def test_adopt_needs_an_answer_of_the_exchange(world: World, p33: Tool, spoil, why: str) -> None:
    """What is not known is not adopted, not even by force."""
    spoil(world)
    said = p33("ledger", "adopt", "BTCUSDT", "--reason", "x", "--force")
    assert said.code == 1
    assert why in said.err
    assert world.ledger()["rev"] == "1"


@pytest.mark.parametrize("typed", [
    ("adopt", "BTCUSDT"), ("adopt", "BTCUSDT", "--reason", "  "), ("adopt", "BTC USDT", "--reason", "x"),
    ("adjust", "BTCUSDT", "abc", "--reason", "x"), ("adjust", "BTCUSDT", "NaN", "--reason", "x"),
    ("adjust", "BTCUSDT", "--reason", "x"), ("adjust", "BTC:USDT", "1", "--reason", "x"),
])
def test_wrong_usage_changes_nothing(world: World, p33: Tool, typed: tuple[str, ...]) -> None:
    """No reason, no symbol, no number: exit code 2."""
    assert p33("ledger", *typed).code == 2
    assert world.ledger()["rev"] == "1"
