"""The house under attack: a server with the deployment's users, real programs, and one attacker's login at a time.

What may not happen here: help for the attacker beyond the rights of the user whose password leaked. Where an attempt
needs the gate out of the way, the gate is stopped (SIGSTOP): what holds then holds while it runs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Self

import httpx
import redis
import yaml
from prometheus_client.parser import text_string_to_metric_families

from p33_sidecar.core.orders import client_order_id
from p33_sidecar.core.permit import Permit, read_permit, sign, signature_holds
from p33_sidecar.rehearsal.exchange import Order, SimExchange
from p33_sidecar.rehearsal.exchange.symbols import load_contracts
from p33_sidecar.rehearsal.plan_source import Plan, PlanSource, plan_of
from p33_sidecar.rehearsal.processes import free_port
from p33_sidecar.store import keys, rights
from tests.deployment.conftest import PLANS, RESULTS, Deployed
from tests.deployment.programs import Programs

TOP = Path(__file__).parents[2]
KEY = b"k" * 32
HELD = Decimal(1_000)
LISTED = 100
PATIENCE_S = 120
PLAY_S = 1_800
"""For the whole play: attempts that are repeated until they count must end, too."""
SETTINGS = {"P33_COOLDOWN_SEC": "0.5", "P33_PERMIT_TTL": "300", "P33_STALE_THRESHOLD_SEC": "30",
            "P33_PLAN_MAX_AGE_SEC": "600", "APPLY_PERMIT_WAIT_MS": "800"}
"""Times so long that no machine is too slow for an attack; the wait so short that a refusal comes soon."""
PASSING = ("missing_p33_permit", "cooldown_in_flight", "permit_outstanding", "ledger_gap", "stale_exchange_state")
"""Refusals of an honest plan that say only that it came too early."""
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scene:
    """`client(user)` is the attacker. Everything that is seen is read as an administrator."""

    def __init__(self, folder: Path) -> None:
        names = [n for n, c in load_contracts(LISTED).items() if c.status == "TRADING" and n.isascii()
                 and max(Decimal(c.step), Decimal(c.market_step)) <= 1
                 and min(Decimal(c.max_qty), Decimal(c.market_max)) >= HELD]
        self._fresh, self.folder = iter(names), folder
        self.exchange = SimExchange(symbols=LISTED, positions=dict.fromkeys(names, str(HELD)))
        self.deployed = Deployed(folder)
        self.ports = {"P33_METRICS_PORT": free_port(), "APPLY_METRICS_PORT": free_port()}
        self.promises: list[tuple[str, Callable[[dict], bool]]] = []
        self.baseline: Samples = {}
        self.ends_s = time.monotonic() + PLAY_S

    def __enter__(self) -> Self:
        self.deployed.server.start()
        self.exchange.start()
        self.programs = Programs(self.deployed, self.exchange, self.folder)
        self.admin = self.programs.admin
        more = SETTINGS | {name: str(port) for name, port in self.ports.items()}
        self.sidecar = self.programs.start("sidecar", "p33_sidecar.service.main", rights.SIDECAR, **more)
        self.apply = self.programs.start("apply", "p33_sidecar.apply.main", rights.APPLY, **more)
        self.until("both serve metrics", self._both_serve)
        self.baseline = self.samples()
        return self

    def __exit__(self, *_: object) -> None:
        self.sidecar.thaw()
        self.apply.thaw()
        self.programs.stop()
        self.exchange.stop()
        self.deployed.server.stop()

    def client(self, user: str) -> redis.Redis:
        return self.deployed.client(user)

    def until(self, what: str, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"never: {what}\n" + "\n".join(p.tail() for p in self.programs.running)
            time.sleep(0.02)

    @contextmanager
    def gate_stopped(self) -> Iterator[None]:
        """The sidecar does nothing meanwhile; afterwards it polls again before anything else is tried."""
        self.sidecar.freeze()
        try:
            yield
        finally:
            self.sidecar.thaw()
            polls = self.polls()
            self.until("the gate polls again", lambda: self.polls() > polls)

    @contextmanager
    def orders_stopped(self) -> Iterator[None]:
        """The Apply Layer does nothing meanwhile: what is allowed stays open."""
        self.apply.freeze()
        yield
        self.apply.thaw()

    # -- honest moves -----------------------------------------------------------------------------------------

    def fresh(self) -> str:
        """A position of its own for one attempt, whose book is open."""
        symbol = next(self._fresh)
        self.until(f"the book of {symbol}", lambda: self.booked(symbol) == HELD)
        return symbol

    def booked(self, symbol: str) -> Decimal | None:
        amt = self.admin.hget(keys.ledger(symbol), "last_known_amt")
        return None if amt is None else Decimal(amt)

    def publish(self, symbol: str, action: str = "PARTIAL_75", *, plan: Plan | None = None, granted: bool = True
                ) -> Plan:
        """The planner's plan, and the Governor's permit for it."""
        plan = plan or plan_of(symbol, action)
        if granted:
            self.client(rights.GOVERNOR).set(keys.governor_permit(plan.plan_id), '{"granted":true}', px=600_000)
        return PlanSource(self.admin, stream=PLANS).publish(plan)

    def closed(self, symbol: str) -> Plan:
        """A plan that went the honest way to its order and its booking."""
        plan, _ = self.judged(symbol, "PARTIAL_25", until="executed")
        self.until("the booking", lambda: self.booked(symbol) == self.exchange.position_amt(symbol))
        return plan

    # -- what came of it --------------------------------------------------------------------------------------

    def results(self, plan: Plan) -> list[dict]:
        return [fields for _, fields in self.admin.xrange(RESULTS) if fields.get("plan_id") == plan.plan_id]

    def said(self, plan: Plan, *, after: int = 0) -> str:
        """The Apply Layer's answer: `executed`, or the refusal."""
        assert time.monotonic() < self.ends_s, f"the play is too long; now {plan}"
        self.until(f"an answer to {plan}", lambda: len(self.results(plan)) > after)
        fields = self.results(plan)[after]
        if fields["executed"] == "True":
            return "executed"
        step = json.loads(fields["steps_results"])[0]
        return (step.get("refusal") or fields["error"]).removeprefix("p33_denied:")

    def judged(self, symbol: str, action: str = "PARTIAL_75", *, until: str = "") -> tuple[Plan, str]:
        """A plan and its answer; published anew where one only came too early, or was not answered as it has to be."""
        while True:
            plan = self.publish(symbol, action)
            said = self.said(plan)
            if said == until or (not until and said not in PASSING):
                return plan, said

    def answered(self, symbol: str) -> str:
        """The answer to an honest plan."""
        return self.judged(symbol)[1]

    def passed_over(self, plan: Plan, name: str) -> str:
        """`name`, once the Apply Layer has counted that it left the plan alone for that reason, without a result."""
        series = ("p33_apply_plans_total", frozenset({("outcome", name)}))
        before, results = self.samples()[series], len(self.results(plan))
        self.publish(plan.symbol, plan=plan)
        self.until(name, lambda: self.samples()[series] > before)
        assert len(self.results(plan)) == results
        return name

    def now_ms(self) -> int:
        seconds, micros = self.admin.time()
        return seconds * 1000 + micros // 1000

    def polls(self) -> int:
        """How many there were."""
        return self.admin.xinfo_stream(keys.SNAPSHOTS)["entries-added"]

    def requests_failed(self) -> int:
        """How many of the last polls failed."""
        entries = self.admin.xrevrange(keys.SNAPSHOTS, count=50)
        return sum(json.loads(fields["json"])["outcome"] != "ok" for _, fields in entries)

    def events(self, kind: str) -> list[dict]:
        return [json.loads(fields["json"]) for _, fields in self.admin.xrange(keys.EVENTS) if fields["kind"] == kind]

    def decisions(self, plan: Plan) -> list[dict]:
        return [json.loads(fields["json"]) for _, fields in self.admin.xrange(keys.DECISIONS)
                if fields["plan_id"] == plan.plan_id]

    def taken(self, plan: Plan) -> bool:
        return any(fields["plan_id"] == plan.plan_id for _, fields in self.admin.xrange(keys.TAKINGS))

    def stolen_permit(self, plan: Plan) -> bytes:
        """The bytes of a permit that was taken, as every reader of the records sees them."""
        return next(json.loads(fields["json"])["permit"].encode() for _, fields in self.admin.xrange(keys.TAKINGS)
                    if fields["plan_id"] == plan.plan_id)

    def allow(self, plan: Plan, *, lives_ms: int = 300_000, key: bytes | None = KEY) -> bytes:
        """An ALLOW for the plan as the gate would write it. Signed: what an attacker kept of an earlier one."""
        now_ms = self.now_ms()
        members = {
            "v": 1, "plan_id": plan.plan_id, "symbol": plan.symbol, "allow": True, "safe_close_qty": 750,
            "close_side": "SELL", "exchange_position_amt": 1000, "ledger_position_amt": 1000,
            "ledger_rev": int(self.admin.hget(keys.ledger(plan.symbol), "rev")), "snapshot_age_sec": 0,
            "max_snapshot_age_sec": 30, "action": plan.action, "venue": self.exchange.url.removeprefix("http://"),
            "ts_epoch": now_ms // 1000, "issued_ms": now_ms, "expires_ms": now_ms + lives_ms, "nonce": "n0nce"}
        return sign(json.dumps(members, separators=(",", ":")).encode(), key)

    def orders_without_verdict(self) -> list[str]:
        """Orders at the exchange that no permit with a valid signature was taken for. There must never be one."""
        taken: dict[str, list[Permit]] = {}
        for _, fields in self.admin.xrange(keys.TAKINGS):
            raw = (json.loads(fields["json"]).get("permit") or "").encode()
            if signature_holds(raw, (KEY,)) and (permit := read_permit(raw)):
                taken.setdefault(client_order_id(permit.plan_id), []).append(permit)
        for order in (order for order in self.exchange.orders if order.client_order_id.startswith("p33-")):
            permits = taken.get(order.client_order_id, [])
            if (permit := next((p for p in permits if _permits(p, order)), None)) is None:
                return [order.client_order_id]
            permits.remove(permit)
        return []

    # -- alerts and findings ----------------------------------------------------------------------------------

    def samples(self) -> Samples:
        """Every sample of both programs."""
        found: Samples = {}
        with httpx.Client(trust_env=False, timeout=30) as http:
            for port in self.ports.values():
                text = http.get(f"http://127.0.0.1:{port}/metrics").text
                found |= {(s.name, frozenset(s.labels.items())): s.value
                          for family in text_string_to_metric_families(text) for s in family.samples}
        return found

    def _both_serve(self) -> bool:
        try:
            return bool(self.samples())
        except httpx.HTTPError:
            return False

    def alert(self, name: str, **labels: str) -> str:
        """The alert's name; that what its rule watches has happened is seen before the play is over."""
        rules = yaml.safe_load((TOP / "deployment/prometheus/p33.rules.yml").read_text())["groups"][0]["rules"]
        expr = next(rule["expr"] for rule in rules if rule["alert"] == name)
        metric, selector = re.search(r"(p33_\w+)(?:\{([^}]*)\})?", expr).groups()
        asked = [*re.findall(r'(\w+)=~?"([^"]*)"', selector or ""), *labels.items()]
        grows = "increase(" in expr
        assert grows or "== 1" in expr, f"how {name} fires is not known here"

        def seen(samples: Samples) -> float:
            return sum(value for (n, given), value in samples.items() if n == metric and all(
                re.fullmatch(pattern, dict(given)[label]) for label, pattern in asked))

        least = seen(self.baseline) if grows else 0
        self.promises.append((f"alert {name} {labels}", lambda _: seen(self.samples()) > least))
        return name

    def finding(self, name: str, *, of: str) -> str:
        """The finding's name; that the audit has it for this plan or symbol is seen at the end of the play."""
        def found(audit: dict) -> bool:
            lines = [json.dumps(line) for line in (*audit["breaks"], *audit["flow"], *audit["sources"])
                     if name in (line.get("finding"), line.get("class"))]
            return any(of in line for line in lines)

        self.promises.append((f"finding {name} of {of}", found))
        return f"audit `{name}`"

    def keep_promises(self) -> None:
        """Every alert and finding that was named has to be there. What the audit itself finds out, a gap of the archive
        say, is in the range of the next one."""
        audit = self.audit()
        for what, holds in self.promises:
            deadline = time.monotonic() + PATIENCE_S
            while not holds(audit):
                assert time.monotonic() < deadline, f"never: {what} in {json.dumps(audit)}"
                audit = self.audit()
        self.promises.clear()

    def audit(self) -> dict:
        """`p33-audit` of the last hour, as its own Redis user.

        Hundreds of symbols' trades are asked for again and again within a minute, which no operator does: what the
        address used so far is forgotten, or the audit would stop, rightly, at its share of the exchange's weight.
        """
        with self.exchange.app.lock:
            self.exchange.app.budget.forgive()
        env = self.programs.environment(rights.PIPELINE, P33_HISTORY_URL=str(self.folder / "history"), **SETTINGS)
        said = subprocess.run([sys.executable, "-m", "p33_pipeline.audit_command", "--last", "1h", "--json"], env=env,
                              capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL)
        assert said.returncode in (0, 1), said.stderr
        return json.loads(said.stdout)


def _permits(permit: Permit, order: Order) -> bool:
    """At most the permit's quantity, on its side, and nothing that opens a position."""
    return order.qty <= permit.safe_close_qty and order.reduce_only and (
        order.side, order.symbol) == (permit.close_side, permit.symbol)
