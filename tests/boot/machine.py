"""A Debian of its own in a folder, booted with systemd as its first process; no network but its loopback.

What may not happen here: a change to this machine, or a download while the booted system runs: packages and wheels are
fetched before, by their ordinary clients, and kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "p33-boot"
SUITE = "bookworm"
PACKAGES = ("systemd", "systemd-sysv", "dbus", "libnss-systemd", "procps", "python3.11-venv", "redis-server", "curl")
WHEELS = ("setuptools>=77", "wheel", "async-timeout")
"""To build the release, and what redis asks for on the suite's Python 3.11.2 but not on a later one."""
PARTS = ("p33_sidecar", "p33_pipeline", "deployment", "docs", "tests/boot", "pyproject.toml", "constraints.txt",
         "workspace.yaml", "README.md", "LICENSE")
TOOLS = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "unshare": "util-linux"}
SOURCE, STORY_LOG = "srv/p33", "srv/story.log"
BOOT_S = 1800

STORY_UNIT = """[Unit]
Description=what make boot plays
After=multi-user.target redis-server.service

[Service]
Type=oneshot
Environment=PIP_NO_INDEX=1 PIP_FIND_LINKS=/srv/wheels PYTHONUNBUFFERED=1
WorkingDirectory=/srv/p33
ExecStart=/usr/bin/python3.11 -m tests.boot.story
ExecStopPost=/bin/systemctl poweroff --no-block
StandardOutput=append:/srv/story.log
StandardError=append:/srv/story.log
"""


class Unbootable(Exception):
    """This machine cannot do it; the text says what is missing."""


def check() -> None:
    """Raises Unbootable where a tool or a right is missing."""
    if os.geteuid() != 0:
        raise Unbootable("make boot needs root: it makes device nodes and namespaces")
    if missing := [package for tool, package in TOOLS.items() if not shutil.which(tool)]:
        raise Unbootable(f"not installed: `apt-get install {' '.join(missing)}`")


def base(extra: tuple[str, ...] = ()) -> Path:
    """The packed Debian, made once for a list of packages."""
    packages = ",".join(PACKAGES + extra)
    packed = CACHE / f"{SUITE}-{_short(packages)}.tar"
    if not packed.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = packed.with_suffix(".new.tar")
        _run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", SUITE, str(fresh))
        fresh.rename(packed)
    return packed


def wheels(extra: str) -> Path:
    """Everything that the release installs, as wheels; made once for these constraints."""
    asked = [*requirements(extra), *WHEELS]
    folder = CACHE / f"wheels-{_short((ROOT / 'constraints.txt').read_text() + ' '.join(asked))}"
    if not folder.exists():
        fresh = folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--wheel-dir", str(fresh),
             "--constraint", str(ROOT / "constraints.txt"), *asked)
        fresh.rename(folder)
    return folder


def requirements(extra: str) -> list[str]:
    """What p33 with this extra needs; an extra names another as `p33[other]`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found, left = list(project["dependencies"]), [extra]
    while left:
        for asked in project["optional-dependencies"][left.pop()]:
            other = re.fullmatch(r"p33\[(\w+)\]", asked)
            left.extend([other[1]] if other else [])
            found.extend([] if other else [asked])
    return found


def furnish(root: Path, packed: Path, wheelhouse: Path) -> None:
    """Unpack, and lay in what the story needs."""
    root.mkdir(parents=True)
    _run("tar", "-C", str(root), "-xf", str(packed))
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (root / "etc/hostname").write_text("p33-boot\n")
    shutil.copytree(wheelhouse, root / "srv/wheels")
    for part in PARTS:
        (root / SOURCE / part).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, root / SOURCE / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, root / SOURCE / part)
    unit = root / "etc/systemd/system/story.service"
    unit.write_text(STORY_UNIT)
    wanted = root / "etc/systemd/system/multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / unit.name).symlink_to(Path("/etc/systemd/system") / unit.name)


def boot(root: Path, console: Path, *, tell: Callable[[str], None]) -> None:
    """From power on to power off; the story's lines are told as they come. Raises Unbootable.

    A tmpfs hides /run, so that the container's bookkeeping leaves nothing behind. Where no systemd runs here, there is
    nobody to register the container with, and the cgroup that this process has is used.
    """
    words = ["--quiet", "--boot", "--private-network", f"--directory={root}", f"--machine=p33-boot-{os.getpid()}"]
    if not Path("/run/systemd/system").exists():
        words += ["--register=no", "--keep-unit"]
    log = root / STORY_LOG
    log.touch()
    with console.open("ab") as said, log.open(encoding="utf-8", errors="replace") as lines:
        lines.seek(0, os.SEEK_END)
        child = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             'mount -t tmpfs run /run && exec systemd-nspawn "$@"', "nspawn", *words],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
        deadline_s = time.monotonic() + BOOT_S
        while child.poll() is None:
            tell(lines.read())
            if time.monotonic() > deadline_s:
                child.kill()
                raise Unbootable(f"still running after {BOOT_S} s; its console: {console}")
            time.sleep(0.2)
        tell(lines.read())
    if child.returncode:
        raise Unbootable(f"systemd-nspawn ended with {child.returncode}: {console.read_text(errors='replace')[-1500:]}")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unbootable(f"{command[0]} ended with {done.returncode}: {done.stderr[-1500:]}")
