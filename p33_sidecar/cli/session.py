"""What a command stands on: the settings of this environment and a connection to Redis, opened when first needed."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import redis

from ..core.model import Policy
from ..errors import StoreUnavailable
from ..settings import Settings, load
from ..store import keys, rights
from ..store.connect import Link, store_errors
from ..store.reading import Reading
from .envfile import read_env_files


class Session(msgspec.Struct, frozen=True):
    """Settings, the connection, and the view of the store."""

    settings: Settings
    link: Link
    reading: Reading
    env: dict[str, str]
    """What the settings were read from."""

    @property
    def redis(self):
        return self.link.redis

    @property
    def keys_known(self) -> tuple[bytes, ...]:
        """The keys under which a permit's signature may hold."""
        return self.settings.permit_keys

    @property
    def policy(self) -> Policy:
        """The thresholds that the gate decides by; this environment's where none has run yet."""
        return self.reading.policy_in_force() or self.settings.policy


@contextmanager
def opened(env_files: tuple[Path, ...] = ()) -> Iterator[Session]:
    """A session. Raises ConfigurationInvalid; the connection is made by the first question."""
    env = environment(env_files)
    settings = load(env)
    link = Link(settings.redis_url, name="cli")
    try:
        yield Session(settings, link, Reading(link.redis, plan_stream=settings["P33_PLAN_STREAM"],
                                              result_stream=settings["P33_RESULT_STREAM"]), env)
    except StoreUnavailable as gone:
        if isinstance(gone.__cause__, redis.exceptions.NoPermissionError):
            lacking = _lacking(link, settings) or gone.__cause__  # the server names what our own table forgot
            raise StoreUnavailable(f"our Redis user lacks {lacking}") from gone
        if "WRONGTYPE" in str(gone):
            raise StoreUnavailable(f"a key holds another type of value: {_mistyped(link, settings)}") from gone
        raise
    finally:
        link.close()


def _lacking(link: Link, settings: Settings) -> str:
    """The operator's rights that the user of this connection does not have."""
    operator = rights.user(rights.OPERATOR, plans=settings["P33_PLAN_STREAM"], results=settings["P33_RESULT_STREAM"])
    with store_errors():
        return rights.in_short(rights.missing(link.redis, operator))


def _mistyped(link: Link, settings: Settings) -> str:
    """The keys that are not of the type they should be, as far as their names are fixed."""
    streams = dict.fromkeys((settings["P33_PLAN_STREAM"], settings["P33_RESULT_STREAM"]), "stream")
    kinds = keys.KINDS | streams
    with store_errors():
        pipe = link.redis.pipeline(transaction=False)
        for key in kinds:
            pipe.type(key)
        found = dict(zip(kinds, pipe.execute(), strict=True))
    return ", ".join(f"{key} is a {found[key]}, not a {kind}" for key, kind in kinds.items()
                     if found[key] not in (kind, "none")) or "one of a symbol or a plan"


def environment(env_files: tuple[Path, ...]) -> dict[str, str]:
    """This process' environment, over which the given EnvironmentFiles win."""
    return dict(os.environ) | read_env_files(env_files)


def person() -> str:
    """Who is at the keyboard, as the journal names them: user@host; behind sudo the one who called it."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
