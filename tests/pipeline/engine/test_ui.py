"""The Dagster UI in a real browser, on a day in which everything that can go wrong did.

Pictures of what was asserted are kept in the folder that ARTEFACTS names, else in `artefacts/`.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p33_pipeline.audit.findings import CLASSES, FLOW
from p33_pipeline.generator.__main__ import START_MS
from p33_pipeline.generator.deeds import DEEDS
from p33_pipeline.generator.story import Story, tell
from p33_pipeline.generator.writing import write
from p33_pipeline.history import History, place_at
from p33_pipeline.partitions import day_key
from p33_pipeline.serve import prepared
from tests.pipeline.engine.webserver import ROOT, WebServer
from tests.service.browser import CHROMIUM, Browser, Tab
from tests.tools import needed

pytestmark = pytest.mark.chromium

ARTEFACTS = Path(os.environ.get("ARTEFACTS") or ROOT / "artefacts")
WIDTH, HEIGHT = 1600, 1500
GRAPH = "/asset-groups?expanded=" + ",".join(f"global@global:{g}" for g in ("archive", "audit", "report", "tuning"))
PLACE = """(name => { const found = [...document.querySelectorAll('*')].filter(e => e.children.length === 0 &&
  e.textContent === name && e.getBoundingClientRect().x > 500); return found.length ?
  found[0].getBoundingClientRect().x : null })"""
"""The x of an asset's box in the graph; the tree of groups stands to the left of it."""

SHOWN = """(e => { for (; e; e = e.parentElement) { if (getComputedStyle(e).opacity !== '1') return false }
  return true })"""
"""No ancestor is still on its way to be seen."""


class Page:
    """The UI in a tab; every picture is kept after what it shows was found in the page."""

    def __init__(self, tab: Tab, url: str) -> None:
        self.tab, self.url = tab, url
        tab.screen(width=WIDTH, height=HEIGHT)

    def open(self, path: str, *words: str) -> None:
        self.tab.open(self.url + path)
        self.wait(*words)

    def wait(self, *words: str) -> None:
        for word in words:
            self.tab.wait("!!document.body && document.body.innerText.replaceAll('\\u00a0', ' ')"
                          f".includes({json.dumps(word)})", patience_s=180)

    def drawn(self, alt: str, *, at_least: int) -> None:
        """An image of ours is decoded, of its own size, and faded in."""
        self.tab.wait(f"[...document.images].some(i => i.alt === {json.dumps(alt)} && i.complete && "
                      f"i.naturalWidth >= {at_least} && {SHOWN}(i))", patience_s=180)

    def keep(self, name: str) -> None:
        picture = self.tab.picture()
        assert struct.unpack(">II", picture[16:24]) == (WIDTH, HEIGHT) and len(picture) > 20_000, "an empty page"
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        (ARTEFACTS / f"{name}.png").write_bytes(picture)


@pytest.fixture(scope="module")
def day() -> Story:
    """A day of every deed, and what is to be found of it."""
    return tell(1, deeds=DEEDS, start_ms=START_MS)


@pytest.fixture(scope="module")
def ui(day: Story, tmp_path_factory) -> Iterator[str]:
    """The UI's address, over an instance on which the day was audited and reported as `make dagster` does it."""
    needed(*CHROMIUM)
    folder = tmp_path_factory.mktemp("ui")
    history, home = folder / "history", folder / "home"
    write(day, History(place_at(str(history))))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "P33_", "BINANCE"))}
    env = prepared(home, clean | {"P33_HISTORY_URL": str(history), "PYTHONPATH": str(ROOT)})
    done = subprocess.run([sys.executable, "-m", "p33_pipeline.closing", str(history), str(home), day_key(START_MS)],
                          env=env, cwd=ROOT, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-3000:]
    with WebServer(env, folder / "web.log") as server:
        yield server.url


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    running = Browser(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture
def page(ui: str, browser: Browser) -> Iterator[Page]:
    tab = browser.tab()
    yield Page(tab, ui)
    tab.close()


def test_the_asset_graph_reads_from_left_to_right(page):
    """Archive, audit, report, tuning; every asset has its box."""
    path = ("stream_archive", "day_audit", "mismatch_report", "threshold_review")
    page.open(GRAPH, *path, "hour_audit", "compacted_history")
    for name in path:
        page.tab.wait(f"{PLACE}({json.dumps(name)}) !== null")
    places = [page.tab.run(f"{PLACE}({json.dumps(name)})") for name in path]
    assert places == sorted(places) and len(set(places)) == 4
    page.keep("dagster-asset-graph")


def planted(day: Story, kinds: tuple[str, ...]) -> int:
    return sum(deed.finding in kinds for deed in day.truth)


def test_an_audits_metadata_stands_open_with_its_picture(page, day):
    """What was found in figures, the breaks drawn by symbol, the dearest in a table: nothing behind a link."""
    page.open("/assets/day_audit", f"{planted(day, CLASSES)} breaks, {planted(day, FLOW)} flow findings, ",
              "source findings.", "breaks_by_symbol", "01‑25 01:05", "more stand in the report.", "trading-ops")
    page.drawn("breaks by symbol", at_least=400)
    assert "Show Markdown" not in page.tab.text()
    page.keep("dagster-audit")


def test_a_reports_metadata_has_the_sentence_and_the_accounts_drawn(page, day):
    """The small pictures stand in the table, the large one opens."""
    page.open("/assets/mismatch_report", f"{planted(day, CLASSES)} breaks in the accounts, all of them closed again",
              "picture_of_accounts")
    page.drawn("breaks by symbol", at_least=400)
    page.drawn("denials by hour", at_least=400)
    page.keep("dagster-report")
    page.tab.run("[...document.querySelectorAll('*')].filter(e => e.children.length === 0 && "
                 "e.textContent.includes('Show Markdown')).at(-1).click()")
    page.drawn("accounts of S1N0USDT", at_least=900)
    page.keep("dagster-report-accounts")


def test_a_failed_check_says_what_was_found(page):
    """The bypass, as an error, with the order's plan and what was wrong with it."""
    page.open("/assets/day_audit?view=checks&checkDetail=gate_was_not_bypassed", "gate_was_not_bypassed",
              "Every executed order had an ALLOW.", "Failed", "executed without a verdict")
    page.keep("dagster-failed-check")


def test_everything_comes_from_loopback(page):
    """Not a font, not a picture, not a question from elsewhere."""
    page.open("/assets/day_audit", "breaks_by_symbol")
    loaded = page.tab.run("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert len(loaded) > 5
    assert [name for name in loaded if not name.startswith((page.url, "data:", "blob:"))] == []
