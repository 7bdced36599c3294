"""`status`, `watch`, `decisions` and `explain` on a history the desk has made: what they say is what happened."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from p33_sidecar.cli import paper
from p33_sidecar.core.checks import CHECKS
from p33_sidecar.rehearsal.server import EmbeddedServer
from tests.cli.conftest import Answer, Tool, environment, take, world_of
from tests.service.world import PLANS, World

HOSTILE = "evil\x1b[31m\nFAKE LINE"


@pytest.fixture(scope="module")
def history(own_server: EmbeddedServer) -> Iterator[str]:
    """BTCUSDT 0.038: an ALLOW taken and filled, a denial after it, a stranger, an unknown action, one unreadable."""
    url = own_server.url
    world = world_of(url).open_books()
    assert world.ask(plan_id="p-taken") == "ALLOW 0.028"
    take(world, url, "p-taken")
    assert world.ask(plan_id="p-second") == "permit_outstanding"
    world.result("p-taken")
    world.exchange.amounts["BTCUSDT"] = "0.01"
    world.book()
    world.poll()
    assert world.ask(plan_id="p-cool") == "cooldown_in_flight"
    assert world.ask(plan_id="p-cool") == "cooldown_in_flight"
    assert world.ask("PARTIAL_50", plan_id="p-doge", symbol="DOGEUSDT") == "symbol_not_allowed"
    assert world.ask(HOSTILE, plan_id="p-hostile", steps="{") == "unsupported_action"
    world.redis.xadd(PLANS, {"plan_id": "p-broken", "decision": "EXECUTE"})
    world.decide()
    world.redis.xadd(PLANS, {"plan_id": "p-unread", "symbol": "BTCUSDT", "decision": "EXECUTE"})
    yield url
    world.close()


@pytest.fixture
def ask(history: str) -> Tool:
    """The tool on that history."""
    return Tool(**environment(history))


def line_with(answer: Answer, *words: str) -> str:
    """The first line that holds all of these."""
    return next(line for line in answer.out.splitlines() if all(word in line for word in words))


# -- status and watch -------------------------------------------------------------------------------------------


def test_status_says_where_everything_stands(ask: Tool) -> None:
    """Three accounts, the symbol's state, the last verdicts; not ready while no sidecar answers."""
    said = ask("status", "--json")
    assert said.code == 1
    assert (said.json["ready"], said.json["sidecar"]["ready"]) == (False, None)
    (btc,) = said.json["symbols"]
    assert (btc["exchange_amt"], btc["ledger_amt"], btc["difference"]) == ("0.01", "0.01", "0")
    assert (btc["phase"], btc["ledger_rev"], btc["flags"]) == ("settling", 2, [])
    assert said.json["verdicts"][0] == {"plan_id": "p-hostile", "symbol": "BTCUSDT", "outcome": "DENY",
                                        "reason": "unsupported_action", "safe_close_qty": None,
                                        "age_ms": said.json["verdicts"][0]["age_ms"]}
    assert said.json["plans"] == {"stream": PLANS, "exists": True, "pending": 0, "unread": 1}
    assert said.json["store"]["durable"] is True


def test_status_for_people_names_the_same(ask: Tool) -> None:
    """One screen: the headline, the symbol's line, the verdicts."""
    said = ask("status")
    assert said.code == 1
    assert said.out.startswith("NOT READY")
    assert "settling" in line_with(said, "BTCUSDT", "0.01")
    assert "cooldown_in_flight" in line_with(said, "p-cool")
    assert "0 being evaluated, 1 unread" in said.out


def test_decisions_of_a_symbol_in_small_letters_are_that_symbol_s(ask: Tool) -> None:
    """`No verdict in this range` would be believed."""
    said = ask("decisions", "--symbol", "btcusdt", "--json")
    assert said.json == ask("decisions", "--symbol", "BTCUSDT", "--json").json != []
    assert "btcusdt is taken for BTCUSDT" in said.err


def test_a_reason_that_there_is_not_is_said(ask: Tool) -> None:
    """A slip of the pen is not a quiet day. An older version's reason is still looked for."""
    said = ask("decisions", "--reason", "permit_outstandign")
    assert (said.code, said.out) == (0, "No verdict in this range.\n")
    assert "no reason permit_outstandign is known" in said.err
    assert ask("decisions", "--reason", "permit_outstanding").err == ""


@pytest.mark.parametrize("typed", [
    ("decisions", "--last", "100000w"), ("decisions", "--last", "9" * 40 + "w"), ("replay", "--from", "1960-01-01"),
    ("replay", "--to", "1960-01-01"), ("replay", "--from", "9" * 23), ("halt", "--for", "9" * 20 + "w")])
def test_a_time_beyond_all_calendars_is_wrong_usage(ask: Tool, typed: tuple[str, ...]) -> None:
    """Exit code 2 and a word about the time; not 69, which says that Redis is away."""
    said = ask(*typed)
    assert said.code == 2 and "Redis" not in said.err and f"Invalid value for {typed[1]}" in said.err
    assert ask("decisions", "--last", "100w").code == ask("decisions", "--last", "99d", "--by-reason").code == 0


def test_status_shows_flat_symbols_when_asked(ask: Tool) -> None:
    """Seven hundred flat symbols hide the one that matters, so `--all` is asked for."""
    assert "ETHUSDT" not in ask("status").out
    assert [s["symbol"] for s in ask("status", "--all", "--json").json["symbols"]] == ["BTCUSDT", "ETHUSDT"]


def test_watch_in_a_pipe_looks_again_and_again(ask: Tool) -> None:
    """`--count` looks, one below the other, and exit code 0 whatever they show."""
    said = ask("watch", "--every", "5ms", "--count", "3")
    assert said.code == 0
    assert said.out.count("NOT READY") == 3


@pytest.mark.parametrize("command", [("status", "--all"), ("watch", "--all", "--count", "1"), ("ledger", "show")])
def test_on_eighty_columns_names_and_amounts_stay_whole(world: World, p33: Tool, monkeypatch: pytest.MonkeyPatch,
                                                        command: tuple[str, ...]) -> None:
    """Half a symbol, or half an amount, is another one: the other columns fold."""
    monkeypatch.setattr(paper, "PIPE_WIDTH", 80)
    world.exchange.amounts |= {"1000000MOGUSDT": "-1234567.5", "BTCUSDT": "0.05"}
    for _ in range(2):
        world.poll()
        world.book()
    said = p33(*command)
    assert line_with(said, "1000000MOGUSDT", "-1234567.5") and line_with(said, "BTCUSDT", "0.038", "+0.012")
    assert all(len(line) <= 80 for line in said.out.splitlines())


@pytest.mark.parametrize("columns", [24, 32, 40])
def test_a_terminal_too_narrow_for_an_amount_says_that_it_is_cut(world: World, p33: Tool, columns: int,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """-1234567.5 is never shown as -1234: what does not fit ends in a mark."""
    monkeypatch.setattr(paper, "PIPE_WIDTH", columns)
    world.exchange.amounts |= {"1000000MOGUSDT": "-1234567.5"}
    for _ in range(2):
        world.poll()
        world.book()
    line = line_with(p33("status", "--all"), "10000")
    for word in line.split():
        assert word in ("1000000MOGUSDT", "-1234567.5", "-") or word.endswith("…"), line


# -- decisions --------------------------------------------------------------------------------------------------


def test_decisions_lists_newest_first(ask: Tool) -> None:
    """As JSON each with its whole record."""
    said = ask("decisions", "--json").json
    assert [d["plan_id"] for d in said] == ["p-hostile", "p-doge", "p-cool", "p-cool", "p-second", "p-taken"]
    assert said[-1]["record"]["safe_close_qty"] == "0.028"
    assert said[-1]["record"]["decision_id"] == said[-1]["record"]["permit"]["nonce"]


@pytest.mark.parametrize(("filters", "found"), [
    (("--symbol", "DOGEUSDT"), ["p-doge"]),
    (("--outcome", "allow"), ["p-taken"]),
    (("--reason", "cooldown_in_flight"), ["p-cool", "p-cool"]),
    (("--limit", "1"), ["p-hostile"]),
    (("--last", "1h", "--outcome", "DENY", "--symbol", "BTCUSDT", "--limit", "2"), ["p-hostile", "p-cool"]),
    (("--symbol", "NONE"), []),
])
def test_decisions_can_be_narrowed(ask: Tool, filters: tuple[str, ...], found: list[str]) -> None:
    """By symbol, outcome, reason, time and count, all together."""
    assert [d["plan_id"] for d in ask("decisions", "--json", *filters).json] == found


def test_decisions_are_counted_by_reason_with_their_remedy(ask: Tool) -> None:
    """What to do stands beside how often."""
    said = ask("decisions", "--by-reason", "--json").json
    assert (said[0]["reason"], said[0]["count"], said[0]["symbols"]) == ("cooldown_in_flight", 2, {"BTCUSDT": 2})
    assert {d["reason"] for d in said} == {"cooldown_in_flight", "permit_outstanding", "symbol_not_allowed",
                                           "unsupported_action", "ALLOW"}
    assert "Add it to P33_ALLOWLIST" in line_with(ask("decisions", "--by-reason"), "symbol_not_allowed")


def test_what_a_stream_says_cannot_act_on_the_terminal(ask: Tool) -> None:
    """Control characters of a message are shown, never sent."""
    for command in (("decisions",), ("explain", "p-hostile"), ("status",)):
        said = ask(*command).out
        assert "\x1b" not in said
        assert "\nFAKE LINE" not in said
    assert "evil\\x1b[31m\\x0aFAKE" in ask("decisions").out


# -- explain ----------------------------------------------------------------------------------------------------


def test_explain_shows_every_check_of_a_denial(ask: Tool) -> None:
    """Value, threshold and margin of each, the one that decides marked, what passes marked as passing."""
    said = ask("explain", "p-second")
    assert said.code == 0
    assert "decides" in line_with(said, "no_permit_outstanding")
    (verdict,) = ask("explain", "p-second", "--json").json["verdicts"]
    assert len(verdict["record"]["checks"]) == len(CHECKS)
    assert {"name", "pass", "value", "threshold", "margin"} <= set(verdict["record"]["checks"][0])
    assert verdict["differ"] == [{
        "check": "no_permit_outstanding", "needed": verdict["differ"][0]["needed"], "proven": True, "then": "ALLOW"}]


def test_explain_names_what_would_have_had_to_differ(ask: Tool) -> None:
    """One step after the other, each proven by deciding again, to the ALLOW or to what cannot be known."""
    said = ask("explain", "p-cool", "--json").json
    assert len(said["verdicts"]) == 2
    steps = said["verdicts"][0]["differ"]
    assert [step["check"] for step in steps] == ["nothing_settling"]
    assert (steps[-1]["proven"], steps[-1]["then"]) == (True, "ALLOW")
    unknown = ask("explain", "p-hostile", "--json").json["verdicts"][0]["differ"]
    assert (unknown[0]["check"], unknown[0]["then"]) == ("action_closes", None)


def test_explain_says_how_far_an_allow_was_from_turning(ask: Tool) -> None:
    """Each margin, what oversteps it by the least, and the reason it would have denied with."""
    (verdict,) = ask("explain", "p-taken", "--json").json["verdicts"]
    would = {margin["check"]: margin["reason"] for margin in verdict["margins"] if margin["proven"]}
    assert would == {"plan_fresh": "plan_expired", "fresh_snapshot": "stale_exchange_state",
                     "has_position": "no_position", "same_quantity": "reconcile_required_qty_mismatch",
                     "closable_quantity": "qty_below_min"}


def test_explain_follows_the_permit_to_its_end(ask: Tool) -> None:
    """Who took it, and the result that came of it."""
    fate = ask("explain", "p-taken", "--json").json["verdicts"][0]["fate"]
    assert (fate["state"], fate["taking"]["by"]) == ("taken", "apply-1")
    assert msgspec.json.decode(fate["results"][0]["steps_results"])[0]["executed_qty"] == "0.028"
    assert "apply-1" in line_with(ask("explain", "p-taken"), "taken", "by")


def test_explain_of_a_plan_without_verdict_says_where_it_is(ask: Tool) -> None:
    """Rejected, or still in the stream, or nowhere: exit code 1 either way."""
    broken = ask("explain", "p-broken")
    assert broken.code == 1
    assert "quantum:p33:rejected" in broken.err
    assert "missing_symbol" in broken.err
    found = ask("explain", "p-unread", "--json")
    assert found.code == 1
    assert [hit["where"] for hit in found.json["found"]] == [PLANS]
    assert ask("explain", "nobody").code == 1
