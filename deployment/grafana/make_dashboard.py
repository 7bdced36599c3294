"""Writes p33.json, the Grafana dashboard: five questions, from top to bottom, and what answers each.

    python deployment/grafana/make_dashboard.py [--check]

Built with Grafana's own typed builders, so that what is written is what Grafana's schema knows. Import the JSON file
in Grafana and choose the Prometheus that scrapes the gate (deployment/prometheus/scrape.yml).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions, StackingConfig, VizLegendOptions
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode, LegendDisplayMode, LegendPlacement, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

FILE = Path(__file__).with_name("p33.json")
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
HERE = 'instance=~"$instance"'
OF = f'{HERE}, symbol=~"$symbol"'


class Query(NamedTuple):
    """A PromQL expression and how its series are called in the legend."""

    expr: str
    legend: str = ""


class Number(NamedTuple):
    """A panel of one number; `bad_from`: coloured from this value on."""

    title: str
    text: str
    unit: str
    query: Query
    bad_from: float | None = None


class Curve(NamedTuple):
    """A panel over time."""

    title: str
    text: str
    unit: str
    queries: tuple[Query, ...]
    stacked: bool = False


def _a_minute(metric: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval])) * 60 > 0"


def _an_hour(metric: str, by: str = "", where: str = HERE) -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (increase({metric}{{{where}}}[1h]))"


def _median_and_99(metric: str, where: str = "") -> tuple[Query, ...]:
    rates = f"sum by (le) (rate({metric}_bucket{{{where}}}[$__rate_interval]))"
    return Query(f"histogram_quantile(0.5, {rates})", "median"), Query(f"histogram_quantile(0.99, {rates})", "99 %")


FLOWING = (
    Number("Gate", "Whether the sidecar answers its scrapes.", "bool_on_off", Query(f'min(up{{job="p33", {HERE}}})')),
    Number("Halted", "Whether the kill switch is on: every plan is denied.", "bool_yes_no",
           Query(f"max(p33_halted{{{HERE}}})"), 1),
    Number("Open permits", "ALLOWs that are open: not taken, not expired, not withdrawn.", "short",
           Query(f"sum(p33_open_permits{{{HERE}}})")),
    Number("Orders looked for", "Orders whose outcome is not known yet. They are looked up, never sent again.",
           "short", Query("sum(p33_apply_orders_sought)"), 1),
    Curve("Verdicts", "ALLOW and DENY a minute, for the chosen symbols.", "short",
          (Query(_a_minute("p33_permit_total", "decision", OF), "{{decision}}"),), True),
    Curve("What became of plans", "At the Apply Layer, a minute: executed, blocked, rejected, not sent.",
          "short", (Query(_a_minute("p33_apply_plans_total", "outcome"), "{{outcome}}"),), True),
)
AGREEING = (
    Number("Symbols that differ", "Ledger and exchange differ beyond the tolerance, with nothing in flight.", "short",
           Query(f"sum(p33_mismatch_open{{{OF}}})"), 1),
    Number("Ledger is durable", "Whether Redis keeps an append-only file.", "bool_yes_no",
           Query(f"min(p33_store_durable{{{HERE}}})")),
    Curve("Exchange less ledger", "In the symbol's base asset. Flat at zero is agreement; a step that goes away within "
          "the cooldown is an order on its way.", "short",
          (Query(f"p33_position_amt{{{OF}}} - p33_ledger_amt{{{OF}}}", "{{symbol}}"),)),
    Curve("Incidents", "An hour: mismatches opened, orders that could not be booked as reported, gaps in a stream, "
          "forged permits met.", "short", (
              Query(_an_hour("p33_mismatch_total", where=OF), "mismatches"),
              Query(_an_hour("p33_anomaly_total", "kind") + " > 0", "{{kind}}"),
              Query(_an_hour("p33_stream_gap_total"), "stream gaps"),
              Query(_an_hour("p33_apply_forged_permit_total", where=""), "forged permits"))),
)
DENIED = (
    Curve("Denials by reason", "A minute, for the chosen symbols. docs/reasons.md says what to do about each.", "short",
          (Query(_a_minute("p33_permit_denied_total", "reason", OF), "{{reason}}"),), True),
    Curve("Refusals of the Apply Layer", "Why plans were blocked, a minute; the Governor's too.", "short",
          (Query(_a_minute("p33_apply_refused_total", "refusal"), "{{refusal}}"),), True),
    Curve("Messages not understood", "An hour. Each is kept whole in quantum:p33:rejected.", "short",
          (Query(_an_hour("p33_rejected_total", "stream, reason") + " > 0", "{{stream}}: {{reason}}"),)),
)
FRESH = (
    Number("Oldest snapshot", "Of the chosen symbols. From the stale threshold on (10 s) plans are denied.", "s",
           Query(f"max(p33_snapshot_age_sec{{{OF}}})"), 10),
    Number("Banned until", "The exchange refuses our address until then; empty: no ban.", "dateTimeAsIso",
           Query(f"max(p33_exchange_ban_until_seconds{{{HERE}}} > 0) * 1000")),
    Curve("Snapshot age", "The oldest of the chosen symbols, and what the policy allows by default.", "s",
          (Query(f"max(p33_snapshot_age_sec{{{OF}}})", "oldest"), Query("vector(10)", "stale from here on"))),
    Curve("Requests to the exchange", "A minute, by endpoint and outcome.", "short",
          (Query(_a_minute("p33_exchange_request_total", "endpoint, status", HERE), "{{endpoint}} {{status}}"),)),
    Curve("Request weight", "Of our address, all programs together; the exchange allows 2400 a minute.", "short",
          (Query(f"max(p33_exchange_used_weight{{{HERE}}})", "used"),)),
)
FAST = (
    Curve("Plan published to permit readable", "0.25 s is promised while the snapshot is fresh.", "s",
          _median_and_99("p33_permit_latency_seconds", HERE)),
    Curve("Deciding", "Of that, what the decision itself took.", "s",
          _median_and_99("p33_evaluation_duration_seconds", HERE)),
    Curve("Waiting for both permits", "The Apply Layer gives up after APPLY_PERMIT_WAIT_MS, 1.2 s by default.", "s",
          _median_and_99("p33_apply_permit_wait_seconds")),
    Curve("The exchange's answer to an order", "From sending to the answer.", "s",
          _median_and_99("p33_apply_order_duration_seconds")),
)
ROWS = (("Are verdicts flowing?", FLOWING), ("Are the three accounts agreeing?", AGREEING),
        ("Why are plans denied?", DENIED), ("How fresh is what we know?", FRESH), ("How fast are verdicts?", FAST))


def text() -> str:
    """The dashboard's JSON."""
    board = (dashboard.Dashboard("P3.3 Position State Brain").uid("p33").tags(["p33"])
             .refresh("5s").time("now-1h", "now")
             .description("The position gate: verdicts, the three accounts, freshness and speed.")
             .tooltip(DashboardCursorSync.CROSSHAIR).readonly()
             .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
             .with_variable(_choice("instance", "label_values(p33_build_info, instance)"))
             .with_variable(_choice("symbol", "label_values(p33_snapshot_age_sec, symbol)")))
    for title, panels in ROWS:
        board = board.with_row(dashboard.Row(title))
        for panel in panels:
            board = board.with_panel(_number(panel) if isinstance(panel, Number) else _curve(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _choice(name: str, query: str) -> dashboard.QueryVariable:
    return (dashboard.QueryVariable(name).datasource(SOURCE).query(query).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True).multi(True).all_value(".*"))


def _target(number: int, query: Query) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id("ABCDEFGH"[number]).expr(query.expr).legend_format(query.legend)


def _number(panel: Number) -> stat.Panel:
    steps = [Threshold(value=None, color="green")]
    if panel.bad_from is not None:
        steps.append(Threshold(value=panel.bad_from, color="red"))
    return (stat.Panel().title(panel.title).description(panel.text).unit(panel.unit).datasource(SOURCE)
            .span(6).height(4).color_mode(BigValueColorMode.VALUE).reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
            .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
            .with_target(_target(0, panel.query)))


def _curve(panel: Curve) -> timeseries.Panel:
    made = (timeseries.Panel().title(panel.title).description(panel.text).unit(panel.unit).datasource(SOURCE)
            .span(12).height(8).legend(VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(True)
                                       .placement(LegendPlacement.BOTTOM)))
    if panel.stacked:
        made = made.stacking(StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(20)
    for number, query in enumerate(panel.queries):
        made = made.with_target(_target(number, query))
    return made


def main(argv: list[str]) -> int:
    """Write p33.json, or with `--check` compare: 1 if it differs."""
    if "--check" not in argv:
        FILE.write_text(text(), encoding="utf-8")
        return 0
    return 0 if FILE.read_text(encoding="utf-8") == text() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
