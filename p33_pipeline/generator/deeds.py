"""Every deed that can be planted: one function each, from a slot to what happens and what is to be found of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from p33_pipeline.generator.story import Deed, Event, Planted, Slot, close, quiet, settle

Outcome = tuple[list[Event], list[Planted]]


# -- breaks ---------------------------------------------------------------------------------------------------------


def timing(slot: Slot) -> Outcome:
    """The result is booked a poll late."""
    return close(slot, book_after_ms=slot.poll_ms), [Planted("timing", slot.symbol)]


def unbooked_fill(slot: Slot) -> Outcome:
    """Executed and told, and never booked, until a person notices."""
    return [*close(slot, book_after_ms=None), settle(slot, slot.lasts or 8)], [Planted("unbooked_fill", slot.symbol)]


def external_trade(slot: Slot) -> Outcome:
    """Somebody trades by hand."""
    at_ms = slot.after(0)
    act = (at_ms, lambda: slot.world.trade(at_ms, slot.symbol, -slot.lot * 4, f"web_{slot.number}"))
    return [act, settle(slot, slot.lasts or 6)], [Planted("external_trade", slot.symbol)]


def venue_initiated(slot: Slot) -> Outcome:
    """The exchange liquidates a part."""
    at_ms = slot.after(0)
    act = (at_ms, lambda: slot.world.trade(at_ms, slot.symbol, -slot.lot * 4, f"autoclose-{slot.number}"))
    return [act, settle(slot, slot.lasts or 6)], [Planted("venue_initiated", slot.symbol)]


def stale_source(slot: Slot) -> Outcome:
    """Polls go on showing what was before a close."""
    holding = slot.world.holdings[slot.symbol]

    def stick() -> None:
        holding.shown = holding.amt

    def unstick() -> None:
        holding.shown = None

    events = [(slot.after(0, 500), stick), *close(slot), (slot.after(slot.lasts or 6), unstick)]
    return events, [Planted("stale_source", slot.symbol)]


def missing_ledger(slot: Slot) -> Outcome:
    """A symbol turns up with a position, and nobody opens a book for long."""
    symbol = slot.stranger or f"NEW{slot.symbol}"

    def arrive() -> None:
        slot.world.appear(symbol, slot.world.terms(symbol).lot)

    opened_ms = slot.after(slot.lasts or 10)
    return [(slot.after(0), arrive), (opened_ms, lambda: slot.world.open_book(opened_ms, symbol))], [
        Planted("missing_ledger", symbol)]


def _mistaken(slot: Slot, amount: Decimal) -> list[Event]:
    """A person sets the book to something the exchange does not have, and corrects it later."""
    at_ms = slot.after(0)
    return [(at_ms, lambda: slot.world.adjust(at_ms, slot.symbol, amount)), settle(slot, slot.lasts or 6)]


def quantity(slot: Slot) -> Outcome:
    return _mistaken(slot, slot.lot * 1000), [Planted("quantity", slot.symbol)]


def side(slot: Slot) -> Outcome:
    return _mistaken(slot, -slot.lot), [Planted("side", slot.symbol)]


def ghost_ledger(slot: Slot) -> Outcome:
    """A book of a symbol that is flat at the exchange."""
    symbol, world = slot.stranger or f"FLAT{slot.symbol}", slot.world
    first_ms, wrong_ms, right_ms = slot.after(0), slot.after(1), slot.after(slot.lasts or 7)

    def arrive() -> None:
        world.appear(symbol, Decimal(0))
        world.open_book(first_ms, symbol)

    return [(first_ms, arrive), (wrong_ms, lambda: world.adjust(wrong_ms, symbol, slot.lot)),
            (right_ms, lambda: world.adjust(right_ms, symbol, Decimal(0)))], [Planted("ghost_ledger", symbol)]


# -- breaks that no poll sees ---------------------------------------------------------------------------------------


def _there_and_back(slot: Slot, client_id: str) -> list[Event]:
    """A trade, and a second one that takes it back before the next poll."""
    world, first_ms = slot.world, slot.after(0)

    def act() -> None:
        world.trade(first_ms, slot.symbol, -slot.lot * 4, f"{client_id}{slot.number}")
        world.trade(first_ms + 1500, slot.symbol, slot.lot * 4, f"web_{slot.number}b")

    return [(first_ms, act)]


def round_trip(slot: Slot) -> Outcome:
    """Somebody trades by hand, and back, between two polls."""
    return _there_and_back(slot, "web_"), [Planted("external_trade", slot.symbol)]


def liquidated_and_bought_back(slot: Slot) -> Outcome:
    """The exchange liquidates a part, and somebody has it back before anybody looks."""
    return _there_and_back(slot, "autoclose-"), [Planted("venue_initiated", slot.symbol)]


def hidden_fill(slot: Slot) -> Outcome:
    """Our order executes and nobody says so; a trade by hand of the same size hides it from every poll."""
    world, back_ms = slot.world, slot.after(0, 2200)

    def trade_back() -> None:
        world.trade(back_ms, slot.symbol, -world.last_delta(slot.symbol), f"web_{slot.number}")

    return [*close(slot, tell_result=False), (back_ms, trade_back)], [
        Planted("external_trade", slot.symbol), Planted("trade_without_result", slot.symbol)]


def slip_of_the_pen(slot: Slot) -> Outcome:
    """A person sets a book wrong and right again, between two polls."""
    world, wrong_ms = slot.world, slot.after(0)

    def act() -> None:
        right = world.holdings[slot.symbol].book.amt
        world.adjust(wrong_ms, slot.symbol, slot.lot * 1000)
        world.adjust(wrong_ms + 1200, slot.symbol, right)

    return [(wrong_ms, act)], [Planted("timing", slot.symbol)]


# -- flow -----------------------------------------------------------------------------------------------------------


def plan_without_verdict(slot: Slot) -> Outcome:
    at_ms = slot.after(0)
    act = (at_ms, lambda: slot.world.plan(at_ms, slot.plan_id, slot.symbol))
    return [act], [Planted("plan_without_verdict", slot.symbol)]


def verdict_without_plan(slot: Slot) -> Outcome:
    return close(slot, plan=False), [Planted("verdict_without_plan", slot.symbol)]


def bypass(slot: Slot) -> Outcome:
    """A close that never asked."""
    world, at_ms = slot.world, slot.after(0)

    def act() -> None:
        order_id = world.trade(at_ms, slot.symbol, -slot.lot, f"x-{slot.number}")
        result_id = world.result(at_ms + 100, slot.plan_id, slot.symbol, -slot.lot, order_id)
        world.book(at_ms + 150, slot.symbol, -slot.lot, plan_id=slot.plan_id, order_id=order_id, result_id=result_id)

    return [(at_ms, act)], [Planted("bypass", slot.symbol)]


def over_execution(slot: Slot) -> Outcome:
    return close(slot, more=1), [Planted("over_execution", slot.symbol)]


def late_execution(slot: Slot) -> Outcome:
    late_ms = slot.world.policy.permit_ttl_ms + 4300
    return close(slot, trade_after_ms=late_ms), [Planted("late_execution", slot.symbol)]


def permit_reuse(slot: Slot) -> Outcome:
    """The same permit serves for a second order."""
    world, at_ms = slot.world, slot.after(6)

    def again() -> None:
        order_id = world.trade(at_ms, slot.symbol, -slot.lot, f"x-{slot.number}")
        result_id = world.result(at_ms + 100, slot.plan_id, slot.symbol, -slot.lot, order_id)
        world.book(at_ms + 150, slot.symbol, -slot.lot, plan_id=slot.plan_id, order_id=order_id, result_id=result_id)

    return [*close(slot), (at_ms, again)], [Planted("permit_reuse", slot.symbol)]


def result_without_trade(slot: Slot) -> Outcome:
    """Told and booked, and nothing happened: the ledger leaves the exchange."""
    return [*close(slot, trade=False), settle(slot, slot.lasts or 8)], [
        Planted("quantity", slot.symbol), Planted("result_without_trade", slot.symbol)]


def trade_without_result(slot: Slot) -> Outcome:
    """Our order executed, and nobody said so."""
    return [*close(slot, tell_result=False), settle(slot, slot.lasts or 8)], [
        Planted("trade_without_result", slot.symbol), Planted("unbooked_fill", slot.symbol)]


def irreproducible_verdict(slot: Slot) -> Outcome:
    """A record that somebody edited."""
    at_ms = slot.after(1)

    def edit() -> None:
        entries = slot.world.streams["decisions"]
        index = next(i for i, (_, fields) in enumerate(entries) if fields["plan_id"] == slot.plan_id)
        entry_id, fields = entries[index]
        body = msgspec.json.decode(fields["json"])
        body["checks"][0]["margin"] = 1
        entries[index] = (entry_id, fields | {"json": msgspec.json.encode(body).decode()})

    return [*close(slot), (at_ms, edit)], [Planted("irreproducible_verdict", slot.symbol)]


def freed_while_taken(slot: Slot) -> Outcome:
    """A symbol is set free while its order is under way: a second plan is allowed on the same position."""
    second = msgspec.structs.replace(slot, at_ms=slot.at_ms + 500, number=1_000_000 + slot.number)
    return [*close(slot, trade_after_ms=1_500), *close(second)], [Planted("irreproducible_verdict", slot.symbol)]


# -- sources --------------------------------------------------------------------------------------------------------


def clock_skew(slot: Slot) -> Outcome:
    """A plan from the future, denied."""
    world, at_ms = slot.world, slot.after(0)

    def act() -> None:
        entry_id = world.plan(at_ms, slot.plan_id, slot.symbol, ahead_ms=5000)
        world.verdict(at_ms + 5, entry_id, world.streams["plans"][-1][1])

    return [(at_ms, act)], [Planted("clock_skew")]


def snapshot_gap(slot: Slot) -> Outcome:
    """Three polls in a row fail, while every symbol rests."""
    begin_ms = slot.after(10, 0)
    slot.world.silent.append((begin_ms, begin_ms + 4 * slot.poll_ms))
    return [], [Planted("snapshot_gap")]


def rejected_message(slot: Slot) -> Outcome:
    at_ms = slot.after(0)
    act = (at_ms, lambda: slot.world.record("rejected", at_ms, {
        "stream": "quantum:apply.plan", "id": f"{at_ms}-0", "reason": "missing_plan_id", "message": {"symbol": "X"},
        "at_ms": at_ms}, stream="quantum:apply.plan", id=f"{at_ms}-0"))
    return [act], [Planted("rejected_message")]


def ledger_tampered(slot: Slot) -> Outcome:
    at_ms = slot.after(0)
    act = (at_ms, lambda: slot.world.record("events", at_ms, {
        "kind": "tampering", "at_ms": at_ms, "by": "g", "symbol": slot.symbol}, kind="tampering"))
    return [act], [Planted("ledger_tampered")]


def forged_permit(slot: Slot) -> Outcome:
    """A permit that the gate refused as forged."""
    at_ms = slot.after(0)
    step = '[{"step":"PARTIAL_25","status":"blocked","refusal":"forged_permit"}]'
    act = (at_ms, lambda: slot.world.add("results", at_ms, {
        "plan_id": slot.plan_id, "symbol": slot.symbol, "decision": "BLOCKED", "executed": "False",
        "would_execute": "False", "steps_results": step, "error": "missing_or_denied_p33_permit", "timestamp": "0"}))
    return [act], [Planted("forged_permit")]


def archive_gap(slot: Slot) -> Outcome:
    """Events were gone before they were archived; the history's writer leaves the note of it."""
    slot.world.gaps.append(slot.after(0))
    return [], [Planted("archive_gap")]


BREAKS: Final = (timing, unbooked_fill, external_trade, venue_initiated, stale_source, missing_ledger, quantity, side,
                 ghost_ledger)
UNSEEN: Final = (round_trip, liquidated_and_bought_back, hidden_fill, slip_of_the_pen)
FLOW: Final = (plan_without_verdict, verdict_without_plan, bypass, over_execution, late_execution, permit_reuse,
               result_without_trade, trade_without_result, irreproducible_verdict, freed_while_taken)
SOURCES: Final = (clock_skew, snapshot_gap, rejected_message, ledger_tampered, forged_permit, archive_gap)
DEEDS: Final[dict[str, Deed]] = {deed.__name__: deed for deed in (*BREAKS, *UNSEEN, *FLOW, *SOURCES)}
QUIET: Final[dict[str, Deed]] = {"quiet": quiet}
