"""`make bench-pipeline`: what hindsight costs, as ratios within one run: audit, review, archive.

A day is written (a tenth of one; `--scale 1`: 10 million verdicts, 1.7 million snapshot rows, 4 GB), each piece is
measured in a process of its own, and what it rests on in turn with it; the best of the turns counts. Wall time is what
the goals speak of; processor time is told beside it, since a machine with other work spoils the first. The audit must
find the planted truth and nothing else, whatever the speed: else exit code 1. `--quick` is the tests' short form.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from p33_pipeline.audit.reproduce import EXACT_MOST
from p33_pipeline.history import History, place_at
from tests.bench_pipeline.day import Day, write_day
from tests.bench_pipeline.stream import archive_rates


class Measured(msgspec.Struct, frozen=True):
    """One piece: what it took and what came out."""

    wall_s: float
    processor_s: float
    peak_mb: int
    result: Any


class Bench:
    """One run over one day."""

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        self.folder, self.given, self.failures = folder, given, []
        self.history = History(place_at(str(folder / "history")))

    def run(self) -> int:
        quick = self.given.quick
        size = {"scale": 0, "density": 0.1, "each": 5} if quick else {"scale": self.given.scale}
        self.day = write_day(self.history, **size)
        print(f"{self.day.verdicts:,} verdicts, {self.day.snapshot_rows:,} snapshot rows, "
              f"{len(self.day.truth)} deeds planted")
        self._audit(self.day)
        self._review()
        self._archive(2_000 if quick else self.given.entries)
        for failure in self.failures:
            print(f"FAILED  {failure}")
        return 1 if self.failures else 0

    def _audit(self, day: Day) -> None:
        sample = 500 if self.given.quick else EXACT_MOST
        before = self._piece("joined_keys"), self._piece("joined_columns")
        audit = self._piece("audited", "--sample", str(sample))
        after = self._piece("joined_keys"), self._piece("joined_columns")
        keys, columns = (min(pair, key=lambda one: one.wall_s) for pair in zip(before, after, strict=True))
        counts = audit.result["counts"]
        self._say("audit of the day", audit, f"{counts['verdicts']:,} verdicts taken again, "
                                             f"{counts['verdicts_compared_by_byte']:,} byte by byte")
        self._say("as-of join, keys and amount only", keys, "")
        self._say("as-of join over the same columns", columns, "")
        self._ratio("audit / join over the same columns", audit, columns, "goal: within 4")
        self._ratio("audit / join of the keys", audit, keys, "")
        print(f"{'audit, peak of memory':<42}{audit.peak_mb:>9} MB   goal: below 2,000")
        truth = msgspec.to_builtins(list(day.truth))
        self._expect(audit.result["found"] == truth, f"the audit found {audit.result['found']}, planted was {truth}")
        self._expect(counts["verdicts"] == day.verdicts, "the audit did not see every verdict")

    def _review(self) -> None:
        pieces = ("scanned",), ("scanned_in_part",), *(("reviewed", "--policies", count) for count in ("10000", "100"))
        turns = [[self._piece(*piece) for piece in pieces] for _ in range(3)]
        scan, part, many, few = (min(one, key=lambda one: one.wall_s) for one in zip(*turns, strict=True))
        self._say("review of 10,000 policies", many, f"{many.result['judged']:,} verdicts judged, "
                                                     f"{many.peak_mb:,} MB at most")
        self._say("review of 100 policies", few, "")
        self._say("one scan of the verdicts", scan, "")
        self._say("one scan of what the review reads", part, "")
        self._ratio("review of 10,000 / scan", many, scan, "goal: within 3")
        self._ratio("review of 10,000 / scan of what it reads", many, part, "")
        self._ratio("review of 10,000 / review of 100", many, few, "goal: 1")
        self._expect(many.result["policies"] >= 10_000, f"only {many.result['policies']} policies were judged")
        self._expect(many.result["current"] == few.result["current"], "the policy in force was judged in two ways")

    def _archive(self, entries: int) -> None:
        for table, (archived, bare) in archive_rates(self.history, self.folder, entries=entries).items():
            print(f"{f'archive of {table}':<42}{archived.per_s:>9,.0f} /s   goal: 50,000; bare {bare.per_s:,.0f} /s, "
                  f"ratio {bare.per_s / archived.per_s:.2f}, goal: within 2; processor time of an entry "
                  f"{archived.processor_us:.1f} us, bare {bare.processor_us:.1f} us")

    def _piece(self, name: str, *more: str) -> Measured:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench_pipeline.pieces", name, str(self.folder / "history"),
             "--begin", str(self.day.from_ms), "--end", str(self.day.to_ms), *more],
            capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")
        return msgspec.json.decode(done.stdout, type=Measured)

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.failures.append(otherwise)

    @staticmethod
    def _say(name: str, one: Measured, more: str) -> None:
        print(f"{name:<42}{one.wall_s:>9.2f} s    {one.processor_s:.2f} s of processor time"
              f"{'; ' + more if more else ''}")

    @staticmethod
    def _ratio(name: str, one: Measured, other: Measured, goal: str) -> None:
        wall, processor = one.wall_s / other.wall_s, one.processor_s / other.processor_s
        print(f"{name:<42}{wall:>9.2f} x    {processor:.2f} by processor time{'; ' + goal if goal else ''}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench_pipeline", description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.1, help="how much of a day of 10 million")
    parser.add_argument("--entries", type=int, default=100_000, help="entries a stream that are archived")
    parser.add_argument("--quick", action="store_true", help="a few thousand verdicts; the figures carry no weight")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p33-bench-") as folder:
        return Bench(Path(folder), given).run()


if __name__ == "__main__":
    sys.exit(main())
