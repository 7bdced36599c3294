"""Chapters 2 and 3 from outside: the keys, the permit's bytes, the checks one by one, on a running p33-sidecar.

The streams are called as in an existing deployment. Each test has its symbols to itself, so that any order will do.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.contract.client import CHECKS_RECORD, Outsider, exact, until, verified
from tests.contract.conftest import KEY, House

FLAT, STRANGER, SETTLING, SHORT = "NEARUSDT", "AAVEUSDT", "EOSUSDT", "ETHUSDT"
HOUSE = {
    "pool": 50, "positions": {"BTCUSDT": "0.038", SHORT: "-1.5", SETTLING: "10", FLAT: "0", STRANGER: "0"},
    "plans": "quantum:stream:apply.plan", "results": "quantum:stream:apply.result",
    "P33_POLL_SEC": "0.5", "P33_ALLOWLIST": f"BTCUSDT,{FLAT}", "P33_COOLDOWN_SEC": "60",
    "P33_STALE_THRESHOLD_SEC": "30",
}
FINAL = {"symbol_not_allowed", "plan_expired", "plan_superseded", "unsupported_action", "action_step_mismatch"}


@pytest.fixture(scope="module", autouse=True)
def sidecar(house: House, out: Outsider) -> None:
    """Running, with a book for every symbol that it knows of."""
    page = house.page(house.start("p33-sidecar", P33_INSTANCE="black-box"))
    until("ready", lambda: page.get("/readyz")[0] == 200)
    until("all books are open", lambda: all(out.ledger(s) for s in (*house.pool, "BTCUSDT", SHORT, SETTLING, FLAT)))


# -- chapter 2: the keys ------------------------------------------------------------------------------------------


def test_the_snapshot_hash(out: Outsider) -> None:
    """Its fields, canonical, under an hour's TTL; the time is that of the request."""
    found = out.snapshot("BTCUSDT")
    assert set(found) == {"position_amt", "side", "entry_price", "mark_price", "leverage", "unrealized_pnl", "ts_epoch",
                          "ts_iso", "ts_ms", "source"}
    assert (found["position_amt"], found["side"]) == ("0.038", "LONG")
    assert (out.snapshot(SHORT)["position_amt"], out.snapshot(SHORT)["side"]) == ("-1.5", "SHORT")
    assert int(found["ts_epoch"]) == int(found["ts_ms"]) // 1000
    assert found["ts_iso"].startswith("20") and "T" in found["ts_iso"]
    assert 3000 < out.redis.ttl("quantum:position:snapshot:BTCUSDT") <= 3600


def test_flat_symbols_are_written_too(out: Outsider) -> None:
    """Amount 0, side NONE, at every poll."""
    first = out.snapshot(FLAT)
    assert (first["position_amt"], first["side"]) == ("0", "NONE")
    until("a later poll", lambda: int(out.snapshot(FLAT)["ts_ms"]) > int(first["ts_ms"]))


def test_the_ledger_hash(out: Outsider) -> None:
    """Its fields before any order, under a day's TTL; I33: a short has its sign."""
    found = out.ledger(SHORT)
    assert found == {"last_known_amt": "-1.5", "last_known_side": "SHORT", "last_order_id": "",
                     "last_order_time_epoch": "0", "last_order_time_ms": "0", "rev": "1", "source": "opening",
                     "last_update_ts": found["last_update_ts"]}
    assert 80_000 < out.redis.ttl(f"quantum:position:ledger:{SHORT}") <= 86_400


def test_an_allow_byte_for_byte(out: Outsider, house: House) -> None:
    """The members in their order, exact digits, the signature over every byte before it, a life of 60 s."""
    plan_id, _ = out.plan("BTCUSDT", side="SELL",
                          steps='[{"step":"CLOSE_PARTIAL_75","type":"market_reduce_only","side":"close","pct":75.0}]')
    raw = out.permit_raw(plan_id)
    permit = exact(raw)
    assert list(permit) == ["v", "plan_id", "symbol", "allow", "safe_close_qty", "close_side", "exchange_position_amt",
                            "ledger_position_amt", "ledger_rev", "snapshot_age_sec", "max_snapshot_age_sec", "action",
                            "venue", "ts_epoch", "issued_ms", "expires_ms", "nonce", "sig"]
    assert b'"allow":true,"safe_close_qty":0.028,"close_side":"SELL","exchange_position_amt":0.038,' in raw
    assert (permit["v"], permit["plan_id"], permit["action"]) == (1, plan_id, "PARTIAL_75")
    assert (permit["max_snapshot_age_sec"], permit["ledger_rev"], permit["venue"]) == (30, 1, house.venue)
    assert permit["expires_ms"] - permit["issued_ms"] == 60_000
    assert permit["ts_epoch"] == permit["issued_ms"] // 1000
    assert out.redis.pexpiretime(f"quantum:permit:p33:{plan_id}") == permit["expires_ms"]
    assert verified(raw, KEY.encode())
    assert not verified(raw.replace(b"0.028", b"0.038"), KEY.encode())
    assert not verified(raw, b"another key of thirty-two bytes!!")
    assert out.redis.get("quantum:p33:open:BTCUSDT") == f"{plan_id} {permit['nonce']}"
    assert out.redis.get("quantum:p33:venue") == house.venue


def test_a_deny_byte_for_byte(out: Outsider) -> None:
    """The members in their order; `retry_after_sec` only where trying again may help."""
    plan_id, _ = out.plan(FLAT)
    permit = out.permit(plan_id)
    assert list(permit) == ["v", "plan_id", "symbol", "allow", "reason", "details", "retryable", "retry_after_sec",
                            "venue", "ts_epoch", "issued_ms", "expires_ms", "nonce", "sig"]
    assert (permit["allow"], permit["reason"], permit["retryable"]) == (False, "no_position", True)
    assert isinstance(permit["retry_after_sec"], int)
    assert verified(out.permit_raw(plan_id), KEY.encode())
    final = out.verdict(FLAT, "FOO")
    assert (final["retryable"], "retry_after_sec" in final) == (False, False)


def test_i01_a_permit_is_named_by_its_plan(out: Outsider, house: House) -> None:
    """Never by the entry's id."""
    plan_id, entry_id = out.plan(house.fresh())
    out.permit(plan_id)
    assert not out.redis.exists(f"quantum:permit:p33:{entry_id}", f"quantum:permit:{entry_id}")


# -- chapter 3: the checks ----------------------------------------------------------------------------------------


def test_a_plan_as_found_on_a_real_stream(out: Outsider) -> None:
    """Every field of the sample; its own timestamp is long past."""
    sample = {"kill_score": "0.539", "k_regime_flip": "0.0", "k_sigma_spike": "0.1084", "R_net": "7.0136", "price": "",
              "reason_codes": "", "timestamp": "1769301008",
              "steps": '[{"step":"CLOSE_PARTIAL_75","type":"market_reduce_only","side":"close","pct":75.0}]'}
    assert out.verdict("BTCUSDT", plan_id="f1a8d7f48713d5cf", **sample)["reason"] == "plan_expired"


@pytest.mark.parametrize(("symbol", "action", "fields", "reason"), [
    (STRANGER, "PARTIAL_75", {}, "symbol_not_allowed"),
    ("", "PARTIAL_75", {"timestamp": "1769301008"}, "plan_expired"),
    ("", "PARTIAL_75", {"timestamp": "99999999999"}, "clock_skew"),
    ("", "FOO", {}, "unsupported_action"),
    ("", "UPDATE_SL", {}, "unsupported_action"),
    ("", "partial_75", {}, "unsupported_action"),
    ("", "PARTIAL_75", {"steps": '[{"step":"CLOSE_PARTIAL_50","pct":50.0}]'}, "action_step_mismatch"),
    ("", "PARTIAL_75", {"steps": "[{"}, "action_step_mismatch"),
    ("", "PARTIAL_75", {"close_qty": "many"}, "action_step_mismatch"),
    ("", "PARTIAL_75", {"side": "BUY"}, "action_step_mismatch"),
    (SETTLING, "PARTIAL_75", {}, "symbol_not_trading"),
    (FLAT, "PARTIAL_75", {}, "no_position"),
    ("", "PARTIAL_75", {"close_qty": "0.0000001"}, "qty_below_min"),
])
def test_checks_one_by_one(out: Outsider, house: House, symbol: str, action: str, fields: dict[str, str],
                           reason: str) -> None:
    """Each denial by its name; the permit's details carry its numbers, the record every check."""
    plan_id, entry_id = out.plan(symbol or house.pool[-1], action, **fields)
    permit = out.permit(plan_id)
    assert (permit["allow"], permit["reason"], permit["retryable"]) == (False, reason, reason not in FINAL)
    assert permit["details"]
    (record,) = out.records("quantum:p33:decisions", plan_id=plan_id)
    assert (record["reason"], record["stream_id"]) == (reason, entry_id)
    assert next(c for c in record["checks"] if not c["pass"])["name"] == permit["details"]["check"]


def test_the_first_check_that_fails_decides(out: Outsider, house: House) -> None:
    """A stranger's plan with an unknown action, too old, halted: the table's order names the reason, all are kept."""
    plan_id, _ = out.plan(STRANGER, "FOO", timestamp="1769301008")
    assert out.permit(plan_id)["reason"] == "symbol_not_allowed"
    (record,) = out.records("quantum:p33:decisions", plan_id=plan_id)
    assert sum(not check["pass"] for check in record["checks"]) >= 4
    assert out.verdict(house.pool[-1], "FOO", timestamp="1769301008")["reason"] == "plan_expired"


@pytest.mark.parametrize(("action", "quantity"), [
    ("FULL_CLOSE_PROPOSED", "100"), ("CLOSE_FULL", "100"), ("PARTIAL_75", "75"), ("CLOSE_PARTIAL_75", "75"),
    ("PARTIAL_50", "50"), ("CLOSE_PARTIAL_50", "50"), ("PARTIAL_25", "25"), ("CLOSE_PARTIAL_25", "25"),
])
def test_every_closing_action_and_its_fraction(out: Outsider, house: House, action: str, quantity: str) -> None:
    """I12, of 100; a second plan for the symbol finds it open (I43)."""
    symbol = house.fresh()
    permit = out.verdict(symbol, action)
    assert (permit["allow"], permit["safe_close_qty"], permit["close_side"]) == (True, Decimal(quantity), "SELL")
    assert out.verdict(symbol)["reason"] == "permit_outstanding"


def test_a_short_is_closed_by_buying_and_close_qty_is_a_bound(out: Outsider) -> None:
    """Sign and bound."""
    permit = out.verdict(SHORT, "CLOSE_FULL", side="BUY", close_qty="0.5")
    assert (permit["close_side"], permit["safe_close_qty"]) == ("BUY", Decimal("0.5"))
    assert permit["exchange_position_amt"] == Decimal("-1.5")


@pytest.mark.parametrize(("key", "reason"), [
    ("quantum:p33:halt", "halted"), ("quantum:p33:halt:{}", "halted"),
    ("quantum:reconcile:hold:{}", "reconcile_hold_active")])
def test_switches_by_hand(out: Outsider, house: House, key: str, reason: str) -> None:
    """The key exists: denied. Whatever it holds."""
    symbol = house.fresh()
    out.redis.set(key.format(symbol), "0")
    assert out.verdict(symbol)["reason"] == reason
    out.redis.delete(key.format(symbol))
    assert out.verdict(symbol)["allow"] is True


@pytest.mark.parametrize(("amount", "reason"), [
    ("101", None), ("102", "reconcile_required_qty_mismatch"), ("-100", "reconcile_required_side_mismatch")])
def test_accounts_that_differ(out: Outsider, house: House, amount: str, reason: str | None) -> None:
    """I54: within 1 % of the exchange's amount passes, more does not; the other side is another reason."""
    symbol = house.fresh()
    house.exchange.set_position(symbol, amount)
    until("the poll", lambda: out.snapshot(symbol)["position_amt"] == amount)
    permit = out.verdict(symbol)
    assert (permit["allow"], permit.get("reason")) == (reason is None, reason)


def test_a_ledger_hash_changed_by_somebody_else(out: Outsider, house: House) -> None:
    """Denied, and an event."""
    symbol = house.fresh()
    out.redis.hset(f"quantum:position:ledger:{symbol}", "last_known_amt", "1")
    assert out.verdict(symbol)["reason"] == "ledger_tampered"


def test_i36_a_deleted_ledger_hash_loses_nothing(out: Outsider, house: House) -> None:
    """The hash is a view of a book that never expires: verdicts go on."""
    symbol = house.fresh()
    out.redis.delete(f"quantum:position:ledger:{symbol}")
    assert out.verdict(symbol)["ledger_position_amt"] == 100


def test_an_allow_ends_when_its_facts_change(out: Outsider, house: House) -> None:
    """T10: the open key goes with the position it was given for, and the plan may be published again."""
    symbol = house.fresh()
    plan_id, _ = out.plan(symbol)
    assert out.permit(plan_id)["allow"] is True
    house.exchange.set_position(symbol, "101")
    until("it has ended", lambda: not out.redis.exists(f"quantum:p33:open:{symbol}"))
    first = out.permit(plan_id)["nonce"]
    out.plan(symbol, plan_id=plan_id)
    until("decided again", lambda: out.permit(plan_id)["nonce"] != first)
    assert out.permit(plan_id)["exchange_position_amt"] == 101


# -- promises and records -----------------------------------------------------------------------------------------


def test_every_entry_gets_one_verdict_and_is_acknowledged(out: Outsider, house: House) -> None:
    """No entry is left pending, none was decided twice, and what is not EXECUTE is passed over."""
    symbol = house.fresh()
    quiet, _ = out.plan(symbol, decision="SKIP")
    published = dict(out.plan(symbol) for _ in range(20))
    for plan_id in published:
        out.permit(plan_id)
    until("all acknowledged", lambda: out.redis.xpending(out.plans, "p33")["pending"] == 0)
    decided = [record["stream_id"] for record in out.records("quantum:p33:decisions")]
    assert len(decided) == len(set(decided))
    assert set(published.values()) <= set(decided)
    allowed = [plan_id for plan_id in published if out.permit(plan_id)["allow"]]
    assert len(allowed) == 1
    assert not out.redis.exists(f"quantum:permit:p33:{quiet}")


def test_republications(out: Outsider, house: House) -> None:
    """An open ALLOW keeps permit and record; a denial that may be retried is evaluated afresh (I14)."""
    symbol = house.fresh()
    plan_id, _ = out.plan(symbol)
    raw = out.permit_raw(plan_id)
    out.plan(symbol, plan_id=plan_id)
    assert out.verdict(symbol)["reason"] == "permit_outstanding"
    assert out.permit_raw(plan_id) == raw
    assert len(out.records("quantum:p33:decisions", plan_id=plan_id)) == 1
    denied, _ = out.plan(FLAT)
    first = out.permit(denied)["nonce"]
    out.plan(FLAT, plan_id=denied)
    until("decided again", lambda: out.permit(denied)["nonce"] != first)
    assert len(out.records("quantum:p33:decisions", plan_id=denied)) == 2


@pytest.mark.parametrize(("fields", "reason"), [
    ({"symbol": "BTCUSDT"}, "missing_plan_id"),
    ({"plan_id": "p33:x", "symbol": "BTCUSDT"}, "malformed_plan_id"),
    ({"plan_id": "x" * 129, "symbol": "BTCUSDT"}, "malformed_plan_id"),
    ({"plan_id": "no-symbol"}, "missing_symbol"),
    ({"plan_id": "bad-symbol", "symbol": "BTC USDT"}, "malformed_symbol"),
])
def test_a_plan_beyond_understanding_is_kept_whole(out: Outsider, fields: dict[str, str], reason: str) -> None:
    """`quantum:p33:rejected`: stream, id, reason, the whole message; no permit."""
    message = fields | {"decision": "EXECUTE", "action": "PARTIAL_75"}
    entry_id = out.redis.xadd(out.plans, message)
    (record,) = until("kept", lambda: out.records("quantum:p33:rejected", id=entry_id))
    assert (record["v"], record["reason"], record["message"]) == (1, reason, message)
    assert record["_entry"]["stream"] == out.plans
    if "plan_id" in fields:
        assert not out.redis.exists(f"quantum:permit:p33:{fields['plan_id']}")


def test_the_decision_record(out: Outsider, house: House) -> None:
    """Everything that led to the verdict, every check, and which permit it became."""
    plan_id, entry_id = out.plan(house.fresh(), extra="kept")
    permit = out.permit(plan_id)
    (record,) = out.records("quantum:p33:decisions", plan_id=plan_id)
    assert {"v", "decision_id", "plan", "stream_id", "snapshot", "ledger", "filters", "policy", "policy_hash", "checks",
            "outcome", "reason", "requested_qty", "safe_close_qty", "permit", "times", "instance",
            "version"} <= set(record)
    assert all(set(check) >= CHECKS_RECORD for check in record["checks"])
    assert record["permit"] == {name: permit[name] for name in ("issued_ms", "expires_ms", "nonce")}
    assert set(record["times"]) == {"published_ms", "read_ms", "decided_ms"}
    assert record["times"]["published_ms"] == int(entry_id.partition("-")[0])
    assert (record["instance"], record["outcome"], record["_entry"]["outcome"]) == ("black-box", "ALLOW", "ALLOW")
    assert (record["plan"]["plan_id"], record["plan"]["extra"]) == (plan_id, "kept")
    assert record["snapshot"]["position_amt"] == record["ledger"]["last_known_amt"] == "100"


def test_polls_and_openings_are_recorded(out: Outsider) -> None:
    """One entry a poll with all that is not flat; every change of a book with its cause."""
    poll = out.records("quantum:p33:snapshots")[0]
    assert {"v", "requested_ms", "received_ms", "outcome", "positions"} <= set(poll)
    assert poll["_entry"]["poll_id"]
    assert all("update_time_ms" in position for position in poll["positions"])
    opening = out.records("quantum:p33:ledger", symbol=SHORT)[0]
    assert {"v", "rev", "cause", "delta", "amt_before", "amt_after", "anomaly"} <= set(opening)
    assert (opening["cause"], opening["amt_before"], opening["amt_after"]) == ("opening", None, "-1.5")
