"""The recipe of docs/apply-layer.md, followed by a program in another language: docs/examples/take.mjs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from p33_sidecar.store import keys, scripts
from tests.gate.sidecar import KEY, PLAN, SYMBOL, VENUE, Hand
from tests.tools import needed

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "take.mjs"


@pytest.fixture
def javascript(server, tmp_path: Path) -> Callable[..., dict]:
    """Runs the example; returns what it says."""
    script = tmp_path / "take.lua"
    script.write_text(scripts.source("take"))
    node, address = needed("node"), server.url.removeprefix("unix://").partition("?")[0]

    def take(plan_id: str = PLAN, *, key: bytes = KEY) -> dict:
        ran = subprocess.run([node, str(EXAMPLE), str(script), address, VENUE, plan_id, SYMBOL], capture_output=True,
                             env=os.environ | {"P33_PERMIT_KEY": key.decode()}, timeout=120, check=False)
        assert ran.stdout, ran.stderr.decode()
        said = json.loads(ran.stdout)
        assert ran.returncode == (0 if said["word"] == "taken" else 1)
        return said

    return take


def test_javascript_takes_the_pair_once(hand: Hand, javascript):
    """Exact digits, both keys gone, one record by its name; asked again it is somebody's already."""
    hand.govern()
    permit = hand.allow()
    assert javascript() == {"word": "taken", "side": "SELL", "quantity": "0.028", "expires_ms": permit.expires_ms}
    assert not hand.redis.exists(keys.permit(PLAN), keys.governor_permit(PLAN))
    ((_, fields),) = hand.redis.xrange(keys.TAKINGS)
    record = msgspec.json.decode(fields["json"])
    assert (record["by"], record["nonce"]) == ("javascript", permit.nonce)
    assert hand.redis.get(keys.taken(PLAN)) == f"{record['nonce']} {record['token']}"
    assert javascript()["word"] == "missing_governor_permit"


@pytest.mark.parametrize(("named", "spoil"), [
    ("governor_denied", lambda h: h.govern(value='{"granted":false}')),
    ("p33_denied:unsupported_action", lambda h: h.deny()),
    ("halted", lambda h: h.redis.set(keys.HALT, "1")),
    ("withdrawn", lambda h: h.redis.delete(keys.open_permit(SYMBOL))),
    ("facts_changed", lambda h: h.ledger(rev=8)),
    ("already_consumed", lambda h: h.redis.set(keys.taken(PLAN), "nonce other")),
])
def test_javascript_is_refused_by_the_same_names(hand: Hand, javascript, named: str, spoil):
    """Nothing is touched."""
    hand.govern()
    hand.allow()
    spoil(hand)
    assert javascript() == {"word": named}
    assert hand.both_there()


def test_javascript_notices_a_forgery(hand: Hand, javascript):
    """Another key than the sidecar's."""
    hand.govern()
    hand.allow()
    assert javascript(key=b"x" * 32) == {"word": "forged_permit"} and hand.both_there()
