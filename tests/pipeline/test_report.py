"""The mismatch report: one file that tells the day, opens offline, stays small; the same as CSV and JSON."""

from __future__ import annotations

import csv
import io
import re
from decimal import Decimal
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pytest

from p33_pipeline.audit_command import summary
from p33_pipeline.history.tables import TABLES
from p33_pipeline.outermost import say
from p33_pipeline.report.facts import HOUR_MS, Timeline, facts_of
from p33_pipeline.report.output import as_csv, as_json, write
from p33_pipeline.report.page import page
from p33_pipeline.report.picture import LEFT, RIGHT, WIDTH, thinned, timeline_svg
from p33_pipeline.report.report import Report
from tests.pipeline.told import BEGIN_MS, DAY_MS, HOSTILE, audit, bad, hostile, huge, quiet

LINK = re.compile(r"href=\"?([^\s\">]+)")
ANCHOR = re.compile(r"\sid=\"?([^\s\">]+)")


@pytest.fixture(scope="module")
def told() -> str:
    return page(bad()).decode()


def test_the_day_stands_in_one_sentence(told):
    """What is open, the dearest first, and how the gate was passed by."""
    assert bad().sentence == (
        "4 breaks in the accounts, 2 still open, the dearest BTCUSDT off by 0.01 (982.50 USDT) since 2026-01-25 06:06; "
        "2 orders or verdicts left the gate's path (bypass, plan without verdict); the sources had 1 flaw "
        "(323 verdicts, 288 allowed).")
    assert "2 still open, the dearest BTCUSDT off by 0.01" in told
    assert quiet().sentence.startswith("All three accounts agreed throughout")


def test_every_section_of_the_issue_is_there(told):
    """Open breaks by age and notional, timelines, flow, denials, freshness, all breaks, evidence."""
    for words in ("Open breaks", "up to 6 h", "up to 1 d", "Accounts over time", "<h3>BTCUSDT</h3>", "Flow: plan",
                  "executed 0.01 without an ALLOW", "Denials by reason", "reconcile_required_qty_mismatch", "Freshness",
                  "no good poll for 10.0 s", "All breaks", "Evidence", "771 772", "investigating · ada"):
        assert words in told, words
    assert told.count('class="shade"') == 3


def test_names_from_outside_stay_text(told):
    """A symbol is whatever a stream said it is."""
    assert HOSTILE not in told and "&lt;img/src=x/onerror=alert(1)&gt;" in told


@pytest.mark.parametrize("make", [quiet, bad, huge, hostile])
def test_no_link_is_dead_and_nothing_is_fetched(make):
    """Every link leads to an anchor of the same file."""
    text = page(make()).decode()
    anchors = set(ANCHOR.findall(text))
    links = {link for link in LINK.findall(text) if link != "data:,"}
    assert len(ANCHOR.findall(text)) == len(anchors), "an id stands twice"
    assert all(link.startswith("#") for link in links) and {link[1:] for link in links} <= anchors
    assert "src=" not in text.replace("img/src=x", "") and "url(" not in text and "http:" not in text


def test_seven_hundred_symbols_and_ten_thousand_breaks_stay_below_two_megabytes():
    """All breaks in the table, all symbols drawn."""
    text = page(huge()).decode()
    assert len(text.encode()) < 2_000_000
    assert len(re.findall(r"<tr[^>]*><td>", text.split("All breaks")[1].split("<h2>Evidence")[0])) == 10_000
    assert text.count("<h3>SYMBOL") == 700


def test_evidence_that_is_whole_does_not_call_itself_limited(told):
    """A break without any ids has none to leave out; one that closed by itself is not called open."""
    assert "dearest breaks; of all of them" not in told
    rows = told.split("<h2>All breaks")[1].split("<h2>")[0].splitlines()
    states = [row.rsplit("<td>", 1)[1] for row in rows if "<td>" in row]
    assert states == ["investigating · ada", "open", "closed", "closed"]


def test_a_hostile_day_stays_below_two_megabytes_and_says_what_it_leaves_out():
    """20,000 findings and 10,000 breaks with the longest names: what is shown of each, and where the rest is."""
    text = page(hostile()).decode()
    assert len(text.encode()) < 2_000_000
    for words in (r"The first [\d,]+ of 10,000; all are in the JSON",
                  r"The [\d,]+ dearest of 10,000; all are in the CSV",
                  r"Of the \d+ dearest breaks; of all of them in the JSON", r"The first \d+ of 700 symbols",
                  r"The 100 dearest; the others stand in the table of all breaks"):
        assert re.search(words, text), words


def test_a_thinned_line_keeps_its_peaks_and_its_end():
    """What is left out is between them."""
    steps = [(n, Decimal(n % 10)) for n in range(1_000)]
    steps[500] = (500, Decimal(99))
    kept = thinned(steps, 50)
    assert len(kept) <= 52 and (500, Decimal(99)) in kept and kept[-1] == steps[-1] and kept == sorted(kept)


def test_nothing_is_drawn_past_what_is_known():
    """At noon the afternoon is blank: lines and open breaks end where the archive does."""
    line = Timeline("BTCUSDT", ((BEGIN_MS, Decimal(1)),), ((BEGIN_MS, Decimal(2)),), ())
    noon_ms, end_ms = BEGIN_MS + DAY_MS // 2, BEGIN_MS + DAY_MS
    drawn = timeline_svg(line, [(BEGIN_MS, None)], from_ms=BEGIN_MS, to_ms=end_ms, until_ms=noon_ms, points=12)
    middle = LEFT + (WIDTH - LEFT - RIGHT) // 2
    assert re.findall(r'class="trace \w+" d="[^"]*H(\d+)"', drawn) == [str(middle)] * 2
    assert f"h{middle - LEFT}v" in drawn


def test_the_csv_has_every_break_exactly():
    """Amounts as they are; what a spreadsheet would run is text."""
    rows = list(csv.DictReader(io.StringIO(as_csv(bad()).decode())))
    assert [row["notional"] for row in rows] == ["982.504", "19.52", "3", "7"]
    assert (rows[0]["opened"], rows[0]["closed"]) == ("2026-01-25T06:06:40Z", "")
    assert (rows[0]["comment"], rows[0]["trade_ids"]) == ("'=closed by hand?", "771 772")
    assert len(list(csv.reader(io.StringIO(as_csv(huge()).decode())))) == 10_001


def test_the_json_is_the_contracts():
    """Names and nesting of chapter 8, amounts as numbers with their very digits."""
    raw = msgspec.json.encode(as_json(bad(), places={"html": "/x.html", "csv": "/x.csv", "json": "/x.json"}))
    said = msgspec.json.decode(raw)
    assert list(said) == ["from_ms", "to_ms", "summary", "breaks", "flow", "sources", "report"]
    assert list(said["breaks"][0]) == ["break_id", "class", "symbol", "opened_ms", "closed_ms", "max_difference",
                                       "notional", "state", "evidence"]
    assert list(said["breaks"][0]["evidence"]) == ["trade_ids", "order_ids", "plan_ids", "decision_ids"]
    assert list(said["flow"][0]) == ["finding", "symbol", "plan_id", "order_id", "at_ms", "detail"]
    assert list(said["sources"][0]) == ["finding", "at_ms", "detail"]
    assert b'"notional":982.504' in raw and said["breaks"][0]["state"] == "investigating"
    assert said["breaks"][1]["closed_ms"] is None and said["summary"]["errors"] == 1


def test_the_three_files_lie_where_it_says(history):
    """The same range again is the same files."""
    places = write(bad(), history)
    before = {kind: Path(place).read_bytes() for kind, place in places.items()}
    assert write(bad(), history) == places and all(Path(place).is_absolute() for place in places.values())
    assert before == {kind: Path(place).read_bytes() for kind, place in places.items()}
    assert msgspec.json.decode(before["json"])["report"] == places


def test_facts_come_from_the_archives_tables():
    """Accounts where they change, between two polls as well; denials by hour; the longest time without a good poll."""
    polls = [{"requested_at": BEGIN_MS + ms, "outcome": outcome, "positions": positions} for ms, outcome, positions in (
        (0, "ok", [{"symbol": "BTCUSDT", "position_amt": Decimal("0.038")}]), (5_000, "ok", [
            {"symbol": "BTCUSDT", "position_amt": Decimal("0.038")}]), (10_000, "timeout", []), (20_000, "ok", []))]
    decisions = [{"decided_at": BEGIN_MS + ms, "outcome": outcome, "reason": reason} for ms, outcome, reason in (
        (1_000, "ALLOW", None), (2_000, "DENY", "halted"), (HOUR_MS, "DENY", "halted"), (DAY_MS, "ALLOW", None))]
    trades = [{"symbol": "BTCUSDT", "trade_id": n, "side": side, "qty": Decimal(qty), "traded_at": BEGIN_MS + ms}
              for n, (ms, side, qty) in enumerate(((-1, "BUY", "9"), (7_000, "BUY", "0.1"), (8_000, "SELL", "0.04"),
                                                   (8_000, "SELL", "0.06"), (15_000, "SELL", "0.038")))]
    with duckdb.connect() as db:
        db.register("snapshots", _table("snapshots", polls))
        db.register("trades", _table("trades", trades))
        db.register("decisions", _table("decisions", decisions))
        found = facts_of(db, from_ms=BEGIN_MS, to_ms=BEGIN_MS + DAY_MS, until_ms=BEGIN_MS + 3 * HOUR_MS - 5,
                         symbols=["BTCUSDT", "ETHUSDT"],
                         ledger={"BTCUSDT": [_Step(BEGIN_MS - 9, Decimal(1)), _Step(BEGIN_MS + 7, Decimal(2))]},
                         redis={})
        later = facts_of(db, from_ms=BEGIN_MS + HOUR_MS, to_ms=BEGIN_MS + DAY_MS, until_ms=BEGIN_MS + 2 * HOUR_MS,
                         symbols=[], ledger={}, redis={})
    assert [hour.longest_gap_ms for hour in later.hours[:2]] == [2 * HOUR_MS - 20_000, None]
    bitcoin, ether = found.timelines
    assert bitcoin.exchange == ((BEGIN_MS, Decimal("0.038")), (BEGIN_MS + 7_000, Decimal("0.138")),
                                (BEGIN_MS + 8_000, Decimal("0.038")), (BEGIN_MS + 15_000, Decimal(0)))
    assert bitcoin.ledger == ((BEGIN_MS, Decimal(1)), (BEGIN_MS + 7, Decimal(2)))
    assert (ether.exchange, ether.ledger) == (((BEGIN_MS, Decimal(0)),), ())
    assert (found.allows, found.denials, len(found.hours)) == (1, [("halted", 2)], 24)
    assert (found.hours[0].good_polls, found.hours[0].failed_polls, found.hours[0].longest_gap_ms) == (
        3, 1, HOUR_MS - 20_000)
    assert [hour.longest_gap_ms for hour in found.hours[1:4]] == [2 * HOUR_MS - 20_000, 3 * HOUR_MS - 20_005, None]


def test_a_trade_while_a_poll_was_under_way_is_drawn_once():
    """The reply has it already, or the next one will: an amount that never was is not drawn."""
    held = [(0, 80, "0.038"), (5_000, 5_080, "0.010"), (10_000, 10_080, "0.010")]
    polls = [{"requested_at": BEGIN_MS + begun, "received_at": BEGIN_MS + ended, "outcome": "ok",
              "positions": [{"symbol": "BTCUSDT", "position_amt": Decimal(amt)}]} for begun, ended, amt in held]
    trade = {"symbol": "BTCUSDT", "trade_id": 1, "side": "SELL", "qty": Decimal("0.028"), "traded_at": BEGIN_MS + 5_020}
    with duckdb.connect() as db:
        for name, rows in (("snapshots", polls), ("trades", [trade]), ("decisions", [])):
            db.register(name, _table(name, rows))
        line, = facts_of(db, from_ms=BEGIN_MS, to_ms=BEGIN_MS + DAY_MS, until_ms=BEGIN_MS + DAY_MS,
                         symbols=["BTCUSDT"], ledger={}, redis={}).timelines
    assert line.exchange == ((BEGIN_MS, Decimal("0.038")), (BEGIN_MS + 5_000, Decimal("0.010")))


class _Step(msgspec.Struct):
    at_ms: int
    amt: Decimal


def _table(name: str, rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=TABLES[name].schema)


@pytest.mark.parametrize("days", [1, 14, 15, 33, 34, 400, 40_000])
def test_a_range_of_any_length_is_drawn_to_its_end_and_stays_small(days):
    """The last verdict and the last polls are in the picture, and nothing stands outside of it."""
    end_ms = BEGIN_MS + days * DAY_MS
    polls = [{"id": f"{at}-0", "at": at, "seq": 0, "outcome": "ok", "requested_at": at, "received_at": at + 80}
             for at in (end_ms - 60_000, end_ms - 20_000)]
    verdict = {"id": f"{end_ms - 9}-0", "at": end_ms - 9, "seq": 0, "outcome": "DENY", "reason": "halted",
               "decided_at": end_ms - 9}
    tables = {"snapshots": polls, "decisions": [verdict], "trades": []}
    with duckdb.connect() as db:
        for name, rows in tables.items():
            db.register(name, pa.Table.from_pylist(rows, schema=TABLES[name].schema))
        facts = facts_of(db, from_ms=BEGIN_MS, to_ms=end_ms, until_ms=end_ms, symbols=[], ledger={}, redis={})
    found = msgspec.structs.replace(audit(counts={"polls": 2}), to_ms=end_ms, until_ms=end_ms)
    text = page(Report(found, facts)).decode()
    bars = [(int(x), int(wide)) for x, wide in re.findall(r'class="bar" x="(\d+)" y="\d+" width="(\d+)"', text)]
    assert len(bars) == 2 and all(x + wide <= WIDTH for x, wide in bars) and len(text.encode()) < 2_000_000
    assert "1 denials: halted 1" in text and "40 s at most without a good poll; 2 good" in text


def test_a_terminal_gets_nothing_to_act_on(capsys):
    """A finding's detail quotes what came from outside."""
    found = msgspec.structs.replace(bad().audit.flow[0], detail="an \x1b[2J order")
    report = Report(audit(flow=[found]), quiet().facts)
    for line in summary(report, html="/r.html"):
        say(line)
    said = capsys.readouterr().out
    assert "an \\x1b[2J order" in said and "\x1b" not in said and said.endswith("Report: /r.html\n")
