"""The units: understood by systemd without a word of complaint, and shut off from what they do not need."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from p33_sidecar.apply.workers import WORKERS
from p33_sidecar.service.http import MOST_CONNECTIONS
from tests.tools import needed

UNITS = Path(__file__).resolve().parents[2] / "deployment" / "systemd"
MOST_EXPOSED = {"quantum-position-state-brain": "1.2", "quantum-apply-layer": "1.2", "quantum-p33-canary": "1.2",
                "quantum-p33-dagster-daemon": "1.2", "quantum-p33-dagster-webserver": "1.2"}
FILES_A_WORKER = 4
"""Its store, its gate's line and, now and then, the gate's pool; the exchange."""


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """systemd-analyze only reads files: no systemd need run."""
    return subprocess.run([needed("systemd-analyze"), *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", sorted(MOST_EXPOSED))
def test_exposure_is_low(name):
    """`systemd-analyze security --offline` rates the exposure, 0 (none) to 10; the predecessor scored 9.6."""
    unit = UNITS / f"{name}.service"
    limit = int(MOST_EXPOSED[name].replace(".", ""))
    rated = analyze("security", "--offline=true", f"--threshold={limit}", "--no-pager", str(unit))
    assert rated.returncode == 0, rated.stdout[-2000:] + rated.stderr


@pytest.mark.parametrize("unit", sorted(UNITS.glob("*.service")), ids=lambda path: path.stem)
def test_verify_has_nothing_to_say(unit, tmp_path):
    """`systemd-analyze verify` on the unit as it is, with the program it starts put where this machine can find it."""
    installed = tmp_path / "opt"
    text = unit.read_text(encoding="utf-8").replace("/opt/", f"{installed}/")
    for program in re.findall(rf"^Exec\w+=({installed}\S+)", text, re.MULTILINE):
        Path(program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", program)
    copy = tmp_path / unit.name
    copy.write_text(text, encoding="utf-8")
    said = analyze("verify", "--man=no", "--recursive-errors=no", str(copy))
    complaints = [line for line in said.stderr.splitlines() if unit.name in line]
    assert said.returncode == 0 and not complaints, said.stderr


def test_verify_does_complain(tmp_path):
    """The check above can fail: a misspelt directive is named."""
    broken = tmp_path / "p33-broken.service"
    broken.write_text("[Service]\nExecStart=/bin/true\nProtectSytem=strict\n", encoding="utf-8")
    assert "ProtectSytem" in analyze("verify", "--man=no", "--recursive-errors=no", str(broken)).stderr


@pytest.mark.parametrize("unit", sorted(UNITS.glob("*.service")), ids=lambda path: path.stem)
def test_no_secret_is_passed_by_environment(unit):
    """Secrets come by LoadCredential; a unit's environment is readable by every user of the machine."""
    text = unit.read_text(encoding="utf-8")
    assert "LoadCredential=" in text
    assert not re.search(r"^Environment=.*(KEY|SECRET|PASSWORD)", text, re.MULTILINE)


def test_the_apply_layer_may_have_a_thread_for_each_symbol_that_waits():
    """A day on which everything closes: the unit stops no worker, nor the few threads and files beside."""
    unit = (UNITS / "quantum-apply-layer.service").read_text(encoding="utf-8")
    tasks, files = (int(re.search(rf"^{name}=(\d+)$", unit, re.MULTILINE)[1]) for name in ("TasksMax", "LimitNOFILE"))
    assert tasks >= WORKERS + MOST_CONNECTIONS + 16
    assert files >= WORKERS * FILES_A_WORKER + MOST_CONNECTIONS + 64


def test_what_keeps_the_apply_layer_from_starting_does():
    """The lines of docs/apply-layer.md for whoever has an Apply Layer of their own: a condition that never holds."""
    page = (UNITS.parents[1] / "docs" / "apply-layer.md").read_text(encoding="utf-8")
    section, condition = re.search(r"^```ini\n(\S+)\n(.+)\n```", page, re.MULTILINE).groups()
    tried = analyze("condition", condition)
    assert (section, tried.returncode) == ("[Unit]", 1) and "failed" in tried.stdout + tried.stderr


def test_exposure_report_can_be_read():
    """The rating is taken from systemd's own table, so a renamed check would show here."""
    unit = UNITS / "quantum-position-state-brain.service"
    rows = json.loads(analyze("security", "--offline=true", "--json=short", str(unit)).stdout)
    open_to = {row["json_field"] for row in rows if not row["set"] and row["exposure"]}
    assert open_to <= {"RootDirectoryOrRootImage", "RestrictAddressFamilies_AF_UNIX", "PrivateNetwork", "IPAddressDeny",
                       "RestrictAddressFamilies_AF_INET_INET6", "DeviceAllow"}, open_to
