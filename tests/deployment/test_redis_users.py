"""The real programs as the deployment's users: everything they do works with the rights they have."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.rehearsal.plan_source import PlanSource, plan_of
from p33_sidecar.rehearsal.processes import Process
from p33_sidecar.store import keys, progress, rights
from tests.deployment.conftest import PLANS, RESULTS, Deployed
from tests.deployment.programs import Programs


@pytest.fixture(scope="module")
def programs(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    with SimExchange(symbols=50, positions={"BTCUSDT": "0.038"}) as exchange:
        made = Programs(deployed, exchange, tmp_path_factory.mktemp("programs"))
        try:
            made.admin.acl_log_reset()
            made.start("sidecar", "p33_sidecar.service.main", rights.SIDECAR)
            made.start("apply", "p33_sidecar.apply.main", rights.APPLY)
            made.until("a book is open", lambda: made.admin.exists(keys.ledger("BTCUSDT")))
            made.until("the Apply Layer reads", lambda: made.admin.exists(PLANS) and any(
                g["name"] == keys.APPLY_GROUP for g in made.admin.xinfo_groups(PLANS)))
            yield made
        finally:
            made.stop()


def test_a_close_from_plan_to_ledger(programs: Programs) -> None:
    """Plan, both permits, order, result, booking: every right of sidecar and Apply Layer that a close needs."""
    admin = programs.admin
    governor = programs.deployed.client(rights.GOVERNOR)
    plan = plan_of("BTCUSDT", "PARTIAL_75")
    governor.set(keys.governor_permit(plan.plan_id), '{"granted":true}', px=60_000)
    PlanSource(admin, stream=PLANS).publish(plan)
    programs.until("the fill is booked", lambda: admin.hget(keys.ledger("BTCUSDT"), "last_known_amt") == "0.01")
    results = [fields for _, fields in admin.xrange(RESULTS)]
    assert [(r["plan_id"], r["executed"]) for r in results] == [(plan.plan_id, "True")]
    assert admin.exists(keys.taken(plan.plan_id)) == 1
    assert admin.exists(keys.permit(plan.plan_id), keys.governor_permit(plan.plan_id)) == 0


def test_what_cannot_be_understood_is_kept(programs: Programs) -> None:
    """Rejected plans and results, a tampered hash, a mismatch: the rarer writes of the sidecar."""
    admin = programs.admin
    admin.xadd(PLANS, {"decision": "EXECUTE", "symbol": "BTCUSDT"})
    admin.xadd(RESULTS, {"plan_id": "x"})
    programs.until("both are kept", lambda: admin.xlen(keys.REJECTED) >= 2)
    programs.exchange.set_position("ETHUSDT", "1")
    programs.until("ETHUSDT is adopted", lambda: admin.hget(keys.ledger("ETHUSDT"), "last_known_amt") == "1")
    programs.exchange.set_position("ETHUSDT", "2")
    programs.until("the mismatch is an incident", lambda: admin.hexists(keys.MISMATCHES, "ETHUSDT"))


def test_a_book_that_cannot_be_read_is_set_aside_and_settled(programs: Programs) -> None:
    """By the sidecar with its rights, then by a person with theirs."""
    admin, symbol = programs.admin, "BNBUSDT"
    programs.exchange.set_position(symbol, "3")
    programs.until("a book", lambda: admin.exists(keys.ledger(symbol)))
    admin.set(keys.orders(symbol), "spoilt")
    admin.xadd(RESULTS, {"plan_id": "x", "symbol": symbol, "decision": "EXECUTE", "executed": "True", "order_id": "5",
                         "side": "SELL", "executed_qty": "1"})
    programs.until("it is set aside", lambda: any(admin.scan_iter(match=keys.WRECKED + "*", count=1000)))
    programs.until("settled by a person", lambda: programs.p33(
        "ledger", "adopt", symbol, "--reason", "looked at it", "--force").code == 0)


def test_the_operator_can_do_everything_p33_offers(programs: Programs) -> None:
    """Every command of the tool as p33-operator: none of them is refused a right."""
    programs.until("settled", lambda: "free" in programs.p33("ledger", "show", "BTCUSDT").out)
    for args, codes in (
        (("status",), {0, 1}), (("watch", "--count", "1"), {0}), (("decisions",), {0}), (("replay",), {0}),
        (("audit-permits",), {0}), (("ledger", "show"), {0}),
        (("ledger", "adopt", "ETHUSDT", "--reason", "by hand"), {0}),
        (("ledger", "adjust", "BTCUSDT", "0.01", "--reason", "no change", "--force"), {0}),
        (("halt", "--reason", "test"), {0}), (("resume",), {0}), (("halt", "BTCUSDT", "--for", "1m"), {0}),
        (("resume", "BTCUSDT"), {0}), (("explain", "nobody"), {1}),
    ):
        said = programs.p33(*args)
        assert said.code in codes, (args, said)
        assert "rights" not in said.err
    assert programs.p33("status", "--json").json["store"]["durable"] is True


def test_the_pipeline_audits_with_its_own_rights(programs: Programs, tmp_path: Path) -> None:
    """Archive, audit and report, as p33-audit runs them: exit code 2 would be "could not be done"."""
    said = subprocess.run([sys.executable, "-m", "p33_pipeline.audit_command", "--last", "1h", "--json"],
                          env=programs.environment(rights.PIPELINE, P33_HISTORY_URL=str(tmp_path / "history")),
                          capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL)
    assert said.returncode in (0, 1), said.stderr
    audit = json.loads(said.stdout)
    assert audit["summary"]
    reached = progress.read(programs.admin)
    assert audit["from_ms"] < reached.audited_ms <= reached.archived_ms


def test_nobody_was_refused_anything(programs: Programs) -> None:
    """The server's own log of refusals is empty, and so is ours, after a restart of both programs too."""
    for process in programs.running:
        process.kill()
        process.start()
    plan = plan_of("BTCUSDT", "PARTIAL_50")
    programs.admin.set(keys.governor_permit(plan.plan_id), '{"granted":true}', px=60_000)
    PlanSource(programs.admin, stream=PLANS).publish(plan)
    programs.until("a result", lambda: any(
        fields.get("plan_id") == plan.plan_id for _, fields in programs.admin.xrange(RESULTS)))
    assert [c for c in programs.complaints() if not _is_setinfo(c)] == []


def _is_setinfo(complaint: object) -> bool:
    """redis-py tells its name where it may; `client setinfo` cannot be granted on 7.0."""
    return isinstance(complaint, dict) and complaint["object"] == "client|setinfo"


def test_a_program_with_the_wrong_user_names_what_it_lacks(programs: Programs) -> None:
    """The sidecar as p33-governor says it in its log; the tool in its one line, with exit code 69."""
    wrong = Process("wrong", [sys.executable, "-m", "p33_sidecar.service.main"],
                    env=programs.environment(rights.GOVERNOR), log=programs.folder / "wrong.log",
                    reaper=programs.reaper).start()
    try:
        programs.until("it says so", lambda: "rights.missing" in wrong.tail())
        assert "+script|load" in wrong.tail()
    finally:
        wrong.kill()
    said = programs.p33("status", user=rights.GOVERNOR)
    assert said.code == 69
    assert "our Redis user lacks +script|load" in said.err


def test_a_wrong_password_is_said_without_the_password(programs: Programs) -> None:
    """One line, exit code 69, no secret."""
    url = programs.deployed.server.url.replace("redis://", "redis://p33-operator:not-the-password@")
    said = programs.p33("status", REDIS_URL=url)
    assert said.code == 69
    assert "not-the-password" not in said.err + said.out
    with pytest.raises(redis.AuthenticationError), redis.Redis.from_url(url) as client:
        client.ping()
