"""Stories on one line: `0s exchange +0.038 | 1s plan close-75 | read | fill -0.020 | issue`.

Steps are separated by `|`; a step may begin with the time it happens at, counted from the beginning (`4s`, `100ms`);
until then the polls that fall due are made. A symbol may follow any step that has one (default BTCUSDT). Plans are
named by `as`. Between `read` and `issue` stands what happens while a decided verdict is on its way to the store.

    exchange AMT         by somebody's hand               poll · book · tend      a turn of that loop
    plan ACTION as P     close-25/50/75/100 or a name     decide                  the desk's turn
    again P              published again, unchanged       take P · take P by B    an Apply Layer takes both permits
    fill AMT             an order of ours, and its result run P                   its order and its result
    blocked P            a result that did nothing        send P · result P [QTY STATUS]   the two parts of `run`
    halt · resume        the switches                     behind · caught-up      the exchange's replies lag
    fail KIND · heal     the exchange does not answer     missing · listed        a row is left out
    clock +3600s         somebody sets the server's clock restart                 kill -9 and start of the sidecar
    save · crash · flush the server, and what it loses    keep P · put-back P     the permit's very bytes
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

import msgspec

from p33_sidecar.core.quantity import text
from p33_sidecar.store import keys
from tests.sim.market import RULES
from tests.sim.town import Town

ACTIONS = {"close-25": "PARTIAL_25", "close-50": "PARTIAL_50", "close-75": "PARTIAL_75", "close-100": "CLOSE_FULL"}
_TIME = re.compile(r"([+-]?[\d.]+)(ms|s)")


class Played(msgspec.Struct):
    """What came of a story."""

    verdicts: list[str]
    """In the order they were given."""
    takes: list[str]
    books: dict[str, str]
    exchange: dict[str, str]
    mismatches: list[str]
    """`opened` and `closed`, in order."""
    open: list[str]
    """Plans whose ALLOW is open."""
    governor: set[str]
    """Plans whose permit of the Governor is still there."""
    events: list[str]
    requests: int


def play(story: str, **settings) -> Played:
    """Play a story in a town of its own."""
    with Town.open(**settings) as town:
        return Player(town).play(story)


class Player:
    """Reads steps and does them."""

    def __init__(self, town: Town) -> None:
        self.town, self.takes = town, []
        self.names: dict[str, str] = {}
        self._kept: dict[str, str] = {}
        self._began_ms = town.clock.mono_ms

    def play(self, story: str) -> Played:
        steps = [step.split() for step in story.split("|")]
        while steps:
            words = steps.pop(0)
            if words[0] == "read":
                until = next(i for i, later in enumerate(steps) if later == ["issue"])
                meanwhile, steps = steps[:until], steps[until + 1:]
                with self.town.between_reading_and_issuing(lambda them=meanwhile: [self.do(step) for step in them]):
                    self.town.decide()
            else:
                self.do(words)
        return self._outcome()

    def do(self, words: list[str]) -> None:
        """One step. What nobody knows is an error of the story."""
        if moment := _TIME.fullmatch(words[0]):
            self.town.wait(self._began_ms + _ms(moment) - self.town.clock.mono_ms)
            words = words[1:]
        if not words:
            return
        symbol = next((word for word in words[1:] if word in RULES), "BTCUSDT")
        rest = [word for word in words[1:] if word not in RULES]
        _VERBS[words[0]](self, symbol, *rest)

    def _outcome(self) -> Played:
        town = self.town
        return Played(
            verdicts=town.verdicts(), takes=self.takes, books={symbol: town.book_of(symbol) for symbol in RULES},
            exchange={symbol: text(amt) for symbol, amt in town.market.amounts.items()},
            mismatches=[event["state"] for event in town.events("mismatch")],
            open=[name for name, plan_id in self.names.items() if self._is_open(plan_id)],
            governor={name for name, plan in self.names.items() if town.redis.exists(keys.governor_permit(plan))},
            events=[event["kind"] for event in town.records(keys.EVENTS)], requests=len(town.market.requests))

    def _is_open(self, plan_id: str) -> bool:
        values = [self.town.redis.get(keys.open_permit(symbol)) or "" for symbol in RULES]
        return any(value.startswith(f"{plan_id} ") for value in values)

    def _symbol(self, name: str) -> str:
        return self.town.symbol_of[self.names[name]]

    # -- steps ----------------------------------------------------------------------------------------------------

    def exchange(self, symbol: str, amt: str) -> None:
        self.town.market.set(symbol, Decimal(amt))

    def plan(self, symbol: str, action: str, *named: str) -> None:
        name = named[1] if named else f"plan{len(self.names)}"
        self.names[name] = self.town.publish(ACTIONS.get(action, action), symbol=symbol)

    def again(self, symbol: str, name: str) -> None:
        self.town.publish_again(self.names[name])

    def take(self, symbol: str, name: str, *by: str) -> None:
        token = by[1] if by else ""
        self.takes.append(self.town.take(self.names[name], symbol=self._symbol(name), token=token))

    def send(self, symbol: str, name: str) -> None:
        self.town.send(self.names[name])

    def result(self, symbol: str, name: str, qty: str = "", status: str = "success") -> None:
        order_id, done = self.town.sent[self.names[name]]
        side = self.town.market.orders[order_id][1]
        self.town.result(self.names[name], symbol=self._symbol(name), side=side, qty=qty or text(done),
                         order_id=order_id, status=status)

    def run(self, symbol: str, name: str) -> None:
        self.send(symbol, name)
        self.result(symbol, name)

    def blocked(self, symbol: str, name: str) -> None:
        self.town.result(self.names[name], symbol=self._symbol(name), status="blocked", executed=False)

    def fill(self, symbol: str, amt: str) -> None:
        qty = Decimal(amt)
        side = "BUY" if qty > 0 else "SELL"
        order_id, done = self.town.market.execute(symbol, side, abs(qty))
        self.town.result("elsewhere", symbol=symbol, side=side, qty=text(done), order_id=order_id)
        self.town.book()

    def clock(self, symbol: str, by: str) -> None:
        self.town.clock.set_wall(_ms(_TIME.fullmatch(by)))

    def missing(self, symbol: str) -> None:
        self.town.market.missing.add(symbol)

    def listed(self, symbol: str) -> None:
        self.town.market.missing.discard(symbol)

    def fail(self, symbol: str, kind: str = "timeout") -> None:
        self.town.market.failure = kind

    def heal(self, symbol: str) -> None:
        self.town.market.failure = ""

    def keep(self, symbol: str, name: str) -> None:
        self._kept[name] = self.town.redis.get(keys.permit(self.names[name]))

    def put_back(self, symbol: str, name: str) -> None:
        self.town.redis.set(keys.permit(self.names[name]), self._kept[name], px=60_000)

    def hold(self, symbol: str) -> None:
        self.town.redis.set(keys.hold(symbol), "1")


def _ms(moment: re.Match) -> int:
    return int(Decimal(moment[1]) * (1 if moment[2] == "ms" else 1000))


def _of_town(act: Callable[[Town], object]) -> Callable[..., object]:
    return lambda player, symbol: act(player.town)


_VERBS: dict[str, Callable[..., object]] = {
    **{name: getattr(Player, name) for name in (
        "exchange", "plan", "again", "take", "send", "result", "run", "blocked", "fill", "clock", "missing", "listed",
        "fail", "heal", "keep", "hold")},
    "put-back": Player.put_back,
    "poll": _of_town(Town.poll), "book": _of_town(Town.book), "tend": _of_town(Town.tend),
    "decide": _of_town(Town.decide), "halt": _of_town(Town.halt), "resume": _of_town(Town.resume),
    "restart": _of_town(Town.start_sidecar),
    "behind": _of_town(lambda town: town.market.fall_behind()),
    "caught-up": _of_town(lambda town: town.market.catch_up()),
    "save": _of_town(Town.save), "crash": _of_town(Town.crash), "flush": _of_town(Town.flush),
}
