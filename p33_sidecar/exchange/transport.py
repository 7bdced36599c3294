"""Carries one request at a time and gives it a total deadline, whatever the other side does.

What may not happen here: a server that sends a byte a second holding us longer than the deadline (httpx' own timeouts
count from one byte to the next), a reply without a bound, a proxy or redirect nobody configured.

Only the name look-up is outside the deadline: the operating system's resolver cannot be interrupted.
"""

from __future__ import annotations

import socket
import ssl
import time
import zlib
from collections.abc import Iterable
from functools import cache
from typing import Any

import httpcore
import httpx

KEEPALIVE_S = 30.0
"""An idle connection is dropped by us before the exchange does it under a request."""


class Deadline:
    """The moment by which the running request has to be over. Shared by client and transport."""

    def __init__(self) -> None:
        self._at_s = float("inf")

    def start(self, seconds: float) -> None:
        """Begin a new request."""
        self._at_s = time.monotonic() + seconds

    def remaining_s(self, limit_s: float | None = None) -> float:
        """Seconds left, at most `limit_s`; zero or less when it is over."""
        left = self._at_s - time.monotonic()
        return left if limit_s is None else min(left, limit_s)


class _Stream(httpcore.NetworkStream):
    """A connection none of whose operations outlasts the deadline."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner, self._deadline = inner, deadline

    def _left(self, timeout: float | None, error: type[Exception]) -> float:
        left = self._deadline.remaining_s(timeout)
        if left <= 0:
            raise error("deadline")
        return left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str | None = None,
                  timeout: float | None = None) -> httpcore.NetworkStream:
        left = self._left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Connects within the deadline, all addresses of a name together."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline, self._tcp = deadline, httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
                    socket_options: Iterable[Any] | None = None) -> httpcore.NetworkStream:
        failure: httpcore.ConnectError | httpcore.ConnectTimeout = httpcore.ConnectError("no address")
        for address in _addresses(host, port):
            left = self._deadline.remaining_s(timeout)
            if left <= 0:
                raise httpcore.ConnectTimeout("deadline")
            try:
                stream = self._tcp.connect_tcp(address, port, left, local_address, socket_options)
                return _Stream(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise httpcore.ConnectError("name not found") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _Body(httpx.SyncByteStream):
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __iter__(self):
        try:
            yield from self._inner
        except _HTTPCORE as error:
            raise _as_httpx(error) from None

    def close(self) -> None:
        self._inner.close()


_HTTPCORE = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol)


def _as_httpx(error: Exception) -> httpx.TransportError:
    """httpx names its errors after httpcore's."""
    return getattr(httpx, type(error).__name__)(str(error))


@cache
def _trusted() -> ssl.SSLContext:
    """The authorities we trust, read once for all connections: 20 ms and a megabyte each time otherwise."""
    return httpx.create_ssl_context(trust_env=False)


class DeadlineTransport(httpx.BaseTransport):
    """One kept-alive connection, HTTP/1.1, no retries, no proxy. Raises httpx' transport errors."""

    def __init__(self, deadline: Deadline) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=_trusted(), max_connections=1, max_keepalive_connections=1,
            keepalive_expiry=KEEPALIVE_S, retries=0, network_backend=_Backend(deadline))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port,
                           target=request.url.raw_path)
        try:
            reply = self._pool.handle_request(httpcore.Request(
                request.method, url, headers=request.headers.raw, content=request.stream,
                extensions=request.extensions))
        except _HTTPCORE as error:
            raise _as_httpx(error) from None
        return httpx.Response(reply.status, headers=reply.headers, stream=_Body(reply.stream),
                              extensions=reply.extensions)

    def close(self) -> None:
        self._pool.close()


class TooLarge(Exception):
    """The body is beyond its bound."""


def read_body(response: httpx.Response, *, limit: int, deadline: Deadline) -> bytes:
    """The whole body, unpacked. Raises TooLarge, httpx.ReadTimeout past the deadline, httpx.DecodingError.

    A transport that answers from memory has read its body already.
    """
    if response.is_stream_consumed:
        return response.content
    chunks, size = [], 0
    for chunk in response.iter_raw():
        size += len(chunk)
        if size > limit:
            raise TooLarge
        if deadline.remaining_s() <= 0:
            raise httpx.ReadTimeout("deadline")
        chunks.append(chunk)
    return _unpacked(b"".join(chunks), response.headers.get("content-encoding", "identity"), limit=limit)


def _unpacked(raw: bytes, encoding: str, *, limit: int) -> bytes:
    """Bytes out of gzip, never more than `limit` of them."""
    if encoding == "identity":
        return raw
    if encoding != "gzip":
        raise httpx.DecodingError("an encoding nobody asked for")
    packed = zlib.decompressobj(wbits=31)
    try:
        plain = packed.decompress(raw, limit + 1)
    except zlib.error:
        raise httpx.DecodingError("not gzip") from None
    if len(plain) > limit:
        raise TooLarge
    if not packed.eof:
        raise httpx.DecodingError("gzip is cut off")
    return plain
