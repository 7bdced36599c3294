"""Dagster's own web server on a free port of loopback, over an instance that stands."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[3]
PATIENCE_S = 180.0
"""It imports the definitions in a process of their own; on a starved machine that takes its time."""
_LOADED = "{workspaceOrError{... on Workspace{locationEntries{loadStatus locationOrLoadError{__typename}}}}}"


class WebServer:
    """A context manager; `url` is known once the definitions are loaded."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self.env, self.log, self.url = env, log, ""
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> WebServer:
        for _ in range(5):  # a port that is free now may be taken by the time the server wants it
            port = _free_port()
            self.url = f"http://127.0.0.1:{port}"
            with self.log.open("wb") as out:
                # A session of its own: the server hands its signals on to the process that holds the definitions.
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-w",
                     str(ROOT / "workspace.yaml")], env=self.env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out,
                    stderr=out, start_new_session=True)
            if self._loaded():
                return self
            self.__exit__(None, None, None)
        raise AssertionError(self.log.read_text()[-3000:])

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _loaded(self) -> bool:
        """Wait for the definitions; False where the server ended instead, because the port was taken."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            if self._location() == ("LOADED", "RepositoryLocation"):
                return True
            time.sleep(0.2)
        raise AssertionError(f"the definitions were not loaded in {PATIENCE_S} s: {self.log.read_text()[-3000:]}")

    def _location(self) -> tuple[str, str] | None:
        request = urllib.request.Request(f"{self.url}/graphql", json.dumps({"query": _LOADED}).encode(),
                                         {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                entries = json.load(reply)["data"]["workspaceOrError"].get("locationEntries", [])
        except OSError:
            return None
        if not entries:
            return None
        return entries[0]["loadStatus"], (entries[0]["locationOrLoadError"] or {}).get("__typename", "")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]
