"""The review: truth in hindsight, every policy judged, and a recommendation only where the data carry one."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from p33_pipeline.review import cases, changes, stretches
from p33_pipeline.review import page as pages
from p33_pipeline.review.review import Parameters, review
from p33_sidecar.core.model import Policy
from tests.pipeline.hindsight import BEGIN_MS, HELD, History, Trade, planted

POLICY = Policy()


def reviewed(history: History, **turned):
    """The review of a whole history."""
    return review(history.tables(), from_ms=BEGIN_MS, to_ms=history.end_ms, fallback=POLICY,
                  parameters=Parameters(**turned))


@pytest.mark.parametrize(("seed", "stale_ms", "cooldown_ms", "tolerance_pct"), [
    (1, 7_000, 9_000, Decimal("0.5")), (2, 12_000, 15_000, Decimal(1)), (3, 4_000, 22_500, Decimal("1.5")),
    (4, 10_000, 12_000, Decimal("0.25")), (5, 10_000, 15_000, Decimal("0.1")),
])
def test_it_recovers_the_thresholds_that_planted_truth_makes_best(seed, stale_ms, cooldown_ms, tolerance_pct):
    """Exactly these part the harmless verdicts from the harmful ones."""
    history = planted(seed, policy=POLICY, stale_ms=stale_ms, cooldown_ms=cooldown_ms, tolerance_pct=tolerance_pct)
    found = reviewed(history, poll_ms=(5_000,))
    wanted = replace(POLICY, stale_threshold_ms=min(stale_ms, 10_000), cooldown_ms=cooldown_ms,
                     qty_tolerance_pct=tolerance_pct)
    if stale_ms > 10_000:  # three polls of 5 s: looser than the present 10 s and not yet loosened
        wanted = replace(wanted, stale_threshold_ms=stale_ms)
    assert found.judged == found.verdicts == len(history.records)
    assert (found.recommended.policy, found.why_not) == (wanted, None)
    assert (found.best.wrong_allows, found.best.wrong_denials) == (0, 0)
    assert f"+P33_COOLDOWN_SEC={Decimal(cooldown_ms) / 1000:f}" in found.env_diff or cooldown_ms == 15_000


def test_the_present_policy_stays_where_none_is_better():
    """And it is said so, with the number of policies that were tried."""
    history = planted(6, policy=POLICY, stale_ms=10_000, cooldown_ms=15_000, tolerance_pct=Decimal(1))
    found = reviewed(history)
    assert found.recommended is None and found.env_diff == "" and found.flips == ()
    assert f"none of the {found.grid.size} policies" in found.why_not
    assert (found.current.wrong_allows, found.current.wrong_denials) == (0, 0)


def test_too_little_data_is_said_instead_of_a_recommendation():
    """However clear the few cases look."""
    few = planted(7, policy=POLICY, stale_ms=4_000, cooldown_ms=9_000, tolerance_pct=Decimal("0.5"), verdicts=60)
    assert "too little data: 60 verdicts" in reviewed(few).why_not
    soon = planted(8, policy=POLICY, stale_ms=4_000, cooldown_ms=9_000, tolerance_pct=Decimal("0.5"), hours=3)
    assert "fall into 3 hours" in reviewed(soon).why_not
    assert reviewed(soon).recommended is None and reviewed(soon).env_diff == ""


def test_a_gain_that_may_be_chance_is_not_recommended():
    """One wrong denial in 480 verdicts is no evidence."""
    history = History(policy=POLICY, hours=8)
    for number in range(480):
        history.verdict(BEGIN_MS + 60_000 + number * 59_000, age_ms=11_000 if number == 99 else 1_000)
    found = reviewed(history)
    assert "may owe it to chance" in found.why_not and found.recommended is None


def test_an_empty_range_is_no_failure():
    """No verdicts: nothing judged, and the sentence says so."""
    found = reviewed(History(policy=POLICY, hours=1))
    assert (found.verdicts, found.judged, found.recommended) == (0, 0, None)
    assert "too little data: 0 verdicts" in found.why_not


def test_flips_name_each_verdict_that_would_change_and_whether_rightly():
    """Both directions: a wrong allow denied, a wrong denial allowed."""
    history = planted(9, policy=POLICY, stale_ms=7_000, cooldown_ms=9_000, tolerance_pct=Decimal(1))
    flips = reviewed(history, poll_ms=(5_000,)).flips
    assert {(f.was, f.becomes, f.right) for f in flips} == {("ALLOW", "DENY", True), ("DENY", "ALLOW", True)}
    now = reviewed(history, poll_ms=(5_000,))
    assert len(flips) == now.current.wrong_allows + now.current.wrong_denials > 20
    assert sum(f.wrong_cents for f in flips if f.becomes == "DENY") == now.current.wrong_cents > 0


@pytest.mark.parametrize("rows", [5, 50])
def test_however_it_is_cut_a_range_has_one_review(monkeypatch, rows):
    """Stretches share what was judged, and each begins and ends between verdicts of any symbol."""
    history = planted(10, policy=POLICY, stale_ms=7_000, cooldown_ms=9_000, tolerance_pct=Decimal("0.5"))
    whole = reviewed(history, poll_ms=(5_000, 10_000))
    monkeypatch.setattr(stretches, "ROWS", rows)
    monkeypatch.setattr(cases, "BATCH_ROWS", 13 * rows)
    assert reviewed(history, poll_ms=(5_000, 10_000)) == whole
    assert whole.recommended is not None and whole.flips and whole.losses


def test_of_more_flips_than_are_kept_the_number_is_told(monkeypatch):
    """On the page, which claims no more for the JSON than stands in it."""
    history = planted(9, policy=POLICY, stale_ms=4_000, cooldown_ms=15_000, tolerance_pct=Decimal(1))
    whole = reviewed(history, poll_ms=(5_000,))
    assert whole.recommended and len(whole.flips) == whole.flips_in_all > 4
    monkeypatch.setattr(changes, "FLIPS_KEPT", 3)
    few = reviewed(history, poll_ms=(5_000,))
    assert few.flips == whole.flips[:3] and few.flips_in_all == whole.flips_in_all
    monkeypatch.setattr(pages, "FLIPS_SHOWN", 2)
    said = f"{whole.flips_in_all} verdicts, the first 2 shown; "
    assert said + "the first 3 are in the JSON" in pages.page(few).decode()
    assert said + "all are in the JSON" in pages.page(whole).decode()


def test_how_wrong_an_allow_was_is_told_in_money():
    """0.3 closed where 0.15 might have been: 0.15 of 100,000 USDT too much."""
    history = History(policy=POLICY, hours=1)
    history.verdict(BEGIN_MS + 600_000, age_ms=4_000, sold_by_hand=True)
    history.verdict(BEGIN_MS + 900_000, age_ms=4_000)
    found = reviewed(history)
    assert (found.current.wrong_allows, found.current.right_allows, found.current.wrong_cents) == (1, 1, 1_500_000)


def test_the_weight_of_a_wrong_allow_turns_the_choice():
    """By default it outweighs everything; at weight 1 two wrong denials are dearer than one wrong allow."""
    history = History(policy=POLICY, hours=8)
    for number in range(480):
        late = number % 2
        history.verdict(BEGIN_MS + 60_000 + number * 59_000, age_ms=11_000 + (number % 100) if late else 1_000,
                        sold_by_hand=number % 10 == 1)
    wide = {"stale_ms": (9_000, 10_000, 12_000), "poll_ms": (5_000,)}
    assert reviewed(history, **wide).best.policy.stale_threshold_ms == 10_000
    cheap = reviewed(history, weight=1, **wide)
    assert cheap.recommended.policy.stale_threshold_ms == 12_000 and cheap.interval.weight == 1


def test_time_lost_is_told_by_symbol_and_reason():
    """From a wrong denial until the symbol was looked at again, at most the plan's greatest age."""
    history = History(policy=POLICY, hours=1)
    history.verdict(BEGIN_MS + 100_000, age_ms=11_000)
    history.verdict(BEGIN_MS + 107_500, order_age_ms=2_000)
    history.verdict(BEGIN_MS + 900_000)
    losses = {loss.reason: loss for loss in reviewed(history).losses}
    assert losses["stale_exchange_state"].lost_ms == 7_500
    assert losses["cooldown_in_flight"].lost_ms == POLICY.plan_max_age_ms
    assert {loss.symbol for loss in losses.values()} == {"BTCUSDT"}


def test_a_longer_poll_interval_is_judged_by_leaving_polls_out():
    """With every second poll gone the same snapshots are up to 5 s older: more denials, and a sale goes unseen."""
    history = History(policy=replace(POLICY, stale_threshold_ms=7_000), hours=8)
    for number in range(480):
        history.verdict(BEGIN_MS + 60_000 + number * 55_000 + 4_500, age_ms=4_500)
    found = reviewed(history, poll_ms=(5_000, 10_000), stale_ms=(7_000, 10_000))
    twice = next(o for o in found.frontier if o.policy.poll_ms == 5_000)
    assert (twice.wrong_denials, found.current.wrong_denials) == (0, 0)
    halved = reviewed(history, poll_ms=(5_000, 10_000), stale_ms=(7_000,))
    assert (0, 240) in halved.cloud, "half of the verdicts would have met a snapshot of 9.5 s"


def test_a_verdict_between_snapshots_that_no_trade_explains_is_not_judged():
    """The account changed and nobody knows when: no truth, no judgement."""
    history = History(policy=POLICY, hours=1)
    for minute in (10, 20, 30):
        history.verdict(BEGIN_MS + minute * 60_000 + 2_000)
    history.trades.append(Trade(BEGIN_MS + 20 * 60_000 + 1_000, -HELD / 4))
    tables = history.tables()
    found = review(tables | {"trades": tables["trades"].slice(0, 0)}, from_ms=BEGIN_MS, to_ms=history.end_ms,
                   fallback=POLICY)
    assert (found.verdicts, found.judged) == (3, 2)


def test_a_snapshot_that_was_late_bends_no_truth():
    """It disagrees with its agreeing neighbours: the trades between those tell the truth."""
    history = History(policy=POLICY, hours=1)
    history.verdict(BEGIN_MS + 1_202_000, age_ms=2_000, sold_by_hand=True)
    tables = history.tables()
    polls = tables["snapshots"].to_pylist()
    late = next(row for row in polls if row["positions"][0]["position_amt"] != HELD)
    late["positions"][0]["position_amt"] = HELD
    bent = type(tables["snapshots"]).from_pylist(polls, schema=tables["snapshots"].schema)
    found = review(tables | {"snapshots": bent}, from_ms=BEGIN_MS, to_ms=history.end_ms, fallback=POLICY)
    assert (found.judged, found.current.wrong_allows) == (1, 1)


@pytest.mark.parametrize("odd", ["listed twice", "not known"])
def test_a_reply_that_cannot_tell_a_position_tells_no_truth(odd):
    """In hedge mode a symbol stands in it twice; one that the poll could not read is not flat."""
    history = History(policy=POLICY, hours=1)
    history.verdict(BEGIN_MS + 1_202_000)
    tables = history.tables()
    polls = tables["snapshots"].to_pylist()
    for poll in polls:
        if odd == "listed twice":
            poll["positions"] *= 2
        else:
            poll["unknown_symbols"] = ["BTCUSDT"]
    bent = type(tables["snapshots"]).from_pylist(polls, schema=tables["snapshots"].schema)
    found = review(tables | {"snapshots": bent}, from_ms=BEGIN_MS, to_ms=history.end_ms, fallback=POLICY)
    assert (found.verdicts, found.judged) == (1, 0)


@pytest.mark.parametrize("pct", ["0.125", "0.333", "99.9999"])
def test_every_tolerance_that_can_be_compared_can_be_in_force(pct):
    """Its usual multiples are cut to the places that are compared."""
    policy = replace(POLICY, qty_tolerance_pct=Decimal(pct))
    history = History(policy=policy, hours=1)
    history.verdict(BEGIN_MS + 1_202_000)
    found = reviewed(history)
    assert found.current.policy == policy and found.current.right_allows == 1
    assert len(set(found.grid.tolerance_pct)) == len(found.grid.tolerance_pct) and max(found.grid.tolerance_pct) <= 100


def test_a_book_of_any_size_stops_no_review():
    """What a forged result made of it is denied, and rightly."""
    history = History(policy=POLICY, hours=1)
    history.verdict(BEGIN_MS + 1_202_000)
    for size in ("1e12", "1e15", "1e19"):
        history.verdict(BEGIN_MS + 1_232_000, book=Decimal(size))
    found = reviewed(history).current
    assert (found.right_allows, found.right_denials, found.wrong_cents) == (1, 3, 0)


@pytest.mark.parametrize(("axes", "said"), [
    ({"poll_ms": (1_000,)}, "those polls were not made"),
    ({"tolerance_pct": (Decimal("0.00001"),)}, "at most 4 decimal places"),
])
def test_an_axis_that_cannot_be_judged_is_refused(axes, said):
    """With the reason, before any work."""
    with pytest.raises(ValueError, match=said):
        reviewed(History(policy=POLICY, hours=1), **axes)
