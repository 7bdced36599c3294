"""`p33-apply`: the Apply Layer as a process.

A plan that waits for its permits must not delay another symbol's: plans of one symbol are handled in order, those of
different symbols side by side, each on a worker of its own with its own connections. Exit codes as the sidecar's.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec
from prometheus_client import CollectorRegistry, Counter, start_http_server

from . import logs
from .apply_layer import Applier, OrderIntent
from .core.model import Plan
from .core.plan import EXECUTE, MessageRefused, plan_of
from .errors import ConfigurationInvalid, StoreUnavailable
from .exchange import Credentials, Exchange
from .exchange.venue import venue_of
from .gate import Gate
from .settings import SETTINGS, Settings, load
from .store.applying import ApplyStore
from .store.connect import Link, ServerClock, server_ms, store_errors
from .store.positions import RedisBans
from .store.state import entry_order

log = logging.getLogger("p33.apply")

WORKERS = 32
CLAIM_EVERY_S = 10.0
PATIENCE_S = 30.0
UNAVAILABLE, CONFIGURATION = 69, 78


def main() -> None:
    """The console script."""
    sys.exit(run(os.environ))


def run(env: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    try:
        settings = load(env)
        _refuse_main_exchange(settings)
    except ConfigurationInvalid as invalid:
        for problem in invalid.problems:
            print(problem, file=sys.stderr)
        return CONFIGURATION
    logs.setup(settings["P33_LOG_LEVEL"], settings["P33_LOG_FORMAT"])
    for setting in SETTINGS:
        if setting.secret and (value := settings[setting.name]):
            logs.register_secret(value if isinstance(value, str) else value.reveal())
    layer = ApplyLayer(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: layer.stopping.set())
    try:
        layer.wait_for_store()
    except StoreUnavailable as error:
        log.error("store.unreachable", extra={"fields": {"why": str(error)}})
        return UNAVAILABLE
    start_http_server(settings["APPLY_METRICS_PORT"], addr=settings["P33_METRICS_HOST"], registry=layer.registry)
    layer.run()
    return 0


def _refuse_main_exchange(settings: Settings) -> None:
    """The main exchange only on purpose, and never in Governor-only mode. Raises ConfigurationInvalid."""
    if not settings.is_main_exchange:
        return
    if settings["APPLY_GATE"] == "governor":
        raise ConfigurationInvalid(["APPLY_GATE=governor: not allowed on the main exchange"])
    if not settings["APPLY_ALLOW_MAINNET"]:
        raise ConfigurationInvalid(["APPLY_ALLOW_MAINNET=no: allowed is yes, to send orders to the main exchange"])


class ApplyLayer:
    """The reader of the plan stream and the workers it hands plans to."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.clock, self.stopping = settings, ServerClock(), threading.Event()
        self.registry = CollectorRegistry()
        self._results = Counter("apply_results", "Results by outcome", ["outcome"], registry=self.registry)
        self._appliers: queue.LifoQueue[Applier] = queue.LifoQueue()
        self._waiting: dict[str, deque[tuple[Plan, str]]] = {}
        self._in_hand: set[str] = set()
        self._lock = threading.Lock()
        self._link = Link(settings.redis_url, name="apply")
        self._store = self._apply_store(self._link)

    def wait_for_store(self) -> None:
        """Raises StoreUnavailable after 30 s."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with store_errors():
                    self.clock.sync(server_ms(self._link.redis))
                return
            except StoreUnavailable:
                if time.monotonic() >= deadline or self.stopping.wait(0.25):
                    raise

    def run(self) -> None:
        """Finish what was on its way, then plans as they come, until stopped."""
        log.info("apply.started", extra={"fields": {
            "gate": "P3.3", "mode": self.settings["APPLY_MODE"], "permits": self.settings["APPLY_GATE"],
            "venue": venue_of(self.settings.exchange_url)}})
        after, claimed_s = "0", 0.0
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="apply") as pool:
            self._pick_up(pool)
            while not self.stopping.is_set():
                try:
                    self.clock.sync(self._store.now_ms())
                    entries = self._store.read(after, block_ms=1000 if after == ">" else None)
                    after = entries[-1][0] if entries and after != ">" else ">"
                    if time.monotonic() - claimed_s > CLAIM_EVERY_S:
                        claimed_s = time.monotonic()
                        entries += self._store.claim()
                    for entry_id, fields in entries:
                        self._take_in(pool, entry_id, fields)
                except StoreUnavailable as error:
                    log.error("store.failing", extra={"fields": {"why": str(error)[:200]}})
                    after = "0"
                    self.stopping.wait(0.5)

    def _pick_up(self, pool: ThreadPoolExecutor) -> None:
        """Orders of an earlier life of this instance are looked up, never sent."""
        for raw in self._store.intents():
            intent = msgspec.json.decode(raw, type=OrderIntent)
            if intent.instance == self.settings.instance or self._store.now_ms() > intent.until_ms:
                self._in_hand.add(intent.entry_id)
                pool.submit(self._with_applier, lambda applier, i=intent: applier.look_up(i))

    def _take_in(self, pool: ThreadPoolExecutor, entry_id: str, fields: dict[str, str]) -> None:
        if entry_id in self._in_hand:
            return
        try:
            if fields.get("decision") != EXECUTE:
                raise MessageRefused("not for us")
            plan = plan_of(fields, entry_ms=entry_order(entry_id)[0])
        except MessageRefused:
            self._store.acknowledge(entry_id)
            return
        with self._lock:
            self._in_hand.add(entry_id)
            line = self._waiting.get(plan.symbol)
            if line is not None:
                line.append((plan, entry_id))
                return
            self._waiting[plan.symbol] = deque([(plan, entry_id)])
        pool.submit(self._symbol_in_order, plan.symbol)

    def _symbol_in_order(self, symbol: str) -> None:
        """Handle the symbol's plans one after the other until there is none."""
        while True:
            with self._lock:
                line = self._waiting[symbol]
                if not line or self.stopping.is_set():
                    del self._waiting[symbol]
                    return
                plan, entry_id = line.popleft()
            self._with_applier(lambda applier, p=plan, e=entry_id: applier.handle(p, e))
            self._in_hand.discard(entry_id)

    def _with_applier(self, act) -> None:
        """The outermost frame of a worker: what is raised here blocks the order and is tried again by nobody."""
        try:
            applier = self._appliers.get_nowait()
        except queue.Empty:
            applier = self._applier()
        try:
            act(applier)
        except Exception:
            log.exception("plan.failed", extra={"fields": {"gate": "P3.3", "decision": "BLOCKED"}})
        finally:
            self._appliers.put(applier)

    def _applier(self) -> Applier:
        settings = self.settings
        link, pair = Link(settings.redis_url, name="apply-worker"), settings.credentials
        credentials = Credentials(api_key=pair[0], api_secret=pair[1].reveal()) if pair else None
        exchange = Exchange(settings.exchange_url, credentials=credentials, bans=RedisBans(link.redis),
                            now_ms=self.clock.now_ms)
        key = settings.permit_key
        gate = Gate(settings.redis_url, key=(key,) if key else (), venue=venue_of(settings.exchange_url),
                    by=settings.instance)
        return Applier(gate, self._apply_store(link), exchange, self.clock, policy=settings.policy,
                       dry_run=settings["APPLY_MODE"] == "dry_run", governor_only=settings["APPLY_GATE"] == "governor",
                       wait_ms=settings["APPLY_PERMIT_WAIT_MS"], instance=settings.instance, wait=self.stopping.wait,
                       report=lambda outcome: self._results.labels(outcome).inc())

    def _apply_store(self, link: Link) -> ApplyStore:
        return ApplyStore(link.redis, plan_stream=self.settings["P33_PLAN_STREAM"],
                          result_stream=self.settings["P33_RESULT_STREAM"], consumer=self.settings.instance,
                          max_age_ms=self.settings["P33_PLAN_MAX_AGE_SEC"])


if __name__ == "__main__":
    main()
