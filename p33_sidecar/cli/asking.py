"""What the running sidecar says of itself, asked over HTTP where its settings say that it listens.

What may not happen here: an exception for a service that is down. No answer is an answer. What comes back is text
from another process: nothing of it reaches a terminal unescaped.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ..settings import Settings
from .fetch import fetch
from .units import plain

TIMEOUT_S: Final = 2.0


class Sidecar(msgspec.Struct, frozen=True):
    """`ready` is None where nobody answers; `error` says why. `warnings` are those of its own settings and store."""

    address: str
    ready: bool | None
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str = ""


class _Why(msgspec.Struct):
    reason: str


class _Said(msgspec.Struct):
    """The part of /status.json that is needed here."""

    ready: bool
    not_ready: list[_Why]
    warnings: list[str]


def ask_sidecar(settings: Settings) -> Sidecar:
    """Ask the sidecar that these settings describe. Never raises."""
    page = fetch(settings, "/status.json", timeout_s=TIMEOUT_S)
    if page.error:
        return Sidecar(page.address, None, error=page.said)
    try:
        said = msgspec.json.decode(page.body, type=_Said)
    except msgspec.MsgspecError:
        return Sidecar(page.address, None, error="what answers there is no p33-sidecar")
    return Sidecar(page.address, said.ready, tuple(plain(why.reason) for why in said.not_ready),
                   tuple(plain(words) for words in said.warnings))
