"""The sidecar as a whole: its loops, each in its thread on its own connection, from start to SIGTERM.

Only here are threads known. A loop that fails is tried again after a pause, says why once, and counts as not
turning until it gets through; the service stays up and denies.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import redis

from ..errors import StoreUnavailable
from ..exchange import Credentials, Exchange
from ..settings import Settings
from ..store import rights, scripts
from ..store.books import BookStore
from ..store.connect import Link, ServerClock, server_ms, store_errors
from ..store.positions import PositionStore, RedisBans
from ..store.verdicts import VerdictStore
from . import identity
from .account_mode import AccountMode
from .bookkeeper import Bookkeeper
from .clerk import Clerk
from .desk import Desk
from .hooks import Hooks
from .incidents import Incidents
from .memory import Memory
from .poller import Poller
from .recall import recall

log = logging.getLogger("p33.lifecycle")

CLERK_PAUSE_S = 0.25
FOREIGN_PAUSE_S = 0.25
RETRY_FIRST_S, RETRY_LONGEST_S = 0.05, 2.0
STORE_PATIENCE_S = 30.0
EXCHANGE_TIMEOUT_S = 4.0


class Loop(NamedTuple):
    """One thread's work: a turn, what is forgotten after a turn that failed, and what is still done at the end."""

    link: Link
    step: Callable[[], object]
    reset: Callable[[], object] = lambda: None
    finish: Callable[[], object] = lambda: None


class Sidecar:
    """Builds the loops from the settings and runs them until `stop()`."""

    def __init__(self, settings: Settings, memory: Memory, clock: ServerClock, hooks: Hooks) -> None:
        self.settings, self.memory, self.clock, self.hooks = settings, memory, clock, hooks
        self._links: list[Link] = []
        self._threads: list[threading.Thread] = []

    # -- start and stop ---------------------------------------------------------------------------------------

    def wait_for_store(self, *, patience_s: float = STORE_PATIENCE_S) -> None:
        """Wait until Redis answers. Raises StoreUnavailable after `patience_s`."""
        link, deadline, said = self._link("start"), time.monotonic() + patience_s, ""
        while not self.memory.stopping.is_set():
            try:
                with store_errors():
                    self.clock.sync(server_ms(link.redis))
                    self._try_rights(link)
                    scripts.load_all(link.redis)
                    identity.settle_in(link, self.memory, self.clock)
                    recall(link, self.memory, self.clock)
                link.close()
                return
            except StoreUnavailable as error:
                if time.monotonic() >= deadline:
                    raise
                said = self._say_once("start", said, f"store: {error}")
                self.memory.stopping.wait(0.25)

    def _try_rights(self, link: Link) -> None:
        """Say what our Redis user may not do, by name and once; what works all the same goes on."""
        ours = rights.user(rights.SIDECAR, plans=self.settings["P33_PLAN_STREAM"],
                           results=self.settings["P33_RESULT_STREAM"])
        lacking = rights.missing(link.redis, ours)
        if lacking and lacking != self.memory.lacking:
            log.error("rights.missing", extra={"fields": {"rights": rights.in_short(lacking)}})
        self.memory.lacking = lacking

    def start(self) -> None:
        """Start every loop. The bookkeeper's books are read before the first poll may judge them."""
        for name, build in (("bookkeeper", self._bookkeeper), ("clerk", self._clerk), ("poller", self._poller),
                            ("desk", self._desk)):
            self.memory.turned(name, self.clock.mono_ns())
            thread = threading.Thread(target=self._run, args=(name, build), name=f"p33-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, *, patience_s: float = 10.0) -> None:
        """Let each loop finish what it is at, then close the connections."""
        self.memory.stopping.set()
        self.memory.refresh_wanted.set()
        for thread in self._threads:
            thread.join(patience_s)
        for link in self._links:
            link.close()

    def _run(self, name: str, build: Callable[[], Loop]) -> None:
        """The outermost loop of one thread: whatever is raised means `not ready`, never an end."""
        link, step, reset, finish = build()
        pause_s, failing = RETRY_FIRST_S, ""
        while not self.memory.stopping.is_set():
            try:
                step()
            except (StoreUnavailable, redis.RedisError) as error:
                self.memory.store_down_since_ms = self.memory.store_down_since_ms or self.clock.now_ms()
                failing = self._say_once(name, failing, f"store: {error}")
            except Exception as error:  # noqa: BLE001 - the outermost loop
                failing = self._say_once(name, failing, f"{type(error).__name__}: {error}", error)
            else:
                if failing:
                    log.info("loop.recovered", extra={"fields": {"loop": name}})
                pause_s, failing = RETRY_FIRST_S, ""
                self.memory.turned(name, self.clock.mono_ns())
                continue
            self.memory.turned(name, self.clock.mono_ns())
            reset()
            self.memory.stopping.wait(pause_s)
            pause_s = min(pause_s * 2, RETRY_LONGEST_S)
        with contextlib.suppress(StoreUnavailable, redis.RedisError):
            finish()
        link.close()

    def _say_once(self, name: str, before: str, now: str, error: Exception | None = None) -> str:
        if before != now:
            log.error("loop.failing", extra={"fields": {"loop": name, "why": now[:300]}}, exc_info=error)
        return now

    # -- the loops --------------------------------------------------------------------------------------------

    def _link(self, name: str) -> Link:
        link = Link(self.settings.redis_url, name=name)
        self._links.append(link)
        return link

    def _checked(self, link: Link, step: Callable[[], object], *, denies: bool = False) -> Callable[[], None]:
        """A turn that first notices a server that is not the one we trusted, or a database that is not ours.

        In a database of another exchange only the loop that `denies` goes on. Where one loop has noticed another
        server, the others follow it: a connection to what is a replica now stays open and answers whoever only reads.
        """
        epoch = self.memory.store_epoch

        def turn() -> None:
            nonlocal epoch
            if epoch != self.memory.store_epoch:
                link.reconnect()
                epoch = self.memory.store_epoch
            if self.memory.store_down_since_ms:
                link.redis.ping()
                self.memory.store_down_since_ms = 0
            identity.check(link, self.memory, self.clock)
            if self.memory.ours or denies:
                step()
            else:
                self.memory.stopping.wait(FOREIGN_PAUSE_S)

        return turn

    def _exchange(self, link: Link) -> Exchange:
        pair = self.settings.credentials
        credentials = Credentials(api_key=pair[0], api_secret=pair[1].reveal()) if pair else None
        timeout_s = min(EXCHANGE_TIMEOUT_S, self.memory.policy.stale_threshold_ms / 1000 * 0.8)
        return Exchange(self.settings.exchange_url, credentials=credentials,
                        bans=RedisBans(link.redis, by=self.memory.instance), now_ms=self.clock.now_ms,
                        observer=self.hooks, timeout_s=timeout_s)

    def _desk(self) -> Loop:
        link = self._link("desk")
        store = VerdictStore(link, plan_stream=self.settings["P33_PLAN_STREAM"],
                             result_stream=self.settings["P33_RESULT_STREAM"], consumer=self.memory.instance,
                             policy=self.memory.policy, key=self.settings.permit_key)
        desk = Desk(store, self.memory, self.clock, self.hooks,
                    refresh_budget_ms=self.settings["P33_REFRESH_BUDGET_MS"])
        return Loop(link, self._checked(link, desk.step, denies=True), desk.reset, desk.finish)

    def _bookkeeper(self) -> Loop:
        link = self._link("bookkeeper")
        store = BookStore(link.redis, result_stream=self.settings["P33_RESULT_STREAM"])
        keeper = Bookkeeper(store, self.memory, self.clock, self.hooks,
                            adopt=self.settings["P33_LEDGER_BOOTSTRAP"] == "adopt")
        return Loop(link, self._checked(link, keeper.step), self.memory.reread_books.set)

    def _poller(self) -> Loop:
        link = self._link("poller")
        reader = VerdictStore(link, plan_stream=self.settings["P33_PLAN_STREAM"],
                              result_stream=self.settings["P33_RESULT_STREAM"], consumer=self.memory.instance,
                              policy=self.memory.policy, key=None)
        store = PositionStore(link.redis)
        incidents = Incidents(store, self.memory, self.clock, self.hooks,
                              read_state=lambda symbol: reader.read_state(symbol, "-").state)
        poller = Poller(self._exchange(link), store, self.memory, self.clock, self.hooks, incidents)

        def turn() -> None:
            if poller.step():
                identity.trust_again(link, self.memory)

        return Loop(link, self._checked(link, turn))

    def _clerk(self) -> Loop:
        link = self._link("clerk")
        exchange = self._exchange(link)
        mode = AccountMode(exchange, self.memory, self.clock)
        clerk = Clerk(exchange, PositionStore(link.redis),
                      BookStore(link.redis, result_stream=self.settings["P33_RESULT_STREAM"]),
                      self.memory, self.clock, self.hooks)

        def turn() -> None:
            clerk.step()
            mode.step()
            self.memory.stopping.wait(CLERK_PAUSE_S)

        checked, watch = self._checked(link, turn), identity.Watch(link, self.memory, self.clock)

        def watched() -> None:
            watch.step()
            checked()

        return Loop(link, watched)
