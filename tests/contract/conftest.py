"""The neighbours for the black-box tests: a server, the simulated exchange, and the programs as processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.rehearsal.exchange.symbols import load_contracts
from p33_sidecar.rehearsal.processes import Process, Reaper
from p33_sidecar.rehearsal.server import EmbeddedServer
from tests.contract.client import Outsider, Page, until

KEY = "a-key-of-at-least-thirty-two-bytes!"
MODULES = {"p33-sidecar": "p33_sidecar.service.main", "p33-apply": "p33_sidecar.apply.main", "p33": "p33_sidecar.cli"}


LISTED = 130


def _tradable(count: int, *, but: dict[str, str]) -> list[str]:
    """Symbols that trade in steps of at most 1, less those a module names itself."""
    listed = [name for name, c in load_contracts(LISTED).items()
              if c.status == "TRADING" and name.isascii() and name.endswith("USDT") and float(c.market_step) <= 1
              and 0 < float(c.market_min) <= 1 and float(c.market_max) >= 100 and name not in but]
    return listed[:count]


class House:
    """One server, one exchange, and what is started on them."""

    def __init__(self, folder: Path, *, pool: int, positions: dict[str, str], plans: str, results: str,
                 **settings: str) -> None:
        self.folder, self.settings = folder, settings
        self.pool = _tradable(pool, but=positions)
        self._fresh = iter(self.pool)
        self.plans, self.results = plans, results
        self.server = EmbeddedServer(tcp=True, durable=True).start()
        self.exchange = SimExchange(symbols=LISTED, positions=positions | dict.fromkeys(self.pool, "100")).start()
        self.reaper = Reaper(folder)
        self.reaper.watch(self.server.pid or 0)
        self.outsider = Outsider(self.server.url, plans=plans, results=results)
        self.running: list[Process] = []

    def fresh(self) -> str:
        """A symbol for one test alone, with a long position of 100."""
        return next(self._fresh)

    @property
    def venue(self) -> str:
        return self.exchange.url.removeprefix("http://")

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "REDIS_URL": self.server.url, "P33_PLAN_STREAM": self.plans, "P33_RESULT_STREAM": self.results,
            "P33_EXCHANGE_URL": self.exchange.url, "BINANCE_API_KEY": self.exchange.api_key,
            "BINANCE_API_SECRET": self.exchange.api_secret, "P33_PERMIT_KEY": KEY, "P33_METRICS_PORT": "0",
            "APPLY_METRICS_PORT": "0",
        } | self.settings | more

    def start(self, program: str, **more: str) -> Process:
        process = Process(program, [sys.executable, "-m", MODULES[program]], env=self.environment(**more),
                          log=self.folder / f"{program}.log", reaper=self.reaper)
        self.running.append(process.start())
        return process

    def run(self, program: str, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run to its end."""
        return subprocess.run([sys.executable, "-m", MODULES[program], *args], env=self.environment(**more), text=True,
                              capture_output=True, timeout=120, check=False, stdin=subprocess.DEVNULL)

    def page(self, process: Process) -> Page:
        """The sidecar's port, by what it said at its last start."""
        said = r"service\.started .*port=(\d+)"
        found = until("the sidecar says its port", lambda: re.findall(said, process.log.read_text()))
        return Page(f"http://127.0.0.1:{found[-1]}")

    def stop(self) -> None:
        for process in self.running:
            process.stop()
        self.exchange.stop()
        self.server.stop()
        self.reaper.dismiss()


@pytest.fixture(scope="module")
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """As the module's HOUSE describes it."""
    made = House(tmp_path_factory.mktemp("house"), **request.module.HOUSE)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def out(house: House) -> Outsider:
    return house.outsider
