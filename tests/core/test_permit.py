"""The permit's bytes: members, exact numbers, and a signature that any reader can check by cutting."""

from __future__ import annotations

import hashlib
import hmac
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from p33_sidecar.core.checks import decide, evaluation_failed
from p33_sidecar.core.permit import permit_bytes, read_permit, sign, signature_holds
from p33_sidecar.core.reasons import Reason
from tests.core.made import KEY, POLICY, STAMP, facts

PLAN_IDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=128).filter(
    lambda text: not text.startswith("p33:"))


def permit(given=None, key: bytes | None = KEY) -> bytes:
    given = given or facts()
    return permit_bytes(decide(given, POLICY), given, POLICY, stamp=STAMP, key=key)


def test_the_allow_permit_to_the_letter():
    """Members and their order are the contract's; quantities are JSON numbers with their digits."""
    assert permit(key=None).decode() == (
        '{"v":1,"plan_id":"f1a8d7f48713d5cf","symbol":"BTCUSDT","allow":true,"safe_close_qty":0.028,'
        '"close_side":"SELL","exchange_position_amt":0.038,"ledger_position_amt":0.038,"ledger_rev":7,'
        '"snapshot_age_sec":3.2,"max_snapshot_age_sec":10,"action":"PARTIAL_75","venue":"demo-fapi.binance.com",'
        '"ts_epoch":1769301010,"issued_ms":1769301010000,"expires_ms":1769301070000,"nonce":"n0nce"}')


def test_the_deny_permits_to_the_letter():
    """A denial names reason and numbers; only a retryable one says after how many whole seconds."""
    late = permit(facts(last_order_age_ms=6_500), key=None).decode()
    assert late == (
        '{"v":1,"plan_id":"f1a8d7f48713d5cf","symbol":"BTCUSDT","allow":false,"reason":"cooldown_in_flight",'
        '"details":{"check":"nothing_settling","value":6500,"threshold":15000,"margin":-8500},"retryable":true,'
        '"retry_after_sec":9,"venue":"demo-fapi.binance.com","ts_epoch":1769301010,"issued_ms":1769301010000,'
        '"expires_ms":1769301070000,"nonce":"n0nce"}')
    final = json.loads(permit(facts(in_scope=False), key=None))
    assert final["retryable"] is False and "retry_after_sec" not in final


def test_the_final_reasons_are_the_contracts_five():
    """`retryable` is false for exactly these."""
    assert {str(r) for r in Reason if not r.retryable} == {
        "symbol_not_allowed", "plan_expired", "plan_superseded", "unsupported_action", "action_step_mismatch"}


def test_a_failed_evaluation_has_its_permit():
    """Without findings the denial still names itself and when to try again."""
    raw = permit_bytes(evaluation_failed(POLICY), facts(), POLICY, stamp=STAMP, key=None)
    said = read_permit(raw)
    assert (said.reason, said.retryable, said.retry_after_sec) == ("evaluation_error", True, 5)


@pytest.mark.parametrize("amt", ["0.00000001", "123456789.00000001", "1E+9"])
def test_numbers_have_no_exponent(amt):
    """1E-8 is written 0.00000001, in permits too."""
    raw = permit(facts(amt=amt, step="0.00000001", max_qty="1E+10", plan={"action": "CLOSE_FULL"}))
    written = json.loads(raw, parse_float=str, parse_int=str)["safe_close_qty"]
    assert written == f"{Decimal(amt):f}"
    assert read_permit(raw).quantity_text() == written


def test_any_language_can_check_the_signature_by_cutting():
    """HMAC-SHA256 over every byte before `,"sig":`, hex, as the last member."""
    raw = permit()
    body, _, tail = raw.partition(b',"sig":')
    assert json.loads(raw)["sig"] == hmac.new(KEY, body, hashlib.sha256).hexdigest() == tail.decode()[1:-2]
    assert list(json.loads(raw))[-1] == "sig"


@pytest.mark.parametrize("given", [facts(), facts(halted=True)])
def test_any_changed_byte_is_detected(given):
    """Every single byte, each of its bits, and every truncation."""
    raw = permit(given)
    assert signature_holds(raw, (KEY,))
    for at in range(len(raw)):
        for bit in range(8):
            assert not signature_holds(raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1:], (KEY,))
        assert not signature_holds(raw[:at], (KEY,))
    assert not signature_holds(raw + b" ", (KEY,)) and not signature_holds(b"{" + raw, (KEY,))


def test_keys_can_be_rotated_and_foreign_ones_do_not_count():
    """Any of the given keys will do; no key, another key, an unsigned permit will not."""
    assert signature_holds(permit(), (b"x" * 32, KEY))
    assert not signature_holds(permit(), (b"x" * 32,)) and not signature_holds(permit(), ())
    assert not signature_holds(permit(key=None), (KEY,))
    assert not signature_holds(sign(permit(key=None), b"x" * 32), (KEY,))


@given(PLAN_IDS | st.sampled_from(['a","sig":"b', '\\",\\"sig\\":\\"', '"}', '","allow":true,"x":"', "\\"]))
def test_odd_plan_ids_stay_unambiguous(plan_id):
    """Quotes and backslashes in a plan_id neither end the text early nor look like the signature's mark."""
    raw = permit(facts(plan={"plan_id": plan_id}))
    assert raw.count(b',"sig":') == 1 and signature_holds(raw, (KEY,))
    assert json.loads(raw)["plan_id"] == read_permit(raw).plan_id == plan_id


@pytest.mark.parametrize("qty", [None, Decimal(0), Decimal("-0.001")])
def test_i08_an_allow_of_nothing_cannot_be_built(qty):
    """Whatever a decision claims: no positive quantity, no ALLOW."""
    forced = replace(decide(facts(), POLICY), safe_close_qty=qty)
    with pytest.raises(ValueError, match="positive quantity"):
        permit_bytes(forced, facts(), POLICY, stamp=STAMP, key=KEY)


@pytest.mark.parametrize("missing", ["snapshot", "book"])
def test_an_allow_on_unknown_facts_cannot_be_built(missing):
    """Without snapshot or book there is nothing an ALLOW could rest on."""
    with pytest.raises(ValueError, match="a snapshot and a book"):
        permit_bytes(decide(facts(), POLICY), replace(facts(), **{missing: None}), POLICY, stamp=STAMP, key=KEY)


@pytest.mark.parametrize("raw", [
    b"", b"{}", b"null", b"[]", b"1", b"\xff", b'{"granted":true}', b"[" * 100_000,
    permit(key=None).replace(b'"v":1', b'"v":2'), permit(key=None).replace(b"0.028", b'"NaN"'),
    permit(key=None).replace(b"0.028", b"1e999999"), permit(key=None).replace(b":3.2", b':"inf"'),
    permit(key=None).replace(b"true", b"1"),
])
def test_what_is_no_permit_is_none(raw):
    """Another version, another shape, or numbers that are none: not a permit, and nothing raised."""
    assert read_permit(raw) is None


@given(st.binary(max_size=64))
def test_reading_never_raises(raw):
    """Any bytes are a permit or None, and have a valid signature or not."""
    read_permit(raw)
    assert not signature_holds(raw, (KEY,))
