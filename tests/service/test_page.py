"""The page for people, in a real browser: what it says, what it never runs, what it shows when nobody answers."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import pytest

from p33_sidecar.core.reasons import Reason
from p33_sidecar.service import http
from p33_sidecar.service.http import Health, routes, serve
from p33_sidecar.service.memory import Verdict
from p33_sidecar.service.status import status
from tests.service.browser import CHROMIUM, Browser, Tab
from tests.service.pictured import (
    HOSTILE_PLAN,
    HOSTILE_SYMBOL,
    NOW_MS,
    StoppedClock,
    busy_memory,
    empty_memory,
    hold,
    ready_memory,
)
from tests.tools import needed

pytestmark = pytest.mark.chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    needed(*CHROMIUM)
    running = Browser(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


class Page:
    """A served memory, and the tab that shows it."""

    def __init__(self, tab: Tab) -> None:
        self.tab, self.clock, self.memory = tab, StoppedClock(), ready_memory()
        self.warnings: list[str] = []
        self.broken = False
        self.server = serve("127.0.0.1", 0, routes(
            self.memory, self.clock, render=lambda: b"", status=self.status,
            health=Health(self.memory, self.clock, limits_ms={})))

    def status(self):
        if self.broken:
            raise ConnectionError("gone")
        return status(self.memory, self.clock, warnings=self.warnings)

    def open(self) -> str:
        """What can be read once the first answer is shown."""
        self.tab.open(f"http://127.0.0.1:{self.server.port}/")
        self.tab.wait("document.getElementById('venue')?.textContent === 'demo-fapi.binance.com'")
        return self.tab.text()

    def close(self) -> None:
        self.tab.close()
        self.server.close()


@pytest.fixture
def page(browser, monkeypatch) -> Iterator[Page]:
    monkeypatch.setattr(http, "SHARED_S", 0.0)
    monkeypatch.setattr(http, "REAP_EVERY_S", 0.02)
    built = Page(browser.tab())
    built.tab.screen(width=1280)
    yield built
    built.close()


def test_it_says_in_one_sentence_that_all_is_well(page):
    """Ready, and nothing in the browser's console: the policy of the server allows what the page does."""
    text = page.open()
    assert "✓ Ready: a plan can be allowed; no open position." in text
    assert page.tab.run("document.title") == "✓ p33 demo-fapi.binance.com"
    assert page.tab.complaints() == []


def test_it_says_why_nothing_can_be_allowed(page):
    """Each reason with its meaning and remedy."""
    page.memory = empty_memory()
    text = page.open()
    assert "✕ Not ready: no plan can be allowed. The books have not been read" in text
    assert "And 3 other reasons." in text
    assert Reason.STALE_EXCHANGE_STATE.remedy in text


def test_the_three_accounts_and_what_differs(page):
    """Differences are said in words and signs, not by colour alone; what is fine and flat is folded away."""
    page.memory = busy_memory()
    text = page.open()
    assert "≠ Ready, but 2 symbols do not add up; plans for them are denied." in text
    assert "SOLUSDT -12.5 SHORT 3.2 s old PnL 9.51" in text
    assert "-12 SHORT rev 7, opening, 40 s ago ≠ QUANTITY off by -0.5 mismatch open for 12 min free step 0.1" in text
    assert "币安人生USDT 1 LONG ! stale: 14 s old" in text and "≠ SIDE off by 2" in text
    assert "permit open for f1a8d7f48713d5cf" in text and "open, 42 s left" in text
    assert "! hedge mode: legs, not netted" in text and "? not known" in text and "? no book" in text
    assert "25 flat symbols" in text and "FLAT00USDT" not in text


def test_flat_symbols_unfold(page):
    """One click shows them, each with its age."""
    page.memory = busy_memory()
    page.open()
    page.tab.run("document.querySelector('summary').click()")
    page.tab.wait("document.body.innerText.includes('FLAT23USDT 0, 3.2 s old')")


def test_verdicts_carry_their_reason_in_words(page):
    """ALLOW with its quantity, DENY with meaning and remedy, both with their latency."""
    page.memory = busy_memory()
    text = page.open()
    assert "f1a8d7f48713d5cf BTCUSDT PARTIAL_75 ✓ ALLOW 0.028 3 ms" in text
    reason = Reason.RECONCILE_REQUIRED_QTY_MISMATCH
    assert f"q2 SOLUSDT CLOSE_FULL ✕ DENY {reason} {reason.meaning} → {reason.remedy} 1 ms" in text


def test_halts_bans_and_warnings_stand_on_top(page):
    """Who, why, until when."""
    page.memory.halts = {"": {"by": "ops@desk", "reason": "drill", "since_ms": NOW_MS - 60_000, "until_ms": None}}
    page.memory.ban_until_ms = NOW_MS + 90_000
    page.warnings = ["Permits are not signed: P33_PERMIT_KEY is not set."]
    text = page.open()
    assert "✕ Not ready: no plan can be allowed. Everything is halted." in text
    assert "Halted: everything by ops@desk: drill since 00:29:10 UTC, until somebody resumes it (p33 resume)" in text
    assert "Banned by the exchange until 00:31:40 UTC (90 s to go)" in text
    assert "Permits are not signed" in text


def test_a_time_of_another_day_is_shown_with_its_day(page):
    """A halt for two days ends the day after tomorrow, not within the hour; a gap may be from last week."""
    page.memory.halts = {"BTCUSDT": {"by": "ops", "since_ms": NOW_MS - 86_400_000, "until_ms": NOW_MS + 172_800_000}}
    page.memory.gap_ms = NOW_MS - 7 * 86_400_000
    text = page.open()
    assert "since 2026-01-24 00:30:10 UTC, until 2026-01-27 00:30:10 UTC" in text
    assert "Results were missing from their stream at 2026-01-18 00:30:10 UTC" in text


def test_a_time_that_is_none_does_not_take_the_page_away(page):
    """A ban that somebody set to the end of all days is shown, and everything else with it."""
    page.memory.ban_until_ms = 10**17
    text = page.open()
    assert "Banned by the exchange until a time that is none" in text
    assert "No answer from the sidecar" not in text


def test_a_name_that_holds_markup_stays_a_name(page):
    """Plan ids, symbols and an operator's words come from outside: they are shown, never run."""
    page.memory = busy_memory()
    page.memory.halts = {"BTCUSDT": {"by": HOSTILE_PLAN, "reason": HOSTILE_SYMBOL}}
    page.warnings = [HOSTILE_PLAN]
    text = page.open()
    assert text.count(HOSTILE_PLAN) == 3 and HOSTILE_SYMBOL in text
    assert page.tab.run("document.querySelectorAll('img, script').length") == 1
    assert "XSS" not in page.tab.run("document.title")
    assert page.tab.complaints() == []


def test_the_server_s_policy_stops_what_the_page_does_not_hold(page):
    """Were markup ever to get in, the browser would still refuse to run it."""
    page.open()
    page.tab.run("const late = document.createElement('script'); late.textContent = 'document.title = \"XSS\"';"
                 "document.body.append(late)")
    page.tab.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title = 1\">')")
    assert "✓ p33" in page.tab.run("document.title")
    assert [c for c in page.tab.complaints() if "Content Security Policy" in c]


def test_the_page_brings_everything_itself():
    """No outside resource, no inline handler, and no way for text to become markup."""
    policy, markup = dict(http.HEADERS)["Content-Security-Policy"], http.PAGE.decode()
    assert "unsafe" not in policy and "default-src 'none'" in policy
    assert len(re.findall("'sha256-[A-Za-z0-9+/]{43}='", policy)) == 2
    assert not re.search(r"\son\w+=|\sstyle=|innerHTML|insertAdjacentHTML|document\.write|eval\(", markup)
    assert not re.search(r"(src|href)=\"(?!data:,|/status\.json)", markup)


def test_it_updates_by_itself(page):
    """What changes while the page is open is seen without a reload."""
    page.memory.halts = {"": {"by": "ops"}}
    assert "Halted: everything" in page.open()
    page.memory.halts = {}
    page.tab.wait("document.getElementById('state').textContent.startsWith('✓ Ready')")
    assert "Halted" not in page.tab.text()


def test_what_did_not_change_is_left_alone(page):
    """A row keeps its element from one update to the next: a selection and a reader's place survive."""
    page.memory = busy_memory()
    page.open()
    page.tab.run("window.first = document.querySelector('#positions tbody tr'); window.said = first.innerText")
    page.clock.pass_ms(1_000)
    page.tab.wait("document.querySelector('#positions tbody tr').innerText !== window.said")
    assert page.tab.run("document.querySelector('#positions tbody tr') === window.first")


def test_silence_is_shown_and_so_is_its_end(page):
    """When answers stop, the old numbers stay, greyed, and the page says since when; then it recovers."""
    page.memory = busy_memory()
    page.open()
    page.broken = True
    page.tab.wait("document.body.classList.contains('silent')")
    assert re.search(r"\? No answer from the sidecar since \d\d:\d\d:\d\d UTC \(HTTP 500\)", page.tab.text())
    assert "-12.5 SHORT" in page.tab.text()
    assert page.tab.run("getComputedStyle(document.querySelector('main')).filter") == "grayscale(1)"
    page.broken = False
    page.tab.wait("!document.body.classList.contains('silent')")
    assert "No answer" not in page.tab.text()


def test_a_server_that_is_gone_is_silence_too(page):
    """Not only an error: nobody there at all."""
    page.open()
    page.server.close()
    page.tab.wait("document.getElementById('state').textContent.includes('not reachable')")
    assert page.tab.run("document.title") == "? p33 does not answer"


def test_tables_can_be_read_without_eyes(page):
    """Headers have a scope, rows a name, cells a label for the narrow layout, the state a polite live region."""
    page.memory = busy_memory()
    page.open()
    how_many = "document.querySelectorAll({!r}).length".format
    assert page.tab.run("document.documentElement.lang") == "en"
    assert page.tab.run(how_many("#state[role=status][aria-live=polite]")) == 1
    assert page.tab.run(how_many("thead th[scope=col]")) == 12
    assert page.tab.run(how_many("tbody tr")) == page.tab.run(how_many("tbody th[scope=row]")) == 10
    assert page.tab.run(how_many("tbody td:not([data-label])")) == 0


COLOURS = re.compile(r"--([a-z-]+): (#[0-9a-f]{6})")


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_colour_of_text_can_be_read(theme):
    """WCAG AA: 4.5 to 1 for text on each ground it stands on, in both themes."""
    style = http.PAGE.decode().split(":root {")[1:3][theme].split("}")[0]
    colour = dict(COLOURS.findall(style))
    for ink in ("ink", "quiet", "good", "bad", "warn"):
        for ground in ("paper", "panel", *([f"{ink}-bg"] if f"{ink}-bg" in colour else [])):
            assert contrast(colour[ink], colour[ground]) >= 4.5, (ink, ground)


def contrast(one: str, other: str) -> float:
    """The WCAG 2.2 contrast ratio of two colours."""
    def luminance(colour: str) -> float:
        parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1280, False), (1280, True)])
def test_it_fits_the_screen_and_the_night(page, width, dark):
    """On a phone nothing has to be scrolled sideways; in the dark the ground is dark."""
    page.memory = busy_memory()
    page.tab.screen(width=width, dark=dark)
    page.open()
    assert page.tab.run("document.documentElement.scrollWidth") == width
    ground = page.tab.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == dark
    assert struct.unpack(">II", page.tab.picture()[16:24]) == (width, 1600)


WRAPPED = """[...document.querySelectorAll('.mono.whole')].filter((one) => {
  const text = document.createRange();
  text.selectNodeContents(one);
  return one.textContent.length <= 20 && new Set([...text.getClientRects()].map((r) => r.top)).size > 1;
}).map((one) => one.textContent)"""


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_a_symbol_is_never_broken_over_two_lines(page, width):
    """On any screen the other columns make room, also for the longest names that the exchange has."""
    page.memory = busy_memory()
    hold(page.memory, "1000000MOGUSDT", "-1234567.5", "-1234567")
    hold(page.memory, "LINKUSDT", "10.5", "10")
    page.memory.verdicts.appendleft(Verdict(
        NOW_MS, "f1a8d7f48713d5cf" * 4, "LINKUSDT", "FULL_CLOSE_PROPOSED", False, "reconcile_required_qty_mismatch",
        "", 1))
    page.tab.screen(width=width)
    page.open()
    assert page.tab.run("document.querySelectorAll('.mono.whole').length") >= 10
    assert page.tab.run(WRAPPED) == []
    assert page.tab.run("document.documentElement.scrollWidth") == width
