"""The processes of the benchmark, and what the kernel says of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

HERTZ = os.sysconf("SC_CLK_TCK")


class Process:
    """A Python module as a process, ended with the benchmark."""

    def __init__(self, *args: str, env: Mapping[str, str] | None = None, stderr: int = subprocess.PIPE) -> None:
        self.started = time.perf_counter()
        self.popen = subprocess.Popen([sys.executable, "-m", *args], env={**os.environ, **(env or {})},
                                      stdout=subprocess.PIPE, stderr=stderr, text=True)

    def line(self) -> str:
        return self.popen.stdout.readline()

    def hold(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)

    def release(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.release()
        self.popen.terminate()
        self.popen.communicate(timeout=15)

    def rss_mb(self) -> float:
        with open(f"/proc/{self.popen.pid}/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))

    def cpu_s(self) -> float:
        with open(f"/proc/{self.popen.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / HERTZ


class Sidecar(Process):
    """The sidecar as it is deployed; `port` is its page's."""

    def __init__(self, *, redis_url: str, exchange_url: str, key: str, secret: str, **settings: str) -> None:
        env = {"REDIS_URL": redis_url, "P33_EXCHANGE_URL": exchange_url, "BINANCE_API_KEY": key,
               "BINANCE_API_SECRET": secret, "P33_METRICS_PORT": "0", "P33_ALLOWLIST": "*",
               "P33_PERMIT_KEY": "bench" * 8} | settings
        super().__init__("p33_sidecar.service.main", env=env)
        for said in self.popen.stderr:
            if "service.started" in said:
                self.port = int(said.split(" port=")[1].split()[0])
                break
        else:
            raise RuntimeError("the sidecar did not start")

    def wait_ready(self, *, within_s: float = 120.0) -> float:
        """Seconds from the start of the process until /readyz says yes."""
        while time.perf_counter() - self.started < within_s:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2):
                    return time.perf_counter() - self.started
            except urllib.error.URLError:
                time.sleep(0.01)
        raise RuntimeError("the sidecar did not become ready")
