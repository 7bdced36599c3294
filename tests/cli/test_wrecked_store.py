"""The tool on a store in which somebody has made havoc: it says what it cannot read, and never falls over."""

from __future__ import annotations

import pytest

from p33_sidecar.store import keys
from tests.cli.conftest import Tool
from tests.service.world import PLANS, RESULTS, World

LOOKS = (("status",), ("decisions",), ("explain", "a"), ("explain", "b", "--json"), ("replay",), ("audit-permits",),
         ("ledger", "show"), ("ledger", "show", "BTCUSDT"))
SPOILT = (
    keys.snapshot("BTCUSDT"), keys.ledger("BTCUSDT"), keys.book("BTCUSDT"), keys.orders("BTCUSDT"),
    keys.permit("a"), keys.open_permit("BTCUSDT"), keys.taken("a"), keys.plan("a"), keys.halt("BTCUSDT"), keys.HALT,
    keys.hold("BTCUSDT"), keys.VENUE, keys.RUN_ID, keys.ISSUED, keys.UNSETTLED, keys.BOOKS, keys.CURSOR, keys.GAP,
    keys.BAN, keys.MISMATCHES, keys.FILTERS, *keys.RECORD_STREAMS, PLANS, RESULTS,
)


@pytest.mark.parametrize("key", SPOILT)
def test_a_key_of_another_type_is_said_or_passed_over(world: World, p33: Tool, key: str) -> None:
    """A list where something else belongs: an answer or one line, never a traceback."""
    world.ask(plan_id="a")
    world.redis.delete(key)
    world.redis.rpush(key, "havoc")
    for command in LOOKS:
        said = p33(*command)
        assert said.code in (0, 1, 69), (command, said)
        assert said.code != 69 or said.err.startswith("p33: Redis does not serve us: a key holds another type"), said
        assert said.code != 69 or key not in keys.KINDS or f"{key} is a list" in said.err, said


@pytest.mark.parametrize(("key", "field"), [
    (keys.MISMATCHES, "BTCUSDT"), (keys.ISSUED, "BTCUSDT"), (keys.UNSETTLED, "BTCUSDT 1"),
    (keys.book("BTCUSDT"), "amt"), (keys.book("BTCUSDT"), "rev"), (keys.snapshot("BTCUSDT"), "position_amt"),
    (keys.snapshot("BTCUSDT"), "ts_ms"), (keys.ledger("BTCUSDT"), "rev"), (keys.orders("BTCUSDT"), "1")])
def test_a_field_that_is_nonsense_is_said_or_passed_over(world: World, p33: Tool, key: str, field: str) -> None:
    """Text where a number or JSON belongs."""
    world.ask(plan_id="a")
    world.redis.hset(key, field, "nonsense \x1b[31m")
    for command in LOOKS:
        said = p33(*command)
        assert said.code in (0, 1, 69), (command, said)
        assert "\x1b" not in said.out + said.err


@pytest.mark.parametrize("key", [keys.BAN, keys.GAP])
def test_a_time_that_is_none_is_named_by_the_status(world: World, p33: Tool, key: str) -> None:
    """The one command that is asked for first at night: it says which key, and shows the rest."""
    world.redis.set(key, "soon")
    said = p33("status", "--json")
    assert said.code == 1 and any(warning.startswith(f"{key} holds no time") for warning in said.json["warnings"])
    assert said.json["symbols"]
