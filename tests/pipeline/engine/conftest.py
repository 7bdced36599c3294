"""A real instance, a real Redis with an hour in which the gate was bypassed, and the definitions on top of both."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest
import redis

from p33_pipeline.partitions import day_key, hour_key
from p33_pipeline.resources import P33
from p33_sidecar.core.checks import decide
from p33_sidecar.core.record import record_bytes
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.store import keys
from tests.core.made import NOW_MS, ORIGIN, POLICY, STAMP, facts

HOUR, DAY = hour_key(NOW_MS), day_key(NOW_MS)
BEGIN_MS = NOW_MS // 3_600_000 * 3_600_000
UI = "https://p33.example/dagster"
SECRET = "hook-token-of-nobody"

warnings.simplefilter("ignore", dg.BetaWarning)
warnings.simplefilter("ignore", dg.PreviewWarning)

from p33_pipeline.build import build_defs  # noqa: E402 - after the warnings are quiet


def fill(client: redis.Redis) -> None:
    """an hour: polls every 5 s, an opened book, one right verdict with its plan, one order that nobody allowed."""
    polls = range(BEGIN_MS, BEGIN_MS + 3_600_000, 5_000)
    position = {"symbol": "BTCUSDT", "position_amt": "0.038", "side": "LONG", "entry_price": "98000.1",
                "mark_price": "98250.4", "update_time_ms": BEGIN_MS - 5_000}
    pipe = client.pipeline(transaction=False)
    for at_ms in polls:
        body = {"v": 1, "requested_ms": at_ms, "received_ms": at_ms + 90, "outcome": "ok", "positions": [position]}
        if at_ms == BEGIN_MS:
            body["scope"] = ["BTCUSDT"]
        pipe.xadd(keys.SNAPSHOTS, {"poll_id": f"{at_ms}-aa", "json": json.dumps(body)}, id=f"{at_ms + 95}-0")
    opening = {"v": 1, "symbol": "BTCUSDT", "rev": 7, "cause": "opening", "delta": "0.038", "amt_before": None,
               "amt_after": "0.038", "at_ms": BEGIN_MS + 600, "by": "host-a", "why": "two agreeing replies"}
    pipe.xadd(keys.JOURNAL, {"symbol": "BTCUSDT", "json": json.dumps(opening)}, id=f"{BEGIN_MS + 600}-0")
    given = facts()
    record = record_bytes(decide(given, POLICY), given, POLICY, stamp=STAMP, origin=ORIGIN).decode()
    pipe.xadd("quantum:apply.plan", given.plan.fields, id=ORIGIN.stream_id)
    pipe.xadd(keys.DECISIONS, {"plan_id": given.plan.plan_id, "symbol": "BTCUSDT", "outcome": "ALLOW",
                               "json": record}, id=f"{NOW_MS + 1}-0")
    step = {"step": "CLOSE_PARTIAL_75", "status": "success", "order_id": "8389765", "side": "SELL",
            "quantity": "0.028", "executed_qty": "0.028", "reduce_only": True}
    pipe.xadd("quantum:apply.result", {
        "plan_id": "by-hand", "symbol": "BTCUSDT", "decision": "EXECUTE", "executed": "True", "would_execute": "False",
        "steps_results": json.dumps([step]), "error": "", "timestamp": str(NOW_MS // 1000 + 60)},
        id=f"{NOW_MS + 60_000}-0")
    pipe.execute()


class Hook(BaseHTTPRequestHandler):
    """Takes messages and keeps them; answers what it is told to."""

    taken: list[dict] = []
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.status == 200:
            self.taken.append(json.loads(body))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def hook() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def messages(hook) -> list[dict]:
    Hook.taken.clear()
    Hook.status = 200
    return Hook.taken


@pytest.fixture(scope="module")
def store() -> Iterator[EmbeddedServer]:
    """A server of this module's own: what is archived is trimmed."""
    with EmbeddedServer() as running, redis.Redis.from_url(running.url) as client:
        fill(client)
        yield running


@pytest.fixture(scope="module")
def p33(store, hook, tmp_path_factory) -> P33:
    return P33(overrides={
        "REDIS_URL": store.url, "P33_HISTORY_URL": str(tmp_path_factory.mktemp("history")),
        "P33_WEBHOOK_URL": f"http://127.0.0.1:{hook.server_port}/{SECRET}", "P33_DAGSTER_URL": UI,
        **dict.fromkeys(("BINANCE_API_KEY", "BINANCE_API_SECRET", "BINANCE_TESTNET_API_KEY",
                         "BINANCE_TESTNET_API_SECRET"), "")})


@pytest.fixture(scope="module")
def instance(tmp_path_factory) -> Iterator[dg.DagsterInstance]:
    """Storage on disk, as a deployment has it."""
    home: Path = tmp_path_factory.mktemp("dagster")
    with dg.DagsterInstance.local_temp(str(home), overrides={"telemetry": {"enabled": False}}) as instance:
        yield instance


@pytest.fixture(scope="module")
def defs(p33) -> dg.Definitions:
    return build_defs(p33=p33)


@pytest.fixture(scope="module")
def run(defs, instance):
    """Execute a job by name; failures are looked at, not raised."""
    def execute(job: str, partition: str | None = None, **more):
        return defs.resolve_job_def(job).execute_in_process(partition_key=partition, instance=instance,
                                                            raise_on_error=False, **more)
    return execute


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict:
    """What an asset said of itself, as plain values."""
    event, = (e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(asset))
    return {name: value.value for name, value in event.materialization.metadata.items()}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}
