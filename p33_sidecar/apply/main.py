"""`p33-apply`: settings, store, loops, metrics; then wait for SIGTERM.

Exit codes as the sidecar's: 0 stopped on request, 1 unexpected, 69 Redis unreachable at the start, 78 configuration.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from .. import __version__, logs
from ..errors import ConfigurationInvalid, StoreUnavailable
from ..program import CONFIGURATION, UNAVAILABLE, log_to, stop_on_signal
from ..service.http import TEXT, Answer, Health, Route, serve, shared
from ..service.metrics import CONTENT_TYPE
from ..settings import Settings, load
from .house import TURN_LIMITS_MS, House
from .metrics import ApplyMetrics

log = logging.getLogger("p33.apply")


def main() -> None:
    """The console script."""
    sys.exit(run(os.environ))


def run(env: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    try:
        settings = load(env)
        refuse_main_exchange(settings)
        log_to(settings)
        metrics = ApplyMetrics(version=__version__, mode=settings["APPLY_MODE"], gate=settings["APPLY_GATE"])
        house = House(settings, metrics)
        stop_on_signal(house.stopping)
        server = serve(settings["P33_METRICS_HOST"], settings["APPLY_METRICS_PORT"], _routes(house),
                       port_setting="APPLY_METRICS_PORT")
    except ConfigurationInvalid as invalid:
        for problem in invalid.problems:
            print(problem, file=sys.stderr)
        return CONFIGURATION
    try:
        house.wait_for_store()
    except StoreUnavailable as error:
        logs.event(log, logging.ERROR, "store.unreachable", gate="P3.3", why=str(error))
        return UNAVAILABLE
    _say_hello(house, server.port)
    house.run()
    server.close()
    logs.event(log, logging.INFO, "apply.stopped", gate="P3.3")
    return 0


def refuse_main_exchange(settings: Settings) -> None:
    """The main exchange only on purpose, and never in Governor-only mode. Raises ConfigurationInvalid."""
    if not settings.is_main_exchange:
        return
    if settings["APPLY_GATE"] == "governor":
        raise ConfigurationInvalid(["APPLY_GATE=governor: allowed is both, on the main exchange"])
    if not settings["APPLY_ALLOW_MAINNET"]:
        raise ConfigurationInvalid(["APPLY_ALLOW_MAINNET=no: allowed is yes, to use the main exchange"])


def _routes(house: House) -> dict[str, Route]:
    health = Health(house, house.clock, limits_ms=TURN_LIMITS_MS)

    def healthz() -> Answer:
        stuck = health.stuck()
        return Answer(503 if stuck else 200, TEXT, ("\n".join(stuck or ["ok"]) + "\n").encode())

    return {"/metrics": shared(lambda: Answer(200, CONTENT_TYPE, house.metrics.render())), "/healthz": healthz}


def _say_hello(house: House, port: int) -> None:
    settings, configured = house.settings, house.settings.credentials is not None
    logs.event(log, logging.INFO, "apply.started", gate="P3.3", version=__version__, instance=house.rules.instance,
               mode=settings["APPLY_MODE"], permits=settings["APPLY_GATE"], venue=house.rules.venue, port=port,
               configured=configured)
    for wrong, what in (
        (settings.permit_key is None, "P33_PERMIT_KEY not set: permits are taken unverified"),
        (not configured and not house.rules.dry_run, "no exchange credentials: every plan is blocked"),
        (house.rules.governor_only, "APPLY_GATE=governor: orders go out on the Governor's permit alone"),
    ):
        if wrong:
            logs.event(log, logging.WARNING, "apply.warning", gate="P3.3", what=what)


if __name__ == "__main__":
    main()
