"""Processes the rehearsal starts: each with a log of its own, and none that outlives the rehearsal.

What may not happen here: a process left behind. Whoever ends in order stops its processes itself; for the case that
it cannot (kill -9), a reaper holds the other end of a pipe and kills what was started once the pipe breaks.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

TERM_PATIENCE_S = 5.0


class ProcessFailed(RuntimeError):
    """A process ended, or never got ready. The message carries the end of its log."""


class Reaper:
    """Kills what was announced to it, and removes the directory, if its maker dies without saying goodbye."""

    def __init__(self, directory: Path) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__, str(directory)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, text=True)

    def watch(self, pid: int) -> None:
        """Kill this process if we die."""
        self._say(f"+{pid}")

    def forget(self, pid: int) -> None:
        """This one has ended: its number may be somebody else's soon."""
        self._say(f"-{pid}")

    def dismiss(self) -> None:
        """All was stopped in order. May be called twice."""
        self._say("bye")
        if self._child.stdin and not self._child.stdin.closed:
            self._child.stdin.close()
        self._child.wait()

    def _say(self, line: str) -> None:
        if self._child.stdin and not self._child.stdin.closed and self._child.poll() is None:
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()


class Process:
    """One program with its environment and log file. May be killed and started again; the log goes on."""

    def __init__(self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path,
                 reaper: Reaper | None = None) -> None:
        self.name, self.log = name, log
        self._command, self._env, self._reaper = list(command), dict(env), reaper
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._running.pid if self._running else None

    def start(self) -> Process:
        """Start it, in a session of its own so that Ctrl-C reaches only us."""
        if self._running is None:
            with self.log.open("ab") as log:
                self._running = subprocess.Popen(self._command, env=self._env, stdin=subprocess.DEVNULL,
                                                 stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            if self._reaper:
                self._reaper.watch(self._running.pid)
        return self

    def check(self) -> None:
        """Raises ProcessFailed if it ended by itself."""
        code = self._running.poll() if self._running else None
        if code is not None:
            raise ProcessFailed(f"{self.name} ended with exit code {code}:\n{self.tail()}")

    def freeze(self) -> None:
        """SIGSTOP: it does nothing and keeps everything. Its last thread has stopped when this returns: the signal is
        one thread's to take, and until that one is scheduled the others work on."""
        self._signal(signal.SIGSTOP)
        if self._running is not None and self._running.returncode is None:
            os.waitid(os.P_PID, self._running.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._end(signal.SIGKILL, patience_s=TERM_PATIENCE_S)

    def stop(self, *, patience_s: float = TERM_PATIENCE_S) -> int | None:
        """SIGTERM, SIGKILL after `patience_s`; returns the exit code, None if it did not run."""
        self.thaw()
        return self._end(signal.SIGTERM, patience_s=patience_s)

    def tail(self, *, lines: int = 15) -> str:
        """The end of its log."""
        said = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(said[-lines:])

    def _signal(self, number: signal.Signals) -> None:
        if self._running is not None and self._running.poll() is None:
            self._running.send_signal(number)

    def _end(self, how: signal.Signals, *, patience_s: float) -> int | None:
        process, self._running = self._running, None
        if process is None:
            return None
        process.send_signal(how)
        try:
            code = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if self._reaper:
            self._reaper.forget(process.pid)
        return code


def free_port(wanted: int = 0, *, host: str = "127.0.0.1") -> int:
    """`wanted` if nobody listens there, else any free port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, wanted))
        except OSError:
            return free_port(host=host)
        return listener.getsockname()[1]


def reap(announced: IO[str], directory: Path) -> None:
    """Read announcements until they end; without a goodbye, kill what still runs and remove `directory`."""
    pids: set[int] = set()
    for line in announced:
        word = line.strip()
        if word == "bye":
            return
        (pids.add if word[0] == "+" else pids.discard)(int(word[1:]))
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    time.sleep(0.2)  # files of the dying may still be open
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reap(sys.stdin, Path(sys.argv[1]))
