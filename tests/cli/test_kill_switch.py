"""The kill switch as a journal tells it: what it withdrew and when, how it ended, and by whom, also without a word."""

from __future__ import annotations

import time

import pytest
import redis

from p33_sidecar.cli.halted import standing
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.service.clerk import HALTS_EVERY_MS
from p33_sidecar.service.metrics import Metrics
from p33_sidecar.service.status import status
from p33_sidecar.store import keys, switch_journal
from tests.cli.conftest import Tool, environment, take
from tests.service.world import World

WITHDRAWN_WITHIN_MS = 100


def events(world: World, *kinds: str) -> list[dict]:
    return [event for event in world.records(keys.EVENTS) if event["kind"] in kinds]


def look(world: World) -> None:
    """The clerk's next look at the switches, without waiting for it."""
    world.clerk._halts_read_ms -= HALTS_EVERY_MS
    world.clerk.step()


def test_a_halt_withdraws_within_100_ms_by_the_servers_own_clock(world: World, p33: Tool) -> None:
    """The halt and each withdrawal are one atomic step: their entries' times say so, whatever machine this is."""
    assert world.ask(plan_id='a"b\\') == "ALLOW 0.028"
    nonce = world.permit('a"b\\')["nonce"]
    assert p33("halt", "--reason", "night", "--for", "30m", "--json").json["withdrawn"] == ["BTCUSDT"]
    assert not world.redis.exists(keys.open_permit("BTCUSDT"))
    times = {fields["kind"]: int(entry_id.partition("-")[0]) for entry_id, fields in world.redis.xrange(keys.EVENTS)
             if fields["kind"] in ("halt", "withdrawal")}
    assert 0 <= times["withdrawal"] - times["halt"] <= WITHDRAWN_WITHIN_MS
    halt, withdrawal = events(world, "halt", "withdrawal")
    assert (withdrawal["plan_id"], withdrawal["nonce"], withdrawal["symbol"], withdrawal["why"]) == (
        'a"b\\', nonce, "BTCUSDT", "halted")
    assert (withdrawal["by"], withdrawal["at_ms"], withdrawal["v"]) == (halt["by"], halt["at_ms"], 1)


def test_a_halt_does_not_say_of_a_taken_permit_that_it_was_withdrawn(world: World, redis_url: str, p33: Tool) -> None:
    """Its order is on its way: who halts must not take it for stopped. The symbol stays outstanding."""
    assert world.ask(plan_id="p1") == "ALLOW 0.028"
    take(world, redis_url, "p1")
    assert p33("halt", "--reason", "night", "--json").json["withdrawn"] == []
    assert events(world, "withdrawal") == [] and "No permit was open." in p33("halt").out
    assert p33("resume").code == 0 and world.ask() == "permit_outstanding"


def test_a_halt_is_set_also_where_the_servers_memory_is_full() -> None:
    """Every other write is refused: the switch is set, what was open is withdrawn, and it can be lifted again."""
    with EmbeddedServer() as server:
        world, p33 = World(server.url).open_books(), Tool(**environment(server.url))
        assert world.ask() == "ALLOW 0.028"
        world.redis.config_set("maxmemory", "1mb")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            world.redis.set("something", "else")
        assert p33("halt", "--reason", "memory", "--for", "30m", "--json").json["withdrawn"] == ["BTCUSDT"]
        assert 0 < world.redis.pttl(keys.HALT) <= 1_800_000 and not world.redis.exists(keys.open_permit("BTCUSDT"))
        assert [event["kind"] for event in events(world, "halt", "withdrawal")] == ["halt", "withdrawal"]
        assert p33("resume").code == 0 and not world.redis.exists(keys.HALT)
        world.close()


def test_i51_a_symbol_is_halted_and_resumed_however_it_is_typed(world: World, p33: Tool) -> None:
    """`p33 halt btcusdt` halts BTCUSDT, and says so."""
    said = p33("halt", "btcusdt", "--json")
    assert said.json["halted"] == "BTCUSDT" and "BTCUSDT" in said.err and world.ask() == "halted"
    assert p33("ledger", "show", "btcusdt", "--json").json["symbol"] == "BTCUSDT"
    assert p33("resume", "btcusdt", "--json").json == {"resumed": "BTCUSDT", "was_halted": True, "still_halted": []}
    assert world.ask() == "ALLOW 0.028"


def test_a_symbol_that_nobody_knows_is_halted_as_typed_and_said_to_be_unknown(world: World, p33: Tool) -> None:
    """Whatever else cannot be read: a switch is set. One that was set by hand under an odd name can be lifted."""
    world.redis.delete(keys.FILTERS)
    world.redis.rpush(keys.FILTERS, "what is this")
    said = p33("halt", "NOSUCHUSDT", "--json")
    assert (said.code, world.redis.exists(keys.halt("NOSUCHUSDT"))) == (0, 1) and "no symbol NOSUCHUSDT" in said.err
    world.redis.set(keys.halt("btcusdt"), "1")
    assert p33("resume", "btcusdt", "--json").json["resumed"] == "btcusdt"
    assert not world.redis.exists(keys.halt("btcusdt"))


def test_who_why_and_until_when_is_seen_everywhere(world: World, p33: Tool) -> None:
    """Journal, status.json (which the page draws), `p33 status`, metrics, and the sidecar's log."""
    said = p33("halt", "BTCUSDT", "--reason", "moved by hand", "--for", "30m", "--json").json
    look(world)
    wanted = {"by": said["by"], "reason": "moved by hand", "until_ms": said["until_ms"]}
    (event,) = events(world, "halt")
    (shown,) = status(world.memory, world.clock)["halts"]
    told = p33("status", "--json").json["halts"]["BTCUSDT"]
    assert all(wanted.items() <= where.items() for where in (event, shown, told))
    assert "moved by hand" in p33("status").out
    metrics = Metrics(world.memory, world.clock, version="1", policy_hash="a", loosened=False).render().decode()
    assert "p33_halted_symbols 1.0" in metrics and "p33_halted 0.0" in metrics


def test_a_denial_says_who_had_halted_also_when_that_is_over(world: World, p33: Tool) -> None:
    """From the journal, each with why and until when; a switch of another symbol is none of it."""
    p33("halt", "ETHUSDT", "--reason", "elsewhere")
    p33("halt", "--reason", "an old one"), p33("resume")
    p33("halt", "BTCUSDT", "--reason", "moved by hand", "--for", "30m"), p33("halt", "--reason", "night")
    assert world.ask(plan_id="p1") == "halted"
    p33("resume"), p33("resume", "BTCUSDT")
    assert world.ask(plan_id="p2") == "ALLOW 0.028"
    everything, symbol = p33("explain", "p1", "--json").json["verdicts"][0]["halts"]
    assert (everything["symbol"], everything["reason"], everything["until_ms"]) == (None, "night", None)
    assert (symbol["symbol"], symbol["reason"]) == ("BTCUSDT", "moved by hand")
    assert symbol["until_ms"] - symbol["since_ms"] == 1_800_000
    said = " ".join(p33("explain", "p1").out.split())
    assert all(word in said for word in (f"by {symbol['by']}", "moved by hand", "night", "somebody resumes"))
    assert p33("explain", "p2", "--json").json["verdicts"][0]["halts"] == []


def test_a_denial_names_a_switch_that_was_set_by_hand(world: World, p33: Tool) -> None:
    """Once it is journalled, which is after the first denials."""
    world.redis.set(keys.halt("BTCUSDT"), "1")
    assert world.ask(plan_id="p1") == "halted"
    assert p33("explain", "p1", "--json").json["verdicts"][0]["halts"] == []
    look(world)
    (halt,) = p33("explain", "p1", "--json").json["verdicts"][0]["halts"]
    assert (halt["symbol"], halt["by"], halt["reason"]) == ("BTCUSDT", "unknown", "set by hand to '1'")


@pytest.mark.parametrize(("events_seen", "reasons"), [
    ([(9, "halt", None, {"reason": "a", "until_ms": 8_999})], []),
    ([(9, "halt", None, {"reason": "a", "until_ms": 9_000})], ["a"]),
    ([(9, "halt", None, {"reason": "a"}), (10_000, "resume", None, {})], ["a"]),
    ([(9, "halt", None, {"reason": "a"}), (9_999, "resume", None, {})], []),
    ([(9, "halt", "X", {"reason": "a"}), (9_999, "resume", None, {})], ["a"]),
    ([(9, "halt", "Y", {"reason": "a"}), (10, "tampering", "X", {})], []),
    ([(9, "halt", "X", {"reason": "a"}), (10_001, "halt", None, {"reason": "b", "by": "unknown"})], ["a"]),
    ([(10_001, "halt", None, {"reason": "b", "by": "ada"})], []),
    ([(10_001, "halt", None, {"reason": "b", "by": "unknown"})], ["b"]),
])
def test_what_stood_at_a_moment(events_seen: list[tuple], reasons: list[str]) -> None:
    """At 10,000 ms, for symbol X."""
    told = [(at_ms, {"kind": kind, "symbol": of, "at_ms": at_ms} | more) for at_ms, kind, of, more in events_seen]
    assert [halt.reason for halt in standing(told, "X", 10_000)] == reasons


def test_began_and_ended_are_lines_of_the_log(world: World, p33: Tool, caplog: pytest.LogCaptureFixture) -> None:
    """One each, with who and why."""
    p33("halt", "--reason", "night")
    look(world), look(world)
    p33("resume")
    look(world), look(world)
    said = [record for record in caplog.records if record.message.startswith("halt.")]
    assert [(record.message, record.fields["symbol"], record.fields["reason"]) for record in said] == [
        ("halt.began", "*", "night"), ("halt.ended", "*", "night")]


def test_what_was_said_is_not_said_again(world: World, p33: Tool) -> None:
    """`p33 halt` and `p33 resume` journal themselves; the clerk adds nothing."""
    p33("halt", "--reason", "night")
    look(world)
    p33("resume")
    look(world)
    assert [event["kind"] for event in events(world, "halt", "resume")] == ["halt", "resume"]


def test_the_end_by_time_is_journalled_also_after_a_restart(world: World, p33: Tool) -> None:
    """Nobody ran when it was over; whoever looks next says it, once."""
    until_ms = p33("halt", "BTCUSDT", "--for", "1ms", "--json").json["until_ms"]
    deadline = time.monotonic() + 60
    while world.redis.exists(keys.halt("BTCUSDT")):
        assert time.monotonic() < deadline
    for by in ("first", "second"):
        switch_journal.catch_up(world.redis, (), at_ms=until_ms, by=by)
    (event,) = events(world, "resume")
    assert (event["symbol"], event["by"], event["why"]) == ("BTCUSDT", "first", "its time was over")


@pytest.mark.parametrize(("value", "why"), [
    ('{"by":"a","reason":"b","until_ms":null}', "deleted by hand"),
    ('{"by":"a","reason":"b","until_ms":9999999999999}', "deleted by hand"),
    ("1", "deleted by hand, or the key expired")])
def test_a_switch_that_went_without_a_word_is_journalled(world: World, value: str, why: str) -> None:
    """A bare DEL lifts a halt; that somebody did it stands in the journal."""
    world.redis.set(keys.HALT, value)
    look(world)
    world.redis.delete(keys.HALT)
    look(world)
    (event,) = events(world, "resume")
    assert (event["symbol"], event["by"], event["why"]) == (None, "unknown", why)


def test_a_switch_set_by_hand_is_journalled_and_so_is_its_change(world: World) -> None:
    """SET says nothing of itself, so the clerk does."""
    world.redis.set(keys.HALT, "1")
    look(world), look(world)
    world.redis.delete(keys.HALT)
    world.redis.hset(keys.HALT, "on", "1")
    look(world)
    world.redis.delete(keys.HALT)
    look(world)
    found = events(world, "halt", "resume")
    assert [event["kind"] for event in found] == ["halt", "halt", "resume"]
    assert (found[0]["by"], found[0]["reason"]) == ("unknown", "set by hand to '1'")


def test_two_sidecars_say_it_once(world: World) -> None:
    """What was noted must still be noted: the second finds that it was said."""
    world.redis.set(keys.HALT, "1")
    seen = [switch_journal.catch_up(world.redis, [""], at_ms=1, by=by) for by in ("one", "two")]
    assert seen == [1, 0] and len(events(world, "halt")) == 1


def test_a_spoilt_note_stops_neither_halt_nor_resume(world: World, p33: Tool) -> None:
    """The journal's own memory of another type: the switch works, the withdrawal is done."""
    world.ask(plan_id="a")
    world.redis.set(keys.SWITCHES, "spoilt")
    assert p33("halt", "--json").json["withdrawn"] == ["BTCUSDT"]
    look(world)
    assert p33("resume", "--json").json["was_halted"] is True
    with pytest.raises(redis.ResponseError):
        world.redis.hgetall(keys.SWITCHES)
