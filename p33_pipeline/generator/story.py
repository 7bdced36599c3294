"""A story: quiet trading over a stretch of polls with deeds planted in it, and the truth about each of them.

Each symbol carries one deed after another, with rest between, so that no deed covers another's traces. A quiet close
begins and ends between two polls. What is planted is told by `truth`, in the words of the findings.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from p33_pipeline.generator.world import Terms, World
from p33_sidecar.core.model import Policy
from p33_sidecar.core.orders import client_order_id

SLOTS_EACH = 16
"""Polls that a deed and the rest after it take."""
POSITION, LEAST = 128, 16
"""Lots that each symbol begins with, and below which a position is built anew."""


class Planted(msgspec.Struct, frozen=True, order=True):
    """A finding that the audit must have: its kind, and the symbol (for the accounts and the flow) or nothing."""

    finding: str
    symbol: str = ""


class Story(msgspec.Struct, frozen=True):
    """A finished world, its stretch of time, and what is to be found."""

    world: World
    from_ms: int
    to_ms: int
    truth: tuple[Planted, ...]


class Slot(msgspec.Struct, frozen=True):
    """A deed's place: its symbol, the poll it begins behind, and a number for its plan.

    `lasts`: for how many polls what it breaks stays broken, 0 for the deed's own; `stranger`: a symbol not in view yet.
    """

    world: World
    symbol: str
    at_ms: int
    poll_ms: int
    number: int
    lasts: int = 0
    stranger: str = ""

    def after(self, polls: int, ms: int = 1000) -> int:
        """A time between two polls."""
        return self.at_ms + polls * self.poll_ms + ms

    @property
    def lot(self) -> Decimal:
        return self.world.terms(self.symbol).lot

    @property
    def plan_id(self) -> str:
        return f"plan-{self.symbol}-{self.number}"


Event = tuple[int, Callable[[], None]]
"""What happens, and when."""


Deed = Callable[[Slot], tuple[list[Event], list[Planted]]]


def tell(seed: int, *, deeds: dict[str, Deed], start_ms: int, symbols: int = 6, rounds: int = 6,
         policy: Policy | None = None, bystanders: dict[str, Decimal] | None = None) -> Story:
    """A story by its seed: every deed once at least, the rest of the rounds quiet closes.

    `bystanders`: further symbols that hold these amounts from the beginning to the end.
    """
    rules, chance = policy or Policy(), random.Random(seed)  # noqa: S311 - a story, not a secret
    names = [f"S{seed}N{n}USDT" for n in range(symbols)]
    held = dict.fromkeys(names, POSITION * Terms().lot) | (bystanders or {})
    world = World(held, start_ms=start_ms, policy=rules)
    wanted = [*deeds, *["quiet"] * max(0, symbols * rounds - len(deeds))]
    chance.shuffle(wanted)
    events: list[Event] = []
    truth: list[Planted] = []
    for index, name in enumerate(wanted):
        symbol, turn = names[index % symbols], index // symbols
        slot = Slot(world, symbol, start_ms + (3 + turn * SLOTS_EACH) * rules.poll_ms, rules.poll_ms, index)
        more, found = (deeds.get(name) or quiet)(slot)
        events += more
        truth += found
    polls = 3 + (len(wanted) // symbols + 1) * SLOTS_EACH
    perform(world, events, polls=polls)
    return Story(world, start_ms, start_ms + polls * rules.poll_ms, tuple(sorted(truth)))


def perform(world: World, events: list[Event], *, polls: int) -> None:
    """Everything in its time: the polls, the books that open behind the second of them, and the events before the last.

    Raises nothing of its own: a deed that cannot happen is a mistake in the story.
    """
    start_ms, poll_ms = world.start_ms, world.policy.poll_ms
    opened_ms, end_ms = start_ms + poll_ms + 200, start_ms + polls * poll_ms
    looks = [(start_ms + n * poll_ms, lambda at=start_ms + n * poll_ms: world.poll(at)) for n in range(polls)]
    books = [(opened_ms, lambda s=symbol: world.open_book(opened_ms, s)) for symbol in world.holdings]
    for at_ms, happen in sorted([*events, *looks, *books], key=lambda event: event[0]):
        if at_ms < end_ms:
            happen()


def quiet(slot: Slot) -> tuple[list[Event], list[Planted]]:
    """A close as it should be, between two polls, through every station; where little is left, a position is built."""
    world, at_ms, whole = slot.world, slot.after(0), slot.lot * POSITION

    def build() -> None:
        order_id = world.trade(at_ms, slot.symbol, whole, f"entry-{slot.number}")
        result_id = world.result(at_ms + 100, slot.plan_id, slot.symbol, whole, order_id, reduce_only=False)
        world.book(at_ms + 150, slot.symbol, whole, plan_id=slot.plan_id, order_id=order_id, result_id=result_id)

    def act() -> None:
        if world.holdings[slot.symbol].amt < slot.lot * LEAST:
            build()
            return
        for _, happen in close(slot):
            happen()

    return [(at_ms, act)], []


def close(slot: Slot, *, plan: bool = True, take: bool = True, trade: bool = True, tell_result: bool = True,
          book_after_ms: int | None = 200, more: int = 0, trade_after_ms: int = 300) -> list[Event]:
    """The stations of one close, within a second; the options leave some out, delay them, or change them.

    What is denied ends there. `more`: lots beyond what was permitted.
    """
    world, symbol, plan_id, at_ms = slot.world, slot.symbol, slot.plan_id, slot.after(0)
    traded_ms = at_ms + trade_after_ms
    known: dict[str, Any] = {"order_id": f"9{slot.number}"}

    def decide() -> None:
        fields = {"plan_id": plan_id, "symbol": symbol, "action": "PARTIAL_25", "decision": "EXECUTE"}
        entry_id = world.plan(at_ms, plan_id, symbol) if plan else f"{at_ms}-999"
        permit = world.verdict(at_ms + 5, entry_id, world.streams["plans"][-1][1] if plan else fields)
        if not permit["allow"]:
            return
        qty = permit["qty"] + more * slot.lot
        known["delta"] = -qty if permit["side"] == "SELL" else qty
        if take:
            world.take(at_ms + 100, plan_id, symbol, nonce=permit["nonce"], permit=permit["bytes"])

    def execute() -> None:
        known["order_id"] = world.trade(traded_ms, symbol, known["delta"], client_order_id(plan_id))

    def tell() -> None:
        known["result_id"] = world.result(traded_ms + 100, plan_id, symbol, known["delta"], known["order_id"])

    def book() -> None:
        world.book(traded_ms + book_after_ms, symbol, known["delta"], plan_id=plan_id, order_id=known["order_id"],
                   result_id=known["result_id"])

    def allowed(station: Callable[[], None]) -> Callable[[], None]:
        return lambda: station() if "delta" in known else None

    execute, tell, book = allowed(execute), allowed(tell), allowed(book)
    events: list[Event] = [(at_ms, decide)]
    events += [(traded_ms, execute)] if trade else []
    events += [(traded_ms + 100, tell)] if tell_result else []
    return events + ([(traded_ms + book_after_ms, book)] if tell_result and book_after_ms is not None else [])


def settle(slot: Slot, polls: int) -> Event:
    """A person sets the book to the exchange's amount."""
    at_ms = slot.after(polls)
    return at_ms, lambda: slot.world.adjust(at_ms, slot.symbol, slot.world.holdings[slot.symbol].amt)
