"""The dashboard: what Grafana's own builders made, asking for metrics that exist, explained panel by panel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deployment.test_alerts import FROM_PROMETHEUS, fresh_metrics
from tests.tools import needed

GRAFANA = Path(__file__).resolve().parents[2] / "deployment" / "grafana"
BOARD = json.loads((GRAFANA / "p33.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_the_file_is_what_the_code_makes():
    """Built with Grafana's typed builders, so nothing stands in it that the schema does not know."""
    assert subprocess.run([sys.executable, str(GRAFANA / "make_dashboard.py"), "--check"], check=False).returncode == 0


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_every_panel_says_what_it_shows_and_in_what_unit(panel):
    """A number without a unit or an explanation is not for three in the morning."""
    assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"


def test_the_data_source_is_a_variable():
    """The dashboard can be imported anywhere."""
    assert [v["name"] for v in BOARD["templating"]["list"]] == ["datasource", "instance", "symbol"]


def test_i51_the_dashboard_names_metrics_that_exist():
    """The same promise as for the alerts."""
    named = {name for expr in EXPRESSIONS for name in re.findall(r"\b(?:p33_\w+|up)\b", expr)}
    assert named - FROM_PROMETHEUS <= fresh_metrics().keys()


def test_prometheus_understands_every_query(tmp_path):
    """Each stands in a recording rule once, with Grafana's variables filled in."""
    filled = [expr.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$symbol", ".*")
              for expr in EXPRESSIONS]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(filled)]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([needed("promtool"), "check", "rules", str(tmp_path / "panels.yml")],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
