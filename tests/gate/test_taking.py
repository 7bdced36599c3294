"""Taking is one step: one taker, one record, the same answer for who asks again; and what ends a permit before it."""

from __future__ import annotations

import threading
from collections import Counter

import msgspec
import pytest

from p33_sidecar.core.permit import Permit
from p33_sidecar.core.plan import MessageRefused
from p33_sidecar.gate import Gate, Refused, Taken
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.store import keys
from p33_sidecar.store.connect import Link
from tests.gate.sidecar import KEY, PLAN, SYMBOL, VENUE, Hand
from tests.service.breaking import Breaking

CONSUMERS = 50


def takings(hand: Hand) -> list[dict]:
    return [msgspec.json.decode(fields["json"]) for _, fields in hand.redis.xrange(keys.TAKINGS)]


def test_i03_fifty_consumers_of_one_pair_one_wins(hand: Hand, new_gate):
    """I03: fifty at once; one is told it has them, all others that somebody has."""
    hand.govern()
    permit = hand.allow()
    gates = [new_gate(by=f"apply-{number}") for number in range(CONSUMERS)]
    ready, answers = threading.Barrier(CONSUMERS), []

    def consume(gate: Gate) -> None:
        ready.wait()
        answers.append(gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0))

    threads = [threading.Thread(target=consume, args=(gate,)) for gate in gates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [answer for answer in answers if isinstance(answer, Taken)]
    assert winner.permit == permit
    assert Counter(a.named for a in answers if isinstance(a, Refused)) == {"already_consumed": CONSUMERS - 1}
    (record,) = takings(hand)
    assert (record["nonce"], record["token"]) == (permit.nonce, winner.token)


def test_i03_a_denial_burns_nothing(hand: Hand, gate):
    """I03: Governor granted, p33 denied: refused with the reason, and both keys are still there."""
    hand.govern()
    hand.deny()
    assert gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0).named == "p33_denied:unsupported_action"
    assert hand.both_there()


def test_i07_without_our_signature_nothing_is_given_out(hand: Hand, new_gate):
    """I07: a permit that somebody else wrote, whole and consistent, with another key or none."""
    hand.govern()
    for key in (None, b"x" * 32):
        stranger = Hand(hand.redis, key=key)
        stranger.allow()
        assert new_gate().take(PLAN, SYMBOL, entry_ms=0, wait_ms=0).named == "forged_permit"
    assert hand.both_there() and not takings(hand)


@pytest.mark.parametrize("value", ["1", "true", "on", "yes", "ja", "0", "false", "", '{"by":"me"}'])
@pytest.mark.parametrize("switch", [keys.HALT, keys.halt(SYMBOL), keys.hold(SYMBOL)])
def test_i51_a_switch_is_on_whatever_people_type(hand: Hand, gate, switch: str, value: str):
    """I51: the key's being there is the switch; nobody's spelling of yes decides about it."""
    hand.govern()
    hand.allow()
    hand.redis.set(switch, value)
    named = gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0).named
    assert named == ("reconcile_hold_active" if switch == keys.hold(SYMBOL) else "halted")
    assert hand.both_there()


def test_t03_halted_between_issue_and_take(hand: Hand, gate):
    """T03: the operator's switch comes before the take; the Governor's permit is still there, and good later."""
    hand.govern()
    hand.allow()
    hand.redis.set(keys.HALT, "1")
    assert gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0).named == "halted"
    assert hand.both_there()
    hand.redis.delete(keys.HALT)
    assert isinstance(gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0), Taken)


def test_t04_old_signed_bytes_set_again_are_withdrawn(hand: Hand, gate):
    """T04: a permit that was withdrawn does not come back by writing its bytes again."""
    hand.govern()
    hand.allow()
    raw = hand.redis.get(keys.permit(PLAN))
    hand.redis.delete(keys.permit(PLAN), keys.open_permit(SYMBOL))
    hand.redis.set(keys.permit(PLAN), raw, px=60_000)
    assert gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0).named == "withdrawn"


def test_t10_the_position_changed_after_the_permit(hand: Hand, gate):
    """T10: 0.028 of 0.038 was allowed, 0.010 is left: refused, and a fresh permit on the new facts is taken."""
    hand.govern()
    hand.allow(amt="0.038")
    hand.snapshot(amt="0.010")
    assert gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0).named == "facts_changed"
    assert hand.both_there()
    fresh = hand.allow(amt="0.010")
    answer = gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0)
    assert isinstance(answer, Taken) and answer.permit == fresh and fresh.quantity_text() == "0.007"


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
def test_t16_a_lost_reply_gets_the_first_answer(hand: Hand, new_gate, executed: bool):
    """T16: the connection breaks at each round trip, before or after the server acted: one taking, its answer told."""
    steps, at = 1, -1
    while at < steps:
        hand.redis.flushall()
        hand = Hand(hand.redis)
        hand.govern()
        permit, gate = hand.allow(), new_gate()
        breaking = Breaking(gate._link.redis, gate._takings.line, at=at, executed=executed)
        answer = gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0)
        assert isinstance(answer, Taken), f"round trip {at}: {answer}"
        assert answer.permit == permit
        assert [record["token"] for record in takings(hand)] == [answer.token]
        steps, at = breaking.count if at < 0 else steps, at + 1
    assert steps >= 2


def test_t16_the_same_token_is_answered_from_the_record(hand: Hand, new_gate):
    """T16: asked again later, by another connection with the same token: the first answer, permit and all."""
    hand.govern()
    permit = hand.allow()
    first = new_gate().take(PLAN, SYMBOL, entry_ms=0, wait_ms=0, token="mine")
    again = new_gate().take(PLAN, SYMBOL, entry_ms=0, wait_ms=0, token="mine")
    assert isinstance(first, Taken) and isinstance(again, Taken)
    assert (again.permit, again.token) == (permit, "mine")
    assert len(takings(hand)) == 1


@pytest.mark.parametrize("record", ["nothing", "[]", "{}", "\xff",
                                    '{"nonce":"%s","token":"mine","permit":7,"at_ms":1}'])
def test_somebodys_odd_record_does_not_hide_the_first_answer(hand: Hand, new_gate, record: str):
    """An Apply Layer in another language writes its records itself."""
    hand.govern()
    permit = hand.allow()
    new_gate().take(PLAN, SYMBOL, entry_ms=0, wait_ms=0, token="mine")
    hand.redis.xadd(keys.TAKINGS, {"plan_id": PLAN, "json": record.replace("%s", permit.nonce).encode("latin1")})
    again = new_gate().take(PLAN, SYMBOL, entry_ms=0, wait_ms=0, token="mine")
    assert isinstance(again, Taken) and again.permit == permit


@pytest.mark.parametrize("by", ["apply layer 1", "Börse-1", "a\nb", ""])
def test_whatever_a_taker_is_called_it_takes(hand: Hand, new_gate, by: str):
    """`by` and P33_INSTANCE are for the record; the server's rule for names of connections is not theirs."""
    hand.govern()
    hand.allow()
    assert isinstance(new_gate(by=by).take(PLAN, SYMBOL, entry_ms=0, wait_ms=0), Taken)
    assert [record["by"] for record in takings(hand)] == [by]


def test_without_redis_it_is_a_refusal(hand: Hand, new_gate):
    """Neither an exception nor an answer: `redis_unavailable`, and it ends the wait."""
    with EmbeddedServer() as gone:
        gate = new_gate_at(gone.url)
    answer = gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=60_000)
    gate.close()
    assert isinstance(answer, Refused) and (answer.named, answer.final) == ("redis_unavailable", True)


def new_gate_at(url: str) -> Gate:
    return Gate(url, key=(KEY,), venue=VENUE)


def test_a_request_that_arrives_after_its_sender_gave_up_takes_nothing():
    """The server hangs, the client gives up; what it had asked for is not done behind its back."""
    with EmbeddedServer() as server:
        client = Link(server.url, name="hand")
        hand = Hand(client.redis)
        hand.govern()
        hand.allow()
        gate = new_gate_at(server.url)
        asked = []

        def hang(permit: Permit | None, now_ms: int) -> bytes:
            """Called between the look and the taking."""
            asked.append(permit)
            server.pause()
            return b""

        answer = gate.take(PLAN, SYMBOL, entry_ms=0, wait_ms=0, intent=hang)
        server.resume()
        assert len(asked) == 1
        assert answer.named == "redis_unavailable"
        assert hand.both_there() and not takings(hand)
        gate.close()
        client.close()


@pytest.mark.parametrize("plan_id", ["", "p33:x", "a b", "x" * 129, "ä"])
def test_ids_that_no_permit_can_have_are_the_callers_mistake(gate, plan_id: str):
    """`p33:x` would read the key of plan `x` as the Governor's."""
    with pytest.raises(MessageRefused):
        gate.take(plan_id, SYMBOL, entry_ms=0, wait_ms=0)
