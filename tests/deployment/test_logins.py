"""Before anything is started: does the server let every program in, and can it read its users at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from p33_sidecar.cli import credentials, logins
from p33_sidecar.cli.credentials import USERS
from tests.deployment.conftest import Deployed


@pytest.fixture
def folder(deployed: Deployed, tmp_path: Path) -> Path:
    """Credential folders as deploy.sh makes them, for the server of this module."""
    settings = tmp_path / "position-state-brain.env"
    port = deployed.server.url.rpartition(":")[2].partition("/")[0]
    settings.write_text(f"REDIS_HOST=127.0.0.1\nREDIS_PORT={port}\n")
    made = tmp_path / "credentials"
    credentials.fill(made, exchange_from=None, redis_users=deployed.users, env_file=settings)
    return made


def test_all_are_let_in(folder: Path) -> None:
    """Each with its own login."""
    assert logins.refused(folder) == {} and logins.main([str(folder)]) == 0


def test_who_is_not_let_in_is_named_and_no_password_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it is when the server does not know the users yet."""
    path = folder / "pipeline" / "REDIS_URL"
    path.write_text(path.read_text().replace("p33-pipeline:", "p33-pipeline:not-"))
    assert logins.main([str(folder)]) == 1
    said = capsys.readouterr().err
    assert said == "logins: Redis does not let p33-pipeline in (AuthenticationError)\n"


def test_a_server_that_is_away_lets_nobody_in(folder: Path) -> None:
    """Port 1 has none."""
    for holder in USERS:
        (folder / holder / "REDIS_URL").write_text("redis://127.0.0.1:1/0")
    assert set(logins.refused(folder)) == set(USERS.values())


def test_folders_without_logins_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and the file's name."""
    assert logins.main([str(tmp_path)]) == 1 and "REDIS_URL" in capsys.readouterr().err
    assert logins.main([]) == 2


def test_the_server_reaches_its_users_and_nobody_the_passwords(deployed: Deployed) -> None:
    """It runs as a user of its own: the folder can be passed and not listed."""
    assert stat.S_IMODE(deployed.users.stat().st_mode) == 0o711
    assert stat.S_IMODE((deployed.users / "users.acl").stat().st_mode) == 0o644
    assert {stat.S_IMODE(path.stat().st_mode) for path in deployed.users.glob("*.password")} == {0o600}
