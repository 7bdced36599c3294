"""A server as the deployment runs it: redis.conf and the users, with the folders and the port of this test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from p33_sidecar.cli import redis_users
from p33_sidecar.rehearsal.server import EmbeddedServer

REDIS = Path(__file__).parents[2] / "deployment" / "redis"
PLANS, RESULTS = "quantum:stream:apply.plan", "quantum:stream:apply.result"
"""As an existing deployment calls them."""
ADMIN = "an-administrator"


class Deployed:
    """The server, and URLs to log in with. An administrator of the site's own stands beside our users."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.users = redis_users.write(folder / "users", plans=PLANS, results=RESULTS)
        acl, conf = folder / "users.acl", folder / "redis.conf"
        acl.write_text((self.users / "users.acl").read_text() + f"user {ADMIN} on >{ADMIN} ~* &* +@all\n")
        of_this_machine = ("port ", "dir ", "aclfile ")
        lines = (REDIS / "redis.conf").read_text().splitlines()
        conf.write_text("\n".join(line for line in lines if not line.startswith(of_this_machine)) + "\n")
        self.server = EmbeddedServer(tcp=True, options=("--include", str(conf), "--aclfile", str(acl), *options))

    def url(self, user: str = ADMIN) -> str:
        """Where the user logs in."""
        password = ADMIN if user == ADMIN else (self.users / f"{user}.password").read_text().strip()
        return self.server.url.replace("redis://", f"redis://{user}:{quote(password, safe='')}@")

    def client(self, user: str = ADMIN) -> redis.Redis:
        return redis.Redis.from_url(self.url(user), decode_responses=True, protocol=2, socket_timeout=10)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """One for the module."""
    made = Deployed(tmp_path_factory.mktemp("deployed"))
    with made.server:
        yield made
