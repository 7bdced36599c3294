"""`p33-sidecar`: settings, store, loops, page; then wait for SIGTERM.

Exit codes (contract, chapter 7): 0 stopped on request, 1 unexpected, 69 Redis unreachable at the start, 78
configuration.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence

from .. import __version__
from ..core.record import policy_hash
from ..errors import ConfigurationInvalid, StoreUnavailable
from ..exchange.venue import venue_of
from ..program import CONFIGURATION, UNAVAILABLE, log_to, stop_on_signal
from ..settings import Settings, load
from ..store.connect import ServerClock
from . import footprint
from .herald import EVERY_S, Herald, manager
from .http import Health, routes, serve
from .lifecycle import Sidecar
from .memory import Memory
from .metrics import Metrics
from .status import status, store_warnings

log = logging.getLogger("p33.main")


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
    log_to(settings)
    footprint.prepare()
    memory, clock = memory_of(settings), ServerClock()
    metrics = Metrics(memory, clock, version=__version__, policy_hash=policy_hash(memory.policy),
                      loosened=memory.policy.loosened)
    sidecar = Sidecar(settings, memory, clock, metrics)
    stop_on_signal(memory.stopping)
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


def _say_hello(settings: Settings, memory: Memory, port: int, warnings: Sequence[str]) -> None:
    log.info("service.started", extra={"fields": {
        "version": __version__, "instance": memory.instance, "venue": memory.venue, "port": port,
        "policy": policy_hash(memory.policy), "configured": memory.configured}})
    for warning in (*warnings, *store_warnings(memory)):
        log.warning("service.warning", extra={"fields": {"what": warning}})


def _turn_limits(settings: Settings) -> dict[str, int]:
    """How long a turn of each loop may take before /healthz calls it stuck."""
    return {"desk": 10_000, "bookkeeper": 10_000, "poller": settings["P33_POLL_SEC"] + 15_000, "clerk": 60_000}


if __name__ == "__main__":
    main()
