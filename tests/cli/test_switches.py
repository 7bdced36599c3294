"""`p33 halt` and `p33 resume`, and every switch by hand with the values people type (incident I51)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from p33_sidecar.gate import Gate, Refused
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.store import keys
from tests.cli.conftest import KEY, Tool, environment, world_of
from tests.service.world import VENUE, World

TYPED = ("1", "true", "True", "on", "yes", "TRUE ", "0", "false", "", "halt the stack", '{"by":"me"}', "[1]")
"""A switch is on because its key exists, whatever stands in it: nobody's `0` may mean "go on" by accident."""


def events(world: World, kind: str) -> list[dict]:
    return [e for e in world.records(keys.EVENTS) if e["kind"] == kind]


def test_halt_denies_withdraws_and_is_journalled(world: World, redis_url: str, p33: Tool) -> None:
    """The open permit is worthless at once, the next plan is denied, and the event says who and why."""
    assert world.ask(plan_id="a") == "ALLOW 0.028"
    said = p33("halt", "--reason", "night shift", "--json")
    assert (said.code, said.json["halted"], said.json["withdrawn"]) == (0, "*", ["BTCUSDT"])
    world.redis.set(keys.governor_permit("a"), '{"granted":true}')
    gate = Gate(redis_url, key=(KEY.encode(),), venue=VENUE, by="apply-1")
    answer = gate.take("a", "BTCUSDT", entry_ms=0, wait_ms=0)
    gate.close()
    assert isinstance(answer, Refused)
    assert answer.named == "halted"
    assert world.ask(plan_id="b") == "halted"
    (event,) = events(world, "halt")
    assert (event["reason"], event["symbol"], "@" in event["by"]) == ("night shift", None, True)


def test_resume_lifts_it_and_the_plan_may_be_published_again(world: World, p33: Tool) -> None:
    """A withdrawn ALLOW frees its plan: the republication is evaluated afresh."""
    world.ask(plan_id="a")
    p33("halt")
    said = p33("resume", "--json")
    assert (said.code, said.json) == (0, {"resumed": "*", "was_halted": True, "still_halted": []})
    assert len(events(world, "resume")) == 1
    assert world.ask(plan_id="a") == "ALLOW 0.028"


def test_resume_of_what_is_not_halted_says_so(world: World, p33: Tool) -> None:
    """Lifting nothing is no failure; switches that still hold are named."""
    p33("halt", "ETHUSDT", "--reason", "its own trouble")
    said = p33("resume")
    assert said.code == 0
    assert "was not halted" in said.out
    assert "Still halted: ETHUSDT: its own trouble" in said.out


def test_an_empty_symbol_lifts_nothing(world: World, p33: Tool) -> None:
    """`p33 resume "$SYMBOL"` of a script whose variable is not set; to halt everything then is the safe side."""
    p33("halt", "")
    assert world.redis.exists(keys.HALT)
    said = p33("resume", "")
    assert (said.code, world.redis.exists(keys.HALT), "SYMBOL" in said.err) == (2, 1, True)
    assert p33("resume").code == 0 and not world.redis.exists(keys.HALT)


def test_a_symbols_halt_leaves_the_others_alone(world: World, p33: Tool) -> None:
    """Only its permits are withdrawn and only its plans denied."""
    world.ask(plan_id="a")
    assert p33("halt", "ETHUSDT", "--json").json["withdrawn"] == []
    assert world.ask("PARTIAL_50", plan_id="e", symbol="ETHUSDT") == "halted"
    assert world.ask(plan_id="a") == "ALLOW 0.028"


def test_a_halt_with_an_end_ends_by_itself(world: World, p33: Tool) -> None:
    """`--for` is the key's own life."""
    said = p33("halt", "BTCUSDT", "--for", "1h30m", "--json")
    life_ms = world.redis.pttl(keys.halt("BTCUSDT"))
    assert said.json["until_ms"] - said.json["since_ms"] == 5_400_000
    assert 5_400_000 - 60_000 < life_ms <= 5_400_000
    p33("halt", "ETHUSDT", "--for", "1ms")
    deadline = time.monotonic() + 30
    while world.redis.exists(keys.halt("ETHUSDT")) and time.monotonic() < deadline:
        pass
    assert world.ask("PARTIAL_50", plan_id="e", symbol="ETHUSDT") == "no_position"


@pytest.mark.parametrize("stands", [("--reason", "night"), ("--reason", "night", "--for", "3h")])
def test_two_people_halt_for_the_longer_of_their_times(world: World, p33: Tool, stands: tuple[str, ...]) -> None:
    """A halt for a while ends none that another operator wants to last; it says whose stays, and until when."""
    first = p33("halt", *stands, "--json").json
    second = p33("halt", "--reason", "a look", "--for", "5m", "--json").json
    assert (second["stood_already"], second["reason"], second["by"]) == (True, "night", first["by"])
    assert (second["until_ms"] is None) == (first["until_ms"] is None)
    assert not 0 <= world.redis.pttl(keys.HALT) <= 300_000
    assert [event["reason"] for event in events(world, "halt")] == ["night"]
    said = p33("halt", "--for", "5m").out
    assert "night" in said and "`p33 resume` first" in said
    later = p33("halt", "--reason", "longer", "--json").json
    assert (later["stood_already"], later["until_ms"], world.redis.pttl(keys.HALT)) == (False, None, -1)


def test_a_switch_set_by_hand_outlasts_a_halt_for_a_while(world: World, p33: Tool) -> None:
    """What was open is withdrawn all the same: a switch set by hand leaves that."""
    assert world.ask(plan_id="a") == "ALLOW 0.028"
    world.redis.set(keys.HALT, "1")
    said = p33("halt", "--for", "5m", "--json").json
    assert (said["until_ms"], said["withdrawn"], said["stood_already"]) == (None, ["BTCUSDT"], True)
    assert world.redis.get(keys.HALT) == "1" and "by hand" in said["reason"]


@pytest.mark.parametrize("typed", ["0", "-5m", "5", "soon", "1h 30m"])
def test_a_duration_that_is_none_is_refused(world: World, p33: Tool, typed: str) -> None:
    """Exit code 2, and nothing was halted: half an understood halt would be worse."""
    said = p33("halt", "--for", typed)
    assert said.code == 2
    assert not world.redis.exists(keys.HALT)


@pytest.mark.parametrize("value", TYPED)
@pytest.mark.parametrize(("key", "reason"), [
    (keys.HALT, "halted"), (keys.halt("BTCUSDT"), "halted"), (keys.hold("BTCUSDT"), "reconcile_hold_active")])
def test_i51_switches_work_with_what_people_type(switched: World, p33: Tool, key: str, reason: str, value: str) -> None:
    """SET by hand with any value is on; DEL is off; `p33 status` shows it."""
    switched.redis.set(key, value)
    assert switched.ask("PARTIAL_75") == reason
    shown = p33("status", "--json")
    (btc,) = shown.json["symbols"]
    assert ("halted" if reason == "halted" else "held") in btc["flags"]
    assert p33("status").code == 1
    switched.redis.delete(key)
    assert switched.ask("FOO") == "unsupported_action"


@pytest.mark.parametrize("told", ['"2026-11-27T15:00:00Z"', "99999999999999999", "-1", "1e99", "[1]", "9" * 40])
def test_a_switch_that_another_program_set_may_call_anything_a_time(switched: World, p33: Tool, told: str) -> None:
    """It halts, and `p33 status` shows who and why; what is no time is not shown as one, and takes nothing away."""
    switched.redis.set(keys.HALT, f'{{"by":"a script","reason":"drill","since_ms":{told},"until_ms":{told}}}')
    said = p33("status")
    assert said.code == 1
    assert "halted everything: drill (by a script, since -)" in said.out
    assert p33("status", "--json").json["halts"][""] == {"by": "a script", "reason": "drill"}
    switched.redis.delete(keys.HALT)


@pytest.mark.parametrize(("key", "reason"), [(keys.HALT, "halted"), (keys.hold("BTCUSDT"), "reconcile_hold_active")])
def test_a_switch_of_another_type_is_on(switched: World, p33: Tool, key: str, reason: str) -> None:
    """HSET in place of SET is still somebody who wanted it off."""
    switched.redis.hset(key, "on", "1")
    assert switched.ask("PARTIAL_75") == reason
    assert p33("status").code == 1
    assert p33("resume").code == 0
    switched.redis.delete(key)


@pytest.fixture(scope="module")
def switched(own_server: EmbeddedServer) -> Iterator[World]:
    """One world for the whole table: every row leaves it as it was."""
    world = world_of(own_server.url).open_books()
    yield world
    world.close()


@pytest.fixture
def p33(request: pytest.FixtureRequest) -> Tool:
    """Aimed at the world this test is in."""
    shared = "switched" in request.fixturenames
    url = request.getfixturevalue("own_server").url if shared else request.getfixturevalue("redis_url")
    return Tool(**environment(url))
