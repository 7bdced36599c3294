"""The whole stack on one machine: server, simulated exchange, Governor, sidecars, Apply Layers, each its own process.

    with Stack(positions={"BTCUSDT": "0.038"}, settings={"P33_COOLDOWN_SEC": "2"}) as stack:
        stack.source.publish(plan_of("BTCUSDT", "PARTIAL_75"))

What may not happen here: a process or a file left behind, whatever ends the stack (a kill -9 included); traffic
beyond loopback; a secret that is used anywhere else.
The Governor is a thread of ours: it is a stand-in, and told what to do from here.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Self

import httpx
import msgspec
import redis

from p33_sidecar.rehearsal.exchange.sim import REHEARSAL_KEY, REHEARSAL_SECRET
from p33_sidecar.rehearsal.exchange.symbols import load_contracts
from p33_sidecar.rehearsal.governor import Governor
from p33_sidecar.rehearsal.plan_source import PlanSource
from p33_sidecar.rehearsal.processes import Process, ProcessFailed, Reaper, free_port
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.rehearsal.stage_door import StageDoor
from p33_sidecar.settings import load
from p33_sidecar.store import keys

PAGE_PORT = 8045
READY_S = 30.0
LOOK_EVERY_S = 0.05
LISTED = 700


class Stack:
    """`symbols`: in scope (default: those with a position); `positions`: signed amounts at the exchange at the start.

    `settings` go into the environment of every sidecar and Apply Layer, over the defaults. `page_port` is wanted for
    the first sidecar's page; another is taken where it is not free (`page_url` says which).
    """

    def __init__(self, *, symbols: Iterable[str] = (), positions: Mapping[str, str] | None = None,
                 settings: Mapping[str, str] | None = None, sidecars: int = 1, applies: int = 1,
                 governor: bool = True, page_port: int = 0) -> None:
        self.positions = dict(positions or {})
        self.symbols = tuple(symbols) or tuple(self.positions) or ("BTCUSDT",)
        self._settings, self._counts = dict(settings or {}), (sidecars, applies)
        self._with_governor, self._page_port = governor, page_port
        self.directory = Path(tempfile.mkdtemp(prefix="p33-stack-"))
        self.keep_files = False
        """Whether the logs stay where they are after `stop()`."""
        self.permit_key = secrets.token_hex(32)
        self.sidecars: list[Process] = []
        self.applies: list[Process] = []
        self.page_urls: list[str] = []
        self.apply_ports: list[int] = []
        """Where each Apply Layer's metrics are."""
        self.governor: Governor | None = None
        self._undo: list[Callable[[], object]] = []

    # -- start and stop -------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start everything; `wait_ready()` says when it can be used. Raises ProcessFailed, all stopped again."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End everything and remove the directory. May be called twice."""
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self._undo.append(self._remove_files)
        self._reaper = Reaper(self.directory)
        self._undo.append(self._reaper.dismiss)
        self.server = EmbeddedServer(tcp=True, durable=True)
        self._undo.append(self.server.stop)
        self.server.start()
        self._reaper.watch(self.server.pid or 0)
        self.redis = redis.Redis.from_url(self.server.url, decode_responses=True, protocol=2, socket_timeout=10)
        self._undo.append(self.redis.close)
        self._start_exchange()
        self._start_governor()
        for number in range(self._counts[0]):
            self._start_sidecar(number)
        for number in range(self._counts[1]):
            self._start_apply(number)

    def _start_exchange(self) -> None:
        listed = list(load_contracts(LISTED))
        count = max(listed.index(symbol) + 1 for symbol in (*self.symbols, *self.positions))
        held = [f"--position={symbol}={amt}" for symbol, amt in self.positions.items()]
        self.exchange = self._process("exchange", "p33_sidecar.rehearsal.exchange", {}, f"--symbols={count}", *held)
        self._until("the exchange listens", lambda: self.exchange.tail(lines=1).startswith("{"))
        self.exchange_url = msgspec.json.decode(self.exchange.tail(lines=1))["url"]
        self.door = StageDoor(self.exchange_url)
        self._undo.append(self.door.close)

    def _start_governor(self) -> None:
        self.source = PlanSource(self.redis, stream=self.plan_stream)
        if self._with_governor:
            self.governor = Governor(self.server.url, plan_stream=self.plan_stream,
                                     result_stream=self.result_stream).start()
            self._undo.append(self.governor.stop)

    def _start_sidecar(self, number: int) -> None:
        port = free_port(self._page_port if number == 0 else 0)
        self.page_urls.append(f"http://127.0.0.1:{port}")
        self.sidecars.append(self._process(
            f"sidecar-{number + 1}", "p33_sidecar.service.main",
            self.environment(P33_INSTANCE=f"sidecar-{number + 1}", P33_METRICS_PORT=str(port))))

    def _start_apply(self, number: int) -> None:
        self.apply_ports.append(free_port())
        self.applies.append(self._process(
            f"apply-{number + 1}", "p33_sidecar.apply.main",
            self.environment(P33_INSTANCE=f"apply-{number + 1}", APPLY_METRICS_PORT=str(self.apply_ports[-1]))))

    def _process(self, name: str, module: str, env: Mapping[str, str], *args: str) -> Process:
        process = Process(name, [sys.executable, "-m", module, *args], env={**inherited(), **env},
                          log=self.directory / f"{name}.log", reaper=self._reaper)
        self._undo.append(process.stop)
        return process.start()

    # -- what it is -----------------------------------------------------------------------------------------------

    def environment(self, **more: str) -> dict[str, str]:
        """The settings of the stack's processes, for a command such as `p33` to work on it."""
        return {
            "REDIS_URL": self.server.url, "P33_EXCHANGE_URL": self.exchange_url,
            "BINANCE_API_KEY": REHEARSAL_KEY, "BINANCE_API_SECRET": REHEARSAL_SECRET,
            "P33_ALLOWLIST": ",".join(self.symbols), "P33_PERMIT_KEY": self.permit_key, "APPLY_MODE": "testnet",
            "P33_HISTORY_URL": str(self.directory / "history"), **self._settings, **more,
        }

    @property
    def plan_stream(self) -> str:
        return load(self.environment())["P33_PLAN_STREAM"]

    @property
    def result_stream(self) -> str:
        return load(self.environment())["P33_RESULT_STREAM"]

    @property
    def page_url(self) -> str:
        """Where the first sidecar's page is."""
        return self.page_urls[0]

    # -- moves ----------------------------------------------------------------------------------------------------

    def wait_ready(self, *, patience_s: float = READY_S) -> None:
        """Until every sidecar could allow and every Apply Layer reads plans. Raises ProcessFailed."""
        self._until("the Apply Layer reads plans", self._applies_read, patience_s=patience_s)
        self.wait_sidecars(patience_s=patience_s)

    def wait_sidecars(self, *, patience_s: float = READY_S) -> None:
        """Until every running sidecar's /readyz says 200. Raises ProcessFailed."""
        with httpx.Client(timeout=2, trust_env=False) as client:
            for process, url in zip(self.sidecars, self.page_urls, strict=True):
                if process.pid:
                    self._until(f"{process.name} is ready", lambda url=url: _says_ready(client, url),
                                patience_s=patience_s)

    def kill_sidecar(self, number: int = 0) -> None:
        """kill -9, and gone when this returns."""
        self.sidecars[number].kill()

    def restart_sidecar(self, number: int = 0, *, ready: bool = True) -> None:
        """Kill it if it runs, start it again, and wait until it works; `ready`: for its /readyz, too."""
        sidecar = self.sidecars[number]
        sidecar.kill()
        before = _starts(sidecar)
        sidecar.start()
        self._until(f"{sidecar.name} works again", lambda: _starts(sidecar) > before)
        if ready:
            self.wait_sidecars()

    def restart_apply(self, number: int = 0) -> None:
        """Kill an Apply Layer and start it again."""
        self.applies[number].kill()
        self.applies[number].start()

    def check(self) -> None:
        """Raises ProcessFailed if a process ended by itself."""
        for process in (self.exchange, *self.sidecars, *self.applies):
            process.check()

    def until(self, what: str, holds: Callable[[], object], *, patience_s: float = 10.0) -> None:
        """Poll until `holds()`; raises TimeoutError naming `what`, ProcessFailed if a process ended meanwhile."""
        try:
            self._until(what, holds, patience_s=patience_s)
        except _NotYet as late:
            raise TimeoutError(str(late)) from None

    def _until(self, what: str, holds: Callable[[], object], *, patience_s: float = READY_S) -> None:
        deadline_s = time.monotonic() + patience_s
        while not holds():
            self.check()
            if time.monotonic() > deadline_s:
                raise _NotYet(f"not within {patience_s:g} s: {what} (logs: {self.directory})")
            time.sleep(LOOK_EVERY_S)

    def _remove_files(self) -> None:
        if not self.keep_files:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _applies_read(self) -> bool:
        if not self.applies:
            return True
        try:
            groups = self.redis.xinfo_groups(self.plan_stream)
        except redis.ResponseError:
            return False
        return any(group["name"] == keys.APPLY_GROUP for group in groups)


class _NotYet(ProcessFailed):
    """Patience is over; every process still runs."""


def _starts(sidecar: Process) -> int:
    """How often it has said that it started: from then on plans are answered."""
    return sidecar.log.read_text(errors="replace").count("service.started") if sidecar.log.exists() else 0


def _says_ready(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def inherited() -> dict[str, str]:
    """Our environment less every setting of p33: the stack must not be aimed by what happens to be exported."""
    from p33_sidecar.settings import SETTINGS

    ours = {name for setting in SETTINGS for name in (setting.name, f"{setting.name}_FILE")}
    return {name: value for name, value in os.environ.items() if name not in ours}
