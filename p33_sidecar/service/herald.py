"""Tells systemd how things stand: ready, alive, and in words (sd_notify(3), systemd.service(5)).

`READY=1` once the three accounts were compared completely; until then the unit is `activating`, runs and denies.
`WATCHDOG=1` only while every loop gets through its turns, so that one that hangs gets the process restarted.
`STATUS=` whenever the words change. A datagram that cannot be sent is dropped: telling is never a reason to fail.

The protocol is one datagram to $NOTIFY_SOCKET; a library would be longer than this.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping

from .http import Health
from .memory import Memory
from .metrics import Clock

log = logging.getLogger("p33.herald")

EVERY_S = 1.0
"""The unit's WatchdogSec is many times this, so that a late beat on a busy machine is no death."""


class Herald:
    """What there is to tell. `step()` tells it; called about once a second by the main thread."""

    def __init__(self, memory: Memory, clock: Clock, health: Health, tell: Callable[[str], None]) -> None:
        self._memory, self._clock, self._health, self._tell = memory, clock, health, tell
        self._ready, self._words = False, ""

    def step(self) -> None:
        lines = []
        if self._memory.compared and not self._ready:
            self._ready = True
            lines.append("READY=1")
        if not self._health.stuck():
            lines.append("WATCHDOG=1")
        words = self.words()
        if words != self._words:
            self._words = words
            lines.append(f"STATUS={words}")
        if lines:
            self._tell("\n".join(lines))

    def stopping(self) -> None:
        self._tell("STOPPING=1\nSTATUS=finishing what is being decided")

    def words(self) -> str:
        """One line for `systemctl status`."""
        memory = self._memory
        if stuck := self._health.stuck():
            return f"stuck: {'; '.join(stuck)}"
        reasons = memory.not_ready(now_ms=self._clock.now_ms(), mono_ns=self._clock.mono_ns())
        if reasons:
            return f"denying every plan: {', '.join(reasons)}"
        differing = f"; {len(memory.mismatches)} differ: {', '.join(sorted(memory.mismatches)[:5])}"
        halted = f"; halted: {', '.join(sorted(memory.halts)[:5])}"
        return (f"ready: {len(memory.scope)} symbols in scope{differing if memory.mismatches else ''}"
                f"{halted if memory.halts else ''}")


def manager(env: Mapping[str, str] = os.environ) -> Callable[[str], None]:
    """How to tell the service manager; a function that does nothing where there is none."""
    address = env.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return lambda _: None
    place = "\0" + address[1:] if address.startswith("@") else address
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    line.setblocking(False)

    def tell(text: str) -> None:
        try:
            line.sendto(text.encode(), place)
        except OSError as error:
            log.debug("manager.unreachable", extra={"fields": {"why": error.strerror}})

    return tell
