"""`p33-apply` as a process: exit codes, health, metrics, log lines, and a SIGTERM that finishes what is in hand."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from p33_sidecar.apply.metrics import REFUSALS
from p33_sidecar.store import keys
from tests.apply.shop import DEADLINE_S, Shop, until
from tests.gate.sidecar import KEY, PLAN, SYMBOL

PORT = re.compile(r" port=(\d+) ")


class Running:
    """One process and its log."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen([sys.executable, "-m", "p33_sidecar.apply.main"], env=env, stderr=file,
                                            stdin=subprocess.DEVNULL, stdout=file)

    def said(self) -> str:
        return self.log.read_text()

    def url(self) -> str:
        """Where its metrics are, once it has started."""
        until(lambda: PORT.search(self.said()), "the start")
        return f"http://127.0.0.1:{PORT.search(self.said())[1]}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url() + path, trust_env=False, timeout=DEADLINE_S)

    def samples(self) -> dict[tuple[str, ...], float]:
        """(name, label values...) -> value."""
        families = text_string_to_metric_families(self.get("/metrics").text)
        return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}

    def ended(self) -> int:
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(shop: Shop, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts processes on the shop; all are gone in the end."""
    made: list[Running] = []

    def begin(**settings: str) -> Running:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("P33_", "APPLY_", "REDIS_"))}
        env = ours | {"REDIS_URL": shop.url, "P33_EXCHANGE_URL": shop.exchange.url, "P33_PERMIT_KEY": KEY.decode(),
                      "BINANCE_API_KEY": shop.exchange.api_key, "BINANCE_API_SECRET": shop.exchange.api_secret,
                      "APPLY_MODE": "testnet", "APPLY_METRICS_PORT": "0", "P33_INSTANCE": "apply-1"} | settings
        made.append(Running(env, tmp_path / f"apply-{len(made)}.log"))
        return made[-1]

    yield begin
    for running in made:
        running.kill()


def test_a_plan_is_applied_counted_and_said(shop: Shop, start):
    """Order, result, metrics, and the checklist's greps: `P3.3` with `EXECUTE`, `P3.3` with `BLOCKED`."""
    running = start(APPLY_PERMIT_WAIT_MS="50")
    shop.allowed()
    shop.publish("second", "ETHUSDT")
    until(lambda: len(shop.results()) == 2, "both results")
    assert {(r.plan_id, r.decision) for r in shop.results()} == {(PLAN, "EXECUTE"), ("second", "BLOCKED")}
    until(lambda: running.said().count("plan.applied") == 2, "both lines")
    lines = running.said().splitlines()
    assert [line for line in lines if "P3.3" in line and "EXECUTE" in line and PLAN in line]
    assert [line for line in lines if "P3.3" in line and "BLOCKED" in line and "missing_governor_permit" in line]
    samples = running.samples()
    assert samples["p33_apply_plans_total", "executed"] == samples["p33_apply_plans_total", "blocked"] == 1
    assert samples["p33_apply_orders_total", "filled"] == 1
    assert samples["p33_apply_refused_total", "missing_governor_permit"] == 1
    assert samples["p33_apply_exchange_request_total", "order_new", "ok"] == 1
    assert KEY.decode() not in running.said() and shop.exchange.api_secret not in running.said()


def test_i51_every_series_stands_at_zero_from_the_start(shop: Shop, start):
    """I51: an alert rule finds its series before the first refusal; healthy, and other paths are none."""
    running = start()
    samples = running.samples()
    assert all(samples["p33_apply_refused_total", refusal] == 0 for refusal in REFUSALS)
    assert samples["p33_apply_forged_permit_total", "forged_permit"] == 0
    assert samples["p33_apply_orders_sought",] == samples["p33_apply_in_hand",] == 0
    assert samples["p33_apply_governor_only",] == 0
    assert (running.get("/healthz").text, running.get("/healthz").status_code) == ("ok\n", 200)
    assert running.get("/").status_code == 404


def test_a_forged_permit_is_counted(shop: Shop, start):
    """The forgery is reported even where the real permit follows."""
    running = start(APPLY_PERMIT_WAIT_MS="100")
    shop.redis.hset(keys.permit(PLAN), "allow", "true")
    shop.hand.govern()
    shop.publish()
    until(shop.results, "the result")
    assert shop.only_result().step["refusal"] == "invalid_permit_type"
    assert running.samples()["p33_apply_forged_permit_total", "invalid_permit_type"] == 1
    assert "permit.forged" in running.said()


def test_sigterm_finishes_what_is_taken(shop: Shop, start):
    """The order is on its way when SIGTERM comes: its result is written, and the exit code is 0."""
    shop.exchange.set_latency(300, "POST order")
    running = start()
    shop.allowed()
    until(lambda: shop.redis.exists(keys.taken(PLAN)), "the taking")
    running.process.send_signal(signal.SIGTERM)
    assert running.ended() == 0
    assert shop.only_result().executed == "True" and not shop.intents()


def test_sigterm_while_waiting_leaves_the_plan_for_the_next_life(shop: Shop, start):
    """No result is invented; the next life finds the plan pending and applies it."""
    running = start(APPLY_PERMIT_WAIT_MS="60000")
    shop.publish()
    until(lambda: "p33_apply_in_hand 1.0" in running.get("/metrics").text, "in hand")
    running.process.send_signal(signal.SIGTERM)
    assert running.ended() == 0 and not shop.results()
    shop.hand.govern()
    shop.hand.allow()
    start()
    until(shop.results, "the next life's result")
    assert shop.only_result().executed == "True" and shop.sends() == 1


def test_governor_only_mode_warns_at_the_start_and_with_every_order(shop: Shop, start):
    """The rollback is never silent, and a metric shows it."""
    running = start(APPLY_GATE="governor")
    assert running.samples()["p33_apply_governor_only",] == 1
    shop.hand.govern()
    shop.publish()
    until(shop.results, "the result")
    warned = [line for line in running.said().splitlines() if " WARNING " in line]
    assert shop.only_result().executed == "True" and len([w for w in warned if "governor" in w]) >= 2


REFUSED = (
    ({"P33_EXCHANGE_URL": "https://fapi.binance.com"}, "APPLY_ALLOW_MAINNET=no: "),
    ({"P33_EXCHANGE_URL": "", "BINANCE_TESTNET": "false"}, "APPLY_ALLOW_MAINNET=no: "),
    ({"P33_EXCHANGE_URL": "https://fapi.binance.com", "APPLY_MODE": "dry_run"}, "APPLY_ALLOW_MAINNET=no: "),
    ({"P33_EXCHANGE_URL": "https://fapi.binance.com", "APPLY_ALLOW_MAINNET": "yes", "APPLY_GATE": "governor"},
     "APPLY_GATE=governor: "),
    ({"APPLY_MODE": "live"}, "APPLY_MODE=live: "),
    ({"APPLY_PERMIT_WAIT_MS": "soon"}, "APPLY_PERMIT_WAIT_MS=soon: "),
    ({"P33_METRICS_HOST": "no.such.host.invalid"}, "P33_METRICS_HOST=no.such.host.invalid: "),
)


@pytest.mark.parametrize(("settings", "line"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_what_it_refuses_to_start_with(start, settings: dict[str, str], line: str):
    """Exit code 78 and one line that names the variable, the value and what is allowed."""
    running = start(**settings)
    assert running.ended() == 78
    (said,) = running.said().splitlines()
    assert said.startswith(line) and "allowed is" in said


def test_dry_run_is_the_default(shop: Shop, start):
    """Nothing is taken unless somebody asked for it."""
    running = start(APPLY_MODE="")
    shop.allowed()
    until(shop.results, "the result")
    assert shop.only_result().would_execute == "True" and shop.hand.both_there() and not shop.sends()
    assert "mode=dry_run" in running.said()


@pytest.mark.parametrize("symbols", [10])
def test_two_processes_share_the_stream(shop: Shop, start, symbols: int):
    """Two instances of one group: each plan gets one result, whoever had it."""
    start(P33_INSTANCE="apply-1")
    start(P33_INSTANCE="apply-2")
    until(lambda: shop.redis.exists("quantum:apply.plan") and len(
        shop.redis.xinfo_groups("quantum:apply.plan")) == 1, "the group")
    for number in range(symbols):
        plan_id = f"plan-{number}"
        shop.hand.govern(plan_id)
        shop.hand.deny(plan_id, SYMBOL, issued_ms=shop.hand.now_ms() + 60_000)
        shop.publish(plan_id)
    until(lambda: len(shop.results()) >= symbols, "all results")
    assert sorted(result.plan_id for result in shop.results()) == sorted(f"plan-{n}" for n in range(symbols))
