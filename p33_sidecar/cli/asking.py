"""What the running sidecar says of itself, asked over HTTP where its settings say that it listens.

What may not happen here: an exception for a service that is down. No answer is an answer. What comes back is text
from another process: nothing of it reaches a terminal unescaped.
"""

from __future__ import annotations

import http.client
from typing import Final

import msgspec

from ..settings import Settings
from .units import plain

TIMEOUT_S: Final = 2.0
LARGEST_ANSWER: Final = 16_000_000
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}  # noqa: S104 not bound here: asked there


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
    host, port = settings["P33_METRICS_HOST"], settings["P33_METRICS_PORT"]
    host = _EVERYWHERE.get(host, host)
    address = f"{host}:{port}"
    if not port:
        return Sidecar(address, None, error="P33_METRICS_PORT is 0: its port is not known")
    asked = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        asked.request("GET", "/status.json")
        said = msgspec.json.decode(asked.getresponse().read(LARGEST_ANSWER), type=_Said)
    except msgspec.MsgspecError:
        return Sidecar(address, None, error="what answers there is no p33-sidecar")
    except (OSError, http.client.HTTPException) as error:
        return Sidecar(address, None, error=plain(str(error)) or type(error).__name__)
    finally:
        asked.close()
    return Sidecar(address, said.ready, tuple(plain(why.reason) for why in said.not_ready),
                   tuple(plain(words) for words in said.warnings))
