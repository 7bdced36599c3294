"""One page of one of our services over HTTP: what it answered, or why it did not.

What may not happen here: an exception for a service that is down. No answer is an answer.
"""

from __future__ import annotations

import http.client
from typing import Final

import msgspec

from ..settings import Settings
from .units import plain

TIMEOUT_S: Final = 5.0
LARGEST_ANSWER: Final = 16_000_000
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}  # noqa: S104 - asked, not bound


class Page(msgspec.Struct, frozen=True):
    """`status` 0: nobody answered, and `error` says why."""

    address: str
    status: int = 0
    body: bytes = b""
    error: str = ""

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    @property
    def said(self) -> str:
        """For people, on one line."""
        return plain(self.error or " ".join(self.text.split())[:200])


def fetch(settings: Settings, path: str, *, port_setting: str = "P33_METRICS_PORT",
          timeout_s: float = TIMEOUT_S) -> Page:
    """Ask the service that these settings describe. Never raises."""
    host, port = settings["P33_METRICS_HOST"], settings[port_setting]
    host = _EVERYWHERE.get(host, host)
    address = f"{host}:{port}"
    if not port:
        return Page(address, error=f"{port_setting} is 0: its port is not known")
    asked = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        asked.request("GET", path)
        answer = asked.getresponse()
        return Page(address, answer.status, answer.read(LARGEST_ANSWER))
    except (OSError, http.client.HTTPException) as error:
        return Page(address, error=str(error) or type(error).__name__)
    finally:
        asked.close()
