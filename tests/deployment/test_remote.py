"""`--host`: a real sshd on loopback, with keys of this test alone, and real rsync; DESTDIR on the far side."""

from __future__ import annotations

import getpass
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p33_sidecar.rehearsal.processes import Process, free_port
from tests.deployment.installation import SCRIPTS, Installation, bare_environment, deployed_or_skipped
from tests.tools import needed

PATIENCE_S = 60


class Far:
    """An sshd that lets one key in, and a `ssh` that knows only this host."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.tools, home = folder / "bin", folder / "home"
        for path in (self.tools, home):
            path.mkdir(mode=0o700)
        self.home = home
        for name in ("host", "client"):
            made = [needed("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(made, check=True)
        # As if this were the login's home: nothing may land in the real one.
        (folder / "authorized").write_text(
            f'command="cd {home} && exec sh -c \\"$SSH_ORIGINAL_COMMAND\\"" {(folder / "client.pub").read_text()}')
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nPasswordAuthentication no\n"
            f"PermitRootLogin prohibit-password\nLogLevel VERBOSE\n")
        public = (folder / "host.pub").read_text().split()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public[0]} {public[1]}\n")
        ssh = self.tools / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {needed("ssh")} -F none -p {self.port} -i {folder}/client -o BatchMode=yes '
                       f'-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=yes "$@"\n')
        ssh.chmod(0o755)
        self.name = f"{getpass.getuser()}@127.0.0.1"

    def script(self, name: str, *args: str, root: Path) -> subprocess.CompletedProcess[str]:
        """One of deployment/, from this side."""
        env = bare_environment(DESTDIR=str(root), PATH=f"{self.tools}:{os.environ['PATH']}")
        return subprocess.run(["bash", str(SCRIPTS / name), "--host", self.name, *args], env=env, capture_output=True,
                              text=True, timeout=600, check=False, stdin=subprocess.DEVNULL)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(self.tools / "ssh"), self.name, *words], capture_output=True, text=True, timeout=60,
                              check=False, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    made = Far(tmp_path_factory.mktemp("far"))
    needed("rsync")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd separates its privileges; Debian's unit makes it
    sshd = Process("sshd", [needed("sshd"), "-D", "-e", "-f", str(made.folder / "sshd_config")],
                   env=dict(os.environ), log=made.folder / "sshd.log").start()
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while made.command("true").returncode:
            sshd.check()
            assert time.monotonic() < deadline_s, sshd.tail() + made.command("true").stderr
            time.sleep(0.2)
        yield made
    finally:
        sshd.stop(patience_s=30)


@pytest.fixture(scope="module")
def installed(far: Far) -> Installation:
    """Deployed from this side, below a folder of that one; `deploy.sh` there starts nothing, since it is DESTDIR."""
    made = Installation(far.folder / "root")
    said = deployed_or_skipped(far.script("deploy.sh", root=made.root))
    with made.settings.open("a") as file:
        file.write(f"REDIS_HOST=127.0.0.1\nREDIS_PORT={free_port()}\n")
    assert "is the current one" in said.stdout
    return made


def test_the_far_side_has_the_release_and_not_this_checkout(far: Far, installed: Installation) -> None:
    """Sources went to the login's cache folder; what runs is the release."""
    assert (far.home / ".cache/p33-deploy/deployment/deploy.sh").exists()
    assert not (far.home / ".cache/p33-deploy/tests").exists()
    assert (installed.base / "current/venv/bin/p33-sidecar").exists()
    assert (installed.credentials / "operator/P33_PERMIT_KEY").exists()


def test_once_more_changes_nothing_and_what_is_gone_here_goes_there(far: Far, installed: Installation) -> None:
    """rsync --delete: a file that an older version had does not become part of the next release."""
    stray = far.home / ".cache/p33-deploy/p33_sidecar/stray.py"
    stray.write_text("left = 1\n")
    said = far.script("deploy.sh", root=installed.root)
    assert said.returncode == 0 and "installed already" in said.stdout, said.stderr
    assert not stray.exists()


def test_a_dry_run_reaches_nobody(far: Far, tmp_path: Path) -> None:
    """It says the three steps."""
    said = far.script("deploy.sh", "--dry-run", root=tmp_path / "root").stdout.splitlines()
    assert [line.split()[1] for line in said] == ["ssh", "rsync", "ssh"] and not (tmp_path / "root").exists()


def test_roll_back_and_prove_from_here(far: Far, installed: Installation) -> None:
    """Both run the release's own script over there; a proof without a Redis ends with 69 there, and so it does here."""
    said = far.script("rollback.sh", "--governor", root=installed.root)
    assert said.returncode == 0 and "Governor-only mode" in said.stdout, said.stderr
    assert "APPLY_GATE=governor" in installed.settings.read_text()
    assert far.script("rollback.sh", "--both", root=installed.root).returncode == 0
    proof = far.script("proof.sh", "--json", root=installed.root)
    assert proof.returncode == 69 and "Redis" in proof.stderr


def test_what_fails_there_fails_here(far: Far, tmp_path: Path) -> None:
    """The exit code and the sentence come back."""
    said = far.script("deploy.sh", "--testnet-env", str(tmp_path / "missing"), root=tmp_path / "root")
    assert said.returncode == 1 and "cannot be read" in said.stderr
