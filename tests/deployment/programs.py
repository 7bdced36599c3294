"""Sidecar and Apply Layer as the deployment's users, each a process with its own login."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.rehearsal.processes import Process, Reaper
from p33_sidecar.store import rights
from tests.cli.conftest import Answer, Tool
from tests.deployment.conftest import PLANS, RESULTS, Deployed

PATIENCE_S = 60


class Programs:
    """Sidecar and Apply Layer, each with its own login, on one server and one simulated exchange."""

    def __init__(self, deployed: Deployed, exchange: SimExchange, folder: Path) -> None:
        self.deployed, self.exchange, self.folder = deployed, exchange, folder
        self.admin = deployed.client()
        self.reaper = Reaper(folder)
        self.running: list[Process] = []

    def environment(self, user: str, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "REDIS_URL": self.deployed.url(user), "P33_PLAN_STREAM": PLANS, "P33_RESULT_STREAM": RESULTS,
            "P33_EXCHANGE_URL": self.exchange.url, "BINANCE_API_KEY": self.exchange.api_key,
            "BINANCE_API_SECRET": self.exchange.api_secret, "P33_PERMIT_KEY": "k" * 32, "P33_POLL_SEC": "0.5",
            "P33_COOLDOWN_SEC": "1", "APPLY_MODE": "testnet", "APPLY_PERMIT_WAIT_MS": "20000",
            "P33_METRICS_PORT": "0", "APPLY_METRICS_PORT": "0",
        } | more

    def start(self, name: str, module: str, user: str, **more: str) -> Process:
        process = Process(name, [sys.executable, "-m", module], env=self.environment(user, **more),
                          log=self.folder / f"{name}.log", reaper=self.reaper)
        self.running.append(process.start())
        return process

    def p33(self, *args: str, user: str = rights.OPERATOR, **more: str) -> Answer:
        """The tool with this user's login."""
        return Tool(**self.environment(user, **more))(*args)

    def until(self, what: str, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            for process in self.running:
                process.check()
            assert time.monotonic() < deadline, f"{what}:\n" + "\n".join(p.tail() for p in self.running)
            time.sleep(0.05)

    def complaints(self) -> list[str]:
        """Everything the server refused anybody, and every line of ours that speaks of rights."""
        lines = [line for p in self.running for line in p.tail(lines=10_000).splitlines()]
        refused = [entry for entry in self.admin.acl_log() if entry["username"].startswith("p33-")]
        return [line for line in lines if "ermission" in line or "rights.missing" in line] + refused

    def stop(self) -> None:
        for process in self.running:
            process.stop()
        self.reaper.dismiss()
