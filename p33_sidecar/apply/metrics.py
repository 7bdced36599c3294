"""What Prometheus sees of the Apply Layer. Every family, and every series that can be named, exists from the start.

What may not happen here: a hook that raises or blocks; a label value taken from a message without bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from ..core.reasons import Reason, Refusal
from ..gate import Forgery
from . import results

PLAN_OUTCOMES: Final = ("executed", "open", results.REJECTED, results.NOT_SENT, "blocked", "would_execute",
                        "already_consumed", "answered_before", "passed_over")
ORDER_OUTCOMES: Final = ("filled", "open", results.REJECTED, results.NOT_SENT, "unknown")
ENDPOINTS: Final = ("order_new", "order", "time", "positionRisk", "exchangeInfo")
FORGERIES: Final = (Refusal.FORGED_PERMIT, Refusal.INVALID_PERMIT_TYPE)
REFUSALS: Final = tuple(
    [str(refusal) for refusal in Refusal if refusal not in (Refusal.ALREADY_CONSUMED, Refusal.P33_DENIED)]
    + [f"{Refusal.P33_DENIED}:{reason}" for reason in Reason] + [results.PLAN_EXPIRED, results.UNCONFIGURED])
"""Every refusal a result can carry; `already_consumed` writes none and is a plan's outcome."""
OTHER: Final = "other"

WAIT_BUCKETS_S: Final = (.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 1.3, 2.5, 10, 60)
REQUEST_BUCKETS_S: Final = (.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5)


class ApplyMetrics:
    """The workers' hooks (`layer.Hooks`) and the exchange client's `Observer`. May be called from any thread."""

    def __init__(self, *, version: str, mode: str, gate: str, registry: CollectorRegistry | None = None) -> None:
        disable_created_metrics()
        self.registry = registry if registry is not None else CollectorRegistry()
        self._plans = self._counter("p33_apply_plans", "Plan entries by what became of them", "outcome")
        self._refused = self._counter("p33_apply_refused", "Plans that were blocked, by the refusal", "refusal")
        self._orders = self._counter("p33_apply_orders", "Orders by what became of them", "outcome")
        self._forged = self._counter("p33_apply_forged_permit", "Permits that the sidecar did not write", "refusal")
        self._requests = self._counter("p33_apply_exchange_request", "Requests to the exchange", "endpoint", "status")
        self._wait = Histogram("p33_apply_permit_wait_seconds", "How long a plan waited for its permits",
                               buckets=WAIT_BUCKETS_S, registry=self.registry)
        self._took = Histogram("p33_apply_order_duration_seconds", "From sending an order to the exchange's answer",
                               buckets=REQUEST_BUCKETS_S, registry=self.registry)
        self._ban = self._gauge("p33_apply_exchange_ban_until_seconds", "Unix time before which nothing is sent")
        self._weight = self._gauge("p33_apply_exchange_used_weight", "Request weight of our address, as last said")
        self._in_hand = self._gauge("p33_apply_in_hand", "Plan entries that are being handled or wait in a line")
        self._sought = self._gauge("p33_apply_orders_sought", "Orders in nobody's hand that are looked for")
        self._gauge("p33_apply_governor_only", "1 in Governor-only mode").set(gate == "governor")
        build = Gauge("p33_apply_build_info", "The running version and its mode", ("version", "mode", "gate"),
                      registry=self.registry)
        build.labels(version, mode, gate).set(1)
        self._start_series()

    def render(self) -> bytes:
        """The text of `/metrics`."""
        return generate_latest(self.registry)

    def watch(self, *, in_hand: Callable[[], int], sought: Callable[[], int]) -> None:
        """Where the two gauges are read at a scrape."""
        self._in_hand.set_function(in_hand)
        self._sought.set_function(sought)

    # -- layer.Hooks ------------------------------------------------------------------------------------------

    def plan(self, outcome: str) -> None:
        self._plans.labels(outcome).inc()

    def refused(self, refusal: str) -> None:
        self._refused.labels(refusal if refusal in REFUSALS else OTHER).inc()

    def waited(self, ms: int) -> None:
        self._wait.observe(ms / 1000)

    def order(self, outcome: str) -> None:
        self._orders.labels(outcome).inc()

    def forged(self, forgery: Forgery) -> None:
        """The gate's `on_forgery`."""
        self._forged.labels(str(forgery.refusal)).inc()

    # -- exchange.Observer ------------------------------------------------------------------------------------

    def request(self, *, endpoint: str, status: str, seconds: float) -> None:
        self._requests.labels(endpoint, status).inc()
        if endpoint == "order_new":
            self._took.observe(seconds)

    def weight(self, used: int) -> None:
        self._weight.set(used)

    def ban(self, until_ms: int) -> None:
        self._ban.set(until_ms / 1000)

    # -- series -----------------------------------------------------------------------------------------------

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        """The library appends `_total`."""
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)

    def _start_series(self) -> None:
        for outcome in PLAN_OUTCOMES:
            self._plans.labels(outcome)
        for refusal in (*REFUSALS, OTHER):
            self._refused.labels(refusal)
        for outcome in ORDER_OUTCOMES:
            self._orders.labels(outcome)
        for refusal in FORGERIES:
            self._forged.labels(str(refusal))
        for endpoint in ENDPOINTS:
            self._requests.labels(endpoint, "ok")
