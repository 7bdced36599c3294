"""The security scan: ruff's S rules (bandit's) over everything that runs in production; what is let pass is argued.

`make lint` runs the same with the rest of the rules. Known holes in dependencies are for pip-audit, which needs the
network: the handbook says how.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = ("p33_sidecar", "p33_pipeline", "deployment")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
PASSED = re.compile(r"#\s*noqa(?P<rules>:[^-#]*)?(?P<why> - \S.*)?$")


def lines_let_pass() -> list[tuple[str, re.Match[str]]]:
    """(where, the mark) of every line that a scan passes over."""
    return [(f"{path.relative_to(ROOT)}:{number}", found)
            for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            if (found := PASSED.search(line))]


def test_the_scan_finds_nothing() -> None:
    """All of S, on all of it."""
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "S", *CODE], cwd=ROOT,
                          capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_rule_is_switched_off_for_the_code() -> None:
    """Rules are left out line by line; only the rehearsal may start processes, and tests are no product."""
    assert "S" in SETTINGS["select"] and not [rule for rule in SETTINGS["ignore"] if rule.startswith("S1")]
    assert SETTINGS["per-file-ignores"] == {"tests/**": ["S"], "p33_sidecar/rehearsal/**": ["S603"]}


def test_every_line_let_pass_names_the_rule_and_says_why() -> None:
    """`# noqa: S603 - systemctl, with words of ours`: an argument, not a shrug."""
    marks = lines_let_pass()
    assert len(marks) > 20
    assert [where for where, mark in marks if not mark["rules"]] == []
    assert [where for where, mark in marks if re.search(r"\bS\d", mark["rules"]) and not mark["why"]] == []


def test_what_is_installed_has_one_version_each() -> None:
    """A name and a version a line: what pip-audit looks up is what is installed."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wrong = [line for line in lines if line.strip() and not re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)]
    assert wrong == []
