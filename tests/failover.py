"""A primary, its replica, and a name that leads to whichever is the primary: a fail-over that closes no connection."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

import redis

from p33_sidecar.rehearsal.server import EmbeddedServer

PATIENCE_S = 60.0


class Name:
    """A name for a server: who connects is led to whatever it stands for at that moment, and stays there."""

    def __init__(self, port: int) -> None:
        self.port, self._listener = port, socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def close(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self.port))
                self._open += [ours, theirs]
                for source, sink in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=_carry, args=(source, sink), daemon=True).start()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while got := source.recv(65_536):
            sink.sendall(got)
        sink.shutdown(socket.SHUT_RDWR)


class Pair:
    """A primary with a replica, and the name that leads to the primary."""

    def __init__(self) -> None:
        at_once = ("--repl-diskless-sync-delay", "0")
        self.old = EmbeddedServer(tcp=True, options=at_once).start()
        self.new = EmbeddedServer(tcp=True, options=at_once).start()
        self.name = Name(self._port(self.old))
        self._follow(self.new, self.old)

    def fail_over(self) -> None:
        """The replica becomes the primary, and the primary its replica; the name follows, no connection is closed."""
        written = self._replication(self.old)["master_repl_offset"]
        until("it is up to date", lambda: self._replication(self.new)["slave_repl_offset"] >= written)
        self._command(self.new, "REPLICAOF", "NO", "ONE")
        self._follow(self.old, self.new)
        self.name.port = self._port(self.new)

    def close(self) -> None:
        self.name.close()
        self.old.stop()
        self.new.stop()

    def _follow(self, server: EmbeddedServer, primary: EmbeddedServer) -> None:
        self._command(server, "REPLICAOF", "127.0.0.1", str(self._port(primary)))
        until("it follows", lambda: self._replication(server).get("master_link_status") == "up")

    def _replication(self, server: EmbeddedServer) -> dict:
        with redis.Redis.from_url(server.url) as client:
            return client.info("replication")

    def _command(self, server: EmbeddedServer, *words: str) -> None:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command(*words)

    def _port(self, server: EmbeddedServer) -> int:
        return int(server.url.partition("127.0.0.1:")[2].partition("/")[0])


def until(what: str, holds: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.02)
