"""What the benchmark measures, each in a process of its own: `python -m tests.bench_pipeline.pieces PIECE FOLDER ...`.

Prints one JSON line: wall seconds, processor seconds, the peak of memory, and what came out. Starting and importing is
not measured.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from p33_pipeline.audit import reproduce
from p33_pipeline.audit.audit import audit
from p33_pipeline.audit.scope import Scope, open_scope
from p33_pipeline.generator.story import Planted
from p33_pipeline.history import TABLES, History, place_at
from p33_pipeline.review.command import review_range
from p33_pipeline.review.review import Parameters
from p33_sidecar.core.model import Policy

KEYS = ("symbol", "decided_at", "exchange_amt")
"""The least that an as-of join of verdicts and snapshots needs."""
UNREVIEWED = frozenset({"decision_id", "stream_id", "plan_id", "nonce", "venue", "instance", "ledger_rev", "read_at",
                        "issued_at", "expires_at", "outcome"})
"""What the review does not read, or only of the verdicts that flip."""


def audited(given: argparse.Namespace) -> Any:
    """The audit of the day: its findings, in the words of the planted truth."""
    reproduce.EXACT_MOST = given.sample
    found = audit(History(place_at(given.folder)), from_ms=given.begin, to_ms=given.end, policy=Policy())
    seen = [*(Planted(b.kind, b.symbol) for b in found.breaks), *(Planted(f.finding, f.symbol) for f in found.flow),
            *(Planted(s.finding) for s in found.sources)]
    return {"found": sorted(seen), "counts": found.counts}


def joined_keys(given: argparse.Namespace) -> Any:
    """Every verdict with the snapshot it could know, and how far the two are apart."""
    return _joined(_scope(given), KEYS)


def joined_columns(given: argparse.Namespace) -> Any:
    """The same over all columns that the audit reads of a verdict."""
    return _joined(_scope(given), _read())


def scanned(given: argparse.Namespace) -> Any:
    """Every typed column of the verdicts, once."""
    return _scanned(given, _read())


def scanned_in_part(given: argparse.Namespace) -> Any:
    """Every column of the verdicts that the review reads of them all, once."""
    return _scanned(given, tuple(name for name in _read() if name not in UNREVIEWED))


def _scanned(given: argparse.Namespace, names: tuple[str, ...]) -> Any:
    return _scope(given).db.execute(f"SELECT count(*), {_touched('d', names)} FROM decisions d").fetchone()


def reviewed(given: argparse.Namespace) -> Any:
    """The review of the day, on a grid of so many policies."""
    stale, cooldown, tolerance, poll = {10_000: (20, 10, 10, 5), 100: (5, 5, 2, 2)}[given.policies]
    found = review_range(
        History(place_at(given.folder)), from_ms=given.begin, to_ms=given.end, fallback=Policy(), parameters=Parameters(
            stale_ms=tuple(10_000 + 500 * n for n in range(stale)),
            poll_ms=tuple(5_000 + 1_000 * n for n in range(poll)),
            cooldown_ms=tuple(15_000 + 500 * n for n in range(cooldown)),
            tolerance_pct=tuple(Policy().qty_tolerance_pct + n for n in range(tolerance))))
    return {"policies": found.grid.size, "judged": found.judged, "current": msgspec.to_builtins(found.current)}


def _scope(given: argparse.Namespace) -> Scope:
    return open_scope(History(place_at(given.folder)), from_ms=given.begin, to_ms=given.end, policy=Policy())


def _read() -> tuple[str, ...]:
    return tuple(name for name in TABLES["decisions"].schema.names if name not in ("id", "problem", "raw"))


def _touched(of: str, names: tuple[str, ...]) -> str:
    """SQL: something that needs every one of the columns."""
    return f"bit_xor(hash({', '.join(f'{of}.{name}' for name in names)}))"


def _joined(scope: Scope, names: tuple[str, ...]) -> Any:
    return scope.db.execute(f"""
        WITH held AS (SELECT requested_at, unnest(positions) AS p FROM snapshots WHERE outcome = 'ok'),
        seen AS (SELECT requested_at, p.symbol AS symbol, p.position_amt AS amt FROM held)
        SELECT count(*), sum(abs(s.amt - d.exchange_amt))::VARCHAR, {_touched('d', names)}
        FROM decisions d ASOF JOIN seen s ON s.symbol = d.symbol AND d.decided_at >= s.requested_at""").fetchone()


PIECES: dict[str, Callable[[argparse.Namespace], Any]] = {
    piece.__name__: piece for piece in (audited, joined_keys, joined_columns, scanned, scanned_in_part, reviewed)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("piece", choices=PIECES)
    parser.add_argument("folder")
    for name in ("--begin", "--end", "--policies", "--sample"):
        parser.add_argument(name, type=int, default=reproduce.EXACT_MOST if name == "--sample" else 0)
    given = parser.parse_args()
    wall, processor = time.perf_counter(), time.process_time()
    result = PIECES[given.piece](given)
    print(msgspec.json.encode({
        "wall_s": time.perf_counter() - wall, "processor_s": time.process_time() - processor,
        "peak_mb": _peak_mb(), "result": result}).decode())
    return 0


def _peak_mb() -> int:
    """The most this program held; what `getrusage` tells begins with what the process that started us held."""
    told = Path("/proc/self/status").read_text()
    return int(told.partition("VmHWM:")[2].split()[0]) // 1024


if __name__ == "__main__":
    sys.exit(main())
