"""/metrics says what the contract promises, from the first scrape on, and costs a verdict next to nothing."""

from __future__ import annotations

import math
import subprocess

from prometheus_client.parser import text_string_to_metric_families

from p33_sidecar.core.reasons import Reason
from p33_sidecar.exchange import Observer
from p33_sidecar.exchange import client as exchange_client
from p33_sidecar.exchange.connection import Call
from p33_sidecar.service import metrics as m
from p33_sidecar.service.hooks import Hooks
from p33_sidecar.service.metrics import Metrics
from tests.service.pictured import NOW_MS, StoppedClock, busy_memory, empty_memory, hold, ready_memory
from tests.tools import needed

PROMISED = {
    "p33_snapshot_total": {"symbol", "status"}, "p33_snapshot_age_sec": {"symbol"}, "p33_last_snapshot_ts": {"symbol"},
    "p33_position_amt": {"symbol"}, "p33_ledger_amt": {"symbol"}, "p33_ledger_update_total": {"symbol"},
    "p33_permit_total": {"symbol", "decision"}, "p33_permit_denied_total": {"symbol", "reason"},
    "p33_evaluation_duration_seconds": set(), "p33_permit_latency_seconds": set(),
    "p33_rejected_total": {"stream", "reason"}, "p33_exchange_request_total": {"endpoint", "status"},
    "p33_exchange_used_weight": set(), "p33_exchange_ban_until_seconds": set(), "p33_open_permits": set(),
    "p33_mismatch_open": {"symbol"}, "p33_mismatch_total": {"symbol"}, "p33_anomaly_total": {"kind"},
    "p33_stream_gap_total": {"stream"}, "p33_republished_total": set(), "p33_policy_loosened": set(),
    "p33_halted": set(), "p33_store_durable": set(), "p33_build_info": {"version", "policy"},
    "p33_canary_last_ok_timestamp_seconds": set(), "p33_halted_symbols": set(),
    "p33_archive_until_timestamp_seconds": set(), "p33_audit_until_timestamp_seconds": set(),
}
"""Contract, chapter 5, and our own: name -> labels."""


def made(memory=None, clock=None, *, loosened=False):
    return Metrics(memory or empty_memory(), clock or StoppedClock(), version="0.1.0", policy_hash="abc",
                   loosened=loosened)


def samples(metrics):
    """(name, sorted labels) -> value, as Prometheus reads the text."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def value(metrics, name, **labels):
    return samples(metrics)[(name, *sorted(labels.items()))]


def test_every_promised_family_is_there_at_the_first_scrape_and_no_other():
    """I51: an alert rule names a metric that exists, with the labels it asks for, before anything happened."""
    found: dict[str, set] = {}
    for name, *labels in samples(made()):
        plain = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        found.setdefault(plain if plain in PROMISED else name, set()).update(k for k, _ in labels if k != "le")
    assert found == PROMISED


def test_known_series_start_at_zero():
    """`increase()` misses a counter that appears at 1: what can be named beforehand is there at 0."""
    seen = samples(made())
    for reason in Reason:
        assert seen[("p33_permit_denied_total", ("reason", reason.value), ("symbol", "BTCUSDT"))] == 0
    for decision in ("allow", "deny"):
        assert seen[("p33_permit_total", ("decision", decision), ("symbol", "BTCUSDT"))] == 0
    for status in ("ok", "error"):
        assert seen[("p33_snapshot_total", ("status", status), ("symbol", "BTCUSDT"))] == 0
    for stream in ("plan", "result"):
        assert seen[("p33_stream_gap_total", ("stream", stream))] == 0
        assert seen[("p33_rejected_total", ("reason", "malformed_symbol"), ("stream", stream))] == 0
    assert seen[("p33_exchange_request_total", ("endpoint", "positionRisk"), ("status", "ok"))] == 0
    assert seen[("p33_anomaly_total", ("kind", "reduce_only_beyond_zero"))] == 0


def test_the_known_endpoints_are_the_client_s():
    """The names in the list are the exchange client's own, less what only the Apply Layer or the pipeline asks."""
    calls = {c.name for c in vars(exchange_client).values() if isinstance(c, Call)}
    assert set(m.ENDPOINTS) == calls - {"order_new", "userTrades", "allOrders"}


def test_what_is_not_known_is_never_zero():
    """No snapshot: the amount is NaN and the age infinite, so that `age > 10` fires."""
    metrics = made()
    assert math.isnan(value(metrics, "p33_position_amt", symbol="BTCUSDT"))
    assert math.isnan(value(metrics, "p33_ledger_amt", symbol="BTCUSDT"))
    assert value(metrics, "p33_snapshot_age_sec", symbol="BTCUSDT") == math.inf
    assert value(metrics, "p33_store_durable") == 0


def test_gauges_are_read_at_the_scrape():
    """An age grows between two scrapes without any loop turning, and by the slower of two clocks never."""
    memory, clock = ready_memory(), StoppedClock()
    hold(memory, "BTCUSDT", "-0.038", "-0.03")
    metrics = made(memory, clock, loosened=True)
    assert value(metrics, "p33_snapshot_age_sec", symbol="BTCUSDT") == 3.2
    clock.pass_ms(1_500)
    assert value(metrics, "p33_snapshot_age_sec", symbol="BTCUSDT") == 4.7
    clock.ms -= 60_000
    assert value(metrics, "p33_snapshot_age_sec", symbol="BTCUSDT") == 4.7
    assert value(metrics, "p33_position_amt", symbol="BTCUSDT") == -0.038
    assert value(metrics, "p33_ledger_amt", symbol="BTCUSDT") == -0.03
    assert value(metrics, "p33_last_snapshot_ts", symbol="BTCUSDT") == (NOW_MS - 3_200) / 1000
    assert value(metrics, "p33_policy_loosened") == 1
    assert value(metrics, "p33_store_durable") == 1
    assert value(metrics, "p33_build_info", version="0.1.0", policy="abc") == 1


def test_switches_bans_permits_and_mismatches_follow_memory():
    """What ended by its own time is over at the scrape, whether or not a loop has noticed."""
    memory, clock = busy_memory(), StoppedClock()
    metrics = made(memory, clock)
    metrics.ban(NOW_MS + 90_000)
    metrics.weight(1234)
    assert value(metrics, "p33_open_permits") == 1
    assert value(metrics, "p33_mismatch_open", symbol="SOLUSDT") == 1
    assert value(metrics, "p33_mismatch_open", symbol="BTCUSDT") == 0
    assert value(metrics, "p33_exchange_ban_until_seconds") == (NOW_MS + 90_000) / 1000
    assert value(metrics, "p33_exchange_used_weight") == 1234
    assert value(metrics, "p33_halted") == 0
    memory.halts = {"": {"by": "ops"}}
    clock.pass_ms(100_000)
    assert value(metrics, "p33_open_permits") == 0
    assert value(metrics, "p33_exchange_ban_until_seconds") == 0
    assert value(metrics, "p33_halted") == 1


def test_a_shorter_ban_does_not_end_a_longer_one():
    """The later time wins."""
    metrics = made()
    metrics.ban(NOW_MS + 90_000)
    metrics.ban(NOW_MS + 1_000)
    assert value(metrics, "p33_exchange_ban_until_seconds") == (NOW_MS + 90_000) / 1000


def test_each_hook_counts_under_its_own_name():
    """A table of hook and counter: one call, one more."""
    metrics = made()
    observer: Observer = metrics
    hooks: Hooks = metrics
    hooks.poll(frozenset({"BTCUSDT"}), ok=True)
    hooks.poll(frozenset({"BTCUSDT"}), ok=False)
    hooks.booked("BTCUSDT")
    hooks.anomaly("order_changed_side")
    hooks.gap("result")
    hooks.rejected("plan", "missing_symbol")
    hooks.verdict("BTCUSDT", reason=None, evaluation_s=0.0002, latency_s=0.003)
    hooks.verdict("BTCUSDT", reason="halted", evaluation_s=-1.0, latency_s=-1.0)
    hooks.republished()
    hooks.mismatch_opened("BTCUSDT")
    observer.request(endpoint="positionRisk", status="timeout", seconds=4.0)
    seen = {key: v for key, v in samples(metrics).items() if v == 1 and key[0].endswith("_total")}
    assert set(seen) == {
        ("p33_snapshot_total", ("status", "ok"), ("symbol", "BTCUSDT")),
        ("p33_snapshot_total", ("status", "error"), ("symbol", "BTCUSDT")),
        ("p33_ledger_update_total", ("symbol", "BTCUSDT")), ("p33_anomaly_total", ("kind", "order_changed_side")),
        ("p33_stream_gap_total", ("stream", "result")),
        ("p33_rejected_total", ("reason", "missing_symbol"), ("stream", "plan")),
        ("p33_permit_total", ("decision", "allow"), ("symbol", "BTCUSDT")),
        ("p33_permit_total", ("decision", "deny"), ("symbol", "BTCUSDT")),
        ("p33_permit_denied_total", ("reason", "halted"), ("symbol", "BTCUSDT")),
        ("p33_republished_total",), ("p33_mismatch_total", ("symbol", "BTCUSDT")),
        ("p33_exchange_request_total", ("endpoint", "positionRisk"), ("status", "timeout")),
    }
    assert value(metrics, "p33_permit_latency_seconds_count") == 2
    assert value(metrics, "p33_permit_latency_seconds_sum") == 0.003


def test_a_symbol_with_a_position_gets_all_its_series_with_its_first_poll():
    """In scope because of a position (I28): its counters stand at 0 before its first verdict."""
    memory = empty_memory(allowlist=None)
    hold(memory, "SOLUSDT", "1", "1")
    metrics = made(memory)
    metrics.poll(frozenset({"SOLUSDT"}), ok=True)
    assert value(metrics, "p33_permit_denied_total", symbol="SOLUSDT", reason="halted") == 0


def test_invented_symbols_do_not_fill_the_memory():
    """A producer gone wild gets a thousand names; the rest is counted as `other`."""
    metrics = made()
    for number in range(m.MOST_STRANGERS + 5):
        metrics.verdict(f"X{number}", reason="symbol_not_allowed", evaluation_s=0, latency_s=0)
    assert value(metrics, "p33_permit_total", symbol="other", decision="deny") == 5
    metrics.verdict("BTCUSDT", reason=None, evaluation_s=0, latency_s=0)
    assert value(metrics, "p33_permit_total", symbol="BTCUSDT", decision="allow") == 1


def test_a_symbol_out_of_scope_stops_ageing():
    """Closed and no longer asked for: its old snapshot must not set off the stale alert for ever."""
    memory = ready_memory()
    hold(memory, "SOLUSDT", "0", "0")
    memory.scope = frozenset({"BTCUSDT", "ETHUSDT"})
    assert not [key for key in samples(made(memory)) if ("symbol", "SOLUSDT") in key]


def test_hostile_label_values_stay_inside_their_quotes():
    """A symbol may hold a quote or a backslash; the text stays readable."""
    metrics = made()
    metrics.verdict('a"}\\', reason=None, evaluation_s=0, latency_s=0)
    assert value(metrics, "p33_permit_total", symbol='a"}\\', decision="allow") == 1


FIXED_NAMES = ("p33_snapshot_age_sec",)
"""Named by the contract, disliked by the linter (`sec`)."""


def test_promtool_finds_nothing_beyond_the_names_the_contract_fixes():
    """The official linter reads the text and complains only of a name that cannot change."""
    done = subprocess.run([needed("promtool"), "check", "metrics"], input=made(busy_memory()).render(),
                          capture_output=True, check=False)
    complaints = [line for line in (done.stdout + done.stderr).decode().splitlines() if line.strip()]
    assert [line for line in complaints if not line.startswith(FIXED_NAMES)] == []
