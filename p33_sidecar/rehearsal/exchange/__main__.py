"""The simulated exchange as a process: `python -m p33_sidecar.rehearsal.exchange --port 0 --symbols 600`.

Prints one line of JSON with its URL when it is ready, and runs until SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from decimal import Decimal

import msgspec

from p33_sidecar.rehearsal.exchange import Limits, SimExchange
from p33_sidecar.rehearsal.exchange.errors import ApiError
from p33_sidecar.rehearsal.exchange.sim import REHEARSAL_KEY, REHEARSAL_SECRET
from p33_sidecar.rehearsal.ports import port_number


def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        exchange = SimExchange(
            symbols=args.symbols, positions=dict(args.position), api_key=args.api_key, api_secret=args.api_secret,
            hedge=args.hedge, first_order_id=args.first_order_id, lag_ms=args.lag_ms, latency_ms=args.latency_ms,
            limits=Limits(weight_per_minute=args.weight_limit), host=args.host, port=args.port,
        )  # fmt: skip
    except (ValueError, ApiError) as error:
        parser.error(str(error))
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    with exchange:
        ready = {"url": exchange.url, "api_key": exchange.api_key, "symbols": args.symbols}
        sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
        sys.stdout.flush()
        stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m p33_sidecar.rehearsal.exchange", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=port_number, default=0, help="0: any free port")
    parser.add_argument("--symbols", type=int, default=50, help="1 to 700")
    parser.add_argument("--position", type=_position, action="append", default=[], metavar="SYMBOL=AMT")
    parser.add_argument("--api-key", default=REHEARSAL_KEY)
    parser.add_argument("--api-secret", default=REHEARSAL_SECRET)
    parser.add_argument("--hedge", action="store_true", help="start in hedge mode")
    parser.add_argument("--first-order-id", type=int, default=8_389_765)
    parser.add_argument("--lag-ms", type=int, default=0, help="how far reads lie behind")
    parser.add_argument("--latency-ms", type=int, default=0, help="delay of every answer")
    parser.add_argument("--weight-limit", type=int, default=2400, help="request weight a minute and address")
    return parser


def _position(text: str) -> tuple[str, str]:
    symbol, _, amt = text.partition("=")
    try:
        Decimal(amt)
    except ArithmeticError:
        raise argparse.ArgumentTypeError(f"{text!r} is not SYMBOL=AMT") from None
    return symbol, amt


if __name__ == "__main__":
    sys.exit(main())
