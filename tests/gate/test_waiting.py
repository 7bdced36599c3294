"""How long a take waits, what ends it early, and what it waits through."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from p33_sidecar.core.reasons import Refusal
from p33_sidecar.gate import Forgery, Refused, Taken
from p33_sidecar.store import keys
from tests.gate.sidecar import PLAN, SYMBOL, Hand

LONG_MS = 60_000
"""Longer than any test may take: whoever waits it out fails by its deadline."""
DEADLINE_S = 45.0


class Waiting:
    """A take on a thread of its own; `answer()` is what it came to."""

    def __init__(self, hand: Hand, gate, *, entry_ms: int = 0) -> None:
        self._hand, self._looks = hand, looks(hand)
        self._said: list[Taken | Refused] = []
        self._thread = threading.Thread(
            target=lambda: self._said.append(gate.take(PLAN, SYMBOL, entry_ms=entry_ms, wait_ms=LONG_MS)), daemon=True)
        self.began_s = time.monotonic()
        self._thread.start()

    def begun(self) -> Waiting:
        """Once it is known to have looked, and so to wait."""
        until(lambda: looks(self._hand) > self._looks)
        return self

    def answer(self) -> Taken | Refused:
        self._thread.join(DEADLINE_S)
        assert self._said, "it still waits"
        return self._said[0]


def looks(hand: Hand) -> int:
    """How many scripts the server has run."""
    return hand.redis.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)


def until(holds: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, "it never came to that"
        time.sleep(0.001)


def test_i02_both_permits_appear_900_ms_after_the_wait_began(hand: Hand, gate):
    """I02: the wait is for both, in whatever order they come."""
    waiting = Waiting(hand, gate).begun()
    until(lambda: time.monotonic() - waiting.began_s > 0.9)
    permit = hand.allow()
    hand.govern()
    answer = waiting.answer()
    assert isinstance(answer, Taken) and answer.permit == permit
    assert 900 <= answer.waited_ms < LONG_MS


def test_the_governors_permit_last_is_found_without_a_wake_up(hand: Hand, gate):
    """Nobody records the Governor's verdict: its key is looked at in short intervals."""
    hand.allow()
    waiting = Waiting(hand, gate).begun()
    hand.govern()
    assert isinstance(waiting.answer(), Taken)


def test_other_plans_verdicts_do_not_end_the_wait(hand: Hand, gate):
    """A wake-up for somebody else is no answer."""
    hand.govern()
    waiting = Waiting(hand, gate).begun()
    for number in range(20):
        hand.deny(f"other-{number}", "TRXUSDT")
    hand.allow()
    assert isinstance(waiting.answer(), Taken)


ENDS: tuple[tuple[str, Callable[[Hand], object]], ...] = (
    ("halted", lambda h: h.redis.set(keys.HALT, "1")),
    ("reconcile_hold_active", lambda h: h.redis.set(keys.hold(SYMBOL), "1")),
    ("governor_denied", lambda h: h.govern(value='{"granted":false}')),
    ("p33_denied:unsupported_action", lambda h: (h.govern(), h.deny())),
    ("withdrawn", lambda h: (h.allow(), h.redis.delete(keys.open_permit(SYMBOL)), h.govern())),
    ("facts_changed", lambda h: (h.allow(), h.ledger(rev=8), h.govern())),
    ("already_consumed", lambda h: h.redis.set(keys.taken(PLAN), "nonce other")),
)


@pytest.mark.parametrize(("named", "happens"), ENDS, ids=[name for name, _ in ENDS])
def test_what_no_waiting_mends_ends_it_early(hand: Hand, gate, named: str, happens: Callable[[Hand], object]):
    """A denial, a kill switch, a hold, a permit that ended: said at once, not after the wait."""
    waiting = Waiting(hand, gate).begun()
    happens(hand)
    answer = waiting.answer()
    assert isinstance(answer, Refused)
    assert (answer.named, answer.final) == (named, True)
    assert answer.waited_ms < LONG_MS / 2


def test_bounded(gate):
    """Nothing comes: the wait ends by itself, and the refusal says what was missing."""
    answer = gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=80)
    assert answer == Refused(Refusal.MISSING_GOVERNOR_PERMIT, waited_ms=answer.waited_ms, final=False)
    assert answer.waited_ms >= 80


def test_a_process_that_stops_does_not_wait_on(hand: Hand, new_gate):
    """SIGTERM while waiting: the last answer stands, and is no final one."""
    stop = threading.Event()
    waiting = Waiting(hand, new_gate(stopping=stop.is_set)).begun()
    stop.set()
    answer = waiting.answer()
    assert isinstance(answer, Refused) and not answer.final


def test_t15_an_old_denial_is_no_answer_to_a_new_publication(hand: Hand, gate):
    """T15: the denial of 8 s ago is still there when the plan comes again; the ALLOW right behind it is taken."""
    hand.govern()
    old = hand.deny(issued_ms=hand.now_ms() - 8_000)
    entry_ms = hand.now_ms()
    refused = gate.take(PLAN, SYMBOL, entry_ms=entry_ms, wait_ms=0)
    assert (refused.named, refused.final) == ("missing_p33_permit", False)
    waiting = Waiting(hand, gate, entry_ms=entry_ms).begun()
    permit = hand.allow()
    answer = waiting.answer()
    assert isinstance(answer, Taken) and answer.permit == permit and permit.nonce != old.nonce


def test_t15_a_governors_denial_of_before_is_waited_through(hand: Hand, gate):
    """The same for a Governor that says when it answered; one that does not say has denied."""
    hand.allow()
    entry_ms = hand.now_ms()
    hand.govern(value=f'{{"granted":false,"issued_ms":{entry_ms - 8_000}}}')
    waiting = Waiting(hand, gate, entry_ms=entry_ms).begun()
    hand.govern(value=f'{{"granted":true,"issued_ms":{entry_ms + 1}}}')
    assert isinstance(waiting.answer(), Taken)


def test_t15_a_permit_that_ended_before_this_publication_is_waited_through(hand: Hand, gate):
    """`withdrawn` and `facts_changed` speak of one ALLOW; that of an earlier publication does not end this wait."""
    hand.govern()
    hand.allow(issued_ms=hand.now_ms() - 8_000)
    hand.redis.delete(keys.open_permit(SYMBOL))
    waiting = Waiting(hand, gate, entry_ms=hand.now_ms()).begun()
    permit = hand.allow()
    answer = waiting.answer()
    assert isinstance(answer, Taken) and answer.permit == permit


FORGERIES: tuple[tuple[str, Callable[[Hand], object]], ...] = (
    ("invalid_permit_type", lambda h: h.redis.hset(keys.permit(PLAN), "allow", "true")),
    ("invalid_permit_type", lambda h: h.redis.rpush(keys.permit(PLAN), "allow")),
    ("invalid_permit_type", lambda h: h.redis.set(keys.permit(PLAN), "true")),
    ("forged_permit", lambda h: h.redis.set(keys.permit(PLAN), h.verdict()[:-9] + b'00000000"}')),
    ("forged_permit", lambda h: h.redis.set(keys.permit(PLAN), h.verdict().partition(b',"sig"')[0]
                                            + b"}")),
)


@pytest.mark.parametrize(("named", "forge"), FORGERIES, 
                         ids=["hash", "list", "no permit", "signature", "unsigned"])
def test_t19_a_forgery_is_reported_and_the_real_permit_taken(hand: Hand, new_gate, named: str, forge):
    """T19, I07: an old bypass writer is there first; it is reported once, and the real permit behind it is taken."""
    reported: list[Forgery] = []
    gate = new_gate(on_forgery=reported.append)
    hand.snapshot()
    hand.ledger()
    hand.govern()
    forge(hand)
    refused = gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=80)
    assert (refused.named, refused.waited_ms >= 80) == (named, True)
    assert reported == [Forgery(PLAN, SYMBOL, Refusal(named))]
    waiting = Waiting(hand, gate).begun()
    hand.allow()
    assert isinstance(waiting.answer(), Taken)
