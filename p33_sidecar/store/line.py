"""A line of its own to the server, for the loop whose every microsecond is felt: pack, send, read.

Nothing is retried, pooled, locked or decoded twice here, and no command waits for another thread. Signing in, TLS
and the server's name stay redis-py's: a line takes over a connection that it has opened. A line that broke is
closed and opened anew by the next question; what was on its way is the caller's to find out.

Measured for one EVALSHA with 25 arguments, one run: 76 us here, 118 us through redis-py's connection, 181 us
through its client (of which 37, 49 and 106 us are this process's own).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import hiredis
import redis

from ..errors import StoreUnavailable

if TYPE_CHECKING:
    from .connect import Link

BUFFER_BYTES = 65_536
_NOT_YET = object()

Command = tuple[Any, ...]


class Line:
    """Commands and their replies, in order; `decode`: replies as text, else as bytes. Not for use by two threads."""

    def __init__(self, link: Link, *, timeout_s: float = 5.0, decode: bool = True) -> None:
        self._link, self._timeout_s = link, timeout_s
        self._texts = {"encoding": "utf-8", "errors": "backslashreplace"} if decode else {}
        self._buffer = bytearray(BUFFER_BYTES)
        self._connection: redis.Connection | None = None
        self._socket: socket.socket | None = None
        self._pid = 0  # of the process that opened it: one that was forked has a copy, and must not use it
        self._reader = hiredis.Reader()

    def ask(self, command: Command) -> Any:
        """The reply to one command; an error reply is raised. Raises StoreUnavailable where the line is broken."""
        (reply,) = self.ask_all((command,))
        if isinstance(reply, redis.ResponseError):
            raise reply
        return reply

    def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to commands sent in one go, error replies among them. Raises StoreUnavailable."""
        try:
            ours = self._pid == os.getpid() and self._socket.fileno() >= 0
            sock = self._socket if ours else self._open()
            sock.sendall(b"".join(map(hiredis.pack_command, commands)))
            replies = [self._read(sock) for _ in commands]
        except BlockingIOError as error:
            self.close()
            raise StoreUnavailable(f"no reply within {self._timeout_s} s") from error
        except (OSError, hiredis.ProtocolError) as error:
            self.close()
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error
        except BaseException:
            self.close()  # a signal's handler raised in between: the next question must not hear this one's answer
            raise
        for reply in replies:
            if type(reply) is redis.ResponseError and str(reply).startswith("READONLY"):
                self.close()  # it has become a replica: the next question goes where the server's name leads by then
        return replies

    def ask_each(self, commands: Sequence[Command]) -> list[Any]:
        """Like `ask_all`, but the first error reply is raised."""
        replies = self.ask_all(commands)
        for reply in replies:
            if isinstance(reply, redis.ResponseError):
                raise reply
        return replies

    def close(self) -> None:
        """End the connection; the next question opens another."""
        if self._connection is not None:
            self._connection.disconnect()
        self._connection = self._socket = None
        self._pid = 0

    def _open(self) -> socket.socket:
        self._connection = self._link.own_connection()
        self._reader = hiredis.Reader(replyError=redis.ResponseError, notEnoughData=_NOT_YET, **self._texts)
        self._socket = sock = self._connection._sock  # redis-py has no public name for it
        self._pid = os.getpid()
        # The kernel keeps the time: with Python's timeout every read would ask first whether there is something.
        sock.settimeout(None)
        limit = struct.pack("@qq", int(self._timeout_s), int(self._timeout_s % 1 * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        return sock

    def _read(self, sock: socket.socket) -> Any:
        reader = self._reader
        while (reply := reader.gets()) is _NOT_YET:
            got = sock.recv_into(self._buffer)
            if not got:
                raise ConnectionResetError("the server closed the connection")
            reader.feed(self._buffer, 0, got)
        return reply
