"""The Apply Layer as a whole: reader, workers and finder on their own connections, from start to SIGTERM.

Only here and in `workers` are threads known. A loop that fails is tried again after a pause, says why once, and the
process stays up: whatever cannot be done now is pending in Redis.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

import redis

from .. import logs
from ..errors import StoreUnavailable
from ..exchange import Credentials, Exchange
from ..exchange.venue import venue_of
from ..gate import Gate
from ..settings import Settings
from ..store import rights
from ..store.applying import ApplyStore
from ..store.connect import Link, ServerClock, server_ms, store_errors
from ..store.positions import RedisBans
from .finder import Finder
from .layer import Applier, Entry, Rules, Sent
from .metrics import ApplyMetrics
from .orders import Orders
from .reader import PlanReader
from .sizes import GovernorSizes
from .workers import Lines

log = logging.getLogger("p33.apply")

FINDER_PAUSE_S: Final = 0.25
RETRY_S: Final = 0.5
STORE_PATIENCE_S: Final = 30.0
TURN_LIMITS_MS: Final = {"reader": 10_000, "finder": 60_000}
"""How long a turn of each loop may take before /healthz calls it stuck. The finder waits for the exchange."""
WARM: Final = 2
"""Workers whose connections stand before the first plan comes."""


def awake_ns() -> int:
    """Time since boot, with a suspended host's sleep where the system can say it: a permit's end does not wait."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class House:
    """Everything the process consists of, by its settings. `turns` says when each loop last turned."""

    def __init__(self, settings: Settings, metrics: ApplyMetrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.clock, self.stopping, self.sent = ServerClock(awake_ns), threading.Event(), Sent()
        self.turns: dict[str, int] = {}
        self.rules = Rules(
            instance=settings.instance, venue=venue_of(settings.exchange_url),
            dry_run=settings["APPLY_MODE"] == "dry_run", governor_only=settings["APPLY_GATE"] == "governor",
            wait_ms=settings["APPLY_PERMIT_WAIT_MS"], plan_max_age_ms=settings["P33_PLAN_MAX_AGE_SEC"],
            permit_ttl_ms=settings["P33_PERMIT_TTL"])
        self.lines = Lines(self._handle)
        self._idle: queue.LifoQueue[Applier] = queue.LifoQueue()
        store, self._finders = self._store("apply"), self._store("apply-finder")
        self.reader = PlanReader(store, self.lines, self.clock, wait_ms=self.rules.wait_ms,
                                 passed_over=lambda: metrics.plan("passed_over"))
        self.finder = Finder(self._finders, self._orders(self._finders), metrics, self.sent,
                             instance=self.rules.instance, in_hand=self.lines.plans)
        self._start_store = store
        metrics.watch(in_hand=self.lines.count, sought=lambda: self.finder.count)

    # -- start and stop ---------------------------------------------------------------------------------------

    def wait_for_store(self, *, patience_s: float = STORE_PATIENCE_S) -> None:
        """Wait until Redis answers, and learn its time. Raises StoreUnavailable after `patience_s`."""
        deadline_s = time.monotonic() + patience_s
        while not self.stopping.is_set():
            self.turns = dict.fromkeys(TURN_LIMITS_MS, self.clock.mono_ns())
            try:
                with store_errors():
                    self.clock.sync(server_ms(self._start_store.redis))
                self._try_rights()
                self._start_store.load_scripts()
                for _ in range(WARM):
                    self._idle.put(self._applier())
                return
            except StoreUnavailable:
                if time.monotonic() >= deadline_s:
                    raise
                self.stopping.wait(0.25)

    def _try_rights(self) -> None:
        """Say what our Redis user may not do, by name; what works all the same goes on."""
        ours = rights.user(rights.APPLY, plans=self.settings["P33_PLAN_STREAM"],
                           results=self.settings["P33_RESULT_STREAM"])
        with store_errors():
            lacking = rights.missing(self._start_store.redis, ours)
        if lacking:
            log.error("rights.missing", extra={"fields": {"rights": rights.in_short(lacking)}})

    def run(self) -> None:
        """Until stopped; then finish what is in hand."""
        finding = threading.Thread(target=self._loop, args=("finder", self._find, lambda: None), daemon=True)
        finding.start()
        self._loop("reader", self.reader.step, self.reader.reset)
        self.lines.close()
        finding.join()

    def _find(self) -> None:
        """The finder only reads while nothing is lost, and a replica answers whoever reads: after a fail-over it
        follows the reader, who writes and so has been told (timeline T06)."""
        if self._finders.link.run_id != self._start_store.link.run_id:
            self._finders.link.reconnect()
        self.finder.step()
        self.stopping.wait(FINDER_PAUSE_S)

    def _loop(self, name: str, step: Callable[[], None], reset: Callable[[], None]) -> None:
        """The outermost loop of one thread: whatever is raised means `not now`, never an end."""
        failing = ""
        while not self.stopping.is_set():
            self.turns[name] = self.clock.mono_ns()
            try:
                step()
            except Exception as error:  # noqa: BLE001 - the outermost loop
                said = f"{type(error).__name__}: {error}"
                if said != failing:
                    expected = isinstance(error, StoreUnavailable | redis.RedisError)
                    logs.event(log, logging.ERROR, "loop.failing", gate="P3.3", loop=name, why=said[:300],
                               exc_info=None if expected else error)
                failing = said
                reset()
                self.stopping.wait(RETRY_S)
            else:
                if failing:
                    logs.event(log, logging.INFO, "loop.recovered", gate="P3.3", loop=name)
                failing = ""

    # -- workers ----------------------------------------------------------------------------------------------

    def _handle(self, entry: Entry) -> None:
        """On a worker's thread, with an Applier that nobody else has."""
        try:
            applier = self._idle.get_nowait()
        except queue.Empty:
            applier = self._applier()
        try:
            applier.handle(entry)
        finally:
            self._idle.put(applier)

    def _applier(self) -> Applier:
        store = self._store("apply-worker")
        gate = Gate(self.settings.redis_url, key=self.settings.permit_keys, venue=self.rules.venue,
                    by=self.rules.instance, on_forgery=self.metrics.forged, stopping=self.stopping.is_set)
        exchange = self._exchange(store)
        return Applier(gate, store, Orders(exchange, store, self.clock, wait=self.stopping.wait),
                       GovernorSizes(exchange), self.rules, self.metrics, sent=self.sent,
                       stopping=self.stopping.is_set)

    def _store(self, name: str) -> ApplyStore:
        settings = self.settings
        return ApplyStore(Link(settings.redis_url, name=name), plan_stream=settings["P33_PLAN_STREAM"],
                          result_stream=settings["P33_RESULT_STREAM"], consumer=settings.instance,
                          max_age_ms=settings["P33_PLAN_MAX_AGE_SEC"])

    def _orders(self, store: ApplyStore) -> Orders:
        return Orders(self._exchange(store), store, self.clock, wait=self.stopping.wait)

    def _exchange(self, store: ApplyStore) -> Exchange:
        pair = self.settings.credentials
        credentials = Credentials(api_key=pair[0], api_secret=pair[1].reveal()) if pair else None
        return Exchange(self.settings.exchange_url, credentials=credentials, bans=RedisBans(store.redis),
                        now_ms=self.clock.now_ms, mono_ns=self.clock.mono_ns, observer=self.metrics)
