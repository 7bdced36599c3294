"""rollback.sh on a settings file that people have edited, in a folder whose name has a space; nothing is installed."""

from __future__ import annotations

import shlex
from pathlib import Path

from p33_sidecar.cli.envfile import parse_env_file
from tests.deployment.installation import Installation


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
