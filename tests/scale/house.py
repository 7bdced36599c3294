"""The processes of several hosts, on one: broker, instance, coordinator and workers, from the configurations that ship.

What may not happen here: a setting that an operator could not make. DAGSTER_HOME/dagster.yaml is `postgres.yaml` and
`celery.yaml` as they stand, workers are started as `celery-worker.yaml` says, runs are asked for as the UI does.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import dagster as dg

from p33_sidecar.rehearsal.server import EmbeddedServer
from tests.scale.day import ROOT
from tests.scale.postgres import Postgres

CONFIG = ROOT / "deployment" / "dagster"
WORKERS = ("worker-1", "worker-2")
MAX_RUNTIME_S = 60
"""When a run of this day is given up for dead, as its tag says: an audit of an hour takes seconds."""
DEADLINE_S = 1800
BACKFILL = """mutation($backfillParams: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfillParams) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""
T = TypeVar("T")


class Ran(NamedTuple):
    """One run: its partition, on which worker, how it ended, and which run it took the place of."""

    run_id: str
    partition: str
    worker: str
    status: str
    instead_of: str
    began_s: float
    took_s: float


class House:
    """The running processes. `env` is what every one of them has, `postgres` the version of the instance's server."""

    def __init__(self, env: dict[str, str], home: Path, instance: dg.DagsterInstance, postgres: str) -> None:
        self.env, self.home, self.instance, self.postgres = env, home, instance, postgres
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._pids: dict[int, str] = {}

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """A process in a group of its own, its output in a file of the home."""
        with (self.home / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=self.env, stdin=subprocess.DEVNULL,
                                    stdout=log, stderr=log, start_new_session=True)

    def backfill(self, *assets: str, partitions: list[str]) -> str:
        """Ask for partitions of assets, by the request that the UI makes; the backfill's id.

        A backfill of assets, since it alone waits for runs that are to be started anew: `dagster job backfill` is done
        once its runs are submitted, the UI's backfill of a job once each has ended, and of what is done Dagster
        restarts nothing (1.13.27, seen here).
        """
        asked = {"backfillParams": {
            "assetSelection": [{"path": [asset]} for asset in assets], "partitionNames": partitions,
            "tags": [{"key": "dagster/max_runtime", "value": str(MAX_RUNTIME_S)}]}}
        done = subprocess.run(
            ["dagster-graphql", "-w", "workspace.yaml", "-t", BACKFILL, "-v", json.dumps(asked)], cwd=ROOT,
            env=self.env, check=False, text=True, capture_output=True, stdin=subprocess.DEVNULL)
        taken = re.search(r'"backfillId": ?"(\w+)"', done.stdout)
        if taken is None:
            raise RuntimeError(f"the backfill was not taken: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        return taken[1]

    # -- what happens -----------------------------------------------------------------------------------------

    def kill_at_work(self, name: str) -> str:
        """SIGKILL a worker and all its children while a run of it is on the way; that run's id.

        It is stopped first and killed only if the run has not ended: no race decides whether this tests anything.
        """
        group = self.workers[name].pid
        while True:
            run_id = self.wait(lambda: self._at_work(name), f"{name} to begin a run")
            os.killpg(group, signal.SIGSTOP)
            run = self.instance.get_run_by_id(run_id)
            if run is not None and run.status == dg.DagsterRunStatus.STARTED:
                os.killpg(group, signal.SIGKILL)
                self.workers.pop(name).wait()
                return run_id
            os.killpg(group, signal.SIGCONT)

    def finished(self, backfill: str, partitions: list[str]) -> list[Ran]:
        """Wait until each partition has a run that succeeded and none is on the way; every run of the backfill."""
        def all_done() -> list[Ran] | None:
            ran = self.runs(backfill)
            done = {run.partition for run in ran if run.status == "SUCCESS"}
            busy = [run for run in ran if run.status not in ("SUCCESS", "FAILURE", "CANCELED")]
            return ran if done >= set(partitions) and not busy else None

        return self.wait(all_done, f"all runs of {partitions[0]} and on to end")

    def runs(self, backfill: str) -> list[Ran]:
        """Every run of the backfill, oldest first."""
        records = self.instance.get_run_records(dg.RunsFilter(tags={"dagster/backfill": backfill}), ascending=True)
        return [self._ran(record) for record in records]

    def _ran(self, record: dg.RunRecord) -> Ran:
        run, begin, end = record.dagster_run, record.start_time, record.end_time
        return Ran(run.run_id, run.tags.get("dagster/partition", ""), self._worker(run.run_id),
                   run.status.value, run.parent_run_id or "", begin or 0, end - begin if begin and end else 0)

    def _at_work(self, name: str) -> str | None:
        started = self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        started = [run for run in started if "dagster/backfill" in run.tags]
        return next((run.run_id for run in started if self._worker(run.run_id) == name), None)

    def _worker(self, run_id: str) -> str:
        """Which worker's process said that it took the run."""
        for name, worker in self.workers.items():
            for pid in _group(worker.pid):
                self._pids[pid] = name
        for event in self.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            said = event.dagster_event.message or ""
            if said.startswith("Started process for run (pid: "):
                return self._pids.get(int(said.split("pid: ")[1].rstrip(").")), "?")
        return "-"

    def wait(self, look: Callable[[], T | None], what: str) -> T:
        deadline_s = time.monotonic() + DEADLINE_S
        while (found := look()) is None:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"{DEADLINE_S} s were not enough for {what}; the logs are in {self.home}")
            time.sleep(0.1)
        return found


@contextmanager
def house(history_url: str, more: dict[str, str]) -> Iterator[House]:
    """Everything up; down again whatever happens."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p33-scale-", ignore_cleanup_errors=True)))
        postgres = stack.enter_context(Postgres())
        broker = stack.enter_context(EmbeddedServer(tcp=True))
        (home / "dagster.yaml").write_text("".join(
            (CONFIG / name).read_text() for name in ("postgres.yaml", "celery.yaml")))
        env = os.environ | postgres.env | more | {
            "DAGSTER_HOME": str(home), "DAGSTER_CELERY_BROKER": broker.url_of(1), "PYTHONWARNINGS": "ignore",
            "DAGSTER_CELERY_BACKEND": broker.url_of(2), "REDIS_URL": broker.url, "P33_HISTORY_URL": history_url,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]), "PYTHONPATH": str(ROOT)}
        before = dict(os.environ)
        stack.callback(lambda: (os.environ.clear(), os.environ.update(before)))
        os.environ.update(env)
        subprocess.run(["dagster", "instance", "migrate"], env=env, check=True, cwd=ROOT,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        made = House(env, home, stack.enter_context(dg.DagsterInstance.get()), postgres.version)
        coordinator = made.start("daemon", "dagster-daemon", "run", "-w", "workspace.yaml")
        stack.callback(_end, coordinator)
        for name in WORKERS:
            made.workers[name] = made.start(
                name, "dagster-celery", "worker", "start", "-A", "dagster_celery.app", "-n", name,
                "-y", str(CONFIG / "celery-worker.yaml"), "--", "--concurrency", "1")
        stack.callback(lambda: [_end(worker) for worker in made.workers.values()])
        yield made


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process and all it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _group(leader: int) -> list[int]:
    """The processes of a group that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader:
            found.append(int(stat.parent.name))
    return found
