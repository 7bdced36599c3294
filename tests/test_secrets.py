"""No secret comes out: not in logs of either format, metrics, page, status, the tool, the pipeline with its archive,
its reports and what Dagster keeps of runs, exceptions, or anything in Redis. The demo's own run is searched in
test_demo.py.

Every secret setting holds a text that is found nowhere else; then everything that leaves the programs is searched for
it, also as URLs, JSON and Base64 would write it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from p33_sidecar.errors import ConfigurationInvalid
from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.settings import SETTINGS, load
from tests.cli.conftest import Tool
from tests.contract.client import Outsider, until
from tests.contract.conftest import House
from tests.planted import BY_URL, PASSWORD, SECRETS, found_in, read_all


class Locked(House):
    """A house whose server wants a password and whose exchange wants the planted keys."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, pool=1, positions={"BTCUSDT": "0.038"}, plans="quantum:apply.plan",
                         results="quantum:apply.result", P33_POLL_SEC="0.5", APPLY_MODE="testnet",
                         APPLY_PERMIT_WAIT_MS="20000")
        self.exchange.stop()
        self.exchange = SimExchange(symbols=60, positions={"BTCUSDT": "0.038"},
                                    api_key=SECRETS["BINANCE_TESTNET_API_KEY"],
                                    api_secret=SECRETS["BINANCE_TESTNET_API_SECRET"]).start()
        with redis.Redis.from_url(self.server.url) as client:
            client.config_set("requirepass", PASSWORD)
        self.url = BY_URL["REDIS_URL"].format(port=self.server.url.rpartition(":")[2].partition("/")[0])
        self.outsider = Outsider(self.url, plans=self.plans, results=self.results)

    def environment(self, **more: str) -> dict[str, str]:
        host, port = self.server.url.removeprefix("redis://").removesuffix("/0").split(":")
        return super().environment(**SECRETS, REDIS_HOST=host, REDIS_PORT=port) | {"REDIS_URL": ""} | more


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Locked, dict[str, str]]]:
    """Programs in both log formats that closed a position, then met an exchange that refuses them and a Redis that
    is gone; with everything they said on the way."""
    house = Locked(tmp_path_factory.mktemp("locked"))
    out, said = house.outsider, {}
    try:
        sidecar = house.start("p33-sidecar", P33_LOG_LEVEL="DEBUG", P33_LOG_FORMAT="text")
        page = house.page(sidecar)
        house.start("p33-apply", P33_LOG_LEVEL="DEBUG", P33_LOG_FORMAT="json", REDIS_URL=house.url)
        until("ready", lambda: page.get("/readyz")[0] == 200)
        plan_id = "a-plan"
        out.redis.set(f"quantum:permit:{plan_id}", '{"granted":true}', ex=60)
        out.plan("BTCUSDT", plan_id=plan_id)
        until("booked", lambda: out.ledger("BTCUSDT").get("last_known_amt") == "0.01")
        house.exchange.fault("reject", "GET positionRisk", times=3, code=-2015)
        until("the refusal was met", lambda: any(r["outcome"] != "ok" for r in out.records("quantum:p33:snapshots")))
        said |= {path: page.get(path)[2] for path in ("/", "/metrics", "/status.json", "/healthz", "/readyz")}
        said |= _told(house)
        said |= _audited(house)
        said["redis"] = _everything(house)
        house.server.kill()
        said |= _piped(house, "after", "p33_pipeline.audit_command", "--last", "1h", "--json", codes={2})
        until("both noticed", lambda: all("failing" in process.log.read_text() for process in house.running))
        said |= {f"{process.name} log": process.log.read_text() for process in house.running}
        yield house, said
    finally:
        house.stop()


def _told(house: Locked) -> dict[str, str]:
    """Every command of the tool, both ways."""
    said = {}
    for env in (house.environment(), house.environment(REDIS_URL=house.url)):
        tool = Tool(**env)
        for args in (("status",), ("decisions",), ("explain", "a-plan"), ("replay",), ("audit-permits",),
                     ("ledger", "show", "BTCUSDT"), ("halt", "--reason", "x"), ("resume",), ("check-config",)):
            for form in ((), ("--json",)):
                answer = tool(*args, *form)
                said[" ".join((*args, *form))] = answer.out + answer.err
    return said


def _audited(house: Locked) -> dict[str, str]:
    """The pipeline's two commands, with notes on breaks in a file, and its Dagster runs with notes in a database that
    cannot be reached; and all that they left: archive, reports, the instance with its events."""
    history, said = str(house.folder / "history"), {}
    for name, module in (("audit", "p33_pipeline.audit_command"), ("review", "p33_pipeline.review.command")):
        said |= _piped(house, name, module, "--last", "1h", "--json", codes={0, 1}, P33_REGISTRY_URL="")
    said |= _piped(house, "notes away", "p33_pipeline.audit_command", "--last", "1h", "--json", codes={2})
    said |= _piped(house, "runs", "p33_pipeline.closing", history, str(house.folder / "dagster"), codes={1})
    return said | {f"{folder}: {name}": text for folder in ("history", "dagster")
                   for name, text in read_all(house.folder / folder).items()}


def _piped(house: Locked, name: str, module: str, *args: str, codes: set[int], **more: str) -> dict[str, str]:
    done = subprocess.run([sys.executable, "-m", module, *args], capture_output=True, text=True, check=False,
                          env=house.environment(P33_HISTORY_URL=str(house.folder / "history"), **more), timeout=300,
                          stdin=subprocess.DEVNULL)
    assert done.returncode in codes, (name, done)
    return {name: done.stdout + done.stderr}


def _everything(house: Locked) -> str:
    """All keys and values of the database."""
    client, parts = house.outsider.redis, []
    for key in client.scan_iter():
        kind = client.type(key)
        read = {"string": client.get, "hash": client.hgetall, "set": client.smembers, "stream": client.xrange}[kind]
        parts.append(f"{key} {read(key)}")
    return "\n".join(parts)


def test_something_was_said(lived: tuple[Locked, dict[str, str]]) -> None:
    """Silence would pass every search."""
    _, said = lived
    assert {name for name, text in said.items() if not text} == set()
    assert "permit_total" in said["/metrics"] and "BTCUSDT" in said["redis"] and '"event"' in said["p33-apply log"]
    assert "0.028" in said["explain a-plan"]
    assert '"verdicts"' in said["audit"] and sum(name.startswith("history: ") for name in said) > 5
    assert any("STEP_FAILURE" in text for name, text in said.items() if name.startswith("dagster: "))


def test_no_secret_in_anything_that_came_out(lived: tuple[Locked, dict[str, str]]) -> None:
    """Logs, page, metrics, status, tool and database."""
    _, said = lived
    assert {name: found_in(text) for name, text in said.items() if found_in(text)} == {}


def test_no_secret_when_the_server_is_gone_or_refuses(lived: tuple[Locked, dict[str, str]]) -> None:
    """A URL that cannot be reached, a password that is wrong: one line without either."""
    house, _ = lived
    for url in (house.url, house.url.replace("127.0.0.1", "localhost"), "redis://:main-api-secret-88aa@127.0.0.1:1/0"):
        said = Tool(**house.environment(REDIS_URL=url))("status")
        assert said.code == 69
        assert found_in(said.out + said.err) == set()


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS if setting.secret])
def test_a_secret_that_cannot_be_used_is_not_quoted(name: str) -> None:
    """Neither in the problem nor in the exception, its repr or its causes; nor, where it can be used, in a repr."""
    planted = "hunter2 \x00 planted"
    try:
        settings = load({name: planted})
    except ConfigurationInvalid as invalid:
        assert name in str(invalid)
        assert "hunter2" not in f"{invalid} {invalid!r} {invalid.__cause__!r} {invalid.__context__!r}"
    else:
        assert "hunter2" not in f"{settings!r} {settings.public()} {settings.warnings()} {settings[name]!r}"
