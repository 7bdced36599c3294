"""rollback.sh on what people and lost connections left, in a folder whose name has a space; nothing is installed."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest

from p33_sidecar.cli.envfile import parse_env_file
from tests.deployment.installation import Installation


def releases(bare: Installation, **links: str) -> None:
    """Two that are complete, and where the links point."""
    for name in ("one", "two"):
        (bare.base / "releases" / name).mkdir(parents=True, exist_ok=True)
        (bare.base / "releases" / name / ".complete").touch()
    for link, name in links.items():
        (bare.base / link).unlink(missing_ok=True)
        (bare.base / link).symlink_to(f"releases/{name}")
    bare.etc.mkdir(parents=True, exist_ok=True)
    bare.settings.write_text("APPLY_GATE=both\n")


@pytest.mark.parametrize("options", [(), ("--previous",)])
def test_a_rollback_that_was_cut_off_is_run_again(tmp_path: Path, options: tuple[str, ...]) -> None:
    """It took the gate out, or brought back what was just taken back: now the older release is the current one."""
    bare = Installation(tmp_path / "a folder")
    releases(bare, current="two", previous="one")
    once = tmp_path / "mv"
    once.write_text(f'#!/bin/sh\n[ -e {shlex.quote(str(tmp_path))}/moved ] && exit 1\n'
                    f'touch {shlex.quote(str(tmp_path))}/moved\nexec {shutil.which("mv")} "$@"\n')
    once.chmod(0o755)
    assert bare.script("rollback.sh", *options, PATH=f"{tmp_path}:{os.environ['PATH']}").returncode == 1
    bare.script("rollback.sh", *options)
    assert (bare.release(), bare.settings.read_text()) == ("one", "APPLY_GATE=both\n")


def test_rollback_sets_the_gate_wherever_the_file_says_it(tmp_path: Path) -> None:
    """systemd reads an indented line as well, and the last one wins: a rollback that it undoes would only be said."""
    bare = Installation(tmp_path / "a folder")
    (bare.base / "releases" / "one").mkdir(parents=True)
    (bare.base / "current").symlink_to("releases/one")
    bare.etc.mkdir(parents=True)
    bare.settings.write_text("APPLY_GATE=both\n#APPLY_GATE=\n  APPLY_GATE = both # mine\nP33_POLL_SEC=4\n")
    for gate, option in (("governor", "--governor"), ("both", "--both")):
        said = bare.script("rollback.sh", option)
        assert parse_env_file(bare.settings.read_text()) == {"APPLY_GATE": gate, "P33_POLL_SEC": "4"}, said.stderr
        by_hand = shlex.split(next(line for line in said.stdout.splitlines() if "apply-layer" in line))
        assert by_hand[0] == str(bare.base / "current/venv/bin/python")
        assert by_hand[-2:] == ["--root", str(bare.root)]
