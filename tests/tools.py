"""Programs that come from the system, not from pip: a test that needs one says which is missing, and how to get it."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {"systemd-analyze": "systemd", "promtool": "prometheus", "node": "nodejs", "nginx": "nginx",
            "openssl": "openssl", "sshd": "openssh-server", "ssh": "openssh-client", "ssh-keygen": "openssh-client",
            "rsync": "rsync", "curl": "curl", "redis-server": "redis-server", "chromium": "chromium"}
SYSTEM = ("/usr/sbin", "/sbin")
"""Where daemons are, which not every PATH names."""


def needed(program: str, *also: str) -> str:
    """The path of the program, or of the first of those that do as well. Without it the test is skipped with that said;
    in CI, which installs it, the test fails."""
    places = (None, os.pathsep.join(SYSTEM))
    path = next(filter(None, (shutil.which(name, path=place) for name in (program, *also) for place in places)), None)
    if path is None:
        why = f"{program} is not on PATH: `apt-get install {PACKAGES[program]}`"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    return path
