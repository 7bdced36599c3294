"""Alerts: each is shown to fire and to stay quiet, names metrics that exist, and has a page whose commands work."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from p33_sidecar.apply.metrics import ApplyMetrics
from p33_sidecar.core.reasons import Reason
from p33_sidecar.rehearsal.plan_source import plan_of
from p33_sidecar.rehearsal.stack import Stack
from p33_sidecar.service.metrics import Metrics
from tests.service.pictured import StoppedClock, empty_memory
from tests.tools import needed

TOP = Path(__file__).resolve().parents[2]
PROMETHEUS, RUNBOOKS = TOP / "deployment" / "prometheus", TOP / "docs" / "runbooks"
RULES = yaml.safe_load((PROMETHEUS / "p33.rules.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
ALERTS = [rule["alert"] for rule in RULES]
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Remedy"]
FROM_PROMETHEUS = {"up"}
NOT_HERE = ("systemctl", "timedatectl", "journalctl")
"""Commands that ask systemd, which does not run where tests run; what they ask for is checked as text."""
ELSEWHERE = ("p33 breaks", "p33 rotate-key")
"""Commands of the pipeline and of the deployment, which have tests of their own."""


def promtool(*words: str) -> None:
    done = subprocess.run([needed("promtool"), *words], capture_output=True, text=True, cwd=PROMETHEUS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_scrape_configuration_are_valid():
    """promtool reads both as Prometheus would."""
    promtool("check", "rules", "p33.rules.yml")
    promtool("check", "config", "scrape.yml")


def test_every_alert_fires_when_it_should_and_only_then():
    """p33.rules.test.yml has for each alert a story in which it fires and one in which it does not."""
    promtool("test", "rules", "p33.rules.test.yml")
    stories = yaml.safe_load((PROMETHEUS / "p33.rules.test.yml").read_text(encoding="utf-8"))["tests"]
    told = {(case["alertname"], bool(case["exp_alerts"])) for story in stories for case in story["alert_rule_test"]}
    assert told == {(alert, fires) for alert in ALERTS for fires in (True, False)}


def fresh_metrics() -> dict[str, set[str]]:
    """Sample name -> labels, as both processes show them before anything happened."""
    sidecar = Metrics(empty_memory(), StoppedClock(), version="1", policy_hash="a", loosened=False).render()
    found: dict[str, set[str]] = {}
    for text in (sidecar, ApplyMetrics(version="1", mode="dry_run", gate="both").render()):
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("rule", RULES, ids=ALERTS)
def test_i51_rules_name_metrics_and_labels_that_exist(rule):
    """I51: an alert on a metric that nobody exports never fires. Reasons in a rule are reasons of the gate."""
    there = fresh_metrics()
    names = set(re.findall(r"\b(?:p33_\w+|up)\b", rule["expr"])) - FROM_PROMETHEUS
    assert names <= there.keys(), names - there.keys()
    for name, selector in re.findall(r"(p33_\w+)\{([^}]*)\}", rule["expr"]):
        asked = dict(re.findall(r'(\w+)[=!~]+"([^"]*)"', selector))
        assert asked.keys() <= there[name]
        assert set(filter(None, asked.get("reason", "").split("|"))) <= set(Reason)


def test_every_alert_has_its_page_and_no_page_is_left_over():
    """The pages are found by the alert's name, and all have the same four parts."""
    assert {path.stem for path in RUNBOOKS.glob("P33*.md")} == set(ALERTS)
    for rule in RULES:
        page = TOP / rule["annotations"]["runbook"]
        assert page.stem == rule["alert"]
        assert re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE) == SECTIONS


def commands() -> list[str]:
    """Every command of the runbooks: indented lines, and what stands in backquotes and begins with `p33 `."""
    found = set()
    for page in RUNBOOKS.glob("P33*.md"):
        text = page.read_text(encoding="utf-8")
        found.update(line.strip() for line in text.splitlines() if line.startswith("    "))
        found.update(re.findall(r"`(p33 [^`]+|redis-cli [^`]+)`", text))
    return sorted(found - set(ELSEWHERE))


class Site:
    """A running gate, and a shell on which `p33`, `redis-cli` and `curl` reach it as they would an installation."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.plan_id = stack.source.publish(plan_of("BTCUSDT", "PARTIAL_75")).plan_id
        stack.until("the plan has its result", lambda: stack.redis.xlen(stack.result_stream), patience_s=60)
        stack.until("the order has settled", self._settled, patience_s=60)
        self._shim("p33", f'exec "{sys.executable}" -m p33_sidecar.cli "$@"')
        self._shim("redis-cli", f'exec "{sys.executable}" "{folder}/say.py" "$@"')
        (folder / "say.py").write_text(
            "import os, sys, redis\n"
            "print(redis.Redis.from_url(os.environ['REDIS_URL'], protocol=2).execute_command(*sys.argv[1:]))\n")

    def _settled(self) -> bool:
        symbols = httpx.get(f"{self.stack.page_url}/status.json", trust_env=False, timeout=30).json()["symbols"]
        return any(row["symbol"] == "BTCUSDT" and row["redis"]["last_order"] and row["phase"] == "free"
                   for row in symbols)

    def _shim(self, name: str, line: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        path.chmod(0o755)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        told = command.replace("PLAN_ID", self.plan_id).replace("http://127.0.0.1:8045", self.stack.page_url)
        env = {"PATH": f"{self.folder}:/usr/bin:/bin", "PYTHONPATH": str(TOP), **self.stack.environment()}
        return subprocess.run(["sh", "-c", told], env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    with Stack(positions={"BTCUSDT": "0.038"}, settings={"P33_COOLDOWN_SEC": "0", "P33_POLL_SEC": "0.5"}) as stack:
        yield Site(stack, tmp_path_factory.mktemp("bin"))


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_runbooks_works_as_written(site, command):
    """Pasted at night, it runs: 0, or 1 where it is a question and the answer is no."""
    if command.startswith(NOT_HERE):
        assert set(re.findall(r"-u (\S+)", command)) <= {path.stem for path in (TOP / "deployment/systemd").iterdir()}
        return
    done = site.run(command)
    assert done.returncode in (0, 1), done.stderr
    assert not re.search(r"Traceback|No such|not found|Usage:", done.stderr), done.stderr
    assert done.stdout.strip() or command.startswith("p33 resume"), done.stderr


def test_log_lines_that_runbooks_look_for_exist():
    """A `--grep` for an event that no code writes finds nothing, and the reader believes it."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (TOP / "p33_sidecar").rglob("*.py"))
    events = re.findall(r'"([a-z]+\.[a-z_]+)"', source)
    for command in commands():
        for pattern in re.findall(r"--grep '([^']+)'", command):
            for wanted in pattern.split("|"):
                assert any(wanted in event for event in events), wanted
