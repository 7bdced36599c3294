"""`p33-sidecar`: settings, store, loops, page; then wait for SIGTERM.

Exit codes (contract, chapter 7): 0 stopped on request, 1 unexpected, 69 Redis unreachable at the start, 78
configuration.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence

from .. import __version__, logs
from ..core.record import policy_hash
from ..errors import ConfigurationInvalid, StoreUnavailable
from ..exchange.venue import venue_of
from ..settings import SETTINGS, Settings, load
from ..store.connect import NOT_DURABLE, ServerClock
from . import footprint
from .herald import EVERY_S, Herald, manager
from .http import Health, routes, serve
from .lifecycle import Sidecar
from .memory import Memory
from .metrics import Metrics
from .status import status

log = logging.getLogger("p33.main")

UNAVAILABLE, CONFIGURATION = 69, 78


def main() -> None:
    """The console script."""
    sys.exit(run(os.environ))


def run(env: Mapping[str, str]) -> int:
    """Run the service until SIGTERM or SIGINT; returns the exit code."""
    try:
        settings = load(env)
    except ConfigurationInvalid as invalid:
        for problem in invalid.problems:
            print(problem, file=sys.stderr)
        return CONFIGURATION
    _prepare(settings)
    memory, clock = memory_of(settings), ServerClock()
    metrics = Metrics(memory, clock, version=__version__, policy_hash=policy_hash(memory.policy),
                      loosened=memory.policy.loosened)
    sidecar = Sidecar(settings, memory, clock, metrics)
    _stop_on_signal(memory)
    warnings = settings.warnings()
    health = Health(memory, clock, limits_ms=_turn_limits(settings))
    herald = Herald(memory, clock, health, manager(env))
    try:
        server = serve(settings["P33_METRICS_HOST"], settings["P33_METRICS_PORT"], routes(
            memory, clock, render=metrics.render, health=health,
            status=lambda: status(memory, clock, warnings=warnings)))
    except ConfigurationInvalid as invalid:
        print("; ".join(invalid.problems), file=sys.stderr)
        return CONFIGURATION
    try:
        sidecar.wait_for_store()
    except StoreUnavailable as error:
        log.error("store.unreachable", extra={"fields": {"why": str(error)}})
        server.close()
        return UNAVAILABLE
    _say_hello(settings, memory, server.port, warnings)
    sidecar.start()
    settled = False
    while not memory.stopping.wait(EVERY_S):
        herald.step()
        if memory.compared and not settled:
            settled = True
            footprint.settle()
    herald.stopping()
    sidecar.stop()
    server.close()
    log.info("service.stopped")
    return 0


def memory_of(settings: Settings) -> Memory:
    """Empty memory for these settings: what is in scope before anything was read."""
    memory = Memory(policy=settings.policy, venue=venue_of(settings.exchange_url), instance=settings.instance,
                    allowlist=settings["P33_ALLOWLIST"], configured=settings.credentials is not None)
    memory.scope = memory.allowlist or frozenset()
    return memory


def _stop_on_signal(memory: Memory) -> None:
    """SIGTERM and SIGINT set `stopping`, from a thread of their own: a handler that sets an Event while the main
    thread is just entering its wait() would wait for itself. Called before any other thread is there."""
    numbers = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def listen() -> None:
        signal.sigwait(numbers)
        memory.stopping.set()

    threading.Thread(target=listen, name="p33-signals", daemon=True).start()


def _prepare(settings: Settings) -> None:
    logs.setup(settings["P33_LOG_LEVEL"], settings["P33_LOG_FORMAT"])
    for setting in SETTINGS:
        value = settings[setting.name]
        if setting.secret and value:
            logs.register_secret(value if isinstance(value, str) else value.reveal())
    footprint.prepare()


def _say_hello(settings: Settings, memory: Memory, port: int, warnings: Sequence[str]) -> None:
    log.info("service.started", extra={"fields": {
        "version": __version__, "instance": memory.instance, "venue": memory.venue, "port": port,
        "policy": policy_hash(memory.policy), "configured": memory.configured}})
    for warning in (*warnings, *([NOT_DURABLE] if memory.durable is False else ())):
        log.warning("service.warning", extra={"fields": {"what": warning}})


def _turn_limits(settings: Settings) -> dict[str, int]:
    """How long a turn of each loop may take before /healthz calls it stuck."""
    return {"desk": 10_000, "bookkeeper": 10_000, "poller": settings["P33_POLL_SEC"] + 15_000, "clerk": 60_000}


if __name__ == "__main__":
    main()
