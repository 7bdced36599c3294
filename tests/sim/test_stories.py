"""The timelines that concern the sidecar, as tapes (`tapes` says how to read one). All values are the contract's."""

from __future__ import annotations

import pytest

from p33_sidecar.core.model import Policy
from tests.sim.tapes import Player, play
from tests.sim.town import Town


def test_t01_taken_plan_holds_its_symbol() -> None:
    """A's order is on its way, its outcome unknown: B is told already_consumed, and the next plan waits."""
    played = play("0s plan close-75 as P | decide | 100ms take P | 110ms send P | 112ms take P | "
                  "200ms plan close-75 as Q | decide")
    assert played.takes == ["taken", "already_consumed"]
    assert played.verdicts == ["ALLOW 0.028", "DENY permit_outstanding"]


def test_t02_halt_and_snapshot_between_reading_and_issuing() -> None:
    """The issuing step notices both and decides again."""
    played = play("0s plan close-75 | read | halt | exchange 0.010 | poll | issue")
    assert played.verdicts == ["DENY halted"]


def test_x03_fill_between_reading_and_issuing_voids_the_decision() -> None:
    """A fill booked after the facts were read: the snapshot no longer says what the book says."""
    played = play("0s exchange +0.038 | 1s plan close-75 | read | fill -0.020 | issue")
    assert played.verdicts == ["DENY reconcile_required_qty_mismatch"] and not played.open


def test_x03_fill_and_newer_snapshot_between_reading_and_issuing() -> None:
    """Both moved and agree again: the order is too young."""
    played = play("1s plan close-75 | read | fill -0.020 | 1500ms poll | issue")
    assert played.verdicts == ["DENY cooldown_in_flight"]


def test_t03_halt_before_the_taking() -> None:
    """Refused by name, and the Governor's permit is still there."""
    played = play("0s plan close-75 as P | decide | 10ms halt | 20ms take P")
    assert played.takes == ["halted"] and played.governor == {"P"}


def test_t04_withdrawn_bytes_put_back_are_worthless() -> None:
    """The very bytes of a withdrawn permit are no permit."""
    played = play("0s plan close-75 as P | decide | keep P | 5ms halt | resume | 6ms put-back P | 7ms take P")
    assert played.takes == ["withdrawn"] and not played.open


def test_t05_taken_symbol_is_released_by_time_and_by_a_snapshot_requested_later() -> None:
    """75 s after the taking, and not a moment before; an ALLOW needs a snapshot requested after that."""
    played = play("0s plan close-75 as P | decide | 59900ms take P | 134800ms plan close-75 | decide | "
                  "134900ms plan close-75 | decide | 140s plan close-75 | decide")
    assert played.verdicts == ["ALLOW 0.028", "DENY permit_outstanding", "DENY cooldown_in_flight", "ALLOW 0.028"]


def test_t06_server_that_lost_the_last_second_allows_nothing_for_a_cooldown() -> None:
    """Everything of the taking is lost but the order: denied until a poll begun 15 s later, and then by the facts."""
    played = play("0s save | 200ms plan close-75 as P | decide | 500ms take P | run P | 1100ms crash | again P | "
                  "plan close-100 as Q | decide | 14s again Q | decide | 20s again Q | decide")
    assert played.takes == ["taken"] and played.events.count("store_restarted") == 1
    assert played.verdicts == ["DENY store_restarted"] * 3 + ["DENY reconcile_required_qty_mismatch"]


def test_t06_emptied_database_is_noticed_and_starts_anew() -> None:
    """FLUSHALL: no restart to see, the same denial; then books are opened again, and plans are allowed."""
    played = play("0s flush | tend | plan close-75 as P | decide | 2s again P | decide | 30s plan close-75 | decide")
    assert played.verdicts == ["DENY store_restarted", "DENY store_restarted", "ALLOW 0.028"]
    assert played.events == ["store_restarted"] and played.books["ETHUSDT"] == "2"


def test_t07_order_ids_are_counted_by_symbol() -> None:
    """The same order id on two symbols is two orders."""
    with Town.open(positions={"BTCUSDT": "0.038", "TRXUSDT": "100"}) as town:
        for symbol, qty in (("BTCUSDT", "0.010"), ("TRXUSDT", "40")):
            town.result("x", symbol=symbol, qty=qty, order_id="8389765")
        town.book()
        assert (town.book_of("BTCUSDT"), town.book_of("TRXUSDT")) == ("0.028", "60")


def test_t09_plan_decided_before_the_last_order_is_superseded() -> None:
    """B wanted 75 % of what was there before A filled; published again it still does."""
    played = play("0s plan close-75 as A | decide | 10ms plan close-75 as B | decide | 1100ms take A | run A | "
                  "16600ms again B | decide", positions={"BTCUSDT": "0.100"})
    assert played.verdicts == ["ALLOW 0.075", "DENY permit_outstanding", "DENY plan_superseded"]


def test_t10_snapshot_that_contradicts_a_permit_ends_it() -> None:
    """Closed by hand while the ALLOW was open: refused, and the symbol is free for a new plan."""
    played = play("0s plan close-75 as P | decide | 4s exchange 0.010 | poll | 5s take P | plan close-100 | decide")
    assert played.takes == ["facts_changed"] and not played.open
    assert played.verdicts[1] == "DENY reconcile_required_qty_mismatch"


def test_t13_clock_an_hour_ahead_for_one_entry() -> None:
    """A result stamped by a clock that is wrong for a moment: no hour of denials."""
    played = play("0s clock +3600s | fill -0.010 | clock -3600s | 1s poll | plan close-75 | decide | "
                  "17s plan close-75 | decide")
    assert played.verdicts == ["DENY cooldown_in_flight", "ALLOW 0.021"]
    assert played.events.count("clock_skew") <= 1


def test_t13_wall_clock_set_back_makes_no_snapshot_younger() -> None:
    """Polls fail from 0 on; at 8 s the server's clock goes back 5 s; at 11 s the snapshot is 11 s old."""
    played = play("0s poll | fail | 8s clock -5s | 11s plan close-75 | decide")
    assert played.verdicts == ["DENY stale_exchange_state"]


def test_t13_permit_issued_before_the_clock_went_back_lives_no_hour() -> None:
    """It would end by a clock that is an hour behind now: the next poll ends it, and plans are allowed again."""
    played = play("0s plan close-75 as P | decide | 1s clock -3600s | poll | take P | plan close-75 | decide")
    assert played.takes == ["withdrawn"] and played.verdicts == ["ALLOW 0.028"] * 2
    assert played.events[:2] == ["clock_skew", "withdrawal"]


def test_t13_permit_of_before_a_jump_that_nobody_saw_ends_at_the_start() -> None:
    """The clock went back an hour while the sidecar was down: its successor ends what would be open until then."""
    played = play("0s plan close-75 as P | decide | 1s clock -3600s | restart | take P | book | 2s poll | "
                  "plan close-75 | decide")
    assert played.takes == ["withdrawn"] and played.verdicts == ["ALLOW 0.028"] * 2
    assert played.events == ["withdrawal"]


def test_t13_order_of_a_wrong_hour_denies_for_no_hour_after_a_restart() -> None:
    """The order was told, and the sidecar restarted, while the clock was an hour ahead; then it was set right."""
    played = play("0s clock +3600s | poll | fill -0.010 | restart | book | 1s poll | clock -3600s | poll | book | "
                  "2s plan close-75 | decide | 30s plan close-75 | decide")
    assert played.verdicts == ["DENY cooldown_in_flight", "ALLOW 0.021"]


def test_t14_plan_read_before_the_result_is_booked() -> None:
    """A result of another order is in the stream, not in the book: the plan waits, and is not allowed."""
    with Town.open() as town:
        player = Player(town)
        town.result("other", side="SELL", qty="0.010", order_id="77")
        player.do(["plan", "close-75", "as", "P"])
        town.decide()
        assert town.verdicts() == []
        town.wait(200)
        assert town.verdicts() == ["DENY cooldown_in_flight"]


def test_t15_denial_published_again_is_allowed_and_taken() -> None:
    """Denied at 8 s for the cooldown; at 16 s the old denial is no answer any more."""
    played = play("0s fill -0.010 | 1100ms plan close-75 as P | 8s decide | 16s again P | take P | decide | take P")
    assert played.verdicts == ["DENY cooldown_in_flight", "ALLOW 0.021"]
    assert played.takes == ["missing_p33_permit", "taken"]


def test_t17_plan_that_was_blocked_before_we_read_it() -> None:
    """Its Apply Layer gave up at 1.2 s; the sidecar, restarted, reads it at 1.5 s."""
    played = play("0s plan close-75 as P | 1200ms blocked P | 1500ms restart | book | decide")
    assert played.verdicts == ["DENY plan_expired"] and not played.open


def test_t18_one_refresh_a_second_however_many_wait() -> None:
    """Stale snapshots, the exchange failing at once, 20 plans a second for a minute: at most 60 refreshes."""
    with Town.open(refresh_budget_ms=800) as town:
        town.market.failure = "http_5xx"
        town.wait(10_500)
        before = len(town.market.requests)
        for _ in range(1200):
            town.publish("PARTIAL_75")
            town.decide()
            town.wait(50)
        assert 30 <= len(town.market.requests) - before <= 60
        town.wait(1_000)
        assert set(town.verdicts()) == {"DENY stale_exchange_state"} and len(town.verdicts()) == 1200


def test_t18_no_refresh_during_a_ban() -> None:
    """Whoever waits: nothing is sent before the ban's end, and the verdict comes at once."""
    with Town.open(refresh_budget_ms=800) as town:
        town.market.ban(60_000)
        town.poll()
        before = len(town.market.requests)
        for _ in range(50):
            town.wait(1_000)
            town.publish("PARTIAL_75")
            town.decide()
        assert len(town.market.requests) == before and len(town.verdicts()) == 50
        town.wait(10_100)
        assert len(town.market.requests) == before + 1


def test_t20_result_that_is_late_is_no_mismatch() -> None:
    """Filled, seen by a poll, told half a second later."""
    played = play("0s plan close-75 as P | decide | 500ms take P | 1000ms send P | 1500ms poll | "
                  "2s result P | book | 30s")
    assert played.mismatches == [] and played.books["BTCUSDT"] == "0.01"


def test_t21_partial_fill_is_settled_by_the_exchanges_word() -> None:
    """PARTIALLY_FILLED 0.004 and nothing more: denied until the exchange was asked, then its final total is booked."""
    played = play("0s plan close-25 as P | decide | take P | send P | result P 0.004 PARTIALLY_FILLED | book | "
                  "16s poll | plan close-75 | decide | tend | 33s poll | plan close-100 | decide")
    assert played.verdicts == ["ALLOW 0.009", "DENY reconcile_required_qty_mismatch", "ALLOW 0.029"]
    assert played.books["BTCUSDT"] == "0.029"


# -- incidents that are stories, too ------------------------------------------------------------------------------


def test_i14_denied_in_cooldown_allowed_after_it() -> None:
    """Denied at 8 s of 15, published again at 16 s: ALLOW; published again after that: nothing new."""
    played = play("0s fill -0.010 | 1500ms plan close-50 as P | 8s decide | 16s again P | decide | again P | decide")
    assert played.verdicts == ["DENY cooldown_in_flight", "ALLOW 0.014"]


def test_i19_symbol_left_out_of_the_reply_ages_and_denies() -> None:
    """Not flat: unknown, until it is listed again."""
    played = play("0s poll | missing | 9s plan close-75 | decide | 11s plan close-75 | decide | listed | "
                  "16s plan close-75 as Q | decide")
    assert played.verdicts == ["ALLOW 0.028", "DENY stale_exchange_state", "DENY permit_outstanding"]


def test_i34_adjustments_do_not_restart_the_cooldown() -> None:
    """The cooldown runs from the last order only: polls and time alone end it."""
    played = play("0s fill -0.010 | 14900ms plan close-50 as P | decide | 15s poll | again P | decide")
    assert played.verdicts == ["DENY cooldown_in_flight", "ALLOW 0.014"]


def test_i43_two_full_closes_at_once() -> None:
    """One ALLOW, the other is told why not."""
    played = play("0s plan close-100 | 10ms plan close-100 | decide")
    assert played.verdicts == ["ALLOW 0.038", "DENY permit_outstanding"]


def test_i44_i46_constant_mismatch_is_one_incident() -> None:
    """Ten minutes of it: one opening; one closing, with its duration, when the accounts agree again."""
    with Town.open() as town:
        player = Player(town)
        player.play("0s exchange 0.050 | 600s")
        (opened,) = town.events("mismatch")
        assert (opened["state"], opened["symbol"], opened["what"]) == ("opened", "BTCUSDT", "quantity")
        assert (opened["exchange"], opened["ledger"]) == ("0.05", "0.038")
        player.play("600s exchange 0.038 | 620s")
        _, closed = town.events("mismatch")
        assert closed["state"] == "closed" and 580_000 < closed["duration_ms"] < 620_000
        assert [h for h in town.sidecar.hooks.seen if h[0] == "mismatch"] == [("mismatch", "BTCUSDT")]


def test_x05_mismatch_keeps_denying_and_ages() -> None:
    """Not retried three times and forgotten: every plan is denied as long as it lasts."""
    played = play("0s exchange 0.050 | " + " | ".join(f"{n * 60}s plan close-75 | decide" for n in range(1, 11)))
    assert played.verdicts == ["DENY reconcile_required_qty_mismatch"] * 10 and played.mismatches == ["opened"]


def test_x07_restart_remembers_the_mismatch() -> None:
    """An incident survives the sidecar: no second opening, and still no ALLOW."""
    played = play("0s exchange 0.050 | 20s restart | book | 40s plan close-75 | decide | exchange 0.038 | 60s")
    assert played.verdicts == ["DENY reconcile_required_qty_mismatch"] and played.mismatches == ["opened", "closed"]


def test_x05_side_mismatch_is_named() -> None:
    """Long in the book, short on the exchange."""
    played = play("0s exchange -0.038 | 20s plan close-75 | decide")
    assert played.verdicts == ["DENY reconcile_required_side_mismatch"] and played.mismatches == ["opened"]


def test_one_reply_that_lags_is_no_mismatch() -> None:
    """A node behind the others for one poll: two agreeing snapshots are needed."""
    played = play("0s exchange 0.050 | poll | exchange 0.038 | 30s")
    assert played.mismatches == []


def test_i57_snapshot_older_than_the_last_order() -> None:
    """Order at 0 s, no newer snapshot: denied at 15 s, allowed once a poll has seen what the order left."""
    played = play("0s poll | behind | 100ms fill -0.010 | fail | 15200ms plan close-75 as P | decide | "
                  "heal | caught-up | 16s poll | again P | decide", policy=Policy(stale_threshold_ms=60_000))
    assert played.verdicts == ["DENY reconcile_required_qty_mismatch", "ALLOW 0.021"]


@pytest.mark.parametrize("older", ["-0.010", "0.050"])
def test_older_reply_after_a_fill_is_not_believed(older: str) -> None:
    """A node that still says what was before our fill: its row is older, the symbol is unknown and denied as stale."""
    played = play(f"0s exchange {older} | exchange 0.038 | poll | behind | 1s fill -0.010 | caught-up | poll | "
                  "behind | 20s plan close-75 | decide")
    assert played.verdicts == ["ALLOW 0.021"]
