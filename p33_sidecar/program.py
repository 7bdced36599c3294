"""What both long-running programs do alike: exit codes, logs that know the secrets, and an end by signal.

Stands beside the packages, like the settings, because the sidecar and the Apply Layer start the same way.
"""

from __future__ import annotations

import signal
import threading

from . import logs
from .settings import SETTINGS, Settings

UNAVAILABLE, CONFIGURATION = 69, 78
"""Redis unreachable at the start; a setting that cannot be used (contract, chapter 7)."""


def log_to(settings: Settings) -> None:
    """Log as the settings say, and never what they keep secret."""
    logs.setup(settings["P33_LOG_LEVEL"], settings["P33_LOG_FORMAT"])
    for setting in SETTINGS:
        if setting.secret and (value := settings[setting.name]):
            logs.register_secret(value if isinstance(value, str) else value.reveal())


def stop_on_signal(stopping: threading.Event) -> None:
    """SIGTERM and SIGINT set `stopping`, from a thread of their own: a handler that sets an Event while the main
    thread is just entering its wait() would wait for itself. Called before any other thread is there, since a thread
    that does not block the signals would be ended by them."""
    numbers = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def listen() -> None:
        signal.sigwait(numbers)
        stopping.set()

    threading.Thread(target=listen, name="p33-signals", daemon=True).start()
