"""`p33 audit-permits` (incident I07): whatever others wrote among the permits is found, and nothing of ours is."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from p33_sidecar.cli import audit
from p33_sidecar.store import keys
from tests.cli.conftest import KEY, Tool, take
from tests.service.world import World

PERMIT = keys.permit("a")


def altered(world: World, **changes) -> None:
    """The permit with other members and its old signature."""
    raw = json.loads(world.redis.get(PERMIT)) | changes
    world.redis.set(PERMIT, json.dumps(raw, separators=(",", ":")), keepttl=True)


def unsigned(world: World) -> None:
    raw = json.loads(world.redis.get(PERMIT))
    raw.pop("sig")
    world.redis.set(PERMIT, json.dumps(raw, separators=(",", ":")), keepttl=True)


def bypassed(world: World) -> None:
    """What a program that works round the gate writes: its own plan, no signature, no end."""
    world.redis.set(keys.permit("bypass"), '{"allow":true,"safe_close_qty":1}')


def another_type(world: World) -> None:
    world.redis.delete(PERMIT)
    world.redis.hset(PERMIT, "allow", "true")
    world.redis.expire(PERMIT, 60)


def test_a_permit_may_live_as_long_as_the_gate_lets_it(world: World, p33: Tool) -> None:
    """And not as the environment of whoever asks would."""
    world.ask(plan_id="a")
    assert p33("audit-permits", "--json", P33_PERMIT_TTL="5").json["found"] == []


def test_an_allow_that_is_issued_while_the_audit_looks_is_no_finding(world: World, p33: Tool,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate goes on: its permit came after the permits were read, and before those that are open."""
    look = audit._seen

    def meanwhile(client, pattern):
        if pattern.startswith(keys.OPEN):
            assert world.ask(plan_id="a") == "ALLOW 0.028"
        return look(client, pattern)

    monkeypatch.setattr(audit, "_seen", meanwhile)
    said = p33("audit-permits", "--json")
    assert (said.code, said.json["found"]) == (0, [])


@pytest.mark.parametrize(("spoil", "findings"), [
    (lambda w: w.redis.persist(PERMIT), {"no_ttl"}),
    (lambda w: w.redis.expire(PERMIT, 86_400), {"ttl_too_long"}),
    (another_type, {"wrong_type"}),
    (unsigned, {"unsigned"}),
    (lambda w: altered(w, safe_close_qty=0.038), {"bad_signature", "altered"}),
    (lambda w: w.redis.set(PERMIT, "granted", px=1000), {"not_a_permit"}),
    (lambda w: w.redis.copy(PERMIT, keys.permit("b")), {"plan_mismatch"}),
    (lambda w: w.redis.delete(keys.DECISIONS), {"no_decision"}),
    (lambda w: w.redis.set(keys.open_permit("BTCUSDT"), "x y", px=60_000), {"open_mismatch"}),
    (lambda w: w.redis.set(keys.open_permit("BTCUSDT"), b"\xff y", px=60_000), {"open_mismatch"}),
    (bypassed, {"no_ttl", "not_a_permit"}),
], ids=["no TTL", "too long", "wrong type", "unsigned", "altered", "no JSON", "copied", "no record", "open key",
        "no text", "bypass"])
def test_i07_foreign_permits_are_listed(world: World, p33: Tool, spoil: Callable[[World], object],
                                        findings: set[str]) -> None:
    """Exit code 1 and the key by name; the genuine permit alone is exit code 0."""
    assert world.ask(plan_id="a") == "ALLOW 0.028"
    assert p33("audit-permits").code == 0
    spoil(world)
    said = p33("audit-permits", "--json")
    assert said.code == 1
    assert findings <= {f["finding"] for f in said.json["found"]}
    people = p33("audit-permits")
    assert people.code == 1
    assert said.json["found"][0]["key"] in people.out


def test_denials_taken_permits_and_withdrawn_ones_are_ours(world: World, redis_url: str, p33: Tool) -> None:
    """Nothing that the gate itself left behind is a finding."""
    world.ask(plan_id="a")
    world.ask(plan_id="b")
    world.ask("FOO", plan_id="c")
    take(world, redis_url, "a")
    said = p33("audit-permits", "--json").json
    assert said == {"ok": True, "permits": 2, "other_permits": 0, "found": [], "notes": []}


def test_the_governors_permits_are_only_noted(world: World, p33: Tool) -> None:
    """They are another gate's: one without TTL is worth a word and no exit code."""
    world.redis.set(keys.governor_permit("a"), '{"granted":true}')
    said = p33("audit-permits", "--json")
    assert (said.code, said.json["other_permits"], len(said.json["notes"])) == (0, 1, 1)


def test_without_the_key_only_the_signature_goes_unjudged(world: World, p33: Tool) -> None:
    """An operator need not hold the key to see that a permit is not what was decided."""
    world.ask(plan_id="a")
    assert p33("audit-permits", P33_PERMIT_KEY="").code == 0
    altered(world, safe_close_qty=0.038)
    assert {f["finding"] for f in p33("audit-permits", "--json", P33_PERMIT_KEY="").json["found"]} == {"altered"}


def test_a_permit_of_the_key_before_is_ours(world: World, p33: Tool) -> None:
    """While one key replaces the other both are known: neither audit nor replay takes the older one for forged."""
    assert world.ask(plan_id="a") == "ALLOW 0.028"
    rotated = {"P33_PERMIT_KEY": "n" * 32, "P33_PERMIT_KEY_PREVIOUS": KEY}
    assert p33("audit-permits", **rotated).code == 0
    assert p33("replay", **rotated).code == 0
    altered(world, safe_close_qty=0.038)
    assert p33("audit-permits", **rotated).code == 1
    assert p33("replay", **rotated).code == 1


def test_another_key_makes_every_signature_bad(world: World, p33: Tool) -> None:
    """The operator's key is not the sidecar's: said so, not passed over."""
    world.ask(plan_id="a")
    said = p33("audit-permits", "--json", P33_PERMIT_KEY="z" * 32)
    assert said.code == 1
    assert "bad_signature" in {f["finding"] for f in said.json["found"]}
    assert KEY not in said.out
