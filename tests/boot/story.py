"""What is played inside the booted system, chapter by chapter, with the commands of the handbook; standard library.

A chapter is a function that raises when something is not as it should be; the first that does ends the story. What may
not happen here: a wait without a condition, or a chapter that passes because a command was not there.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from pathlib import Path

from tests.boot.site import (
    APPLY,
    BASE,
    CANARY,
    DAEMON,
    ETC,
    SETTINGS,
    SIDECAR,
    WEB,
    Broken,
    dagster,
    expect,
    exposure,
    redis,
    run,
    shown,
    until,
    up,
)

HISTORY = Path("/var/lib/quantum-p33-pipeline/history")
OUTCOME = Path("/srv/outcome.json")
NEIGHBOURS = "/srv/neighbours/bin/python"
EXCHANGE = "http://127.0.0.1:18080"
PLANS = "quantum:apply.plan"


# --- the first boot


def neighbours_are_there() -> str:
    """The exchange, simulated; it stands in for a host that this machine cannot reach."""
    run("python3.11 -m venv /srv/neighbours && /srv/neighbours/bin/pip install -q -c constraints.txt .")
    unit = Path("/etc/systemd/system/rehearsal-exchange.service")
    unit.write_text(f"[Service]\nExecStart={NEIGHBOURS} -m p33_sidecar.rehearsal.exchange --port 18080 "
                    "--position BTCUSDT=0.038\n[Install]\nWantedBy=multi-user.target\n")
    run("systemctl enable --now rehearsal-exchange")
    until("the exchange", lambda: "serverTime" in run(f"curl -fsS {EXCHANGE}/fapi/v1/time", code=None))
    return EXCHANGE


def deployment_waits_for_the_users() -> str:
    """deploy.sh --redis-users makes them, and starts nothing while the server does not let them in."""
    ETC.mkdir(parents=True)
    Path("/etc/quantum/testnet.env").write_text("BINANCE_API_KEY=rehearsal-key\nBINANCE_API_SECRET=rehearsal-secret\n")
    run("install -m 0640 deployment/config/position-state-brain.env /etc/quantum/")
    with SETTINGS.open("a") as file:
        file.write(f"P33_EXCHANGE_URL={EXCHANGE}\nAPPLY_MODE=testnet\n")
    said = run("deployment/deploy.sh --redis-users 2>&1", code=1)
    if "users.acl" not in said or (BASE / "current").exists():
        raise Broken(said)
    return said.splitlines()[-1]


def one_command_deploys_and_proves() -> str:
    """The server takes configuration and users as they are shipped; then deploy.sh does all of it."""
    run("install -m 0644 deployment/redis/redis.conf /etc/redis/redis.conf && systemctl restart redis-server")
    said = run("deployment/deploy.sh --redis-users")
    proof = (BASE / "current/docs/P3_3_VPS_PROOF.txt").read_text()
    if "all 8 points hold" not in proof:
        raise Broken(said + proof)
    return "all 8 points hold"


def units_are_up_and_say_so() -> str:
    """Active, ready, and STATUS= in words; the canary's timer is armed."""
    if not up() or shown(f"{CANARY}.timer", "ActiveState") != "active":
        raise Broken(run("systemctl status --no-pager 'quantum*'", code=None))
    status = shown(SIDECAR, "StatusText")
    if not status.startswith("ready"):
        raise Broken(f"STATUS= is {status!r}")
    return status


def programs_are_shut_in() -> str:
    """What the kernel says of the running processes, and what systemd says of the loaded units."""
    exposures = []
    for unit in (SIDECAR, APPLY):
        state = Path(f"/proc/{shown(unit, 'MainPID')}/status").read_text()
        for name, wanted in (("CapEff", 0), ("CapBnd", 0), ("NoNewPrivs", 1), ("Seccomp", 2)):
            found = re.search(rf"^{name}:\s*(\w+)", state, re.MULTILINE)
            expect(found and int(found[1], 16), wanted, f"{unit} {name}")
        if re.search(r"^Uid:\s*0\b", state, re.MULTILINE):
            raise Broken(f"{unit} runs as root")
        exposures.append(exposure(unit))
        environment = Path(f"/proc/{shown(unit, 'MainPID')}/environ").read_text()
        for secret in ("rehearsal-secret", (ETC / "credentials/operator/P33_PERMIT_KEY").read_text().strip()):
            if secret in environment:
                raise Broken(f"{unit} has a secret in its environment")
    return f"no root, no capabilities, seccomp; exposure {' and '.join(exposures)}"


def a_plan_becomes_an_order() -> str:
    """Planner and Governor with their users; the Apply Layer takes both permits, and the exchange gets one order."""
    granted = '{"granted":true,"plan_id":"boot-1","symbol":"BTCUSDT"}'
    redis(f"SET quantum:permit:boot-1 '{granted}' PX 60000", user="p33-governor")
    steps = '[{"step":"CLOSE_PARTIAL_75","type":"market_reduce_only","side":"close","pct":75.0}]'
    redis(f"XADD {PLANS} '*' plan_id boot-1 symbol BTCUSDT action PARTIAL_75 decision EXECUTE steps '{steps}' "
          f"close_qty 0.0 timestamp {time.time():.3f}")
    until("the order", lambda: "boot-1" in redis("XREVRANGE quantum:apply.result + - COUNT 5"))
    result = redis("XREVRANGE quantum:apply.result + - COUNT 5")
    if '"quantity":"0.028"' not in result:
        raise Broken(result)
    return "0.028 of 0.038, reduce-only"


def checklist_works_as_written() -> str:
    """Each systemctl, curl, redis-cli and journalctl line of the handbook, on the system it was written for."""
    page = Path("docs/P3_3_POSITION_STATE_BRAIN.md").read_text()
    block = re.search(r"^```sh checklist\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = block[1].splitlines() if block else []
    for line in lines:
        said = redis(line.removeprefix("redis-cli ")) if line.startswith("redis-cli") else run(line)
        if not said.strip():
            raise Broken(f"`{line}` found nothing")
    expect(len(lines) > 10, True, "a checklist")
    return f"{len(lines)} lines"


def canary_runs_in_its_unit() -> str:
    run(f"systemctl start {CANARY}.service")
    return shown(f"{CANARY}.service", "Result")


def killed_programs_come_back() -> str:
    """SIGKILL; each is started again by itself, and ready again."""
    for unit in (SIDECAR, APPLY):
        before = int(shown(unit, "NRestarts"))
        run(f"systemctl kill --signal=SIGKILL {unit}")
        until(f"{unit} is back", lambda unit=unit, before=before: int(shown(unit, "NRestarts")) > before and up())
    return "both are ready again"


def a_hung_program_is_restarted() -> str:
    """SIGSTOP: nobody feeds the watchdog."""
    before = int(shown(SIDECAR, "NRestarts"))
    run(f"systemctl kill --signal=SIGSTOP {SIDECAR}")
    until("the watchdog", lambda: int(shown(SIDECAR, "NRestarts")) > before and up())
    return run(f"journalctl -b --no-pager -o cat -u {SIDECAR} | grep -i 'watchdog timeout' | tail -1").strip()


def keys_are_changed() -> str:
    return run("p33 rotate-key").strip().splitlines()[-1]


def a_wrong_setting_is_not_tried_again() -> str:
    """Exit code 78 ends the restarts, and the journal names the variable."""
    kept = SETTINGS.read_text()
    SETTINGS.write_text(kept + "P33_POLL_SEC=often\n")
    run(f"systemctl restart {SIDECAR}", code=1)
    expect((shown(SIDECAR, "ActiveState"), shown(SIDECAR, "ExecMainStatus")), ("failed", "78"), "state")
    line = run(f"journalctl -b --no-pager -o cat -u {SIDECAR} | grep P33_POLL_SEC | tail -1").strip()
    SETTINGS.write_text(kept)
    run(f"systemctl restart {SIDECAR}")
    until("ready again", up)
    return line


def upgrade_and_rollback() -> str:
    """A newer content beside the old one; rollback.sh returns; Governor-only mode and back."""
    old = os.readlink(BASE / "current")
    with Path("README.md").open("a") as file:
        file.write("newer\n")
    run("deployment/deploy.sh --redis-users --no-proof")
    new = os.readlink(BASE / "current")
    expect(new != old and os.readlink(BASE / "previous") == old, True, "two releases")
    said = run("deployment/rollback.sh").splitlines()[0]
    expect(os.readlink(BASE / "current"), old, "current")
    until("the old release", up)
    for way, gate in (("--governor", "governor"), ("--both", "both")):
        run(f"deployment/rollback.sh {way}")
        until("up", up)
        expect(f"APPLY_GATE={gate}" in SETTINGS.read_text(), True, way)
    return said


def pipeline_is_added_and_works() -> str:
    """Dagster under its units: a run goes from the UI over the daemon to the files, all of it shut in."""
    run("deployment/deploy.sh --redis-users --pipeline --no-proof")
    until("the definitions", lambda: "archive_now" in dagster(DEFINITIONS))
    today = time.strftime("%Y-%m-%d", time.gmtime())  # there is nothing to judge of an earlier one
    for job, tags in (("archive_now", []), ("report_day", [{"key": "dagster/partition", "value": today}])):
        said = dagster(LAUNCH, job=job, tags=tags)
        run_id = re.search(r'"runId": ?"([^"]+)"', said)
        if not run_id:
            raise Broken(said)
        until(job, lambda run_id=run_id: re.search("SUCCESS|FAILURE|CANCELED", dagster(STATUS, run=run_id[1])))
        if "SUCCESS" not in dagster(STATUS, run=run_id[1]):
            raise Broken(f"{job}:\n" + run(f"journalctl -b --no-pager -n 80 -u {DAEMON} -o cat"))
    files = list(HISTORY.rglob("*.parquet"))
    expect(bool(files), True, "an archive")
    return f"{len(files)} Parquet files; exposure {exposure(DAEMON)} and {exposure(WEB)}"


DEFINITIONS = "{repositoriesOrError{... on RepositoryConnection{nodes{pipelines{name}}}}}"
LAUNCH = """mutation($job: String!, $tags: [ExecutionTag!]) {launchRun(executionParams: {
    selector: {repositoryLocationName: "p33_pipeline.definitions", repositoryName: "__repository__", jobName: $job},
    runConfigData: {}, executionMetadata: {tags: $tags}}) {
  __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}"""
STATUS = "query($run: ID!) {runOrError(runId: $run) {... on Run {status}}}"


# --- the second boot


def everything_came_back_by_itself() -> str:
    """The simulated exchange alone has forgotten its trade, and is told; no real one does."""
    until("the exchange", lambda: "result" in run(
        f"curl -fsS {EXCHANGE}/_sim/position -d '{{\"symbol\":\"BTCUSDT\",\"amt\":\"0.010\"}}'", code=None))
    until("units", up)
    until("the pipeline", lambda: "archive_now" in dagster(DEFINITIONS))
    until("trust", lambda: shown(SIDECAR, "StatusText").startswith("ready"))
    amounts = redis("HGET quantum:position:ledger:BTCUSDT last_known_amt").strip()
    expect(amounts, "0.01", "the book after the reboot")
    return f"{shown(SIDECAR, 'StatusText')}; the book still says {amounts}"


def proof_holds_after_the_reboot() -> str:
    return run("deployment/proof.sh").strip().splitlines()[-1]


FIRST = (neighbours_are_there, deployment_waits_for_the_users, one_command_deploys_and_proves, units_are_up_and_say_so,
         programs_are_shut_in, a_plan_becomes_an_order, checklist_works_as_written, canary_runs_in_its_unit,
         killed_programs_come_back, a_hung_program_is_restarted, keys_are_changed, a_wrong_setting_is_not_tried_again,
         upgrade_and_rollback, pipeline_is_added_and_works)
SECOND = (everything_came_back_by_itself, proof_holds_after_the_reboot)


def main() -> int:
    """Play the chapters of this boot, and leave the outcome for the host."""
    again = OUTCOME.exists()
    outcome = json.loads(OUTCOME.read_text()) if again else {"passed": [], "failed": []}
    outcome["complete"] = False
    print(f"boot {1 + again}: {run('systemctl --version').splitlines()[0]}, {run('uname -r').strip()}")
    for chapter in SECOND if again else FIRST:
        begun_s = time.monotonic()
        name = chapter.__name__.replace("_", " ")
        try:
            said = chapter()
        except Exception:  # noqa: BLE001 - the outermost loop: whatever it was, the host has to learn it
            outcome["failed"].append(name)
            print(f"FAILED  {name}\n{traceback.format_exc()}")
            print(run("journalctl -b --no-pager -n 60 -u 'quantum*'", code=None))
            break
        outcome["passed"].append(name)
        print(f"ok  {time.monotonic() - begun_s:5.1f} s  {name}: {said}")
    outcome["complete"] = again and not outcome["failed"]
    OUTCOME.write_text(json.dumps(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
