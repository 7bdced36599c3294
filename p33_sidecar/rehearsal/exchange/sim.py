"""`SimExchange`: the simulated exchange with its socket, for use in a thread or as a process.

    with SimExchange(symbols=3, positions={"BTCUSDT": "0.038"}) as exchange:
        client = Client(exchange.url, key=exchange.api_key, secret=exchange.api_secret)
        exchange.fault("http_502", "POST order", executed=True)

Listens on loopback only, unless told otherwise. Nothing it holds survives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from types import TracebackType

from p33_sidecar.rehearsal.exchange.control import PREFIX, control
from p33_sidecar.rehearsal.exchange.limits import Limits
from p33_sidecar.rehearsal.exchange.model import Reply, Request
from p33_sidecar.rehearsal.exchange.server import Server
from p33_sidecar.rehearsal.exchange.stage import Scene, Stage, system_clock_ms

REHEARSAL_KEY = "rehearsal-key"
REHEARSAL_SECRET = "rehearsal-secret"  # noqa: S105 - opens nothing but a simulator


class SimExchange(Stage):
    """A simulated exchange; a context manager, or `start` and `stop`.

    `keys` are further API keys with their secrets, `read_only_keys` those of all that may not trade (-2015).
    `clock` returns Unix milliseconds; `port` 0 takes any free one. A stopped exchange may be started again: it keeps
    its account and its port.
    """

    def __init__(
        self,
        *,
        symbols: int = 50,
        positions: Mapping[str, str | Decimal] | None = None,
        api_key: str = REHEARSAL_KEY,
        api_secret: str = REHEARSAL_SECRET,
        keys: Mapping[str, str] | None = None,
        read_only_keys: Iterable[str] = (),
        clock: Callable[[], int] = system_clock_ms,
        hedge: bool = False,
        first_order_id: int = 8_389_765,
        wallet: Decimal | str = "1000000",
        limits: Limits | None = None,
        lag_ms: int = 0,
        latency_ms: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        scene = Scene(
            symbols=symbols, positions=positions or {}, hedge=hedge, first_order_id=first_order_id,
            wallet=Decimal(wallet), limits=limits or Limits(), lag_ms=lag_ms, latency_ms=latency_ms,
        )  # fmt: skip
        super().__init__(scene, keys={api_key: api_secret} | dict(keys or {}), read_only=read_only_keys, clock=clock)
        self.api_key = api_key
        self.api_secret = api_secret
        self._address = (host, port)
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end; known once it was started."""
        return f"http://{self._address[0]}:{self._address[1]}"

    def start(self) -> SimExchange:
        if self._server is not None:
            raise RuntimeError("the exchange is running")
        self._stopping.clear()
        self._server = Server(self._address, self.answer, self.now_ms)
        self._address = self._server.server_address[:2]
        self._server.open()
        return self

    def stop(self) -> None:
        """Cut every connection; what hangs ends at once. Does nothing when it is not running."""
        self._stopping.set()
        if self._server is not None:
            self._server.close()
            self._server = None

    def answer(self, request: Request) -> Reply:
        """The reply to any request, without a socket."""
        return control(self, request) if request.path.startswith(PREFIX) else self.app.handle(request)

    def __enter__(self) -> SimExchange:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
