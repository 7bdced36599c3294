"""The record: enough to take the decision again and get the same bytes, for whatever led to it."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from p33_sidecar.core.actions import FRACTIONS
from p33_sidecar.core.checks import decide
from p33_sidecar.core.model import HEDGE, Book, Context, Facts, Filters, Phase, Policy, Snapshot
from p33_sidecar.core.permit import permit_bytes
from p33_sidecar.core.plan import plan_of
from p33_sidecar.core.record import (
    facts_of,
    policy_hash,
    policy_of,
    read_record,
    record_bytes,
    reproduce,
    take_again,
)
from tests.core.made import KEY, NOW_MS, ORIGIN, POLICY, STAMP, facts

SIZES = st.decimals(min_value="1E-8", max_value="1E+9", places=8) | st.sampled_from(
    [Decimal(text) for text in ("1E-8", "1E+9", "0.028000000000000001", "38E-3", "0.001", "120")])
AMTS = st.builds(lambda size, sign: size * sign, SIZES, st.sampled_from([1, -1, 0]))
AGES = st.none() | st.integers(-3_000, 40_000)
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ['","sig":"', "\\", '"', "0.0", "-1", "1E-8", "nan", "[]", '[{"step":"CLOSE_PARTIAL_75","pct":75.0}]'])
FIELDS = st.fixed_dictionaries(
    {"plan_id": st.sampled_from(["f1a8", 'a","sig":"b', "\\\""]),
     "symbol": st.sampled_from(["BTCUSDT", "币安人生USDT"]),
     "action": st.sampled_from(sorted(FRACTIONS)) | TEXTS},
    optional={"steps": TEXTS, "close_qty": TEXTS | SIZES.map(str), "side": st.sampled_from(["BUY", "SELL", "x"]),
              "timestamp": st.sampled_from([str(NOW_MS // 1000 - 2), "0", "x", "1e30"]) | TEXTS, "any other": TEXTS})
CONTEXTS = st.builds(
    Context, in_scope=st.booleans(), halted=st.booleans(), hedge=st.booleans(), tampered=st.booleans(),
    gap=st.booleans(), unsettled_orders=st.integers(0, 2), answered=st.booleans(), phase=st.sampled_from(Phase),
    phase_ends_ms=st.integers(0, NOW_MS * 2), released_ms=st.sampled_from([0, NOW_MS]), snapshot_age_ms=AGES,
    last_order_age_ms=AGES) | st.just(Context(snapshot_age_ms=3_200))
SYMBOL = st.just("BTCUSDT")
SNAPSHOTS = st.builds(
    Snapshot, symbol=SYMBOL, amt=AMTS, ts_ms=st.just(NOW_MS - 3_200), entry_price=SIZES.map(str),
) | st.just(Snapshot(symbol="BTCUSDT", amt=None, ts_ms=1, side=HEDGE))
BOOKS = st.builds(Book, symbol=SYMBOL, amt=AMTS, rev=st.integers(0, 2**53), last_order_ms=st.integers(0, NOW_MS))
FILTERS = st.builds(Filters, symbol=SYMBOL, status=st.sampled_from(["TRADING", "SETTLING"]),
                    step=SIZES, min_qty=SIZES | st.just(Decimal(0)), max_qty=SIZES)
POLICIES = st.builds(Policy, stale_threshold_ms=st.integers(100, 60_000),
                     qty_tolerance_pct=st.decimals(min_value=0, max_value=100, places=4))


@st.composite
def any_facts(draw) -> Facts:
    """Facts of every shape; half of the time book and exchange agree, so that ALLOWs are drawn, too."""
    snapshot, book = draw(st.none() | SNAPSHOTS), draw(st.none() | BOOKS)
    if snapshot and snapshot.amt is not None and draw(st.booleans()):
        book = Book(symbol="BTCUSDT", amt=snapshot.amt, rev=1)
    return Facts(now_ms=NOW_MS, plan=plan_of(draw(FIELDS), entry_ms=ORIGIN.published_ms), snapshot=snapshot, book=book,
                 filters=draw(st.none() | FILTERS), context=draw(CONTEXTS))


def written(given: Facts, policy: Policy = POLICY) -> tuple[bytes, bytes]:
    """(record, permit) of a verdict on the facts."""
    decision = decide(given, policy)
    return (record_bytes(decision, given, policy, stamp=STAMP, origin=ORIGIN),
            permit_bytes(decision, given, policy, stamp=STAMP, key=KEY))


@settings(max_examples=300)
@given(any_facts(), POLICIES)
def test_a_recorded_verdict_taken_again_gives_the_same_bytes(given, policy):
    """Facts to record to facts to verdict: record and permit are the very bytes, and the thresholds the same."""
    record, permit = written(given, policy)
    read = read_record(record)
    assert reproduce(read, key=KEY) == (record, permit)
    assert policy_of(read) == policy and take_again(read) == decide(given, policy)


@settings(max_examples=300)
@given(any_facts(), POLICIES)
def test_an_allowed_quantity_is_always_safe(given, policy):
    """Never above position, fraction, close_qty or maximum; at least the minimum; on the exchange's grid."""
    decision = decide(given, policy)
    assert decision.allow == all(f.ok for f in decision.findings) == (decision.reason is None)
    if not decision.allow:
        assert decision.safe_close_qty is None
        return
    qty, held, lots = decision.safe_close_qty, abs(given.snapshot.amt), given.filters
    assert 0 < qty <= min(held, held * FRACTIONS[given.plan.action], lots.max_qty)
    assert qty <= given.plan.close_qty or not given.plan.close_qty
    assert qty >= max(lots.min_qty, lots.step) and (qty - lots.min_qty) % lots.step == 0
    assert decision.close_side == ("SELL" if given.snapshot.amt > 0 else "BUY")


def test_the_record_has_the_contracts_members():
    """Every member the contract names is there, and every check with its five."""
    record = msgspec.json.decode(written(facts())[0])
    promised = ("v decision_id plan stream_id snapshot ledger filters policy policy_hash checks outcome reason "
                "requested_qty safe_close_qty permit times instance version")
    assert set(promised.split()) <= set(record)
    assert all({"name", "pass", "value", "threshold", "margin"} <= set(check) for check in record["checks"])
    assert set(record["permit"]) == {"issued_ms", "expires_ms", "nonce"}
    assert set(record["times"]) == {"published_ms", "read_ms", "decided_ms"}
    assert (record["requested_qty"], record["safe_close_qty"]) == ("0.0285", "0.028")
    assert record["snapshot"]["position_amt"] == record["ledger"]["last_known_amt"] == "0.038"


def test_unknown_is_null_in_the_record():
    """No snapshot, no book, no filters: null, never zero."""
    record = msgspec.json.decode(written(replace(facts(amt=None, ledger=None), filters=None))[0])
    assert (record["snapshot"], record["ledger"], record["filters"]) == (None, None, None)


def test_the_policy_hash_changes_with_every_threshold():
    """Two records with one hash were judged by the same thresholds."""
    changed = [replace(POLICY, **{name: getattr(POLICY, name) + 1}) for name in POLICY.__struct_fields__]
    assert len({policy_hash(policy) for policy in [POLICY, *changed]}) == len(changed) + 1
    assert policy_hash(replace(POLICY, qty_tolerance_pct=Decimal("1.000"))) == policy_hash(POLICY)


def test_the_plans_own_time_is_the_records():
    """The age of a plan without timestamp rests on its entry: that is the time the record keeps."""
    fields = {"plan_id": "p", "symbol": "BTCUSDT", "action": "CLOSE_FULL"}
    given = replace(facts(), plan=plan_of(fields, entry_ms=NOW_MS - 50_000))
    record, _ = written(given)
    assert facts_of(read_record(record)) == given


@pytest.mark.parametrize(("was", "now"), [
    (b'"position_amt":"0.038"', b'"position_amt":"NaN"'), (b'"step":"0.001"', b'"step":"1E+900"'),
    (b'"position_amt":"0.038"', b'"position_amt":"x"'), (b'"plan_id":"f1a8d7f48713d5cf"', b'"plan_id":""'),
])
def test_an_altered_record_is_refused(was, now):
    """What was altered beyond reading raises ValueError, and no arithmetic runs on what is not a number."""
    record, _ = written(facts())
    assert was in record
    with pytest.raises(ValueError):  # noqa: PT011
        facts_of(read_record(record.replace(was, now)))


def test_another_policy_can_be_tried_on_recorded_facts():
    """A stale denial at 10 s is an ALLOW at 20 s, on the same facts."""
    record = read_record(written(facts(snapshot_age_ms=12_000))[0])
    assert take_again(record).reason == "stale_exchange_state"
    assert take_again(record, replace(POLICY, stale_threshold_ms=20_000)).allow
