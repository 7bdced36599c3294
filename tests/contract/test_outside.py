"""Chapters 5 to 7 from outside: HTTP, every metric from the start, settings that cannot be used, commands and codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.contract import client
from tests.contract.client import Outsider, Page, until
from tests.contract.conftest import House

HOUSE = {"pool": 1, "positions": {"BTCUSDT": "0.038"}, "plans": "quantum:apply.plan", "results": "quantum:apply.result",
         "P33_POLL_SEC": "0.5", "P33_ALLOWLIST": "BTCUSDT,NEVERUSDT"}
METRICS = {
    "p33_snapshot_total": {"symbol", "status"}, "p33_snapshot_age_sec": {"symbol"}, "p33_last_snapshot_ts": {"symbol"},
    "p33_position_amt": {"symbol"}, "p33_ledger_amt": {"symbol"}, "p33_ledger_update_total": {"symbol"},
    "p33_permit_total": {"symbol", "decision"}, "p33_permit_denied_total": {"symbol", "reason"},
    "p33_evaluation_duration_seconds_bucket": {"le"}, "p33_permit_latency_seconds_bucket": {"le"},
    "p33_rejected_total": {"stream", "reason"}, "p33_exchange_request_total": {"endpoint", "status"},
    "p33_exchange_used_weight": set(), "p33_exchange_ban_until_seconds": set(), "p33_open_permits": set(),
    "p33_mismatch_open": {"symbol"}, "p33_mismatch_total": {"symbol"}, "p33_anomaly_total": {"kind"},
    "p33_stream_gap_total": {"stream"}, "p33_republished_total": set(), "p33_policy_loosened": set(),
    "p33_halted": set(), "p33_store_durable": set(), "p33_build_info": {"version", "policy"},
}
REASONS = re.findall(r"\w+", """
    symbol_not_allowed plan_expired plan_superseded unsupported_action action_step_mismatch clock_skew halted
    reconcile_hold_active venue_mismatch store_restarted exchange_unconfigured hedge_mode_unsupported no_symbol_filters
    symbol_not_trading no_exchange_snapshot stale_exchange_state no_position ledger_tampered ledger_gap ledger_missing
    reconcile_required_side_mismatch reconcile_required_qty_mismatch cooldown_in_flight permit_outstanding
    qty_below_min evaluation_error""")


@pytest.fixture(scope="module")
def page(house: House) -> Page:
    """The port of a sidecar that is ready."""
    found = house.page(house.start("p33-sidecar"))
    until("ready", lambda: found.get("/readyz")[0] == 200)
    return found


# -- chapter 5 ------------------------------------------------------------------------------------------------------


def test_the_paths(page: Page) -> None:
    """Each answers, with the type that it should have; another path is 404."""
    assert page.get("/healthz")[0] == 200
    assert page.get("/metrics")[1].startswith("text/plain; version=0.0.4")
    status, kind, body = page.get("/status.json")
    assert (status, kind.split(";")[0], json.loads(body)["ready"]) == (200, "application/json", True)
    status, kind, body = page.get("/")
    assert (status, kind.split(";")[0], body.lstrip()[:9].lower()) == (200, "text/html", "<!doctype")
    assert page.get("/etc/passwd")[0] == 404


def test_i51_every_metric_exists_with_its_labels(page: Page) -> None:
    """All families, under the contract's names and labels."""
    found = page.metrics()
    labels = {name: {label for pairs in series for label, _ in pairs} for name, series in found.items()}
    assert {name: labels.get(name) for name in METRICS} == METRICS


def test_all_known_series_exist_before_anything_happened(page: Page) -> None:
    """Every reason of a symbol on the list that has never had a plan stands at 0, and both decisions."""
    found = page.metrics()
    never = {dict(pairs)["reason"]: value for pairs, value in found["p33_permit_denied_total"].items()
             if dict(pairs)["symbol"] == "NEVERUSDT"}
    assert never == dict.fromkeys(REASONS, 0)
    decisions = {dict(p)["decision"] for p in found["p33_permit_total"] if dict(p)["symbol"] == "NEVERUSDT"}
    assert decisions == {"allow", "deny"}


DENIED = (("reason", "unsupported_action"), ("symbol", "BTCUSDT"))


def test_metrics_tell_the_truth(page: Page, out: Outsider) -> None:
    """Amounts, ages, verdicts by their reason, and that the store is durable."""
    before = page.metrics()["p33_permit_denied_total"][DENIED]
    assert out.verdict("BTCUSDT", "FOO")["allow"] is False
    found = until("counted", lambda: _counted(page, before))
    btc = (("symbol", "BTCUSDT"),)
    assert (found["p33_position_amt"][btc], found["p33_ledger_amt"][btc]) == (0.038, 0.038)
    assert 0 <= found["p33_snapshot_age_sec"][btc] < 60
    assert (found["p33_store_durable"][()], found["p33_halted"][()], found["p33_policy_loosened"][()]) == (1, 0, 0)


def _counted(page: Page, before: float) -> dict | None:
    found = page.metrics()
    return found if found["p33_permit_denied_total"][DENIED] == before + 1 else None


def test_readiness_follows_the_switch_and_health_does_not(page: Page, house: House) -> None:
    """`p33 halt`: 503 with the reason; the process is as healthy as before."""
    assert house.run("p33", "halt", "--reason", "contract").returncode == 0
    body = until("not ready", lambda: page.get("/readyz")[2] if page.get("/readyz")[0] == 503 else None)
    assert "halted" in body
    assert page.get("/healthz")[0] == 200
    until("the gauge follows", lambda: page.metrics()["p33_halted"][()] == 1)
    assert house.run("p33", "resume").returncode == 0
    until("ready again", lambda: page.get("/readyz")[0] == 200)


# -- chapter 6 ------------------------------------------------------------------------------------------------------

UNUSABLE = (
    ("REDIS_URL", "http://user:hunter2-secret@h"), ("REDIS_PORT", "70000"), ("REDIS_DB", "-1"),
    ("BINANCE_TESTNET", "maybe"),
    ("P33_EXCHANGE_URL", "ftp://x"), ("P33_ALLOWLIST", "BTC USDT"), ("P33_POLL_SEC", "0.4"),
    ("P33_STALE_THRESHOLD_SEC", "0"), ("P33_COOLDOWN_SEC", "-1"), ("P33_QTY_TOLERANCE_PCT", "101"),
    ("P33_PERMIT_TTL", "soon"), ("P33_PLAN_MAX_AGE_SEC", "NaN"), ("P33_REFRESH_BUDGET_MS", "0.5"),
    ("P33_LEDGER_BOOTSTRAP", "perhaps"), ("P33_PERMIT_KEY", "hunter2-secret"), ("P33_PERMIT_KEY_FILE", "nowhere"),
    ("P33_METRICS_PORT", "http"), ("P33_LOG_LEVEL", "LOUD"), ("P33_LOG_FORMAT", "xml"), ("P33_WEBHOOK_URL", "mail:x"),
    ("APPLY_MODE", "live"), ("APPLY_GATE", "none"), ("APPLY_PERMIT_WAIT_MS", "-1"), ("APPLY_METRICS_PORT", "x"),
    ("APPLY_ALLOW_MAINNET", "perhaps"),
)


def test_a_setting_that_cannot_be_used_ends_the_start_with_78(house: House) -> None:
    """All of them at once: one line each that names the variable, the value (a secret's never) and what is allowed."""
    given = dict(UNUSABLE)
    del given["P33_PERMIT_KEY_FILE"]
    said = house.run("p33-sidecar", **given)
    assert said.returncode == 78
    lines = said.stderr.splitlines()
    assert sorted(line.partition("=")[0] for line in lines) == sorted(given)
    assert all("allowed is" in line for line in lines)
    assert "hunter2" not in said.stderr + said.stdout


@pytest.mark.parametrize("program", ["p33-sidecar", "p33-apply"])
@pytest.mark.parametrize(("name", "value"), [("P33_POLL_SEC", "fast"), ("P33_PERMIT_KEY_FILE", "nowhere")])
def test_one_bad_setting_is_one_line(house: House, program: str, name: str, value: str) -> None:
    """Both programs, exit code 78."""
    blank = {"P33_PERMIT_KEY": ""} if name.endswith("_FILE") else {}
    said = house.run(program, **blank | {name: value})
    assert (said.returncode, said.stdout, len(said.stderr.splitlines())) == (78, "", 1)
    assert said.stderr.startswith(f"{name}={value}: allowed is")


def test_comments_and_quotes_after_a_value_are_tolerated(house: House) -> None:
    """As env files in the field have them."""
    said = house.run("p33", "check-config", "--json", P33_POLL_SEC='"7"   # was 5', P33_ALLOWLIST="'BTCUSDT' # one")
    assert json.loads(said.stdout)["settings"]["P33_POLL_SEC"] == "7"
    assert json.loads(said.stdout)["settings"]["P33_ALLOWLIST"] == "BTCUSDT"


@pytest.mark.parametrize("settings", [
    {"P33_EXCHANGE_URL": "https://fapi.binance.com"}, {"BINANCE_TESTNET": "false", "P33_EXCHANGE_URL": ""},
    {"P33_EXCHANGE_URL": "https://fapi.binance.com", "APPLY_GATE": "governor", "APPLY_ALLOW_MAINNET": "yes"},
])
def test_the_apply_layer_refuses_the_main_exchange(house: House, settings: dict[str, str]) -> None:
    """Unless APPLY_ALLOW_MAINNET=yes, and in Governor-only mode never."""
    said = house.run("p33-apply", **settings)
    assert said.returncode == 78
    assert said.stderr.startswith(("APPLY_ALLOW_MAINNET", "APPLY_GATE"))


# -- chapter 7 ------------------------------------------------------------------------------------------------------


def test_sigterm_ends_with_0(house: House) -> None:
    """Also a second sidecar beside the first."""
    second = house.start("p33-sidecar", P33_INSTANCE="second")
    until("it runs", lambda: "instance=second" in second.log.read_text())
    assert second.stop(patience_s=60) == 0


def test_i25_without_credentials_it_runs_and_denies(house: House, out: Outsider) -> None:
    """On a database of its own: no exit, `/readyz` 503, every plan `exchange_unconfigured`."""
    url = house.server.url.removesuffix("/0") + "/5"
    outsider = Outsider(url, plans=house.plans, results=house.results)
    process = house.start("p33-sidecar", REDIS_URL=url, BINANCE_API_KEY="", BINANCE_API_SECRET="", P33_INSTANCE="bare")
    assert outsider.verdict("BTCUSDT")["reason"] == "exchange_unconfigured"
    process.check()
    assert process.stop(patience_s=60) == 0


@pytest.mark.parametrize("args", [("status", "--json"), ("decisions", "--json"), ("replay", "--json"),
                                  ("audit-permits", "--json"), ("ledger", "show", "--json"),
                                  ("check-config", "--json")])
def test_commands_speak_json(house: House, page: Page, args: tuple[str, ...]) -> None:
    """One document on stdout, exit code 0 or 1."""
    said = house.run("p33", *args)
    assert said.returncode in (0, 1)
    json.loads(said.stdout)


def test_the_client_knows_the_contract_and_nothing_else() -> None:
    """No import of p33 in it: what passes here would pass in any language."""
    assert not re.search(r"^\s*(from|import) p33", Path(client.__file__).read_text(), re.MULTILINE)
