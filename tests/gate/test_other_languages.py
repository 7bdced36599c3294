"""The recipe of docs/apply-layer.md, followed by a program in another language: docs/examples/take.mjs."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import redis

from p33_sidecar.core.permit import read_permit
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.store import keys, rights, scripts
from tests.gate.sidecar import KEY, PLAN, SYMBOL, VENUE, Hand
from tests.gate.test_waiting import LONG_MS, until
from tests.tools import needed

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "take.mjs"


class Forgetful:
    """A relay in front of Redis that loses the first reply to a script: it was run, and the client never hears.

    `reset`: the connection does not end, it breaks (RST). `then`: the server that answers from then on.
    """

    def __init__(self, redis_path: str, *, reset: bool = False, then: str = "") -> None:
        self.lost = 0
        self._redis_path, self._reset, self._then = redis_path, reset, then
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Forgetful:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)

    def _serve(self) -> None:
        """One client at a time."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.socket(socket.AF_UNIX) as upstream:
                upstream.connect(self._redis_path)
                self._carry(client, upstream)

    def _carry(self, client: socket.socket, upstream: socket.socket) -> None:
        asked_for_a_script = False
        while True:
            ready, _, _ = select.select([client, upstream], [], [])
            for source in ready:
                if not (chunk := source.recv(1 << 16)):
                    return
                asked_for_a_script |= source is client and b"EVALSHA" in chunk
                if source is upstream and asked_for_a_script and not self.lost:
                    self.lost += 1
                    self._redis_path = self._then or self._redis_path
                    if self._reset:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                (upstream if source is client else client).sendall(chunk)


def looks(hand: Hand) -> int:
    """How often somebody has looked whether a plan is taken: once a turn."""
    return hand.redis.info("commandstats").get("cmdstat_exists", {}).get("calls", 0)


def path_of(server: EmbeddedServer) -> str:
    """Of its socket file."""
    return server.url.removeprefix("unix://").partition("?")[0]


@pytest.fixture
def javascript(server, tmp_path: Path) -> Callable[..., dict]:
    """Runs the example; returns what it says."""
    script = tmp_path / "take.lua"
    script.write_text(scripts.source("take"))
    node, usual = needed("node"), path_of(server)

    def take(plan_id: str = PLAN, *, key: bytes = KEY, address: str = usual, script: Path = script, entry_ms: int = 0,
             wait_ms: int = 0, **env: str) -> dict:
        words = [node, str(EXAMPLE), str(script), address, VENUE, plan_id, SYMBOL, str(entry_ms)]
        told = {"P33_PERMIT_KEY": key.decode(), "APPLY_PERMIT_WAIT_MS": str(wait_ms)} | env
        ran = subprocess.run(words, capture_output=True, env=os.environ | told, timeout=120, check=False)
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
    assert javascript() == {"word": "already_consumed"}


@pytest.mark.parametrize(("named", "spoil"), [
    ("governor_denied", lambda h: h.govern(value='{"granted":false}')),
    ("p33_denied:unsupported_action", lambda h: h.deny()),
    ("governor_denied", lambda h: h.govern(value="granted")),
    ("governor_denied", lambda h: h.govern(value="null")),
    ("governor_denied", lambda h: (h.redis.delete(keys.governor_permit(PLAN)),
                                   h.redis.hset(keys.governor_permit(PLAN), "granted", "true"))),
    ("invalid_permit_type", lambda h: h.redis.set(keys.permit(PLAN), "allow")),
    ("invalid_permit_type", lambda h: (h.redis.delete(keys.permit(PLAN)), h.redis.hset(keys.permit(PLAN), "v", "1"))),
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


@pytest.mark.parametrize(("named", "stand"), [
    ("already_consumed", lambda h: h.redis.set(keys.taken(PLAN), "nonce other")),
    ("halted", lambda h: h.redis.set(keys.halt(SYMBOL), "1")),
    ("reconcile_hold_active", lambda h: h.redis.set(keys.hold(SYMBOL), "1")),
    ("missing_governor_permit", lambda h: None),
])
def test_what_stands_before_the_permits_is_named_first(hand: Hand, javascript, named: str, stand):
    """No permit is there: a plan that is taken must not be answered with a result about a permit that is missing."""
    stand(hand)
    assert javascript() == {"word": named}


@pytest.mark.parametrize(("named", "stale"), [
    ("missing_governor_permit", lambda h, ms: None),
    ("missing_p33_permit", lambda h, ms: (h.govern(), h.deny(issued_ms=ms))),
    ("governor_denied", lambda h, ms: h.govern(value=f'{{"granted":false,"issued_ms":{ms}}}')),
    ("withdrawn", lambda h, ms: (h.govern(), h.allow(issued_ms=ms), h.redis.delete(keys.open_permit(SYMBOL)))),
])
def test_what_is_missing_or_answered_an_earlier_publication_is_waited_for(hand: Hand, javascript, named: str, stale):
    """The permits of this publication come while it waits; where they do not, the wait ends by itself."""
    entry_ms = hand.now_ms()
    stale(hand, entry_ms - 8_000)
    assert javascript(entry_ms=entry_ms, wait_ms=50) == {"word": named}
    looked = looks(hand)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(javascript, entry_ms=entry_ms, wait_ms=LONG_MS)
        until(lambda: looks(hand) > looked + 1)
        hand.govern()
        hand.allow()
        assert waiting.result()["word"] == "taken"


def test_a_denial_of_this_publication_ends_the_wait(hand: Hand, javascript):
    """And so does what ended a permit of its own."""
    hand.govern()
    hand.deny()
    assert javascript(wait_ms=LONG_MS) == {"word": "p33_denied:unsupported_action"}
    hand.allow()
    hand.ledger(rev=8)
    assert javascript(wait_ms=LONG_MS) == {"word": "facts_changed"}


def test_without_redis_javascript_says_so(javascript, tmp_path: Path):
    """One line of JSON, not a stack."""
    assert javascript(address=str(tmp_path / "nobody.sock"))["word"] == "redis_unavailable"


@pytest.mark.parametrize("reset", [False, True], ids=["ended", "broken"])
def test_a_lost_reply_is_asked_for_again_with_the_same_token(hand: Hand, javascript, server, reset: bool):
    """The pair was taken and the connection went before the answer: the second asking hears it, and takes nothing."""
    hand.govern()
    hand.allow()
    with Forgetful(path_of(server), reset=reset) as relay:
        assert javascript(address=relay.address)["word"] == "taken"
        assert relay.lost == 1
    assert hand.redis.xlen(keys.TAKINGS) == 1


def test_asked_again_of_another_server_it_is_that_ones_name_that_counts(hand: Hand, javascript, server):
    """Redis came back without its last writes and may not know of another's taking: it gives nothing out (T06)."""
    hand.govern()
    hand.allow()
    with EmbeddedServer() as back, redis.Redis.from_url(back.url) as copy, redis.Redis.from_url(server.url) as here:
        for key in here.scan_iter():
            copy.restore(key, max(here.pttl(key), 0), here.dump(key))
        copy.script_load(scripts.source("take"))
        with Forgetful(path_of(server), then=path_of(back)) as relay:
            assert javascript(address=relay.address) == {"word": "withdrawn"}
        assert copy.exists(keys.permit(PLAN), keys.governor_permit(PLAN)) == 2


def test_a_script_that_fails_is_the_end_of_it(hand: Hand, javascript, tmp_path: Path):
    """As a server out of memory answers: it is said, and the program ends."""
    hand.govern()
    hand.allow()
    full = tmp_path / "full.lua"
    full.write_text("return redis.error_reply('OOM command not allowed')")
    assert javascript(script=full) == {"word": "redis_unavailable", "detail": "OOM command not allowed"}


def test_a_server_that_says_nothing_is_not_waited_for(javascript):
    """It listens, and that is all."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said = javascript(address=f"127.0.0.1:{silent.getsockname()[1]}")
    assert said["word"] == "redis_unavailable"


def test_javascript_signs_in_as_the_apply_layer(javascript):
    """With the rights of docs/redis-rights.md and no others; `default` is closed."""
    with EmbeddedServer() as guarded, redis.Redis.from_url(guarded.url, decode_responses=True, protocol=2) as client:
        hand, (first, *others) = Hand(client), rights.user(rights.APPLY, plans="p", results="r").rights
        client.execute_command("ACL", "SETUSER", rights.APPLY, "on", ">secret", *first.rules().split(),
                               *(f"({right.rules()})" for right in others))
        client.execute_command("ACL", "SETUSER", "default", "resetpass")
        hand.govern()
        hand.allow()
        who = {"address": path_of(guarded), "REDIS_USERNAME": rights.APPLY}
        assert javascript(**who, REDIS_PASSWORD="wrong")["word"] == "redis_unavailable"
        assert javascript(**who, REDIS_PASSWORD="secret")["word"] == "taken"


def test_javascript_notices_a_forgery(hand: Hand, javascript):
    """Another key than the sidecar's."""
    hand.govern()
    hand.allow()
    assert javascript(key=b"x" * 32) == {"word": "forged_permit"} and hand.both_there()


TURNED = (b',"allow":true,"safe_close_qty":0.038,"close_side":"SELL","exchange_position_amt":0.038,"ledger_rev":7,'
          b'"max_snapshot_age_sec":10}')
"""What would make an ALLOW of a denial: of two members with one name most parsers let the last win."""


@pytest.mark.parametrize("behind", [TURNED, b',"expires_ms":99999999999999}', b',"sig":"x"}', b"\n}"])
def test_javascript_believes_nothing_behind_the_signature(hand: Hand, javascript, behind: bytes):
    """A signed denial, its `sig` whole and valid, and something behind that nobody signed."""
    hand.govern()
    denial = hand.verdict(action="UPDATE_SL")
    hand.allow()
    hand.redis.set(keys.open_permit(SYMBOL), f"{PLAN} {read_permit(denial).nonce}", px=60_000)
    hand.redis.set(keys.permit(PLAN), denial.removesuffix(b"}") + behind, px=60_000)
    assert javascript() == {"word": "forged_permit"} and hand.both_there()


def test_javascript_knows_the_key_before_while_one_replaces_the_other(hand: Hand, javascript):
    """The gate has signed with the old one, or with the new one already."""
    hand.govern()
    hand.allow()
    assert javascript(key=b"n" * 32, P33_PERMIT_KEY_PREVIOUS=KEY.decode())["word"] == "taken"
    hand.redis.delete(keys.taken(PLAN))
    hand.govern()
    hand.allow()
    assert javascript(P33_PERMIT_KEY_PREVIOUS="b" * 32)["word"] == "taken"


def test_without_a_key_javascript_believes_nobody(hand: Hand, javascript):
    """Neither a stack nor a refusal that blames Redis."""
    hand.govern()
    hand.allow()
    assert javascript(key=b"") == {"word": "forged_permit"}
