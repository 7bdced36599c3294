"""A day of hourly partitions on two Celery workers, one of them killed, against the same day in one process.

    python -m tests.scale [--hours 24] [--symbols 6] [--history folder|s3|both]

Postgres holds the instance, Redis is the broker, a backfill asks for the runs; the history is a folder that all share,
then a bucket. One worker is killed with -9 in the middle of a run and not started again. Exit code 0: every audit and
report is byte for byte that of the one process. 1: it is not, or nothing was restarted. 2: something is missing.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from p33_pipeline.history import History, place_at
from tests.objects import CREDENTIALS, ObjectStore
from tests.scale.day import DAY, audit_in_one_process, differences, hours, left_behind, write_day
from tests.scale.house import WORKERS, House, Ran, house
from tests.scale.postgres import NotHere, programs

console = Console(width=120, highlight=False)


def main(argv: list[str]) -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=int, default=24, choices=range(4, 25), metavar="4..24")
    parser.add_argument("--symbols", type=int, default=6)
    parser.add_argument("--history", choices=("folder", "s3", "both"), default="both")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whatever ends this ends what it started
    logging.getLogger("dagster").setLevel(logging.ERROR)
    try:
        programs()
    except NotHere as missing:
        print(f"scale-test: {missing}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="p33-scale-") as folder, ObjectStore() as store:
        alone = Path(folder) / "one-process"
        write_day(History(place_at(str(alone))), hours=options.hours, symbols=options.symbols)
        audit_in_one_process(str(alone), hours=options.hours, home=Path(folder) / "home")
        expected = left_behind(History(place_at(str(alone))))
        console.print(f"one process: {len(expected)} files of audits and reports")
        places = {"folder": str(Path(folder) / "shared"), "s3": store.url("scale")}
        wrong = [name for name, url in places.items() if options.history in (name, "both")
                 and not on_workers(name, url, expected, hours_=options.hours, symbols=options.symbols)]
    return 1 if wrong else 0


def on_workers(name: str, url: str, expected: dict[str, str], *, hours_: int, symbols: int) -> bool:
    """The day on two workers; whether it came to the same."""
    partitions = hours(hours_)
    with house(url, CREDENTIALS if name == "s3" else {}) as made:
        history = History(place_at(url))
        write_day(history, hours=hours_, symbols=symbols)
        audits = made.backfill("hour_audit", partitions=partitions)
        lost = kill_in_the_middle(made, audits, len(partitions))
        ran = made.finished(audits, partitions)
        ran += made.finished(made.backfill("day_audit", "mismatch_report", partitions=[DAY]), [DAY])
        wrong = differences(expected, left_behind(history))
        about = f"Postgres {made.postgres}, history {history.place}"
    show(about, ran, lost)
    restarted = [run for run in ran if run.instead_of == lost]
    console.print(f"{len(expected) - len(wrong)} of {len(expected)} files are those of one process"
                  + "".join(f"\n  differs: {path}" for path in wrong)
                  + ("" if restarted else "\n  the lost run was not restarted") + "\n")
    return not wrong and bool(restarted)


def kill_in_the_middle(made: House, audits: str, count: int) -> str:
    """Once a quarter of the day is done, kill the first worker at its work; the run that was lost with it."""
    made.wait(lambda: sum(run.status == "SUCCESS" for run in made.runs(audits)) >= count // 4 or None,
              "a quarter of the day")
    return made.kill_at_work(WORKERS[0])


def show(title: str, ran: list[Ran], lost: str) -> None:
    """What ran where, and what was restarted."""
    table = Table(title=title, title_justify="left")
    for heading in ("partition", "worker", "ended", "seconds", "run", ""):
        table.add_column(heading)
    for run in ran:
        note = "its worker was killed here" if run.run_id == lost else (
            f"instead of {run.instead_of[:8]}" if run.instead_of else "")
        table.add_row(run.partition, run.worker, run.status, f"{run.took_s:.1f}", run.run_id[:8], note)
    console.print(table)
    each = Counter(run.worker for run in ran if run.status == "SUCCESS")
    console.print(", ".join(f"{worker}: {count} runs" for worker, count in sorted(each.items())))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
