"""What the documents say is so: generated tables, links, commands, and the fields that records really have."""

from __future__ import annotations

import importlib.util
import re
import shlex
import time
import tomllib
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from p33_sidecar.apply import results
from p33_sidecar.apply.intent import OrderIntent, Size
from p33_sidecar.cli import docs
from p33_sidecar.core.model import Plan
from p33_sidecar.core.reasons import Refusal
from p33_sidecar.exchange import OrderState
from p33_sidecar.gate import Gate
from p33_sidecar.store import keys
from tests.cli.conftest import KEY, Tool, environment, take, world_of
from tests.service.world import VENUE

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("name", sorted(docs.PAGES))
def test_generated_page_is_current(name: str) -> None:
    """docs/ is written from the tables in the code, and committed as written: `make docs`."""
    assert (docs.FOLDER / name).read_text(encoding="utf-8") == docs.PAGES[name]()


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as a forge makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_leads_somewhere(page: Path) -> None:
    """Files exist in this repository, anchors in their page."""
    dead = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", name):
            continue
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or not file.is_relative_to(ROOT) or (anchor and anchor not in anchors(file)):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_page_is_reached_from_the_readme(page: Path) -> None:
    """A page that nobody links to is read by nobody."""
    reached, new = set(), {ROOT / "README.md"}
    while new:
        reached |= new
        linked = {(p.parent / t.partition("#")[0]).resolve() for p in new if p.suffix == ".md" for t in LINK.findall(
            p.read_text(encoding="utf-8")) if t.partition("#")[0] and not re.match(r"[a-z]+:", t)}
        folders = {file for folder in linked if folder.is_dir() for file in folder.glob("*.md")}
        new = {file for file in linked | folders if file.is_file()} - reached
    assert page.resolve() in reached, f"README.md leads nobody to {page.name}: link it"


PIPELINES = {"proof", "breaks", "rotate-key"}
"""Commands of the contract that come with the pipeline."""


def told(page: Path, pattern: str) -> set[str]:
    return set(re.findall(pattern, page.read_text(encoding="utf-8")))


def test_every_command_that_is_written_down_exists() -> None:
    """`make` targets, console scripts, subcommands of p33, and modules run with -m."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    scripts = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])
    listed = set(re.findall(r"^ {2}([a-z][a-z-]+) ", Tool()("--help").out, re.MULTILINE))
    ledgers = set(re.findall(r"^ {2}([a-z][a-z-]+) ", Tool()("ledger", "--help").out, re.MULTILINE))
    assert {"status", "explain", "ledger"} <= listed and "adopt" in ledgers
    for page in PAGES:
        assert told(page, r"(?:^    |`)make ([a-z-]+)") <= targets, page
        assert told(page, r"\.venv/bin/(p33[a-z-]*)") <= scripts, page
        assert told(page, r"`p33 ledger ([a-z-]+)") <= ledgers, page
        assert told(page, r"(?:\.venv/bin/|`)p33 ([a-z][a-z-]+)") <= listed | PIPELINES, page
        assert all(importlib.util.find_spec(name) for name in told(page, r"python -m (p33_[\w.]+)")), page


def test_the_example_of_an_apply_layer_runs(redis_url: str) -> None:
    """The dozen lines of docs/apply-layer.md, on a real permit: taken and sent once, then refused by name."""
    world, sent = world_of(redis_url).open_books(), []
    assert world.ask(plan_id="a") == "ALLOW 0.028"
    world.redis.set(keys.governor_permit("a"), '{"granted":true}')
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "apply-layer.md").read_text(), re.DOTALL)
    assert '"redis://localhost:6379/0"' in example
    given = {"KEY": KEY.encode(), "plan_id": "a", "symbol": "BTCUSDT", "stream_id": "0-1", "block": sent.append,
             "send": lambda **order: sent.append(order)}
    for _ in range(2):
        exec(example.replace("redis://localhost:6379/0", redis_url), given)
    world.close()
    assert (sent[0]["side"], sent[0]["quantity"], sent[0]["reduce_only"]) == ("SELL", "0.028", True)
    assert sent[1:] == ["already_consumed"]


RESULT_ROW = re.compile(r"^\| [^|]+ \| `(\w+)` \| `(True|False)` \| (\S+) \| `status` `?(\w+)", re.MULTILINE)


def test_the_result_of_an_apply_layer_is_booked(redis_url: str) -> None:
    """The command of docs/apply-layer.md, word by word: the fill of a permit that was taken moves the book."""
    world, plan_id = world_of(redis_url).open_books(), "f1a8d7f48713d5cf"
    assert world.ask(plan_id=plan_id) == "ALLOW 0.028"
    take(world, redis_url, plan_id)
    (block,) = re.findall(r"```sh result\n(.*?)```", (ROOT / "docs" / "apply-layer.md").read_text(), re.DOTALL)
    program, *words = shlex.split(block.replace("\\\n", "").replace("$(date +%s)", str(int(time.time()))))
    assert program == "redis-cli"
    world.redis.execute_command(*words)
    world.book()
    assert world.redis.hget(keys.ledger("BTCUSDT"), "last_known_amt") == "0.01"
    assert not world.redis.hgetall(keys.UNSETTLED)
    world.close()


def test_the_results_of_an_apply_layer_are_those_of_ours() -> None:
    """The table of docs/apply-layer.md against what p33-apply writes: decision, executed, error, the step's status."""
    plan, filled = Plan("a", "BTCUSDT", "PARTIAL_75", 1, {}), Decimal("0.028")
    intent = OrderIntent("a", "BTCUSDT", "SELL", "0.028", "p33-a", plan.action, "1-1", 2, "test")
    state = OrderState("BTCUSDT", "1", "p33-a", "FILLED", "SELL", filled, True, True, True, 1)
    open_one = msgspec.structs.replace(state, status="NEW", executed_qty=Decimal(0), terminal=False)
    outcomes = (results.became(state), results.became(open_one), results.Outcome(None, results.REJECTED, "-2022"),
                results.not_sent("too late"))
    written = [results.of_order(intent, outcome, now_ms=1) for outcome in outcomes]
    written += [results.blocked(plan, refusal, error=results.error_of(refusal), now_ms=1) for refusal in Refusal]
    ours = {(fields["decision"], fields["executed"], fields["error"] or "–",
             msgspec.json.decode(fields["steps_results"])[0]["status"].replace("NEW", "as")) for fields in written}
    rows = RESULT_ROW.findall((ROOT / "docs" / "apply-layer.md").read_text(encoding="utf-8"))
    assert {tuple(cell.strip("`") for cell in row) for row in rows} == ours


def test_a_dry_run_beside_another_apply_layer_ends_its_permit(redis_url: str) -> None:
    """Why docs/apply-layer.md says `yours or ours`: whatever answers the plan ends the permit that is open for it."""
    world = world_of(redis_url).open_books()
    assert world.ask(plan_id="a") == "ALLOW 0.028"
    world.redis.set(keys.governor_permit("a"), '{"granted":true}')
    said = results.would_execute(Plan("a", "BTCUSDT", "PARTIAL_75", 1, {}), Size("SELL", Decimal("0.028")),
                                 now_ms=world.clock.now_ms())
    world.redis.xadd("quantum:apply.result", said)
    world.book()
    gate = Gate(redis_url, key=(KEY.encode(),), venue=VENUE)
    refused = gate.take("a", "BTCUSDT", entry_ms=0, wait_ms=0)
    gate.close()
    world.close()
    assert refused.named == "withdrawn"


def documented() -> dict[str, set[str]]:
    """Stream -> the fields of its JSON, as docs/records.md lists them in the first column."""
    text = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
    found = {}
    for stream, body in re.findall(r"^## (\S+)$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL):
        cells = re.findall(r"^\| (`[^|]*`) \|", body, re.MULTILINE)
        found[stream] = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    return found


def test_records_carry_the_fields_that_are_documented(redis_url: str) -> None:
    """Every field that the loops write is on the page, and every field on the page is written (events: every kind)."""
    world, tool = world_of(redis_url).open_books(), Tool(**environment(redis_url))
    world.ask(plan_id="a")
    take(world, redis_url, "a")
    world.result("a")
    world.redis.xadd("quantum:apply.plan", {"decision": "EXECUTE"})
    world.decide()
    world.book()
    for args in (("halt",), ("resume",)):
        tool(*args)
    world.exchange.failure = "timeout"
    world.poll()
    pages = documented()
    assert set(pages) == set(keys.RECORD_STREAMS)
    for stream in keys.RECORD_STREAMS:
        records = world.records(stream)
        assert records and all(record["v"] == 1 for record in records)
        if stream == keys.EVENTS:
            assert {record["kind"] for record in records} <= pages[stream]
            continue
        written = {name for record in records for name in record} - {"v"}
        rare = {"bad_rows", "older_rows", "missing_rows"} if stream == keys.SNAPSHOTS else set()
        assert written - pages[stream] == set(), f"docs/records.md lacks fields of {stream}"
        assert pages[stream] - written - rare == set(), f"docs/records.md has fields that {stream} has not"
    world.close()
