"""Every refusal by its name, in the contract's order of precedence; nothing is deleted when any is given."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from p33_sidecar.core.permit import sign
from p33_sidecar.core.reasons import Refusal
from p33_sidecar.gate import Free, Refused, Taken
from p33_sidecar.store import keys
from tests.gate.sidecar import KEY, PLAN, SYMBOL, VENUE, Hand

Spoil = Callable[[Hand], object]


def altered(hand: Hand, **changes) -> None:
    """Our permit with other members, properly signed."""
    raw = json.loads(hand.redis.get(keys.permit(PLAN)))
    raw.pop("sig", None)
    body = json.dumps(raw | changes, separators=(",", ":")).encode()
    hand.redis.set(keys.permit(PLAN), sign(body, KEY))


def unsigned(hand: Hand) -> None:
    """Our permit as a bypass would write it."""
    raw = json.loads(hand.redis.get(keys.permit(PLAN)))
    raw.pop("sig")
    hand.redis.set(keys.permit(PLAN), json.dumps(raw))


def hash_at(key: str) -> Spoil:
    """Another type of value."""

    def spoil(hand: Hand) -> None:
        hand.redis.delete(key)
        hand.redis.hset(key, "allow", "true")

    return spoil


PERMIT, GOVERNOR = keys.permit(PLAN), keys.governor_permit(PLAN)
SPOILERS: tuple[tuple[str, str, Spoil], ...] = (
    ("already_consumed", "taken by another", lambda h: h.redis.set(keys.taken(PLAN), "nonce other-token")),
    ("already_consumed", "taken mark of another type", hash_at(keys.taken(PLAN))),
    ("halted", "all symbols", lambda h: h.redis.set(keys.HALT, "1")),
    ("halted", "this symbol, by whatever type of key", hash_at(keys.halt(SYMBOL))),
    ("reconcile_hold_active", "hold", lambda h: h.redis.set(keys.hold(SYMBOL), "1")),
    ("missing_governor_permit", "none", lambda h: h.redis.delete(GOVERNOR)),
    ("governor_denied", "says no", lambda h: h.redis.set(GOVERNOR, '{"granted":false}')),
    ("governor_denied", "says something else", lambda h: h.redis.set(GOVERNOR, '{"allow":true}')),
    ("governor_denied", "says yes as text", lambda h: h.redis.set(GOVERNOR, '{"granted":"true"}')),
    ("governor_denied", "is no JSON", lambda h: h.redis.set(GOVERNOR, "granted")),
    ("governor_denied", "is a list", lambda h: h.redis.set(GOVERNOR, "[true]")),
    ("governor_denied", "is not a string", hash_at(GOVERNOR)),
    ("missing_p33_permit", "none", lambda h: h.redis.delete(PERMIT)),
    ("invalid_permit_type", "a hash", hash_at(PERMIT)),
    ("invalid_permit_type", "no JSON", lambda h: h.redis.set(PERMIT, "true")),
    ("invalid_permit_type", "another version", lambda h: altered(h, v=2)),
    ("forged_permit", "unsigned", unsigned),
    ("forged_permit", "one byte other", lambda h: h.redis.set(
        PERMIT, h.redis.get(PERMIT).replace("0.028", "0.038"))),
    ("p33_denied:unsupported_action", "denied", lambda h: h.deny()),
    ("expired_permit", "its time is over", lambda h: altered(h, expires_ms=h.now_ms())),
    ("plan_mismatch", "another plan's", lambda h: altered(h, plan_id="another")),
    ("symbol_mismatch", "another symbol's", lambda h: altered(h, symbol="TRXUSDT")),
    ("venue_mismatch", "another exchange's", lambda h: altered(h, venue="fapi.binance.com")),
    ("invalid_quantity", "nothing", lambda h: altered(h, safe_close_qty=0)),
    ("invalid_quantity", "more than the position", lambda h: altered(h, safe_close_qty=0.039)),
    ("invalid_quantity", "would open", lambda h: altered(h, close_side="BUY")),
    ("invalid_permit_type", "a number to run out of memory on", lambda h: altered(h, exchange_position_amt=1e300)),
    ("withdrawn", "not open", lambda h: h.redis.delete(keys.open_permit(SYMBOL))),
    ("withdrawn", "another one is open", lambda h: h.redis.set(keys.open_permit(SYMBOL), f"{PLAN} older")),
    ("withdrawn", "another server", lambda h: h.redis.set(keys.RUN_ID, "0" * 40)),
    ("facts_changed", "ended by its facts", lambda h: (
        h.redis.set(keys.ENDED + PLAN, h.redis.get(keys.open_permit(SYMBOL)).split()[1] + " facts_changed"),
        h.redis.delete(keys.open_permit(SYMBOL)))),
    ("facts_changed", "another amount", lambda h: h.snapshot(amt="0.010")),
    ("facts_changed", "hedge mode", lambda h: h.redis.hdel(keys.snapshot(SYMBOL), "position_amt")),
    ("facts_changed", "snapshot of another type", lambda h: (
        h.redis.delete(keys.snapshot(SYMBOL)), h.redis.set(keys.snapshot(SYMBOL), "x"))),
    ("facts_changed", "stale", lambda h: h.snapshot(ts_ms=h.now_ms() - 10_050)),
    ("facts_changed", "from the future", lambda h: h.snapshot(ts_ms=h.now_ms() + 60_000)),
    ("facts_changed", "a fill was booked", lambda h: h.ledger(rev=8)),
    ("facts_changed", "no ledger", lambda h: h.redis.delete(keys.ledger(SYMBOL))),
)
IDS = [f"{name}-{how}" for name, how, _ in SPOILERS]
ORDER = [str(refusal) for refusal in Refusal]


@pytest.mark.parametrize(("named", "spoil"), [(n, s) for n, _, s in SPOILERS], ids=IDS)
def test_each_refusal_by_name_and_nothing_is_touched(hand: Hand, gate, named: str, spoil: Spoil):
    """What is wrong has one name, in taking and in looking; every key stays as it was (I03)."""
    hand.govern()
    hand.allow()
    spoil(hand)
    before = contents(hand)
    looked = gate.look(PLAN, SYMBOL, entry_ms=0, wait_ms=0)
    took = gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0)
    assert isinstance(took, Refused)
    assert isinstance(looked, Refused)
    assert (took.named, looked.named) == (named, named)
    assert contents(hand) == before


def everything_wrong_from(hand: Hand, first: str) -> None:
    """All that can be wrong at once, beginning with the refusal `first`."""
    wrong = set(ORDER[ORDER.index(first):])
    members = {"p33_denied": {"allow": False, "reason": "halted"}, "expired_permit": {"expires_ms": hand.now_ms()},
               "plan_mismatch": {"plan_id": "another"}, "symbol_mismatch": {"symbol": "TRXUSDT"},
               "venue_mismatch": {"venue": "elsewhere"}, "invalid_quantity": {"safe_close_qty": 0}}
    altered(hand, **{name: value for refusal in wrong & set(members) for name, value in members[refusal].items()})
    steps = {"facts_changed": lambda: hand.ledger(rev=8),
             "withdrawn": lambda: hand.redis.delete(keys.open_permit(SYMBOL)),
             "forged_permit": lambda: unsigned(hand), "invalid_permit_type": lambda: hash_at(PERMIT)(hand),
             "missing_p33_permit": lambda: hand.redis.delete(PERMIT),
             "governor_denied": lambda: hand.redis.set(GOVERNOR, "no"),
             "missing_governor_permit": lambda: hand.redis.delete(GOVERNOR),
             "reconcile_hold_active": lambda: hand.redis.set(keys.hold(SYMBOL), "1"),
             "halted": lambda: hand.redis.set(keys.HALT, "1"),
             "already_consumed": lambda: hand.redis.set(keys.taken(PLAN), "nonce other")}
    for refusal in reversed(ORDER):
        if refusal in wrong and refusal in steps:
            steps[refusal]()


@pytest.mark.parametrize("first", ORDER[1:])
def test_the_refusal_that_stands_first_is_named(hand: Hand, gate, first: str):
    """Of all that is wrong at once, the first of the contract's list is named."""
    hand.govern()
    hand.allow()
    everything_wrong_from(hand, first)
    took = gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0)
    assert isinstance(took, Refused)
    assert took.refusal == first


def test_nothing_wrong_is_taken(hand: Hand, gate):
    """The same state without a spoiler: looking finds it free, taking takes it, exactly once."""
    hand.govern()
    permit = hand.allow()
    assert gate.look(PLAN, SYMBOL, entry_ms=0, wait_ms=0) == Free(permit)
    took = gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0, token="mine")
    assert isinstance(took, Taken)
    assert took.permit == permit
    assert hand.redis.get(keys.taken(PLAN)) == f"{permit.nonce} mine"
    assert hand.redis.exists(PERMIT, GOVERNOR) == 0
    assert gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0) == Refused(Refusal.ALREADY_CONSUMED)


@pytest.mark.parametrize("key", [b"", "", (b"",), KEY, KEY.decode(), (KEY.decode(),), (KEY, b"short"), (None,)])
def test_a_key_that_is_none_makes_no_gate(new_gate, key):
    """An environment that lacks it, a forgotten comma: whoever means to verify must not learn at the first forgery."""
    with pytest.raises(ValueError, match="at least 32 bytes"):
        new_gate(key=key)


def test_a_permit_that_is_no_text_is_none(hand: Hand, new_gate):
    """Without a key nothing is verified, and a record holds text: a member that nobody reads spoils it as well."""
    hand.govern()
    hand.allow()
    hand.redis.set(PERMIT, hand.redis.get(PERMIT).encode().replace(b"{", b'{"\xff":1,', 1))
    assert new_gate(key=()).take(PLAN, SYMBOL, entry_ms=0, wait_ms=0).named == "invalid_permit_type"


def test_both_keys_are_valid_while_one_replaces_the_other(hand: Hand, new_gate):
    """Rotation: a permit under either key is taken; under a third it is forged."""
    hand.govern()
    hand.allow()
    assert isinstance(new_gate(key=(b"n" * 32,)).look(PLAN, SYMBOL, entry_ms=0, wait_ms=0), Refused)
    assert isinstance(new_gate(key=(b"n" * 32, KEY)).take(PLAN, SYMBOL, entry_ms=0, wait_ms=0), Taken)


def test_i05_the_writers_bytes_are_read_to_the_digit(hand: Hand, gate):
    """I05: what the writer signs is what the reader acts on, digits and all."""
    hand.govern()
    hand.allow(amt="-123456789.123456789", action="PARTIAL_50")
    took = gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0)
    assert isinstance(took, Taken)
    assert (took.permit.quantity_text(), took.permit.close_side, took.permit.venue) == ("120", "BUY", VENUE)
    assert str(took.permit.exchange_position_amt) == "-123456789.123456789"


def contents(hand: Hand) -> dict[str, bytes | None]:
    """Every key and its value, as the server would dump it."""
    return {name: hand.redis.execute_command("DUMP", name, NEVER_DECODE=True) for name in hand.redis.keys("*")}
