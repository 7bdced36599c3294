"""`p33 replay`: logged decisions come out byte for byte; altered ones do not; other thresholds flip verdicts."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from p33_sidecar.service import desk
from p33_sidecar.store import keys
from tests.cli.conftest import Tool
from tests.service.world import World


def rewrite(world: World, change: Callable[[dict], object]) -> None:
    """The newest decision, altered in the stream as somebody with write access could."""
    entry_id, fields = world.redis.xrevrange(keys.DECISIONS, count=1)[0]
    record = msgspec.json.decode(fields["json"])
    change(record)
    world.redis.xdel(keys.DECISIONS, entry_id)
    world.redis.xadd(keys.DECISIONS, fields | {"json": msgspec.json.encode(record)})


def test_decisions_come_out_byte_for_byte(world: World, p33: Tool) -> None:
    """ALLOW and DENY alike, record and permit."""
    world.ask(plan_id="a")
    world.ask(plan_id="b")
    world.ask("FOO", plan_id="c")
    said = p33("replay", "--json")
    assert (said.code, said.json["decisions"], said.json["reproduced"]) == (0, 3, 3)
    assert "3 of them came out byte for byte" in p33("replay").out


def test_an_empty_range_is_no_failure(world: World, p33: Tool) -> None:
    """Nothing was decided, so nothing is wrong."""
    world.ask(plan_id="a")
    said = p33("replay", "--json", "--from", "2020-01-01T00:00:00Z", "--to", "2020-01-02")
    assert (said.code, said.json["decisions"]) == (0, 0)


@pytest.mark.parametrize(("change", "why"), [
    (lambda r: r.update(outcome="DENY", reason="halted"), "logged DENY halted, taken again ALLOW"),
    (lambda r: r["snapshot"].update(position_amt="0.0381"), "bytes differ"),
    (lambda r: r["ledger"].update(last_known_amt="0.01"),
     "logged ALLOW, taken again DENY reconcile_required_qty_mismatch"),
    (lambda r: r["policy"].update(cooldown_ms=1), "bytes differ"),
    (lambda r: r["plan"].update(action="FOO"), "taken again DENY unsupported_action"),
    (lambda r: r.pop("plan"), "cannot be read"),
    (lambda r: r["permit"].update(nonce="other"), "bytes differ"),
], ids=["outcome", "snapshot", "ledger", "policy", "plan", "unreadable", "nonce"])
def test_an_altered_record_is_named(world: World, p33: Tool, change: Callable[[dict], object], why: str) -> None:
    """Whatever was altered, the record no longer follows from its facts: exit code 1."""
    assert world.ask(plan_id="a") == "ALLOW 0.028"
    rewrite(world, change)
    said = p33("replay", "--json")
    assert said.code == 1
    assert [u["plan_id"] for u in said.json["irreproducible"]] == ["a"]
    assert why in said.json["irreproducible"][0]["why"]


def test_other_thresholds_list_what_flips(world: World, p33: Tool) -> None:
    """A verdict that flips, one that keeps its verdict for another reason, and one that does not change."""
    world.exchange.amounts["BTCUSDT"] = "0.0382"
    world.poll()
    assert world.ask(plan_id="close-by") == "ALLOW 0.028"
    assert world.ask(plan_id="second") == "permit_outstanding"
    assert world.ask("FOO", plan_id="foo") == "unsupported_action"
    said = p33("replay", "--json", "--set", "P33_QTY_TOLERANCE_PCT=0.1")
    flips = {f["plan_id"]: (f["was"], f["becomes"], f["becomes_reason"], f["verdict_flips"])
             for f in said.json["flips"]}
    assert said.code == 0
    assert flips == {"close-by": ("ALLOW", "DENY", "reconcile_required_qty_mismatch", True),
                     "second": ("DENY", "DENY", "reconcile_required_qty_mismatch", False)}
    text = p33("replay", "--set", "P33_QTY_TOLERANCE_PCT=0.1").out
    assert "1 verdicts flip, 1 keep their verdict for another reason" in text


@pytest.mark.parametrize("typed", ["P33_POLL=5", "P33_COOLDOWN_SEC", "P33_COOLDOWN_SEC=abc", "P33_PERMIT_KEY=x",
                                   "P33_QTY_TOLERANCE_PCT=101", "P33_COOLDOWN_SEC="])
def test_thresholds_that_cannot_be_used_are_refused(p33: Tool, typed: str) -> None:
    """Wrong usage is exit code 2 and says what is allowed."""
    said = p33("replay", "--set", typed)
    assert said.code == 2
    assert typed in said.err or "allowed" in said.err


def test_evaluation_errors_stand_apart(world: World, p33: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A denial because the evaluation raised is no altered record: listed with what it would have been."""

    def broken(facts, policy):
        raise ArithmeticError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(desk, "decide", broken)
        assert world.ask(plan_id="unlucky") == "evaluation_error"
    said = p33("replay", "--json")
    assert (said.code, said.json["irreproducible"]) == (0, [])
    assert [(e["plan_id"], e["now"]) for e in said.json["evaluation_errors"]] == [("unlucky", "ALLOW")]
    assert "Denied because the evaluation failed" in p33("replay").out
    assert p33("explain", "unlucky").code == 0
